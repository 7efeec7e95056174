"""Time and memory of a clustering against the number of images: memory must not grow with them.

    OMP_NUM_THREADS=1 python benchmarks/clustering_growth.py

For each number of images a fresh process writes features of a mixture of Gaussians to disk, block by block, and
clusters them on two levels. Counted is resident memory while it clusters, all of it: the interpreter with its
libraries, arrays, and pages of mapped files. Its peak is reset before, so that the writing of features does not count.
Seconds of each phase and peaks go to ``results/benchmarks/clustering_growth.json``. Linux only; takes some minutes, and
2 GB of disk for features and whitened points of a million images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measuring import benchmark_card, forget_peak, in_child, record_path, resident

from dclib.cluster import pseudo_labels
from dclib.cluster.pseudo_labels import cluster_features
from dclib.cluster.stored_rows import StoredRows
from dclib.config import ClusterConfig
from dclib.randomness import generator
from dclib.records import Record, write_records

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
WIDTH = 256
CONFIG = ClusterConfig(n_super=2, n_sub=500, pca_dim=WIDTH, n_iter=10)
MIDDLES = 2_000  # of the mixture
SPREAD = 1.0  # of a group, in units of that of the middles
PRECISIONS = ("float16", "float32")
WHOLE = "all"
PHASES = {"whitening": "whiten", "level 1": "_first_level", "level 2": "_second_level"}


def write_features(stored: StoredRows) -> None:
    """Points around random middles; a file at a time."""
    stored.check_space()
    middles = torch.randn(MIDDLES, stored.d, generator=generator(0, "middles"))
    for file in range(stored.n_files):
        draws, n = generator(0, "features", file), len(stored.file_rows(file))
        group = torch.randint(MIDDLES, (n,), generator=draws)
        stored.write(file, middles[group] + SPREAD * torch.randn(n, stored.d, generator=draws))


def measure(n: int, precision: str, folder: Path) -> dict[str, Any]:
    """Cluster ``n`` features here: seconds of each phase and of all, resident megabytes before and at most."""
    features = StoredRows.at(folder / "features", n, WIDTH, precision)
    write_features(features)
    forget_peak()
    found: dict[str, Any] = {"before": resident("VmRSS")}
    with ExitStack() as stack:
        for phase, function in PHASES.items():
            timed = with_clock(getattr(pseudo_labels, function), found, phase)
            stack.enter_context(mock.patch.object(pseudo_labels, function, timed))
        cluster = with_clock(cluster_features, found, WHOLE)
        clustering = cluster(features, CONFIG, generator(0, "clustering"), work=folder / "points")
    empty = int((clustering.labels.counts == 0).sum())
    return {**found, "peak": resident("VmHWM"), "empty": empty, "backend": clustering.backend}


def with_clock(call: Callable[..., Any], found: dict[str, Any], phase: str) -> Callable[..., Any]:
    """``call``, which adds its seconds to ``found``."""

    @wraps(call)
    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.monotonic()
        result = call(*arguments, **options)
        found[phase] = time.monotonic() - start
        return result

    return timed


def measure_in_child(n: int, precision: str, folder: Path) -> dict[str, Any]:
    """:func:`measure` in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="clustering-") as place:
        found: dict[str, Any] = json.loads(in_child(__file__, "--measure", str(n), precision, place))
    shown = ", ".join(f"{phase} {found[phase]:.1f} s" for phase in (*PHASES, WHOLE))
    print(f"{n:>9,} x {WIDTH} {precision}: {shown}; {found['before']:.0f} MB before, {found['peak']:.0f} at most")
    return found


def records_of(n: int, precision: str, found: dict[str, Any]) -> list[Record]:
    keys: dict[str, str | int] = {"precision": precision}
    records = [
        Record(name="seconds", value=round(found[phase], 3), unit="s", n=n, keys={**keys, "phase": phase})
        for phase in (*PHASES, WHOLE)
    ]
    memory = {"peak_memory": found["peak"], "memory_before": found["before"]}
    records += [Record(name=name, value=round(value, 1), unit="MB", n=n, keys=keys) for name, value in memory.items()]
    return [*records, Record(name="empty_clusters", value=found["empty"], unit="clusters", n=n, keys=keys)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of images")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS[:1])
    parser.add_argument("--folder", type=Path, help="where to keep features meanwhile; a temporary folder unless given")
    parser.add_argument("--output", type=Path, default=record_path("clustering_growth"))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        n, precision, folder = options.measure
        print(json.dumps(measure(int(n), precision, Path(folder))))
        return
    start = time.monotonic()
    found = {(n, p): measure_in_child(n, p, options.folder) for p in options.precisions for n in sorted(options.sizes)}
    settings = {**asdict(CONFIG), "width": WIDTH, "middles": MIDDLES, "spread": SPREAD}
    backends = ", ".join(sorted({f["backend"] for f in found.values()}))
    from dclib.train.runs import device_name  # which loads for seconds that a child need not spend

    device = device_name(torch.device("cpu"))
    card = benchmark_card(settings, ("cluster", "records"), start, device=device, kmeans_backend=backends)
    write_records(options.output, card, [r for (n, p), values in found.items() for r in records_of(n, p, values)])


if __name__ == "__main__":
    main()
