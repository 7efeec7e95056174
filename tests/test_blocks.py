"""Blocks that threads share out among themselves."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from dclib.cluster import plain
from dclib.cluster.blocks import one_thread, over_blocks
from dclib.cluster.kmeans import assign
from dclib.cluster.nearest import SEARCHES
from dclib.randomness import generator


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_each_block_is_done_once_by_one_thread_in_a_room_of_its_own(threads) -> None:
    blocks, busy, rooms = torch.arange(40.0).split(4), set[int](), []

    def new_room() -> list[int]:
        rooms.append([])
        return rooms[-1]

    def work(number: int, block: torch.Tensor, room: list[int]) -> tuple[int, float, int]:
        assert id(room) not in busy
        busy.add(id(room))
        time.sleep(0.002)  # so that others take some
        room.append(number)
        busy.remove(id(room))
        return number, float(block.sum()), torch.get_num_threads()

    found = over_blocks(blocks, new_room, work)
    assert [(number, total) for number, total, _ in found] == [
        (i, float(block.sum())) for i, block in enumerate(blocks)
    ]
    assert len(rooms) == threads
    assert sorted(sum(rooms, [])) == list(range(10))
    assert {of for _, _, of in found} == {1}
    assert torch.get_num_threads() == threads
    assert over_blocks(blocks[:0], new_room, work) == []


def test_an_error_in_a_block_is_raised_and_the_threads_are_as_before(threads) -> None:
    def work(number: int, block: torch.Tensor, room: None) -> None:
        if number == 3:
            raise ValueError("of block 3")

    running = threading.active_count()
    with pytest.raises(ValueError, match="of block 3"):
        over_blocks(torch.arange(40.0).split(4), lambda: None, work)
    assert (torch.get_num_threads(), threading.active_count()) == (threads, running)
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("backend", sorted(set(SEARCHES) - {"faiss", "numpy"}))
def test_what_is_nearest_does_not_depend_on_the_number_of_threads(backend, monkeypatch) -> None:
    """To the last bit: a block's product is one thread's."""
    monkeypatch.setattr(plain, "CPU_SCORES", 2**15)
    points = torch.randn(3000, 24, generator=generator(0))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(assign(points, points[:300], backend))
    finally:
        torch.set_num_threads(before)
    for numbers, squared in found[1:]:
        assert torch.equal(numbers, found[0][0])
        assert torch.equal(squared, found[0][1])
