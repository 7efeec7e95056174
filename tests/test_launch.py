"""One training by a group of local processes, or by a SLURM job: same settings, same records, ends that explain."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_images import write_pictures

from dclib.__main__ import FAILED, main
from dclib.launch import (
    LaunchError,
    SlurmTraining,
    _run_group,
    _what_happened,
    preset_text,
    slurm_parameters,
    slurm_script,
    submit,
    train_network,
)
from dclib.preemption import LEFT, PreemptedError
from dclib.presets import load_preset
from dclib.records import read_records

EPOCHS = 6
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def preset_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_preset(tmp_path, monkeypatch)


def write_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    write_pictures(tmp_path / "world" / "pool", 40)
    path = tmp_path / "tiny.yaml"
    unlabelled = dict.fromkeys(("objects_train", "objects_test", "scenes_train", "scenes_test"), "")
    settings = {
        "data": {"root": str(tmp_path / "world"), "resize": 36, **unlabelled},
        "model": {"image_size": 32, "width": 1 / 16, "hidden_dim": 16, "feature_dim": 16, "dropout": 0.0},
        "train": {"epochs": EPOCHS, "epoch_images": 160, "batch_size": 32, "lr": 0.002, "crop_area": 0.5},
        "methods": {"rotnet": None},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def losses(runs: Path) -> list[float]:
    (path,) = runs.rglob("records/pretrain/*.json")
    return [record.value for record in read_records(path.parent) if record.name == "loss"]


@pytest.mark.parametrize("name", ["smoke", "pocket", "deepercluster_yfcc100m"])
def test_a_preset_reads_back_from_its_text(tmp_path, name):
    preset = load_preset(name, {"train.lr": 1e-5})  # which YAML must not take for text
    path = tmp_path / f"{name}.yaml"
    path.write_text(preset_text(preset), encoding="utf-8")
    assert load_preset(path) == preset


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[float]]:
    """What a run by two processes that nobody disturbs says, and its losses."""
    folder, said = tmp_path_factory.mktemp("alone"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        preset = load_preset(write_preset(folder, patch))
        train_network(preset, "rotnet", 0, processes=2, report=said.append)
    return said, losses(folder / "runs")


@pytest.mark.slow
def test_two_processes_leave_the_records_of_one(preset_file, tmp_path, left_alone):
    said, both = left_alone
    assert sum(line.startswith("epoch ") for line in said) == EPOCHS  # the main process's lines alone
    preset = load_preset(preset_file, {"train.epochs": 2})
    train_network(preset, "rotnet", 0)
    # float32: sums of 16 images in another order moved the loss by 1e-5 to 1e-4 in 40 steps, as a second thread does
    assert both[:2] == pytest.approx(losses(tmp_path / "runs"), rel=1e-3)


def started(preset_file: Path, *options: str) -> "subprocess.Popen[str]":
    """Two processes that learn to tell turns, in a group by ``torchrun``."""
    group = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "dclib"]
    task = ["pretrain", "--preset", str(preset_file), "--method", "rotnet", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*group, *task], env={**os.environ, "PYTHONUNBUFFERED": "1"}, text=True, **pipes)


def process_with(variable: str, parent_number: int) -> int:
    """Number of the process below another that has this in its environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if parent == parent_number and variable.encode() in variables:
            return int(folder.name)
    raise AssertionError(f"no process with {variable} below {parent_number}")


def struck(preset_file: Path, number: signal.Signals, epoch: int) -> tuple[float, str]:
    """Signal the second process after an epoch; seconds until all have ended, and what they said."""
    with started(preset_file) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith(f"epoch {epoch}/"):
                break
        os.kill(process_with("RANK=1", run.pid), number)
        began = time.monotonic()
        _, errors = run.communicate(timeout=90)
    assert run.returncode
    return time.monotonic() - began, errors


@pytest.mark.slow
def test_a_killed_process_a_signal_to_one_and_a_warning_of_slurm_change_nothing(preset_file, tmp_path, left_alone):
    submitit = pytest.importorskip("submitit")
    seconds, errors = struck(preset_file, signal.SIGKILL, 1)
    assert seconds < 60
    assert "rank 0 of 2 has lost another process of the run" in errors
    seconds, errors = struck(preset_file, signal.SIGUSR1, 2)
    assert seconds < 60
    assert "the run has left on SIGUSR1" in errors  # the process that got it
    assert "the run has left on a signal to another of its processes" in errors
    executor = submitit.LocalExecutor(tmp_path / "jobs")  # two tasks, and an exit status that means: queue me again
    executor.update_parameters(tasks_per_node=2, timeout_min=3, signal_delay_s=1)
    job = executor.submit(SlurmTraining(load_preset(preset_file), "rotnet", (0,)))
    said, ended = job.paths.stdout, time.monotonic() + 150
    while "epoch 4/" not in (said.read_text() if said.exists() else ""):
        assert time.monotonic() < ended
        time.sleep(0.05)
    for number in [process_with(f"SUBMITIT_LOCAL_GLOBALID={task}", int(job.job_id)) for task in (0, 1)]:
        os.kill(number, signal.SIGUSR2)
    while not job.done():
        assert time.monotonic() < ended
        time.sleep(0.1)
    assert "the run has left on SIGUSR2" in job.paths.stderr.read_text()
    assert said.read_text().count("epoch 4/") == 1  # it went on instead of beginning again
    assert losses(tmp_path / "runs") == left_alone[1]


def test_a_loss_that_is_no_number_ends_the_command_with_a_sentence(preset_file, capsys):
    task = ["pretrain", "--preset", str(preset_file), "--method", "rotnet", "--set", "train.lr=1.0e+30"]
    assert main(task) == FAILED
    said = capsys.readouterr().err
    assert said.startswith("dclib: the loss is ")
    assert "lower train.lr" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_disk_that_is_full_for_the_first_checkpoint_ends_all_with_a_sentence(preset_file):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # the decoded images fit, a checkpoint does not

    command = [sys.executable, "-m", "dclib", "pretrain", "--preset", str(preset_file), "--method", "rotnet"]
    done = subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, timeout=60, preexec_fn=limit)
    assert done.returncode == FAILED
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("dclib: the processes of this training have ended: ")
    assert "could not write" in done.stderr
    assert "checkpoint.pt" in done.stderr


def test_a_signal_is_passed_on_to_the_group_and_its_end_told(capfd):
    says = f"dclib: {LEFT} on SIGTERM; what was finished is kept"
    group = f"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({says!r}))
print("epoch 1/9", flush=True)
time.sleep(60)
"""

    def ask(line: str) -> None:
        assert line == "epoch 1/9"
        os.kill(os.getpid(), signal.SIGUSR1)

    began = time.monotonic()
    with pytest.raises(PreemptedError, match="has left on SIGTERM"):
        _run_group([sys.executable, "-c", group], dict(os.environ), ask)
    assert time.monotonic() - began < 30
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL  # as it was


def test_what_the_processes_say_decides_what_is_raised():
    left = "dclib: the run has left on SIGTERM; what was finished is kept: start it again and it continues"
    lost = "dclib: rank 1 of 2 has lost another process of the run (closed); that one's own message says why."
    full = "dclib: [Errno 28] No space left on device"
    assert isinstance(_what_happened([left], asked=False), PreemptedError)
    assert isinstance(_what_happened([lost], asked=True), PreemptedError)  # asked before it could be heeded
    assert isinstance(_what_happened([lost, full], asked=True), LaunchError)  # no checkpoint was written on leaving
    assert isinstance(_what_happened([full, left], asked=False), LaunchError)  # torchrun asked the other one to leave
    error = _what_happened([lost, full], asked=False)
    assert isinstance(error, LaunchError)
    assert "No space left" in str(error)  # the cause, not the consequence
    own = _what_happened(["FloatingPointError: the loss is nan", "E1124 10:00:00 torchrun: failed"], asked=False)
    assert str(own).endswith("FloatingPointError: the loss is nan")


SPEAKING = """
import os
from dclib.preemption import tell

for rank in range(3):
    if not os.fork():
        for _ in range(3000):
            tell(f"rank {rank}")
        os._exit(0)
for rank in range(3):
    os.wait()
"""


def test_what_processes_say_at_once_stays_in_lines_of_its_own():
    command = [sys.executable, "-u", "-c", SPEAKING]  # unbuffered, as the processes of a group are
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr.splitlines()
    assert sorted(said) == sorted([f"dclib: rank {rank}" for rank in range(3)] * 3000)


def test_processes_are_counted_from_one():
    with pytest.raises(ValueError, match="processes must be 1 or more; got 0"):
        train_network(load_preset("smoke"), "rotnet", 0, processes=0)


def test_the_batch_script_has_a_task_for_each_gpu_and_can_be_queued_again():
    pytest.importorskip("submitit")
    parameters = slurm_parameters(
        "rotnet", nodes=2, gpus_per_node=4, minutes=90, partition="gpu", more={"account": "vision"}
    )
    lines = slurm_script(load_preset("smoke"), parameters).splitlines()
    wanted = ["nodes=2", "gpus-per-node=4", "ntasks-per-node=4", "time=90", "partition=gpu", "account=vision"]
    for option in [*wanted, "requeue", "signal=USR2@120", "job-name=dclib-rotnet"]:
        assert f"#SBATCH --{option}" in lines
    with pytest.raises(ValueError, match="more than 2 minutes; got 1, 1 and 2"):
        slurm_parameters("rotnet", nodes=1, gpus_per_node=1, minutes=2, more={})


def test_a_slurm_job_queues_the_same_again():
    pytest.importorskip("submitit")
    training = SlurmTraining(load_preset("smoke"), "rotnet", (0,))
    assert training.checkpoint().function == training


def test_submit_gives_the_number_of_the_job_or_says_why_not(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    training = SlurmTraining(load_preset("smoke"), "rotnet", (0,))
    parameters = slurm_parameters("rotnet", nodes=1, gpus_per_node=0, minutes=5, more={})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="SLURM did not take the job: .*--dry-run prints the script"):
        submit(training, parameters)
    for program, says in {"srun": "", "sbatch": "Submitted batch job 42"}.items():
        (tmp_path / program).write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / program).chmod(0o755)
    assert submit(training, parameters) == "42"
