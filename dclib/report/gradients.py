"""The page of Figure 4: what Sobel leaves of an image, and what the folded first layer sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dclib.report.display import Fragment, show
from dclib.report.figures import SIZE, WIDTH
from dclib.report.pictures import bare

Array = NDArray[np.float32]


class FirstLayer(Protocol):
    """What ``evaluate.first_layer`` finds in one image."""

    @property
    def gradients(self) -> Array: ...
    @property
    def responses(self) -> Array: ...
    @property
    def filters(self) -> Array: ...
    @property
    def chosen(self) -> tuple[int, ...]: ...
    @property
    def difference(self) -> float: ...
    @property
    def scale(self) -> float: ...


def gradient_pictures(images: Sequence[Image.Image], seen: Sequence[FirstLayer], credits: Sequence[str]) -> Fragment:
    """Figure 4: images, and their two Sobel channels."""
    figure = Figure(figsize=(WIDTH, 2.1 * len(images)), facecolor="white", layout="constrained")
    for line, image, layer in zip(figure.subplots(len(images), 3, squeeze=False), images, seen, strict=True):
        line[0].imshow(image)
        limit = max(float(np.abs(layer.gradients).max()), 1e-6)
        for ax, channel in zip(line[1:], layer.gradients, strict=True):
            ax.imshow(channel, cmap="gray", vmin=-limit, vmax=limit)
        for ax, title in zip(line, ("image", "horizontal gradient", "vertical gradient"), strict=True):
            ax.set_title(title, fontsize=SIZE - 1)
            bare(ax)
    by = f" Photographs by {' and '.join(credits)}." if any(credits) else ""
    return show(
        figure,
        pictures=True,
        alt=f"{len(images)} images in colour, each with its horizontal and its vertical gradient in grey.",
        caption="Images and what the network is fed instead, as Figure 4 of the supplement: grey is zero, white and "
        f"black are edges of either sign. Colour and brightness are gone, shape is left.{by}",
    )


def response_pictures(seen: Sequence[FirstLayer]) -> Fragment:
    """Responses of the strongest filters of the folded first layer, one line for each image."""
    columns = len(seen[0].chosen)
    figure = Figure(figsize=(WIDTH, 1.7 * len(seen)), facecolor="white", layout="constrained")
    for line, layer in zip(figure.subplots(len(seen), columns, squeeze=False), seen, strict=True):
        for ax, response, number in zip(line, layer.responses, layer.chosen, strict=True):
            limit = max(float(np.abs(response).max()), 1e-6)
            ax.imshow(response, cmap="gray", vmin=-limit, vmax=limit)
            ax.set_title(f"filter {number}", fontsize=SIZE - 1)
            bare(ax)
    largest = max(layer.difference for layer in seen)
    scale = max(layer.scale for layer in seen)
    return show(
        figure,
        pictures=True,
        alt=f"Responses of {columns} filters to {len(seen)} images, in grey around zero.",
        caption="The first convolution after Sobel is folded into it, its filters of strongest response. It looks at "
        f"colours directly, and answers as before: the two networks differ by {largest:.1e} at most, of responses up "
        f"to {scale:.1f}.",
    )


def filter_pictures(layer: FirstLayer) -> Fragment:
    """The folded filters, 5x5, as they weigh colours; all three channels are alike until they are trained."""
    columns = len(layer.chosen)
    figure = Figure(figsize=(WIDTH, 1.8), facecolor="white", layout="constrained")
    for ax, weights, number in zip(
        figure.subplots(1, columns, squeeze=False)[0], layer.filters, layer.chosen, strict=True
    ):
        limit = max(float(np.abs(weights).max()), 1e-9)
        ax.imshow(weights.transpose(1, 2, 0) / (2 * limit) + 0.5)
        ax.set_title(f"filter {number}", fontsize=SIZE - 1)
        bare(ax)
    return show(
        figure,
        pictures=True,
        alt=f"{columns} filters of 5 by 5 pixels, in grey: lighter where a bright pixel speaks for the filter.",
        caption="These filters: a 3x3 convolution of gradients is a 5x5 one of colours. They are grey because the "
        "three colours still weigh the same; fine-tuning may change that.",
    )
