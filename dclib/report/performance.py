"""The page about speed: where the time of a book goes, how fast each phase is beside other ways, and what limits it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from dclib.records import DATA, Record, select
from dclib.report.display import Fragment, say, show, show_side_by_side
from dclib.report.figures import SIZE, finish, key_below, look_of, new_axes
from dclib.report.provenance import strip
from dclib.report.scaling import ABSENT, BENCHMARKS, describe_growth, origin, plot_growth, slope
from dclib.report.seen import Lines, shown
from dclib.report.series import cards_of, listed, order_methods, plural, title_of
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table

STAGES: Mapping[str, str] = {  # stage of a run card -> what the page calls it, in the order of the book
    "pretrain": "pre-training",
    "linear_probe": "linear probes",
    "low_shot": "few labels",
    "choice": "choice of settings",
    "finetune": "fine-tuning",
    "retrieval": "retrieval",
    "voc": "Pascal VOC",
    "hashtags": "hashtags",
    "colour": "colour",
    "metadata": "clusters and metadata",
}
SMALL = 0.005  # share of the whole below which a stage has no bar of its own
TARGETS: Mapping[tuple[str, str, str], float] = {  # program, words of the work, way -> how many times better to be
    **{("kmeans", "kept to AVX2", other): 1.0 for other in ("FAISS", "FAISS, SuperKMeans", "scikit-learn")},
    **{("kmeans", "", other): 1.5 for other in ("FAISS", "FAISS, SuperKMeans", "scikit-learn")},
    ("kmeans", "", "loop over clusters"): 20.0,
    ("training_step", "training step", "plain float32"): 3.0,
    ("pipeline", "500 x 375", "an archive opened per image, torchvision"): 3.0,
    ("probes", "", "conv13 alone"): 1 / 1.3,
}
OWN: Mapping[str, str] = {  # ways that are ours too, and what the page calls them
    "torch": "ours, all in float32",
    "torch-axes": "ours, few axes first",
    "torch-bf16": "ours, bfloat16 first",
    "numpy": "ours, NumPy multiplies",
    "faiss": "ours, FAISS searches",
    "float32": "ours, float32",
}
NAMES: Mapping[str, str] = {
    "kmeans": "k-means",
    "training_step": "training step",
    "pipeline": "pipeline",
    "probes": "probes",
    "whitening_memory": "whitening",
}
LIMIT = "matrix product"
SLOPE_TARGET = 1.05


# Where the time goes


def stage_seconds(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """For each stage, seconds of each method over all seeds, by the run cards; stages in the order of the book."""
    found: dict[str, dict[str, float]] = {}
    for card in cards_of(records):
        if card.method != DATA:
            stage = found.setdefault(STAGES.get(card.stage, card.stage), {})
            stage[card.method] = stage.get(card.method, 0.0) + card.seconds
    names = list(STAGES.values())
    return dict(sorted(found.items(), key=lambda item: names.index(item[0]) if item[0] in names else len(names)))


def time_figure(records: Sequence[Record]) -> Fragment:
    """Where the time of the preset's runs went, a bar for each stage."""
    seconds = stage_seconds(records)
    if not seconds:
        return say("Nothing has run yet.")
    seeds = len({card.seed for card in cards_of(records) if card.method != DATA})
    whose = "of one seed" if seeds == 1 else f"of {plural(seeds, 'seed')} together"
    return show(
        plot_stages(seconds),
        alt=describe_stages(seconds),
        caption=f"Minutes of each stage {whose}, as its runs measured them, one colour a "
        "method. Stages that run side by side share the cores, so the book was ready sooner than the sum. Opening "
        "notebooks and drawing figures comes on top.",
        source=strip(records),
    )


def plot_stages(seconds: Mapping[str, Mapping[str, float]]) -> Axes:
    """A horizontal bar for each stage that is not negligible, a piece for each method."""
    total = sum(sum(pieces.values()) for pieces in seconds.values())
    shown = {stage: pieces for stage, pieces in seconds.items() if sum(pieces.values()) >= SMALL * total}
    ax, methods = new_axes(), order_methods({method for pieces in shown.values() for method in pieces})
    left = [0.0] * len(shown)
    for method in methods:
        widths = [pieces.get(method, 0.0) / 60 for pieces in shown.values()]
        color, label = look_of(method).color, title_of(method)
        ax.barh(range(len(shown)), widths, left=left, color=color, label=label, edgecolor="white", linewidth=0.5)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    ax.set_yticks(range(len(shown)), list(shown))
    ax.invert_yaxis()
    ax.set_xlabel("minutes", fontsize=SIZE)
    key_below(ax)
    return finish(ax)


def describe_stages(seconds: Mapping[str, Mapping[str, float]]) -> str:
    """The bars in words."""
    total = sum(sum(pieces.values()) for pieces in seconds.values())
    parts = []
    for stage, pieces in seconds.items():
        longest = max(pieces, key=lambda method: pieces[method])
        share = sum(pieces.values()) / total if total else 0.0
        parts.append(f"{stage} {sum(pieces.values()) / 60:,.1f} min, {share:.0%} (most: {title_of(longest)})")
    return f"Time of each stage. {'; '.join(parts)}."


# Side by side


def side_by_side_figure(records: Sequence[Record]) -> Fragment:
    """How many times better ours is than each other way, of everything that was measured."""
    times = {
        f"{short_name(str(r.keys['benchmark']), str(r.keys['work']))}: {r.keys['way']}": r.value
        for r in _ratios(records)
        if r.keys["way"] not in OWN
    }
    if not times:
        return say(ABSENT.format("kmeans"))
    return show(
        plot_ratios(times),
        alt=f"How many times better ours is. {'; '.join(f'{name} {value:.2f}' for name, value in times.items())}.",
        caption="How many times faster ours is than each other way, or how many times less memory it needs: medians of "
        "turns in one process. Right of the line ours is ahead. What each bar was measured on is in the tables below.",
    )


def short_name(benchmark: str, work: str) -> str:
    """What a work is called beside a bar: its program, and the number or words that tell it from that one's others."""
    if benchmark == "training_step":
        return work.split(":")[0]
    told = re.search(r"\d+ x \d+|[\d,]+ clusters|[\d,]+(?= features)", work.replace(" centroids", " clusters"))
    network = ", features" if ", features of" in work else ""
    kept = ", AVX2" if "kept to AVX2" in work else ""
    return f"{NAMES.get(benchmark, benchmark)}{f', {told[0]}' if told else ''}{network}{kept}"


def plot_ratios(times: Mapping[str, float]) -> Axes:
    """A bar for each comparison, on a logarithmic axis that starts from 1."""
    ax = new_axes(height=0.6 + 0.42 * len(times))
    colors = ["#0173b2" if value >= 1 else "#d55e00" for value in times.values()]
    ax.barh(range(len(times)), [value - 1 for value in times.values()], left=1, color=colors)
    ax.set_xscale("log")
    ax.axvline(1, color="black", linewidth=1)
    ax.set_yticks(range(len(times)), [name.replace(": ", ":\n") for name in times])  # else they fill the figure
    for place, value in enumerate(times.values()):
        ax.annotate(f" {value:.2f}", (max(1.0, value), place), va="center", fontsize=SIZE - 2)
    ax.invert_yaxis()
    ax.set_xlim(min(0.5, 0.8 * min(times.values())), 3 * max(2.0, *times.values()))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("times better", fontsize=SIZE)
    return finish(ax)


def comparison_table(records: Sequence[Record], benchmark: str) -> Table | Fragment:
    """What each way measured in one program, and how many times better ours is, with the target where there is one."""
    found = select(records, "side_by_side", benchmark=benchmark)
    if not found:
        return say(ABSENT.format(benchmark))
    works = list(dict.fromkeys(str(r.keys["work"]) for r in found))
    groups = tuple(Group(work, _ways(records, benchmark, work)) for work in works)
    units = sorted({r.unit for r in found})
    repeats = sorted({r.n for r in found})
    return Table(
        caption=f"{NAMES.get(benchmark, benchmark).capitalize()}: ours and other ways",
        columns=("", f"median, {', '.join(units)}", "lowest to highest", "ours is better", "wanted"),
        groups=groups,
        notes=(
            f"Medians and extremes of {' or '.join(map(str, repeats))} turns; ours is better: median of the turns' "
            f"ratios. {origin(found, benchmark)}",
        ),
    )


def _ways(records: Sequence[Record], benchmark: str, work: str) -> tuple[Row, ...]:
    """A row for each way of doing a work, ours first: it is the one that is compared with nothing."""
    found = select(records, "side_by_side", benchmark=benchmark, work=work)
    times = {r.keys["way"]: r.value for r in _ratios(records) if r.keys["work"] == work}
    ways = sorted(dict.fromkeys(str(r.keys["way"]) for r in found), key=lambda way: way in times)
    rows = []
    for way in ways:
        middle, low, high = (
            select(found, "side_by_side", way=way, statistic=s)[0].value for s in ("median", "lowest", "highest")
        )
        target = next((v for (b, words, w), v in TARGETS.items() if (b, w) == (benchmark, way) and words in work), 0.0)
        rows.append(
            Row(
                OWN.get(way, way) if way in times else "ours" if way == "ours" else f"ours ({way})",
                (
                    Cell(f"{middle:,.3g}"),
                    Cell(f"{low:,.3g} to {high:,.3g}"),
                    Cell(f"{times[way]:.2f} times" if way in times else NO_VALUE),
                    Cell(f"{target:.2f} times" if target else NO_VALUE),
                ),
            )
        )
    return tuple(rows)


def _ratios(records: Sequence[Record]) -> list[Record]:
    return select(records, "times_as_good", statistic="median")


# What limits it


def limit_table(records: Sequence[Record]) -> Table | Fragment:
    """How near a training step and a pass for features come to the rate of large matrix products."""
    found = select(records, "rate")
    rates = {(str(r.keys["work"]), str(r.keys["way"])): r.value for r in found}
    limits = {way: value for (work, way), value in rates.items() if work == LIMIT}
    if not limits:
        return say(ABSENT.format("training_step"))
    rows = tuple(
        Row(
            f"{work}, {way}",
            (
                Cell(f"{value / 1e9:,.0f}"),
                Cell(f"{value / limits[way.removeprefix('plain ')]:.0%}"),
            ),
        )
        for (work, way), value in rates.items()
    )
    return Table(
        caption="How near the machine's limit",
        columns=("", "GFLOP/s", "of matrix products in that precision"),
        groups=(Group("", rows),),
        notes=(
            "The measure is a product of two large matrices, taken in the same run: a network consists of such "
            "products and of work around them. Above 100 %, convolutions suit the machine better than that product. "
            f"{origin(found, 'training_step')}",
        ),
    )


def stage_table(records: Sequence[Record]) -> Table | Fragment:
    """Where the milliseconds of a photograph go on the way to a batch."""
    found = select(records, "pipeline_stage_time", statistic="median")
    if not found:
        return say(ABSENT.format("pipeline"))
    photos = list(dict.fromkeys(str(r.keys["photo"]) for r in found))
    stages = list(dict.fromkeys(str(r.keys["stage"]) for r in found))
    values = {(r.keys["stage"], r.keys["photo"]): r.value for r in found}
    rows = tuple(Row(stage, tuple(Cell(f"{values[stage, photo]:.2f}") for photo in photos)) for stage in stages)
    return Table(
        caption="Milliseconds of a generated photograph on its way to a batch, on one core",
        columns=("", *(f"{photo} pixels" for photo in photos)),
        groups=(Group("", rows),),
        notes=(f"Medians; batch is what is left of the whole. {origin(found, 'pipeline')}",),
    )


def memory_table(records: Sequence[Record]) -> Table | Fragment:
    """Resident memory of a whitening by the number of features, ours and the plain way."""
    found = select(records, "whitening_peak_memory")
    if not found:
        return say(ABSENT.format("whitening_memory"))
    before = {_size(r): r.value for r in select(records, "whitening_memory_before")}
    seconds = {_size(r): r.value for r in select(records, "whitening_seconds")}
    rows = tuple(
        Row(
            f"{r.n:,} features, {r.keys['way']}",
            (
                Cell(f"{r.keys['rows_per_file']:,}"),
                Cell(f"{r.value:,.0f}"),
                Cell(f"{before[_size(r)]:,.0f}"),
                Cell(f"{seconds[_size(r)]:,.1f}"),
            ),
        )
        for r in found
    )
    config = found[0].card.config if found[0].card else {}
    return Table(
        caption=f"Whitening features of {config.get('width', 0):,} numbers",
        columns=("", "rows of a file", "MB at most", "MB before", "seconds"),
        groups=(Group("", rows),),
        notes=(
            "Resident memory of the whole process with its libraries. Files grow with the number of features up to "
            f"{max(int(r.keys['rows_per_file']) for r in found):,} rows. {origin(found, 'whitening_memory')}",
        ),
    )


def _size(record: Record) -> tuple[int, object, object]:
    return record.n, record.keys["way"], record.keys["rows_per_file"]


# Growth


def growth_points(records: Sequence[Record], *against: str) -> dict[str, dict[int, float]]:
    """Median seconds of each series, by the size it was measured against; k-means is named by that size."""
    lines: dict[str, dict[int, float]] = {}
    for record in sorted(select(records, "growth_seconds", statistic="median"), key=lambda r: r.n):
        work, size = str(record.keys["work"]), str(record.keys["against"])
        if size in against:
            lines.setdefault(f"k-means, {size}" if work == "k-means" else work, {})[record.n] = record.value
    return lines


def growth_figure(records: Sequence[Record]) -> Fragment:
    """Seconds against images, points, clusters and dimensions, on logarithmic axes, with slopes."""
    by_images = growth_points(records, "images", "points")
    by_rest = growth_points(records, "clusters", "dimensions")
    if not by_images or not by_rest:
        return say(ABSENT.format("growth"))
    return show_side_by_side(
        [
            (plot_growth(by_images, "seconds"), describe_growth("Seconds", by_images, "s", "images")),
            (
                plot_growth(by_rest, "seconds", "clusters or dimensions"),
                describe_growth("Seconds of k-means", by_rest, "s", "clusters or dimensions"),
            ),
        ],
        caption="Seconds against size, both axes logarithmic, with the slope of a straight line through each: 1 is "
        f"twice the time for twice the size, and what is wanted of images and points is at most {SLOPE_TARGET}. "
        f"{origin(select(records, 'growth_seconds'), 'growth')}",
    )


def to_have_seen(runs: Sequence[Record], records: Sequence[Record]) -> Fragment:
    """Which stage took most, who is faster than ours, and what grows faster than the images."""
    return shown(list(_seen(runs, records)), f"the runs of this book and {BENCHMARKS}")


def _seen(runs: Sequence[Record], records: Sequence[Record]) -> Lines:
    seconds = {stage: sum(of.values()) for stage, of in stage_seconds(runs).items()}
    if seconds:
        most = max(seconds, key=seconds.__getitem__)
        yield f"Most of the runs' time went into {most}: {100 * seconds[most] / sum(seconds.values()):.0f} %."
    found = select(records, "times_as_good", statistic="median")
    ratios = [r.value for r in found if r.keys["way"] not in OWN]
    if ratios:
        ahead, best = sum(ratio > 1 for ratio in ratios), max(ratios)
        yield f"Of {len(ratios)} comparisons with other ways, ours is ahead in {ahead}, by {best:.1f} times at most."
    slopes = {of: slope(line) for of, line in growth_points(records, "images", "points").items()}
    if slopes:
        worse = [of for of, slope in slopes.items() if slope > SLOPE_TARGET]
        said = f"{listed(worse)} grow faster" if worse else "nothing grows faster"
        yield f"Twice the images, twice the time: {said} (largest slope {max(slopes.values()):.2f})."
