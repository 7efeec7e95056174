"""Drawings as lists of filled polygons, so that one drawing can be scaled, tilted, boxed and put anywhere.

A drawing function works in its own units (y points down, the object about two units across) and knows no pixels.
:func:`fit` moves the drawing into a picture, its bounding box follows from the points, and :func:`paint` fills
the polygons. Lines are polygons too, which keeps every later warp (a tilt, a facade seen from the side) exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ImageDraw

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One filled polygon.

    Attributes:
        points: (n, 2) corners, x then y.
        grey: Mean of R, G and B, 0 to 255.
        hue: Offset from the drawing's hue, in [-1, 1]; what 1 means is the painter's choice.
    """

    points: Points
    grey: float
    hue: float = 0.0


@dataclass
class Sketch:
    """A drawing: its parts from back to front."""

    parts: list[Part] = field(default_factory=list)

    def fill(self, points: ArrayLike, grey: float, hue: float = 0.0) -> None:
        """Add one polygon with corners ``points`` (n, 2)."""
        self.parts.append(Part(np.asarray(points, dtype=np.float64).reshape(-1, 2), grey, hue))

    def line(self, points: ArrayLike, width: ArrayLike, grey: float, hue: float = 0.0) -> None:
        """Add a line of constant width through ``points`` (n, 2)."""
        self.fill(thick(points, width), grey, hue)

    def extend(self, parts: Iterable[Part]) -> None:
        """Add the parts of another drawing in front."""
        self.parts.extend(parts)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of all parts."""
        everything = np.concatenate([part.points for part in self.parts])
        (left, top), (right, bottom) = everything.min(axis=0), everything.max(axis=0)
        return float(left), float(top), float(right), float(bottom)

    def map(self, warp: Callable[[Points], Points]) -> Sketch:
        """The same drawing with every corner moved by ``warp``, (n, 2) to (n, 2)."""
        # one call for all parts: a drawing has many small ones
        ends = list(accumulate(len(part.points) for part in self.parts))
        moved = warp(np.concatenate([part.points for part in self.parts]))
        starts = [0, *ends[:-1]]
        return Sketch(
            [Part(moved[a:b], part.grey, part.hue) for part, a, b in zip(self.parts, starts, ends, strict=True)]
        )

    def regrey(self, change: Callable[[float], float]) -> Sketch:
        """The same drawing with every grey level passed through ``change``."""
        return Sketch([Part(part.points, change(part.grey), part.hue) for part in self.parts])


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A uniform number in [low, high)."""
    return low + (high - low) * float(rng.random())


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """The four corners of an upright rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def trapezium(x: float, top: float, bottom: float, half_top: float, half_bottom: float) -> Points:
    """A symmetric shape with level top and bottom edges of the given half widths around ``x``."""
    return np.array([(x - half_top, top), (x + half_top, top), (x + half_bottom, bottom), (x - half_bottom, bottom)])


def ellipse(
    x: float, y: float, rx: float, ry: float | None = None, *, start: float = 0.0, stop: float = 360.0, n: int = 28
) -> Points:
    """Points on an ellipse, clockwise in the picture from ``start`` to ``stop`` degrees (0 right, 90 down)."""
    return np.asarray(_unit_arc(start, stop, n) * (rx, rx if ry is None else ry) + (x, y))


@lru_cache(maxsize=256)
def _unit_arc(start: float, stop: float, n: int) -> Points:
    angles = np.radians(np.linspace(start, stop, n, endpoint=stop - start < 360.0))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def blob(
    rng: np.random.Generator, x: float, y: float, rx: float, ry: float | None = None, *, wobble: float = 0.1
) -> Points:
    """A closed wavy outline around an ellipse; ``wobble`` is the waves' size relative to the radius."""
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    radius = np.ones_like(angles)
    for waves in (2, 3, 5, 7):
        radius += wobble * between(rng, 0.3, 1.0) / math.sqrt(waves) * np.cos(waves * angles + between(rng, 0, 6.283))
    return np.stack(
        [x + rx * radius * np.cos(angles), y + (rx if ry is None else ry) * radius * np.sin(angles)], axis=1
    )


def curve(control: ArrayLike, n: int = 14) -> Points:
    """``n`` points of the Bezier curve with the given control points (m, 2), m from 2 to 4."""
    points = np.asarray(control, dtype=np.float64)
    degree = len(points) - 1
    return np.asarray(_bernstein(degree, n) @ points)


@lru_cache(maxsize=256)
def _bernstein(degree: int, n: int) -> NDArray[np.float64]:
    t = np.linspace(0, 1, n)
    return np.stack([math.comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1)], axis=1)


def thick(points: ArrayLike, width: ArrayLike) -> Points:
    """The outline of a line through ``points`` (n, 2); ``width`` is one number or one for each point.

    A closed line (first point = last point) becomes a ring: even-odd filling leaves its inside open.
    """
    path = np.asarray(points, dtype=np.float64)
    if len(path) == 2 and isinstance(width, float | int):
        return _bar(path[0].tolist(), path[1].tolist(), width)  # by far the most common line
    closed = len(path) > 3 and np.allclose(path[0], path[-1])
    before = np.concatenate([path[-2:-1] if closed else path[:1], path[:-1]])
    after = np.concatenate([path[1:], path[1:2] if closed else path[-1:]])
    normals = _normals(before, path, after)
    half = np.broadcast_to(np.asarray(width, dtype=np.float64) / 2, len(path))[:, None]
    return np.concatenate([path + half * normals, (path - half * normals)[::-1]])


def _bar(start: Sequence[float], stop: Sequence[float], width: float) -> Points:
    across, down = stop[0] - start[0], stop[1] - start[1]
    scale = width / 2 / (math.hypot(across, down) or 1.0)
    dx, dy = -down * scale, across * scale
    return np.array(
        [
            (start[0] + dx, start[1] + dy),
            (stop[0] + dx, stop[1] + dy),
            (stop[0] - dx, stop[1] - dy),
            (start[0] - dx, start[1] - dy),
        ]
    )


def _normals(before: Points, here: Points, after: Points) -> Points:
    """Mitred normals (n, 2): their length keeps the width in a bend, limited to twice at sharp corners."""
    first, second = _unit(here - before), _unit(after - here)
    first = np.where(np.abs(first).sum(axis=1, keepdims=True) == 0, second, first)
    second = np.where(np.abs(second).sum(axis=1, keepdims=True) == 0, first, second)
    middle = _unit(first + second)
    stretch = 1 / np.maximum(np.sum(middle * second, axis=1, keepdims=True), 0.5)
    return np.asarray(np.stack([-middle[:, 1], middle[:, 0]], axis=1) * stretch)


def _unit(vectors: Points) -> Points:
    length = np.hypot(vectors[:, 0], vectors[:, 1])[:, None]
    return np.asarray(vectors / np.where(length == 0, 1, length))


def turn(points: Points, degrees: float, x: float = 0.0, y: float = 0.0) -> Points:
    """``points`` turned clockwise in the picture around (x, y)."""
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    return np.asarray((points - (x, y)) @ np.array([[c, s], [-s, c]]) + (x, y))


def upright(sketch: Sketch, *, tilt: float = 0.0, stretch: float = 1.0, mirror: bool = False) -> Sketch:
    """The drawing mirrored, made ``stretch`` times wider for its height, then tilted clockwise by degrees."""
    across = math.sqrt(stretch) * (-1 if mirror else 1)
    scale = np.array([across, 1 / math.sqrt(stretch)])
    return sketch.map(lambda points: turn(points * scale, tilt))


def fit(sketch: Sketch, side: float, x: float, y: float) -> Sketch:
    """The drawing scaled so that its longer side is ``side``, with the middle of its box at (x, y)."""
    left, top, right, bottom = sketch.box
    scale = side / max(right - left, bottom - top)
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    return sketch.map(lambda points: (points - middle) * scale + (x, y))


def paint(
    draw: ImageDraw.ImageDraw,
    parts: Sequence[Part],
    colour: Callable[[float, float], tuple[int, int, int]],
    scale: float = 1.0,
) -> None:
    """Fill the parts from back to front; ``colour`` turns grey and hue offset into R, G, B."""
    for part in parts:
        draw.polygon((part.points * scale).ravel().tolist(), fill=colour(part.grey, part.hue))
