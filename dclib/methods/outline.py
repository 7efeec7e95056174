"""What an outline says of a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PAPER_YEARS = range(2018, 2020)  # of RotNet and DeepCluster, which the paper joins, and of the paper


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """A method without settings of its own."""


def one_view(config: Any) -> tuple[int, ...]:
    """One picture of the network's size."""
    return (config.model.image_size,)


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What is known of a way of pre-training before anything is trained; the callables get its ``MethodConfig``."""

    title: str  # how it is written on a page
    words: str  # what it does, for the head of its page
    learns_from: Literal["nothing", "pool", "objects", "clips"] = "pool"
    turns: int = 1  # quarter turns told apart, R
    clusters: bool = False  # whether whitened features are clustered into pseudo-labels
    asks: Mapping[str, str] = field(default_factory=dict)  # of the network: beginning of records' names -> in words
    settings: type = NoSettings  # dataclass of its own settings, a preset's section ``task``
    views: Callable[[Any], tuple[int, ...]] = one_view  # sides, pixels, of what the network sees of an image in a step
    square: Callable[[Any], int] | None = None  # side of the square an image is kept as; None: data.resize
    head: Callable[[Any], tuple[int, int]] | None = None  # weights of its head, and FLOPs of an image forward;
    # None: those of super- and sub-classes
    rooms: tuple[str, ...] = ()  # of dclib, whose code its numbers rest on besides its own and what all rest on
    nats: bool = True  # whether the loss is a cross-entropy; a guess then has the logarithm of the number of classes
    cite: str = ""  # key in references.bib, which ends in the year

    @property
    def year(self) -> int:
        """Of its publication; 0 for what is no way of pre-training."""
        return int(self.cite[-4:]) if self.cite else 0

    @property
    def era(self) -> Literal["before", "paper", "after"]:
        """Whether it is a method of the paper, one of those that it only quotes numbers of, or came after it."""
        if not self.year or self.year in PAPER_YEARS:
            return "paper"
        return "before" if self.year < PAPER_YEARS.start else "after"

    def decides(self, config: Any) -> list[object]:
        """What of all this changes a network's numbers, and so names its run; titles and words do not."""
        square = self.square(config) if self.square else 0
        return [self.learns_from, self.turns, self.clusters, list(self.views(config)), square]

    def passes(self, config: Any) -> float:
        """What an image costs in a step, in passes of the network: a smaller view costs its pixels."""
        side: int = config.model.image_size
        return sum((view / side) ** 2 for view in self.views(config))
