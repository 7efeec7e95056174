"""The page of Figure 4: what Sobel leaves of an image, and what the folded first layer sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dclib.data.images import ImageSet
from dclib.report.display import Fragment, say, show
from dclib.report.figures import SIZE, WIDTH
from dclib.report.pictures import bare, describe_gradients
from dclib.report.seen import Lines, shown
from dclib.report.series import plural
from dclib.train.absent import AbsentSet

Array = NDArray[np.float32]
FLAT = 0.1  # of the strongest gradient
ROUNDING = 1e-4  # of the largest response: sums of 75 products in float32 stay far below it


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


def nothing_seen(pool: ImageSet | AbsentSet, method: str) -> Fragment:
    """Why there is nothing of a first layer to show."""
    if not method:
        return say("No network here is behind a Sobel filter: all see colour, and there is nothing to fold.")
    if isinstance(pool, AbsentSet):
        return say(pool.sentence)
    return say("What the first layer sees of photographs is a picture of them, and is not published with the records.")


def gradient_pictures(images: Sequence[Image.Image], seen: Sequence[FirstLayer], credit: str) -> Fragment:
    """Figure 4: images, and their two Sobel channels; ``credit`` says whose they are."""
    figure = Figure(figsize=(WIDTH, 2.1 * len(images)), facecolor="white", layout="constrained")
    for line, image, layer in zip(figure.subplots(len(images), 3, squeeze=False), images, seen, strict=True):
        line[0].imshow(image)
        limit = max(float(np.abs(layer.gradients).max()), 1e-6)
        for ax, channel in zip(line[1:], layer.gradients, strict=True):
            ax.imshow(channel, cmap="gray", vmin=-limit, vmax=limit)
        for ax, title in zip(line, ("image", "horizontal gradient", "vertical gradient"), strict=True):
            ax.set_title(title, fontsize=SIZE - 1)
            bare(ax)
    return show(
        figure,
        pictures=True,
        alt=describe_images(images, seen),
        caption="Images and what the network is fed instead, as Figure 4 of the supplement: grey is zero, white and "
        f"black are edges of either sign. Colour and brightness are gone, shape is left (D15). {credit}".strip(),
    )


def response_pictures(seen: Sequence[FirstLayer], source: Fragment | None = None) -> Fragment:
    """Responses of the strongest filters of the folded first layer, one line for each image; ``source``: whose."""
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
        alt=describe_responses(seen),
        caption="The first convolution after Sobel is folded into it, its filters of strongest response. It looks at "
        f"colours directly, and answers as before: the two networks differ by {largest:.1e} at most, of responses up "
        f"to {scale:.1f} (D32).",
        source=source,
    )


def describe_images(images: Sequence[Image.Image], seen: Sequence[FirstLayer]) -> str:
    """Figure 4 in words: the size of each image, and the range and the strong edges of its gradients."""
    parts = [
        f"image {number}, {image.width} by {image.height} pixels: {describe_gradients(layer.gradients)}"
        for number, (image, layer) in enumerate(zip(images, seen, strict=True), start=1)
    ]
    return f"{plural(len(images), 'image')} in colour, with gradients in grey. {'; '.join(parts)}."


def describe_responses(seen: Sequence[FirstLayer]) -> str:
    """The responses in words: the range of each filter, image by image."""
    parts = []
    for number, layer in enumerate(seen, start=1):
        ranges = (
            f"filter {name} from {response.min():.2f} to {response.max():.2f}"
            for name, response in zip(layer.chosen, layer.responses, strict=True)
        )
        parts.append(f"image {number}: {', '.join(ranges)}")
    return f"Responses of the strongest filters, in grey around zero. {'; '.join(parts)}."


def describe_filters(layer: FirstLayer) -> str:
    """The filters in words: their weights, and the direction along which each of them changes more."""
    parts = []
    for name, weights in zip(layer.chosen, layer.filters, strict=True):
        grey = weights.mean(axis=0)
        across, down = (float(np.abs(np.diff(grey, axis=axis)).sum()) for axis in (1, 0))
        direction = "from left to right" if across > down else "from top to bottom"
        parts.append(f"filter {name} from {weights.min():.2f} to {weights.max():.2f}, changing most {direction}")
    return f"{plural(len(layer.chosen), 'filter')} of 5 by 5 pixels, in grey. {'; '.join(parts)}."


def filter_pictures(layer: FirstLayer, source: Fragment | None = None) -> Fragment:
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
        alt=describe_filters(layer),
        caption="These filters: a 3x3 convolution of gradients is a 5x5 one of colours. They are grey because the "
        "three colours still weigh the same; fine-tuning may change that (D32).",
        source=source,
    )


def to_have_seen(seen: Sequence[FirstLayer]) -> Fragment:
    """How much of an image its gradients leave at zero, and whether folding changed a response."""
    return shown(list(_seen(seen)), "the pictures above")


def _seen(seen: Sequence[FirstLayer]) -> Lines:
    if seen:
        strength = [np.hypot(*layer.gradients) for layer in seen]
        flat = float(np.mean(np.concatenate([(s < FLAT * s.max()).ravel() for s in strength])))
        yield f"{100 * flat:.0f} % of all points are flat: their gradient is below {100 * FLAT:.0f} % of the strongest."
        off = max(layer.difference / layer.scale for layer in seen if layer.scale)
        said = "rounding, no more" if off < ROUNDING else "more than rounding explains"
        yield f"Folded and unfolded, responses differ by {off:.0e} of the largest: {said}."
