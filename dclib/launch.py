"""One training by many processes: a group on this machine, or a job of a SLURM cluster.

The engines are torch elastic (``torchrun``) here and submitit there. Both start the same thing, a process per GPU or
per share of the cores that calls :func:`train_as_one_of_many`; settings, checkpoints and records are those of one
process.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import torch
import yaml

from dclib.config import Preset
from dclib.distributed import is_launched, process_group
from dclib.evaluate.networks import trained_network
from dclib.models.vgg import Trunk
from dclib.preemption import LEFT, SIGNALS, PreemptedError, heed_signals, tell
from dclib.presets import measuring, runs_folder

ENGINE = ("-m", "torch.distributed.run", "--standalone")
UNTRAINED = ("random", "released")  # methods with nothing to share out
KEPT_LINES = 400  # of what the processes say on stderr
GRACE = 60  # seconds until a group that was told to end is ended; torchrun itself takes at most 30
SLURM_WARNING = 120  # seconds between SLURM's signal and the end: time for one checkpoint
SLURM_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # submitit asks for SIGUSR2; SIGTERM is a cancelled job's
TIMEOUTS = 1000  # times a job may run out of time and be queued again


class LaunchError(RuntimeError):
    """The processes of a training have failed; the message says what they said."""


@measuring
def train_network(
    preset: Preset, method: str, seed: int, *, processes: int = 1, report: Callable[[str], None] = print
) -> Trunk:
    """The trunk of one method and seed, trained by ``processes`` processes of this machine where it is not yet.

    Raises:
        LaunchError: a process has failed.
        PreemptedError: this process was asked to leave, and the group has, with a checkpoint.
    """
    if processes < 1:
        raise ValueError(f"processes must be 1 or more; got {processes}")
    if processes > 1 and preset.method(method).method not in UNTRAINED:
        train_by_processes(preset, method, seed, processes, report=report)
    return trained_network(preset, method, seed)


def train_as_one_of_many(
    preset: Preset, method: str, seeds: Sequence[int], signals: Iterable[signal.Signals] = SIGNALS
) -> None:
    """Train with the processes that a launcher's environment names, until all is done or a signal comes.

    Raises:
        PeerLostError: another process has ended.
    """
    with heed_signals(signals), process_group() as device:
        for seed in seeds:
            trained_network(preset, method, seed, device=str(device))


# --- on this machine


def train_by_processes(
    preset: Preset,
    method: str,
    seed: int,
    processes: int,
    *,
    restarts: int = 0,
    report: Callable[[str], None] = print,
) -> None:
    """Start ``processes`` processes that share one training, and wait for them; each has its share of the threads.

    A signal to this process (SIGTERM, SIGUSR1), or Ctrl-C, is passed on: the group saves a checkpoint and leaves.

    Args:
        restarts: Times the group may start again from its last checkpoint after a process was lost.
        report: Gets what the main process prints, line by line, as it comes.

    Raises:
        LaunchError, PreemptedError: as :func:`train_network`.
    """
    if is_launched():
        raise ValueError("this process is one of several already; use torchrun or processes, not both")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{preset.name}.yaml"  # a preset's name is its file's
        path.write_text(preset_text(preset), encoding="utf-8")
        group = [*ENGINE, f"--nproc-per-node={processes}", f"--max-restarts={restarts}", "-m", "dclib"]
        task = ["pretrain", "--preset", str(path), "--method", method, "--seed", str(seed)]
        _run_group([sys.executable, *group, *task], _environment(processes), report)


def preset_text(preset: Preset) -> str:
    """The preset as YAML that reads back as the same preset."""
    return yaml.safe_dump({key: value for key, value in asdict(preset).items() if key != "name"}, allow_unicode=True)


def _environment(processes: int) -> dict[str, str]:
    threads = str(max(1, torch.get_num_threads() // processes))
    return {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}


def _run_group(command: Sequence[str], environment: Mapping[str, str], report: Callable[[str], None]) -> None:
    """Run ``command`` to its end, streaming its stdout to ``report``; see :func:`train_by_processes` for errors."""
    # a session of its own: Ctrl-C comes to this process alone, which then asks for a checkpoint
    group = subprocess.Popen(
        command,
        env=environment,
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said: deque[str] = deque(maxlen=KEPT_LINES)
    assert group.stdout is not None
    assert group.stderr is not None
    listener = threading.Thread(target=said.extend, args=(group.stderr,), daemon=True)
    listener.start()
    with group.stdout, group.stderr, _passed_on(group) as asked:
        try:
            _stream(group.stdout, report)
            group.wait()
        except BaseException:
            _end(group)
            raise
        finally:
            listener.join(timeout=GRACE)
    if group.returncode:
        raise _what_happened([line.rstrip() for line in said], bool(asked))


def _stream(lines: IO[str], report: Callable[[str], None]) -> None:
    for line in lines:
        report(line.rstrip("\n"))


@contextmanager
def _passed_on(group: subprocess.Popen[str]) -> Iterator[list[int]]:
    """While this lasts, signals to leave go to the group; gives the list of those that came.

    Always as SIGTERM: torchrun passes that one on to the processes, while others would end it without them.
    """
    asked: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        asked.append(number)
        group.terminate()

    if threading.current_thread() is not threading.main_thread():  # Python lets only that one handle signals
        yield asked
        return
    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(group: subprocess.Popen[str]) -> None:
    """Ask the group to save and leave, and wait until it has; torchrun ends what has not after 30 seconds."""
    group.terminate()
    last = threading.Timer(GRACE, group.kill)
    last.start()
    try:
        assert group.stdout is not None
        _stream(group.stdout, lambda line: None)  # a full pipe would keep it from ending
        group.wait()
    finally:
        last.cancel()


def _what_happened(said: Sequence[str], asked: bool) -> Exception:
    """PreemptedError or LaunchError, by what the processes said.

    torchrun ends with status 1 whatever its processes' were, and asked to end it reports nothing on them. What they
    say on stderr comes through in every case.
    """
    sentences = dict.fromkeys(line.removeprefix("dclib: ") for line in said if line.startswith("dclib: "))
    left = [line for line in sentences if line.startswith(LEFT)]
    consequences = ("has lost another process", "interrupted;")
    causes = [line for line in sentences if line not in left and not any(part in line for part in consequences)]
    if left and not causes:  # where one has failed, torchrun asks the others to leave
        return PreemptedError(left[-1])
    if asked and not causes:  # before it could be heeded
        return PreemptedError(f"{LEFT} before its next checkpoint; start it again and it continues from its last one")
    if causes or sentences:
        return LaunchError(f"the processes of this training have ended: {(causes or list(sentences))[0]}")
    own = []
    for line in said:
        if re.match(r"^E\d{4} ", line):  # from here on torchrun speaks of the processes
            break
        own.append(line)
    tail = "\n".join([line for line in own if line][-10:])
    return LaunchError(f"the processes of this training have ended; the last they said was:\n{tail}")


# --- on a SLURM cluster


@dataclass(frozen=True)
class SlurmTraining:
    """What each task of a SLURM job does; submitit calls it, and asks it what to queue again."""

    preset: Preset
    method: str
    seeds: tuple[int, ...]

    def __call__(self) -> None:
        """Train as one of the job's tasks; on SLURM's warning save, leave, and have the job queued again."""
        from submitit.helpers import TorchDistributedEnvironment

        # every task sees its machine's GPUs, and takes the one of its number
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        try:
            train_as_one_of_many(self.preset, self.method, self.seeds, SLURM_SIGNALS)
        except PreemptedError as error:
            tell(error)
            # submitit's own handler is back in its place: the first task queues the job again and ends
            signal.raise_signal(signal.SIGUSR2)

    def checkpoint(self) -> Any:
        """The same again: the run's own checkpoint knows how far it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def slurm_parameters(
    method: str, *, nodes: int, gpus_per_node: int, minutes: int, partition: str = "", more: Mapping[str, str]
) -> dict[str, Any]:
    """Of a job with a task per GPU, or with one per machine where ``gpus_per_node`` is 0; ``more`` is for sbatch."""
    if nodes < 1 or gpus_per_node < 0 or minutes * 60 <= SLURM_WARNING:
        raise ValueError(
            f"need nodes >= 1, gpus per node >= 0 and more than {SLURM_WARNING // 60} minutes; "
            f"got {nodes}, {gpus_per_node} and {minutes}"
        )
    return {
        "job_name": f"dclib-{method}",
        "nodes": nodes,
        "ntasks_per_node": max(1, gpus_per_node),
        "time": minutes,
        "signal_delay_s": SLURM_WARNING,
        "additional_parameters": {"requeue": True, **more},
        **({"gpus_per_node": gpus_per_node} if gpus_per_node else {}),
        **({"partition": partition} if partition else {}),
    }


def slurm_script(preset: Preset, parameters: Mapping[str, Any]) -> str:
    """The batch script that :func:`submit` would hand to sbatch; needs no cluster."""
    slurm = _submitit().slurm.slurm
    folder = slurm_folder(preset)
    command = f"{sys.executable} -u -m submitit.core._submit {folder}"
    return str(slurm._make_sbatch_string(command=command, folder=folder, **parameters))


def submit(training: SlurmTraining, parameters: Mapping[str, Any]) -> str:
    """Hand the training to SLURM; returns the job's number.

    Raises:
        ValueError: this machine has no SLURM, or it refuses the job.
    """
    submitit = _submitit()
    try:
        executor = submitit.SlurmExecutor(slurm_folder(training.preset), max_num_timeout=TIMEOUTS)
        executor.update_parameters(**parameters)
        return str(executor.submit(training).job_id)
    except (RuntimeError, submitit.core.utils.FailedJobError) as error:
        raise ValueError(f"SLURM did not take the job: {error}; --dry-run prints the script") from error


def slurm_folder(preset: Preset) -> Path:
    """Where the jobs of a preset leave what they print."""
    return (runs_folder() / preset.name / "slurm").absolute()


def _submitit() -> Any:
    try:
        import submitit
        import submitit.slurm.slurm
    except ModuleNotFoundError as error:
        if error.name != "submitit":
            raise
        raise ValueError("need submitit to reach SLURM; install with: pip install '.[slurm]'") from None
    return submitit
