"""Speed and memory of the metadata table: import, hashtag histogram and cluster tables, beside reading into memory.

    python benchmarks/metadata_import.py --lines 10000000

Draws a table in YFCC100M's form, runs each step in a process of its own and writes its rate and its largest resident
memory to ``results/benchmarks/metadata_import.json``. A step that starts processes counts them as if all had been at
their largest at once. Needs 0.4 kB of disk per line, and half of that again for the table.
"""

from __future__ import annotations

import argparse
import bz2
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote_plus

import numpy as np
from measuring import benchmark_card, record_path

from dclib.records import Record, write_records

TAGS, USERS, CAMERAS, CLUSTERS = 1_000_000, 200_000, 2_000, 1_000
FIRST_NUMBER = 10_000_000
MALFORMED = 0.001  # share of the lines
BLOCK = 50_000  # lines drawn at once
WORDS = ("the", "old", "house", "by", "water", "café", "sunset", "& more", "50%", "a walk in winter light")
ROOMS = ("analysis/hashtags", "analysis/metadata_queries", "data/metadata_table", "data/yfcc_metadata")


def write_table(path: Path, n: int, seed: int = 0) -> None:
    """``n`` lines whose tags, users and cameras have long tails."""
    rng = np.random.default_rng(seed)
    # every seventh is not in ASCII, every eleventh has spaces
    tags = [quote_plus(("été%d" if i % 7 == 0 else "new tag %d" if i % 11 == 0 else "tag%d") % i) for i in range(TAGS)]
    with bz2.open(path, "wt") if path.suffix == ".bz2" else path.open("w") as file:
        for first in range(0, n, BLOCK):
            file.writelines(draw_lines(rng, tags, first, min(BLOCK, n - first)))


def draw_lines(rng: np.random.Generator, tags: list[str], first: int, n: int) -> Iterator[str]:
    """Some consecutive lines."""
    text = [quote_plus(" ".join(rng.choice(WORDS, size=size))) for size in rng.integers(1, 12, 500)]
    drawn = iter((rng.zipf(1.15, 16 * n) % TAGS).tolist())
    n_tags = rng.geometric(0.2, n).clip(1, 16) - 1
    users, cameras = rng.zipf(1.2, n) % USERS, rng.zipf(1.4, n) % CAMERAS
    titles = rng.integers(0, len(text), n)
    places = np.stack([rng.normal(10, 60, n).clip(-180, 180), rng.normal(40, 20, n).clip(-90, 90)], axis=1).round(6)
    located, whole = rng.random(n) < 0.5, rng.random(n) >= MALFORMED
    columns = (n_tags, users, cameras, titles, places, located, whole)
    for i, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        number, (count, user, camera, title, (x, y), is_located, is_whole) = FIRST_NUMBER + first + i, row
        place = f"{x}\t{y}\t14" if is_located else "\t\t"
        own = ",".join([tags[next(drawn)] for _ in range(count)])
        line = (
            f"{number}\t{user}@N00\tname+{user}\t2010-05-01 12:00:00.0\t{1_272_715_200 + number}\tCamera+{camera}\t"
            f"{text[title][:30].rstrip('%')}\t{text[title]}\t{own}\t\t{place}\thttp://www.flickr.com/photos/{user}@N00/"
            f"{number}/\thttp://farm3.staticflickr.com/{user % 8000}/{number}_129f2fbe19.jpg\tAttribution License\t"
            f"http://creativecommons.org/licenses/by/2.0/\t{user % 8000}\t3\t129f2fbe19\tc5f065a6a5\tjpg\t0"
        )
        yield f"{line if is_whole else line[:-2]}\n"


def import_table(source: Path, folder: Path) -> int:
    from dclib.data.metadata_table import import_metadata, table_facts

    return table_facts(import_metadata(source, folder)).n_lines


def count_hashtags(source: Path, folder: Path) -> int:
    from dclib.analysis.hashtags import rank_table_tags
    from dclib.data.metadata_table import import_metadata

    return rank_table_tags(import_metadata(source, folder), ["tag1"], 200).photographs


def compare_clusters(source: Path, folder: Path) -> int:
    """Agreement with all four fields, and the clusters that one value dominates."""
    from dclib.analysis.metadata import FIELDS
    from dclib.analysis.metadata_queries import table_photos
    from dclib.data.images import ImageSet, NumberedIds
    from dclib.data.metadata_table import import_metadata, table_facts
    from dclib.data.yfcc import ZipReader

    table = import_metadata(source, folder)
    numbers = FIRST_NUMBER + np.arange(table_facts(table).n_lines)
    clusters = np.random.default_rng(0).integers(0, CLUSTERS, len(numbers))
    with table_photos(table, ImageSet("pool", NumberedIds(numbers, 8), ZipReader(folder)), clusters) as photos:
        for field in FIELDS:
            photos.agreement(field, seed=0)
            photos.dominated(field, smallest=9, count=3)
        return len(photos)


def count_in_memory(source: Path, folder: Path) -> int:
    from dclib.analysis.hashtags import rank_tags, read_tags

    return rank_tags(read_tags(source), ["tag1"], 200).photographs


STEPS: dict[str, Callable[[Path, Path], int]] = {
    "import": import_table,
    "histogram": count_hashtags,
    "clusters": compare_clusters,
    "in memory": count_in_memory,
}


def run_step(step: str, source: Path, folder: Path) -> dict[str, float]:
    """One step in a process of its own: lines, seconds, and megabytes: at most, and before the first line."""
    command = [sys.executable, __file__, "--step", step, "--source", str(source), "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    rate, peak = found["lines"] / found["seconds"], found["peak"]
    print(f"{step}: {found['lines']:,} lines in {found['seconds']:.1f} s, {rate:,.0f} lines/s, {peak:,.0f} MB at most")
    return found


def measure(step: str, source: Path, folder: Path) -> dict[str, float]:
    """Run a step here."""
    import dclib.analysis.hashtags  # noqa: F401  what every step needs is there before the clock starts

    before, busy, start = largest_memory(resource.RUSAGE_SELF), core_seconds(), time.monotonic()
    lines = STEPS[step](source, folder)
    seconds = time.monotonic() - start
    helpers = largest_memory(resource.RUSAGE_CHILDREN) * min(8, os.cpu_count() or 1)
    return {
        "lines": lines,
        "seconds": seconds,
        "core_seconds": core_seconds() - busy,
        "peak": largest_memory(resource.RUSAGE_SELF) + helpers,
        "before": before,
    }


def core_seconds() -> float:
    """Time that cores have worked for this process and those it started: does not count waiting for other programs."""
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def largest_memory(of: int) -> float:
    """Largest resident memory so far, MB."""
    return resource.getrusage(of).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def records_of(step: str, found: dict[str, float]) -> list[Record]:
    lines = int(found["lines"])
    values = [
        ("lines_per_second", lines / found["seconds"], "lines/s"),
        ("lines_per_core_second", lines / found["core_seconds"], "lines/s"),
        ("peak_memory", found["peak"], "MB"),
    ]
    if step == "in memory":
        values.append(("memory_per_line", 1e3 * (found["peak"] - found["before"]) / lines, "kB"))
    return [Record(name=name, value=round(v, 3), unit=unit, n=lines, keys={"step": step}) for name, v, unit in values]


def run_all(lines: int, slice_lines: int, folder: Path, compressed: bool) -> None:
    start = time.monotonic()
    source = folder / ("table.bz2" if compressed else "table.tsv")
    write_table(source, lines)
    few = folder / "slice.tsv"
    write_table(few, slice_lines)
    size = source.stat().st_size
    print(f"{lines:,} lines drawn, {size / lines:.0f} bytes each, in {time.monotonic() - start:.0f} s")
    found = {step: run_step(step, few if step == "in memory" else source, folder) for step in STEPS}
    (table,) = folder.glob(f"{source.name}-*.parquet")
    records = [record for step, values in found.items() for record in records_of(step, values)]
    sizes = (("file_size", size), ("table_size", table.stat().st_size))
    records += [Record(name=name, value=round(value / 1e6, 3), unit="MB", n=lines) for name, value in sizes]
    settings = {
        **{"lines": lines, "slice": slice_lines, "compressed": compressed, "tags": TAGS, "users": USERS},
        **{"cameras": CAMERAS, "clusters": CLUSTERS, "malformed": MALFORMED},
    }
    card = benchmark_card(settings, ROOMS, start, device=f"cpu ({os.cpu_count()} cores)")
    write_records(record_path("metadata_import"), card, records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--slice", type=int, default=200_000, help="lines read into memory")
    parser.add_argument("--compressed", action="store_true", help="bz2, as the table is published; slow to draw")
    parser.add_argument("--folder", type=Path, help="for the drawn table; a temporary one unless given")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(measure(arguments.step, arguments.source, arguments.folder)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="metadata-") as folder:
        run_all(arguments.lines, arguments.slice, Path(folder), arguments.compressed)


if __name__ == "__main__":
    main()
