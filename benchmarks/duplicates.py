"""Find planted duplicates among real photographs: recall by what was done to them, and groups of different ones.

    python benchmarks/duplicates.py ../shared/data/VOC2007/JPEGImages

Photographs are changed by ways that take turns, one copy of each, put beside the originals and looked for.
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
from measuring import benchmark_card, record_path
from PIL import Image, ImageEnhance, ImageOps

from dclib.explore.duplicates import describe, find_duplicates
from dclib.machine import cpu_name
from dclib.records import Record, write_records

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


def read(source: str, most: int, rng: random.Random) -> list[bytes]:
    """At most so many photographs of a folder or a tar, at random; drawn ones where neither is named."""
    if source == DRAWN:
        from zip_reading import draw_pictures

        return draw_pictures(0)[:most]
    if Path(source).is_dir():
        paths = sorted(p for p in Path(source).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
        return [path.read_bytes() for path in rng.sample(paths, min(most, len(paths)))]
    with tarfile.open(source) as tar:
        members = [m for m in tar.getmembers() if m.name.lower().endswith((".jpg", ".jpeg"))]
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
    for record in records:
        print(f"{record.name} {dict(record.keys)}: {record.value:.4g} {record.unit} of {record.n}")
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", default=[DRAWN], help="folders of JPEGs or tars of them; default: drawn")
    parser.add_argument("--most", type=int, default=2_000, help="photographs of each")
    parser.add_argument("--copies", type=int, default=40, help="of each way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=record_path("duplicates"))
    options = parser.parse_args()
    began = time.monotonic()
    records = [r for source in options.sources for r in measure(source, options.most, options.copies, options.seed)]
    settings = {"sets": len(options.sources), "most": options.most, "copies": options.copies}
    card = benchmark_card(settings, ("explore",), began, device=cpu_name(1), seed=options.seed)
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
