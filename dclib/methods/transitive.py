"""Transitive invariance: the same thing seen again, another thing like it, and what follows from both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dclib.methods.outline import Outline


@dataclass(frozen=True, kw_only=True)
class TransitiveSettings:
    """How patches are followed through clips, which are pairs, and how a pair is ranked."""

    patch: int = 192  # side of a patch in the frames, pixels
    side: int = 256  # side that it is kept at; crops of the network's size are cut from it
    frames: int = 30  # through which a patch is followed
    neighbours: int = 5  # patches of other clips that are called like one, at most
    across: float = 0.5  # share of pairs of two things that are alike; the others are one thing seen twice
    dim: int = 1024  # numbers of the vector that distances are taken of
    margin: float = 0.5  # by which a pair is to be nearer than what is no pair, cosine distance
    negatives: int = 4  # of each pair
    hard_from: float = 0.5  # share of the run after which they are the nearest of the batch, not any

    def __post_init__(self) -> None:
        if min(self.neighbours, self.dim, self.negatives) < 1 or self.frames < 2 or self.margin <= 0:
            raise ValueError(f"need neighbours, dim and negatives >= 1, frames >= 2 and margin > 0; got {self}")
        if self.patch < 16 or self.side < 1:
            raise ValueError(f"need patch >= 16, for a smaller one is found again anywhere, and side >= 1; got {self}")
        if not (0 <= self.across <= 1 and 0 <= self.hard_from <= 1):
            raise ValueError(f"need across and hard_from in [0, 1]; got {self.across} and {self.hard_from}")


def _views(config: Any) -> tuple[int, ...]:
    return (config.model.image_size, config.model.image_size)


def _square(config: Any) -> int:
    side, least = int(config.task.side), config.model.image_size
    if side < least:
        raise ValueError(f"need task.side >= model.image_size = {least}, for crops of it to be cut; got {side}")
    return side


def _head(config: Any) -> tuple[int, int]:
    d, dim, train = config.model.feature_dim, config.task.dim, config.train
    beside = train.batch_size // train.accumulate  # vectors that one is compared with
    return (d + 1) * dim, 4 * d * dim + 2 * beside * dim


OUTLINES = {
    "transitive": Outline(
        title="Transitive invariance",
        words="Patches that move are followed through clips. A patch is to be nearer to the same thing seen again, "
        "and to another thing like it seen at any moment, than to anything else.",
        learns_from="clips",
        asks={"nearer": "pairs that are nearer than others"},
        settings=TransitiveSettings,
        views=_views,
        square=_square,
        head=_head,
        rooms=("data/clips", "data/motion", "data/track_pixels", "data/tracks"),
        nats=False,
        cite="wang2017",
    )
}
