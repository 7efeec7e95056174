"""The page of Figures 2 and 3: how uniform clusters are in colour."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import mean, median
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dclib.config import Preset
from dclib.data.images import ImageSet
from dclib.presets import shown_folder
from dclib.records import Record, select
from dclib.report.display import Fragment, say, show
from dclib.report.figures import SIZE, WIDTH, finish, key_below, look_of, new_axes
from dclib.report.pictures import bare, join_tiles, note_on_mosaics, numbers_of, open_to_show, pictured, square_tile
from dclib.report.provenance import named, under_pictures
from dclib.report.published import panels, show_both
from dclib.report.series import methods_in, over_seeds, plural, title_of
from dclib.report.tables import Group, Row, Table, value_cell
from dclib.train.absent import AbsentSet, present

EMPTY = "No colours were measured here: the preset lacks the networks of Figure 2, or the stage has not run yet."
TILE = 64


def spread_figure(records: Sequence[Record], published: Sequence[Record] = ()) -> Fragment:
    """Sorted spreads of the clusters, a curve for each network, and one for random clusters."""
    if not select(records, "colour_spread"):
        return say(EMPTY)
    caption = (
        "Standard deviation of the images' mean colours to that of their cluster, clusters sorted, as Figure 2 of the "
        "supplement. The dashed line is what random clusters of the same sizes give. A curve far below it belongs to "
        "a network that groups by colour (D31)."
    )
    drawings = panels(plot_spreads, describe_spreads, records, published)
    return show_both(drawings, caption, records, published, "colour_spread", "colour_spread_chance")


def plot_spreads(records: Sequence[Record]) -> Axes:
    """Spread against the share of clusters below it, mean over seeds."""
    ax = new_axes()
    chance: list[list[float]] = []
    for method in methods_in(select(records, "colour_spread")):
        lines = _sorted_spreads(records, "colour_spread", method)
        chance += _sorted_spreads(records, "colour_spread_chance", method)
        look = look_of(method)
        for line in lines if len(lines) > 1 else []:
            ax.plot(np.linspace(0, 100, len(line)), line, color=look.color, linewidth=0.8, alpha=0.5)
        middle = _mean_line(lines)
        ax.plot(np.linspace(0, 100, len(middle)), middle, color=look.color, linewidth=2, label=title_of(method))
    if chance:
        middle = _mean_line(chance)
        ax.plot(np.linspace(0, 100, len(middle)), middle, color="black", linestyle="--", label="random clusters")
    ax.set(xlabel="clusters, sorted, %", ylabel="spread of colour, levels of 255")
    ax.set_ylim(bottom=0)
    key_below(ax)
    return finish(ax)


def describe_spreads(records: Sequence[Record]) -> str:
    """The curves in words: lowest, median and highest spread of each network."""
    parts = []
    for method in methods_in(select(records, "colour_spread")):
        line = _mean_line(_sorted_spreads(records, "colour_spread", method))
        parts.append(f"{title_of(method)} from {line[0]:.0f} over {median(line):.0f} to {line[-1]:.0f}")
    return f"Sorted spread of colour, lowest, median and highest cluster, in levels of 255: {'; '.join(parts)}."


def spread_table(records: Sequence[Record]) -> Table:
    """Lowest, median and highest spread of each network, beside the whole pool's and that of random clusters."""
    rows = []
    for method in methods_in(select(records, "colour_spread")):
        ours = _sorted_spreads(records, "colour_spread", method)
        chance = _sorted_spreads(records, "colour_spread_chance", method)
        whole = [r.value for r in select(records, "colour_spread_all", method=method)]
        columns = ([x[0] for x in ours], [median(x) for x in ours], [median(x) for x in chance], whole)
        rows.append(Row(title_of(method), tuple(value_cell(values) for values in columns)))
    return Table(
        caption="Spread of colour in clusters, levels of 255",
        columns=("Network", "most uniform cluster", "median cluster", "median of random clusters", "whole pool"),
        groups=(Group("", tuple(rows), "" if rows else EMPTY),),
        notes=(f"Values: {over_seeds(records)}. The supplement draws curves only (D31).",),
        source=named(records, "colour_spread", "colour_spread_chance", "colour_spread_all"),
    )


@pictured
def uniform_clusters(preset: Preset, method: str, images: ImageSet | AbsentSet) -> Fragment:
    """Figure 3: the most uniform clusters of a network, each with its mean colour and some of its images."""
    for seed in preset.seeds:
        path = shown_folder(preset.name) / "pictures" / f"colour-{method}-s{seed}.json"
        if path.is_file() and method in preset.methods:
            clusters = json.loads(path.read_text(encoding="utf-8"))["clusters"]
            if clusters:
                images = present(images)
                return show(
                    draw_swatches(images, clusters),
                    pictures=True,
                    name=f"uniform-{method}",
                    alt=describe_swatches(clusters),
                    caption=f"The most uniform clusters of {title_of(method)}, seed {seed}, of nine images or more: "
                    "above each its mean colour, number, size and spread; below it nine of its images at random, as "
                    "Figure 3 of the supplement (D31)." + note_on_mosaics(images, clusters),
                    source=under_pictures(preset, "colour", method, seed),
                )
    return say(f"There are no clusters of {title_of(method)} to show.")


def draw_swatches(images: ImageSet, clusters: Sequence[Mapping[str, Any]], *, columns: int = 3) -> Figure:
    """A swatch and a mosaic of each cluster."""
    n_rows = -(-len(clusters) // columns)
    figure = Figure(figsize=(WIDTH, 2.75 * n_rows), facecolor="white", layout="constrained")
    numbers = numbers_of(images, [i for cluster in clusters for i in cluster["images"]])
    panels = figure.subplots(n_rows, columns, squeeze=False).ravel()
    for ax in panels[len(clusters) :]:
        ax.axis("off")
    for ax, cluster in zip(panels, clusters, strict=False):
        tiles = [square_tile(open_to_show(images, numbers[i], draft=TILE), TILE) for i in cluster["images"]]
        mosaic = join_tiles([tiles[i : i + 3] for i in range(0, len(tiles), 3)], TILE)
        swatch = np.empty((TILE // 2, mosaic.shape[1], 3), dtype=np.uint8)
        swatch[:] = np.round(cluster["mean"]).astype(np.uint8)
        ax.imshow(np.concatenate([swatch, mosaic]))
        ax.set_title(f"{cluster['cluster']} ({cluster['size']:,}), ± {cluster['spread']:.0f}", fontsize=SIZE - 2)
        bare(ax)
    return figure


def describe_swatches(clusters: Sequence[Mapping[str, Any]]) -> str:
    """The swatches in words."""
    parts = [
        f"cluster {c['cluster']} of {c['size']} images, mean colour red {c['mean'][0]:.0f}, green {c['mean'][1]:.0f}, "
        f"blue {c['mean'][2]:.0f}, spread {c['spread']:.0f}"
        for c in clusters
    ]
    return f"Swatches and mosaics of {plural(len(clusters), 'cluster')}: {'; '.join(parts)}."


def _sorted_spreads(records: Sequence[Record], name: str, method: str) -> list[list[float]]:
    """One sorted list per seed."""
    found: dict[int, list[float]] = {}
    for record in select(records, name, method=method):
        if record.card:
            found.setdefault(record.card.seed, []).append(record.value)
    return [sorted(values) for _, values in sorted(found.items())]


def _mean_line(lines: Sequence[Sequence[float]]) -> list[float]:
    """Mean of sorted lists at the same share of their length; the shortest decides how many points there are."""
    n = min(map(len, lines))
    return [mean(line[round(i * (len(line) - 1) / max(1, n - 1))] for line in lines) for i in range(n)]
