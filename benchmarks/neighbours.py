"""Measure what two processes on the same cores cost each other, by how threads wait for each other.

    python benchmarks/neighbours.py

A process whose threads spin while they wait keeps a core from its neighbour. Training steps of a quarter-width network
and steps of k-means run alone and two side by side, with a thread for each core, under several ways to wait, and with
one thread each. Every way takes its turn. The record goes to ``results/benchmarks/neighbours.json``. Nothing else
should be running.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from measuring import benchmark_card, record_path

from dclib.machine import QUIET, count_cores, cpu_name
from dclib.records import Record, write_records

# as libgomp does where nothing is said; spinning a little before sleeping; and what dclib sets
WAITS: Mapping[str, Mapping[str, str]] = {
    "libgomp's default": {"GOMP_SPINCOUNT": "300000"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
    "dclib's setting": QUIET,
}
WORKS = ("training", "k-means")
UNITS = {"training": "images/s", "k-means": "points/s"}
BATCH, POINTS, DIMENSIONS, CENTROIDS = 64, 20_000, 64, 500
READY = "ready"


def work_for(seconds: float, work: str) -> None:
    """In a process of its own: get ready, wait for a word, work for so long, and print the rate."""
    import torch

    from dclib.cluster.kmeans import assign
    from dclib.config import ModelConfig
    from dclib.train.speed import pass_work

    if work == "training":
        model = ModelConfig(image_size=32, width=0.25, hidden_dim=128, feature_dim=256, dropout=0.0)
        step, size = pass_work(model, BATCH, "auto", True, torch.device("cpu")), BATCH
    else:
        rng = torch.Generator().manual_seed(0)
        points, centroids = (torch.randn(n, DIMENSIONS, generator=rng) for n in (POINTS, CENTROIDS))
        step, size = (lambda: assign(points, centroids)), POINTS
    step()
    print(READY, flush=True)
    sys.stdin.readline()
    done, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        step()
        done += 1
    print(done * size / (time.perf_counter() - start), flush=True)


def rates(work: str, wait: Mapping[str, str], *, threads: int, processes: int, seconds: float) -> list[float]:
    """Of each of some processes that work at the same time."""
    known = {
        name: value for name, value in os.environ.items() if name not in {n for way in WAITS.values() for n in way}
    }
    command = [sys.executable, __file__, "--child", work, "--seconds", str(seconds)]
    children = [
        subprocess.Popen(
            command,
            env={**known, **wait, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    for child in children:
        assert child.stdout is not None
        if child.stdout.readline().strip() != READY:
            raise RuntimeError(f"a process that was to measure {work} has ended; what it said is above")
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    return [float(child.communicate()[0]) for child in children]


def compare(work: str, repeats: int, seconds: float) -> list[Record]:
    """Rates of one work, alone and side by side, of every way to wait."""
    cores = count_cores()
    ways = {(name, cores): wait for name, wait in WAITS.items()} | {("dclib's setting", 1): QUIET}
    found: dict[tuple[str, int], dict[str, list[float]]] = {way: {"alone": [], "side by side": []} for way in ways}
    for _ in range(repeats):
        for (name, threads), wait in ways.items():
            for company, processes in (("alone", 1), ("side by side", 2)):
                measured = rates(work, wait, threads=threads, processes=processes, seconds=seconds)
                found[name, threads][company].append(sum(measured))
    records = []
    for (name, threads), companies in found.items():
        for company, values in companies.items():
            keys: dict[str, str | int] = {"work": work, "wait": name, "threads": threads, "company": company}
            record = Record(name="neighbours_rate", value=median(values), unit=UNITS[work], n=repeats, keys=keys)
            print(f"{work}, {name}, {threads} threads, {company}: {record.value:,.0f} {record.unit}")
            records.append(record)
    return records


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", choices=WORKS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=record_path("neighbours"))
    options = parser.parse_args(arguments)
    if options.child:
        work_for(options.seconds, options.child)
        return
    began = time.monotonic()
    records = [record for work in WORKS for record in compare(work, options.repeats, options.seconds)]
    settings = {"seconds": options.seconds, "repeats": options.repeats, "waits": {n: dict(w) for n, w in WAITS.items()}}
    rooms = ("cluster", "machine", "models", "train/speed")
    card = benchmark_card(settings, rooms, began, device=cpu_name(count_cores()))
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
