"""Find planted duplicates among real photographs: recall by what was done to them, and groups of different ones.

    python benchmarks/duplicates.py ../shared/data/VOC2007/JPEGImages --crowd ../shared/data/cifar10/train.tar

Photographs are changed by ways that take turns, one copy of each, put beside the originals and looked for. Of a crowd,
every picture and one changed copy of it are looked through at once: CPU seconds, and memory above the descriptors.
The record goes to ``results/benchmarks/duplicates.json``. A group of several originals may be real duplicates: look.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measuring import benchmark_card, forget_peak, record_path, resident
from PIL import Image, ImageEnhance, ImageOps

from dclib.explore.duplicates import describe, find_duplicates
from dclib.machine import cpu_name
from dclib.records import Record, write_records

JPEGS, PICTURES = (".jpg", ".jpeg"), (".jpg", ".jpeg", ".png")
CROWD_WAYS = 5  # the first so many of WAYS
DRAWN = "drawn"  # where no folder or archive is named


def box(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    w, h = image.size
    return image.crop((round(left * w), round(top * h), round(w - right * w), round(h - bottom * h)))


def off_centre(image: Image.Image, rng: random.Random, share: float) -> Image.Image:
    left, top = rng.uniform(0, share), rng.uniform(0, share)
    return box(image, left, top, share - left, share - top)


def one_side(image: Image.Image, rng: random.Random) -> Image.Image:
    sides = [0.0, 0.0, 0.0, 0.05]
    rng.shuffle(sides)
    return box(image, *sides)


def resized(image: Image.Image, factor: float) -> Image.Image:
    w, h = image.size
    return image.resize((max(8, round(w * factor)), max(8, round(h * factor))), Image.Resampling.LANCZOS)


WAYS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "re-encoded at quality 30 to 90": lambda image, rng: image,
    "resized to 25 to 200 %": lambda image, rng: resized(image, rng.uniform(0.25, 2)),
    "cropped 5 % at each side": lambda image, rng: box(image, 0.05, 0.05, 0.05, 0.05),
    "cropped 5 % at one side": one_side,
    "cropped 5 % off-centre": lambda image, rng: off_centre(image, rng, 0.05),
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "cropped 10 % off-centre": lambda image, rng: off_centre(image, rng, 0.1),
    "cropped 20 % off-centre": lambda image, rng: off_centre(image, rng, 0.2),
    "turned by 90 degrees": lambda image, rng: image.transpose(Image.Transpose.ROTATE_90),
    "brightness 70 or 130 %": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.choice([0.7, 1.3])),
    "grey": lambda image, rng: ImageOps.grayscale(image),
    "half as large, 5 % off, brighter": lambda image, rng: ImageEnhance.Brightness(
        resized(off_centre(image, rng, 0.05), 0.5)
    ).enhance(1.15),
}


def read(source: str, most: int, rng: random.Random, suffixes: tuple[str, ...] = JPEGS) -> list[bytes]:
    """At most so many photographs of a folder or a tar, at random; drawn ones where neither is named."""
    if source == DRAWN:
        from zip_reading import draw_pictures

        return draw_pictures(0)[:most]
    if Path(source).is_dir():
        paths = sorted(p for p in Path(source).rglob("*") if p.suffix.lower() in suffixes)
        return [path.read_bytes() for path in rng.sample(paths, min(most, len(paths)))]
    with tarfile.open(source) as tar:
        members = [m for m in tar.getmembers() if m.name.lower().endswith(suffixes)]
        files = [tar.extractfile(m) for m in rng.sample(members, min(most, len(members)))]
        return [file.read() for file in files if file is not None]


def described(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    image.draft("RGB", (128, 128))
    return describe(image.convert("RGB"))


def measure(source: str, most: int, copies: int, seed: int) -> list[Record]:
    rng = random.Random(seed)
    originals = read(source, most, rng)
    files, origin, way_of = list(originals), list(range(len(originals))), [""] * len(originals)
    for number in range(copies * len(WAYS)):
        i, way = number % len(originals), list(WAYS)[number % len(WAYS)]
        buffer = io.BytesIO()
        quality = rng.randint(30, 90) if way.startswith("re-encoded") else 90
        WAYS[way](Image.open(io.BytesIO(originals[i])).convert("RGB"), rng).save(buffer, "jpeg", quality=quality)
        files.append(buffer.getvalue())
        origin.append(i)
        way_of.append(way)
    descriptors = np.stack([described(file) for file in files])
    start = time.process_time()
    found = find_duplicates(descriptors, [hashlib.sha256(file).hexdigest() for file in files])
    keys: dict[str, str | int] = {"set": "/".join(Path(source).parts[-2:])}
    seconds, n = time.process_time() - start, len(files)
    records = [Record(name="duplicates_cpu_seconds", value=seconds, unit="s", n=n, keys=keys)]
    for way in WAYS:
        planted = [i for i, name in enumerate(way_of) if name == way]
        right = [found.group[i] >= 0 and found.group[i] == found.group[origin[i]] for i in planted]
        own = {**keys, "way": way}
        records.append(Record(name="duplicates_recall", value=float(np.mean(right)), unit="1", n=len(right), keys=own))
    groups = [{origin[i] for i in np.nonzero(found.group == g)[0]} for g in range(int(found.group.max()) + 1)]
    pure = float(np.mean([len(group) == 1 for group in groups])) if groups else 1.0
    records.append(Record(name="duplicates_pure_groups", value=pure, unit="1", n=max(len(groups), 1), keys=keys))
    return records


def crowd(source: str, most: int, seed: int) -> list[Record]:
    """Of pictures and one changed copy of each: what looking through all takes, and recall by what was done to them."""
    rng, ways = random.Random(seed), list(WAYS)[:CROWD_WAYS]
    originals = read(source, most, rng, PICTURES)
    copies = []
    for number, original in enumerate(originals):
        buffer, way = io.BytesIO(), ways[number % len(ways)]
        WAYS[way](Image.open(io.BytesIO(original)).convert("RGB"), rng).save(
            buffer, "jpeg", quality=rng.randint(30, 90)
        )
        copies.append(described(buffer.getvalue()))
    descriptors = np.stack([*map(described, originals), *copies])
    n, half = len(descriptors), len(originals)
    del originals, copies
    forget_peak()
    before, start = resident("VmRSS"), time.process_time()
    found = find_duplicates(descriptors, [str(i) for i in range(n)])
    values = [("cpu_seconds", time.process_time() - start, "s"), ("memory", resident("VmHWM") - before, "MB")]
    keys: dict[str, str | int] = {"set": f"{'/'.join(Path(source).parts[-2:])}, all"}
    records = [
        Record(name=f"duplicates_{name}", value=value, unit=unit, n=n, keys=keys) for name, value, unit in values
    ]
    right = (found.group[half:] >= 0) & (found.group[half:] == found.group[:half])
    for place, way in enumerate(ways):
        own, of_way = {**keys, "way": way}, right[place :: len(ways)]
        value = float(of_way.mean())
        records.append(Record(name="duplicates_recall", value=value, unit="1", n=len(of_way), keys=own))
    groups, members = np.unique(np.stack([found.group, np.arange(n) % half], 1)[found.group >= 0], axis=0).T
    pure = float(np.mean(np.unique(groups, return_counts=True)[1] == 1))
    records.append(Record(name="duplicates_pure_groups", value=pure, unit="1", n=len(np.unique(groups)), keys=keys))
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", default=[DRAWN], help="folders of JPEGs or tars of them; default: drawn")
    parser.add_argument("--most", type=int, default=2_000, help="photographs of each")
    parser.add_argument("--copies", type=int, default=40, help="of each way")
    parser.add_argument(
        "--crowd", nargs="*", default=[], help="folders or tars of pictures, all looked through at once"
    )
    parser.add_argument("--crowd-most", type=int, default=50_000, help="of them, beside which as many copies are put")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=record_path("duplicates"))
    options = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)
    records = [r for source in options.sources for r in measure(source, options.most, options.copies, options.seed)]
    for source in options.crowd:
        records += crowd(source, options.crowd_most, options.seed)
    for record in records:
        print(f"{record.name} {dict(record.keys)}: {record.value:.4g} {record.unit} of {record.n}")
    settings = {
        "sets": len(options.sources),
        "most": options.most,
        "copies": options.copies,
        "crowd": options.crowd_most,
    }
    card = benchmark_card(settings, ("explore",), began, device=cpu_name(1), seed=options.seed)
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
