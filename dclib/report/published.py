"""The published records of a preset beside those of this run: one seed cannot show how far it may be luck.

Every exhibit is made from both by the same code; what stands beside is said to be published, by which seeds, and
whether with other settings, images or code than the run's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes

from dclib.config import Preset
from dclib.counted import count_of
from dclib.presets import edition, project_root
from dclib.records import DATA, Record, read_records
from dclib.report.display import Fragment, show_side_by_side
from dclib.report.provenance import under
from dclib.report.series import listed, over_seeds, plural, seeds_of
from dclib.report.tables import NO_VALUE, Cell, Row, Table

HASHES = {"config_hash": "settings", "data_hash": "images", "code_hash": "code"}  # of a run card, and their names

# preset -> the other edition that stands in its book, with pages of its own: what was drawn, and what was photographed
BESIDE: Mapping[str, str] = {"pocket": "photographs"}

LONG_TITLE = 16  # characters of a panel's title that leave room for whose it is
LONG_CELL = 20  # characters of a cell that are not said twice


def load_published(preset: Preset, records: Sequence[Record], *, all_methods: bool = False) -> list[Record]:
    """The published records of the stages, and unless ``all_methods`` of the networks, that some records are about.

    None where they have no more seeds than the run itself, which then shows its own spread; so none in the published
    edition, which shows them alone.
    """
    if edition() is not None:
        return []
    about = {(r.card.stage, "" if all_methods else r.card.method) for r in records if r.card}
    found = [
        r
        for r in read_records(project_root() / "results" / preset.name / "records")
        if r.card and (r.card.stage, "" if all_methods else r.card.method) in about and not count_of(r.card.method)
    ]
    return found if len(seeds_of(found)) > len(seeds_of(records)) else []


def load_beside(preset: Preset) -> dict[str, list[Record]]:
    """The records of the other edition that stands in the book of a preset, by its name, where there is one."""
    name = BESIDE.get(preset.name, "")
    found = read_records(project_root() / "results" / name / "records") if name else []
    found = [r for r in found if r.card and not count_of(r.card.method)]  # those have a page of their own
    return {name: found} if found else {}


def label_of(records: Sequence[Record]) -> str:
    """Whose the records of a page are, to stand above what is made of them."""
    return "this run" if edition() is None else plural(len(seeds_of(records)), "published seed")


def whose(published: Sequence[Record], records: Sequence[Record]) -> str:
    """Whose these records are, in a sentence; empty where there are none."""
    cards = [record.card for record in published if record.card]
    if not cards:
        return ""
    presets = listed(dict.fromkeys(card.preset for card in cards))
    other = [what for field, what in HASHES.items() if _differ(published, records, field)]
    made = f", made with other {listed(other)} than this run" if other else ""
    return f"Published seeds: {over_seeds(published)}, of the records of preset {presets} in the project{made}."


def _differ(published: Sequence[Record], records: Sequence[Record], field: str) -> bool:
    """Whether a stage's runs of one network were made from something else there than here."""

    def found(source: Sequence[Record]) -> dict[tuple[str, str], set[str]]:
        of: dict[tuple[str, str], set[str]] = {}
        for card in (record.card for record in source if record.card and record.card.method != DATA):
            of.setdefault((card.stage, card.method), set()).add(getattr(card, field))
        return of

    here, there = found(records), found(published)
    return any(here[key] - there[key] for key in here.keys() & there.keys())


def with_published(
    make: Callable[[Sequence[Record]], Table], records: Sequence[Record], published: Sequence[Record]
) -> Table:
    """The table that ``make`` makes of this run's records, under each row that of the published ones."""
    table = make(records)
    if not published:
        return table
    theirs = make(published)
    if len(theirs.groups) != len(table.groups):  # one of them is empty and says so
        return table
    label = plural(len(seeds_of(published)), "published seed")
    groups = tuple(
        replace(ours, rows=tuple(row for own in ours.rows for row in (own, *_beside(own, other.rows, label))))
        for ours, other in zip(table.groups, theirs.groups, strict=True)
    )
    return replace(table, groups=groups, notes=(*table.notes, whose(published, records)), beside=theirs.source)


def _beside(own: Row, rows: Sequence[Row], label: str) -> list[Row]:
    """The row of published records that corresponds to one of this run, under a label that says so."""
    found = [row for row in rows if not row.paper and not own.paper and _name(row) == _name(own)]
    measured = [row for row in found if any(cell.text not in ("", NO_VALUE) for cell in row.cells)]
    return [
        replace(row, label=f"{_name(row)}, {label}", cells=tuple(map(_said_once, row.cells, own.cells)))
        for row in measured[:1]
    ]


def _said_once(cell: Cell, above: Cell) -> Cell:
    return Cell("as above", words=True) if cell == above and len(cell.text) > LONG_CELL else cell


def _name(row: Row) -> str:
    """A row's label without the number of its seeds."""
    return re.sub(r" \(\d+ seeds?\)$", "", row.label)


Drawings = list[tuple[Axes, str]]


def panels(
    plot: Callable[[Sequence[Record]], Axes],
    describe: Callable[[Sequence[Record]], str],
    records: Sequence[Record],
    published: Sequence[Record],
) -> Drawings:
    """A drawing of this run and, where there are published records, the same drawing of them on the same scale."""
    here = plot(records)
    if not published:
        return [(here, describe(records))]
    there = plot(published)
    low, high = zip(here.get_ylim(), there.get_ylim(), strict=True)
    for ax, whom in ((here, "this run"), (there, f"{plural(len(seeds_of(published)), 'published seed')}")):
        # axes of categories run downwards, and are the same in both
        if low[0] < high[0]:
            ax.set_ylim(min(low), max(high))
        title = ax.get_title()
        between = ":\n" if len(title) > LONG_TITLE else ": "  # two lines where one would be cut off
        ax.set_title(between.join(filter(None, (title, whom))), fontsize=ax.title.get_fontsize())
    return [(here, f"This run. {describe(records)}"), (there, f"Published seeds. {describe(published)}")]


def show_both(
    drawings: Drawings,
    caption: str,
    records: Sequence[Record],
    published: Sequence[Record],
    *names: str,
    anchor: str = "",
) -> Fragment:
    """Panels under one caption, which says whose records those beside show, and the strip of those called ``names``."""
    return show_side_by_side(
        drawings,
        caption=" ".join(filter(None, (caption, whose(published, records)))),
        name=anchor,
        source=under(records, *names, published=published),
    )
