"""Figures of the book, drawn from records and images, each with a function that says in words what it shows.

A plotting function takes data and ``ax=None`` and returns the axes. Figures are made without pyplot: nothing is
global, and nothing stays open. They are opaque and white, so that they can be read in dark mode too, and sized
for type that a phone can still show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dclib.data.images import ImageSet
from dclib.paper import DATASETS, LAYERS, N_LAYERS, NAMES, Curve, Half, table1
from dclib.records import Record
from dclib.report.series import (
    Line,
    accuracy_by_layer,
    best_layer,
    history,
    mean_curve,
    mean_line,
    plural,
    title_of,
)

WIDTH, HEIGHT = 6.2, 3.9  # inches of a figure that stands alone
PANEL = 4.2, 4.2  # inches of one that stands beside another, with a legend below
ROW_NAMES = 1.0  # inches that the names of a contact sheet's rows take
SIZE = 11  # points of ordinary type: about 8 px on a screen 390 px wide
DEPTHS = tuple(range(1, N_LAYERS + 1))

Pixels = NDArray[np.uint8]  # (height, width, 3)


@dataclass(frozen=True)
class Look:
    """A method's colour and marker, the same in every figure."""

    color: str
    marker: str


# seaborn's "colorblind" palette, with greys for the two references; markers tell methods apart without colour
LOOKS: Mapping[str, Look] = {
    "supervised": Look("#333333", "s"),
    "deepercluster": Look("#0173b2", "o"),
    "deepcluster": Look("#029e73", "^"),
    "rotnet": Look("#d55e00", "D"),
    "random": Look("#949494", "v"),
}
VARIANT_LOOK = Look("#cc78bc", "P")  # a variant of a method, such as its hierarchy


def look_of(method: str) -> Look:
    """The colour and marker of a method of a preset."""
    return LOOKS.get(method, VARIANT_LOOK)


def new_axes(width: float = WIDTH, height: float = HEIGHT) -> Axes:
    """Axes of a new figure of its own, white and laid out so that nothing is cut off."""
    return Figure(figsize=(width, height), facecolor="white", layout="constrained").add_subplot()


# Accuracy against depth: Figure 2 of the main paper, Table 1 of the supplement


def plot_accuracy_against_depth(records: Sequence[Record], half: Half, *, ax: Axes | None = None) -> Axes:
    """Linear-probe accuracy of each layer: our mean over seeds with the standard deviation."""
    ax = new_axes(*PANEL) if ax is None else ax
    for method, seeds in _measured(records, half).items():
        _plot_curve(ax, method, *mean_curve(seeds))
    return _finish_depth(ax, f"{half.capitalize()}, here")


def plot_published_accuracy(half: Half, *, ax: Axes | None = None) -> Axes:
    """The paper's curves, from Table 1 of the supplement."""
    ax = new_axes(*PANEL) if ax is None else ax
    for method, curve in table1(half).items():
        _plot_curve(ax, method, curve, [0.0] * N_LAYERS, linestyle="--")
    return _finish_depth(ax, f"{DATASETS[half]}, paper")


def describe_accuracy_against_depth(records: Sequence[Record], half: Half) -> str:
    """Our curves in words: first, best and last layer of each method."""
    curves = _measured(records, half)
    ours = [f"{title_of(method)} {_curve_in_words(mean_curve(seeds)[0])}" for method, seeds in curves.items()]
    return f"Linear-probe accuracy against layer on {half}, here. {'; '.join(ours) or 'Not measured'}."


def describe_published_accuracy(half: Half) -> str:
    """The paper's curves in words."""
    paper = [f"{NAMES[method]} {_curve_in_words(curve)}" for method, curve in table1(half).items()]
    return f"Linear-probe accuracy against layer on {DATASETS[half]}, paper. {'; '.join(paper)}."


def _plot_curve(
    ax: Axes, method: str, means: Sequence[float], deviations: Sequence[float], *, linestyle: str = "-"
) -> None:
    look = look_of(method)
    ax.errorbar(
        DEPTHS,
        means,
        deviations if any(deviations) else None,
        color=look.color,
        marker=look.marker,
        linestyle=linestyle,
        markersize=5,
        capsize=2,
        linewidth=1.8,
        label=title_of(method),
    )


def _finish_depth(ax: Axes, title: str) -> Axes:
    ax.set_xticks(DEPTHS)
    ax.set(xlabel="convolutional layer", ylabel="top-1 accuracy, %", title=title)
    low, high = ax.get_ylim()
    ax.set_ylim(max(0, low), min(100.5, high))
    if ax.containers:
        # below the axes: the curves leave no corner free
        ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.17), ncols=2, frameon=False, fontsize=SIZE - 1)
    return _finish(ax)


def _measured(records: Sequence[Record], half: Half) -> dict[str, dict[int, Curve]]:
    return {method: seeds for method, seeds in accuracy_by_layer(records, half).items() if seeds}


def _curve_in_words(curve: Sequence[float]) -> str:
    best = best_layer(tuple(curve))
    return f"{curve[0]:.1f} % at conv1, best {max(curve):.1f} % at {LAYERS[best - 1]}, {curve[-1]:.1f} % at conv13"


# Training


def plot_training_loss(records: Sequence[Record], method: str, *, ax: Axes | None = None) -> Axes:
    """Loss of each epoch, one line per seed, with the loss of a network that knows nothing as reference."""
    ax = new_axes() if ax is None else ax
    lines = history(records, "loss", method, "epoch")
    chance = history(records, "chance_loss", method, "epoch")
    _plot_seeds(ax, lines, look_of(method), "training loss")
    if chance:
        steps, values, _ = mean_line(chance)
        # half an epoch to both sides, so that it can be seen when there is one epoch only
        ax.plot([steps[0] - 0.5, *steps, steps[-1] + 0.5], [values[0], *values, values[-1]], "k:", linewidth=1.5)
        ax.annotate(
            f"chance, ln(classes) = {values[-1]:.2f}",
            (steps[-1] + 0.5, values[-1]),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            fontsize=SIZE - 1,
        )
    ax.set(xlabel="epoch", ylabel="loss, nats", title=title_of(method))
    ax.set_ylim(0, ax.get_ylim()[1] * 1.06)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _finish(ax)


def describe_training_loss(records: Sequence[Record], method: str) -> str:
    """The loss in words: first and last epoch, and chance."""
    words = _change_in_words(history(records, "loss", method, "epoch"), "epoch", "nats")
    chance = history(records, "chance_loss", method, "epoch")
    reference = f" Chance is {mean_line(chance)[1][-1]:.2f} nats." if chance else ""
    return f"Training loss of {title_of(method)} goes {words}.{reference}"


# Clustering


def plot_cluster_agreement(records: Sequence[Record], method: str, *, ax: Axes | None = None) -> Axes:
    """NMI of each assignment with the true classes and with the assignment before it, one line per seed."""
    ax = new_axes() if ax is None else ax
    look = look_of(method)
    with_labels = history(records, "nmi_labels", method, "assignment")
    with_previous = history(records, "nmi_previous", method, "assignment")
    _plot_seeds(ax, with_labels, look, "with the classes (for display only)")
    _plot_seeds(ax, with_previous, Look("#555555", "x"), "with the assignment before", linestyle="--")
    ax.set(
        xlabel="clustering, from 0",
        ylabel="NMI, 0 to 1",
        ylim=(0, 1),
        title=f"{title_of(method)}: agreement of clusters",
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if with_labels or with_previous:
        ax.legend(frameon=False, fontsize=SIZE - 1)
    return _finish(ax)


def describe_cluster_agreement(records: Sequence[Record], method: str) -> str:
    """The agreement in words: first and last clustering."""
    parts = []
    for name, whom in (("nmi_labels", "with the classes"), ("nmi_previous", "with the assignment before")):
        lines = history(records, name, method, "assignment")
        if lines:
            parts.append(f"normalised mutual information {whom} goes {_change_in_words(lines, 'clustering', '')}")
    return f"{title_of(method)}: {'; '.join(parts) or 'no agreement was measured'}."


def plot_cluster_sizes(records: Sequence[Record], method: str, *, ax: Axes | None = None) -> Axes:
    """Smallest, median and largest cluster of each assignment, mean over seeds, in images."""
    ax = new_axes() if ax is None else ax
    look = look_of(method)
    bounds = {which: _size_line(records, which, method) for which in ("smallest", "median", "largest")}
    for which, style in (("largest", "--"), ("median", "-"), ("smallest", ":")):
        steps, values = bounds[which]
        ax.plot(steps, values, color=look.color, linestyle=style, marker=look.marker, markersize=5, label=which)
    ax.fill_between(bounds["median"][0], bounds["smallest"][1], bounds["largest"][1], color=look.color, alpha=0.15)
    ax.set_yscale("log")  # sizes span decades; the smallest is that of clusters with something in them
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="clustering, from 0", ylabel="cluster size, images", title=f"{title_of(method)}: sizes of clusters")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=SIZE - 1)
    return _finish(ax)


def describe_cluster_sizes(records: Sequence[Record], method: str) -> str:
    """The sizes in words, at the last clustering."""
    last = {which: _size_line(records, which, method)[1][-1] for which in ("smallest", "median", "largest")}
    sizes = ", ".join(f"{which} {value:,.0f}" for which, value in last.items())
    return f"Cluster sizes of {title_of(method)} at the last clustering, in images, mean over seeds: {sizes}."


def _size_line(records: Sequence[Record], which: str, method: str) -> tuple[tuple[int, ...], list[float]]:
    steps, values, _ = mean_line(history(records, f"{which}_cluster", method, "assignment"))
    return steps, values


# Data


def plot_class_counts(sets: Mapping[str, NDArray[np.int64]], *, ax: Axes | None = None) -> Axes:
    """Images of each class, classes from the most to the least frequent: (name of a set -> labels (n,))."""
    ax = new_axes() if ax is None else ax
    palette = sns.color_palette("colorblind").as_hex()
    for (name, labels), color, marker in zip(sets.items(), (palette[0], palette[3], palette[2]), "osD", strict=False):
        counts = _sorted_counts(labels)
        # step-free lines: a class is a place in the ranking, not an interval
        ax.plot(range(1, len(counts) + 1), counts, color=color, marker=marker, markersize=4, label=name)
    ax.set(xlabel="class, from most to least frequent", ylabel="images")
    ax.set_ylim(0, ax.get_ylim()[1] * 1.05)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if sets:
        ax.legend(frameon=False, fontsize=SIZE - 1)
    return _finish(ax)


def describe_class_counts(sets: Mapping[str, NDArray[np.int64]]) -> str:
    """The counts in words: most and least frequent class of each set."""
    parts = []
    for name, labels in sets.items():
        counts = _sorted_counts(labels)
        parts.append(f"{name}: {len(counts)} classes of {counts[0]:,} to {counts[-1]:,} images")
    return f"Images per class, sorted. {'; '.join(parts)}."


def _sorted_counts(labels: NDArray[np.int64]) -> list[int]:
    """Images of each class that has any, most frequent first."""
    return sorted(np.unique(labels, return_counts=True)[1].tolist(), reverse=True)


# Pictures


def sample_rows(images: ImageSet, *, n_rows: int, per_row: int, seed: int = 0) -> dict[str, list[int]]:
    """Numbers of images for a contact sheet: a row per class, classes evenly spread, or unnamed rows without labels."""
    rng = np.random.default_rng(seed)
    if images.labels is None:
        order = rng.permutation(len(images))[: n_rows * per_row].tolist()
        return {" " * i: order[i * per_row : (i + 1) * per_row] for i in range(-(-len(order) // per_row))}
    present = np.unique(images.labels)
    shown = present[np.linspace(0, len(present) - 1, min(n_rows, len(present))).astype(int)]
    members = {images.classes[c]: np.flatnonzero(images.labels == c) for c in shown}
    return {name: rng.permutation(numbers)[:per_row].tolist() for name, numbers in members.items()}


def draw_contact_sheet(
    images: ImageSet, rows: Mapping[str, Sequence[int]], *, tile: int = 96, ax: Axes | None = None
) -> Axes:
    """Rows of images, each cut to a square of ``tile`` pixels, with the row's name to its left."""
    per_row = max(map(len, rows.values()))
    tiles = [[square_tile(images.open(i, draft=tile), tile) for i in numbers] for numbers in rows.values()]
    room = ROW_NAMES if any(name.strip() for name in rows) else 0.0
    ax = new_axes(WIDTH, (WIDTH - room) * len(rows) / per_row) if ax is None else ax
    ax.imshow(join_tiles(tiles, tile), aspect="equal", interpolation="nearest")
    middles = [GAP + tile / 2 + i * (tile + GAP) for i in range(len(rows))]
    _bare(ax).set_yticks(middles, list(rows), fontsize=SIZE - 1)
    ax.tick_params(length=0)
    return ax


def describe_contact_sheet(images: ImageSet, rows: Mapping[str, Sequence[int]]) -> str:
    """What a contact sheet holds."""
    shown = sum(map(len, rows.values()))
    named = [name for name in rows if name.strip()]
    return f"{plural(shown, 'image')} of {len(images):,} in {images.name}" + (
        f", by row: {', '.join(named)}." if named else "."
    )


def draw_cluster_mosaics(
    images: ImageSet, clusters: Sequence[Mapping[str, Any]], *, tile: int = 64, columns: int = 4
) -> Figure:
    """Nine images of each of some clusters, three by three, with the cluster's number and size above.

    Args:
        images: The set that was clustered.
        clusters: As saved with a run: ``{"cluster": number, "size": images, "images": [ids]}``.
    """
    n_rows = -(-len(clusters) // columns)
    figure = Figure(figsize=(WIDTH, 1.75 * n_rows), facecolor="white", layout="constrained")
    numbers = _numbers_of(images, [i for cluster in clusters for i in cluster["images"]])
    panels = figure.subplots(n_rows, columns, squeeze=False).ravel()
    for ax in panels[len(clusters) :]:
        ax.axis("off")
    for ax, cluster in zip(panels, clusters, strict=False):
        tiles = [square_tile(images.open(numbers[i], draft=tile), tile) for i in cluster["images"]]
        ax.imshow(join_tiles([tiles[i : i + 3] for i in range(0, len(tiles), 3)], tile))
        ax.set_title(f"{cluster['cluster']} ({cluster['size']:,})", fontsize=SIZE - 2)
        _bare(ax)
    return figure


def describe_cluster_mosaics(images: ImageSet, clusters: Sequence[Mapping[str, Any]]) -> str:
    """The mosaics in words: the most frequent class among each cluster's pictures, where classes are known."""
    numbers = _numbers_of(images, [i for cluster in clusters for i in cluster["images"]])
    parts = []
    for cluster in clusters:
        part = f"cluster {cluster['cluster']} of {cluster['size']:,} images"
        if images.labels is not None:
            counts = np.bincount(images.labels[[numbers[i] for i in cluster["images"]]])
            part += f", {counts.max()} of {len(cluster['images'])} {images.classes[int(counts.argmax())]}"
        parts.append(part)
    return f"Mosaics of {plural(len(clusters), 'cluster')}: {'; '.join(parts)}."


def draw_rotations(image: Image.Image, *, tile: int = 160) -> Figure:
    """An image in its four quarter turns, counter-clockwise, as the rotation task shows it."""
    pixels = square_tile(image, tile)
    figure = Figure(figsize=(WIDTH, 1.9), facecolor="white", layout="constrained")
    for turn, ax in enumerate(figure.subplots(1, 4)):
        ax.imshow(np.rot90(pixels, turn))
        ax.set_title(f"q = {turn}: {90 * turn}°", fontsize=SIZE - 1)
        _bare(ax)
    return figure


def draw_sobel(image: Image.Image, *, tile: int = 160) -> Figure:
    """An image and its two Sobel channels, zero in grey: what the network sees in place of colour."""
    pixels = square_tile(image, tile)
    channels = sobel_channels(pixels)
    figure = Figure(figsize=(WIDTH, 2.4), facecolor="white", layout="constrained")
    axes = figure.subplots(1, 3)
    axes[0].imshow(pixels)
    limit = max(float(np.abs(channels).max()), 1e-6)
    for ax, channel in zip(axes[1:], channels, strict=True):
        ax.imshow(channel, cmap="gray", vmin=-limit, vmax=limit)
    for ax, title in zip(axes, ("image", "horizontal gradient", "vertical gradient"), strict=True):
        ax.set_title(title, fontsize=SIZE - 1)
        _bare(ax)
    return figure


def sobel_channels(pixels: Pixels) -> NDArray[np.float64]:
    """Horizontal and vertical image gradients, (2, height, width): grey is the mean of R, G and B in [0, 1].

    Cross-correlation with rows (1, 0, -1), (2, 0, -2), (1, 0, -1) and with its transpose; the border repeats the
    edge, so that the frame of a picture is no edge in it (the network pads with zeros).
    """
    grey = np.pad(pixels.mean(axis=2) / 255, 1, mode="edge")
    smooth_rows = grey[:-2] + 2 * grey[1:-1] + grey[2:]
    smooth_columns = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    return np.stack([smooth_rows[:, :-2] - smooth_rows[:, 2:], smooth_columns[:-2] - smooth_columns[2:]])


GAP = 4  # white pixels between tiles


def square_tile(image: Image.Image, size: int) -> Pixels:
    """The middle square of an image as (size, size, 3)."""
    return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS))


def join_tiles(rows: Sequence[Sequence[Pixels]], size: int) -> Pixels:
    """Tiles of (size, size, 3) on white, rows from the top, missing ones left white."""
    pitch = size + GAP
    width = max(map(len, rows))
    sheet = np.full((len(rows) * pitch + GAP, width * pitch + GAP, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            top, left = GAP + i * pitch, GAP + j * pitch
            sheet[top : top + size, left : left + size] = tile
    return sheet


def _numbers_of(images: ImageSet, ids: Sequence[str]) -> dict[str, int]:
    """Numbers of some images by their ids; ValueError names one that is not in the set."""
    wanted = set(ids)
    numbers = {image_id: number for number, image_id in enumerate(images.ids) if image_id in wanted}
    if missing := sorted(wanted - numbers.keys()):
        raise ValueError(f"{len(missing)} pictured images are not in {images.name}, first {missing[0]!r}; train again")
    return numbers


def _plot_seeds(ax: Axes, lines: Mapping[int, Line], look: Look, label: str, *, linestyle: str = "-") -> None:
    """A thin line per seed and a thick one for their mean."""
    if not lines:
        return
    if len(lines) > 1:
        for xs, ys in lines.values():
            ax.plot(xs, ys, color=look.color, linewidth=0.9, alpha=0.6, linestyle=linestyle)
        label += f", mean of {len(lines)} seeds"
    steps, means, _ = mean_line(dict(lines))
    ax.plot(
        steps, means, color=look.color, marker=look.marker, markersize=5, linewidth=2, linestyle=linestyle, label=label
    )


def _change_in_words(lines: Mapping[int, Line], step: str, unit: str) -> str:
    """``from 2.10 at epoch 1 to 0.90 at epoch 6 (median over 3 seeds), nats``."""
    if not lines:
        return "unmeasured"
    first, last = median(ys[0] for _, ys in lines.values()), median(ys[-1] for _, ys in lines.values())
    start, end = min(xs[0] for xs, _ in lines.values()), max(xs[-1] for xs, _ in lines.values())
    over = f", median over {len(lines)} seeds" if len(lines) > 1 else ""
    return f"from {first:.2f} at {step} {start} to {last:.2f} {unit} at {step} {end}{over}".replace("  ", " ")


def _finish(ax: Axes) -> Axes:
    """A light grid, no box, and type large enough for a phone."""
    sns.despine(ax=ax)
    ax.grid(visible=True, color="#dddddd", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_facecolor("white")
    ax.tick_params(labelsize=SIZE - 1)
    for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
        text.set_fontsize(SIZE)
    return ax


def _bare(ax: Axes) -> Axes:
    """No frame and no ticks: a picture has no axes."""
    ax.set_xticks([])
    ax.set_yticks([])
    sns.despine(ax=ax, left=True, bottom=True)
    return ax
