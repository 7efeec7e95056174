"""Drawings of the pocket world's household things: cup, lamp, bottle, umbrella, clock."""

from __future__ import annotations

import numpy as np

from dclib.pocket.sketch import Sketch, between, chance, curve, ellipse, rectangle, trapezium, turn
from dclib.pocket.tones import Tones

Rng = np.random.Generator


def draw_cup(rng: Rng, tones: Tones) -> Sketch:
    """A cup or mug with a handle: straight, tapered or bowl-shaped, with bands, dots or a saucer."""
    sketch = Sketch()
    half, foot = between(rng, 0.5, 0.62), between(rng, 0.3, 0.52)
    top, bottom = between(rng, -0.62, -0.45), 0.72
    if chance(rng, 0.35):
        sketch.fill(ellipse(0.05, bottom, 0.85, 0.13), tones.mid_other, 0.6)
        sketch.fill(ellipse(0.05, bottom - 0.02, 0.55, 0.07), tones.ink, 0.6)
    grip_top, grip_bottom = top + between(rng, 0.15, 0.3), between(rng, 0.2, 0.45)
    handle = curve(
        [(half * 0.9, grip_top), (1.25, grip_top - 0.15), (1.2, grip_bottom + 0.15), (foot * 0.9, grip_bottom)], 14
    )
    sketch.line(handle, between(rng, 0.13, 0.18), tones.dark)
    belly = half * between(rng, 0.85, 1.1)
    right = curve([(half, top), (belly, 0.25), (foot, bottom)], 10)
    sketch.fill(np.concatenate([right, (right * (-1, 1))[::-1]]), tones.dark)
    _cup_pattern(rng, tones, sketch, right)
    sketch.fill(ellipse(0, top, half, between(rng, 0.1, 0.17)), tones.mid)
    sketch.fill(ellipse(0, top + 0.02, half * 0.84, 0.085), tones.ink, -1)
    return sketch


def _cup_pattern(rng: Rng, tones: Tones, sketch: Sketch, right: np.ndarray) -> None:
    kind = int(rng.integers(4))
    if kind == 0:
        upper, lower = right[4], right[int(rng.integers(5, 8))]
        sketch.fill([upper, lower, lower * (-1, 1), upper * (-1, 1)], tones.mid_other, -1)
    elif kind == 1:
        for x in (-0.27, 0.0, 0.27):
            for y in (-0.1, 0.2):
                sketch.fill(ellipse(x, y, 0.08, n=12), tones.mid_other, -1)
    elif kind == 2:
        heart = np.concatenate(
            [
                curve([(0, 0.35), (-0.5, 0.0), (-0.2, -0.3), (0, -0.08)], 9),
                curve([(0, -0.08), (0.2, -0.3), (0.5, 0.0), (0, 0.35)], 9),
            ]
        )
        sketch.fill(heart, tones.mid_other, -1)
    else:
        for x in np.linspace(-0.3, 0.3, 4):
            sketch.line([(x, -0.3), (x * 0.85, 0.5)], 0.06, tones.deep, 0.7)


def draw_lamp(rng: Rng, tones: Tones) -> Sketch:
    """A table lamp: a wide shade (cone, dome or drum) on a thin, turned or jug-shaped foot."""
    sketch = Sketch()
    rim, top = between(rng, -0.12, 0.02), between(rng, -0.95, -0.75)
    wide, narrow = between(rng, 0.62, 0.8), between(rng, 0.22, 0.42)
    _lamp_foot(rng, tones, sketch, rim)
    kind = int(rng.integers(3))
    if kind == 0:
        shade = trapezium(0, top, rim, narrow, wide)
    elif kind == 1:
        shade = np.concatenate(
            [curve([(-wide, rim), (-wide, top), (-0.1, top)], 10), curve([(0.1, top), (wide, top), (wide, rim)], 10)]
        )
    else:
        right = curve([(narrow, top), (narrow * 1.1, rim - 0.25), (wide, rim)], 9)
        shade = np.concatenate([right, (right * (-1, 1))[::-1]])
    sketch.fill(shade, tones.dark)
    sketch.line([(-wide, rim - 0.02), (wide, rim - 0.02)], 0.085, tones.mid, 1)
    if chance(rng, 0.5):
        for share in np.linspace(-0.7, 0.7, int(rng.integers(3, 6))):
            sketch.line([(share * narrow, top + 0.12), (share * wide, rim - 0.06)], 0.04, tones.deep, 0.8)
    sketch.fill(ellipse(0, top - 0.03, 0.06, n=12), tones.ink)
    if chance(rng, 0.4):
        x = between(rng, 0.25, 0.4)
        sketch.line([(x, rim), (x, rim + 0.3)], 0.03, tones.ink)
        sketch.fill(ellipse(x, rim + 0.32, 0.045, n=10), tones.ink)
    return sketch


def _lamp_foot(rng: Rng, tones: Tones, sketch: Sketch, rim: float) -> None:
    base = between(rng, 0.3, 0.45)
    kind = int(rng.integers(3))
    sketch.line([(0, rim), (0, 0.85)], 0.1, tones.ink)
    if kind == 1:
        for y, radius in ((rim + 0.2, 0.1), (rim + 0.42, 0.14), (rim + 0.64, 0.1)):
            sketch.fill(ellipse(0, y, radius, 0.1, n=16), tones.dark, 1)
    elif kind == 2:
        jug = curve([(0.07, rim + 0.15), (0.42, rim + 0.45), (0.12, 0.86)], 10)
        sketch.fill(np.concatenate([jug, (jug * (-1, 1))[::-1]]), tones.deep, 1)
    sketch.fill(trapezium(0, 0.8, 0.92, base * 0.7, base), tones.ink if kind else tones.mid_other, 1)


def draw_bottle(rng: Rng, tones: Tones) -> Sketch:
    """A bottle: wine, flask, square or jar shoulders, with a stopper and a label."""
    sketch = Sketch()
    half, neck = between(rng, 0.3, 0.42), between(rng, 0.1, 0.15)
    shoulder, collar = between(rng, -0.3, 0.0), between(rng, -0.62, -0.48)
    kind = int(rng.integers(3))
    swing = (
        [(neck, shoulder - 0.02), (half, collar + 0.1)]
        if kind == 0
        else [(neck, shoulder - 0.15), (half, shoulder - 0.15)]
    )
    foot = half * (between(rng, 1.05, 1.3) if kind == 2 else 1.0)
    right = np.concatenate([
        [(neck, -0.86)], curve([(neck, collar), *swing, (half, shoulder + 0.1)], 9),
        curve([(foot, 0.75), (foot, 0.95), (foot * 0.85, 0.95)], 5),
    ])  # fmt: skip
    sketch.fill(np.concatenate([right, (right * (-1, 1))[::-1]]), tones.dark)
    sketch.fill(rectangle(-neck * 1.3, -0.9, neck * 1.3, -0.78), tones.ink, 1)
    if chance(rng, 0.7):
        sketch.fill(trapezium(0, -1.02, -0.86, neck * 1.0, neck * 0.8), tones.mid_other, 1)
    _bottle_label(rng, tones, sketch, half, shoulder)
    glint = [(-half * 0.72, shoulder + 0.18), (-half * 0.72, 0.15)]
    sketch.line(glint, 0.05, tones.mid)
    return sketch


def _bottle_label(rng: Rng, tones: Tones, sketch: Sketch, half: float, shoulder: float) -> None:
    top, bottom = between(rng, 0.12, 0.25), between(rng, 0.6, 0.75)
    kind = int(rng.integers(4))
    if kind == 0:
        sketch.fill(ellipse(0, (top + bottom) / 2, half * 0.72, (bottom - top) * 0.6), tones.mid, -1)
        sketch.fill(ellipse(0, (top + bottom) / 2, half * 0.3, n=14), tones.ink, -1)
    elif kind == 3:
        sketch.fill(rectangle(-half, top, half, 0.86), tones.deep, -1)
    else:
        sketch.fill(rectangle(-half, top, half, bottom), tones.mid, -1)
        for y in np.linspace(top + 0.12, bottom - 0.12, kind + 1):
            sketch.line([(-half * 0.65, y), (half * 0.65, y)], 0.05, tones.ink, -1)


def draw_umbrella(rng: Rng, tones: Tones) -> Sketch:
    """An open umbrella: panels with a scalloped or straight hem, a shaft and a crook."""
    sketch = Sketch()
    hem, top = between(rng, -0.12, 0.05), between(rng, -0.85, -0.68)
    sketch.line([(0, top - 0.12), (0, 0.7)], 0.075, tones.ink)
    side = 1 if chance(rng, 0.5) else -1
    sketch.line(curve([(0, 0.68), (0, 1.02), (side * 0.3, 1.02), (side * 0.3, 0.72)], 10), 0.085, tones.ink)
    panels = int(rng.integers(4, 8))
    knots = -np.cos(np.linspace(0, np.pi, panels + 1))
    scallop = between(rng, 0.0, 0.16)
    for i in range(panels):
        left, right = float(knots[i]), float(knots[i + 1])
        panel = np.concatenate([
            curve([(0, top), (left * 0.85, top * 0.95), (left, hem)], 9),
            curve([(left, hem), ((left + right) / 2, hem - scallop), (right, hem)], 6),
            curve([(right, hem), (right * 0.85, top * 0.95), (0, top)], 9),
        ])  # fmt: skip
        sketch.fill(panel, tones.dark if i % 2 else tones.deep, 0.9 * (i % 2))
    if chance(rng, 0.5):
        for x in knots[1:-1]:
            sketch.line(curve([(0, top), (x * 0.85, top * 0.95), (x, hem)], 8), 0.035, tones.ink)
    elif chance(rng, 0.6):
        for x in np.linspace(-0.55, 0.55, 4):
            sketch.fill(ellipse(x, hem - 0.2 - 0.12 * (1 - abs(x)), 0.07, n=12), tones.mid, -1)
    return sketch


def draw_clock(rng: Rng, tones: Tones) -> Sketch:
    """A round or square clock face on feet, with hands at any time; alarm bells, pendulum or plain."""
    sketch = Sketch()
    kind = int(rng.integers(3))
    radius = 0.72
    for side in (-1, 1):
        sketch.line([(side * 0.35, 0.45), (side * 0.6, 0.95)], 0.15, tones.ink, 1)
        if kind == 1:
            bell = ellipse(0, 0, 0.27, 0.2, start=180, stop=360, n=12)
            sketch.fill(turn(bell, side * 36) + (side * 0.46, -0.66), tones.deep, 1)
    if kind == 1:
        sketch.line([(0, -0.7), (0, -0.92)], 0.1, tones.ink, 1)
    if kind == 2:
        sketch.fill(rectangle(-radius, -radius, radius, radius), tones.dark)
        sketch.fill([(-radius * 1.1, -radius * 0.95), (0, -1.15), (radius * 1.1, -radius * 0.95)], tones.deep, 1)
    else:
        sketch.fill(ellipse(0, 0, radius, n=36), tones.dark)
    sketch.fill(ellipse(0, 0, radius * between(rng, 0.74, 0.84), n=32), tones.mid, -0.8)
    _clock_marks(rng, tones, sketch, radius)
    return sketch


def _clock_marks(rng: Rng, tones: Tones, sketch: Sketch, radius: float) -> None:
    marks = (4, 8, 12)[int(rng.integers(3))]
    for angle in np.arange(marks) * 2 * np.pi / marks:
        way = np.array([np.cos(angle), np.sin(angle)]) * radius
        sketch.line([way * 0.58, way * 0.7], 0.055, tones.ink)
    minute, hour = between(rng, 0, 6.283), between(rng, 0, 6.283)
    for angle, length, width in ((hour, 0.36, 0.12), (minute, 0.56, 0.085)):
        sketch.line([(0, 0), (length * radius * np.sin(angle), -length * radius * np.cos(angle))], width, tones.ink)
    sketch.fill(ellipse(0, 0, 0.075, n=12), tones.ink)
