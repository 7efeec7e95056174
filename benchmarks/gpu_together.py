"""Many trainings side by side on one device, a process each, in the order in which they start from each other.

A small network is bound by the starting of kernels, so that one process leaves most of a GPU idle. Each method and seed
of some presets is a job: it is pre-trained, and then probed. A job begins when the network that it starts from is
trained, the longest chains first. At the deadline all are asked to leave, and go on at the next call.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gpu_records import Setting

from dclib.config import Preset, config_hash
from dclib.data.pixels import Pixels
from dclib.evaluate.networks import trained_network
from dclib.evaluate.runs import labelled_pixels, probe_method
from dclib.launch import preset_text
from dclib.machine import count_cores
from dclib.preemption import EXIT_STATUS, PreemptedError, heed_signals, is_requested
from dclib.presets import load_preset
from dclib.records import code_hash, write_atomically
from dclib.train.runnable import learns_from_objects
from dclib.train.runs import check_method, kept_pixels, method_chain, method_pixels, prepare_data

LOOK = 0.2  # seconds between two looks at the processes
SAY = 15.0  # seconds between two lines on how far they are
LEAVING = 40.0  # seconds that they are given to write their checkpoints
ASKED = (EXIT_STATUS, -signal.SIGTERM)  # how a process ends that was asked to leave while it trained, or otherwise
EPOCH = re.compile(rb"^epoch \d+/\d+:", re.MULTILINE)  # what a training prints after each
LAST_LINES = 12  # of a job that failed, which are shown


@dataclass(frozen=True, eq=False)
class Job:
    """One method and seed: a training, and the probes of its network."""

    preset: Preset
    method: str
    seed: int
    epoch_images: int
    stem: Path  # of its log and of what says how far it is, in the work folder
    key: str  # settings and code, for which it is finished

    @property
    def name(self) -> str:
        return f"{self.preset.name}: {self.method}-s{self.seed}"

    @property
    def images(self) -> int:
        """Passes of its training, images; 0 where it is over."""
        config = self.preset.method(self.method)
        return 0 if self.reached("trained") or config.method == "random" else config.train.epochs * self.epoch_images

    @property
    def log(self) -> Path:
        return self.stem.with_name(f"{self.stem.name}.log")

    def mark(self, stage: str) -> Path:
        """The file that is there once the job is ``trained`` or ``done``."""
        return self.stem.with_name(f"{self.stem.name}.{stage}")

    def reached(self, stage: str) -> bool:
        path = self.mark(stage)
        return path.is_file() and path.read_text(encoding="utf-8") == self.key


def jobs_of(preset: Preset, work: Path) -> list[Job]:
    """All jobs of a preset, whose images are decoded now, before many processes want them.

    The preset is written to the work folder, where its processes read it.

    Raises:
        ValueError: its images are not there, or not enough for a method.
    """
    write_atomically(work / "presets" / f"{preset.name}.yaml", preset_text(preset).encode())
    data, decoded = prepare_data(preset), dict[tuple[int, bool], Pixels]()
    where = replace(preset.data, root=Path(preset.data.root).name)  # the same on another machine
    jobs = []
    for method, config in preset.methods.items():
        images = config.model.image_size, learns_from_objects(config)
        if images not in decoded:
            decoded[images] = method_pixels(preset, method, data)
            kept_pixels(preset, method, data.pool)
            probed = (
                *((data.objects_train, preset.probe.train_images), (data.objects_test, preset.probe.test_images)),
                *((data.scenes_train, preset.probe.train_images), (data.scenes_test, preset.probe.test_images)),
            )
            for labelled, count in probed:
                if labelled is not None:
                    labelled_pixels(preset, method, labelled, count)
        check_method(preset, method, decoded[images])
        count = config.train.epoch_images or len(decoded[images])
        for seed in preset.seeds:
            key = config_hash(method_chain(preset, method), where, preset.probe, seed, code_hash())
            stem = work / "jobs" / f"{preset.name}-{method}-s{seed}"
            jobs.append(Job(preset, method, seed, count, stem, key))
    return jobs


def in_order(jobs: Sequence[Job], last: str = "done") -> list[Job]:
    """What is not ``last``: networks that only wait for their probes, then by the longest chain that a job begins."""
    begin = {job: [other for other in jobs if starts_from(other, job)] for job in jobs}

    def chain(job: Job) -> int:
        return job.images + max(map(chain, begin[job]), default=0)

    left = [job for job in jobs if not job.reached(last)]
    return sorted(left, key=lambda job: (not job.reached("trained"), -chain(job)))  # else as they stand in the preset


def starts_from(job: Job, other: Job) -> bool:
    """Whether a job starts from the network of another."""
    config = job.preset.method(job.method)
    return (job.preset.name, config.init, job.seed) == (other.preset.name, other.method, other.seed)


class Crew:
    """The processes at work, and what becomes of them."""

    def __init__(self, jobs: Sequence[Job], count: int, setting: Setting, *, probe: bool = True) -> None:
        self.jobs, self.count, self.setting, self.probe = jobs, count, setting, probe
        self.waiting = in_order(jobs, "done" if probe else "trained")
        self.at_work: dict[Job, subprocess.Popen[bytes]] = {}
        self.failed: list[Job] = []
        self._began: dict[Job, int] = {}  # bytes in the log before
        self._said, self._seen = time.monotonic(), 0

    def start(self) -> None:
        """Begin what can begin."""
        for job in [job for job in self.waiting if self._can_begin(job)]:
            if len(self.at_work) == self.count:
                return
            self.waiting.remove(job)
            self._begin(job)

    def _can_begin(self, job: Job) -> bool:
        """Whether the network that it starts from is there, or was on another machine: then it is trained anew."""
        before = [other for other in self.jobs if starts_from(job, other)]
        return all(other.reached("trained") or other.reached("done") for other in before)

    def _begin(self, job: Job) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self._began[job] = job.log.stat().st_size if job.log.exists() else 0
        preset = self.setting.work / "presets" / f"{job.preset.name}.yaml"
        command = [sys.executable, str(Path(__file__).with_name("gpu.py")), "job", str(preset), job.method]
        command += [str(job.seed), str(job.stem), job.key, "--device", str(self.setting.device)]
        command += [] if self.probe else ["--no-probe"]
        threads = str(max(1, count_cores() // self.count))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONUNBUFFERED": "1"}
        with job.log.open("ab") as log:
            self.at_work[job] = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def look(self, asked: Sequence[int] = ASKED) -> None:
        """Take leave of those that have ended, ``asked`` to or not, and say from time to time how far all are."""
        for job, process in list(self.at_work.items()):
            if process.poll() is not None:
                del self.at_work[job]
                if process.returncode in asked:
                    self.waiting.append(job)
                elif process.returncode:
                    self.failed.append(job)
        if (seconds := time.monotonic() - self._said) >= SAY:
            seen = sum(job.epoch_images * len(EPOCH.findall(self._log(job))) for job in self._began)
            done = len(self.jobs) - len(self.at_work) - len(self.waiting) - len(self.failed)
            print(
                f"{done} done, {len(self.at_work)} at work, {len(self.waiting)} waiting, {len(self.failed)} failed; "
                f"{(seen - self._seen) / seconds:,.0f} images/s in the epochs that ended",
                flush=True,
            )
            self._said, self._seen = time.monotonic(), seen

    def _log(self, job: Job) -> bytes:
        return job.log.read_bytes()[self._began[job] :]

    def leave(self) -> None:
        """Ask all to write their checkpoints and end, and wait until they have."""
        for process in self.at_work.values():
            process.terminate()
        limit = time.monotonic() + LEAVING
        for process in self.at_work.values():
            try:
                process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.look((*ASKED, -signal.SIGKILL))

    def failures(self) -> list[str]:
        """The last lines of each that failed."""
        lines = {job: self._log(job).decode(errors="replace").splitlines()[-LAST_LINES:] for job in self.failed}
        return ["\n  ".join([f"{job.name} failed:", *said]) for job, said in lines.items()]


def train_together(
    jobs: Sequence[Job], count: int, setting: Setting, deadline: float, *, probe: bool = True
) -> tuple[list[str], list[str]]:
    """Train and ``probe``, ``count`` at a time, as far as the time goes; returns what is left, and what failed and how.

    What is done, with these settings and code, is not done again. A job that fails leaves the others alone; those that
    start from its network are left.
    """
    crew = Crew(jobs, count, setting, probe=probe)
    with _polite():
        try:
            while time.monotonic() < deadline:
                crew.start()
                if not crew.at_work:
                    break
                time.sleep(LOOK)
                crew.look()
        finally:
            crew.leave()
    return [job.name for job in jobs if job in crew.waiting], crew.failures()


@contextmanager
def _polite() -> Iterator[None]:
    """A polite kill of this process also asks those that it has started to leave."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def do_job(options: argparse.Namespace) -> int:
    """What the process of a job does."""
    preset = load_preset(options.preset)
    marks = {stage: options.stem.with_name(f"{options.stem.name}.{stage}") for stage in ("trained", "done")}
    with heed_signals():
        try:
            trained_network(preset, options.method, options.seed, device=options.device)
        except PreemptedError as error:
            print(error)
            return EXIT_STATUS
        write_atomically(marks["trained"], options.key.encode())
        if is_requested():
            return EXIT_STATUS
    if not options.probe:
        return 0
    probe_method(preset, options.method, options.seed, device=options.device)  # asked to leave, it ends, and is redone
    write_atomically(marks["done"], options.key.encode())
    return 0
