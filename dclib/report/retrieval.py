"""The page of Table 3: finding buildings again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dclib.config import DataConfig, Preset
from dclib.data.images import ImageSet
from dclib.data.landmarks import CORRUPTED_PARIS, open_landmarks
from dclib.paper import TABLE3, TABLE3_COLUMNS, TABLE3_METHODS
from dclib.presets import shown_folder
from dclib.records import Record, select
from dclib.report.display import Fragment, say, show
from dclib.report.figures import PANEL, SIZE, WIDTH, finish, look_of, new_axes
from dclib.report.finder import Finder
from dclib.report.names import CITIES, SetNames, names_in
from dclib.report.pictures import bare, note_unreadable, open_to_show, pictured, square_tile
from dclib.report.provenance import named, under_pictures
from dclib.report.published import panels, show_both
from dclib.report.series import methods_in, over_seeds, spread, title_of
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table, value_cell
from dclib.train.absent import absent_set, present

EMPTY = "No retrieval here: this preset has no landmark sets, or the stage has not run yet."
FRAMES = {"right": ("#029e73", "-", "right"), "wrong": ("#d55e00", "--", "wrong"), "junk": ("#949494", ":", "junk")}
TILE = 110


def retrieval_table(records: Sequence[Record], data: DataConfig) -> Table:
    """Table 3 of the supplement: mean average precision, our row under each of the paper's; others of ours below."""
    find = Finder(records)
    rows = []
    for (name, images), values in TABLE3.items():
        method = TABLE3_METHODS[name, images]
        published = tuple(Cell(f"{value:.1f}") for value in values)
        rows.append(Row(title_of(method), _cells(find, method)))
        rows.append(Row(f"paper: {name} ({images})", published, paper=True))
    others = [m for m in methods_in(select(records, "retrieval_map")) if m not in TABLE3_METHODS.values()]
    n = sorted({r.n for r in select(records, "retrieval_map")})
    return Table(
        caption="Instance retrieval: mean average precision, % (as Table 3 of the supplement)",
        columns=("Network", *map(names_in(data).head, TABLE3_COLUMNS)),
        groups=(
            Group("", tuple(rows)),
            Group("not in the paper's table", tuple(Row(title_of(m), _cells(find, m)) for m in others)),
        ),
        notes=(
            f"Ours: the mean over {' or '.join(map(str, n)) or 'no'} queries, {over_seeds(records)}. "
            "Italics: published numbers, on the real Oxford5K and Paris6K; those of Doersch et al. and Wang et al. are "
            "of their own networks, ours have the trunk of all others here (D28, D33, D37, D44, D45).",
        ),
        source=named(records, "retrieval_map"),
    )


def retrieval_bars(records: Sequence[Record], data: DataConfig, published: Sequence[Record] = ()) -> Fragment:
    """Both cities side by side, ours and the paper's, as bars."""
    if not select(records, "retrieval_map"):
        return say(EMPTY)
    names = names_in(data)
    drawn = [
        panels(
            partial(plot_bars, city=city, names=names),
            partial(describe_bars, city=city, names=names),
            records,
            published,
        )
        for city in CITIES
    ]
    whose = names.the(" and ".join(CITIES.values()))
    caption = (
        f"Mean average precision: bars are ours, on {whose} ({over_seeds(records)}), diamonds "
        "the paper's, on the real ones. Compare the order of the bars with the order of the diamonds, not "
        "their heights (D28, D33, D37)."
    )
    return show_both([panel for pair in drawn for panel in pair], caption, records, published, "retrieval_map")


def plot_bars(records: Sequence[Record], city: str, names: SetNames) -> Axes:
    """One city: a bar for each network of the paper's table."""
    ax = new_axes(PANEL[0], PANEL[1] - 0.4)
    find = Finder(records)
    for place, (key, method) in enumerate(TABLE3_METHODS.items()):
        values = list(find.values("retrieval_map", method, dataset=city).values())
        if values:
            ax.barh(place, np.mean(values), xerr=spread(values) or None, color=look_of(method).color, height=0.7)
        ax.plot(TABLE3[key][list(CITIES).index(city)], place, marker="D", color="black", markersize=6, linestyle="")
    ax.set_yticks(range(len(TABLE3_METHODS)), [title_of(method) for method in TABLE3_METHODS.values()])
    ax.invert_yaxis()
    ax.set(xlabel="mean average precision, %", title=_capital(names.of(CITIES[city])), xlim=(0, 100))
    return finish(ax)


def describe_bars(records: Sequence[Record], city: str, names: SetNames) -> str:
    """The bars in words."""
    find = Finder(records)
    parts = []
    for key, method in TABLE3_METHODS.items():
        values = list(find.values("retrieval_map", method, dataset=city).values())
        ours = f"{np.mean(values):.1f}" if values else "not measured"
        parts.append(f"{title_of(method)} {ours} (paper {TABLE3[key][list(CITIES).index(city)]})")
    return f"{_capital(names.of(CITIES[city]))}, mean average precision in %: {'; '.join(parts)}."


@pictured
def neighbours(preset: Preset, root: Path, method: str) -> Fragment:
    """Queries of both cities and what one network ranks first, framed by whether it is right."""
    for seed in preset.seeds:
        path = shown_folder(preset.name) / "pictures" / f"retrieval-{method}-s{seed}.json"
        if path.is_file():
            shown = json.loads(path.read_text(encoding="utf-8"))
            folders = {"oxford": root / preset.data.oxford, "paris": root / preset.data.paris}
            if gone := [name for name, folder in folders.items() if not folder.is_dir()]:
                present(absent_set(preset.data, gone[0]))
            names = names_in(preset.data)
            parts = [_city_pictures(folders[c], c, names, rankings, method, seed) for c, rankings in shown.items()]
            source = under_pictures(preset, "retrieval", method, seed)
            return sum([*parts[1:], *([source] if source else [])], start=parts[0])
    return say(f"{title_of(method)} has no rankings to look at.")


def draw_regions(height: int, width: int, levels: Sequence[Sequence[tuple[int, int, int]]]) -> Figure:
    """The regions of each level on a feature map, as squares (top, left, side)."""
    figure = Figure(figsize=(WIDTH, 2.0), facecolor="white", layout="constrained")
    panels = figure.subplots(1, len(levels), squeeze=False)[0]
    for level, (ax, regions) in enumerate(zip(panels, levels, strict=True), start=1):
        ax.add_patch(Rectangle((0, 0), width, height, facecolor="#eeeeee"))
        for i, (top, left, side) in enumerate(regions):
            color = ("#0173b2", "#d55e00", "#029e73", "#cc78bc")[i % 4]
            ax.add_patch(
                Rectangle((left, top), side, side, facecolor="none", edgecolor=color, linewidth=1.5, alpha=0.8)
            )
        ax.set(xlim=(-0.5, width + 0.5), ylim=(height + 0.5, -0.5), aspect="equal")
        ax.set_title(f"level {level}: {len(regions)}", fontsize=SIZE - 1)
        bare(ax)
    return figure


def region_grids(height: int, width: int, levels: Sequence[Sequence[tuple[int, int, int]]]) -> Fragment:
    """The drawing of the regions with its words."""
    counts = ", ".join(f"{len(regions)} on level {i}" for i, regions in enumerate(levels, start=1))
    return show(
        draw_regions(height, width, levels),
        alt=f"Square regions on a map of {height} by {width}: {counts}.",
        caption=f"The regions of a feature map of {height} x {width}: coarse squares first, then finer ones. "
        "Neighbours overlap.",
    )


def _city_pictures(
    root: Path, city: str, names: SetNames, rankings: Sequence[Mapping[str, Any]], method: str, seed: int
) -> Fragment:
    images, landmarks = open_landmarks(root, ignore=CORRUPTED_PARIS if city == "paris" else ())
    places = {name: i for i, name in enumerate(landmarks.images)}
    called = _capital(names.of(CITIES[city]))
    words = "; ".join(
        f"query {r['query']}, average precision {r['average_precision']:.0f} %: "
        + ", ".join(result["kind"] for result in r["results"])
        for r in rankings
    )
    shown = [places[name] for r in rankings for name in (r["image"], *(found["name"] for found in r["results"]))]
    return show(
        _draw_rankings(images, places, rankings),
        pictures=True,
        alt=f"{called}, {title_of(method)}, first results in order. {words}.",
        caption=f"{called}: queries with their box on the left, from the best found to the worst, and what "
        f"{title_of(method)} (seed {seed}) ranks first. Solid green: right; dashed orange: wrong; dotted grey: junk, "
        "which does not count." + note_unreadable(images, shown),
    )


def _draw_rankings(images: ImageSet, places: Mapping[str, int], rankings: Sequence[Mapping[str, Any]]) -> Figure:
    columns = 1 + max(len(r["results"]) for r in rankings)
    figure = Figure(figsize=(WIDTH, 0.95 * len(rankings)), facecolor="white", layout="constrained")
    axes = figure.subplots(len(rankings), columns, squeeze=False)
    for line, ranking in zip(axes, rankings, strict=True):
        query = open_to_show(images, places[ranking["image"]])
        left, top, right, bottom = ranking["box"]
        line[0].imshow(query)
        line[0].add_patch(
            Rectangle((left, top), right - left, bottom - top, facecolor="none", edgecolor="#0173b2", linewidth=2)
        )
        bare(line[0])
        for ax, result in zip(line[1:], ranking["results"], strict=False):
            ax.imshow(square_tile(open_to_show(images, places[result["name"]], draft=TILE), TILE))
            bare(ax)
            color, style, _ = FRAMES[result["kind"]]
            ax.add_patch(
                Rectangle((1, 1), TILE - 3, TILE - 3, facecolor="none", edgecolor=color, linewidth=3, linestyle=style)
            )
        for ax in line[1 + len(ranking["results"]) :]:
            ax.axis("off")
    return figure


def _capital(text: str) -> str:
    """Text that begins a line; letters inside a name stay."""
    return text[:1].upper() + text[1:]


def _cells(find: Finder, method: str) -> tuple[Cell, ...]:
    cells = tuple(value_cell(find.values("retrieval_map", method, dataset=city).values()) for city in CITIES)
    return cells if any(cell.text != NO_VALUE for cell in cells) else (Cell("not run"), Cell(NO_VALUE))
