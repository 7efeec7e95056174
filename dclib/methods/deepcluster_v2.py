"""DeepCluster-v2: clusters of the last epoch's vectors, whose centroids are the classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dclib.methods.crops import CropSettings, crop_views, projection_size
from dclib.methods.outline import Outline


@dataclass(frozen=True, kw_only=True)
class DeepClusterV2Settings(CropSettings):
    """Its clusters and k-means updates are those of the section ``cluster``: n_sub, n_iter, reassign_every."""

    partitions: int = 3  # independent clusterings, each with a classifier of its own

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.partitions < 1:
            raise ValueError(f"need partitions >= 1; got {self.partitions}")


def _head(config: Any) -> tuple[int, int]:
    return projection_size(config, config.task.partitions * config.cluster.n_sub)


OUTLINES = {
    "deepcluster_v2": Outline(
        title="DeepCluster-v2",
        words="Each image is seen in several crops; the vectors that its crops had in the last epoch are clustered by "
        "their direction, and every crop is to be nearest to the centroid of its image's cluster.",
        asks={"centroid": "centroids"},
        settings=DeepClusterV2Settings,
        views=crop_views,
        head=_head,
        rooms=("train/tasks/crops", "cluster/spherical"),
        cite="caron2020",
    )
}
