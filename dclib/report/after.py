"""The page of what came before the paper and after it: each way of pre-training beside DeeperCluster and a random one.

All are of one preset: the same trunk, the same images at the input, as many passes. It is no comparison of systems as
they were published.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from statistics import mean

from dclib.config import MethodConfig, Preset
from dclib.methods import OUTLINES
from dclib.paper import HALVES, LAYERS, N_LAYERS, Half, task_of
from dclib.planner.network import heads_size
from dclib.records import Record, select
from dclib.report.display import Fragment, say
from dclib.report.evidence_layers import LATE
from dclib.report.figures import describe_accuracy_against_depth, plot_accuracy_against_depth
from dclib.report.finder import Finder
from dclib.report.learning import unlearned
from dclib.report.margins import Check, lead
from dclib.report.names import CITIES, names_in
from dclib.report.provenance import named, strip
from dclib.report.published import panels, show_both
from dclib.report.seen import Lines, compared, shown_beside
from dclib.report.series import BY_YEAR, era_of, final_values, history, listed, over_seeds, plural, seeds_of, title_of
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table, missing_half_sentence, value_cell

MEASURE, FLOOR = "deepercluster", "random"  # that others are set beside
EMPTY = "This preset trains no method from before the paper or after it, so there is nothing to set beside its own."
NOTHING = "The linear probes of these methods have not run yet."
UNTRAINED = "None of these methods has been trained yet."
STAGES = ("pretrain", "linear_probe", "retrieval")  # whose records the page shows
SEEN = {"sobel": "image gradients, no colour", "rgb": "colour", "folded": "image gradients, no colour"}


def in_line(preset: Preset) -> list[str]:
    """The preset's ways of pre-training without labels from the earliest to the latest; none where all are the paper's.

    Variants of them, such as those on colour, are left out.
    """
    there = [method for method in BY_YEAR if method in preset.methods and task_of(method) == method]
    return there if any(era_of(method) != "paper" for method in there) else []


def others_in(methods: Iterable[str]) -> list[str]:
    """Those that are not the paper's."""
    return [method for method in methods if era_of(method) != "paper"]


def asked_table(preset: Preset) -> Table:
    """What each method asks of the network, from the earliest to the latest."""
    rows = [
        Row(
            title_of(method),
            (
                Cell(str(OUTLINES[method].year)),
                Cell(OUTLINES[method].words, words=True),
                Cell(listed(OUTLINES[method].asks.values()), words=True),
                Cell(_learns_from(preset.method(method)), words=True),
                Cell(SEEN[preset.method(method).model.stem], words=True),
            ),
        )
        for method in in_line(preset)
    ]
    return Table(
        caption="What is asked, year by year",
        columns=("Method", "year", "what it does", "tells apart", "learns from", "sees"),
        groups=(Group("", tuple(rows), "" if rows else EMPTY),),
    )


def cost_table(records: Sequence[Record], preset: Preset) -> Table:
    """What each method cost here: passes of the network, seconds, what was made anew between epochs, head weights."""
    rows = [Row(title_of(method), _cost_cells(records, preset, method)) for method in in_line(preset)]
    return Table(
        caption="What it cost here",
        columns=("Method", "passes", "with its start", "seconds", "clusterings", "passes for them", "head weights"),
        groups=(Group("", tuple(rows), "" if rows else EMPTY),),
        notes=(
            f"Values: {over_seeds(_trained(records, preset))}. A pass is one picture of the network's size, forward "
            "and back; a smaller crop counts by its pixels. With its start: and those of the network that it starts "
            "from. Seconds: of its own pre-training, clusterings included. Clusterings: or what else is made anew from "
            "features. Passes for them: forward only, and not among the passes; where vectors are remembered from "
            "training, of all images before the first step, and later of those that the epoch has not shown (D47).",
        )
        if rows
        else (),
        source=named(_trained(records, preset), "loss", "pretrain_seconds"),
    )


def depth_figure(records: Sequence[Record], preset: Preset, half: Half, published: Sequence[Record] = ()) -> Fragment:
    """Accuracy at every depth of the methods that are not the paper's, with DeeperCluster and a random network."""
    if not in_line(preset):
        return say(EMPTY)
    among = (MEASURE, *others_in(in_line(preset)), FLOOR)
    used, beside = (
        [r for r in select(source, "top1", dataset=half) if r.card and r.card.method in among]
        for source in (records, published)
    )
    if not used:
        return say(missing_half_sentence(half))
    plot = partial(plot_accuracy_against_depth, half=half, among=among)
    describe = partial(describe_accuracy_against_depth, half=half, among=among)
    caption = (
        f"Accuracy of a linear classifier on each frozen layer, {half}: methods from before the paper and after it, "
        f"beside {title_of(MEASURE)} and a random network. {over_seeds(used).capitalize()}."
    )
    return show_both(panels(plot, describe, used, beside), caption, used, beside, "top1")


def lead_table(records: Sequence[Record], preset: Preset, half: Half) -> Table:
    """By how much each method is ahead of DeeperCluster, and of a random network, at each layer."""
    groups = []
    for whom in (MEASURE, FLOOR):
        checks = {m: _leads(records, m, whom, half) for m in others_in(in_line(preset)) if m != whom}
        rows = [
            Row(title_of(m), tuple(value_cell(c.values, bold=c.is_clear or c.is_against) for c in of))
            for m, of in checks.items()
            if any(c.values for c in of)
        ]
        groups.append(Group(f"Less {title_of(whom)}", tuple(rows)))
    empty = "" if any(group.rows for group in groups) else missing_half_sentence(half) if in_line(preset) else EMPTY
    return Table(
        caption=f"Leads at every depth, {half}, points of top-1",
        columns=("Method", *LAYERS),
        groups=tuple(groups),
        notes=(
            empty
            or f"{over_seeds(select(records, 'top1', dataset=half)).capitalize()}, seed by seed. Bold: by "
            "more than luck explains and in each seed, either way; one seed never is.",
        ),
        source=named(select(records, "top1", dataset=half), "top1"),
    )


def who_is_ahead(records: Sequence[Record], preset: Preset, published: Sequence[Record] = ()) -> Fragment:
    """For each method and half: where it is ahead of DeeperCluster, and behind, beyond luck. Computed from records."""
    said = [
        _compared(best, method, half)
        for best in (_of_more_seeds(records, published),)
        for method in others_in(in_line(preset))
        for half in HALVES
        if any(check.values for check in _leads(best, method, MEASURE, half))
    ]
    return _told(said or [NOTHING if in_line(preset) else EMPTY], named(records, "top1"), named(published, "top1"))


def health(records: Sequence[Record], preset: Preset, published: Sequence[Record] = ()) -> Fragment:
    """Which methods have not learned their task, and which are nowhere ahead of a random network in the last layers."""
    best, others = _of_more_seeds(records, published), others_in(in_line(preset))
    measured = [m for m in others if history(best, "loss", m, "epoch")]
    warnings = [line for method in others for line in _warnings(best, method)]
    well = f"Each of {listed(map(title_of, measured))} has learned its task, and is ahead of a random network late."
    said = warnings or [well if measured else UNTRAINED if others else EMPTY]
    return _told(said, records, published)


def _warnings(records: Sequence[Record], method: str) -> list[str]:
    idle, lines = unlearned(records), []
    if method in idle:
        lines.append(f"WARNING: {idle[method]}: what its layers know, it did not learn from its task.")
    for half in HALVES:
        checks = _leads(records, method, FLOOR, half)
        late = [checks[layer - 1] for layer in LATE]
        if all(check.values for check in late) and not any(check.leans for check in late):
            lines.append(
                f"WARNING: {title_of(method)} is not ahead of a random network on {half} at any of "
                f"{listed(LAYERS[layer - 1] for layer in LATE)}, so its pre-training was of no use there."
            )
    return lines


def _of_more_seeds(records: Sequence[Record], published: Sequence[Record]) -> Sequence[Record]:
    """The published records where they are about methods that are not the paper's, else those of this run."""
    return published if others_in(r.card.method for r in published if r.card) else records


def _told(said: Sequence[str], records: Sequence[Record], published: Sequence[Record]) -> Fragment:
    """Sentences that were computed from one of these, and whose they are."""
    if _of_more_seeds(records, published) is published and published:
        said = [f"By {plural(len(seeds_of(published)), 'published seed')}:", *said]
    return sum(map(say, said[1:]), start=say(said[0])) + strip(records, published)


def retrieval_table(records: Sequence[Record], preset: Preset) -> Table:
    """Mean average precision in both cities: a random network, the methods year by year, and labels."""
    find, line = Finder(records), in_line(preset)
    shown = [FLOOR, *line, "supervised"] if line else []
    found = {m: [find.values("retrieval_map", m, dataset=city).values() for city in CITIES] for m in shown}
    rows = [Row(title_of(m), tuple(map(value_cell, of))) for m, of in found.items() if any(of)]
    empty = "" if rows else "Retrieval has not run here." if line else EMPTY
    return Table(
        caption="Finding a building again, mean average precision, %",
        columns=("Method", *map(names_in(preset.data).of, CITIES.values())),
        groups=(Group("", tuple(rows), empty),),
        notes=(f"Values: {over_seeds(named(records, 'retrieval_map'))}.",) if rows else (),
        source=named([r for r in records if r.card and r.card.method in shown], "retrieval_map"),
    )


def _leads(records: Sequence[Record], method: str, whom: str, half: Half) -> list[Check]:
    """One check for each layer."""
    find = Finder(records)
    return [
        Check(half, LAYERS[i - 1], lead(find.accuracy(method, half, i), find.accuracy(whom, half, i)))
        for i in range(1, N_LAYERS + 1)
    ]


def _compared(records: Sequence[Record], method: str, half: Half) -> str:
    checks = _leads(records, method, MEASURE, half)
    seeds = min(len(check.values) for check in checks)
    whom = f"{half.capitalize()}: beside {title_of(MEASURE)}, {title_of(method)}"
    if seeds < 2:
        ahead, behind = ([c.name for c in checks if c.values[0] * sign > 0] for sign in (1, -1))
        return (
            f"{whom} is higher at {_named(ahead)} and lower at {_named(behind)} in one seed, which cannot tell a lead "
            "from luck."
        )
    ahead, behind = [c.name for c in checks if c.is_clear], [c.name for c in checks if c.is_against]
    rest = [c.name for c in checks if c.name not in (*ahead, *behind)]
    return (
        f"{whom} is ahead at {_named(ahead)}, behind at {_named(behind)}, and within luck at {_named(rest)}, by "
        f"{plural(seeds, 'seed')}."
    )


def _named(layers: Sequence[str]) -> str:
    """``no layer``, ``conv3``, ``conv1 to conv4 and conv7``: neighbours are joined."""
    numbers = [LAYERS.index(layer) for layer in layers]
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return listed(LAYERS[r[0]] if len(r) == 1 else f"{LAYERS[r[0]]} to {LAYERS[r[-1]]}" for r in runs) or "no layer"


def _cost_cells(records: Sequence[Record], preset: Preset, method: str) -> tuple[Cell, ...]:
    config = preset.method(method)
    own = _passes(records, method, config)
    if own is None:
        return (Cell("not run"), *[Cell(NO_VALUE)] * 5)
    chain, start = own, config.init
    while start:
        chain += _passes(records, start, preset.method(start)) or 0.0
        start = preset.method(start).init
    seconds = final_values(records, "pretrain_seconds", method)
    renewed = _renewed(records, method)
    shown = min((r.n for r in select(records, "loss", method=method) if "epoch" in r.keys), default=0)
    forward = [sum(of) if config.clusters else of[0] + sum(max(0, n - shown) for n in of[1:]) for of in renewed]
    heads = heads_size(config, 0)
    weights = heads.super_parameters + heads.n_super_classes * heads.sub_parameters
    return (
        Cell(f"{own:,.0f}"),
        Cell(f"{chain:,.0f}"),
        value_cell(seconds.values(), digits=0),
        Cell(f"{mean(map(len, renewed)):,.0f}" if renewed else "0"),
        Cell(f"{mean(forward):,.0f}" if renewed else "0"),
        Cell(f"{weights:,}"),
    )


def _passes(records: Sequence[Record], method: str, config: MethodConfig) -> float | None:
    """Passes of the network in a pre-training, mean over seeds; None without records."""
    shown: dict[int, int] = {}
    for record in select(records, "loss", method=method):
        if record.card and "epoch" in record.keys:
            shown[record.card.seed] = shown.get(record.card.seed, 0) + record.n
    return mean(shown.values()) * config.passes if shown else None


def _renewed(records: Sequence[Record], method: str) -> list[list[int]]:
    """For each seed, the images that each clustering, or what is made anew in its place, was of."""
    found: dict[int, dict[int, int]] = {}
    for record in records:
        if record.card and record.card.method == method and "assignment" in record.keys:
            found.setdefault(record.card.seed, {})[int(record.keys["assignment"])] = record.n
    return [[images for _, images in sorted(of.items())] for of in found.values()]


def _trained(records: Sequence[Record], preset: Preset) -> list[Record]:
    line = in_line(preset)
    return [r for r in records if r.card and r.card.stage == "pretrain" and r.card.method in line]


def _learns_from(config: MethodConfig) -> str:
    what = OUTLINES[config.method].learns_from
    if what == "pool" and config.images == "objects":
        return "the curated images"
    return {"pool": "the pool", "clips": "clips"}.get(what, what)


def to_have_seen(records: Sequence[Record], published: Sequence[Record]) -> Fragment:
    """How far each method is above or below DeeperCluster at the end."""
    own, theirs = (list(_seen(Finder(of))) for of in (records, published))
    return shown_beside(own, records, theirs, published)


def _seen(seen: Finder) -> Lines:
    reference = seen.accuracy("deepercluster", "objects", 13)
    for other in ("context", "transitive", "deepcluster_v2", "swav"):
        margins = lead(seen.accuracy(other, "objects", 13), reference)
        yield from compared(title_of(other), "DeeperCluster", "conv13, objects", margins)
