"""Writes a set with several objects per picture in VOC2007's layout.

``JPEGImages/<id>.jpg``, ``Annotations/<id>.xml``, ``ImageSets/Main/{train,val,trainval,test}.txt`` and, for each
class, ``<class>_<split>.txt`` with 1 (present), -1 (absent) or 0 (present, but only as difficult objects).
Boxes count pixels from 1 and include both ends, as in the challenge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

from dclib.pocket.colour import add_noise, tinter
from dclib.pocket.pictures import (
    BRIGHTNESS,
    CLASSES,
    HUE_SPREAD,
    NOISE,
    OBJECT_SATURATION,
    SUPERSAMPLING,
    draw_clutter,
    draw_ground,
    pose,
    sketch_object,
)
from dclib.pocket.seeds import jpeg_bytes, stream
from dclib.pocket.sketch import Sketch, between, fit, paint

Rng = np.random.Generator
Size = tuple[int, int]

SIZES: tuple[Size, ...] = ((160, 120), (192, 128), (128, 160), (144, 144), (200, 150))
TINY = 18.0  # pixels: an object whose longer side is shorter is difficult
HIDDEN_SHARE = 0.45  # an object of which less is in sight is difficult
LEAST_SHARE = 0.15  # and one of which less is in sight is not drawn


@dataclass(frozen=True)
class Instance:
    """One object in a picture: its box is (xmin, ymin, xmax, ymax) in pixels from 1, ends included."""

    class_name: str
    box: tuple[int, int, int, int]
    truncated: bool
    difficult: bool


def plan_voc(root: Path, splits: dict[str, int], seed: int, *, drawn: bool = True) -> list[Callable[[], None]]:
    """The jobs that write the set: one for train and val, whose lists are joined, and one for test.

    ``splits`` gives the images of ``train``, ``val`` and ``test``. Unless ``drawn``, there is an empty file for each
    picture, and neither boxes nor lists, which follow from drawing.
    """
    ids = voc_ids(splits, seed)
    if not drawn:
        return [partial(write_names, root, [*chain(*ids.values())])]
    return [
        partial(write_splits, root, {"train": ids["train"], "val": ids["val"]}, seed),
        partial(write_splits, root, {"test": ids["test"]}, seed),
    ]


def voc_ids(splits: dict[str, int], seed: int) -> dict[str, list[str]]:
    """The pictures of each split, sorted."""
    total = sum(splits.values())
    numbers = [f"{n + 1:06d}" for n in stream(seed, "voc/numbers").permutation(total)]
    ids: dict[str, list[str]] = {}
    for name, count in splits.items():
        ids[name], numbers = sorted(numbers[:count]), numbers[count:]
    return ids


def write_names(root: Path, ids: Sequence[str]) -> None:
    """An empty file for each picture."""
    (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
    for image_id in ids:
        (root / "JPEGImages" / f"{image_id}.jpg").touch()


def write_splits(root: Path, splits: dict[str, list[str]], seed: int) -> None:
    """Draw and annotate the images of ``splits``, then write their lists; train and val make trainval, too."""
    lists = root / "ImageSets" / "Main"
    for folder in (root / "JPEGImages", root / "Annotations", lists):
        folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Instance]] = {}
    for ids in splits.values():
        for place, image_id in enumerate(ids):
            picture, found[image_id] = draw_numbered(image_id, place, seed)
            (root / "JPEGImages" / f"{image_id}.jpg").write_bytes(jpeg_bytes(picture))
            write_annotation(root / "Annotations" / f"{image_id}.xml", picture.size, found[image_id])
    joined = {"trainval": sorted(found)} if len(splits) > 1 else {}
    for split, ids in {**splits, **joined}.items():
        _write_lists(lists, split, ids, found)


def draw_numbered(image_id: str, place: int, seed: int) -> tuple[Image.Image, list[Instance]]:
    """The picture of that name, which is at that place of its split's list, and what it shows."""
    return draw_group(CLASSES[place % len(CLASSES)], stream(seed, "voc", int(image_id)))


def draw_group(main_class: str, rng: Rng) -> tuple[Image.Image, list[Instance]]:
    """A picture of 1 to 4 objects on one ground; one of ``main_class`` is whole, large enough and in front."""
    size = SIZES[int(rng.integers(len(SIZES)))]
    hue, gain = between(rng, 0, 1), between(rng, *BRIGHTNESS)
    canvas, level = draw_ground(rng, size, hue, gain)
    draw = ImageDraw.Draw(canvas)
    draw_clutter(rng, draw, canvas.size, level, hue, gain)
    others = [_place_other(rng, size) for _ in range(int(rng.choice(4, p=(0.3, 0.3, 0.25, 0.15))))]
    kept = _drop_hidden([*others, (main_class, _place_main(rng, main_class, size))], size)
    for _, sketch in kept:
        own_hue = hue + between(rng, -HUE_SPREAD, HUE_SPREAD) * 0.6
        paint(draw, sketch.parts, tinter(own_hue, HUE_SPREAD * 0.4, OBJECT_SATURATION, gain), SUPERSAMPLING)
    shares = visible_shares([sketch for _, sketch in kept], size)
    instances = [_annotate(name, sketch, share, size) for (name, sketch), share in zip(kept, shares, strict=True)]
    return add_noise(rng, canvas.reduce(SUPERSAMPLING), NOISE, grid=48), instances


def _place_main(rng: Rng, class_name: str, size: Size) -> Sketch:
    side = between(rng, 0.42, 0.7) * min(size)
    x, y = between(rng, side / 2, size[0] - side / 2), between(rng, side / 2, size[1] - side / 2)
    return fit(pose(rng, sketch_object(class_name, rng)), side, x, y)


def _place_other(rng: Rng, size: Size) -> tuple[str, Sketch]:
    """Any class at any size, perhaps tiny, perhaps cut by the frame."""
    name = CLASSES[int(rng.integers(len(CLASSES)))]
    side = between(rng, 0.1, 0.6) * min(size)
    x, y = between(rng, 0, size[0]), between(rng, 0, size[1])
    return name, fit(pose(rng, sketch_object(name, rng)), side, x, y)


def _drop_hidden(objects: Sequence[tuple[str, Sketch]], size: Size) -> list[tuple[str, Sketch]]:
    shares = visible_shares([sketch for _, sketch in objects], size)
    return [entry for entry, share in zip(objects, shares, strict=True) if share >= LEAST_SHARE]


def visible_shares(sketches: Sequence[Sketch], size: Size) -> list[float]:
    """For each drawing (back to front, in pixels): the share of it that is in the frame and not covered."""
    margin = max(size)
    wide = (size[0] + 2 * margin, size[1] + 2 * margin)
    owner = Image.new("L", wide)
    whole = []
    for number, sketch in enumerate(sketches, start=1):
        alone = Image.new("L", wide)
        for image, value in ((alone, 1), (owner, number)):
            draw = ImageDraw.Draw(image)
            for part in sketch.parts:
                draw.polygon((part.points + margin).ravel().tolist(), fill=value)
        whole.append(alone.histogram()[1])
    seen = owner.crop((margin, margin, margin + size[0], margin + size[1])).histogram()
    return [seen[number] / max(1, area) for number, area in enumerate(whole, start=1)]


def _annotate(class_name: str, sketch: Sketch, share: float, size: Size) -> Instance:
    left, top, right, bottom = sketch.box
    return Instance(
        class_name,
        (
            max(1, math.floor(left) + 1),
            max(1, math.floor(top) + 1),
            min(size[0], math.ceil(right)),
            min(size[1], math.ceil(bottom)),
        ),
        truncated=left < 0 or top < 0 or right > size[0] or bottom > size[1],
        difficult=share < HIDDEN_SHARE or max(right - left, bottom - top) < TINY,
    )


def write_annotation(path: Path, size: Size, instances: Sequence[Instance]) -> None:
    """Write the XML of one picture, with VOC's element names."""
    root = ElementTree.Element("annotation")
    _add(root, {"folder": "VOC2007", "filename": f"{path.stem}.jpg"})
    _add(ElementTree.SubElement(root, "source"), {"database": "Pocket world", "image": "drawn"})
    _add(ElementTree.SubElement(root, "size"), {"width": size[0], "height": size[1], "depth": 3})
    _add(root, {"segmented": 0})
    for instance in instances:
        node = ElementTree.SubElement(root, "object")
        _add(node, {"name": instance.class_name, "pose": "Unspecified"})
        _add(node, {"truncated": int(instance.truncated), "difficult": int(instance.difficult)})
        corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), instance.box, strict=True))
        _add(ElementTree.SubElement(node, "bndbox"), corners)
    ElementTree.indent(root, "\t")
    path.write_bytes(ElementTree.tostring(root, encoding="utf-8") + b"\n")


def _add(parent: ElementTree.Element, values: dict[str, str] | dict[str, int]) -> None:
    for name, value in values.items():
        ElementTree.SubElement(parent, name).text = str(value)


def _write_lists(folder: Path, split: str, ids: Sequence[str], found: dict[str, list[Instance]]) -> None:
    (folder / f"{split}.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
    for name in CLASSES:
        lines = [f"{i} {image_label(found[i], name):2d}\n" for i in ids]
        (folder / f"{name}_{split}.txt").write_text("".join(lines), encoding="utf-8")


def image_label(instances: Sequence[Instance], class_name: str) -> int:
    """1 if a plain object of the class is there, 0 if only difficult ones are, -1 if none is."""
    difficult = [instance.difficult for instance in instances if instance.class_name == class_name]
    if not difficult:
        return -1
    return 0 if all(difficult) else 1
