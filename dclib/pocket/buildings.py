"""Unique buildings: a drawing that is always the same for the same generator state, to be seen from many sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dclib.pocket.sketch import Points, Sketch, between, chance, curve, ellipse, rectangle, trapezium

Rng = np.random.Generator
TOPS = ("gable", "dome", "spire", "battlement", "mansard", "pagoda")
OPENINGS = ("square", "round", "arched", "pointed", "tall")


@dataclass(frozen=True)
class Masonry:
    """The grey levels and the habits of one building; greys are means of R, G and B."""

    wall: float
    trim: float
    roof: float
    glass: float
    opening: str
    top: str
    side_top: str


def draw_building(rng: Rng) -> Sketch:
    """A building with its foot at y = 0, up to 1.1 wide to each side and up to 2 high (y points down).

    Plan, storeys, windows, roofs, towers, portal and ornament all come from ``rng``; 1 of several hundred
    combinations before the continuous measures differ.
    """
    sketch, masonry = Sketch(), _choose_masonry(rng)
    half, high = between(rng, 0.5, 0.95), between(rng, 0.55, 0.95)
    towers = ("none", "pair", "left", "middle", "both")[int(rng.integers(5))]
    if towers in ("middle", "both"):
        _tower(rng, sketch, masonry, 0.0, between(rng, 0.16, 0.26), between(rng, 1.2, 1.6), masonry.top)
    _block(rng, sketch, masonry, half, high, with_top=towers not in ("middle", "both"))
    if towers in ("pair", "left", "both"):
        width, tall, plan = between(rng, 0.12, 0.2), between(rng, 0.9, 1.4), int(rng.integers(2**32))
        for x in (-half,) if towers == "left" else (-half, half):
            # both towers from the same number, so that they are twins
            _tower(np.random.default_rng(plan), sketch, masonry, x, width, tall, masonry.side_top)
    _portal(rng, sketch, masonry, min(half, 0.6), high)
    steps = int(rng.integers(1, 4))
    for i in range(steps):
        reach = half + 0.12 + 0.05 * i
        sketch.fill(rectangle(-reach, -0.04 * (steps - i), reach, -0.04 * (steps - i - 1)), masonry.trim - 8 * i, 0.3)
    return sketch


def _choose_masonry(rng: Rng) -> Masonry:
    wall = between(rng, 95, 190)
    dark = between(rng, 25, 70)
    return Masonry(
        wall=wall,
        trim=wall + (between(rng, 25, 45) if wall < 150 else -between(rng, 25, 45)),
        roof=between(rng, 45, 120) if wall > 130 else between(rng, 140, 190),
        glass=dark,
        opening=OPENINGS[int(rng.integers(len(OPENINGS)))],
        top=TOPS[int(rng.integers(len(TOPS)))],
        side_top=TOPS[int(rng.integers(len(TOPS)))],
    )


def _block(rng: Rng, sketch: Sketch, masonry: Masonry, half: float, high: float, *, with_top: bool) -> None:
    if with_top:
        _top(rng, sketch, masonry, 0.0, half, -high, masonry.top)
    sketch.fill(rectangle(-half, -high, half, 0), masonry.wall)
    floors, bays = int(rng.integers(2, 5)), int(rng.integers(3, 8))
    storey = high / floors
    banded, pilasters = chance(rng, 0.7), chance(rng, 0.5)
    for floor in range(floors):
        foot = -high + storey * (floor + 1)
        opening = masonry.opening if floor % 2 == 0 else OPENINGS[(OPENINGS.index(masonry.opening) + 2) % len(OPENINGS)]
        for bay in range(bays):
            x = half * (2 * (bay + 0.5) / bays - 1)
            _window(sketch, masonry, x, foot - 0.16 * storey, half / bays * 0.45, storey * 0.62, opening)
        if banded:
            sketch.line([(-half, foot - storey), (half, foot - storey)], 0.035, masonry.trim, 0.3)
    if pilasters:
        for x in np.linspace(-half, half, bays + 1):
            sketch.fill(rectangle(x - 0.02, -high, x + 0.02, 0), masonry.trim, 0.3)


def _window(sketch: Sketch, masonry: Masonry, x: float, foot: float, half: float, tall: float, opening: str) -> None:
    for grow, grey in ((0.012, masonry.trim), (0.0, masonry.glass)):
        sketch.fill(_opening(x, foot + grow, half + grow, tall + 2 * grow, opening), grey, 0.3 if grow else -0.8)


def _opening(x: float, foot: float, half: float, tall: float, opening: str) -> Points:
    if opening == "round":
        radius = min(half, tall / 2) * 1.1
        return ellipse(x, foot - tall / 2, radius, n=18)
    if opening == "arched":
        arch = ellipse(x, foot - tall + half, half, start=180, stop=359, n=9)
        return np.concatenate([[(x - half, foot)], arch, [(x + half, foot)]])
    if opening == "pointed":
        rise = foot - tall * 0.55
        left = curve([(x - half, rise), (x - half, foot - tall * 0.85), (x, foot - tall)], 6)
        right = curve([(x, foot - tall), (x + half, foot - tall * 0.85), (x + half, rise)], 6)
        return np.concatenate([[(x - half, foot)], left, right, [(x + half, foot)]])
    if opening == "tall":
        return rectangle(x - half * 0.6, foot - tall, x + half * 0.6, foot)
    return rectangle(x - half, foot - min(tall, 2 * half), x + half, foot)


def _tower(rng: Rng, sketch: Sketch, masonry: Masonry, x: float, half: float, tall: float, top: str) -> None:
    _top(rng, sketch, masonry, x, half * 1.1, -tall, top)
    sketch.fill(rectangle(x - half, -tall, x + half, 0), masonry.wall - 10)
    floors = int(rng.integers(3, 6))
    for floor in range(floors):
        foot = -tall + tall * (floor + 0.85) / floors
        _window(sketch, masonry, x, foot, half * 0.4, tall / floors * 0.55, masonry.opening)
        sketch.line([(x - half, foot + 0.05), (x + half, foot + 0.05)], 0.025, masonry.trim, 0.3)
    if chance(rng, 0.35):
        sketch.fill(ellipse(x, -tall + half * 1.1, half * 0.75), masonry.trim, 0.5)
        sketch.fill(ellipse(x, -tall + half * 1.1, half * 0.6), masonry.glass, 0.5)
        sketch.line(
            [(x, -tall + half * 0.7), (x, -tall + half * 1.1), (x + half * 0.3, -tall + half * 1.2)],
            0.025,
            masonry.trim,
        )


def _top(rng: Rng, sketch: Sketch, masonry: Masonry, x: float, half: float, y: float, top: str) -> None:
    rise = min(half, 0.5) * between(rng, 0.7, 1.2)
    if top == "gable":
        sketch.fill([(x - half * 1.08, y), (x, y - rise), (x + half * 1.08, y)], masonry.roof, 1)
        sketch.fill(ellipse(x, y - rise * 0.4, rise * 0.18, n=16), masonry.trim, 0.3)
    elif top == "dome":
        sketch.fill(rectangle(x - half * 0.7, y - rise * 0.3, x + half * 0.7, y), masonry.trim, 0.3)
        sketch.fill(ellipse(x, y - rise * 0.3, half * 0.66, rise, start=180, stop=359, n=24), masonry.roof, 1)
        for share in (-0.35, 0.0, 0.35):
            rib = curve(
                [(x + share * half, y - rise * 0.3), (x + share * half * 0.9, y - rise), (x, y - rise * 1.28)], 8
            )
            sketch.line(rib, 0.018, masonry.trim, 1)
        sketch.fill(rectangle(x - 0.03, y - rise * 1.55, x + 0.03, y - rise * 1.25), masonry.trim, 0.3)
    elif top == "spire":
        tip = y - min(0.9, 2.6 * rise)
        sketch.fill([(x - half, y), (x, tip), (x + half, y)], masonry.roof, 1)
        sketch.line([(x, tip + 0.05), (x, tip - 0.12)], 0.025, masonry.trim, 0.3)
    elif top == "battlement":
        for left in np.linspace(x - half, x + half, 8)[:-1]:
            sketch.fill(rectangle(left, y - 0.09, left + half / 6.5, y + 0.01), masonry.wall - 6)
    elif top == "mansard":
        sketch.fill(trapezium(x, y - rise * 0.7, y, half * 0.82, half * 1.04), masonry.roof, 1)
        for share in (-0.5, 0.0, 0.5):
            sketch.fill(
                _opening(x + share * half, y - rise * 0.12, half * 0.1, rise * 0.4, "arched"), masonry.trim, 0.3
            )
    else:
        for i in range(3):
            level, reach = y - rise * 0.55 * i, half * (1.25 - 0.28 * i)
            sketch.fill(rectangle(x - reach * 0.55, level - rise * 0.5, x + reach * 0.55, level), masonry.wall)
            eave = curve([(x - reach, level + 0.02), (x, level - rise * 0.45), (x + reach, level + 0.02)], 12)
            sketch.fill(
                np.concatenate([eave, [(x + reach * 0.9, level - 0.06), (x - reach * 0.9, level - 0.06)]]),
                masonry.roof,
                1,
            )


def _portal(rng: Rng, sketch: Sketch, masonry: Masonry, half: float, high: float) -> None:
    kind = int(rng.integers(3))
    wide, tall = half * between(rng, 0.2, 0.32), high * between(rng, 0.4, 0.55)
    if kind == 0:
        for grow, grey in ((0.07, masonry.trim), (0.035, masonry.wall - 14), (0.0, masonry.glass - 8)):
            sketch.fill(_opening(0, 0, wide + grow, tall + grow, "pointed"), grey, 0.3)
    elif kind == 1:
        sketch.fill([(-wide * 2, -tall), (0, -tall - wide * 0.9), (wide * 2, -tall)], masonry.trim, 0.3)
        sketch.fill(rectangle(-wide * 1.9, -tall, wide * 1.9, 0), masonry.glass, 0.3)
        for x in np.linspace(-wide * 1.75, wide * 1.75, int(rng.integers(4, 7))):
            sketch.fill(rectangle(x - 0.03, -tall, x + 0.03, 0), masonry.trim, 0.3)
    else:
        sketch.fill(_opening(0, 0, wide + 0.05, tall + 0.05, "arched"), masonry.trim, 0.3)
        sketch.fill(_opening(0, 0, wide, tall, "arched"), masonry.glass, 0.3)
    if chance(rng, 0.5):
        radius = wide * 0.75
        y = -tall - radius * 1.6
        sketch.fill(ellipse(0, y, radius * 1.2), masonry.trim, 0.3)
        sketch.fill(ellipse(0, y, radius), masonry.glass, -0.5)
        for angle in np.arange(4) * np.pi / 4:
            way = np.array([np.cos(angle), np.sin(angle)]) * radius
            sketch.line([(-way[0], y - way[1]), (way[0], y + way[1])], 0.02, masonry.trim, 0.3)
