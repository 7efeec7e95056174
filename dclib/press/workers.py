"""Processes that execute stages, each with a kernel in which they run one after the other. No torch here.

To start a kernel and to import torch and what else a page needs takes as long as many a page itself. A stage whose
kernel is killed for memory takes nothing else down: the next one has a new kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from dclib.presets import project_root, runs_folder
from dclib.press.stages import Stage
from dclib.records import held, installed_versions, write_atomically

# of the caller, which would change what a page is
FOREIGN = ("MPLBACKEND", "JUPYTER_PATH", "PYTHONSTARTUP", "DCLIB_EDITION")
ENDINGS = ("ipynb", "error", "done", "log")  # of what a stage leaves behind


@dataclass(kw_only=True)
class _Worker:
    """A process that executes stages, and the one at work there."""

    process: subprocess.Popen[bytes]
    threads: int
    log: Path
    stage: Stage | None = None
    started: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A stage that has ended."""

    stage: Stage
    seconds: float
    threads: int
    error: str = ""  # why it failed


class Workers:
    """The processes of a run, which write below ``folder`` and hold the file descriptor ``lock`` open.

    Args:
        timeout: Seconds one cell may take.
        environment: What is set for them besides.
    """

    def __init__(
        self, folder: Path, *, timeout: int, lock: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.work, self.timeout, self.lock = folder, folder / "work", timeout, lock
        self.environment = dict(environment or {})
        self.all: list[_Worker] = []

    @property
    def at_work(self) -> dict[str, float]:
        """Seconds since the start of each stage that has not ended."""
        return {worker.stage.page: time.monotonic() - worker.started for worker in self.all if worker.stage}

    def start(self, stage: Stage, threads: int) -> None:
        """Give a stage to a process without one that has so many threads; one that has not is ended for it."""
        clear(self.work, stage.page)
        job = {
            "notebook": str(stage.notebook.resolve()),
            "output": str(self.work / f"{stage.page}.ipynb"),
            "error": str(self.work / f"{stage.page}.error"),
            "done": str(self.work / f"{stage.page}.done"),
            "parameters": dict(stage.parameters),
            "cwd": str(project_root().resolve()),
            "timeout": self.timeout,
        }
        worker = self._free(threads)
        worker.stage, worker.started = stage, time.monotonic()
        assert worker.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died meanwhile, which is found as any other death is
            worker.process.stdin.write(json.dumps(job).encode() + b"\n")
            worker.process.stdin.flush()

    def ended(self) -> list[Ended]:
        """The stages that have ended since the last call."""
        found = []
        for worker in [worker for worker in self.all if worker.stage]:
            assert worker.stage
            page, status = worker.stage.page, worker.process.poll()  # before its files: it may write, then end
            error = self.work / f"{page}.error"
            if (self.work / f"{page}.done").is_file():
                why = ""
            elif error.is_file():
                why = error.read_text(encoding="utf-8").strip()
            elif status is not None:
                why = _why_ended(status, worker.log)
            else:
                continue
            if why:
                why += self._keep(page, worker.log)
            seconds = time.monotonic() - worker.started
            found.append(Ended(stage=worker.stage, seconds=seconds, threads=worker.threads, error=why))
            worker.stage = None
        return found

    def stop(self) -> None:
        """End all of them, at work or not; a kernel ends by itself when its process has gone."""
        self._stop(self.all)

    def _stop(self, some: Sequence[_Worker]) -> None:
        stop([worker.process for worker in some])
        for worker in some:
            worker.log.unlink(missing_ok=True)
        self.all = [worker for worker in self.all if worker not in some]

    def _free(self, threads: int) -> _Worker:
        """A worker with so many threads and nothing to do."""
        idle = [worker for worker in self.all if worker.stage is None]
        fits = [worker for worker in idle if worker.threads == threads and worker.process.poll() is None]
        if fits:
            return fits[0]
        self._stop(idle)
        self.all.append(self._new(threads))
        return self.all[-1]

    def _new(self, threads: int) -> _Worker:
        taken = {worker.log for worker in self.all}
        log = next(path for i in range(len(taken) + 1) if (path := self.work / f"worker-{i}.log") not in taken)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "dclib.press.notebooks"],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=child_environment(threads, self.work) | self.environment,
                pass_fds=() if self.lock is None else (self.lock,),
            )
        return _Worker(process=process, threads=threads, log=log)

    def _keep(self, page: str, log: Path) -> str:
        """Move what a failed stage left to ``failed/``; returns where to look, as a line."""
        failed = self.folder / "failed"
        failed.mkdir(parents=True, exist_ok=True)
        clear(failed, page)
        if (self.work / f"{page}.ipynb").is_file():
            (self.work / f"{page}.ipynb").replace(failed / f"{page}.ipynb")
        shutil.copyfile(log, failed / f"{page}.log")
        clear(self.work, page)
        return f"\nkept in {failed}: {', '.join(sorted(path.name for path in failed.glob(f'{page}.*')))}"


def child_environment(threads: int, work: Path) -> dict[str, str]:
    """This process's environment with its own kernel and dclib, and without personal start-up files."""
    environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
    package = str(Path(__file__).resolve().parent.parent.parent)
    return environment | {
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's python3 before one the user registered
        "IPYTHONDIR": str(work / "ipython"),
        "OMP_NUM_THREADS": str(threads),
        "DCLIB_ROOT": str(project_root().resolve()),
        "DCLIB_RUNS": str(runs_folder().resolve()),
    }


def put_page(ended: Ended, folder: Path, **more: Any) -> None:
    """Move the page of a stage that ended well from ``work`` to ``pages``, with its run card."""
    page, pages = ended.stage.page, folder / "pages"
    card = {
        "page": page,
        "notebook": ended.stage.notebook.name,
        "parameters": dict(ended.stage.parameters),
        "seconds": round(ended.seconds, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": ended.threads,
        "versions": {**installed_versions(), "papermill": metadata.version("papermill")},
        **more,
    }
    pages.mkdir(parents=True, exist_ok=True)
    with held(pages):  # a book that is being built has copied all of them, or waits
        # the card goes first and comes last: between the two no card vouches for either page
        (pages / f"{page}.json").unlink(missing_ok=True)
        (folder / "work" / f"{page}.ipynb").replace(pages / f"{page}.ipynb")
        write_atomically(pages / f"{page}.json", json.dumps(card, indent=1).encode())
    clear(folder / "work", page)


def clear(folder: Path, page: str) -> None:
    """Remove what a stage left there."""
    for ending in ENDINGS:
        (folder / f"{page}.{ending}").unlink(missing_ok=True)


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what is still at work."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _why_ended(status: int, log: Path) -> str:
    """Why a process ended that was not to end."""
    if status < 0:
        return f"its process was ended by signal {-status}; 9 most often means out of memory"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"its process ended with status {status}: {lines[-1] if lines else 'no message'}"
