"""What the programs beside this one share: ways that take turns, records of them, run cards, and resident memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from dclib.config import config_hash
from dclib.presets import project_root
from dclib.records import DATA, Record, RunCard, code_hash

Name = TypeVar("Name")
GIVEN_BACK = 2**20  # bytes from which an array is given back
STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {"median": median, "lowest": min, "highest": max}


def take_turns(ways: Mapping[Name, Callable[[], object]], repeats: int) -> dict[Name, list[float]]:
    """Seconds of ``repeats`` calls of each way, in turn, so that what disturbs one disturbs all."""
    seconds: dict[Name, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(name: str, values: Sequence[float], unit: str, n: int, **keys: str | int) -> list[Record]:
    """Median, lowest and highest of a few measurements."""
    found = {statistic: of(values) for statistic, of in STATISTICS.items()}
    print(f"{name} {keys or ''}: {found['median']:,.4g} {unit} ({found['lowest']:,.4g} to {found['highest']:,.4g})")
    return [
        Record(name=name, value=value, unit=unit, n=n, keys={**keys, "statistic": statistic})
        for statistic, value in found.items()
    ]


def side_by_side(
    benchmark: str,
    work: str,
    ways: Mapping[str, Sequence[float]],
    unit: str,
    *,
    ours: str,
    more_is_better: bool = False,
) -> list[Record]:
    """Records of several ways of doing one thing: what each measured, and how many times ours is better.

    Args:
        benchmark: Name of the program.
        work: What was done, with its sizes.
        ways: Measurements of each; those of one number were made in one turn.
        unit: Of the measurements.
        ours: Which of the ways is compared with the others.
        more_is_better: For rates; of seconds and bytes less is.
    """
    records, keys = [], {"benchmark": benchmark, "work": work}
    for way, values in ways.items():
        records += summary("side_by_side", values, unit, len(values), **keys, way=way)
        if way != ours:
            pairs = zip(values, ways[ours], strict=False)
            times = [own / other if more_is_better else other / own for other, own in pairs]
            records += summary("times_as_good", times, "1", len(times), **keys, way=way)
    return records


def benchmark_card(
    settings: Mapping[str, Any],
    rooms: Sequence[str],
    began: float,
    *,
    device: str,
    seed: int = 0,
    data_hash: str = "",
    **notes: Any,
) -> RunCard:
    """The run card of a program here.

    Args:
        settings: All that decides what is measured.
        rooms: Parts of dclib whose speed it is.
        began: ``time.monotonic()`` at the start.
        device: What it ran on.
        seed: Of what is drawn.
        data_hash: Of the images, where there are any.
        notes: More to say; the machine and its load are noted in any case.
    """
    return RunCard(
        stage="benchmark",
        preset="benchmarks",
        method=DATA,
        seed=seed,
        config_hash=config_hash(dict(settings)),
        data_hash=data_hash,
        code_hash=code_hash(*rooms),
        device=device,
        seconds=round(time.monotonic() - began, 1),
        config=dict(settings),
        notes={
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),  # programs that wanted the cores at the end, this one included
            "machine": platform.machine(),
            **notes,
        },
    )


def record_path(name: str) -> Path:
    """Where the records of a program go unless it is told otherwise."""
    return project_root() / "results" / "benchmarks" / f"{name}.json"


def in_child(program: str, *options: str, gives_back: bool = False) -> str:
    """What a program here prints when it is started with ``options``: a fresh process, whose heap is that of any other.

    ``gives_back``: whether glibc gives freed arrays back to the system at once, so that a peak is that of arrays; it is
    slower. By default it keeps blocks of up to 32 MB, and small ones that land there can keep a new one from fitting:
    then the peak is that of the allocator's luck, some hundred megabytes from one run to the next.
    """
    environment = {**os.environ, **({"MALLOC_MMAP_THRESHOLD_": str(GIVEN_BACK)} if gives_back else {})}
    command = [sys.executable, program, *options]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def forget_peak() -> None:
    """Let the kernel count the peak of resident memory from now. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(which: str) -> float:
    """Resident memory of this process, anonymous and of files, MB: ``VmRSS`` now, ``VmHWM`` at most. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{which}:"))
