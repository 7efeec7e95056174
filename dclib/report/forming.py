"""How clusters form: the clusterings of a run, each followed from the one before, in numbers and as a figure."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dclib.config import Preset
from dclib.presets import edition, runs_folder, shown_folder
from dclib.report.display import Fragment, say, show
from dclib.report.figures import SIZE, WIDTH
from dclib.report.pictures import bare
from dclib.report.series import listed, plural, title_of
from dclib.train.forming import Formed, Places, aligned, formed_by, read_together

FORMED = ("deepercluster", "deepercluster_rgb", "deepcluster")  # whose clusterings are shown, in this order
BESIDE = 2  # of them in the figure: gradients, and raw colours
STRETCH = 0.995  # quantile along either axis that a map is scaled to end at
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Course:
    """The clusterings of one run, a cluster under one number all along."""

    method: str
    n: int  # images
    epochs: tuple[int, ...]  # that were finished when each was made
    clusters: tuple[Labels, ...]  # (m,) of the images with a place
    places: tuple[Places, ...]  # (m, 2), in [0, 1]; (0, 2) where none is kept
    changed: tuple[float, ...]  # share of the images that are not where most of their cluster went; the first: 0
    agreement: tuple[float, ...]  # normalised mutual information with the clustering before; the first: 1

    def when(self, number: int) -> str:
        """When a clustering was made, in words."""
        return f"after epoch {self.epochs[number]}" if self.epochs[number] else "at the start"


def published_name(method: str, seed: int) -> str:
    """File of a run's clusterings among published pictures."""
    return f"clusterings-{method}-s{seed}.npz"


def read_formed(runs: Path | None, pictures: Path | None, method: str, seed: int) -> list[Formed]:
    """A run's clusterings, of the runs below a folder, else of published pictures; empty where neither has them."""
    found = formed_by(runs, method, seed) if runs else []
    path = pictures / published_name(method, seed) if pictures else None
    return found or (read_together(path) if path and path.is_file() else [])


def courses(preset: Preset, runs: Path | None, pictures: Path | None) -> list[Course]:
    """Of the first seed of each network of ``FORMED`` that the preset has, if several of its clusterings are kept."""
    found = []
    for method in FORMED:
        formed = read_formed(runs, pictures, method, preset.seeds[0]) if method in preset.methods else []
        if len(formed) > 1:
            found.append(follow(method, formed))
    return found


def follow(method: str, formed: Sequence[Formed]) -> Course:
    """Give each cluster the number of the one after it that it shares most images with, the last keeping theirs."""
    named = [formed[-1].clusters.astype(np.int64)]
    for one in reversed(formed[:-1]):
        named.insert(0, renamed(one.clusters.astype(np.int64), named[0]))
    pairs = list(zip(named, named[1:], strict=False))
    return Course(
        method,
        formed[0].n,
        tuple(one.epoch for one in formed),
        tuple(Formed(one.n, one.epoch, names, one.place).of_mapped for one, names in zip(formed, named, strict=True)),
        tuple(in_unit_square(place) for place in aligned([one.place for one in formed])),
        (0.0, *(float((one != other).mean()) for one, other in pairs)),
        (1.0, *(mutual_information(one, other) for one, other in pairs)),
    )


def renamed(clusters: Labels, after: Labels) -> Labels:
    """``clusters`` (n,) under the numbers of those of ``after`` (n,): pairs that share most images first, each once.

    A cluster that is left over gets a number that ``after`` does not have.
    """
    pairs, shared = np.unique(np.stack([clusters, after]), axis=1, return_counts=True)
    names: dict[int, int] = {}
    taken: set[int] = set()
    for i in np.argsort(-shared, kind="stable").tolist():
        old, new = int(pairs[0, i]), int(pairs[1, i])
        if old not in names and new not in taken:
            names[old] = new
            taken.add(new)
    free = int(after.max(initial=-1)) + 1
    for old in np.unique(clusters).tolist():
        if old not in names:
            names[old], free = free, free + 1
    values, where = np.unique(clusters, return_inverse=True)
    return np.array([names[value] for value in values.tolist()], np.int64)[where]


def mutual_information(one: Labels, other: Labels) -> float:
    """Normalised by the arithmetic mean of both entropies, in [0, 1]; 1 for two of one cluster each."""
    sizes = [np.unique(labels, return_counts=True)[1] / len(labels) for labels in (one, other)]
    joint = np.unique(np.stack([one, other]), axis=1, return_counts=True)[1] / len(one)
    entropies = [float(-(shares * np.log(shares)).sum()) for shares in (*sizes, joint)]
    mean = (entropies[0] + entropies[1]) / 2
    return (2 * mean - entropies[2]) / mean if mean > 0 else 1.0


def colour_share(clusters: Labels, colours: NDArray[np.uint8]) -> float:
    """Share of the variance of mean colours (m, 3) that lies between clusters (m,): 1 where each is of one colour."""
    values = colours.astype(np.float64) - colours.mean(axis=0)
    _, where = np.unique(clusters, return_inverse=True)
    sums = np.zeros((int(where.max()) + 1, 3))
    np.add.at(sums, where, values)
    between = (np.square(sums).sum(axis=1) / np.bincount(where)).sum()
    return float(between / max(float(np.square(values).sum()), 1e-12))


def in_unit_square(place: Places) -> Places:
    """A map in the middle of [0, 1]^2, one scale for both axes; what lies far outside ends at the border."""
    if not place.size:
        return place
    low, high = np.quantile(place, [1 - STRETCH, STRETCH], axis=0)
    reach = max(float((high - low).max()), 1e-12)
    inside: Places = np.clip(0.5 + (place - (low + high) / 2) / reach, 0, 1).astype(np.float32)
    return inside


def how_clusters_form(preset: Preset) -> Fragment:
    """The maps of some networks' clusterings side by side; a script of the book puts a slider in their place."""
    runs = None if edition() else runs_folder() / preset.name / "runs"
    found = courses(preset, runs, shown_folder(preset.name) / "pictures")
    several = [course for course in found if all(place.size for place in course.places)][:BESIDE]
    if not several:
        return say("The clusterings of no run were kept, so that it cannot be shown how its clusters form.")
    networks = listed([title_of(course.method) for course in several])
    caption = (
        f"How the clusters of {networks} form, seed {preset.seeds[0]}: a dot for each of "
        f"{len(several[0].clusters[0]):,} images of {several[0].n:,}, where the two directions of largest variance of "
        "the features put it, in the colour of its cluster. A cluster keeps its colour: it has that of the one after "
        "it that shares most images with it. Below each map the share of all images that changed their cluster, and "
        "the agreement with the clustering before, from 0 to 1."
    )
    alt = describe_courses(several)  # a picture, for thousands of dots are four times as large as a drawing
    figure = show(draw_courses(several), alt=alt, caption=caption, name="clusterings", pictures=True)
    html = f'<div class="dclib-forming" data-preset="{escape(preset.name)}">{figure.html}</div>'
    return Fragment(html, figure.text)


def draw_courses(shown: Sequence[Course]) -> Figure:
    """A row for each run, a map for each of its clusterings."""
    columns = max(len(course.epochs) for course in shown)
    side = WIDTH / columns
    figure = Figure(figsize=(WIDTH, (side + 0.75) * len(shown)), facecolor="white", layout="constrained")
    panels = figure.subplots(len(shown), columns, squeeze=False)
    for row, course in zip(panels, shown, strict=True):
        for number, ax in enumerate(row):
            if number >= len(course.epochs):
                ax.axis("off")
                continue
            place, clusters = course.places[number], course.clusters[number]
            ax.scatter(place[:, 0], -place[:, 1], s=1.5, c=[colour_of(c) for c in clusters.tolist()], linewidths=0)
            ax.set(xlim=(-0.02, 1.02), ylim=(-1.02, 0.02), aspect="equal")
            ax.set_title(course.when(number), fontsize=SIZE - 3)
            if number:
                said = f"{100 * course.changed[number]:.0f} % changed\nNMI {course.agreement[number]:.2f}"
                ax.set_xlabel(said, fontsize=SIZE - 3)
            bare(ax)
        row[0].set_ylabel(title_of(course.method), fontsize=SIZE - 3)
    return figure


def colour_of(cluster: int) -> tuple[float, float, float]:
    """Hues a golden angle apart, three lightnesses in turn, as the page's script has them."""
    return colorsys.hls_to_rgb((cluster * 137.508 + 205) % 360 / 360, 0.42 + cluster % 3 * 0.08, 0.6)


def describe_courses(shown: Sequence[Course]) -> str:
    """How many images changed their cluster each time, in words."""
    parts = []
    for course in shown:
        steps = [
            f"{course.when(i)} {100 * course.changed[i]:.0f} % of the images had changed their cluster and NMI was "
            f"{course.agreement[i]:.2f}"
            for i in range(1, len(course.epochs))
        ]
        parts.append(f"{title_of(course.method)}, {plural(len(course.epochs), 'clustering')}: {'; '.join(steps)}")
    return f"Maps of images at each clustering. {'. '.join(parts)}."
