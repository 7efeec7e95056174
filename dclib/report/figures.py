"""Figures of the book, drawn from records, each with a function that says in words what it shows.

A plotting function takes data and ``ax=None`` and returns the axes. Figures are made without pyplot: nothing is
global, and nothing stays open. They are opaque and white, so that they can be read in dark mode too, and sized
for type that a phone can still show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from dclib.paper import DATASETS, LAYERS, N_LAYERS, NAMES, Curve, Half, table1
from dclib.records import Record
from dclib.report.series import (
    Line,
    accuracy_by_layer,
    best_layer,
    history,
    mean_curve,
    mean_line,
    title_of,
)

WIDTH, HEIGHT = 6.2, 3.9  # inches of a figure that stands alone
PANEL = 4.2, 4.2  # inches of one that stands beside another, with a legend below
SIZE = 11  # points of ordinary type: about 8 px on a screen 390 px wide
DEPTHS = tuple(range(1, N_LAYERS + 1))


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
    "rotnet_rgb": Look("#ca9161", "d"),
    "deepercluster_rgb": Look("#56b4e9", "h"),
    "rotnet_curated": Look("#de8f05", "<"),
    "deepcluster_curated": Look("#8c613c", ">"),
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
    """Linear-probe accuracy of each layer: our mean over seeds, with the standard deviation where there are several."""
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
    return finish(ax)


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
    plot_seeds(ax, lines, look_of(method), "training loss")
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
    return finish(ax)


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
    plot_seeds(ax, with_labels, look, "with the classes (for display only)")
    plot_seeds(ax, with_previous, Look("#555555", "x"), "with the assignment before", linestyle="--")
    ax.set(
        xlabel="clustering, from 0",
        ylabel="NMI, 0 to 1",
        ylim=(0, 1),
        title=f"{title_of(method)}: agreement of clusters",
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if with_labels or with_previous:
        ax.legend(frameon=False, fontsize=SIZE - 1)
    return finish(ax)


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
    return finish(ax)


def describe_cluster_sizes(records: Sequence[Record], method: str) -> str:
    """The sizes in words, at the last clustering."""
    last = {which: _size_line(records, which, method)[1][-1] for which in ("smallest", "median", "largest")}
    sizes = ", ".join(f"{which} {value:,.0f}" for which, value in last.items())
    return f"Cluster sizes of {title_of(method)} at the last clustering, in images: {sizes}."


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
    return finish(ax)


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


def plot_seeds(ax: Axes, lines: Mapping[int, Line], look: Look, label: str, *, linestyle: str = "-") -> None:
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


def finish(ax: Axes) -> Axes:
    """A light grid, no box, and type large enough for a phone."""
    sns.despine(ax=ax)
    ax.grid(visible=True, color="#dddddd", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_facecolor("white")
    ax.tick_params(labelsize=SIZE - 1)
    for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
        text.set_fontsize(SIZE)
    return ax
