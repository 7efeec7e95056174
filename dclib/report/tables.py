"""Tables of the book: rows made from records, formatted once.

A :class:`Table` shows itself as HTML that scrolls sideways on a narrow page with its first column in place,
and as markdown where there is no HTML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from statistics import mean

from dclib.config import Preset
from dclib.data.images import ImageSet
from dclib.paper import DATASETS, HALVES, LAYERS, NAMES, Curve, Half, table1, task_of
from dclib.presets import edition
from dclib.records import Record
from dclib.report.display import Fragment, linked, without_markup
from dclib.report.finder import Finder
from dclib.report.margins import lead
from dclib.report.provenance import named, strip
from dclib.report.series import (
    Line,
    accuracy_by_layer,
    final_values,
    history,
    mean_curve,
    methods_in,
    over_seeds,
    plural,
    signed,
    spread,
    title_of,
)
from dclib.train.absent import AbsentSet

NO_VALUE = "–"
SIZES = ("empty_clusters", "smallest_cluster", "median_cluster", "largest_cluster")
STYLE = """<style>
.dclib-table{overflow-x:auto;max-width:100%;margin:1em 0}
.dclib-table table{border-collapse:collapse;font-size:.85em;line-height:1.3;margin:0;width:auto;
font-variant-numeric:tabular-nums}
.dclib-table th,.dclib-table td{padding:.25em .5em;text-align:right;white-space:nowrap;border:0;
border-bottom:1px solid rgba(128,128,128,.35)}
.dclib-table th:first-child{position:sticky;left:0;z-index:1;text-align:left;white-space:normal;
overflow-wrap:break-word;min-width:8.5em;max-width:11em;background:var(--pst-color-background,var(--jp-layout-color0,#fff))}
.dclib-table td.words{text-align:left;white-space:normal;min-width:9em}
.dclib-table .paper th,.dclib-table .paper td{font-style:italic;opacity:.85}
.dclib-table .group th{padding-top:1em;max-width:none}
.dclib-table .group span{position:sticky;left:.5em;display:inline-block;max-width:min(80vw,42em)}
.dclib-table thead th.words{text-align:left}
.dclib-table small{display:block;opacity:.8}
.dclib-table caption{caption-side:top;text-align:left;font-weight:600;max-width:min(85vw,46em)}
.dclib-note{font-size:.85em}
</style>"""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, what stands small under it, and how it is emphasised."""

    text: str
    small: str = ""
    bold: bool = False  # the best of its column
    underlined: bool = False  # the best of those trained without labels
    words: bool = False  # a sentence, set ragged and allowed to wrap


@dataclass(frozen=True)
class Row:
    """A labelled line; ``paper`` marks published numbers, which stand beside ours in italics."""

    label: str
    cells: tuple[Cell, ...]
    paper: bool = False


@dataclass(frozen=True)
class Group:
    """Rows under a heading, with a sentence below where something has to be said about them."""

    title: str
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True, repr=False)
class Table:
    """A whole table. Text is kept plain here and escaped when it is written."""

    caption: str
    columns: tuple[str, ...]  # first the heading of the labels
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    source: Sequence[Record] = ()  # what its numbers come from: whose they are stands below (see ``provenance.strip``)
    beside: Sequence[Record] = ()  # and what published numbers beside them come from

    def _repr_html_(self) -> str:
        row = next((row for group in self.groups for row in group.rows), None)
        kinds = ["", *(_cell_class(cell) for cell in row.cells)] if row else [""] * len(self.columns)
        head = "".join(f'<th scope="col"{k}>{escape(c)}</th>' for c, k in zip(self.columns, kinds, strict=True))
        bodies = "".join(_group_html(group, len(self.columns)) for group in self.groups if group.rows)
        said = [*(group.note for group in self.groups), *self.notes]
        notes = "".join(f'<p class="dclib-note">{linked(note)}</p>' for note in said if note)
        table = f"<table><caption>{escape(self.caption)}</caption><thead><tr>{head}</tr></thead>{bodies}</table>"
        # a box that scrolls must be reachable from the keyboard
        label = f'tabindex="0" role="region" aria-label="{escape(self.caption)}"'
        box = f'<div class="dclib-table" {label}>{table}</div>'
        return f"{STYLE}{box if bodies else ''}{notes}{self._strip.html if self._strip else ''}"

    @cached_property
    def _strip(self) -> Fragment | None:
        return strip(self.source, self.beside) if self.source or self.beside else None

    def _repr_markdown_(self) -> str:
        lines = [f"**{without_markup(self.caption)}**", ""]
        if any(group.rows for group in self.groups):
            lines += [_markdown_line(self.columns), "|" + "---|" * len(self.columns)]
        for group in self.groups:
            if group.rows and group.title:
                title = f"*{without_markup(group.title)}*"
                lines.append(_markdown_line((title, *[""] * (len(self.columns) - 1)), raw=True))
            lines += [_row_markdown(row) for row in group.rows]
        lines += [f"\n{without_markup(note)}" for note in (*(g.note for g in self.groups), *self.notes) if note]
        lines += [f"\n{self._strip.text}"] if self._strip else []
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self._repr_markdown_()

    def __add__(self, other: Fragment) -> Fragment:
        return Fragment(self._repr_html_(), self._repr_markdown_()) + other


def probe_table(records: Sequence[Record]) -> Table:
    """Table 1 of the supplement, ours: methods x 13 layers x two data sets, the paper's row under our own."""
    return Table(
        caption="Accuracy of linear classifiers on each frozen layer, % (as Table 1 of the supplement)",
        columns=("Method", *LAYERS),
        groups=tuple(_probe_group(records, half) for half in HALVES),
        notes=(
            f"Ours: {over_seeds(records)}. Bold: best of our rows in the "
            "column; underlined: best of our rows trained without labels. Italics: published numbers, from other "
            "images, more of them and a larger network, so compare orders and shapes, not values (D15, D16, D24, D25, "
            "D26).",
        ),
        source=named(records, "top1"),
    )


def clustering_table(records: Sequence[Record]) -> Table:
    """Health of the clusterings: for each method the last assignment, and what changed since the first."""
    rows = tuple(row for method in methods_in(records) if (row := _clustering_row(records, method)) is not None)
    note = "" if rows else "None of these methods clusters anything, or none has run yet."
    columns = (
        "Method",
        "clusterings",
        "empty",
        "smallest",
        "median",
        "largest",
        "NMI with previous",
        "NMI with classes",
    )
    return Table(
        caption="Clusterings: sizes in images at the last clustering, and agreement",
        columns=columns,
        groups=(Group("", rows, note),),
        notes=(
            "NMI: normalised mutual information, 0 for unrelated groupings, 1 for the same one. Values: "
            f"{over_seeds(records, spread=False)}.",
        )
        if rows
        else (),
        source=named(records, *SIZES, "nmi_previous", "nmi_labels"),
    )


def run_table(records: Sequence[Record]) -> Table:
    """What ran: for each method its seeds, epochs, last loss, speed, wall time and device."""
    rows = tuple(_run_row(records, method) for method in methods_in(records))
    return Table(
        caption="Runs",
        columns=("Method", "seeds", "epochs", "last loss", "images/s", "pre-training, s", "device"),
        groups=(Group("", rows, "" if rows else "Nothing has run yet."),),
        notes=(
            f"Values: {over_seeds(records, spread=False)}. Losses of different tasks cannot be compared.",
            *_unreadable(records),
        )
        if rows
        else (),
        source=named(records, "loss", "pretrain_seconds"),
    )


def layer_lead_table(records: Sequence[Record], method: str, other: str, layers: Sequence[int]) -> Table:
    """By how much a method is ahead of another one at some layers, for each seed that has both."""
    find, groups = Finder(records), []
    for half in HALVES:
        leads = [lead(find.accuracy(method, half, n), find.accuracy(other, half, n)) for n in layers]
        known = [found for found in leads if found]  # of all layers, or of none
        seeds = list(known[0]) if known else []
        rows = [Row(f"seed {seed}", tuple(Cell(signed(found[seed])) for found in known)) for seed in seeds]
        if len(rows) > 1:
            means = [replace(value_cell(found.values()), text=signed(mean(found.values()))) for found in known]
            rows.append(Row("mean", tuple(means)))
        if rows:
            groups.append(Group(half.capitalize(), tuple(rows)))
    return Table(
        caption=f"{title_of(method)} less {title_of(other)}, points of top-1",
        columns=("", *(f"conv{layer}" for layer in layers)),
        groups=tuple(groups),
        source=named(records, "top1"),
    )


def _unreadable(records: Sequence[Record]) -> list[str]:
    """Which images the runs did without, a sentence for each set."""
    said = {str(r.card.notes.get("unreadable_images", "")) for r in records if r.card and r.card.stage == "pretrain"}
    return [f"{sentence}." for sentence in sorted(said - {""})]


def data_table(preset: Preset, sets: Sequence[tuple[str, ImageSet | AbsentSet | None]]) -> Table:
    """The image sets of a preset with the parts they play: (role, set); a set that is not there says so."""
    rows = tuple(Row(role, _set_cells(images)) for role, images in sets)
    return Table(
        caption=f"Images of preset {preset.name}",
        columns=("Used for", "set", "images", "classes", "data hash"),
        groups=(Group("", rows),),
    )


def value_cell(values: Iterable[float], *, digits: int = 1, bold: bool = False) -> Cell:
    """Mean over seeds with the standard deviation under it; a dash where there is none."""
    found = list(values)
    if not found:
        return Cell(NO_VALUE)
    small = f"± {spread(found):.{digits}f}" if len(found) > 1 else ""
    return Cell(f"{mean(found):z.{digits}f}", small, bold=bold)  # z: a difference that rounds to zero has no sign


def missing_half_sentence(half: Half) -> str:
    """What stands where a half of Table 1 has no records."""
    return f"No {half} half: this preset has no labelled {half}, or its probes have not run yet."


def _probe_group(records: Sequence[Record], half: Half) -> Group:
    curves = accuracy_by_layer(records, half)
    curves = {method: seeds for method, seeds in curves.items() if seeds}
    if not curves:
        return Group("", (), missing_half_sentence(half))
    counts = {len(seeds) for seeds in curves.values()}
    shared = plural(counts.pop(), "seed") if len(counts) == 1 else ""  # else each row says its own
    title = f"{half.capitalize()}{f', {shared}' if shared else ''} (paper: {DATASETS[half]})"
    means = {method: mean_curve(seeds)[0] for method, seeds in curves.items()}
    best = _best_per_column(list(means.values()))
    best_unlabelled = _best_per_column([m for method, m in means.items() if task_of(method) != "supervised"])
    rows: list[Row] = []
    # the published row is of the method itself, not of a variant of it; where there are only variants, of the first
    corresponding = {
        task_of(method): method for method in [*reversed(curves), *map(task_of, curves)] if method in curves
    }
    for method, seeds in curves.items():
        label = title_of(method) if shared else f"{title_of(method)} ({plural(len(seeds), 'seed')})"
        rows.append(Row(label, _probe_cells(method, seeds, best, best_unlabelled)))
        if method == corresponding[task_of(method)]:
            rows += _paper_rows(task_of(method), half)
    return Group(title, tuple(rows))


def _probe_cells(method: str, seeds: dict[int, Curve], best: list[str], best_unlabelled: list[str]) -> tuple[Cell, ...]:
    labelled = task_of(method) == "supervised"
    cells = []
    for column, (value, deviation) in enumerate(zip(*mean_curve(seeds), strict=True)):
        text = f"{value:.1f}"
        underlined = not labelled and bool(best_unlabelled) and text == best_unlabelled[column]
        small = f"± {deviation:.1f}" if len(seeds) > 1 else ""
        cells.append(Cell(text, small, bold=text == best[column], underlined=underlined))
    return tuple(cells)


def _paper_rows(task: str, half: Half) -> list[Row]:
    published = table1(half).get(task)
    return [Row(f"{NAMES[task]}, paper", tuple(Cell(f"{v:.1f}") for v in published), paper=True)] if published else []


def _best_per_column(curves: Sequence[Sequence[float]]) -> list[str]:
    """The highest value of each column as printed: values that read alike are emphasised alike."""
    return [f"{max(column):.1f}" for column in zip(*curves, strict=True)]


def _clustering_row(records: Sequence[Record], method: str) -> Row | None:
    sizes = {name: history(records, name, method, "assignment") for name in SIZES}
    if not sizes["median_cluster"]:
        return None
    cells = [Cell(_join({len(xs) for xs, _ in sizes["median_cluster"].values()}))]
    cells += [_mean_of_last(lines, ".0f") for lines in sizes.values()]
    cells.append(_mean_of_last(history(records, "nmi_previous", method, "assignment"), ".2f"))
    cells.append(_first_to_last(history(records, "nmi_labels", method, "assignment")))
    return Row(title_of(method), tuple(cells))


def _mean_of_last(lines: dict[int, Line], form: str) -> Cell:
    return Cell(format(mean(ys[-1] for _, ys in lines.values()), form) if lines else NO_VALUE)


def _first_to_last(lines: dict[int, Line]) -> Cell:
    if not lines:
        return Cell(NO_VALUE)
    first, last = mean(ys[0] for _, ys in lines.values()), mean(ys[-1] for _, ys in lines.values())
    return Cell(f"{first:.2f} to {last:.2f}")


def _run_row(records: Sequence[Record], method: str) -> Row:
    cards = [r.card for r in records if r.card is not None and r.card.method == method]
    trained = [card for card in cards if card.stage == "pretrain"]
    losses = history(records, "loss", method, "epoch")
    speeds = history(records, "images_per_second", method, "epoch")
    last = [ys[-1] for _, ys in losses.values()]
    seconds = final_values(records, "pretrain_seconds", method)
    cells = (
        Cell(_join({card.seed for card in cards})),
        Cell(_join({xs[-1] for xs, _ in losses.values()}) if losses else "none"),
        Cell(f"{mean(last):.2f}", f"± {spread(last):.2f}" if len(last) > 1 else "") if last else Cell(NO_VALUE),
        Cell(f"{mean(mean(ys) for _, ys in speeds.values()):,.0f}" if speeds else NO_VALUE),
        Cell(f"{mean(seconds.values()):,.0f}" if seconds else NO_VALUE),
        Cell(", ".join(sorted({card.device for card in trained or cards})), words=True),
    )
    return Row(title_of(method), cells)


def _set_cells(images: ImageSet | AbsentSet | None) -> tuple[Cell, ...]:
    if images is None:
        return Cell("not in this preset"), *[Cell(NO_VALUE)] * 3
    if isinstance(images, AbsentSet):
        count = f"{images.count:,}" if images.count else NO_VALUE
        return Cell(f"{images.name}, not here"), Cell(count), Cell(NO_VALUE), Cell(NO_VALUE)
    classes = str(len(images.classes)) if images.labels is not None else "no labels"
    known = edition() is None  # else its pictures are drawn one by one, and the whole of it is not here to be hashed
    return Cell(images.name), Cell(f"{len(images):,}"), Cell(classes), Cell(images.fingerprint if known else NO_VALUE)


def _join(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values)))


def _group_html(group: Group, width: int) -> str:
    """A body of the table; its title spans the table, and its words stay in view when that scrolls."""
    title = (
        f'<tr class="group"><th scope="colgroup" colspan="{width}"><span>{escape(group.title)}</span></th></tr>'
        if group.title
        else ""
    )
    rows = "".join(map(_row_html, group.rows))
    return f"<tbody>{title}{rows}</tbody>"


def _row_html(row: Row) -> str:
    kind = ' class="paper"' if row.paper else ""
    cells = "".join(
        f"<td{_cell_class(cell)}>{_cell_text(cell, escape if cell.words else _number_html, html=True)}</td>"
        for cell in row.cells
    )
    return f'<tr{kind}><th scope="row">{escape(row.label)}</th>{cells}</tr>'


def _number_html(text: str) -> str:
    """Text that is no sentence as HTML, with a true minus before a number; what is downloaded has a hyphen again."""
    return re.sub(r"(?<![\w.)-])-(?=\d)", "−", escape(text))


def _cell_class(cell: Cell) -> str:
    return ' class="words"' if cell.words else ""


def _cell_text(cell: Cell, clean: Callable[[str], str], *, html: bool) -> str:
    bold = ("<strong>", "</strong>") if html else ("**", "**")
    text = clean(cell.text)
    if cell.underlined:
        text = f"<u>{text}</u>"
    if cell.bold:
        text = f"{bold[0]}{text}{bold[1]}"
    if cell.small:
        text += f"<small>{clean(cell.small)}</small>" if html else f" {clean(cell.small)}"
    return text


def _row_markdown(row: Row) -> str:
    label = without_markup(row.label)
    label = f"*{label}*" if row.paper else label
    return _markdown_line((label, *(_cell_text(c, without_markup, html=False) for c in row.cells)), raw=True)


def _markdown_line(cells: Sequence[str], *, raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else without_markup(cell) for cell in cells) + " |"
