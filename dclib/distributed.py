"""The only place that knows about processes. Every function is the identity for one process.

A run has one process per GPU (or per share of the cores), started by ``torchrun``; each is a *rank*. Ranks share the
work by rows, never by meaning: which images a rank holds is decided by :func:`shard`, what a super-class is by data.
Tensors on the CPU travel by gloo, those on a GPU by NCCL.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dclib.preemption import (
    LOOK,
    PreemptedError,
    interruptible,
    is_requested,
    leave_if_waiting_since,
    said,
)

P = ParamSpec("P")
R = TypeVar("R")

PATIENCE = timedelta(hours=2)  # for ranks that are behind; one that has died is noticed at once


class PeerLostError(RuntimeError):
    """Another process of the run has ended, so that nothing can be shared with it."""


@dataclass(frozen=True)
class Team:
    """Some of the ranks, which share a piece of work among themselves."""

    ranks: tuple[int, ...]
    group: Any = None  # the process group; None for everyone, and for a rank alone

    @property
    def size(self) -> int:
        return len(self.ranks)

    @property
    def place(self) -> int:
        """This rank's position in the team."""
        return self.ranks.index(rank())


def is_distributed() -> bool:
    """Whether a process group of more than one process is up."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Processes in the run."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and reports."""
    return rank() == 0


def is_launched() -> bool:
    """Whether a launcher such as torchrun has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group(timeout: timedelta = PATIENCE) -> Iterator[torch.device]:
    """Join the run's other processes, as the launcher's environment says; gives this process's device.

    The device is the GPU of this process's number on its machine where there are GPUs, else the CPU.

    Raises:
        ValueError: fewer GPUs than processes on this machine, or no address to meet at.
        PeerLostError: the others were not met within ``timeout``, or one of them has ended, noticed where none of this
            module's functions was called: gradients are averaged inside the backward pass.
        PreemptedError: this process was asked to leave while it waited for the others.
    """
    device = _local_device()
    if not is_launched():
        yield device
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    _join(backend, timeout)
    try:
        yield device
    except RuntimeError as error:
        if isinstance(error, PeerLostError) or not _is_lost_connection(error):
            raise
        raise _lost(error) from error
    finally:
        dist.destroy_process_group()


def _join(backend: str, timeout: timedelta) -> None:
    address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    try:
        interruptible(lambda: dist.init_process_group(backend, timeout=timeout))
    except RuntimeError as error:
        raise PeerLostError(
            f"need all {os.environ['WORLD_SIZE']} processes of the run at {address}; process {os.environ.get('RANK')} "
            f"has not met them ({_first_line(error)}). Check MASTER_ADDR and MASTER_PORT, and start all of them"
        ) from error


def _local_device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local, processes = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > torch.cuda.device_count():
        raise ValueError(
            f"need a GPU for each of {processes} processes; this machine has {torch.cuda.device_count()}: "
            "start fewer processes, or set CUDA_VISIBLE_DEVICES to nothing to train on the CPU"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _together(function: Callable[P, R]) -> Callable[P, R]:
    """What goes wrong between processes, in one sentence."""

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except (dist.DistError, RuntimeError) as error:
            if isinstance(error, PeerLostError):
                raise
            raise _lost(error) from error

    return call


def _lost(error: RuntimeError) -> PeerLostError | PreemptedError:
    if is_requested():  # all are asked to leave together, and the other was quicker
        return PreemptedError(said())
    return PeerLostError(
        f"rank {rank()} of {world_size()} has lost another process of the run ({_first_line(error)}); "
        "that one's own message says why. Start the run again: it continues from its last checkpoint"
    )


def _first_line(error: RuntimeError) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_lost_connection(error: RuntimeError) -> bool:
    """By its words: gloo's errors have no type of their own."""
    words = r"gloo/transport|connection (closed|reset|refused)|broken pipe|NCCL"
    return re.search(words, str(error), re.IGNORECASE) is not None


@_together
def all_reduce_sum(x: Tensor, team: Team | None = None) -> Tensor:
    """Sum of ``x`` over processes (of a team), as a new tensor; a copy of ``x`` for one process."""
    total = x.clone()
    if _has_peers(team):
        _wait(dist.all_reduce(total, group=team.group if team else None, async_op=True), total)
    return total


def gather(values: Tensor, rows: Tensor, n: int) -> Tensor:
    """Every rank's ``values`` (m, ...) for its ``rows`` (m,) of n in one tensor (n, ...); zeros for rows of nobody.

    Gradients come back to the rank whose rows they are of, from all ranks.
    """
    whole: Tensor = _Gather.apply(values, rows, n)
    return whole


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, n: int) -> Tensor:
        ctx.save_for_backward(rows)
        whole = values.new_zeros((n, *values.shape[1:]))
        whole[rows] = values
        return all_reduce_sum(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        return all_reduce_sum(gradients[0])[rows], None, None


@_together
def all_reduce_max(x: Tensor, team: Team | None = None) -> Tensor:
    """Largest ``x`` over processes (of a team), element by element, as a new tensor."""
    largest = x.clone()
    if _has_peers(team):
        _wait(dist.all_reduce(largest, dist.ReduceOp.MAX, team.group if team else None, async_op=True), largest)
    return largest


def _wait(work: Any, x: Tensor) -> None:
    """Until the others have done their part in ``x``, or this process is asked to leave; a GPU's is put in its line."""
    began = time.monotonic()
    while not x.is_cuda:
        try:
            work.wait(timedelta(seconds=LOOK))
            return
        except RuntimeError:
            if work.is_completed():
                break
        leave_if_waiting_since(began)
    work.wait()


def any_of(*flags: bool) -> list[bool]:
    """For each flag, whether any process has it set: the same answer everywhere. Waits for no GPU."""
    if not is_distributed():
        return list(flags)
    return [bool(value) for value in all_reduce_max(torch.tensor(flags, dtype=torch.uint8))]


def leave_if_requested() -> None:
    """PreemptedError on every process if any of them has been asked to leave. All must call it."""
    if any(any_of(is_requested())):
        raise PreemptedError(said())


@_together
def from_main(value: float) -> float:
    """The main process's ``value``, everywhere."""
    if not is_distributed():
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    _wait(dist.broadcast(shared, src=0, async_op=True), shared)
    return float(shared)


@_together
def wait_for_all() -> None:
    """Go on when every process has come here."""
    if is_distributed():
        all_reduce_sum(torch.zeros(1))  # by gloo: a barrier of NCCL would take a GPU that may be busy


@contextmanager
def main_first() -> Iterator[None]:
    """What is done here is done by the main process, and then, with its files there, by the others."""
    if not is_main():
        wait_for_all()
    yield
    if is_main():
        wait_for_all()


@_together
def make_team(teams: Sequence[tuple[int, ...]]) -> Team:
    """This rank's team; every process calls with the same ``teams``, which share no rank."""
    mine = Team((rank(),))
    for ranks in teams:
        # every process must make every group, in the same order
        group = None
        if 1 < len(ranks) < world_size():
            group = interruptible(partial(dist.new_group, list(ranks), timeout=PATIENCE))
        if rank() in ranks:
            mine = Team(tuple(ranks), group)
    return mine


def end_team(team: Team) -> None:
    """Give back what :func:`make_team` took."""
    if team.group is not None:
        dist.destroy_process_group(team.group)


def everyone() -> Team:
    """All ranks."""
    return Team(tuple(range(world_size())))


def shard(n: int, team: Team | None = None) -> range:
    """The rows that this rank holds of ``n``: all ranks' rows are contiguous, in order, and differ by one at most."""
    team = team or everyone()
    return range(n * team.place // team.size, n * (team.place + 1) // team.size)


def share_gradients(module: nn.Module) -> nn.Module:
    """``module`` that averages its gradients over all processes as they are made; itself for one process."""
    if not is_distributed():
        return module
    return nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)


def _has_peers(team: Team | None) -> bool:
    return is_distributed() and (team is None or team.size > 1)
