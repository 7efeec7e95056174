"""Leaving when asked: a scheduler's signal to any process ends the run on all of them, after one checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from dclib.distributed import any_of

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # what schedulers send before they take a machine back
EXIT_STATUS = 75  # of a process that left so: "temporary failure", start it again
LEFT = "the run has left"  # how it says so; who started the processes looks for this

_received: list[str] = []  # signals are a process's own; so is what has come


class PreemptedError(Exception):
    """The run was asked to leave, and has; starting it again continues it."""


@contextmanager
def heed_signals(signals: Iterable[signal.Signals] = SIGNALS) -> Iterator[None]:
    """While this lasts, these signals are requests to leave instead of the end. Main thread only."""
    before = {number: signal.signal(number, _note) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def is_requested() -> bool:
    """Whether this process has been asked to leave."""
    return bool(_received)


def leave_if_requested() -> None:
    """PreemptedError on every process if any of them has been asked to leave. All must call it."""
    if any(any_of(is_requested())):
        raise PreemptedError(said())


def said() -> str:
    """What to tell the user."""
    by = f"on {_received[0]}" if _received else "on a signal to another of its processes"
    return f"{LEFT} {by}; what was finished is kept: start it again and it continues"


def _note(number: int, _frame: FrameType | None) -> None:
    _received.append(signal.Signals(number).name)
