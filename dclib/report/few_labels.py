"""The page of few labels: networks beside methods that have none, and beside what others published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from dclib.config import DataConfig
from dclib.paper import N_LAYERS, task_of
from dclib.paper.elsewhere import CIFAR10
from dclib.records import DATA, Record, select
from dclib.report.display import Fragment, say
from dclib.report.finder import Finder
from dclib.report.margins import lead
from dclib.report.provenance import named
from dclib.report.seen import Lines, compared, shown_beside
from dclib.report.series import final_values, listed, methods_in, over_seeds, plural, title_of
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table, value_cell

EMPTY = "Nothing was measured here: this preset asks for no few labels, has no labelled objects, or has not run yet."
ALL, NEIGHBOURS = "100 %", "neighbours"  # columns beside the shares of the labels
STAGES = ("linear_probe", "low_shot", "baselines")  # whose records the table is made of
MEASURED = ("low_shot_top1", "neighbour_top1", "best_layer")
Values = Mapping[int, float]  # seed -> %


def records_of(records: Sequence[Record]) -> list[Record]:
    """Those the page is about: few labels, neighbours, and Table 1's probes on objects for all labels."""
    probes = {id(record) for record in select(records, "top1", dataset="objects", stage="linear_probe")}
    return [r for r in records if r.card and (r.card.stage in STAGES[1:] or id(r) in probes)]


def few_labels_table(records: Sequence[Record], data: DataConfig) -> Table:
    """Accuracy by the share of labels and by neighbours: two layers of each network, methods without one, others'."""
    measured = select(records, "low_shot_top1") + select(records, "neighbour_top1")
    columns = columns_of(records) if measured else ()
    methods = methods_in(r for r in measured if r.card and r.card.method != DATA)
    last = [Row(title_of(m), _cells(records, columns, _in_layers(records, m, lambda _: N_LAYERS))) for m in methods]
    best = [Row(_label(records, m), _cells(records, columns, _in_best(records, m))) for m in methods]
    others = [Row(feature_title(f), _cells(records, columns, _without(records, f))) for f in features_of(records)]
    published = _published(columns) if measured and not data.is_drawn else ()
    return Table(
        caption="Accuracy on the test images by the share of the labels, and by votes of neighbours, %",
        columns=("Features", *(NEIGHBOURS if c == NEIGHBOURS else f"{c} of the labels" for c in columns)),
        groups=(
            Group("Networks, last layer (conv13)", tuple(last), "" if measured else EMPTY),
            Group("Networks, the layer that is best on training images", tuple(best)),
            Group("Without a network", tuple(others)),
            Group("Published by others, on CIFAR-10", published),
        ),
        notes=(*_notes(records, measured), *_sources(published)) if measured else (),
        source=named(records, *MEASURED),
    )


def columns_of(records: Sequence[Record]) -> tuple[str, ...]:
    """Shares of the labels, few to many, and the votes of neighbours."""
    shares = {str(r.keys["share"]) for r in select(records, "low_shot_top1")} | {ALL}
    return (*sorted(shares, key=lambda share: float(share.split()[0])), NEIGHBOURS)


def features_of(records: Sequence[Record]) -> list[str]:
    """Methods without a network that were measured: pixels first, then more and more centroids."""
    found = {str(r.keys["features"]) for r in select(records, "neighbour_top1", method=DATA)}
    return sorted(found, key=lambda name: (name.count("-"), int(name.rpartition("-")[2]) if "-" in name else 0))


def feature_title(features: str) -> str:
    """``k-means-1600`` -> ``K-means features, 1,600 centroids``."""
    count = features.rpartition("-")[2]
    return f"K-means features, {int(count):,} centroids" if count.isdigit() else "Raw pixels"


def in_short(records: Sequence[Record]) -> Fragment:
    """For each column the best network that saw no labels beside the best method without a network, in words."""
    if not select(records, "low_shot_top1"):
        return say(EMPTY)
    methods = methods_in(r for r in select(records, "best_layer") if r.card)
    networks = {f"{_label(records, m)}": _in_best(records, m) for m in methods if task_of(m) != "supervised"}
    old = {feature_title(f): _without(records, f) for f in features_of(records)}
    lines = []
    for column in columns_of(records):
        ours, theirs = _highest(networks, column), _highest(old, column)
        if ours and theirs:
            lead = ours[1] - theirs[1]
            side = "ahead" if round(lead, 1) > 0 else "behind" if round(lead, 1) < 0 else "neither ahead nor behind"
            by = f"{abs(lead):.1f} points {side}" if round(lead, 1) else side
            lines.append(
                f"{_when(column)}: {ours[0]} {ours[1]:.1f} %, {theirs[0][0].lower()}{theirs[0][1:]} {theirs[1]:.1f} %: "
                f"the network is {by}."
            )
    return say(" ".join(lines) or "Nothing without a network was measured here to compare with.")


Pick = Callable[[str], Values]  # column -> the values of the seeds


def _in_best(records: Sequence[Record], method: str) -> Pick:
    """The values of a network in the layer that each seed chose."""
    layers = final_values(records, "best_layer", method)
    return _in_layers(records, method, lambda seed: int(layers.get(seed, 0)))


def _in_layers(records: Sequence[Record], method: str, layer_of: Callable[[int], int]) -> Pick:
    """The values of a network in a layer that may differ from seed to seed."""

    def pick(column: str) -> Values:
        if column == NEIGHBOURS:
            found = select(records, "neighbour_top1", method=method)
        elif column == ALL:
            found = select(records, "top1", method=method, dataset="objects", stage="linear_probe")
        else:
            found = select(records, "low_shot_top1", method=method, share=column)
        return {r.card.seed: r.value for r in found if r.card and r.keys["layer"] == layer_of(r.card.seed)}

    return pick


def _without(records: Sequence[Record], features: str) -> Pick:
    """The values of a method without a network; a seed is a draw of labels and of patches."""

    def pick(column: str) -> Values:
        keys = {"method": DATA, "features": features}
        found = (
            select(records, "neighbour_top1", **keys)
            if column == NEIGHBOURS
            else select(records, "low_shot_top1", **keys, share=column)
        )
        return {r.card.seed: r.value for r in found if r.card}

    return pick


def _cells(records: Sequence[Record], columns: Sequence[str], pick: Pick) -> tuple[Cell, ...]:
    return tuple(value_cell(pick(column).values()) for column in columns)


def _label(records: Sequence[Record], method: str) -> str:
    layers = sorted({int(layer) for layer in final_values(records, "best_layer", method).values()})
    return f"{title_of(method)}, {' or '.join(f'conv{layer}' for layer in layers)}"


def _highest(rows: Mapping[str, Pick], column: str) -> tuple[str, float] | None:
    means = {name: mean(values.values()) for name, pick in rows.items() if (values := pick(column))}
    return max(means.items(), key=lambda item: item[1]) if means else None


def _when(column: str) -> str:
    return "By votes of neighbours" if column == NEIGHBOURS else f"With {column} of the labels"


def _published(columns: Sequence[str]) -> tuple[Row, ...]:
    places = {"linear": ALL, "neighbours": NEIGHBOURS}
    return tuple(
        Row(
            f"{one.what}, {one.budget}",
            tuple(Cell(f"{one.value:.1f}" if c == places[one.column] else NO_VALUE) for c in columns),
            paper=True,
        )
        for one in CIFAR10
    )


def _sources(published: Sequence[Row]) -> list[str]:
    if not published:
        return []
    said: dict[str, list[str]] = {}
    for one in CIFAR10:
        said.setdefault(one.source, []).append(f"{one.value:.1f}")
    return [f"Published: {'; '.join(f'{listed(values)}: {source}' for source, values in said.items())}."]


def _notes(records: Sequence[Record], measured: Sequence[Record]) -> list[str]:
    cards = [r.card for r in measured if r.card]
    labels = listed(dict.fromkeys(str(card.notes["labels"]) for card in cards if "labels" in card.notes))
    votes = listed(dict.fromkeys(str(card.notes["neighbours"]) for card in cards if "neighbours" in card.notes))
    tested = listed(f"{n:,}" for n in sorted({r.n for r in measured}))
    draws = len({card.seed for card in cards if card.method == DATA})
    return [
        f"On {tested} test images; networks: {over_seeds(measured)}; without a network: {plural(draws, 'draw')} of "
        f"labels and patches. Labelled images: {labels}. "
        f"Votes: of {votes} neighbours among all labelled images.",
        "A network's classifiers are those of Table 1, with its learning rates and as many steps for few labels as for "
        "all. Without a network the classifier's weight decay is chosen on held-out tenths of the labelled images, "
        "which favours it, if anything.",
    ]


def to_have_seen(records: Sequence[Record], published: Sequence[Record]) -> Fragment:
    """Who is ahead with the fewest labels, and whether luck explains it."""
    own, theirs = (list(_seen(Finder(of))) for of in (records, published))
    return shown_beside(own, records, theirs, published)


def _seen(seen: Finder) -> Lines:
    shares = sorted(
        {str(r.keys["share"]) for r in select(seen.records, "low_shot_top1")}, key=lambda s: float(s.split()[0])
    )
    for share in shares[:1]:
        of = {m: seen.values("low_shot_top1", m, share=share, layer=13) for m in ("deepercluster", "rotnet", "random")}
        where = f"conv13 with {share} of the labels"
        yield from compared("DeeperCluster", "RotNet", where, lead(of["deepercluster"], of["rotnet"]))
        yield from compared("DeeperCluster", "a random network", where, lead(of["deepercluster"], of["random"]))
