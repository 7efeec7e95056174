"""What a method of a preset does, in words for the head of its page."""

from __future__ import annotations

from dclib.config import MethodConfig
from dclib.report.series import plural, title_of

TASKS = {
    "random": "The network is drawn at random and never trained: the floor that others must clear.",
    "rotnet": "Each image is turned by a random number of quarter turns, and the network says by how many.",
    "deepcluster": "Features are grouped by k-means; the groups are the classes of the next epochs.",
    "deepercluster": (
        "Features are grouped by k-means, and the network predicts an image's group together with the "
        "quarter turn it was shown in."
    ),
    "released": "The network is read from a file of published weights.",
    "supervised": "The network learns the true classes of labelled images: the reference that needs them.",
}


def describe_method(method: str, config: MethodConfig) -> str:
    """What a method of a preset does, with the settings that matter, in a few sentences."""
    model, cluster, train = config.model, config.cluster, config.train
    said = [f"{title_of(method)}. {TASKS[config.method]}"]
    stem = "image gradients (Sobel)" if model.stem == "sobel" else "RGB images"
    said.append(f"Input: {stem} of {model.image_size} x {model.image_size} pixels; VGG-16 at width {model.width:g}.")
    if config.images == "objects" and config.method != "supervised":
        said.append("It learns from the curated images that the probes are trained on, without their labels.")
    if config.method not in ("random", "released"):
        said.append(f"{train.epochs} epochs, batches of {train.batch_size}, learning rate {train.lr:g}.")
    if config.clusters:
        said.append(
            f"{cluster.n_clusters:,} clusters ({cluster.n_super} x {cluster.n_sub:,}) of features whitened "
            f"to {cluster.pca_dim} dimensions, made anew every {plural(cluster.reassign_every, 'epoch')}."
        )
    if config.init:
        said.append(f"It starts from {title_of(config.init)} of the same seed.")
    return " ".join(said)
