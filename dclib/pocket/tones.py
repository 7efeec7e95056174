"""The grey levels an object may use, drawn once per picture.

Three bands, all darker than every ground: one polarity, because pictures of the other polarity would be a
property of the whole picture that clustering finds before it finds the object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dclib.pocket.sketch import between

DARK = (45.0, 85.0)
MID = (95.0, 130.0)
INK = (15.0, 40.0)
GROUND = (160.0, 205.0)


@dataclass(frozen=True)
class Tones:
    """Grey levels (mean of R, G and B) of one object's parts."""

    dark: float  # the main mass
    deep: float  # a second plane of the main mass, same band
    mid: float  # lighter parts
    mid_other: float  # a second lighter part, same band
    ink: float  # lines, holes, feet


def draw_tones(rng: np.random.Generator) -> Tones:
    """Levels for one picture, each inside its band; the second of a pair is near the first."""
    dark, mid = between(rng, *DARK), between(rng, *MID)
    return Tones(
        dark=dark,
        deep=float(np.clip(dark + between(rng, -16, 16), *DARK)),
        mid=mid,
        mid_other=float(np.clip(mid + between(rng, -14, 14), *MID)),
        ink=between(rng, *INK),
    )
