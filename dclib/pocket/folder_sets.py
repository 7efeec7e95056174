"""Writes the balanced sets as class folders: objects in ImageNet's layout, scenes in Places205's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dclib.pocket.pictures import CLASSES, draw_object
from dclib.pocket.scenes import SCENES, draw_scene
from dclib.pocket.seeds import jpeg_bytes, stream

IMAGES_PER_JOB = 250


def plan_objects(root: Path, sizes: dict[str, int], seed: int, *, drawn: bool = True) -> list[Callable[[], None]]:
    """The jobs that write ``objects/<split>/<class>/*.jpg``, ``sizes[split]`` images each; unless ``drawn``, empty."""
    return _plan(root, "objects", sizes, seed, drawn)


def plan_scenes(root: Path, sizes: dict[str, int], seed: int, *, drawn: bool = True) -> list[Callable[[], None]]:
    """The jobs that write ``scenes/<split>/<scene>/*.jpg``, ``sizes[split]`` images each; unless ``drawn``, empty."""
    return _plan(root, "scenes", sizes, seed, drawn)


def _plan(root: Path, kind: str, sizes: dict[str, int], seed: int, drawn: bool) -> list[Callable[[], None]]:
    return [
        partial(write_images, root, kind, split, seed, start, min(start + IMAGES_PER_JOB, count), drawn)
        for split, count in sizes.items()
        for start in range(0, count, IMAGES_PER_JOB)
    ]


def write_images(root: Path, kind: str, split: str, seed: int, start: int, stop: int, drawn: bool = True) -> None:
    """Draw images ``start`` to ``stop`` of a set; classes take turns, so that their sizes differ by one at most."""
    names = CLASSES if kind == "objects" else SCENES
    for index in range(start, stop):
        name = names[index % len(names)]
        path = root / kind / split / name / f"{name}_{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(kind, split, name, index, seed) if drawn else b"")


def image_bytes(kind: str, split: str, name: str, index: int, seed: int) -> bytes:
    """Picture ``index`` of a set, which is one of class ``name``."""
    draw = draw_object if kind == "objects" else draw_scene
    return jpeg_bytes(draw(name, stream(seed, f"{kind}/{split}", index)))
