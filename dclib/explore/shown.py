"""What a notebook shows of an exploration: its verdict, tables of clusters and duplicates, and some photographs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from dclib.config import Preset
from dclib.data.layouts import find_split
from dclib.data.photographs import open_photographs
from dclib.explore.answering import Explored
from dclib.explore.answers import NONE, Answers
from dclib.explore.write import duplicates_of
from dclib.pocket.outline import PoolDrawer
from dclib.pocket.pool_set import image_numbers
from dclib.presets import data_root, runs_folder
from dclib.records import replacing_folder
from dclib.report.display import Fragment, say, show
from dclib.report.pictures import describe_contact_sheet, draw_contact_sheet
from dclib.report.series import plural
from dclib.report.tables import Cell, Group, Row, Table

LISTED = 20  # clusters, or groups of duplicates, in a table
SHOWN = 4  # clusters of a contact sheet from either end
PER_ROW = 8


def photographs_folder(photographs: str, preset: Preset) -> Path:
    """The folder to explore: the one that is named, else that of the preset's pool, which is drawn where it is pocket.

    Raises:
        ValueError: the pool is no folder of image files.
    """
    if photographs:
        return Path(photographs)
    data = preset.data
    if not data.is_drawn:
        pool = find_split(data_root(data), data.pool, name="pool")
        if pool is None or not pool.is_dir():
            raise ValueError(f"need a folder of photographs; the pool of preset {preset.name} is {pool}: name a folder")
        return pool
    count, seed = data.pocket_images, data.pocket_seed
    folder = runs_folder() / "drawn" / f"pocket-{count}-s{seed}"
    if not folder.is_dir():
        drawer = PoolDrawer(folder, count, seed)
        with replacing_folder(folder) as new:
            for number in image_numbers(count, seed):
                (new / f"{number:08d}.jpg").write_bytes(drawer.read(str(number)))
    return folder


def told(explored: Explored) -> Fragment:
    """What was said at the end, with a link to the explorer from where this is read."""
    page = explored.folder / "explorer" / "index.html"
    lines = [line for line in explored.lines if not line.startswith("open ")]
    link = Fragment(f'<p><a href="{escape(os.path.relpath(page))}">Open the explorer</a>: {escape(str(page))}</p>', "")
    return sum(map(say, lines), start=link + say(f"{len(explored.answers):,} photographs were looked at."))


def by_coherence(answers: Answers) -> list[tuple[int, float, Sequence[int]]]:
    """Number, coherence and rows of each cluster, rows from its middle on; the most coherent first."""
    if not answers.groupings:
        return []
    grouping = answers.groupings[0]
    coherence = grouping.coherence()
    found = []
    for number in np.argsort(-coherence, kind="stable").tolist():
        rows = np.flatnonzero(grouping.cluster == number)
        if len(rows):
            found.append((number, float(coherence[number]), rows[np.argsort(grouping.distance[rows])].tolist()))
    return found


def cluster_table(answers: Answers, most: int = LISTED) -> Table | Fragment:
    """Size and coherence of the clusters, and the photograph in the middle of each."""
    clusters = by_coherence(answers)
    if not clusters:
        return say("Nothing was clustered.")
    rows = [
        Row(str(number), (Cell(f"{len(rows):,}"), Cell(f"{coherence:.2f}"), Cell(answers.paths[rows[0]])))
        for number, coherence, rows in clusters[:most]
    ]
    left = len(clusters) - len(rows)
    note = "Coherence: how much nearer its photographs are to its own centroid than to the next, 0 to 1, on average."
    return Table(
        caption="Clusters, the most coherent first",
        columns=("Cluster", "photographs", "coherence", "in its middle"),
        groups=(Group("", tuple(rows)),),
        notes=(
            note,
            *([f"The {plural(left, 'other cluster')} are in photos.csv and in the explorer."] if left else []),
        ),
    )


def cluster_sheet(answers: Answers, *, shown: int = SHOWN, per_row: int = PER_ROW) -> Fragment:
    """The middles of the most and of the least coherent clusters, a row for each."""
    clusters = by_coherence(answers)
    if not clusters:
        return say("Nothing was clustered, so there are no clusters to look at.")
    images = open_photographs(answers.root).images
    number = {name: i for i, name in enumerate(images.ids)}  # some may have gone since
    chosen = clusters if len(clusters) <= 2 * shown else [*clusters[:shown], *clusters[-shown:]]
    found = {
        f"cluster {c}": [number[answers.paths[i]] for i in rows[:per_row] if answers.paths[i] in number]
        for c, _, rows in chosen
    }
    found = {name: numbers for name, numbers in found.items() if numbers}
    if not found:
        return say("None of the photographs is there any more.")
    return show(
        draw_contact_sheet(images, found),
        pictures=True,
        alt=describe_contact_sheet(images, found),
        caption="Photographs in the middle of some clusters: the most coherent ones above, the least coherent below.",
    )


def duplicates_table(answers: Answers, most: int = LISTED) -> Table | Fragment:
    """Groups of photographs that show the same; the first of each is the one with most pixels."""
    table = duplicates_of(answers)
    groups = [rows for _, rows in table.groupby("group", sort=True)]
    if not groups:
        return say("No two photographs show the same.")
    listed = [
        Row(
            str(rows.path.iloc[0]),
            (
                Cell(", ".join(rows.path.iloc[1:4]) + (" and more" if len(rows) > 4 else "")),
                Cell(", ".join(sorted(set(rows.kind) - {""}))),
            ),
        )
        for rows in groups[:most]
    ]
    extra = int((answers.duplicate != NONE).sum()) - len(groups)
    return Table(
        caption="Photographs that show the same",
        columns=("the largest", "others", "kind"),
        groups=(Group("", tuple(listed)),),
        notes=(f"{plural(len(groups), 'group')}, {plural(extra, 'photograph')} too many; duplicates.csv has all.",),
    )
