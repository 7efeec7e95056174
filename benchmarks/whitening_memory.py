"""Memory of a whitening to 4,096 of 4,096 dimensions against the number of images: it must not grow with them.

    python benchmarks/whitening_memory.py

For each number of images a fresh process writes features to disk, block by block, and whitens them. Counted is
resident memory meanwhile, all of it: the interpreter with its libraries, arrays, and pages of mapped files; nothing is
subtracted. Its peak is reset before the whitening, and what is resident then is recorded beside it. The last row has
files of the size that they have from four million images on, which is the largest: no number of images needs more.
Freed arrays of 1 MiB and more go back to the system at once (MALLOC_MMAP_THRESHOLD_), so that it is arrays that are
counted and not the allocator's habits. Records go to ``results/benchmarks/whitening_memory.json``. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch
from clustering_growth import forget_peak, resident, write_features

from dclib.cluster import stored_rows
from dclib.cluster.pseudo_labels import whiten
from dclib.cluster.stored_rows import LARGEST_FILE, StoredRows
from dclib.config import config_hash
from dclib.presets import project_root
from dclib.records import DATA, Record, RunCard, code_hash, write_records
from dclib.train.runs import device_name

SIZES = (8_192, 32_768)
PRECISION = "float16"
MMAP_FROM = 2**20  # bytes


def measure(n: int, width: int, files: int, folder: Path) -> dict[str, float]:
    """Whiten ``n`` features here, in at most ``files`` files: seconds, and resident megabytes before and at most."""
    with mock.patch.object(stored_rows, "FILES", files):
        features = StoredRows.at(folder / "features", n, width, PRECISION)
        write_features(features)
        forget_peak()
        before, start = resident("VmRSS"), time.monotonic()
        points, _ = whiten(features, width, folder / "points")
        seconds = time.monotonic() - start
        assert isinstance(points, StoredRows)
        return {"before": before, "peak": resident("VmHWM"), "seconds": seconds, "rows": points.rows_per_file}


def measure_in_child(n: int, width: int, files: int, folder: Path | None) -> dict[str, float]:
    """:func:`measure` in a fresh process, whose libraries and heap are those of any other."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MMAP_FROM)}
    with tempfile.TemporaryDirectory(dir=folder, prefix="whitening-") as place:
        command = [sys.executable, __file__, "--measure", str(n), str(width), str(files), place]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    print(
        f"{n:>9,} x {width} {PRECISION} in files of {found['rows']:,}: {found['seconds']:.1f} s; "
        f"{found['before']:.0f} MB before, {found['peak']:.0f} at most"
    )
    return found


def records_of(n: int, found: dict[str, float]) -> list[Record]:
    keys: dict[str, str | int] = {"rows_per_file": int(found["rows"])}
    values = {"peak_memory": ("peak", "MB"), "memory_before": ("before", "MB"), "seconds": ("seconds", "s")}
    return [
        Record(name=f"whitening_{name}", value=round(found[key], 1), unit=unit, n=n, keys=keys)
        for name, (key, unit) in values.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of images")
    parser.add_argument("--width", type=int, default=4096, help="of the features, and of the whitened points")
    parser.add_argument("--folder", type=Path, help="where to keep features meanwhile; a temporary folder unless given")
    parser.add_argument("--out", type=Path, default=project_root() / "results" / "benchmarks" / "whitening_memory.json")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        *numbers, folder = options.measure
        print(json.dumps(measure(*map(int, numbers), Path(folder))))
        return
    began, records = time.monotonic(), []
    for n in options.sizes:
        records += records_of(n, measure_in_child(n, options.width, stored_rows.FILES, options.folder))
    largest = 2 * LARGEST_FILE
    records += records_of(largest, measure_in_child(largest, options.width, 2, options.folder))
    card = RunCard(
        stage="benchmark",
        preset="benchmarks",
        method=DATA,
        seed=0,
        config_hash=config_hash(options.width, PRECISION, MMAP_FROM, list(options.sizes)),
        data_hash="",
        code_hash=code_hash("cluster", "records"),
        device=device_name(torch.device("cpu")),
        seconds=round(time.monotonic() - began, 1),
        config={"width": options.width, "precision": PRECISION, "mmap_threshold": MMAP_FROM},
        notes={"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "machine": platform.machine()},
    )
    write_records(options.out, card, records)


if __name__ == "__main__":
    main()
