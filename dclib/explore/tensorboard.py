"""The histories of runs as TensorBoard logs: what the line of an epoch says, read from checkpoints."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dclib.explore.found import CHECKPOINT, modified, read_checkpoint
from dclib.explore.glance import runs_below

LOG = "tensorboard"  # folder of a run's log, in its own
LOOK_EVERY = 5.0  # seconds between two looks at checkpoints while runs go on
NO_VALUES = ("epoch", "assignment")  # keys of a row that say where it belongs


class Log:
    """The log of one run. It begins anew with each sitting, from the first epoch: a resumed run has no step twice."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.written, self.seen = folder, 0, 0
        self.writer: Any = None

    def catch_up(self) -> int:
        """Write the rows of the history that are new; returns how many have been written in all."""
        path = self.folder / CHECKPOINT
        try:
            changed = path.stat().st_mtime_ns
            if changed == self.seen:
                return self.written
            history = read_checkpoint(path)["history"]
        except (OSError, ValueError):  # it is not there yet, or is none of ours
            return self.written
        if self.writer is None:
            shutil.rmtree(self.folder / LOG, ignore_errors=True)
            self.writer = summary_writer()(str(self.folder / LOG), purge_step=0)
        for row in history[self.written :]:
            for name, value in row.items():
                if name not in NO_VALUES:
                    self.writer.add_scalar(name, value, int(row["epoch"]))
        self.writer.flush()
        self.seen, self.written = changed, len(history)
        return self.written

    def close(self) -> None:
        """Write what is left, and let go of the file."""
        self.catch_up()
        if self.writer is not None:
            self.writer.close()


def summary_writer() -> Any:
    """PyTorch's writer. Raises ValueError that says what to install where TensorBoard is not."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("need the package tensorboard for a log; install with: pip install '.[tensorboard]'") from None
    return SummaryWriter


def log_runs(folder: str | Path = "", report: Callable[[str], None] = print) -> None:
    """Write the log of each run below a folder."""
    summary_writer()
    logs = [Log(run.folder) for run in runs_below(folder) if run.saved]
    for log in logs:
        log.close()
    root = folder or "the folder of runs"
    report(f"logs of {len(logs)} runs are written; look at them with: tensorboard --logdir {root}")


@contextmanager
def logging_runs(folder: Path, wanted: bool = True, every: float = LOOK_EVERY) -> Iterator[None]:
    """While this lasts, the runs in ``folder`` and below it that change are logged, as they go on.

    Raises:
        ValueError: TensorBoard is not installed, said before anything is trained.
    """
    if not wanted:
        yield
        return
    summary_writer()
    logs: dict[Path, Log] = {}
    began, ended = time.time(), threading.Event()

    def look() -> None:
        for parent, _, names in os.walk(folder):  # passes over folders that go while it walks
            path = Path(parent, CHECKPOINT)
            if CHECKPOINT in names and modified(path) >= began - 1:
                logs.setdefault(path, Log(path.parent)).catch_up()

    def keep_looking() -> None:
        while not ended.wait(every):
            look()

    thread = threading.Thread(target=keep_looking, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()
        for log in logs.values():
            log.close()
