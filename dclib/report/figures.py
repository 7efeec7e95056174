"""Figures of the book, drawn from records, each with a function that says in words what it shows.

A plotting function takes data and ``ax=None`` and returns the axes. Figures are made without pyplot: nothing is
global, and nothing stays open. They are opaque and white, so that they can be read in dark mode too, and sized
for type that a phone can still show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from dclib.methods import OUTLINES
from dclib.paper import DATASETS, LAYERS, N_LAYERS, NAMES, Curve, Half, table1, task_of
from dclib.records import Record
from dclib.report.series import (
    BY_YEAR,
    Line,
    accuracy_by_layer,
    best_layer,
    era_of,
    history,
    mean_curve,
    mean_line,
    title_of,
)

WIDTH, HEIGHT = 6.2, 3.9  # inches of a figure that stands alone
PANEL = 4.2, 4.2  # inches of one that stands beside another, with a legend below
SIZE = 11  # points of ordinary type: about 8 px on a screen 390 px wide
DEPTHS = tuple(range(1, N_LAYERS + 1))
LINE_HEIGHT = 1.25 * SIZE  # points from one name to the next
AXES_SHARE = 0.75  # of a figure's height that its axes take, about
Kind = Literal["the paper's", "before and after", "variants"]  # of networks, each in a panel of its own
KINDS: tuple[Kind, ...] = ("the paper's", "before and after", "variants")
READABLE = 4.5  # contrast of words to their ground, WCAG 2, level AA


@dataclass(frozen=True)
class Look:
    """A method's colour and marker, the same in every figure."""

    color: str
    marker: str


# seaborn's "colorblind" palette, with greys for the two references and, for variants, hues that no other method
# comes near, to a colour-blind eye either; markers tell methods apart without colour
LOOKS: dict[str, Look] = {
    "supervised": Look("#333333", "s"),
    "deepercluster": Look("#0173b2", "o"),
    "deepcluster": Look("#029e73", "^"),
    "rotnet": Look("#d55e00", "D"),
    "random": Look("#949494", "v"),
    "rotnet_rgb": Look("#f4a3c0", "d"),
    "deepercluster_rgb": Look("#56b4e9", "h"),
    "rotnet_curated": Look("#c9a800", "<"),
    "deepcluster_curated": Look("#8c613c", ">"),
}
# of methods from before the paper's and after it, the earliest first
MORE_LOOKS = (Look("#880000", "X"), Look("#006666", "p"), Look("#8844ee", "*"), Look("#220066", "+"))
LOOKS |= dict(zip((m for m in BY_YEAR if era_of(m) != "paper"), MORE_LOOKS, strict=False))
VARIANT_LOOK = Look("#cc78bc", "P")  # a variant of a method, such as its hierarchy


def look_of(method: str) -> Look:
    """The colour and marker of a method of a preset."""
    return LOOKS.get(method, VARIANT_LOOK)


def new_axes(width: float = WIDTH, height: float = HEIGHT) -> Axes:
    """Axes of a new figure of its own, white and laid out so that nothing is cut off."""
    return Figure(figsize=(width, height), facecolor="white", layout="constrained").add_subplot()


# Accuracy against depth: Figure 2 of the main paper, Table 1 of the supplement


def plot_accuracy_against_depth(
    records: Sequence[Record], half: Half, *, among: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """Linear-probe accuracy of each layer of the paper's methods: mean over seeds, with the deviation of several.

    Other methods and variants are in :func:`plot_beside`: one of them far below would press all others into one line
    here. ``among``: draw these methods instead.
    """
    ax = new_axes(*PANEL) if ax is None else ax
    curves = _measured(records, half)
    main = {m: curves[m] for m in curves if (m in among if among else kind_of(m) == KINDS[0])} or curves
    for method, seeds in main.items():
        _plot_curve(ax, method, *mean_curve(seeds))
    return _finish_depth(ax, f"{half.capitalize()}, here")


def plot_beside(
    records: Sequence[Record], half: Half, kind: Kind, *, limits: tuple[float, float], ax: Axes | None = None
) -> Axes:
    """Networks of another kind over the paper's methods in grey, on the axes of those, up to their ``limits``.

    A curve that leaves the axes is named at the edge where it does, with its last value.
    """
    ax = new_axes(WIDTH, PANEL[1]) if ax is None else ax
    for method, seeds in _measured(records, half).items():
        if kind_of(method) == "the paper's":
            ax.plot(DEPTHS, mean_curve(seeds)[0], color="#c4c4c4", linewidth=1.5, zorder=1)
        elif kind_of(method) == kind:
            _plot_curve(ax, method, *mean_curve(seeds))
    return _finish_depth(ax, f"{half.capitalize()}, {kind}", limits)


def kind_of(method: str) -> Kind:
    """In which panel of a figure a network stands."""
    if task_of(method) != method:
        return "variants"
    return "the paper's" if era_of(method) == "paper" else "before and after"


def kinds_beside(records: Sequence[Record], half: Half) -> list[Kind]:
    """Of the networks that stand beside the paper's methods; empty where there is none of these."""
    found = {kind_of(method) for method in _measured(records, half)}
    return [kind for kind in KINDS[1:] if kind in found] if KINDS[0] in found else []


def plot_published_accuracy(half: Half, *, ax: Axes | None = None) -> Axes:
    """The paper's curves, from Table 1 of the supplement."""
    ax = new_axes(*PANEL) if ax is None else ax
    for method, curve in table1(half).items():
        _plot_curve(ax, method, curve, [0.0] * N_LAYERS, linestyle="--")
    return _finish_depth(ax, f"{DATASETS[half]}, paper")


def describe_accuracy_against_depth(
    records: Sequence[Record], half: Half, *, kind: Kind = "the paper's", among: Sequence[str] = ()
) -> str:
    """Our curves in words: first, best and last layer of each method of a kind."""
    curves = _measured(records, half)
    chosen = [m for m in curves if (m in among if among else kind_of(m) == kind)] or list(curves)
    ours = [f"{title_of(method)} {_curve_in_words(mean_curve(curves[method])[0])}" for method in chosen]
    whose = {"variants": "of variants of the methods ", "before and after": "of methods before and after it "}
    which = whose.get(kind, "")
    return f"Linear-probe accuracy {which}against layer on {half}, here. {'; '.join(ours) or 'Not measured'}."


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


def _finish_depth(ax: Axes, title: str, limits: tuple[float, float] | None = None) -> Axes:
    ax.set_xticks(DEPTHS[::2])
    ax.set(xlabel="convolutional layer", ylabel="top-1 accuracy, %", title=title)
    low, high = limits or ax.get_ylim()
    ax.set_ylim(max(0, low), min(100.5, high))
    _name_curves(ax)
    return finish(ax)


def _name_curves(ax: Axes) -> None:
    """The name of each curve to the right of its end, in its colour; names are moved apart where ends are close."""
    low, high = ax.get_ylim()
    curves = [(str(container.get_label()), container[0]) for container in ax.containers]
    ends = [float(line.get_ydata()[-1]) for _, line in curves]
    gap = LINE_HEIGHT * (high - low) / (72 * _figure_of(ax).get_figheight() * AXES_SHARE)
    places = spaced(ends, gap, low, high)
    for (name, line), end, place in zip(curves, ends, places, strict=True):
        outside = f" ↓ {end:.0f} %" if end < low else ""
        ax.annotate(
            name + outside,
            (DEPTHS[-1], min(max(end, low), high)),
            xytext=(DEPTHS[-1] + 0.7, place),
            color=darker(line.get_color()),
            fontsize=SIZE - 1,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.8},
        )


def spaced(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places inside [low, high] as near to ``values`` as a distance of ``gap`` between any two allows, in their order.

    Values beyond the ends are taken to them. Where there is no room for so many, they are spaced evenly.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    gap = min(gap, (high - low) / max(1, len(values) - 1))
    places: list[float] = []
    for i in order:
        places.append(max(min(max(values[i], low), high), places[-1] + gap if places else low))
    ceiling = high
    for k in reversed(range(len(places))):  # what was pushed over the top comes down again
        places[k] = min(places[k], ceiling)
        ceiling = places[k] - gap
    placed = dict(zip(order, places, strict=True))
    return [placed[i] for i in range(len(values))]


def darker(color: str) -> tuple[float, float, float]:
    """A colour for words: the same hue, dark enough to be read on white (a contrast of 4.5 at least)."""
    red, green, blue = to_rgb(color)
    while contrast_with_white((red, green, blue)) < READABLE:
        red, green, blue = 0.95 * red, 0.95 * green, 0.95 * blue
    return red, green, blue


def contrast_with_white(rgb: Sequence[float]) -> float:
    """Contrast ratio of WCAG 2, from 1 (white) to 21 (black)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def _figure_of(ax: Axes) -> Figure:
    """The whole figure that axes are part of."""
    figure = ax.get_figure(root=True)
    assert figure is not None, "axes that are drawn on belong to a figure"
    return figure


def key_below(ax: Axes) -> None:
    """A legend under the axes, where it covers no line, in as many columns as fit."""
    figure = _figure_of(ax)
    handles, labels = ax.get_legend_handles_labels()
    for columns in range(3, 0, -1):
        key = figure.legend(
            handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=SIZE - 1, alignment="left"
        )
        if columns == 1 or key.get_window_extent().width <= figure.bbox.width:
            return
        key.remove()


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
    chance, unit = history(records, "chance_loss", method, "epoch"), loss_unit(method)
    plot_seeds(ax, lines, look_of(method), "training loss")
    if chance:
        steps, values, _ = mean_line(chance)
        # half an epoch to both sides, so that it can be seen when there is one epoch only
        ax.plot([steps[0] - 0.5, *steps, steps[-1] + 0.5], [values[0], *values, values[-1]], "k:", linewidth=1.5)
        ax.annotate(
            f"chance{', ln(classes)' if unit else ''} = {values[-1]:.2f}",
            (steps[-1] + 0.5, values[-1]),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            fontsize=SIZE - 1,
        )
    ax.set(xlabel="epoch", ylabel=f"loss{', ' if unit else ''}{unit}", title=title_of(method))
    ax.set_ylim(0, ax.get_ylim()[1] * 1.06)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finish(ax)


def loss_unit(method: str) -> str:
    """``nats`` of a cross-entropy; nothing of distances."""
    outline = OUTLINES.get(task_of(method))
    return "nats" if outline is None or outline.nats else ""


def describe_training_loss(records: Sequence[Record], method: str) -> str:
    """The loss in words: first and last epoch, and chance."""
    unit = loss_unit(method)
    words = _change_in_words(history(records, "loss", method, "epoch"), "epoch", unit)
    chance = history(records, "chance_loss", method, "epoch")
    reference = f" Chance is {mean_line(chance)[1][-1]:.2f} {unit}".rstrip() + "." if chance else ""
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
        key_below(ax)
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
    key_below(ax)
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
    import seaborn as sns

    palette = sns.color_palette("colorblind").as_hex()
    for (name, labels), color, marker in zip(sets.items(), (palette[0], palette[3], palette[2]), "osD", strict=False):
        counts = _sorted_counts(labels)
        # step-free lines: a class is a place in the ranking, not an interval
        ax.plot(range(1, len(counts) + 1), counts, color=color, marker=marker, markersize=4, label=name)
    ax.set(xlabel="class, from most to least frequent", ylabel="images")
    ax.set_ylim(0, ax.get_ylim()[1] * 1.05)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if sets:
        key_below(ax)
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
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, color="#dddddd", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_facecolor("white")
    ax.tick_params(labelsize=SIZE - 1)
    for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
        text.set_fontsize(SIZE)
    return ax
