import os
import platform
import subprocess
import sys

import pytest
import torch

from dclib import machine
from dclib.precision import multiplies_in_bfloat16
from dclib.train.runs import device_name

INTEL = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz\ncache size\t: 1 KB\n"
BOARD = "processor\t: 0\nBogoMIPS\t: 108.00\n\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B\n"
DESKTOP = "model name\t: AMD Ryzen 7 5800X 8-Core Processor\n"


@pytest.fixture
def facts(tmp_path, monkeypatch):
    """Writes what Linux says of a CPU, and forgets what was known."""
    monkeypatch.setattr(machine, "CPU_FACTS", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    machine.cpu_model.cache_clear()
    yield tmp_path / "cpuinfo"
    machine.cpu_model.cache_clear()


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (INTEL, "Intel Xeon Gold 6230 @ 2.10GHz"),
        (BOARD, "Raspberry Pi 4 Model B"),
        (DESKTOP, "AMD Ryzen 7 5800X"),
    ],
)
def test_a_cpu_is_called_what_it_calls_itself(facts, text, model):
    facts.write_text(text)
    assert machine.cpu_model() == model
    assert machine.cpu_name(2) == f"{model} (2 threads)"
    assert machine.cpu_name(1, "bfloat16") == f"{model} (1 thread, bfloat16)"


def test_a_cpu_that_says_nothing_has_a_name_too(facts, monkeypatch):
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "riscv64")
    assert machine.cpu_model() == "riscv64"


def test_a_device_is_named_with_its_threads_and_its_products():
    threads = torch.get_num_threads()
    assert device_name(torch.device("cpu"), "bfloat16") == machine.cpu_name(threads, "bfloat16")
    assert device_name(torch.device("cpu")) == machine.cpu_name(threads)


def started(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, in whose environment nothing says how threads wait but what is given."""
    known = {name: value for name, value in os.environ.items() if name not in machine.OWN_WAYS}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**known, **environment}, capture_output=True, text=True, check=True)


FLOAT32 = {"ONEDNN_MAX_CPU_ISA": "AVX2"}  # products without bfloat16, whatever the CPU has


def test_threads_wait_asleep_in_float32_and_what_the_user_says_wins():
    show = "import dclib, os; print(os.environ.get('OMP_WAIT_POLICY'))"
    assert started(show, **FLOAT32).stdout.strip() == "PASSIVE"
    assert started(show, **FLOAT32, OMP_WAIT_POLICY="ACTIVE").stdout.strip() == "ACTIVE"
    assert started(show, **FLOAT32, GOMP_SPINCOUNT="7").stdout.strip() == "None"


@pytest.mark.parametrize("flags", ["fpu avx512_bf16 avx2", "amx_bf16"])
def test_threads_spin_where_products_are_made_in_bfloat16(facts, monkeypatch, flags):
    monkeypatch.setattr(os, "environ", {})
    facts.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    machine.wait_quietly()
    assert "OMP_WAIT_POLICY" not in os.environ
    facts.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\nbugs\t\t: avx512_bf16\n")
    machine.wait_quietly()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("limit", ["", "AVX2", "avx512_core", "AVX512_CORE_BF16"])
def test_torch_says_the_same_of_bfloat16(limit, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert machine.has_bfloat16() == multiplies_in_bfloat16(torch.device("cpu"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere torch comes with another OpenMP")
def test_openmp_heeds_it():
    """What libgomp itself says it goes by, once it is loaded."""
    said = started("import dclib, torch", OMP_DISPLAY_ENV="true", **FLOAT32).stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said


@pytest.mark.parametrize(("load", "threads"), [(0.2, None), (0.9, "3"), (2.4, "2"), (17.0, "1")])
def test_a_process_takes_the_cores_that_are_free(load, threads, monkeypatch):
    monkeypatch.setattr(machine, "count_cores", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert machine.take_free_cores() == ""
    assert os.environ["OMP_NUM_THREADS"] == "7"  # the user's own number stays
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert bool(machine.take_free_cores()) == (threads is not None)
    assert os.environ.get("OMP_NUM_THREADS") == threads


FREED = """
import ctypes, dclib, resource
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
for step in range(40):
    piece = c.malloc(3 * 2**24)  # 48 MiB: by itself malloc keeps no piece above 32
    c.memset(piece, 1, 3 * 2**24)
    c.free(piece)
    if step == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBCS_OWN = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another library of C")
def test_freed_memory_is_kept_for_the_next_step_unless_the_user_tunes_it():
    """Pages that the system gives anew are counted as faults: of 4 KiB, or of 2 MiB where it likes large ones."""
    assert int(started(FREED).stdout) < 29
    assert int(started(FREED, **GLIBCS_OWN).stdout) >= 29 * 24
