"""Whether a run is large enough for its values to be set beside the paper's: sizes of run cards against its sizes."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from statistics import mean

from dclib.paper import SCALES, Claim, Scale
from dclib.records import Record, RunCard, select
from dclib.report.provenance import named
from dclib.report.series import spread
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table

METHOD = "deepercluster"  # whose values are compared
TOLERANCE = 1.0  # points within which a published value counts as reached, at that scale
ENOUGH = 0.99  # of a size of the paper's: a run may leave out one image in a hundred that cannot be read


def scale_table(records: Sequence[Record]) -> Table:
    """Which values of DeeperCluster may be compared with the paper's, and what they are: a line for each evaluation."""
    ours = [record for record in records if record.card and record.card.method == METHOD]
    return Table(
        caption="Absolute values of DeeperCluster, %",
        columns=("Value", "here", "paper", "may they be compared?"),
        groups=(Group("", tuple(_row(ours, scale) for scale in SCALES)),),
        notes=(
            "A value is compared only when nothing of the run is smaller than in the paper: images shown to the "
            "network, images and classes of the evaluation, its epochs or iterations, its augmentation and crops, size "
            f"of an image, width of the network. Then it counts as reached within {TOLERANCE:g} point (D15, D16, D27, "
            "D28, D29, D34).",
        ),
        source=named(ours, "loss", *(scale.record for scale in SCALES)),
    )


def small_tables(records: Sequence[Record]) -> set[int]:
    """The paper's tables whose values this run's may not be compared with; :func:`scale_table` says why."""
    ours = [record for record in records if record.card and record.card.method == METHOD]
    return {scale.table for scale in SCALES if shortfalls(ours, scale)}


def comparability(claim: Claim, small: Container[int]) -> str:
    """Whether this run's values may be set beside those of a claim's tables, of which some are those of ``small``."""
    tables = sorted({number.table for number in claim.numbers})
    if not tables:
        return "values: the paper gives none"
    listed = " and ".join(f"Table {table}" for table in tables)
    return f"values: {'not to be' if any(t in small for t in tables) else 'may be'} compared with {listed}"


def shortfalls(records: Sequence[Record], scale: Scale) -> list[str]:
    """What keeps DeeperCluster's value from being compared with the published one; nothing where it may be."""
    found = measured(records, scale)
    if not found:
        return ["not measured"]
    here = _sizes_here(records, found)
    said = [
        f"{what} {_written(what, here[what])} (paper {_written(what, size)})"
        for what, size in scale.sizes.items()
        if here[what] < ENOUGH * size
    ]
    splits = sorted({str(record.keys.get("split", "")) for record in found} - {scale.split})
    return said + [f"split {split} (paper {scale.split})" for split in splits if scale.split]


def measured(records: Sequence[Record], scale: Scale) -> list[Record]:
    """The record of each seed that corresponds to a published value; the last epoch where there are several."""
    last: dict[int, Record] = {}
    for record in select(records, scale.record, method=METHOD, **scale.keys):
        if record.card:
            before = last.get(record.card.seed)
            if before is None or int(record.keys.get("epoch", 0)) > int(before.keys.get("epoch", 0)):
                last[record.card.seed] = record
    return [record for _, record in sorted(last.items())]


def _sizes_here(records: Sequence[Record], found: Sequence[Record]) -> Mapping[str, float]:
    """The smallest size over seeds, under the names of ``paper.Scale``; 0 where a run card does not tell."""

    def noted(card: RunCard | None, name: str) -> float:
        return float(card.notes.get(name, 0)) if card else 0.0

    cards = [record.card for record in found if record.card]
    models = [card.config.get("model", {}) for card in cards]
    tested = min(record.n for record in found)
    return {
        "images shown": min(sum(r.n for r in select(records, "loss", method=METHOD, seed=c.seed)) for c in cards),
        "images of the evaluation": min(noted(card, "images") for card in cards),
        "images tested": tested,
        "queries tested": tested,
        "pixels": min(model.get("image_size", 0) for model in models),
        "width": min(model.get("width", 0) for model in models),
        "epochs": min(int(record.keys.get("epoch", 0)) or noted(record.card, "epochs") for record in found),
        "classes": min(noted(card, "classes") for card in cards),
        "augmentation": min(noted(card, "augment") for card in cards),
        "iterations": min(noted(card, "iterations") for card in cards),
        "test crops": min(noted(card, "test_crops") for card in cards),
        "pixels of the longer side": min(noted(card, "longest_side") for card in cards),
        "grid levels": min(noted(card, "levels") for card in cards),
    }


def _written(what: str, size: float) -> str:
    if what == "augmentation":
        return "with" if size else "none, or not recorded"
    if not size:
        return "not recorded"
    return f"{size:,.0f}" if size == int(size) else f"{size:g}"


def _row(records: Sequence[Record], scale: Scale) -> Row:
    values = [record.value for record in measured(records, scale)]
    missing = shortfalls(records, scale)
    if not values:
        said = "not measured"
    elif missing:
        said = f"no: {'; '.join(missing)}"
    else:
        said = f"yes: {'reached' if abs(mean(values) - scale.value) <= TOLERANCE else 'not reached'}"
    ours = f"{mean(values):.1f}" if values else NO_VALUE
    small = f"± {spread(values):.1f}" if len(values) > 1 else ""
    cells = (Cell(ours, small), Cell(f"{scale.value:.1f} ({scale.images})"), Cell(said, words=True))
    return Row(f"Table {scale.table}: {scale.part}", cells)
