"""A disk that is full, or may not be written, from the n-th write on."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock


class FullAfter:
    """Counts what writes below ``folder``, and refuses all of it after the first ``n``; deleting and reading go on.

    A new name needs no room: renaming is refused where it comes as the ``n``-th, and not after that.
    """

    def __init__(self, folder: Path, n: int, number: int) -> None:
        self.folder, self.left, self.number, self.refused = str(folder), n, number, False

    def __call__(
        self, function: Callable[..., Any], writes: Callable[..., bool], once: bool = False
    ) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            is_below = not isinstance(path, int) and os.fspath(path).startswith(self.folder)
            if is_below and writes(*arguments, **options):
                self.left -= 1
                if self.left == -1 or (self.left < 0 and not once):
                    self.refused = True
                    raise OSError(self.number, os.strerror(self.number))
            return function(path, *arguments, **options)

        return call


def opens_to_write(mode: str = "r", *_: Any, **__: Any) -> bool:
    return any(letter in mode for letter in "wax+")


@contextmanager
def full_after(folder: Path, n: int, number: int = errno.ENOSPC) -> Iterator[FullAfter]:
    disk = FullAfter(folder, n, number)
    always = lambda *_, **__: True  # noqa: E731
    with (
        mock.patch.object(builtins, "open", disk(open, opens_to_write)),
        mock.patch.object(io, "open", disk(io.open, opens_to_write)),
        mock.patch.object(os, "open", disk(os.open, lambda flags, *_, **__: bool(flags & os.O_CREAT))),
        mock.patch.object(os, "mkdir", disk(os.mkdir, always)),
        mock.patch.object(os, "rename", disk(os.rename, always, once=True)),
        mock.patch.object(os, "replace", disk(os.replace, always, once=True)),
    ):
        yield disk


def each_failure(task: Callable[[], object], folder: Path, number: int = errno.ENOSPC) -> Iterator[OSError]:
    """What ``task`` raises with a disk that is full from the first write on, from the second on, ..., until none is."""
    for n in itertools.count():
        with full_after(folder, n, number) as disk:
            try:
                task()
            except OSError as error:
                failure = error
            else:
                assert not disk.refused, f"write {n} failed, and nothing was said"
                return
        yield failure
