"""How many clusters some images are enough for. No torch here: plans ask too."""

from __future__ import annotations

from dclib.config import ClusterConfig

POINTS_PER_CLUSTER = 39  # below this many points a cluster, FAISS and experience call a clustering under-sampled


def check_cluster_counts(n_images: int, config: ClusterConfig) -> None:
    """ValueError if there are fewer images than clusters; called before any feature is computed."""
    if config.n_clusters > n_images:
        raise ValueError(
            f"need at least one image per cluster: {config.n_super} x {config.n_sub} = {config.n_clusters} clusters "
            f"for {n_images} images; set cluster.n_sub to at most {max(2, n_images // config.n_super)}, better "
            f"{max(2, n_images // POINTS_PER_CLUSTER // config.n_super)} ({POINTS_PER_CLUSTER} images a cluster)"
        )
