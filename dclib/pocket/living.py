"""Drawings of the pocket world's living things: tree, bird, fish, flower, cat, mushroom."""

from __future__ import annotations

import numpy as np

from dclib.pocket.sketch import (
    Sketch,
    between,
    blob,
    chance,
    curve,
    ellipse,
    rectangle,
    turn,
)
from dclib.pocket.tones import Tones

Rng = np.random.Generator


def draw_tree(rng: Rng, tones: Tones) -> Sketch:
    """A trunk with boughs under one of four crowns: round, cloud of lobes, tiers, or wide umbrella."""
    sketch = Sketch()
    lean, foot = between(rng, -0.08, 0.08), between(rng, 0.09, 0.15)
    trunk = curve([(0, 1.0), (lean, 0.5), (lean * 1.5, -0.1)], 8)
    sketch.line(trunk, np.linspace(foot * 2, foot * 0.9, 8), tones.ink, 1)
    for side in (-1, 1):
        bough = curve([(lean, 0.55), (side * 0.2, 0.25), (side * between(rng, 0.3, 0.45), -0.05)], 6)
        sketch.line(bough, np.linspace(0.1, 0.05, 6), tones.ink, 1)
    crown = (_round_crown, _lobed_crown, _tiered_crown, _umbrella_crown)[int(rng.integers(4))]
    crown(rng, tones, sketch)
    if chance(rng, 0.35):
        for _ in range(int(rng.integers(4, 9))):
            x, y = between(rng, -0.4, 0.4), between(rng, -0.75, -0.15)
            sketch.fill(ellipse(x, y, 0.055, n=10), tones.mid, -1)
    return sketch


def _leaves(rng: Rng, tones: Tones, sketch: Sketch, x: float, y: float, reach: float, count: int) -> None:
    for _ in range(count):
        angle, far = between(rng, 0, 6.283), reach * float(rng.random()) ** 0.5
        centre = (x + far * np.cos(angle), y + far * np.sin(angle))
        leaf = turn(ellipse(*centre, 0.09, 0.045, n=10), between(rng, 0, 180), *centre)
        sketch.fill(leaf, tones.mid if chance(rng, 0.5) else tones.deep, between(rng, -0.6, 0.6))


def _round_crown(rng: Rng, tones: Tones, sketch: Sketch) -> None:
    radius = between(rng, 0.55, 0.72)
    sketch.fill(blob(rng, 0, -0.38, radius, radius * between(rng, 0.82, 1.0), wobble=0.05), tones.dark)
    _leaves(rng, tones, sketch, 0, -0.4, radius * 0.75, int(rng.integers(8, 18)))


def _lobed_crown(rng: Rng, tones: Tones, sketch: Sketch) -> None:
    lobes = int(rng.integers(4, 7))
    for i in range(lobes):
        angle = np.pi * (1 + i / (lobes - 1)) + between(rng, -0.15, 0.15)
        x, y = 0.48 * np.cos(angle), -0.2 + 0.45 * np.sin(angle)
        grey = tones.dark if i % 2 else tones.deep
        sketch.fill(blob(rng, x, y, between(rng, 0.3, 0.38), wobble=0.06), grey, between(rng, -0.4, 0.4))
    sketch.fill(blob(rng, 0, -0.33, 0.42, 0.36, wobble=0.05), tones.dark)
    _leaves(rng, tones, sketch, 0, -0.4, 0.5, int(rng.integers(4, 10)))


def _tiered_crown(rng: Rng, tones: Tones, sketch: Sketch) -> None:
    tiers = int(rng.integers(3, 5))
    top, bottom = -1.0, 0.35
    step = (bottom - top) / (tiers + 0.6)
    for i in reversed(range(tiers)):
        half = between(rng, 0.26, 0.3) + 0.44 * i / (tiers - 1)
        high = top + i * step
        edge = curve([(half, high + 1.5 * step), (0, high + 1.75 * step), (-half, high + 1.5 * step)], 7)
        outline = np.concatenate([[(0, high)], edge])
        sketch.fill(outline, tones.dark if i % 2 else tones.deep, 0.3 * (i % 2))


def _umbrella_crown(rng: Rng, tones: Tones, sketch: Sketch) -> None:
    for i in range(3):
        x, y = between(rng, -0.18, 0.18), -0.1 - 0.26 * i
        half = between(rng, 0.68, 0.85) * (1 - 0.22 * i)
        sketch.fill(blob(rng, x, y, half, 0.2, wobble=0.04), (tones.dark, tones.deep, tones.dark)[i], 0.4 * (i - 1))


def draw_bird(rng: Rng, tones: Tones) -> Sketch:
    """A bird on two legs, seen from the side: body, wing, tail, beak; sometimes a crest or a long neck."""
    sketch = Sketch()
    plump, pitch = between(rng, 0.36, 0.48), between(rng, -14, 6)
    neck = between(rng, 0.0, 0.32) if chance(rng, 0.4) else 0.0
    head_x, head_y, head = 0.5, -0.42 - neck, between(rng, 0.22, 0.28)
    for x in (-0.02, 0.16):
        _bird_leg(rng, tones, sketch, x)
    tail = [(-0.45, -0.12), (-1.05, between(rng, -0.45, 0.1)), (-0.95, between(rng, 0.15, 0.3)), (-0.4, 0.22)]
    sketch.fill(tail, tones.deep, 0.8)
    sketch.fill(turn(ellipse(0, 0.05, 0.62, plump), pitch, 0, 0.05), tones.dark)
    sketch.line([(0.32, 0.0), (0.44, -0.25), (head_x, head_y)], [0.42, 0.3, 0.24], tones.dark)
    sketch.fill(ellipse(head_x, head_y, head), tones.dark)
    if chance(rng, 0.35):
        for i in range(3):
            tip = (head_x - 0.12 + 0.1 * i, head_y - head - between(rng, 0.1, 0.24))
            sketch.fill(
                [(head_x - 0.12, head_y - head * 0.7), tip, (head_x + 0.1, head_y - head * 0.7)], tones.deep, 0.8
            )
    beak = between(rng, 0.2, 0.36)
    root = head_x + head * 0.8
    tip = (head_x + head + beak, head_y + 0.05)
    sketch.fill([(root, head_y - 0.09), tip, (root, head_y + 0.12)], tones.ink, -1)
    _wing(rng, tones, sketch)
    sketch.fill(ellipse(head_x + 0.07, head_y - 0.04, 0.075, n=14), tones.mid)
    sketch.fill(ellipse(head_x + 0.09, head_y - 0.04, 0.04, n=12), tones.ink)
    return sketch


def _bird_leg(rng: Rng, tones: Tones, sketch: Sketch, x: float) -> None:
    foot = x + between(rng, -0.08, 0.12)
    sketch.line([(x, 0.35), (foot, 0.88)], 0.075, tones.ink, -1)
    sketch.line([(foot - 0.1, 0.93), (foot, 0.86), (foot + 0.18, 0.93)], 0.065, tones.ink, -1)


def _wing(rng: Rng, tones: Tones, sketch: Sketch) -> None:
    droop = between(rng, 0.0, 0.25)
    feathers = int(rng.integers(2, 5))
    for i in range(feathers):
        share = i / feathers
        tip = (-0.72 + 0.4 * share, droop + 0.3 * share)
        wing = np.concatenate(
            [curve([(0.3, -0.12), (-0.2, -0.34 + 0.15 * share), tip], 8), curve([tip, (0.1, 0.45), (0.3, -0.12)], 8)]
        )
        sketch.fill(wing, tones.mid if i % 2 == 0 else tones.mid_other, 0.6)


def draw_fish(rng: Rng, tones: Tones) -> Sketch:
    """A fish seen from the side: body, fins and a forked, fan or crescent tail; stripes, spots or scales."""
    sketch = Sketch()
    deep = between(rng, 0.3, 0.52)
    spread = between(rng, 0.3, 0.5)
    notch = between(rng, -0.85, -0.62)
    tail = [(-0.5, -0.1), (-1.0, -spread), (notch, between(rng, -0.08, 0.08)), (-1.0, spread), (-0.5, 0.1)]
    sketch.fill(tail, tones.mid, 1)
    back = curve(
        [(0.35, -deep * 0.6), (between(rng, -0.3, 0.1), -deep - between(rng, 0.35, 0.6)), (-0.45, -deep * 0.4)], 9
    )
    sketch.fill(back, tones.mid, 1)
    belly = curve([(0.1, deep * 0.7), (-0.2, deep + between(rng, 0.25, 0.5)), (-0.35, deep * 0.4)], 7)
    sketch.fill(belly, tones.mid_other, 1)
    upper = curve([(0.95, 0.02), (0.45, -deep * 1.55), (-0.3, -deep * 0.95), (-0.68, -0.06)], 16)
    lower = curve([(-0.68, 0.06), (-0.3, deep * 0.95), (0.45, deep * 1.55), (0.95, 0.02)], 16)
    sketch.fill(np.concatenate([upper, lower]), tones.dark)
    _fish_coat(rng, tones, sketch, deep)
    sketch.line(curve([(0.5, -deep * 0.6), (0.36, 0), (0.5, deep * 0.6)], 8), 0.05, tones.ink)
    fin = [(0.28, 0.08), (-0.1, between(rng, 0.18, 0.34)), (0.02, -0.04)]
    sketch.fill(fin, tones.mid, 1)
    sketch.fill(ellipse(0.66, -deep * 0.25, 0.1, n=16), tones.mid_other)
    sketch.fill(ellipse(0.68, -deep * 0.25, 0.055, n=12), tones.ink)
    return sketch


def _fish_coat(rng: Rng, tones: Tones, sketch: Sketch, deep: float) -> None:
    coat = int(rng.integers(4))
    if coat == 0:
        for x in np.linspace(0.2, -0.4, int(rng.integers(3, 5))):
            half = deep * (0.85 - 0.6 * abs(x - 0.1))
            sketch.line(curve([(x, -half), (x - 0.1, 0), (x, half)], 7), 0.09, tones.mid, 0.5)
    elif coat == 1:
        for _ in range(int(rng.integers(5, 10))):
            x, y = between(rng, -0.35, 0.3), between(rng, -0.6, 0.6) * deep
            sketch.fill(ellipse(x, y, between(rng, 0.035, 0.07), n=10), tones.mid, 0.5)
    elif coat == 2:
        for x in np.arange(-0.35, 0.3, 0.16):
            for y in np.arange(-0.5, 0.6, 0.3) * deep:
                sketch.line(ellipse(x, y, 0.07, start=-80, stop=80, n=6), 0.03, tones.deep, 0.4)
    else:
        sketch.line([(0.35, 0), (-0.5, 0)], between(rng, 0.08, 0.16), tones.deep, 0.7)


def draw_flower(rng: Rng, tones: Tones) -> Sketch:
    """A blossom on a stem with leaves: a ring of petals (one or two rows), a tulip, or a bell."""
    sketch = Sketch()
    sway = between(rng, -0.14, 0.14)
    stem = curve([(sway, 1.0), (0, 0.4), (0, -0.2)], 9)
    sketch.line(stem, 0.1, tones.ink, 1)
    for side in (-1, 1):
        if chance(rng, 0.8):
            _leaf(rng, tones, sketch, side)
    if chance(rng, 0.72):
        _daisy(rng, tones, sketch)
    else:
        _tulip(rng, tones, sketch)
    return sketch


def _leaf(rng: Rng, tones: Tones, sketch: Sketch, side: int) -> None:
    foot, reach = between(rng, 0.55, 0.85), between(rng, 0.35, 0.55)
    tip = (side * reach, foot - between(rng, 0.15, 0.4))
    upper = curve([(0, foot), (side * reach * 0.4, foot - 0.4), tip], 8)
    lower = curve([tip, (side * reach * 0.8, foot + 0.08), (0, foot)], 8)
    sketch.fill(np.concatenate([upper, lower]), tones.deep, 1)


def _daisy(rng: Rng, tones: Tones, sketch: Sketch) -> None:
    petals, rows = int(rng.integers(5, 10)), 1 + chance(rng, 0.4)
    reach, width = between(rng, 0.5, 0.62), between(rng, 0.75, 1.05)
    first = between(rng, 0, 360)
    for row in range(rows):
        length = reach * (1 - 0.34 * row)
        half = width * length * np.pi / petals * 0.62
        for i in range(petals):
            petal = ellipse(length * 0.58, 0, length * 0.42, half, n=16)
            grey = tones.mid if row else (tones.dark if i % 2 else tones.deep)
            sketch.fill(turn(petal, first + 360 * (i + 0.5 * row) / petals) + (0, -0.42), grey, -0.5 * row)
    heart = between(rng, 0.15, 0.22)
    sketch.fill(ellipse(0, -0.42, heart * 1.15), tones.ink, -1)
    sketch.fill(ellipse(0, -0.42, heart * 0.7), tones.mid, -1)


def _tulip(rng: Rng, tones: Tones, sketch: Sketch) -> None:
    half, low, high = between(rng, 0.3, 0.42), -0.02, between(rng, -0.95, -0.8)
    for side in (-1, 1):
        outer = np.concatenate([
            curve([(0, low), (side * half * 1.5, low - 0.1), (side * half, high)], 10),
            curve([(side * half, high), (side * 0.1, high + 0.3), (0, low)], 8),
        ])  # fmt: skip
        sketch.fill(outer, tones.dark if side < 0 else tones.deep)
    middle = np.concatenate([
        curve([(0, low), (half * 1.1, low - 0.3), (0, high - 0.04)], 9),
        curve([(0, high - 0.04), (-half * 1.1, low - 0.3), (0, low)], 9),
    ])  # fmt: skip
    sketch.fill(middle, tones.mid, -0.5)


def draw_cat(rng: Rng, tones: Tones) -> Sketch:
    """A cat's face: ears, eyes, nose, whiskers; plain, striped, or with a mask."""
    sketch = Sketch()
    wide, tall = between(rng, 0.68, 0.8), between(rng, 0.58, 0.7)
    ear, apart = between(rng, 0.5, 0.72), between(rng, 0.5, 0.62)
    for side in (-1, 1):
        outer = [(side * wide * 0.98, -0.05), (side * apart * 1.25, -tall - ear * 0.55), (side * 0.1, -tall * 0.75)]
        sketch.fill(outer, tones.dark)
        middle = np.mean(outer, axis=0)
        sketch.fill(middle + 0.5 * (np.array(outer) - middle) + (0, 0.04), tones.mid, -0.7)
    face = blob(rng, 0, 0.05, wide, tall, wobble=0.025)
    sketch.fill(face, tones.dark)
    _cat_coat(rng, tones, sketch, tall)
    sketch.fill(ellipse(-0.13, 0.36, 0.19, 0.15), tones.mid_other, 0.4)
    sketch.fill(ellipse(0.13, 0.36, 0.19, 0.15), tones.mid_other, 0.4)
    for side in (-1, 1):
        _cat_eye(rng, tones, sketch, side)
        for lift in (-0.1, 0.02, 0.14):
            sketch.line([(side * 0.28, 0.36 + lift * 0.4), (side * 0.92, 0.34 + 1.4 * lift)], 0.026, tones.ink)
    sketch.fill([(-0.1, 0.2), (0.1, 0.2), (0, 0.32)], tones.ink, -1)
    sketch.line(curve([(-0.17, 0.42), (-0.03, 0.5), (0, 0.32)], 7), 0.04, tones.ink)
    sketch.line(curve([(0, 0.32), (0.03, 0.5), (0.17, 0.42)], 7), 0.04, tones.ink)
    return sketch


def _cat_coat(rng: Rng, tones: Tones, sketch: Sketch, tall: float) -> None:
    coat = int(rng.integers(3))
    if coat == 1:
        for x in (-0.16, 0.0, 0.16):
            sketch.line([(x, -tall * 0.82), (x * 0.6, -tall * 0.35)], [0.09, 0.03], tones.ink)
        for side in (-1, 1):
            for y in (0.0, 0.16):
                sketch.line([(side * 0.7, y + 0.12), (side * 0.45, y + 0.14)], [0.08, 0.02], tones.ink)
    elif coat == 2:
        patch = blob(rng, 0.3 * (1 if chance(rng, 0.5) else -1), -0.12, 0.3, 0.3, wobble=0.08)
        sketch.fill(patch, tones.deep, 0.8)


def _cat_eye(rng: Rng, tones: Tones, sketch: Sketch, side: int) -> None:
    sketch.fill(ellipse(side * 0.31, -0.02, 0.15, 0.13, n=18), tones.mid, -1)
    sketch.fill(ellipse(side * 0.31, -0.02, 0.05, 0.12, n=14), tones.ink)


def draw_mushroom(rng: Rng, tones: Tones) -> Sketch:
    """A cap on a stalk: domed, flat, pointed or bell-shaped, with dots, gills or a ring; sometimes a small sister."""
    sketch = Sketch()
    if chance(rng, 0.35):
        sister = _one_mushroom(rng, tones)
        sketch.extend(sister.map(lambda p: p * 0.5 + (between(rng, 0.45, 0.6) * 1.0, 0.5)).parts)
    sketch.extend(_one_mushroom(rng, tones).parts)
    return sketch


def _one_mushroom(rng: Rng, tones: Tones) -> Sketch:
    sketch = Sketch()
    half, rim, top = between(rng, 0.68, 0.88), between(rng, -0.1, 0.08), between(rng, -0.95, -0.6)
    stalk, bulge = between(rng, 0.15, 0.23), between(rng, 1.0, 1.7)
    sketch.fill(
        np.concatenate([
            curve([(-stalk, rim), (-stalk * 0.8, 0.5), (-stalk * bulge, 1.0)], 8),
            curve([(stalk * bulge, 1.0), (stalk * 0.8, 0.5), (stalk, rim)], 8),
        ]), tones.mid, 0.8,
    )  # fmt: skip
    if chance(rng, 0.5):
        sketch.fill(rectangle(-stalk * 1.5, rim + 0.32, stalk * 1.5, rim + 0.42), tones.ink, 0.8)
    pull = between(rng, 0.35, 1.05)  # small is a pointed cap, large a domed one
    cap = np.concatenate([
        curve([(-half, rim), (-half * pull * 1.15, top), (-0.1, top), (0, top)], 12),
        curve([(0, top), (0.1, top), (half * pull * 1.15, top), (half, rim)], 12),
        curve([(half, rim), (0, rim + between(rng, 0.12, 0.24)), (-half, rim)], 10),
    ])  # fmt: skip
    sketch.fill(cap, tones.dark)
    sketch.fill(ellipse(0, rim + 0.03, half * 0.8, 0.075, n=20), tones.ink, 0.5)
    if chance(rng, 0.75):
        for _ in range(int(rng.integers(4, 8))):
            x = between(rng, -0.6, 0.6) * half
            y = between(rng, 0.25, 0.85) * (top - rim) * (1 - 0.7 * abs(x / half)) + rim
            sketch.fill(ellipse(x, y, between(rng, 0.06, 0.12), between(rng, 0.05, 0.08), n=14), tones.mid, -1)
    return sketch
