"""Memory of a whitening to 4,096 of 4,096 dimensions against the number of images: it must not grow with them.

    python benchmarks/whitening_memory.py

For each number of images a fresh process writes features to disk, block by block, and whitens them. Counted is
resident memory meanwhile, all of it: the interpreter with its libraries, arrays, and pages of mapped files; nothing is
subtracted. Its peak is reset before the whitening, and what is resident then is recorded beside it. The last row has
files of the size that they have from a million images on, which is the largest: no number of images needs more.
Beside it, the plain way: all features in memory, centred, multiplied, projected. Freed arrays of 1 MiB and more go back
to the system at once (MALLOC_MMAP_THRESHOLD_), so that it is arrays that are counted
and not the allocator's habits. Records go to ``results/benchmarks/whitening_memory.json``. Linux only.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch
from clustering_growth import write_features
from measuring import GIVEN_BACK, benchmark_card, forget_peak, in_child, record_path, resident, side_by_side
from torch import Tensor
from torch.nn.functional import normalize

from dclib.cluster import stored_rows
from dclib.cluster.pseudo_labels import whiten
from dclib.cluster.stored_rows import LARGEST_FILE, StoredRows
from dclib.records import Record, write_records

SIZES = (8_192, 32_768)
OURS, PLAIN = WAYS = ("stored, a block at a time", "all in memory")
PRECISION = "float16"


def measure(n: int, width: int, files: int, way: str, folder: Path) -> dict[str, float]:
    """Whiten ``n`` features here, ours in at most ``files`` files: seconds, resident megabytes before and at most."""
    with mock.patch.object(stored_rows, "FILES", files):
        features = StoredRows.at(folder / "features", n, width, PRECISION)
        write_features(features)
        forget_peak()
        before, start = resident("VmRSS"), time.monotonic()
        if way == OURS:
            points, _ = whiten(features, width, folder / "points")
        else:
            points = whiten_plainly(torch.cat(list(features.split(stored_rows.SMALLEST_FILE))))
        seconds = time.monotonic() - start
        assert points.shape == (n, width)
        return {"before": before, "peak": resident("VmHWM"), "seconds": seconds, "rows": features.rows_per_file}


def whiten_plainly(features: Tensor) -> Tensor:
    """As one would write it first: (n, d) to (n, d), of unit length."""
    centred = features - features.mean(dim=0)
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(features))
    return normalize(centred @ (axes / variances.clamp(min=1e-5 * float(variances[-1])).sqrt()), dim=1)


def measure_in_child(n: int, width: int, files: int, way: str, folder: Path | None) -> dict[str, float]:
    """:func:`measure` in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="whitening-") as place:
        options = "--measure", str(n), str(width), str(files), way, place
        found: dict[str, float] = json.loads(in_child(__file__, *options, gives_back=True))
    print(
        f"{n:>9,} x {width}, {way}, {PRECISION} in files of {found['rows']:,}: {found['seconds']:.1f} s; "
        f"{found['before']:.0f} MB before, {found['peak']:.0f} at most"
    )
    return found


def records_of(n: int, way: str, found: dict[str, float]) -> list[Record]:
    keys: dict[str, str | int] = {"rows_per_file": int(found["rows"]), "way": way}
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
    parser.add_argument("--output", type=Path, default=record_path("whitening_memory"))
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        *numbers, way, folder = options.measure
        print(json.dumps(measure(*map(int, numbers), way, Path(folder))))
        return
    from dclib.train.runs import device_name  # which loads for seconds that a child need not spend

    began, records = time.monotonic(), []
    for n in options.sizes:
        peaks = {}
        for way in WAYS:
            found = measure_in_child(n, options.width, stored_rows.FILES, way, options.folder)
            records += records_of(n, way, found)
            peaks[way] = [found["peak"]]
        work = f"whitening {n:,} features of {options.width:,} numbers, resident memory"
        records += side_by_side("whitening_memory", work, peaks, "MB", ours=OURS)
    largest = 2 * LARGEST_FILE
    records += records_of(largest, OURS, measure_in_child(largest, options.width, 2, OURS, options.folder))
    settings = {"sizes": list(options.sizes), "width": options.width, "precision": PRECISION, "mmap": GIVEN_BACK}
    device = device_name(torch.device("cpu"))
    card = benchmark_card(settings, ("cluster", "records"), began, device=device)
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
