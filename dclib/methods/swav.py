"""SwAV: the assignment of one crop of an image is predicted from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dclib.methods.crops import CropSettings, crop_views, projection_size
from dclib.methods.outline import Outline


@dataclass(frozen=True, kw_only=True)
class SwavSettings(CropSettings):
    """Prototypes, and how a batch is assigned to them."""

    prototypes: int = 3000
    epsilon: float = 0.05  # the larger, the softer the assignments
    iterations: int = 3  # of Sinkhorn and Knopp
    queue: int = 0  # vectors of earlier steps that are assigned together with the batch's, where a batch is small
    queue_from: float = 0.0375  # share of the epochs after which they are: 15 of 400 there
    freeze: float = 0.0025  # share of the steps before which the prototypes stay as they were drawn: one epoch of 400

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crops < 2:
            raise ValueError(f"need crops >= 2, one to be predicted from another; got {self.crops}")
        if self.prototypes < 2 or self.iterations < 1 or self.epsilon <= 0 or self.queue < 0:
            raise ValueError(f"need prototypes >= 2, iterations >= 1, epsilon > 0 and queue >= 0; got {self}")
        if not (0 <= self.queue_from <= 1 and 0 <= self.freeze <= 1):
            raise ValueError(f"need queue_from and freeze in [0, 1]; got {self.queue_from} and {self.freeze}")


def _head(config: Any) -> tuple[int, int]:
    return projection_size(config, config.task.prototypes)


OUTLINES = {
    "swav": Outline(
        title="SwAV",
        words="Each image is seen in several crops; a batch's crops are assigned to prototypes, all of them used "
        "equally, and the assignment of one crop is predicted from the others. Nothing is clustered between epochs.",
        asks={"prototype": "prototypes"},
        settings=SwavSettings,
        views=crop_views,
        head=_head,
        rooms=("train/tasks/crops",),
        cite="caron2020",
    )
}
