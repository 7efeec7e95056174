"""What a method of a preset does, in words for the head of its page."""

from __future__ import annotations

from dclib.config import MethodConfig
from dclib.methods import OUTLINES
from dclib.report.series import plural, title_of


def describe_method(method: str, config: MethodConfig) -> str:
    """What a method of a preset does, with the settings that matter, in a few sentences."""
    model, cluster, train = config.model, config.cluster, config.train
    outline = OUTLINES[config.method]
    said = [f"{title_of(method)}. {outline.words}"]
    stem = "image gradients (Sobel)" if model.stem == "sobel" else "RGB images"
    said.append(f"Input: {stem} of {model.image_size} x {model.image_size} pixels; VGG-16 at width {model.width:g}.")
    if config.images == "objects" and outline.learns_from == "pool":
        said.append("It learns from the curated images that the probes are trained on, without their labels.")
    if config.trains:
        said.append(f"{train.epochs} epochs, batches of {train.batch_size}, learning rate {train.lr:g}.")
    if config.passes != 1:
        said.append(f"A step sees each image {plural(len(outline.views(config)), 'time')}: {config.passes:g} passes.")
    if config.clusters:
        said.append(
            f"{cluster.n_clusters:,} clusters ({cluster.n_super} x {cluster.n_sub:,}) of features whitened "
            f"to {cluster.pca_dim} dimensions, made anew every {plural(cluster.reassign_every, 'epoch')}."
        )
    if config.init:
        said.append(f"It starts from {title_of(config.init)} of the same seed.")
    return " ".join(said)
