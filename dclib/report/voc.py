"""The page of Table 4: classification on Pascal VOC 2007, with colour and with gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from dclib.config import DataConfig
from dclib.paper import TABLE4, TABLE4_COLUMNS, TABLE4_METHODS
from dclib.records import Record, select
from dclib.report.display import Fragment, say
from dclib.report.figures import WIDTH, finish, key_below, look_of, new_axes
from dclib.report.finder import Finder
from dclib.report.margins import Values, lead
from dclib.report.names import names_in
from dclib.report.provenance import named
from dclib.report.published import panels, show_both
from dclib.report.series import methods_in, over_seeds, spread, title_of
from dclib.report.tables import Cell, Group, Row, Table, value_cell

SETTING_NAMES = {"fc68": "FC68: convolutions frozen", "all": "ALL: everything trained"}
SPLITS = {"val": "train to val", "test": "trainval to test"}
PUBLISHED = ("fc68", "val")  # what Table 4 is
OF_CLASSES = "fc68"  # the setting in which classes are shown one by one
MEASURED = (PUBLISHED, ("fc68", "test"), ("all", "test"))  # settings, and the splits that are tested
EMPTY = "No classification here: this preset has no VOC2007 set, or the stage has not run yet."


def sobel_table(records: Sequence[Record], data: DataConfig) -> Table:
    """Table 4 of the supplement in both settings: colour and gradients, and what gradients gain."""
    groups, find = [], Finder(records)
    for setting, split in MEASURED:
        rows = []
        for (name, images), methods in TABLE4_METHODS.items():
            rgb, sobel = (_values(find, method, setting, split) for method in methods)
            cells = (value_cell((v or {}).values()) for v in (rgb, sobel, lead(sobel, rgb)))
            rows.append(Row(title_of(methods[1]), tuple(cells)))
            if (setting, split) == PUBLISHED:
                colour, gradients = TABLE4[name, images]
                published = (colour, gradients, gradients - colour)
                rows.append(Row(f"paper: {name} ({images})", tuple(Cell(f"{v:.1f}") for v in published), paper=True))
        groups.append(
            Group(f"{SETTING_NAMES[setting]}, {SPLITS[split]}{_tested(records, setting, split)}", tuple(rows))
        )
    return Table(
        caption=f"Mean average precision on {names_in(data).the('VOC2007')}, % (as Table 4 of the supplement)",
        columns=("Network", *TABLE4_COLUMNS, "gain of Sobel"),
        groups=tuple(groups),
        notes=(
            f"Ours: {over_seeds(records)}. Italics: published numbers, which are on the validation split of the real "
            "VOC2007; the supplement has no other (D29, D34).",
        ),
        source=named(records, "voc_map"),
    )


def every_network(records: Sequence[Record]) -> Table:
    """Mean average precision of every network of the preset, frozen convolutions."""
    methods, find = methods_in(select(records, "voc_map", setting="fc68")), Finder(records)
    rows = tuple(
        Row(title_of(m), tuple(value_cell(_values(find, m, *measured).values()) for measured in MEASURED))
        for m in methods
    )
    return Table(
        caption="All networks, mean average precision, %",
        columns=("Network", *(f"{setting.upper()}, {SPLITS[split]}" for setting, split in MEASURED)),
        groups=(Group("", rows, "" if rows else EMPTY),),
        notes=(f"Values: {over_seeds(records)} (D29, D34).",) if rows else (),
        source=named(records, "voc_map"),
    )


def class_table(records: Sequence[Record]) -> Table:
    """Average precision of each class, networks in columns; classes without a positive are named below."""
    records = _on_test(records)
    used = select(records, "voc_ap", setting=OF_CLASSES)
    methods, find = methods_in(used), Finder(used)
    rows = []
    for name in _classes(used):
        cells = [_values(find, m, OF_CLASSES, "test", name) for m in methods]
        n = max((r.n for r in used if r.keys["class"] == name), default=0)
        rows.append(Row(name, (Cell(f"{n:,}"), *(value_cell(c.values()) for c in cells))))
    return Table(
        caption=f"Average precision of each class, % ({SETTING_NAMES[OF_CLASSES]}, {SPLITS['test']})",
        columns=("Class", "test images", *(title_of(m) for m in methods)),
        groups=(Group("", tuple(rows), "" if rows else EMPTY),),
        notes=(left_out_sentence(records),) if rows else (),
        source=used,
    )


def left_out_sentence(records: Sequence[Record]) -> str:
    """Which classes have no part in the mean."""
    found = {str(r.card.notes.get("classes_left_out", "none")) for r in _on_test(records) if r.card}
    names = sorted(found - {"none"})
    return f"No test image shows {', '.join(names)}: left out of the mean." if names else "No class is left out."


def class_bars(records: Sequence[Record], published: Sequence[Record] = ()) -> Fragment:
    """Average precision per class as bars, for the networks of the paper's table."""
    records, published = _on_test(records), _on_test(published)
    used, beside = (select(source, "voc_ap", setting=OF_CLASSES) for source in (records, published))
    if not used:
        return say(EMPTY)
    caption = (
        f"Average precision of each class, convolutions frozen; bars: {over_seeds(used)}. Look for classes that "
        "colour alone gives away, and for those that need shape (D29, D34)."
    )
    return show_both(panels(plot_classes, describe_classes, used, beside), caption, used, beside, "voc_ap")


def plot_classes(records: Sequence[Record]) -> Axes:
    """Grouped bars: classes along the axis, one bar for each network of Table 4."""
    methods, find = _shown_methods(records), Finder(records)
    classes = _classes(records)
    ax = new_axes(WIDTH, 0.32 * len(classes) + 1.4)
    height = 0.8 / max(1, len(methods))
    for i, method in enumerate(methods):
        values = [list(_values(find, method, OF_CLASSES, "test", name).values()) for name in classes]
        places = np.arange(len(classes)) + (i - (len(methods) - 1) / 2) * height
        means = [float(np.mean(v)) if v else 0.0 for v in values]
        spreads = [spread(v) if v else 0.0 for v in values]
        error = spreads if any(spreads) else None
        ax.barh(places, means, xerr=error, height=height, color=look_of(method).color, label=title_of(method))
    ax.set_yticks(range(len(classes)), classes, parse_math=False)  # names of files: a dollar sign is no formula
    ax.invert_yaxis()
    ax.set(xlabel="average precision, %")
    key_below(ax)
    return finish(ax)


def describe_classes(records: Sequence[Record]) -> str:
    """The bars in words: best and worst class of each network."""
    parts, find = [], Finder(records)
    for method in _shown_methods(records):
        means = {c: list(_values(find, method, OF_CLASSES, "test", c).values()) for c in _classes(records)}
        means_of = {c: float(np.mean(v)) for c, v in means.items() if v}
        best, worst = max(means_of, key=lambda c: means_of[c]), min(means_of, key=lambda c: means_of[c])
        parts.append(f"{title_of(method)} from {worst} {means_of[worst]:.0f} % to {best} {means_of[best]:.0f} %")
    return f"Average precision of {len(_classes(records))} classes: {'; '.join(parts)}."


def _values(find: Finder, method: str, setting: str, split: str, name: str = "") -> Values:
    if name:
        return find.values("voc_ap", method, setting=setting, split=split, **{"class": name})  # type: ignore[arg-type]
    return find.values("voc_map", method, setting=setting, split=split)


def _on_test(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.keys.get("split") == "test"]


def _tested(records: Sequence[Record], setting: str, split: str) -> str:
    counts = sorted({r.n for r in select(records, "voc_map", setting=setting, split=split)})
    return f", {counts[0]:,} images" if counts else ""


def _classes(records: Sequence[Record]) -> list[str]:
    return sorted({str(r.keys["class"]) for r in select(records, "voc_ap", setting=OF_CLASSES)})


def _shown_methods(records: Sequence[Record]) -> list[str]:
    there = methods_in(select(records, "voc_ap", setting=OF_CLASSES))
    in_table = [m for m in there if any(m in pair for pair in TABLE4_METHODS.values())]
    return in_table or there
