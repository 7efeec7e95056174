"""Context prediction: where one patch of an image lies beside another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dclib.methods.outline import Outline

POSITIONS = 8  # of a 3 x 3 grid, around its middle


@dataclass(frozen=True, kw_only=True)
class ContextSettings:
    """How patches are cut, in pixels of an image whose short side is ``square``."""

    square: int = 400  # side of the central square that an image is kept as
    patch: int = 96  # side of a patch; resized to the network's input where that is another
    gap: int = 48  # between neighbours of the grid
    jitter: int = 7  # at most so far each patch is moved, up or down and left or right
    pixelate: float = 0.33  # share of patches that are seen as through a coarse screen

    def __post_init__(self) -> None:
        if min(self.patch, self.gap, self.jitter) < 0 or self.patch < 1 or not 0 <= self.pixelate <= 1:
            raise ValueError(f"need patch >= 1, gap and jitter >= 0 and pixelate in [0, 1]; got {self}")
        if (self.gap or self.jitter) and self.gap <= 2 * self.jitter:
            raise ValueError(f"need a gap of more than twice the jitter, or patches may touch; got {self}")
        if self.square < self.span:
            raise ValueError(f"need square >= {self.span}, for three patches with gaps and jitter; got {self.square}")

    @property
    def span(self) -> int:
        """Pixels that a grid takes."""
        return 3 * self.patch + 2 * self.gap + 2 * self.jitter


def _views(config: Any) -> tuple[int, ...]:
    return (config.model.image_size, config.model.image_size)


def _square(config: Any) -> int:
    return int(config.task.square)


def _head(config: Any) -> tuple[int, int]:
    d = config.model.feature_dim
    return (2 * d + 1) * d + (d + 1) * POSITIONS, 2 * (2 * d * d + d * POSITIONS)


OUTLINES = {
    "context": Outline(
        title="Context prediction",
        words="Two patches are cut from an image, neighbours in a grid of 3 x 3, and the network says in which of "
        "eight positions the second one lies beside the first.",
        asks={"position": "positions"},
        settings=ContextSettings,
        views=_views,
        square=_square,
        head=_head,
        cite="doersch2015",
    )
}
