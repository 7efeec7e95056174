"""Drawings of the pocket world's house and of what moves: house, car, boat, bicycle, rocket."""

from __future__ import annotations

import numpy as np

from dclib.pocket.sketch import Sketch, between, chance, curve, ellipse, rectangle, trapezium
from dclib.pocket.tones import Tones

Rng = np.random.Generator


def draw_house(rng: Rng, tones: Tones) -> Sketch:
    """Walls with a door and windows under a gabled, hipped or stepped roof, often with a chimney."""
    sketch = Sketch()
    half, eaves = between(rng, 0.55, 0.75), between(rng, -0.3, 0.0)
    top = eaves - between(rng, 0.5, 0.75)
    overhang = between(rng, 0.08, 0.2)
    if chance(rng, 0.7):
        x = between(rng, 0.2, 0.5) * half * (1 if chance(rng, 0.5) else -1)
        sketch.fill(rectangle(x - 0.09, top - 0.02, x + 0.09, eaves - 0.1), tones.ink, 0.5)
        sketch.fill(rectangle(x - 0.12, top - 0.1, x + 0.12, top), tones.ink, 0.5)
    sketch.fill(rectangle(-half, eaves - 0.02, half, 0.85), tones.dark)
    _roof(rng, tones, sketch, half, overhang, eaves, top)
    _door(rng, tones, sketch, half)
    _house_windows(rng, tones, sketch, half, eaves)
    if chance(rng, 0.5):
        sketch.fill(rectangle(-half - 0.06, 0.82, half + 0.06, 0.92), tones.ink, 0.5)
    return sketch


def _roof(rng: Rng, tones: Tones, sketch: Sketch, half: float, overhang: float, eaves: float, top: float) -> None:
    grey = tones.deep if chance(rng, 0.5) else tones.mid
    kind = int(rng.integers(3))
    wide = half + overhang
    ridge = (0.0, between(rng, 0.25, 0.6) * half, 0.0)[kind]
    if kind == 2:
        steps = 4
        for i in range(steps):
            reach = half * (1 - i / steps) + 0.03
            y = eaves + (top - eaves) * (i + 1) / steps
            sketch.fill(rectangle(-reach, y, reach, eaves + 0.02), grey, -1)
        return
    sketch.fill(trapezium(0, top, eaves + 0.05, ridge + 0.02, wide), grey, -1)
    for share in np.linspace(0.35, 0.8, int(rng.integers(0, 4))):
        reach = (ridge + (wide - ridge) * share) * 0.97
        y = top + (eaves - top) * share
        sketch.line([(-reach, y), (reach, y)], 0.035, tones.ink, -1)
    sketch.line([(-wide, eaves + 0.05), (wide, eaves + 0.05)], 0.07, tones.ink, -1)


def _door(rng: Rng, tones: Tones, sketch: Sketch, half: float) -> None:
    x, wide, top = between(rng, -0.45, 0.45) * half, between(rng, 0.13, 0.18), between(rng, 0.28, 0.4)
    sketch.fill(rectangle(x - wide, top, x + wide, 0.86), tones.ink, 1)
    if chance(rng, 0.5):
        sketch.fill(ellipse(x, top, wide, wide, start=180, stop=359, n=12), tones.ink, 1)
    sketch.fill(ellipse(x + wide * 0.55, 0.62, 0.035, n=8), tones.mid, 1)


def _house_windows(rng: Rng, tones: Tones, sketch: Sketch, half: float, eaves: float) -> None:
    columns = int(rng.integers(2, 4))
    size, y = between(rng, 0.1, 0.13), eaves + 0.26
    for i in range(columns):
        x = half * (2 * (i + 0.5) / columns - 1)
        sketch.fill(rectangle(x - size, y - size * 1.2, x + size, y + size * 1.2), tones.mid_other, 0.4)
        sketch.line([(x, y - size * 1.2), (x, y + size * 1.2)], 0.035, tones.ink)
        sketch.line([(x - size, y), (x + size, y)], 0.035, tones.ink)
    if chance(rng, 0.4):
        sketch.fill(ellipse(0, eaves - 0.2, 0.1, n=16), tones.ink, 0.4)


def draw_car(rng: Rng, tones: Tones) -> Sketch:
    """A car from the side: saloon, beetle, estate, pick-up or small bus, with wheels, windows, lamps."""
    sketch = Sketch()
    kind = int(rng.integers(5))
    low, belt = 0.35, between(rng, -0.1, 0.02)
    roof = between(rng, -0.6, -0.48)
    cabin = _CABINS[kind]
    if kind == 4:
        belt = -0.05
    hull = np.concatenate([
        [(-1.0, low), (-1.0, belt + 0.12)], curve([(-1.0, belt + 0.12), (-0.98, belt), (-0.8, belt)], 5),
        curve([(0.75, belt), (1.0, belt + 0.03), (1.03, belt + 0.25)], 6), [(1.03, low)],
    ])  # fmt: skip
    top = np.array([(x, roof if high else belt + 0.02) for x, high in cabin])
    sketch.fill(top, tones.dark)
    sketch.fill(hull, tones.dark)
    _car_windows(rng, tones, sketch, top, roof, belt)
    sketch.line([(-1.0, belt + 0.18), (1.0, belt + 0.18)], 0.05, tones.deep, 0.6)
    for x in (-0.58, 0.58):
        _wheel(rng, tones, sketch, x + between(rng, -0.04, 0.04), low, 0.25)
    sketch.fill(ellipse(0.94, belt + 0.2, 0.07, 0.09, n=12), tones.mid, -1)
    sketch.fill(rectangle(-1.06, low - 0.1, -0.84, low + 0.02), tones.ink)
    sketch.fill(rectangle(0.86, low - 0.1, 1.09, low + 0.02), tones.ink)
    if chance(rng, 0.25):
        sketch.fill(rectangle(-0.4, roof - 0.14, 0.2, roof - 0.06), tones.ink, 1)
    return sketch


# x of the cabin's corners from rear to front, and whether the corner is at the roof or the belt
_CABINS: tuple[tuple[tuple[float, bool], ...], ...] = (
    ((-0.68, False), (-0.42, True), (0.2, True), (0.52, False)),  # saloon
    ((-0.85, False), (-0.62, False), (-0.38, True), (0.12, True), (0.42, False), (0.6, False)),  # coupe
    ((-0.95, False), (-0.9, True), (0.2, True), (0.52, False)),  # estate
    ((-0.12, False), (-0.08, True), (0.38, True), (0.62, False)),  # pick-up
    ((-0.98, False), (-0.96, True), (0.75, True), (0.95, False)),  # small bus
)


def _car_windows(rng: Rng, tones: Tones, sketch: Sketch, top: np.ndarray, roof: float, belt: float) -> None:
    middle = np.array([top[:, 0].mean(), (roof + belt) / 2])
    glass = middle + (top - middle) * (0.8, 0.66)
    sketch.fill(glass, tones.mid, -0.6)
    left, right = glass[:, 0].min(), glass[:, 0].max()
    for x in np.linspace(left, right, int(rng.integers(3, 5)))[1:-1]:
        sketch.line([(x, roof + 0.02), (x, belt)], 0.07, tones.dark)


def _wheel(rng: Rng, tones: Tones, sketch: Sketch, x: float, y: float, radius: float) -> None:
    sketch.fill(ellipse(x, y, radius), tones.ink)
    sketch.fill(ellipse(x, y, radius * between(rng, 0.4, 0.55), n=18), tones.mid_other)
    sketch.fill(ellipse(x, y, radius * 0.18, n=10), tones.ink)


def draw_boat(rng: Rng, tones: Tones) -> Sketch:
    """A hull with one or two sails, or a steamer with cabin and funnels."""
    sketch = Sketch()
    deck = between(rng, 0.3, 0.42)
    if chance(rng, 0.72):
        _sails(rng, tones, sketch, deck)
    else:
        _steamer(rng, tones, sketch, deck)
    bow, keel = between(rng, 0.85, 1.0), between(rng, 0.78, 0.92)
    hull = np.concatenate([
        [(-0.9, deck - 0.04), (bow, deck - between(rng, 0.04, 0.14))],
        curve([(bow, deck), (bow - 0.15, keel), (0.35, keel)], 8), curve([(-0.5, keel), (-0.8, keel), (-0.9, deck)], 8),
    ])  # fmt: skip
    sketch.fill(hull, tones.dark)
    sketch.line([(-0.86, deck + 0.12), (bow - 0.05, deck + 0.1)], 0.07, tones.mid, 1)
    for x in np.linspace(-0.4, 0.4, int(rng.integers(0, 5))):
        sketch.fill(ellipse(x, deck + 0.28, 0.05, n=10), tones.ink)
    return sketch


def _sails(rng: Rng, tones: Tones, sketch: Sketch, deck: float) -> None:
    mast = between(rng, -0.15, 0.12)
    sketch.line([(mast, deck), (mast, -1.0)], 0.075, tones.ink, 1)
    foot = deck - between(rng, 0.1, 0.18)
    back = mast - between(rng, 0.55, 0.75)
    main = np.concatenate(
        [
            [(mast - 0.05, foot)],
            [(mast - 0.05, -0.94)],
            curve([(mast - 0.05, -0.94), (back * 0.55, -0.2), (back, foot)], 9),
        ]
    )
    sketch.fill(main, tones.deep if chance(rng, 0.5) else tones.mid, -1)
    for share in np.linspace(0.3, 0.75, int(rng.integers(0, 4))):
        y = -0.94 + (foot + 0.94) * share
        sketch.line([(mast - 0.06, y), (mast - 0.06 + (back - mast) * share * 0.85, y)], 0.03, tones.ink)
    if chance(rng, 0.75):
        front = mast + between(rng, 0.45, 0.7)
        jib = np.concatenate(
            [
                [(mast + 0.06, -0.82)],
                curve([(mast + 0.06, -0.82), (front * 0.55, -0.1), (front, foot)], 8),
                [(mast + 0.1, foot)],
            ]
        )
        sketch.fill(jib, tones.mid_other, -0.6)
    if chance(rng, 0.6):
        sketch.fill([(mast, -1.0), (mast + 0.26, -0.93), (mast, -0.86)], tones.ink, 1)


def _steamer(rng: Rng, tones: Tones, sketch: Sketch, deck: float) -> None:
    high = deck - between(rng, 0.3, 0.42)
    for x in np.linspace(-0.3, 0.2, int(rng.integers(1, 4))):
        sketch.fill(rectangle(x - 0.1, high - between(rng, 0.5, 0.7), x + 0.1, high + 0.05), tones.deep, 1)
        sketch.fill(rectangle(x - 0.11, high - 0.42, x + 0.11, high - 0.28), tones.ink, -1)
    sketch.fill(trapezium(-0.05, high, deck, 0.5, 0.62), tones.mid, -1)
    for x in np.linspace(-0.4, 0.3, 4):
        sketch.fill(rectangle(x - 0.06, high + 0.09, x + 0.06, high + 0.23), tones.ink)
    sketch.line([(0.7, deck), (0.7, high - 0.5)], 0.06, tones.ink)


def draw_bicycle(rng: Rng, tones: Tones) -> Sketch:
    """Two wheels with spokes and a frame: diamond or step-through, straight, drop or high handlebars."""
    sketch = Sketch()
    radius, tyre = between(rng, 0.36, 0.43), between(rng, 0.085, 0.115)
    rear, front, axle = (-0.6, 0.3), (0.6, 0.3), (-0.08, 0.32)
    for x, y in (rear, front):
        _spoked_wheel(rng, tones, sketch, x, y, radius, tyre)
    seat, head = (-0.28, between(rng, -0.34, -0.22)), (0.42, between(rng, -0.38, -0.26))
    low = (0.46, head[1] + 0.18)
    grey, width = tones.dark, between(rng, 0.075, 0.1)
    top_end = (axle[0] * 0.3 - 0.1, 0.1) if chance(rng, 0.3) else seat
    for path in ((seat, axle), (top_end, head), (axle, low), (rear, axle), (rear, seat), (head, front)):
        sketch.line(path, width, grey, 0.5)
    sketch.line([(seat[0] - 0.02, seat[1]), (seat[0] - 0.06, seat[1] - 0.16)], 0.06, tones.ink)
    saddle = seat[1] - 0.2
    sketch.fill([(seat[0] - 0.24, saddle - 0.05), (seat[0] + 0.16, saddle), (seat[0] - 0.18, saddle + 0.09)], tones.ink)
    _handlebar(rng, tones, sketch, head)
    sketch.fill(ellipse(*axle, 0.1, n=14), tones.ink)
    angle = between(rng, 0, 6.28)
    pedal = np.array([np.cos(angle), np.sin(angle)]) * 0.17
    sketch.line([axle - pedal, axle + pedal], 0.05, tones.ink)
    if chance(rng, 0.3):
        sketch.fill(rectangle(head[0] + 0.05, head[1] - 0.08, head[0] + 0.35, head[1] + 0.14), tones.mid, -1)
    return sketch


def _spoked_wheel(rng: Rng, tones: Tones, sketch: Sketch, x: float, y: float, radius: float, tyre: float) -> None:
    first = between(rng, 0, 3.14)
    for angle in first + np.arange(3) * np.pi / 3:
        end = np.array([np.cos(angle), np.sin(angle)]) * radius
        sketch.line([(x, y) - end, (x, y) + end], 0.028, tones.mid)
    ring = ellipse(x, y, radius, n=26)
    sketch.line(np.concatenate([ring, ring[:1]]), tyre, tones.ink)
    sketch.fill(ellipse(x, y, 0.06, n=10), tones.ink)


def _handlebar(rng: Rng, tones: Tones, sketch: Sketch, head: tuple[float, float]) -> None:
    x, y = head[0] - 0.04, head[1] - between(rng, 0.12, 0.22)
    sketch.line([head, (x, y)], 0.07, tones.ink)
    shape = int(rng.integers(3))
    if shape == 0:
        sketch.line([(x - 0.02, y), (x + 0.2, y - 0.05)], 0.075, tones.ink)
    elif shape == 1:
        sketch.line(
            curve([(x, y), (x + 0.34, y - 0.04), (x + 0.28, y + 0.24), (x + 0.06, y + 0.18)], 9), 0.065, tones.ink
        )
    else:
        sketch.line(curve([(x, y), (x + 0.1, y - 0.24), (x - 0.26, y - 0.16)], 8), 0.065, tones.ink)


def draw_rocket(rng: Rng, tones: Tones) -> Sketch:
    """A pointed body with fins and portholes, one to three stages, sometimes standing in its flame."""
    sketch = Sketch()
    half, tip = between(rng, 0.2, 0.3), -1.0
    waist = between(rng, -0.5, -0.3)
    flame = chance(rng, 0.45)
    if flame:
        for width, end in ((0.8, between(rng, 0.9, 1.05)), (0.4, 0.82)):
            sketch.fill(
                [(-half * width, 0.6), (0, end), (half * width, 0.6)], tones.mid if width > 0.5 else tones.ink, -1
            )
    reach, sweep = between(rng, 0.25, 0.42), between(rng, 0.72, 0.9)
    for side in (-1, 1):
        fin = [
            (side * half * 0.9, 0.12),
            (side * (half + reach), between(rng, 0.45, 0.6)),
            (side * (half + reach), sweep),
            (side * half * 0.7, 0.62),
        ]
        sketch.fill(fin, tones.deep, 1)
    right = np.concatenate(
        [
            curve([(0, tip), (half * 1.05, -0.75), (half, waist)], 9),
            [(half * between(rng, 0.95, 1.1), 0.2), (half * 0.8, 0.66)],
        ]
    )
    sketch.fill(np.concatenate([right, (right * (-1, 1))[::-1]]), tones.dark)
    if chance(rng, 0.6):
        nose = curve([(0, tip), (half * 1.05, -0.75), (half, waist)], 9)[:6]
        sketch.fill(np.concatenate([nose, (nose * (-1, 1))[::-1]]), tones.ink, 1)
    for y in np.linspace(0.12, 0.5, int(rng.integers(0, 3))):
        sketch.line([(-half, y), (half, y)], 0.07, tones.mid, 1)
    for y in np.linspace(-0.32, 0.02, int(rng.integers(1, 3))):
        sketch.fill(ellipse(0, y, half * 0.56, n=18), tones.ink)
        sketch.fill(ellipse(0, y, half * 0.38, n=16), tones.mid_other, -1)
    sketch.fill(trapezium(0, 0.62, 0.74, half * 0.5, half * 0.75), tones.ink)
    sketch.line([(0, 0.3), (0, 0.8)], 0.07, tones.deep, 1)
    return sketch
