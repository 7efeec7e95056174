"""A page's title from its parameters: one notebook makes several pages, and each needs a heading of its own.

Convention: a markdown cell tagged ``title`` keeps a heading that reads well in the notebook itself, and a
template in its metadata, ``{"dclib": {"title": "# Pre-training: {method_title}"}}``. Executing a page replaces
the heading by the template, filled in.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

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


def fill_titles(notebook: Any, parameters: Mapping[str, Any]) -> Any:
    """Fill the title of a notebook, in place, and return it.

    Args:
        notebook: An nbformat notebook, before or after execution.
        parameters: What it is executed with; a parameter left out has the notebook's own default.
            Besides them a template may name ``method_title``.

    Raises:
        ValueError: a template names something that is no parameter.
    """
    values = {**default_parameters(notebook), **parameters}
    if "method" in values:
        values["method_title"] = title_of(str(values["method"]))
    for cell in notebook["cells"]:
        template = cell.get("metadata", {}).get("dclib", {}).get("title")
        if cell["cell_type"] == "markdown" and template:
            cell["source"] = _fill(template, values)
    return notebook


def default_parameters(notebook: Any) -> dict[str, Any]:
    """Names and values assigned in the cell tagged ``parameters``; empty when there is none."""
    for cell in notebook["cells"]:
        if "parameters" in cell.get("metadata", {}).get("tags", []):
            assigned = [node for node in ast.parse(cell["source"]).body if isinstance(node, ast.AnnAssign)]
            return {
                n.target.id: ast.literal_eval(n.value) for n in assigned if isinstance(n.target, ast.Name) and n.value
            }
    return {}


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


def _fill(template: str, values: Mapping[str, Any]) -> str:
    def replace(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise ValueError(f"the title {template!r} names {found[1]!r}, no parameter; there are {', '.join(values)}")
        return str(values[found[1]])

    return re.sub(r"\{(\w+)\}", replace, template)
