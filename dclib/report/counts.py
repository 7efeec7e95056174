"""The page of counts: networks by the number of images they learn from and of their clusters, at equal passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dclib.config import Preset
from dclib.counted import Kind, count_of, counted
from dclib.presets import edition, project_root, shown_folder
from dclib.records import Record, RunCard, read_records, select
from dclib.report.display import Fragment, say
from dclib.report.figures import PANEL, finish, key_below, look_of, new_axes
from dclib.report.finder import Finder
from dclib.report.findings import margin_words
from dclib.report.ladder import LATE
from dclib.report.learning import unlearned
from dclib.report.margins import Check, Values, combine, lead
from dclib.report.provenance import load_records, named
from dclib.report.published import label_of, panels, show_both, whose, with_published
from dclib.report.seen import Lines, shown_beside
from dclib.report.series import listed, order_methods, over_seeds, plural, seeds_of, title_of
from dclib.report.tables import Cell, Group, Row, Table, value_cell

EMPTY = "Nothing was measured here: this preset asks for no counts of images or clusters, or has not run yet."
KINDS: tuple[Kind, ...] = ("images", "clusters")
FLOOR = "random"  # the network that a line across a figure stands for
VOC: Mapping[str, Any] = {"setting": "fc68", "split": "val"}  # as the main paper's figure and Table 4
MEASURES: Mapping[str, str] = {
    "voc": "Classification, mean average precision, %",
    "probes": f"linear probes on objects, mean of conv{LATE[0]} to conv{LATE[-1]}, %",
}
NAMES = {"voc": "voc_map", "probes": "top1"}  # of the records that a measure is made of


@dataclass(frozen=True)
class Course:
    """What a measure gives for one method, by one count of it."""

    method: str
    kind: Kind
    points: Mapping[int, Values]  # count -> seed -> %, ascending
    idle: frozenset[int] = frozenset()  # counts at which the network has not learned its task, in some seed

    @property
    def judged(self) -> Mapping[int, Values]:
        """The points of networks that have learned their task."""
        return {count: values for count, values in self.points.items() if count not in self.idle}

    @property
    def left_out(self) -> str:
        """Which counts are not judged, and why; empty where all are."""
        counts = listed(f"{count:,}" for count in sorted(self.idle))
        return f"without {counts} {self.kind}, on which it has not learned its task" if self.idle else ""

    @property
    def title(self) -> str:
        return f"{title_of(self.method)} by {self.kind}"

    @property
    def slope(self) -> Check:
        """Points gained with each doubling of the count: the line of least squares, seed by seed."""
        x = np.log2(list(self.judged))
        if len(x) < 2:
            return Check(self.title, "a doubling", None)
        weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
        return self._check("a doubling", weights)

    @property
    def bend(self) -> Check | None:
        """How far the middle is above the line between the ends, by the best parabola; None of two counts."""
        x = np.log2(list(self.judged))
        if len(x) < 3:
            return None
        curvature = np.linalg.pinv(np.vander(x, 3))[0]
        return self._check("the middle", -curvature * (x[-1] - x[0]) ** 2 / 4)

    def _check(self, name: str, weights: Sequence[float]) -> Check:
        def weighed(*values: Any) -> Any:
            return sum(w * v for w, v in zip(weights, values, strict=True))

        return Check(self.title, name, combine(weighed, *self.judged.values()))


def variants_in(folder: Path) -> list[str]:
    """The networks of other counts that a folder of records has."""
    names = {path.stem.rpartition("-s")[0] for path in (folder / "pretrain").glob("*.json")}
    return sorted(filter(count_of, names))


def has_published(preset: Preset) -> bool:
    """Whether networks of other counts are published with a preset."""
    return bool(variants_in(project_root() / "results" / preset.name / "records"))


def load_counted(preset: Preset) -> list[Record]:
    """The records of the page: of the counts that the preset asks for, in the published edition of all there are."""
    names = variants_in(shown_folder(preset.name) / "records") if edition() else ()
    return records_of(load_records(counted(preset, names)))


def load_published(preset: Preset, records: Sequence[Record]) -> list[Record]:
    """Those that are published, where they have more seeds than the run's own; none in the published edition."""
    if edition() is not None:
        return []
    found = records_of(read_records(project_root() / "results" / preset.name / "records"))
    return found if len(seeds_of(found)) > len(seeds_of(records)) else []


def records_of(records: Sequence[Record]) -> list[Record]:
    """Those the page is about, of networks of other counts, of the methods they vary, and of the untrained network."""
    counts = [count for name in {r.card.method for r in records if r.card} if (count := count_of(name))]
    about = {name for count in counts for name in (count.name, count.method, FLOOR)}
    mine = [r for r in records if r.card and r.card.method in about]
    trained = [r for r in mine if r.card and r.card.stage == "pretrain"]
    return [*trained, *select(mine, "voc_map", **VOC), *select(mine, "top1", dataset="objects", stage="linear_probe")]


def networks_of(records: Sequence[Record]) -> dict[tuple[str, Kind], dict[int, str]]:
    """For each method and what is counted, the network of each count, ascending: the method itself is one of them."""
    cards = {r.card.method: r.card for r in records if r.card and r.card.stage == "pretrain"}
    found: dict[tuple[str, Kind], dict[int, str]] = {}
    for count in filter(None, map(count_of, cards)):
        found.setdefault((count.method, count.kind), {})[count.value] = count.name
    for (method, kind), networks in found.items():
        if method in cards:
            networks.setdefault(own_count(cards[method], kind), method)
    keys = [(method, kind) for kind in KINDS for method in order_methods(m for m, k in found if k == kind)]
    return {key: dict(sorted(found[key].items())) for key in keys}


def courses(records: Sequence[Record], measure: str) -> list[Course]:
    """What was measured of each method by each of its counts, where there are two or more."""
    find, unfit, made = Finder(records), unlearned(records), []
    for (method, kind), networks in networks_of(records).items():
        points = {value: values for value, name in networks.items() if (values := _measured(find, name, measure))}
        idle = frozenset(value for value in points if networks[value] in unfit)
        made += [Course(method, kind, points, idle)] if len(points) > 1 else []
    return made


def own_count(card: RunCard, kind: Kind) -> int:
    """The count that a method has by itself, from the card of its training."""
    cluster = card.config["cluster"]
    return int(card.notes["images"]) if kind == "images" else int(cluster["n_super"]) * int(cluster["n_sub"])


def _measured(find: Finder, name: str, measure: str) -> Values | None:
    if measure == "voc":
        return find.values("voc_map", name, **VOC)
    return combine(lambda *layers: sum(layers) / len(layers), *(find.accuracy(name, "objects", n) for n in LATE))


def counts_figure(records: Sequence[Record], published: Sequence[Record], measure: str) -> Fragment:
    """A panel for images and one for clusters: each seed a dot, the mean a line, as the main paper's Figure 1."""
    shown, beside = (records, published) if records else (published, [])
    drawings = []
    for kind in KINDS:
        if any(course.kind == kind for course in courses(shown, measure)):
            plot = partial(plot_counts, kind=kind, measure=measure)
            describe = partial(describe_counts, kind=kind, measure=measure)
            drawings += panels(plot, describe, shown, beside)
    if not drawings:
        return say(EMPTY)
    caption = (
        f"{_capital(MEASURES[measure])}. Dots: seeds; lines: {over_seeds(shown, spread=False)}; dotted: the untrained "
        "network; hollow: one that has not learned its task. As the main paper's Figure 1, whose numbers are in its "
        "drawing alone (D52)."
    )
    return show_both(drawings, caption, records, published, NAMES[measure])


def plot_counts(records: Sequence[Record], kind: Kind, measure: str) -> Axes:
    """One panel: a measure against a count on a logarithmic axis."""
    ax = new_axes(*PANEL)
    chosen = [course for course in courses(records, measure) if course.kind == kind]
    for course in chosen:
        look, means = look_of(course.method), [mean(values.values()) for values in course.points.values()]
        x = list(course.points)
        ax.plot(x, means, color=look.color, marker=look.marker, markersize=6, label=title_of(course.method))
        hollow = [(value, y) for value, y in zip(x, means, strict=True) if value in course.idle]
        for value, y in hollow:
            ax.plot(value, y, color=look.color, marker=look.marker, markersize=6, markerfacecolor="white")
        dots = np.array([(value, y) for value, values in course.points.items() for y in values.values()])
        ax.scatter(dots[:, 0], dots[:, 1], s=14, color=look.color, alpha=0.6, linewidths=0)
    if floor := _measured(Finder(records), FLOOR, measure):
        ax.axhline(mean(floor.values()), color=look_of(FLOOR).color, linestyle=":", label=title_of(FLOOR))
    ticks = sorted({value for course in chosen for value in course.points})
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel=f"{kind} of the pool" if kind == "images" else "clusters", ylabel="%", title=f"By {kind}")
    key_below(ax)
    return finish(ax)


def describe_counts(records: Sequence[Record], kind: Kind, measure: str) -> str:
    """One panel in words: the mean at each count."""
    parts = [
        f"{title_of(c.method)} {', '.join(f'{n:,} {mean(v.values()):.1f} %' for n, v in c.points.items())}"
        for c in courses(records, measure)
        if c.kind == kind
    ]
    return f"{MEASURES[measure]}, against the number of {kind}: {'; '.join(parts)}."


def counts_table(records: Sequence[Record], published: Sequence[Record]) -> Table:
    """Every network with both measures, and whether it learned its task."""
    if records:
        return with_published(_table, records, published)
    table = _table(published)
    notes = filter(None, (*table.notes, whose(published, records)))
    return replace(table, notes=tuple(notes), source=(), beside=table.source)


def _table(records: Sequence[Record]) -> Table:
    find, idle = Finder(records), unlearned(records)

    def row(value: int, kind: Kind, name: str) -> Row:
        measured = (value_cell((_measured(find, name, measure) or {}).values()) for measure in MEASURES)
        learned = Cell(idle.get(name, "yes").removeprefix(f"{title_of(name)} "), words=True)
        return Row(f"{value:,} {kind}", (*measured, learned))

    groups = [
        Group(f"{title_of(method)} by {kind}", tuple(row(value, kind, name) for value, name in networks.items()))
        for (method, kind), networks in networks_of(records).items()
    ]
    return Table(
        caption="Networks by the number of images and of clusters, %",
        columns=("Network", "classification", f"conv{LATE[0]} to conv{LATE[-1]}", "learned its task?"),
        groups=tuple(groups) or (Group("", (), EMPTY),),
        notes=(
            f"Classification: mean average precision as in Table 4, frozen, train to val. Conv{LATE[0]} to "
            f"conv{LATE[-1]}: mean accuracy of the linear probes on objects. Values: {over_seeds(records)}. "
            f"{passes_words(records)}",
        )
        if groups
        else (),
        source=named(records, *NAMES.values()),
    )


def passes_words(records: Sequence[Record]) -> str:
    """Whether all networks were shown as many images in training, from their records."""
    shown: dict[tuple[str, int], int] = {}
    for record in select(records, "loss", stage="pretrain"):
        if record.card:
            key = record.card.method, record.card.seed
            shown[key] = shown.get(key, 0) + record.n
    totals = sorted(set(shown.values()))
    if not totals:
        return "How many images each was shown is not recorded."
    if len(totals) == 1:
        return f"Each was shown {totals[0]:,} images in training."
    return f"Mind: they were shown from {totals[0]:,} to {totals[-1]:,} images in training, not as many each."


def counts_came_out(records: Sequence[Record], published: Sequence[Record]) -> Fragment:
    """Whether each line rises, by the rule of the scorecard, and what gains more: by the published seeds, if any."""
    judged = published or records
    lines = [line for measure in MEASURES for line in _lines(judged, measure)]
    if not lines:
        return say(EMPTY)
    label = plural(len(seeds_of(judged)), "published seed") if published else label_of(records)
    head = f"What came out ({label}), in points a doubling of the count:"
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    html = f'<div class="dclib-finding"><p><strong>{escape(head)}</strong></p><ul>{items}</ul></div>'
    return Fragment(html, "\n".join([head, "", *(f"- {line}" for line in lines)]))


def _lines(records: Sequence[Record], measure: str) -> Iterator[str]:
    where, found = _capital(MEASURES[measure].split(",")[0]), courses(records, measure)
    for course in found:
        yield f"{where}, {course.title}: {trend_words(course)}."
    for first, second in ((a, b) for a in found for b in found if _are_compared(a, b)):
        gain = Check(first.title, second.title, lead(_values(first.slope), _values(second.slope)))
        if gain.values:
            yield f"{where}: {_gain_words(gain)}."


def _are_compared(one: Course, other: Course) -> bool:
    """A method's images with its clusters, and two methods by the same numbers of images, each pair once."""
    if one.kind == other.kind == "images":
        first = order_methods([one.method, other.method])[0] == one.method != other.method
        return first and one.judged.keys() == other.judged.keys()
    return one.method == other.method and one.kind == "images" and other.kind == "clusters"


def _values(check: Check) -> Values | None:
    return check.margins if isinstance(check.margins, Values) else None


def _gain_words(gain: Check) -> str:
    """Whether the one line gains more by a doubling than the other."""
    by = margin_words(gain, unit=True)
    if len(gain.values) < 2:
        return f"{gain.subject} gains {by} more than {gain.name}, which one seed cannot tell from luck"
    more = "more" if gain.is_clear else "less" if gain.is_against else "neither more nor less beyond luck"
    return f"{gain.subject} gains {more} than {gain.name} ({by})"


def trend_words(course: Course) -> str:
    """Rising, falling, or flat within luck; whether it bends; and on which counts nothing is judged."""
    slope, bend, left_out = course.slope, course.bend, course.left_out
    if not slope.values:
        return f"not judged, {left_out or 'for no seed has every count'}"
    means = {count: mean(values.values()) for count, values in course.judged.items()}
    low, high = min(means), max(means)
    ends = f"{means[low]:.1f} % at {low:,}, {means[high]:.1f} % at {high:,}"
    if len(slope.values) == 1:
        said = f"{margin_words(slope, unit=True)}, which one seed cannot tell from luck ({ends})"
    else:
        word = "rising" if slope.is_clear else "falling" if slope.is_against else "flat within luck"
        said = f"{word}, {margin_words(slope, unit=True)} ({ends})"
    if bend and (bend.is_clear or bend.is_against):
        said += f"; it bends: the middle is {margin_words(bend, unit=True)} off the line between the ends"
    return said + (f"; {left_out}" if left_out else "")


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def to_have_seen(records: Sequence[Record], published: Sequence[Record]) -> Fragment:
    """How many of the lines over counts rise, fall, or are flat within luck."""
    return shown_beside(list(_seen(records)), records, list(_seen(published)), published)


def _seen(records: Sequence[Record]) -> Lines:
    for kind in ("images", "clusters"):
        slopes = [c.slope for measure in MEASURES for c in courses(records, measure) if c.kind == kind]
        slopes = [slope for slope in slopes if slope.values]
        if slopes:
            up, down = sum(s.is_clear for s in slopes), sum(s.is_against for s in slopes)
            told = {"rising": up, "falling": down, "flat within luck": len(slopes) - up - down}
            said = listed(f"{count} {word}" for word, count in told.items() if count)
            yield f"{plural(len(slopes), 'line')} over more {kind}: {said}."
