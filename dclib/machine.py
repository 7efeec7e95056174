"""The machine that this runs on: what its CPU is called, and its cores. No torch here."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")
NAMES = ("model name", "Model", "Hardware", "cpu model", "cpu")  # of the line that has it: x86, Arm, MIPS, POWER
MARKS = re.compile(r"\((?:R|TM|C)\)|\bCPU\b|\bProcessor\b|\b\d+-Core\b", re.IGNORECASE)

# how OpenMP's threads wait for each other, asleep instead of spinning: what spins keeps its core from a neighbour
QUIET = {"OMP_WAIT_POLICY": "PASSIVE"}
OWN_WAYS = (*QUIET, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # by which a user says how threads wait
BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # instructions that multiply in it, as Linux calls them
# oneDNN, which makes the products on a CPU, can be told to go without instructions that are there
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")

# of glibc's malloc: what is freed is kept for the next step, up to so many bytes, instead of being given back at once;
# larger pieces are given back. By the numbers of mallopt, and the names by which a user sets them
KEPT = {-3: ("MALLOC_MMAP_THRESHOLD_", 2**28), -1: ("MALLOC_TRIM_THRESHOLD_", 2**29), -2: ("MALLOC_TOP_PAD_", 2**26)}


def keep_memory() -> None:
    """Let this process keep memory that it has freed, where C's library is glibc, unless the environment tunes that.

    A step of training frees some hundred megabytes and asks for them again. To have the system give them anew, page by
    page, took a fifth of a step's time (``benchmarks/neighbours.py``).
    """
    if "GLIBC_TUNABLES" in os.environ or any(name in os.environ for name, _ in KEPT.values()):
        return
    if platform.libc_ver()[0] == "glibc":
        tune = ctypes.CDLL(None).mallopt
        for parameter, (_, size) in KEPT.items():
            tune(parameter, size)


def wait_quietly() -> None:
    """Let threads of this process, and of those it starts, wait asleep, unless the environment says how they wait.

    Not where products are made in bfloat16: with a neighbour, a training whose threads sleep gets a tenth as far
    there as one whose threads spin; in float32 it gets twice as far (``benchmarks/neighbours.py``). Without effect
    once torch is loaded, for OpenMP reads it then.
    """
    if not any(name in os.environ for name in OWN_WAYS) and not has_bfloat16():
        os.environ.update(QUIET)


def has_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply in bfloat16 and may use them; False where nothing says so."""
    if any(os.environ.get(name, "").upper() in WITHOUT_BFLOAT16 for name in LIMITS):
        return False
    return not BFLOAT16.isdisjoint(_facts().get("flags", "").split())


def take_free_cores() -> str:
    """Let this process have a thread for each core that nobody else wants, and one at least; says so in a sentence.

    More threads than free cores are slower than fewer: each step of all waits for the one that has no core. Nothing is
    changed, and nothing said, where the environment gives a number, or all cores are free. Numbers that depend on the
    order of sums differ in their last digits with the number of threads. Without effect once torch is loaded.
    """
    cores, busy = count_cores(), round(os.getloadavg()[0])
    threads = max(1, cores - busy)
    if "OMP_NUM_THREADS" in os.environ or threads == cores:
        return ""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    return f"{min(busy, cores)} of {cores} cores are busy: {threads} at work here; OMP_NUM_THREADS sets another number"


@cache
def cpu_model() -> str:
    """The model of the CPU as it calls itself, without marks of trade: ``Intel Xeon Gold 6230 @ 2.10GHz``."""
    named = _from_facts() or _from_system() or platform.processor() or platform.machine()
    return " ".join(MARKS.sub(" ", named).split()) or "unknown CPU"


def cpu_name(threads: int, precision: str = "") -> str:
    """The CPU, how many threads of it are used, and in what products are made: ``AMD EPYC (1 thread, bfloat16)``."""
    counted = f"{threads} thread{'s'[: threads != 1]}"
    return f"{cpu_model()} ({', '.join(filter(None, (counted, precision)))})"


def count_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _facts() -> Mapping[str, str]:
    """What Linux says of the CPU, of the last core where they differ; nothing elsewhere."""
    try:
        lines = CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}


def _from_facts() -> str:
    """What Linux says; empty elsewhere."""
    said = _facts()
    return next((said[name] for name in NAMES if said.get(name)), "")


def _from_system() -> str:
    """What macOS says; empty elsewhere."""
    if platform.system() != "Darwin":
        return ""
    asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
