"""Colours with a controlled grey level, and grounds that have no up and no down.

The pocket world's grey level is the mean of R, G and B, not luma: the networks' Sobel stem averages the
channels with equal weights, so this is the brightness it sees.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from dclib.pocket.sketch import between

CHANNEL_LIMIT = 250.0  # a lighter channel would be cut off by the noise, which would change the mean
NOISE_GRID = 32  # pixels a side at which noise is drawn: what a pocket network sees
# bicubic enlargement of the noise, JPEG and averaging back to 32 pixels keep this much of its deviation
NOISE_KEPT = 0.74
GROUND_KINDS = ("gradient", "blobs", "stripes", "speckle")

Colour = Callable[[float, float], tuple[int, int, int]]
Field = NDArray[np.float32]


def tint(grey: float, hue: float, saturation: float) -> tuple[int, int, int]:
    """R, G, B with mean ``grey`` and the given hue (turns); paler where full saturation would leave the range."""
    pure = colorsys.hsv_to_rgb(hue % 1.0, saturation, 1.0)
    gain = 3 * grey / sum(pure)
    excess = gain * max(pure) - grey
    limit = max(CHANNEL_LIMIT, grey)
    pale = min(1.0, (limit - grey) / excess) if excess > 0 else 1.0
    r, g, b = (min(255, round(grey + pale * (gain * channel - grey))) for channel in pure)
    return r, g, b


def tinter(hue: float, spread: float, saturation: float, gain: float = 1.0) -> Colour:
    """A painter's colours: hue offset 1 is ``spread`` turns away from ``hue``; greys are multiplied by ``gain``."""
    known: dict[tuple[int, float], tuple[int, int, int]] = {}

    def colour(grey: float, offset: float) -> tuple[int, int, int]:
        key = (round(grey * gain), offset)
        if key not in known:
            known[key] = tint(key[0], hue + spread * offset, saturation)
        return known[key]

    return colour


def ground_field(rng: np.random.Generator, kind: str, amplitude: float, side: int = 64) -> Field:
    """(side, side) texture with values in [-amplitude, amplitude] and no preferred direction.

    ``kind`` is one of GROUND_KINDS; angle, phase and scale are drawn from ``rng``.
    """
    axis: Field = np.linspace(-1, 1, side, dtype=np.float32)
    angle = between(rng, 0, 2 * math.pi)
    along = math.cos(angle) * axis[None, :] + math.sin(angle) * axis[:, None]
    if kind == "gradient":
        texture = along / np.abs(along).max()
    elif kind == "stripes":
        texture = _stripes(rng, axis, along, angle)
    elif kind == "blobs":
        texture = _smooth_noise(rng, side, int(rng.integers(4, 7)))
    elif kind == "speckle":
        texture = _smooth_noise(rng, side, int(rng.integers(14, 24)))
    else:
        raise ValueError(f"need a ground kind among {', '.join(GROUND_KINDS)}; got {kind!r}")
    return np.asarray(amplitude * texture, dtype=np.float32)


def _stripes(rng: np.random.Generator, axis: Field, along: Field, angle: float) -> Field:
    across = -math.sin(angle) * axis[None, :] + math.cos(angle) * axis[:, None]
    bend = between(rng, 0, 0.12) * np.sin(between(rng, 2, 5) * across + between(rng, 0, 6.28))
    waves = np.sin(between(rng, 9, 20) * (along + bend) + between(rng, 0, 6.28))
    return np.asarray(np.tanh(between(rng, 0.6, 3.0) * waves), dtype=np.float32)


def _smooth_noise(rng: np.random.Generator, side: int, cells: int) -> Field:
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    # a margin of one cell is cut off, since enlarging repeats the edge and would flatten it
    margin = side // cells + 1
    large = np.asarray(coarse.resize((side + 2 * margin,) * 2, Image.Resampling.BICUBIC))
    inner = large[margin : margin + side, margin : margin + side]
    return np.asarray(inner / max(float(np.abs(inner).max()), 1e-6), dtype=np.float32)


def paint_field(field: Field, size: tuple[int, int], colour: Colour) -> Image.Image:
    """The grey field (h, w) enlarged to ``size`` (width, height) and coloured: R, G, B with that mean."""
    grey = Image.fromarray(np.clip(np.rint(field), 0, 255).astype(np.uint8))
    grey = grey.resize(size, Image.Resampling.BICUBIC)
    low, high = (int(v) for v in grey.getextrema())  # type: ignore[arg-type]
    table = np.zeros((256, 3), dtype=np.uint8)
    for level in range(low, high + 1):
        table[level] = colour(level, 0.0)
    return Image.merge("RGB", [grey.point(table[:, channel].tolist()) for channel in range(3)])


def add_noise(rng: np.random.Generator, image: Image.Image, deviation: float, grid: int = NOISE_GRID) -> Image.Image:
    """``image`` with smooth colour noise of this deviation in each channel when seen ``grid`` pixels wide.

    Drawn on that grid and enlarged: fine noise would be averaged away when a network's input is made.
    """
    cells = [max(2, round(grid * n / max(image.size))) for n in image.size]
    values = rng.standard_normal((cells[1], cells[0], 3), dtype=np.float32) * (deviation / NOISE_KEPT) + 128
    grain = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    return ImageChops.add(image, grain.resize(image.size, Image.Resampling.BICUBIC), offset=-128)
