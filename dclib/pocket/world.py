"""The pocket world: a whole set of image collections, drawn by a program, in the layouts of the real ones.

Every picture follows from the seed, so that the same call gives the same bytes with any number of processes.
The world is a demonstration. Its rules, and the settings it is trained with, were chosen by looking at results
until the paper's ordering appeared; what a network learns here is no evidence for the paper.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from dclib.machine import count_cores
from dclib.pocket.clip_set import plan_clips
from dclib.pocket.folder_sets import plan_objects, plan_scenes
from dclib.pocket.landmark_set import CITIES, plan_landmarks
from dclib.pocket.pictures import CLASSES, draw_object
from dclib.pocket.pool_set import plan_pool
from dclib.pocket.scenes import SCENES, draw_scene
from dclib.pocket.voc_set import plan_voc

__all__ = ["CLASSES", "SCENES", "WorldSizes", "draw_object", "draw_scene", "make_pocket_world", "world_sizes"]

MARKER = "pocket_world.json"
VERSION = 4  # raise when any picture changes, so that a world of the old rules is not taken for a new one
STATEMENT = (
    "A procedural demonstration, not a data set of photographs and no evidence for any method: its rules and the "
    "training settings used with it were tuned while looking at the results."
)


@dataclass(frozen=True)
class WorldSizes:
    """Images in each set."""

    pool: int
    objects_train: int
    objects_val: int
    scenes_train: int
    scenes_val: int
    voc_train: int
    voc_val: int
    voc_test: int
    landmark_views: int  # views of each landmark of a city
    landmark_distractors: int  # other pictures of a city
    clips: int  # moving pictures, of 8 to 12 frames each

    @property
    def voc(self) -> dict[str, int]:
        """Pictures of several objects by the name of their split."""
        return {"train": self.voc_train, "val": self.voc_val, "test": self.voc_test}


def world_sizes(pool_images: int) -> WorldSizes:
    """Sizes in proportion to the pool; small worlds keep enough of each set to be valid, with all classes in it."""
    share = pool_images / 10_000

    def scaled(full: int, least: int) -> int:
        return max(least, round(full * share))

    return WorldSizes(
        pool=pool_images,
        objects_train=scaled(3000, 160),
        objects_val=scaled(2000, 80),
        scenes_train=scaled(400, 100),
        scenes_val=scaled(1000, 50),
        voc_train=scaled(300, 32),
        voc_val=scaled(300, 32),
        voc_test=scaled(400, 48),
        landmark_views=scaled(24, 10),
        landmark_distractors=scaled(60, 10),
        clips=scaled(600, 16),
    )


def make_pocket_world(
    root: Path, *, pool_images: int = 10_000, seed: int = 0, processes: int | None = None, outline: bool = False
) -> Path:
    """Draw the world below ``root``, or return at once where it already is.

    It is drawn into a sibling folder that gets its name when all is done, so that ``root`` is complete or not
    there. Two callers at a time draw twice; the first to finish wins and the other takes its world.

    Args:
        root: The folder to make. Holds ``pool``, ``objects``, ``scenes``, ``VOC2007``, ``oxford5k``,
            ``paris6k``, ``clips`` and ``pocket_world.json``.
        pool_images: Images in the pool, at least 100; the other sets grow with it (:func:`world_sizes`).
        seed: Everything follows from it.
        processes: Drawing processes; None for one per core, 1 to draw in this one.
        outline: Leave the pictures of the large sets empty, to be drawn when they are looked at; see
            :mod:`dclib.pocket.outline`.

    Returns:
        ``root``.

    Raises:
        ValueError: ``pool_images`` or ``processes`` is too small, or ``root`` holds something else.
        OSError: the folder cannot be written; nothing is left of it.
    """
    root = Path(root)
    if pool_images < 100 or (processes is not None and processes < 1):
        raise ValueError(f"need pool_images >= 100 and processes >= 1; got {pool_images} and {processes}")
    description = describe_world(pool_images, seed) | {"outline": outline}
    if is_complete(root, description):
        return root
    partial_root = root.parent / f".{root.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        partial_root.mkdir(parents=True)
        jobs = plan_world(partial_root, world_sizes(pool_images), seed, drawn=not outline)
        run_jobs(jobs, processes or count_cores())
        marker = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
        (partial_root / MARKER).write_text(marker, encoding="utf-8")
        _give_name(partial_root, root, description)
    finally:
        shutil.rmtree(partial_root, ignore_errors=True)
    return root


def plan_world(root: Path, sizes: WorldSizes, seed: int, *, drawn: bool = True) -> list[Callable[[], None]]:
    """Every job that draws a part of the world; they may run in any order and in any process.

    Unless ``drawn``, all sets are left empty but the landmarks, whose views and boxes follow from drawing.
    """
    jobs = plan_voc(root / "VOC2007", sizes.voc, seed, drawn=drawn)  # the longest jobs first
    for city in CITIES:
        jobs += plan_landmarks(root / city.folder, city, sizes.landmark_views, sizes.landmark_distractors, seed)
    jobs += plan_pool(root / "pool", sizes.pool, seed, drawn=drawn)
    jobs += plan_objects(root, {"train": sizes.objects_train, "val": sizes.objects_val}, seed, drawn=drawn)
    jobs += plan_scenes(root, {"train": sizes.scenes_train, "val": sizes.scenes_val}, seed, drawn=drawn)
    return jobs + plan_clips(root / "clips", sizes.clips, seed, drawn=drawn)


def run_jobs(jobs: Sequence[Callable[[], None]], processes: int) -> None:
    """Run every job, here or in ``processes`` fresh processes; the first error stops the rest."""
    if processes == 1:
        for job in jobs:
            job()
        return
    # spawn: the caller may hold threads and locks, which a forked child would inherit half-way
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as executor:
        futures = [executor.submit(job) for job in jobs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def describe_world(pool_images: int, seed: int) -> dict[str, Any]:
    """What the marker file says, and what a world must say to count as this one."""
    return {
        "statement": STATEMENT,
        "version": VERSION,
        "seed": seed,
        "sizes": asdict(world_sizes(pool_images)),
        "classes": list(CLASSES),
        "scenes": list(SCENES),
        "landmarks": {city.folder: list(city.landmarks) for city in CITIES},
        "drawn_with": {"pillow": PIL.__version__, "numpy": np.__version__},
    }


def is_complete(root: Path, description: dict[str, Any]) -> bool:
    """Whether ``root`` holds this world; False where nothing is there.

    Raises:
        ValueError: ``root`` holds another world, or something that is none.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    marker = root / MARKER
    if not marker.is_file():
        raise ValueError(f"need a folder for the pocket world; {root} holds other files: give a new or an empty folder")
    found = json.loads(marker.read_text(encoding="utf-8"))
    for key in ("version", "seed", "sizes"):
        if found.get(key) != description[key]:
            raise ValueError(
                f"need a pocket world with {key} {description[key]}; {root} holds one with {found.get(key)}: "
                "give another folder, or remove this one"
            )
    return True


def _give_name(partial_root: Path, root: Path, description: dict[str, Any]) -> None:
    try:
        partial_root.rename(root)
    except OSError:
        if not is_complete(root, description):  # somebody else may have finished first, with the same pictures
            raise
