"""Random reading from zip archives laid out as YFCC100M's: through the index, beside opening an archive per image.

    python benchmarks/zip_reading.py

Generates archives of small JPEGs, builds their index, reads the same photos at random in both ways, in one process,
checks that the bytes are equal, and writes medians and extremes over repeats to
``results/benchmarks/zip_reading.json``. "Cold" reads begin with nothing of the archives or the index in the system's
memory, as far as it follows the advice to forget them. Needs 11 kB of disk per photo.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measuring import benchmark_card, record_path, summary
from PIL import Image
from tqdm import tqdm

from dclib.data.decoding import decode_rgb
from dclib.data.yfcc import ZipReader, open_yfcc
from dclib.data.zip_index import FOLDER, PER_ARCHIVE, archive_path, find_archives, open_index
from dclib.machine import cpu_name
from dclib.records import Record, write_records

PICTURES = 64  # different ones; each photo is one of them with its number behind the end, which decoders pass over
SIDES = (180, 240)  # of a picture, pixels
ROOMS = ("data/folders", "data/images", "data/yfcc", "data/zip_index")
UNITS = {
    "index_archives_per_second": "archives/s",
    "index_photos_per_second": "photos/s",
    "reopen_seconds": "s",
    "images_per_second": "images/s",
}


def write_archives(root: Path, n_archives: int, n_photos: int, seed: int) -> None:
    """Archives 00/000.zip and on, with equally many photos each from 000.jpg on."""
    pictures = draw_pictures(seed)
    per_archive, rest = divmod(n_photos, n_archives)
    if not 1 <= per_archive <= PER_ARCHIVE or rest:
        raise ValueError(f"need 1 to {PER_ARCHIVE} photos for each archive; got {n_photos} for {n_archives}")
    for archive in tqdm(range(n_archives), desc="write", unit="zip", disable=not sys.stderr.isatty()):
        path = archive_path(root, archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            for member in range(per_archive):
                number = archive * PER_ARCHIVE + member
                file.writestr(f"{member:03d}.jpg", pictures[number % PICTURES] + f"{number:08d}".encode())


def draw_pictures(seed: int) -> list[bytes]:
    """Coloured noise of several scales, which JPEG finds about as hard as a photograph."""
    rng, pictures = np.random.default_rng(seed), []
    for _ in range(PICTURES):
        scales = [Image.fromarray(rng.integers(0, 256, (s, s, 3), dtype=np.uint8)).resize(SIDES) for s in (4, 16, 60)]
        image = Image.blend(Image.blend(scales[0], scales[1], 0.4), scales[2], 0.2)
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=85)
        pictures.append(buffer.getvalue())
    return pictures


def measure_index(root: Path) -> dict[str, float]:
    """Building the index from nothing, and opening the set again once it is there."""
    archives = np.array(sorted(find_archives(root)))
    shutil.rmtree(root / FOLDER, ignore_errors=True)
    seconds = seconds_of(lambda: open_index(root, archives))
    return {
        "index_archives_per_second": len(archives) / seconds,
        "index_photos_per_second": len(open_yfcc(root)) / seconds,
        "reopen_seconds": seconds_of(lambda: open_yfcc(root)),
    }


def check_bytes(root: Path, words: list[str]) -> None:
    reader = ZipReader(root)
    for word in words:
        if reader.read(word) != read_by_zipfile(root, word):
            raise AssertionError(f"photo {word} has other bytes through the index than zipfile gives")


def measure_reads(root: Path, words: list[str], cold: bool) -> dict[str, float]:
    """Images per second of both ways on the same photos; of the index also with decoding, as training asks for."""
    reader = ZipReader(root)
    ways: dict[str, Callable[[str], object]] = {
        "index": reader.read,
        "zipfile": lambda word: read_by_zipfile(root, word),
        "index and decoding": lambda word: decode_rgb(reader.read(word)),
    }
    rates = {}
    for way, read in ways.items():
        if cold:
            forget_files(root)
        start = time.perf_counter()
        for word in words:
            read(word)
        rates[way] = len(words) / (time.perf_counter() - start)
    return rates


def read_by_zipfile(root: Path, word: str) -> bytes:
    """Opens the archive for one photo."""
    with zipfile.ZipFile(root / word[:2] / f"{word[2:5]}.zip") as file:
        return file.read(f"{word[5:]}.jpg")


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def forget_files(root: Path) -> None:
    """Ask the system to drop what it keeps of the archives and the index in memory."""
    for path in [*root.glob("*/*.zip"), *root.glob(f"{FOLDER}/*")]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def memory() -> dict[str, float]:
    """Resident memory, MiB: of this process alone, and of mapped files, which processes share."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        kind: int(lines[field].split()[0]) / 1024 for kind, field in (("private", "RssAnon"), ("shared", "RssFile"))
    }


def measure(root: Path, options: argparse.Namespace) -> list[Record]:
    """Everything, ``options.repeats`` times."""
    rng, found = np.random.default_rng(options.seed), defaultdict[tuple[str, ...], list[float]](list)
    before = memory()
    for repeat in range(options.repeats):
        for name, value in measure_index(root).items():
            found[name,].append(value)
        ids = open_yfcc(root).ids
        words = [ids[i] for i in rng.integers(len(ids), size=options.reads).tolist()]
        check_bytes(root, words)
        for cache in ("warm", "cold"):
            for way, rate in measure_reads(root, words, cache == "cold").items():
                found["images_per_second", way, cache].append(rate)
        print(f"repeat {repeat + 1} of {options.repeats}: {len(words)} photos have the same bytes in both ways")
    records = []
    for (name, *where), values in found.items():
        keys = dict(zip(("way", "cache"), where, strict=False))
        records += summary(name, values, UNITS[name], options.reads if where else options.repeats, **keys)
    size = sum(path.stat().st_size for path in (root / FOLDER).iterdir())
    records.append(Record(name="index_bytes_per_photo", value=size / options.photos, unit="B", n=options.photos))
    after = memory()
    records += [
        Record(name="memory_growth", value=after[kind] - before[kind], unit="MiB", n=1, keys={"kind": kind})
        for kind in after
    ]
    for record in records[-3:]:
        print(f"{record.name} {dict(record.keys) or ''}: {record.value:,.4g} {record.unit}")
    return records


def run(root: Path, options: argparse.Namespace) -> None:
    began = time.monotonic()
    write_archives(root, options.archives, options.photos, options.seed)
    print(f"wrote {options.archives} archives of {options.photos // options.archives} photos each")
    records = measure(root, options)
    images = open_yfcc(root)
    settings = {name: getattr(options, name) for name in ("archives", "photos", "reads", "repeats")}
    card = benchmark_card(
        settings,
        ROOMS,
        began,
        device=cpu_name(1),
        seed=options.seed,
        data_hash=images.fingerprint,
        mean_photo_bytes=round(float(images.reader.sizes(images.ids).mean())),
        same_bytes=f"all of {options.reads * options.repeats} photos read",
    )
    write_records(options.output, card, records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=int, default=1_000)
    parser.add_argument("--photos", type=int, default=200_000)
    parser.add_argument("--reads", type=int, default=3_000, help="photos read at random in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the archives are written and left; default: temporary")
    parser.add_argument("--output", type=Path, default=record_path("zip_reading"))
    options = parser.parse_args()
    if options.folder:
        run(options.folder, options)
        return
    with tempfile.TemporaryDirectory(prefix="zip_reading-") as folder:
        run(Path(folder), options)


if __name__ == "__main__":
    main()
