"""Writes the balanced sets as class folders: objects in ImageNet's layout, scenes in Places205's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dclib.pocket.pictures import CLASSES, draw_object
from dclib.pocket.scenes import SCENES, draw_scene
from dclib.pocket.seeds import jpeg_bytes, stream

IMAGES_PER_JOB = 250


def plan_objects(root: Path, sizes: dict[str, int], seed: int) -> list[Callable[[], None]]:
    """The jobs that write ``objects/<split>/<class>/*.jpg`` with ``sizes[split]`` images each."""
    return _plan(root, "objects", sizes, seed)


def plan_scenes(root: Path, sizes: dict[str, int], seed: int) -> list[Callable[[], None]]:
    """The jobs that write ``scenes/<split>/<scene>/*.jpg`` with ``sizes[split]`` images each."""
    return _plan(root, "scenes", sizes, seed)


def _plan(root: Path, kind: str, sizes: dict[str, int], seed: int) -> list[Callable[[], None]]:
    return [
        partial(write_images, root, kind, split, seed, start, min(start + IMAGES_PER_JOB, count))
        for split, count in sizes.items()
        for start in range(0, count, IMAGES_PER_JOB)
    ]


def write_images(root: Path, kind: str, split: str, seed: int, start: int, stop: int) -> None:
    """Draw images ``start`` to ``stop`` of a set; classes take turns, so that their sizes differ by one at most."""
    names, draw = (CLASSES, draw_object) if kind == "objects" else (SCENES, draw_scene)
    for index in range(start, stop):
        name = names[index % len(names)]
        path = root / kind / split / name / f"{name}_{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg_bytes(draw(name, stream(seed, f"{kind}/{split}", index))))
