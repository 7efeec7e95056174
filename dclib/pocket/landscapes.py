"""Scenes in the open country: beach, desert, field, forest, mountain.

A scene is drawn in the unit square (x to the right, y down) and some way beyond it. ``levels`` are the grey
levels of its materials: 0 the sky, 1 the main ground, 2 and 3 further grounds, 4 and 5 things and details.
"""

from __future__ import annotations

import numpy as np

from dclib.pocket.sketch import (
    Points,
    Sketch,
    between,
    blob,
    chance,
    curve,
    ellipse,
    rectangle,
    trapezium,
    turn,
)

Rng = np.random.Generator
Levels = list[float]

FAR = 0.6  # scenes reach this far beyond the unit square, so that a tilted view has no empty corner


def add_band(sketch: Sketch, top: float, bottom: float, grey: float, hue: float) -> None:
    sketch.fill(rectangle(-FAR, top, 1 + FAR, bottom), grey, hue)


def ridge(rng: Rng, base: float, height: float, knots: int, bottom: float = 1 + FAR) -> Points:
    x = np.linspace(-FAR, 1 + FAR, knots)
    y = base - height * rng.random(knots)
    return np.concatenate([np.stack([x, y], axis=1), [(1 + FAR, bottom), (-FAR, bottom)]])


def waves(rng: Rng, base: float, height: float, bottom: float = 1 + FAR) -> Points:
    x = np.linspace(-FAR, 1 + FAR, 40)
    y = base + height * np.sin(between(rng, 2, 5) * x + between(rng, 0, 6.28))
    return np.concatenate([np.stack([x, y], axis=1), [(1 + FAR, bottom), (-FAR, bottom)]])


def add_sky(rng: Rng, sketch: Sketch, levels: Levels, *, sun: float = 0.6) -> float:
    horizon = between(rng, 0.28, 0.58)
    add_band(sketch, -FAR, 1 + FAR, levels[0], -1)
    if chance(rng, sun):
        grey = levels[0] + (45 if levels[0] < 205 else -40)
        sketch.fill(ellipse(between(rng, 0.1, 0.9), between(rng, 0.0, horizon), between(rng, 0.05, 0.1)), grey, 1)
    for _ in range(int(rng.integers(0, 4))):
        cloud_x, cloud_y = between(rng, 0, 1), between(rng, -0.1, horizon - 0.1)
        for i in range(3):
            radius = between(rng, 0.04, 0.09)
            sketch.fill(ellipse(cloud_x + 0.07 * i, cloud_y, radius * 1.3, radius * 0.7, n=18), levels[0] + 22, -1)
    return horizon


def draw_beach(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    horizon = add_sky(rng, sketch, levels)
    add_band(sketch, horizon, 1 + FAR, levels[1], -0.6)
    shore = between(rng, horizon + 0.16, 0.8)
    for y in np.arange(horizon + 0.03, shore, 0.045):
        for x in rng.uniform(-0.3, 1.3, 7):
            sketch.line(curve([(x, y), (x + 0.05, y - 0.02), (x + 0.1, y)], 5), 0.009, levels[2], -0.6)
    slant = between(rng, -0.25, 0.25)
    edge = curve([(-FAR, shore - slant), (0.3, shore + 0.12), (0.7, shore - 0.1), (1 + FAR, shore + slant)], 20)
    floor = [(1 + FAR, 1 + FAR), (-FAR, 1 + FAR)]
    sketch.fill(np.concatenate([edge - (0, 0.025), floor]), levels[2], 0)
    sketch.fill(np.concatenate([edge, floor]), levels[3], 0.8)
    for _ in range(70):
        x, y = between(rng, -0.2, 1.2), between(rng, shore + 0.03, 1.2)
        sketch.fill(ellipse(x, y, 0.007, n=6), levels[3] - 25, 0.8)
    for _ in range(int(rng.integers(1, 4))):
        _parasol(rng, sketch, levels, between(rng, 0.0, 1.0), between(rng, shore + 0.12, 1.0))


def _parasol(rng: Rng, sketch: Sketch, levels: Levels, x: float, y: float) -> None:
    size, lean = between(rng, 0.08, 0.15), between(rng, -20, 20)
    sketch.line(turn(np.array([(x, y), (x, y - 1.4 * size)]), lean, x, y), 0.012, levels[4])
    roof = ellipse(x, y - 1.2 * size, size, size * 0.6, start=180, stop=359, n=13)
    for i in range(4):
        panel = np.concatenate([roof[i * 3 : i * 3 + 4], [(x, y - 1.2 * size)]])
        sketch.fill(turn(panel, lean, x, y), levels[4] if i % 2 else levels[5], 1)
    sketch.fill(rectangle(x + 0.02, y - 0.01, x + 0.16, y + 0.03), levels[5], -0.5)


def draw_desert(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    horizon = add_sky(rng, sketch, levels, sun=0.8)
    for i in range(int(rng.integers(3, 6))):
        base = horizon + 0.15 * i
        crest = waves(rng, base, between(rng, 0.03, 0.09))
        grey = levels[1 + i % 2]
        sketch.fill(crest, grey, 0.3 * i)
        for j in range(int(rng.integers(2, 5))):
            sketch.line(crest[4:36] + (0, 0.03 + 0.025 * j), 0.006, grey + (22 if grey < 130 else -22), 0.3 * i)
    for _ in range(int(rng.integers(2, 6))):
        _cactus(rng, sketch, levels[3], between(rng, 0, 1), between(rng, horizon + 0.15, 1.0))


def _cactus(rng: Rng, sketch: Sketch, grey: float, x: float, y: float) -> None:
    tall = between(rng, 0.12, 0.3)
    width = tall * 0.2
    sketch.line([(x, y), (x, y - tall)], width, grey, -0.8)
    sketch.fill(ellipse(x, y - tall, width / 2, n=12), grey, -0.8)
    for side in (-1, 1):
        if chance(rng, 0.8):
            joint = y - tall * between(rng, 0.3, 0.6)
            arm = [(x, joint), (x + side * tall * 0.3, joint), (x + side * tall * 0.3, joint - tall * 0.35)]
            sketch.line(arm, width * 0.7, grey, -0.8)


def draw_field(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    horizon = add_sky(rng, sketch, levels)
    sketch.fill(ridge(rng, horizon, 0.06, 14), levels[2], -0.4)
    add_band(sketch, horizon + 0.02, 1 + FAR, levels[1], 0.4)
    vanish = between(rng, 0.1, 0.9)
    rows = int(rng.integers(7, 13))
    for x in np.linspace(-2.2, 3.2, 2 * rows):
        half = 1.6 / rows * 0.45
        sketch.fill(
            [(vanish - 0.004, horizon + 0.02), (vanish + 0.004, horizon + 0.02), (x + half, 1.4), (x - half, 1.4)],
            levels[3],
            0.7,
        )
    for _ in range(int(rng.integers(2, 7))):
        y = between(rng, horizon + 0.08, 0.95)
        size = 0.14 * (y - horizon + 0.1)
        x = between(rng, 0, 1)
        sketch.fill(ellipse(x, y, size * 1.2, size, n=18), levels[4], 0.9)
        sketch.line(ellipse(x, y, size * 0.6, size * 0.5, start=0, stop=300, n=12), size * 0.14, levels[5], 0.9)


def draw_forest(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    add_band(sketch, -FAR, 1 + FAR, levels[0], -0.6)
    ground = between(rng, 0.7, 0.92)
    sketch.fill(waves(rng, ground, 0.03), levels[1], 0.4)
    for depth in range(3):
        count = int(rng.integers(5, 8)) - depth
        for x in np.linspace(-0.3, 1.3, count) + rng.uniform(-0.08, 0.08, count):
            width = (0.025, 0.045, 0.08)[depth] * between(rng, 0.7, 1.3)
            _trunk(rng, sketch, x, ground + 0.06 * depth, width, levels[2 + depth])
    for _ in range(int(rng.integers(12, 22))):
        sketch.fill(
            blob(rng, between(rng, -0.2, 1.2), between(rng, -0.25, 0.16), between(rng, 0.07, 0.16), wobble=0.1),
            levels[5] + between(rng, -18, 18),
            -0.2,
        )
    for _ in range(int(rng.integers(4, 10))):
        x, y = between(rng, 0, 1), between(rng, ground, 1.0)
        for lean in (-0.05, -0.02, 0.02, 0.05):
            sketch.line(curve([(x, y), (x + lean, y - 0.06), (x + 2 * lean, y - 0.05)], 5), 0.012, levels[5], -0.2)


def _trunk(rng: Rng, sketch: Sketch, x: float, foot: float, width: float, grey: float) -> None:
    top = x + between(rng, -0.08, 0.08)
    sketch.fill(
        [
            (x - width, foot),
            (x - width / 2, foot - 0.1),
            (top - width / 2.5, -0.4),
            (top + width / 2.5, -0.4),
            (x + width / 2, foot - 0.1),
            (x + width, foot),
        ],
        grey,
        0.8,
    )
    y = between(rng, 0.15, 0.5)
    side = 1 if chance(rng, 0.5) else -1
    sketch.line(
        [(x + (top - x) * 0.5, y), (x + side * between(rng, 0.08, 0.2), y - 0.14)],
        [width * 0.6, width * 0.3],
        grey,
        0.8,
    )


def draw_mountain(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    horizon = add_sky(rng, sketch, levels) + 0.15
    for depth in range(int(rng.integers(2, 4))):
        count = int(rng.integers(3, 5))
        for x in rng.permutation(np.linspace(-0.2, 1.2, count)):
            _peak(rng, sketch, float(x) + between(rng, -0.1, 0.1), horizon + 0.1 * depth, levels[1 + depth % 2])
    lake = between(rng, 0.75, 0.95)
    add_band(sketch, lake, 1 + FAR, levels[4], -0.8)
    for x in np.arange(-0.3, 1.3, between(rng, 0.07, 0.14)):
        tall = between(rng, 0.08, 0.2)
        for i in range(3):
            sketch.fill(
                trapezium(
                    x, lake - tall * (1 - 0.2 * i), lake - tall * (0.5 - 0.25 * i), 0.002, tall * (0.12 + 0.07 * i)
                ),
                levels[5],
                -0.2,
            )


def _peak(rng: Rng, sketch: Sketch, x: float, foot: float, grey: float) -> None:
    tall, half = between(rng, 0.28, 0.5), between(rng, 0.25, 0.4)
    top = (x, foot - tall)
    sketch.fill([top, (x + half, foot + 0.3), (x - half, foot + 0.3)], grey, 0.4)
    shade = grey + (20 if grey < 130 else -20)
    sketch.fill(
        [
            top,
            (x + half, foot + 0.3),
            (x + 0.1 * half, foot + 0.3),
            (x + between(rng, 0, 0.2) * half, foot - 0.4 * tall),
        ],
        shade,
        0.4,
    )
    cap = between(rng, 0.25, 0.4)
    slope = half * cap * tall / (tall + 0.3)
    zigzag = [
        (x + slope, foot - tall * (1 - cap)),
        (x + slope * 0.4, foot - tall * (1 - cap * 0.7)),
        (x, foot - tall * (1 - cap * 1.2)),
        (x - slope * 0.4, foot - tall * (1 - cap * 0.75)),
        (x - slope, foot - tall * (1 - cap)),
    ]
    sketch.fill([top, *zigzag], 240 if grey < 185 else 80, -1)
