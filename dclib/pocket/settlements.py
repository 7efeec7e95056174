"""Scenes that people built: harbour, kitchen, library, street, village. Units and ``levels`` as in ``landscapes``."""

from __future__ import annotations

import numpy as np

from dclib.pocket.landscapes import FAR, Levels, Rng, add_band, add_sky, waves
from dclib.pocket.sketch import (
    Points,
    Sketch,
    between,
    blob,
    chance,
    ellipse,
    rectangle,
    trapezium,
    turn,
)


def draw_harbour(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    horizon = add_sky(rng, sketch, levels)
    for x in np.arange(-0.4, 1.4, 0.13):
        sketch.fill(
            rectangle(x, horizon - between(rng, 0.04, 0.2), x + 0.12, horizon + 0.1),
            levels[1] + between(rng, -12, 12),
            0.5,
        )
    add_band(sketch, horizon, 1 + FAR, levels[2], -0.7)
    for _ in range(28):
        x, y = between(rng, -0.2, 1.2), between(rng, horizon + 0.03, 1.1)
        sketch.line(
            [(x, y), (x + between(rng, 0.05, 0.14), y)], 0.008, levels[2] + (24 if levels[2] < 130 else -24), -0.7
        )
    if chance(rng, 0.7):
        _crane(rng, sketch, levels[4], between(rng, 0.1, 0.9), horizon + 0.03)
    for y in np.sort(rng.uniform(horizon + 0.1, 0.85, int(rng.integers(3, 6)))):
        _moored_boat(rng, sketch, levels, between(rng, 0.05, 0.95), float(y))
    if chance(rng, 0.6):
        quay = between(rng, 0.82, 0.92)
        add_band(sketch, quay, 1 + FAR, levels[5], 0.6)
        for x in np.arange(-0.3, 1.3, 0.16):
            sketch.fill(rectangle(x, quay - 0.06, x + 0.035, quay + 0.02), levels[3], 0.6)


def _crane(rng: Rng, sketch: Sketch, grey: float, x: float, foot: float) -> None:
    top, reach = foot - between(rng, 0.3, 0.42), between(rng, 0.2, 0.34)
    for leg in (-0.04, 0.04):
        sketch.line([(x + leg, foot), (x + leg * 0.4, top)], 0.016, grey, 1)
    sketch.line([(x - 0.1, top + 0.03), (x + reach, top - 0.1)], 0.018, grey, 1)
    sketch.line([(x + reach * 0.8, top - 0.08), (x + reach * 0.8, top + 0.15)], 0.008, grey, 1)


def _moored_boat(rng: Rng, sketch: Sketch, levels: Levels, x: float, y: float) -> None:
    size = 0.07 + 0.14 * y
    hull = [
        (x - size, y - 0.3 * size),
        (x + 1.1 * size, y - 0.38 * size),
        (x + 0.8 * size, y + 0.1 * size),
        (x - 0.75 * size, y + 0.1 * size),
    ]
    mast = x + between(rng, -0.3, 0.2) * size
    sketch.line([(mast, y - 0.3 * size), (mast, y - between(rng, 1.8, 2.6) * size)], 0.012, levels[5], 0.8)
    if chance(rng, 0.45):
        sketch.fill(
            [(mast, y - 1.8 * size), (mast, y - 0.45 * size), (mast - 0.7 * size, y - 0.45 * size)], levels[4], 0.9
        )
    sketch.line([(mast, y - 1.8 * size), (x + 1.05 * size, y - 0.38 * size)], 0.006, levels[5], 0.8)
    sketch.fill(hull, levels[3], 1)
    sketch.line([hull[0], hull[1]], 0.014, levels[5], 0.8)


def draw_kitchen(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    add_band(sketch, -FAR, 1 + FAR, levels[0], 0)
    tile, counter = between(rng, 0.07, 0.12), between(rng, 0.52, 0.68)
    for x in np.arange(-FAR, 1 + FAR, tile):
        sketch.line([(x, -FAR), (x, counter)], 0.007, levels[1], 0)
    for y in np.arange(-0.4, counter, tile):
        sketch.line([(-FAR, y), (1 + FAR, y)], 0.007, levels[1], 0)
    top, bottom = between(rng, -0.2, -0.05), between(rng, 0.16, 0.28)
    width = between(rng, 0.2, 0.3)
    window = between(rng, 0.1, 0.7)
    for x in np.arange(-0.5, 1.4, width):
        if abs(x + width / 2 - window) > width * 0.8:
            _cupboard(sketch, x, top, x + width, bottom, levels[2], levels[4], 0.8)
    add_band(sketch, counter - 0.03, counter + 0.03, levels[3], 0.4)
    for x in np.arange(-0.5 + between(rng, 0, 0.2), 1.4, width):
        _cupboard(sketch, x, counter + 0.03, x + width, 1.3, levels[2], levels[4], 0.8)
    for x in np.linspace(0.05, 0.95, int(rng.integers(3, 6))):
        _pot(rng, sketch, x, counter - 0.03, levels[5], levels[4])
    for x in np.arange(window - 0.12, window + 0.14, 0.06):
        length = between(rng, 0.1, 0.17)
        sketch.line([(x, 0.1), (x, 0.1 + length)], 0.011, levels[5], -1)
        sketch.fill(ellipse(x, 0.1 + length, 0.022, 0.03, n=10), levels[5], -1)


def _cupboard(
    sketch: Sketch, left: float, top: float, right: float, bottom: float, grey: float, line: float, hue: float
) -> None:
    sketch.fill(rectangle(left, top, right, bottom), line, hue)
    sketch.fill(rectangle(left + 0.008, top + 0.008, right - 0.008, bottom - 0.008), grey, hue)
    sketch.line([(right - 0.04, top + 0.06), (right - 0.04, top + 0.12)], 0.014, line, hue)


def _pot(rng: Rng, sketch: Sketch, x: float, foot: float, grey: float, rim: float) -> None:
    half, tall = between(rng, 0.04, 0.075), between(rng, 0.07, 0.13)
    sketch.fill(trapezium(x, foot - tall, foot, half, half * between(rng, 0.7, 1.0)), grey, -1)
    sketch.line([(x - half * 1.5, foot - tall * 0.75), (x + half * 1.5, foot - tall * 0.75)], 0.014, rim, -1)
    if chance(rng, 0.6):
        sketch.fill(ellipse(x, foot - tall, half, 0.02, n=14), rim, -1)
        sketch.fill(ellipse(x, foot - tall - 0.02, 0.015, n=8), rim, -1)


def draw_library(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    add_band(sketch, -FAR, 1 + FAR, levels[0], 0.7)
    height = between(rng, 0.2, 0.3)
    for shelf in np.arange(-0.4 + between(rng, 0, height), 1.4, height):
        x = -0.4
        while x < 1.4:
            width, tall = between(rng, 0.025, 0.06), height * between(rng, 0.55, 0.85)
            book = rectangle(x, shelf - tall, x + width, shelf)
            if chance(rng, 0.1):
                book = turn(book, 12, x, shelf)
                x += 0.03
            grey = levels[1 + int(rng.integers(3))] + between(rng, -10, 10)
            sketch.fill(book, grey, between(rng, -1, 1))
            sketch.line([book[0] + (0, 0.03), book[1] + (0, 0.03)], 0.01, levels[4], 0)
            x += width + (0.06 if chance(rng, 0.08) else 0.004)
        add_band(sketch, shelf, shelf + 0.025, levels[5], 0.7)
    for x in np.arange(between(rng, -0.4, 0.0), 1.4, between(rng, 0.5, 0.7)):
        sketch.fill(rectangle(x, -FAR, x + 0.035, 1 + FAR), levels[5], 0.7)


def draw_street(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    add_sky(rng, sketch, levels)
    vanish = np.array([between(rng, 0.35, 0.65), between(rng, 0.45, 0.6)])
    sketch.fill([(vanish[0], vanish[1]), (1.6, 1.5), (-0.6, 1.5)], levels[1], 0)
    add_band(sketch, 1.45, 1 + FAR, levels[1], 0)
    for share in np.arange(0.12, 1.4, 0.25):
        near, far = vanish[1] + (1 - vanish[1]) * share, vanish[1] + (1 - vanish[1]) * (share + 0.12)
        sketch.fill(
            [
                (vanish[0] - 0.02 * share, near),
                (vanish[0] + 0.02 * share, near),
                (vanish[0] + 0.025 * share, far),
                (vanish[0] - 0.025 * share, far),
            ],
            levels[5],
            0,
        )
    for side in (-1, 1):
        for far, near in ((0.15, 0.3), (0.3, 0.55), (0.55, 0.95), (0.95, 1.7)):
            _facade(
                rng,
                sketch,
                vanish,
                side,
                far,
                near,
                levels[2 + int(rng.integers(2))] + between(rng, -12, 12),
                levels[4],
            )
    for share in (0.3, 0.55, 1.0):
        side = 1 if chance(rng, 0.5) else -1
        foot = vanish + share * np.array([side * 0.42, 0.5])
        sketch.line(
            [foot, foot - (0, 0.55 * share), foot - (side * 0.12 * share, 0.58 * share)], 0.022 * share, levels[5], 1
        )


def _facade(
    rng: Rng, sketch: Sketch, vanish: Points, side: int, far: float, near: float, grey: float, glass: float
) -> None:
    tall = between(rng, 0.45, 0.95)

    def wall(u: float, v: float) -> Points:
        depth = 1 / ((1 - u) / far + u / near)
        return vanish + depth * np.array([side * 0.55, 0.5 - v * (0.5 + tall)])

    sketch.fill([wall(0, 0), wall(1, 0), wall(1, 1), wall(0, 1)], grey, 0.7 * side)
    floors, bays = int(rng.integers(3, 6)), int(rng.integers(2, 4))
    for i in range(floors):
        for j in range(bays):
            u0, u1, v0, v1 = (j + 0.2) / bays, (j + 0.75) / bays, (i + 0.25) / floors, (i + 0.8) / floors
            sketch.fill([wall(u0, v0), wall(u1, v0), wall(u1, v1), wall(u0, v1)], glass, -0.4)


def draw_village(rng: Rng, sketch: Sketch, levels: Levels) -> None:
    horizon = add_sky(rng, sketch, levels)
    sketch.fill(waves(rng, horizon, 0.07), levels[1], -0.5)
    for row in range(3):
        foot = horizon + 0.12 + 0.2 * row
        for x in np.arange(-0.3 + between(rng, 0, 0.15), 1.3, between(rng, 0.18, 0.26)):
            if chance(rng, 0.85):
                _cottage(rng, sketch, x, foot + between(rng, -0.04, 0.04), 0.06 + 0.03 * row, levels)
            else:
                sketch.fill(blob(rng, x, foot - 0.08, 0.07 + 0.02 * row, wobble=0.08), levels[4], -0.9)
        sketch.fill(waves(rng, foot + 0.03, 0.02), levels[1] + (14 if row % 2 else -14), -0.5)
    if chance(rng, 0.6):
        x, foot = between(rng, 0.15, 0.85), horizon + 0.16
        sketch.fill(rectangle(x - 0.05, foot - 0.3, x + 0.05, foot), levels[2], 0.8)
        sketch.fill([(x - 0.065, foot - 0.3), (x, foot - 0.5), (x + 0.065, foot - 0.3)], levels[3], 1)


def _cottage(rng: Rng, sketch: Sketch, x: float, foot: float, size: float, levels: Levels) -> None:
    wide, tall, roof = size * between(rng, 1.0, 1.5), size * between(rng, 0.9, 1.3), size * between(rng, 0.8, 1.3)
    sketch.fill(rectangle(x - wide, foot - tall, x + wide, foot), levels[2] + between(rng, -15, 15), 0.8)
    ridge = wide * (0.05 if chance(rng, 0.5) else 0.6)
    sketch.fill(trapezium(x, foot - tall - roof, foot - tall, ridge, wide * 1.15), levels[3] + between(rng, -15, 15), 1)
    for share in (-0.5, 0.5):
        sketch.fill(
            rectangle(x + (share - 0.2) * wide, foot - tall * 0.75, x + (share + 0.2) * wide, foot - tall * 0.35),
            levels[5],
            0,
        )
