"""Leaving when asked: a scheduler's signal to any process ends the run on all of them, after one checkpoint.

A process that computes leaves at its next step. One that waits for another (to join, for a number, for decoded images)
waits ``GRACE`` seconds more, for the other may be about to leave as well, and then goes without it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # what schedulers send before they take a machine back
EXIT_STATUS = 75  # of a process that left so: "temporary failure", start it again
LEFT = "the run has left"  # how it says so; who started the processes looks for this
GRACE = 3.0  # seconds that a process which was asked to leave still waits for another
SAVING = 25.0  # the same while a checkpoint is written: that is what the others are waited for
LOOK = 0.2  # seconds between two looks at whether it was asked
IDLE = 0.02  # share of a core below which a process is taken to wait

_received: list[tuple[str, float]] = []  # signals are a process's own; so is what has come, and when
_ends: list[float] = []  # moments from which on it is asked, as time.monotonic counts
_patience = [GRACE]


class PreemptedError(Exception):
    """The run was asked to leave, and has; starting it again continues it."""


@contextmanager
def heed_signals(signals: Iterable[signal.Signals] = SIGNALS) -> Iterator[None]:
    """While this lasts, these signals are requests to leave instead of the end. Main thread only."""
    before = {number: signal.signal(number, _note) for number in signals}
    try:
        with _stuck_process_leaves({*before, signal.SIGINT}):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


@contextmanager
def leaving_at(moment: float) -> Iterator[None]:
    """While this lasts, this process is asked to leave from ``moment`` on, as ``time.monotonic`` counts."""
    _ends.append(moment)
    try:
        yield
    finally:
        _ends.remove(moment)


def is_requested() -> bool:
    """Whether this process has been asked to leave."""
    return is_signalled() or any(time.monotonic() > moment for moment in _ends)


def is_signalled() -> bool:
    """Whether a signal has asked it."""
    return bool(_received)


def said() -> str:
    """What to tell the user."""
    return _said(_received[0][0] if _received else "a signal to another of its processes")


def leave_if_waiting_since(began: float) -> None:
    """PreemptedError where this process was asked to leave, and has waited long enough since (``time.monotonic``)."""
    if _received and time.monotonic() - max(began, _received[0][1]) >= _patience[-1]:
        raise PreemptedError(said())


def interruptible(function: Callable[[], T]) -> T:
    """What ``function`` gives, which may wait in a call that hears no signal: it has a thread of its own for that.

    Raises:
        PreemptedError: this process was asked to leave meanwhile; the thread is left behind.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread, began = threading.Thread(target=call, daemon=True), time.monotonic()
    thread.start()
    while thread.is_alive():
        thread.join(LOOK)
        leave_if_waiting_since(began)
    if failure:
        raise failure[0]
    return result[0]


@contextmanager
def while_saving() -> Iterator[None]:
    """Others are waited for longer here, since they write a checkpoint."""
    _patience.append(SAVING)
    try:
        yield
    finally:
        _patience.pop()


def _said(by: str) -> str:
    return f"{LEFT} on {by}; what was finished is kept: start it again and it continues"


def _note(number: int, _frame: FrameType | None) -> None:
    _received.append((signal.Signals(number).name, time.monotonic()))


@contextmanager
def _stuck_process_leaves(signals: Collection[int]) -> Iterator[None]:
    """Python hears of a signal when the call at work returns: one that waits for ever is left by ending the process."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before, over = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False), threading.Event()
    threading.Thread(target=_watch, args=(ours, signals, over), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        over.set()
        theirs.close()


def _watch(told: socket.socket, signals: Collection[int], over: threading.Event) -> None:
    """After the first of ``signals``, end a process that does nothing but wait, unless it does so itself."""
    with told:
        while (number := told.recv(1)) and number[0] not in signals:
            pass
    used, active = time.process_time(), time.monotonic()
    while not over.wait(LOOK):
        if time.process_time() - used > IDLE * LOOK:
            active = time.monotonic()
        used = time.process_time()
        if time.monotonic() - active >= _patience[-1] + 3 * LOOK:
            _leave_at_once(number[0])


def _leave_at_once(number: int) -> None:
    if number == signal.SIGINT:
        says, status = "interrupted; what was finished is kept, and the same command continues", 128 + number
    else:
        says, status = _said(signal.Signals(number).name), EXIT_STATUS
    for worker in multiprocessing.active_children():
        worker.kill()  # one that is stuck would hold on to what this process prints to
    tell(says)
    os._exit(status)


def tell(sentence: object) -> None:
    """Say ``sentence`` on stderr as ``dclib: sentence``, in one write.

    The processes of a group share their stderr, and who started them reads it line by line; an unbuffered ``print``
    is two writes, and another process's comes between.
    """
    sys.stderr.write(f"dclib: {sentence}\n")
    sys.stderr.flush()
