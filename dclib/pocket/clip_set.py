"""Moving pictures: one thing in each clip that moves, turns and comes closer before a moving ground, as frames in a
folder.

A thing keeps its look within a clip; place, size, angle, the side it shows, the light and the grain change. Thing and
ground are painted once, larger, and each frame is put together of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dclib.pocket.colour import NOISE_GRID, add_noise, tinter
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
from dclib.pocket.sketch import Points, Sketch, between, chance, fit, paint

HIDDEN_BOXES = "hidden_boxes.tsv"  # where the thing is in each frame: for tests and pages, no method reads it
CLIPS_PER_JOB = 25
SIDE = 128  # pixels of a frame
FRAMES = (8, 12)  # in a clip, both included
GROUND_SIDE = 208  # pixels of the painted ground, of which a frame shows a part
SPRITE_SIDE = 104  # pixels of the painted thing's longer side, at least what it has in any frame
THING_SIDE = (0.38, 0.6)  # longer side of the thing in the first frame, in frame sides
CLOSER = (1.0, 1.35)  # how much larger it is in the last
STEP = (3.0, 8.0)  # pixels that it moves between two frames, in the frame
PAN = (0.0, 2.5)  # and the ground
TURN = 16.0  # degrees that it turns from first to last, at most, either way
NARROWED = (0.72, 1.0)  # how wide its last view is for its first: it turns away
LIGHT = (0.82, 1.12)  # gain of the light at either end of a clip
# deviation of the grain that is new in each frame; the rest of a picture's lies on thing and ground and moves with
# them, for grain in large grains hides how a ground moves that has nothing else
FRESH_NOISE = 3.0


@dataclass(frozen=True)
class Motion:
    """How the thing and the ground of a clip of ``n`` frames lie in each.

    Attributes:
        things: (n, 2, 3) from points of the thing, around its middle, to the frame's, pixels: x then y.
        grounds: (n, 2) left and top of the part of the ground that a frame shows, pixels.
        gains: (n,) of the light.
    """

    things: NDArray[np.float64]
    grounds: NDArray[np.float64]
    gains: NDArray[np.float64]


def plan_clips(root: Path, count: int, seed: int, *, drawn: bool = True) -> list[Callable[[], None]]:
    """The jobs that write ``count`` clips below ``root``, ``number/frame.jpg``, empty unless ``drawn``; and boxes."""
    jobs: list[Callable[[], None]] = [
        partial(write_clips, root, seed, start, min(start + CLIPS_PER_JOB, count), drawn)
        for start in range(0, count, CLIPS_PER_JOB)
    ]
    return [partial(write_boxes, root, count, seed), *jobs]


def write_clips(root: Path, seed: int, start: int, stop: int, drawn: bool = True) -> None:
    """Draw clips ``start`` to ``stop``."""
    for index in range(start, stop):
        folder = root / f"{index:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        frames = clip_bytes(seed, index) if drawn else [b""] * frame_count(seed, index)
        for number, content in enumerate(frames):
            (folder / f"{number:02d}.jpg").write_bytes(content)


def write_boxes(root: Path, count: int, seed: int) -> None:
    """Write where the thing is: clip, frame, top, left, height and width in pixels, and its class, a line each."""
    lines = []
    for index in range(count):
        for number, box in enumerate(clip_boxes(seed, index).tolist()):
            lines.append("\t".join([f"{index:04d}", f"{number:02d}", *map(str, box), clip_class(index)]))
    root.mkdir(parents=True, exist_ok=True)
    (root / HIDDEN_BOXES).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def clip_class(index: int) -> str:
    """What moves in a clip: classes take turns."""
    return CLASSES[index % len(CLASSES)]


def frame_count(seed: int, index: int) -> int:
    """How many frames a clip has."""
    return int(stream(seed, "clips/frames", index).integers(FRAMES[0], FRAMES[1] + 1))


def clip_bytes(seed: int, index: int) -> list[bytes]:
    """The frames of a clip as JPEG."""
    return [jpeg_bytes(frame) for frame in draw_clip(seed, index)]


def clip_boxes(seed: int, index: int) -> NDArray[np.int64]:
    """(n, 4) top, left, height and width of the thing in each frame, as far as it is in it, pixels."""
    rng = stream(seed, "clips", index)
    corners = np.concatenate([part.points for part in _thing(rng, clip_class(index)).parts])
    motion = _motion(rng, _extent(corners), frame_count(seed, index))
    boxes = []
    for matrix in motion.things:
        moved = corners @ matrix[:, :2].T + matrix[:, 2]
        left, top = np.clip(np.floor(moved.min(axis=0)), 0, SIDE - 1).astype(int)
        right, bottom = np.clip(np.ceil(moved.max(axis=0)), 1, SIDE).astype(int)
        boxes.append((top, left, bottom - top, right - left))
    return np.array(boxes, dtype=np.int64)


def draw_clip(seed: int, index: int) -> list[Image.Image]:
    """The frames of a clip, RGB."""
    rng = stream(seed, "clips", index)
    thing = _thing(rng, clip_class(index))
    motion = _motion(rng, _extent(np.concatenate([part.points for part in thing.parts])), frame_count(seed, index))
    hue, gain = between(rng, 0, 1), between(rng, *BRIGHTNESS)
    canvas, level = draw_ground(rng, (GROUND_SIDE, GROUND_SIDE), hue, gain)
    for _ in range(2):  # a ground of more than twice a frame's area has more lying on it
        draw_clutter(rng, ImageDraw.Draw(canvas), (canvas.width, canvas.height), level, hue, gain)
    lasting = math.sqrt(NOISE**2 - FRESH_NOISE**2)
    ground = add_noise(rng, canvas.reduce(SUPERSAMPLING), lasting, round(NOISE_GRID * GROUND_SIDE / SIDE))
    side = (SPRITE_SIDE + 8) * SUPERSAMPLING  # with a margin for lines at its edge
    large = Image.new("RGBA", (side, side))
    middled = thing.map(lambda points: points * SUPERSAMPLING + side / 2)
    thing_hue = hue + between(rng, -HUE_SPREAD, HUE_SPREAD) * 0.6
    paint(ImageDraw.Draw(large), middled.parts, tinter(thing_hue, HUE_SPREAD * 0.4, OBJECT_SATURATION, gain))
    sprite = large.reduce(SUPERSAMPLING)
    shape = sprite.getchannel("A")
    sprite = add_noise(rng, sprite.convert("RGB"), lasting, round(NOISE_GRID * sprite.width / SIDE))
    sprite.putalpha(shape)
    return [
        add_noise(rng, _compose(ground, sprite, *parts), FRESH_NOISE)
        for parts in zip(motion.things, motion.grounds, motion.gains, strict=True)
    ]


def _thing(rng: np.random.Generator, class_name: str) -> Sketch:
    """The drawing of what moves, its longer side SPRITE_SIDE, around the origin."""
    return fit(pose(rng, sketch_object(class_name, rng)), SPRITE_SIDE, 0.0, 0.0)


def _extent(corners: Points) -> NDArray[np.float64]:
    """Half of a thing's width and height."""
    return np.asarray(np.abs(corners).max(axis=0))


def _motion(rng: np.random.Generator, half: NDArray[np.float64], n: int) -> Motion:
    """A course through the frame, with its bend, and all else that changes along it."""
    along = np.linspace(0, 1, n)
    first = between(rng, *THING_SIDE) * SIDE / SPRITE_SIDE
    scale = first * between(rng, *CLOSER) ** along
    scale = np.minimum(scale, 1.0)
    turns = np.radians(np.linspace(-1, 1, n) * between(rng, -TURN, TURN) / 2)
    narrow = np.linspace(1, between(rng, *NARROWED), n)
    if chance(rng, 0.5):
        narrow = narrow[::-1]
    length = between(rng, *STEP) * (n - 1)
    angle = between(rng, 0, 2 * math.pi)
    course = (along[:, None] - 0.5) * length * np.array([math.cos(angle), math.sin(angle)])
    bend = between(rng, -0.12, 0.12) * length * np.sin(math.pi * along)
    course += bend[:, None] * np.array([-math.sin(angle), math.cos(angle)])
    room = SIDE / 2 - np.minimum(scale[-1] * half, SIDE / 2 - 2)  # the thing may leave by an edge, not its middle
    course *= min(1.0, float((np.maximum(room, 0.3 * SIDE) / np.maximum(np.abs(course).max(axis=0), 1e-9)).min()))
    spare = np.maximum(room - np.abs(course).max(axis=0), 0)
    course += SIDE / 2 + spare * np.array([between(rng, -1, 1), between(rng, -1, 1)])
    cosines, sines = np.cos(turns) * scale, np.sin(turns) * scale
    rows = [[cosines * narrow, -sines, course[:, 0]], [sines * narrow, cosines, course[:, 1]]]
    pan, way = between(rng, *PAN) * (n - 1), between(rng, 0, 2 * math.pi)
    slack = (GROUND_SIDE - SIDE) / 2
    grounds = slack + (along[:, None] - 0.5) * pan * np.array([math.cos(way), math.sin(way)])
    return Motion(
        np.moveaxis(np.array(rows), -1, 0), grounds, np.linspace(between(rng, *LIGHT), between(rng, *LIGHT), n)
    )


def _compose(
    ground: Image.Image, sprite: Image.Image, thing: NDArray[np.float64], corner: NDArray[np.float64], gain: float
) -> Image.Image:
    """One frame without grain."""
    size, bilinear = (SIDE, SIDE), Image.Resampling.BILINEAR
    frame = ground.transform(size, Image.Transform.AFFINE, (1, 0, float(corner[0]), 0, 1, float(corner[1])), bilinear)
    back = np.linalg.inv(thing[:, :2])  # from the frame to the thing, as Pillow wants it
    offset = sprite.width / 2 - back @ thing[:, 2]
    there = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    moved = sprite.transform(size, Image.Transform.AFFINE, tuple(map(float, there)), bilinear)
    frame.paste(moved, (0, 0), moved)
    return frame.point([min(255, round(level * gain)) for level in range(256)] * 3)
