"""Photographs to batches of random crops on one core: ours, beside opening an archive per image and torchvision.

    python benchmarks/pipeline.py

Generates JPEGs of two sizes in zip archives laid out as YFCC100M's, a thousand in each, and reads the same ones at
random in several ways, in one process with one thread, turn by turn. All ways end with normalised float batches of
224 pixels. At 500 x 375 pixels no crop is small enough for JPEG to decode at a reduced scale; at 1600 x 1200 most
are. Medians and extremes over repeats, and where our time goes, are written to ``results/benchmarks/pipeline.json``.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from measuring import benchmark_card, record_path, side_by_side, summary
from PIL import Image
from torch import Tensor
from torchvision import transforms
from zip_reading import read_by_zipfile

from dclib.config import DataConfig
from dclib.data.decoding import open_encoded
from dclib.data.images import ImageSet
from dclib.data.photo_crops import crop_photo, reduction
from dclib.data.pixels import load_pixels
from dclib.data.transforms import draw_crop
from dclib.data.yfcc import open_yfcc
from dclib.data.zip_index import archive_path
from dclib.models.sobel import IMAGENET_MEAN, IMAGENET_STD, normalise
from dclib.randomness import generator
from dclib.records import Record, write_records

SIDES = ((500, 375), (1600, 1200))  # of the photographs, pixels
SIZE, AREA = 224, 0.08  # of the crops: side, and the smallest share of the image
SCALES = ((100, 60), (25, 30), (6, 15), (2, 7), (1, 4))  # cells of noise, in pixels, and their strength in grey levels
QUALITY = 85
OURS, THEIRS, INDEXED = "ours", "an archive opened per image, torchvision", "the index, torchvision"
STAGES = ("read", "head and box", "decode", "cut and resize", "batch")
ROOMS = ("data/images", "data/photo_crops", "data/pixels", "data/streaming", "data/transforms", "data/yfcc")

Batches = Iterator[Tensor]


def draw_picture(width: int, height: int, rng: np.random.Generator) -> bytes:
    """A JPEG of noise that is weaker the finer it is: about as hard to code as a photograph."""
    total = np.full((height, width, 3), 128.0)
    for cell, strength in SCALES:
        noise = rng.normal(0, strength, (3, -(-height // cell), -(-width // cell))).astype(np.float32)
        grown = [Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC) for one in noise]
        total += np.stack([np.asarray(one) for one in grown], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(buffer, "jpeg", quality=QUALITY)
    return buffer.getvalue()


def write_archives(root: Path, sides: tuple[int, int], options: argparse.Namespace) -> ImageSet:
    """Archives 00/000.zip and on, with photos from 000.jpg on, as a set whose index has been built.

    A photo is one of a few pictures, with its number behind the end, which decoders pass over.
    """
    rng = np.random.default_rng(options.seed)
    pictures = [draw_picture(*sides, rng) for _ in range(options.pictures)]
    for archive in range(options.archives):
        path = archive_path(root, archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            for member in range(options.per_archive):
                picture = pictures[(archive + member) % len(pictures)]
                file.writestr(f"{member:03d}.jpg", picture + f"{archive:05d}{member:03d}".encode())
    return open_yfcc(root)


# --- the ways, from row numbers to batches (b, 3, 224, 224)


def read_ours(images: ImageSet, rows: Sequence[Tensor]) -> Batches:
    """As training reads a set that does not fit decoded, and as the network's stem normalises it."""
    pixels = load_pixels(images, DataConfig(memory_gb=0.0), SIZE)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    for batch in pixels.crop_batches(rows, AREA, list(range(len(rows)))):
        yield normalise(batch, mean, std)


def read_theirs(images: ImageSet, rows: Sequence[Tensor], read: Callable[[str], bytes]) -> Batches:
    """As torchvision's reference training and most code based on it: an image by itself, all of it in Pillow."""
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE, (AREA, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    for batch in rows:
        photos = (read(images.ids[row]) for row in batch.tolist())
        yield torch.stack([transform(Image.open(io.BytesIO(photo)).convert("RGB")) for photo in photos])


def ways_of(root: Path, images: ImageSet) -> dict[str, Callable[[Sequence[Tensor]], Batches]]:
    return {
        OURS: lambda rows: read_ours(images, rows),
        THEIRS: lambda rows: read_theirs(images, rows, lambda word: read_by_zipfile(root, word)),
        INDEXED: lambda rows: read_theirs(images, rows, images.reader.read),
    }


# --- measuring


def seconds_of(batches: Batches) -> float:
    """Until all have come. One that is empty, or no number, would be a mistake of the way."""
    start = time.perf_counter()
    for batch in batches:
        if not math.isfinite(float(batch.sum())) or batch.shape[1:] != (3, SIZE, SIZE):
            raise AssertionError(f"need finite batches (b, 3, {SIZE}, {SIZE}); got {tuple(batch.shape)}")
    return time.perf_counter() - start


def stage_seconds(images: ImageSet, rows: Sequence[Tensor], whole: float) -> dict[str, float]:
    """Where our ``whole`` seconds go: each stage alone, and in the last what is left over."""
    places = [
        (images.ids[row], generator(i, place)) for i, b in enumerate(rows) for place, row in enumerate(b.tolist())
    ]
    marks = [time.perf_counter()]
    photos = [images.reader.read(word) for word, _ in places]
    marks.append(time.perf_counter())
    heads, scales = [open_encoded(photo) for photo in photos], []
    for head, (_, draws) in zip(heads, places, strict=True):
        scales.append(reduction(draw_crop(head.height, head.width, AREA, draws), SIZE))
    marks.append(time.perf_counter())
    for head, scale in zip(heads, scales, strict=True):
        head.draft("RGB", (head.width // scale, head.height // scale))
        head.load()
    marks.append(time.perf_counter())
    for photo, (_, draws) in zip(photos, places, strict=True):
        crop_photo(photo, AREA, SIZE, draws)
    marks.append(time.perf_counter())
    read, box_, decode, all_three = (after - before for before, after in zip(marks, marks[1:], strict=False))
    found = (read, box_, decode, max(0.0, all_three - box_ - decode))
    return dict(zip(STAGES, (*found, max(0.0, whole - sum(found))), strict=True))


def measure(root: Path, sides: tuple[int, int], options: argparse.Namespace) -> list[Record]:
    """All ways on photographs of one size, ``options.repeats`` times in turn on the same rows."""
    images = write_archives(root, sides, options)
    ways, rng = ways_of(root, images), np.random.default_rng(options.seed)
    rates, stages = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with torch.random.fork_rng():
        for repeat in range(options.repeats + 1):  # the first warms up and is not counted
            n = options.reads if repeat else min(options.reads, options.batch)
            rows = list(torch.from_numpy(rng.integers(len(images), size=n)).split(options.batch))
            seconds = {way: seconds_of(read(rows)) for way, read in ways.items()}
            if repeat:
                for way, taken in seconds.items():
                    rates[way].append(n / taken)
                for stage, taken in stage_seconds(images, rows, seconds[OURS]).items():
                    stages[stage].append(1000 * taken / n)
    photo, records = f"{sides[0]} x {sides[1]}", list[Record]()
    work = f"photographs of {photo} pixels to crops of {SIZE}"
    records += side_by_side("pipeline", work, rates, "images/s", ours=OURS, more_is_better=True)
    for stage, values in stages.items():
        records += summary("pipeline_stage_time", values, "ms", options.reads, stage=stage, photo=photo)
    size = float(images.reader.sizes(images.ids).mean())
    return [*records, Record(name="pipeline_photo_bytes", value=size, unit="B", n=len(images), keys={"photo": photo})]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=int, default=3)
    parser.add_argument("--per-archive", type=int, default=1_000, help="photos in each; YFCC100M's hold up to 1,000")
    parser.add_argument("--pictures", type=int, default=24, help="different ones among the photos")
    parser.add_argument("--reads", type=int, default=512, help="photos read at random in each repeat")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=record_path("pipeline"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, records = time.monotonic(), []
    for sides in SIDES:
        with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
            records += measure(Path(folder), sides, options)
    names = ("archives", "per_archive", "pictures", "reads", "batch", "repeats")
    settings = {**{name: getattr(options, name) for name in names}, "quality": QUALITY}
    card = benchmark_card(settings, ROOMS, began, device="cpu (1 thread)", seed=options.seed)
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
