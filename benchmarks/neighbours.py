"""Measure what two processes on the same cores cost each other, by how threads wait and what becomes of freed memory.

    python benchmarks/neighbours.py

A process whose threads spin while they wait keeps a core from its neighbour. Training steps of a quarter-width network,
in every precision that the CPU has instructions for, and steps of k-means run alone and two side by side, with a thread
for each core and with one thread each. Every way takes its turn. The record goes to
``results/benchmarks/neighbours.json``. Nothing else should be running.
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

from dclib.machine import OWN_WAYS, QUIET, count_cores, cpu_name, has_bfloat16
from dclib.records import Record, write_records

# as libgomp does where nothing is said, and what dclib sets where products are made in float32; and the first without
# what dclib does to malloc, for which glibc's own default is named
SPINNING = {"GOMP_SPINCOUNT": "300000"}
WAITS: Mapping[str, Mapping[str, str]] = {
    "spinning": SPINNING,
    "asleep": QUIET,
    "spinning, freed memory given back": {**SPINNING, "GLIBC_TUNABLES": "glibc.malloc.arena_test=8"},
}
TRAININGS = {f"training in {precision}": precision for precision in ("bfloat16", "float32")}
WORKS = (*TRAININGS, "k-means")
BATCH, POINTS, DIMENSIONS, CENTROIDS = 64, 20_000, 64, 500
READY = "ready"


def work_for(seconds: float, work: str) -> None:
    """In a process of its own: get ready, wait for a word, work for so long, and print the rate."""
    import torch

    from dclib.cluster.kmeans import assign
    from dclib.config import ModelConfig
    from dclib.train.speed import pass_work

    if work in TRAININGS:
        model = ModelConfig(image_size=32, width=0.25, hidden_dim=128, feature_dim=256, dropout=0.0)
        step, size = pass_work(model, BATCH, TRAININGS[work], True, torch.device("cpu")), BATCH
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
    known = {name: value for name, value in os.environ.items() if name not in OWN_WAYS}
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


def compare(work: str, waits: Sequence[str], threads: Sequence[int], repeats: int, seconds: float) -> list[Record]:
    """Rates of one work, alone and side by side, of every way to wait."""
    ways = {(name, number): WAITS[name] for name in waits for number in threads}
    found: dict[tuple[str, int], dict[str, list[float]]] = {way: {"alone": [], "side by side": []} for way in ways}
    for _ in range(repeats):
        for (name, number), wait in ways.items():
            for company, processes in (("alone", 1), ("side by side", 2)):
                measured = rates(work, wait, threads=number, processes=processes, seconds=seconds)
                found[name, number][company].append(sum(measured))
    records = []
    for (name, number), companies in found.items():
        for company, values in companies.items():
            keys: dict[str, str | int] = {"work": work, "wait": name, "threads": number, "company": company}
            record = Record(
                name="neighbours_rate",
                value=median(values),
                unit="images/s" if work in TRAININGS else "points/s",
                n=repeats,
                keys=keys,
            )
            print(f"{work}, {name}, threads {number}, {company}: {record.value:,.0f} {record.unit}")
            records.append(record)
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    possible = [work for work in WORKS if has_bfloat16() or TRAININGS.get(work) != "bfloat16"]
    parser.add_argument("--works", nargs="*", default=possible, choices=WORKS, help="default: all this CPU is made for")
    parser.add_argument("--waits", nargs="*", default=list(WAITS), choices=list(WAITS), help="default: all")
    parser.add_argument("--threads", nargs="*", type=int, default=[count_cores(), 1], help="default: all cores, and 1")
    parser.add_argument("--child", choices=WORKS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=record_path("neighbours"))
    options = parser.parse_args()
    if options.child:
        work_for(options.seconds, options.child)
        return
    began = time.monotonic()
    asked = (options.waits, options.threads, options.repeats, options.seconds)
    records = [record for work in options.works for record in compare(work, *asked)]
    settings = {
        "seconds": options.seconds,
        "repeats": options.repeats,
        "works": options.works,
        "waits": {name: dict(WAITS[name]) for name in options.waits},
        "threads": options.threads,
    }
    rooms = ("cluster", "machine", "models", "train/speed")
    card = benchmark_card(settings, rooms, began, device=cpu_name(count_cores()))
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
