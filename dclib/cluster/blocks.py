"""Blocks of points on a CPU's threads, each block on one of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

Room = TypeVar("Room")
Found = TypeVar("Found")


def over_blocks(
    blocks: Sequence[Tensor], new_room: Callable[[], Room], work: Callable[[int, Tensor, Room], Found]
) -> list[Found]:
    """``work(number, block, room)`` of each block, in their order; a room is used by one block at a time.

    PyTorch divides each operation among the threads, and waits for all of them at its end. Of a block that is small
    enough for a core's cache they are short, and where threads sleep while they wait, as they should on a machine with
    other work, waking them takes as long. So a thread does whole blocks by itself.
    """
    count = 1 if blocks and blocks[0].is_cuda else min(torch.get_num_threads(), len(blocks))
    if count <= 1:
        room = new_room()
        return [work(number, block, room) for number, block in enumerate(blocks)]
    found: dict[int, Found] = {}
    todo = deque(enumerate(blocks))

    def do() -> None:
        room = new_room()
        while True:
            try:
                number, block = todo.popleft()
            except IndexError:
                return
            found[number] = work(number, block, room)

    with one_thread(), ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(do) for _ in range(count)]:
            done.result()
    return [found[number] for number in range(len(blocks))]


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch's operations on one thread each, those of threads that begin inside as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
