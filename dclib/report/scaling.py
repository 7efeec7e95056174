"""The page about size: what grows with the number of images, what does not, and what kills a run: nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from dclib.presets import project_root
from dclib.records import Record, read_records, select
from dclib.report.display import Fragment, say, show_side_by_side
from dclib.report.figures import SIZE, Look, finish, key_below, new_axes
from dclib.report.seen import Lines, shown
from dclib.report.tables import Cell, Group, Row, Table

PANEL = 4.6, 3.9  # inches
LOOKS: Mapping[str, Look] = {  # seaborn's "colorblind" palette, as for methods
    "whitening": Look("#029e73", "^"),
    "level 1": Look("#0173b2", "o"),
    "level 2": Look("#d55e00", "D"),
    "peak": Look("#333333", "s"),
    "before": Look("#949494", "v"),
    "features": Look("#0173b2", "o"),
    "probes": Look("#029e73", "^"),
    "k-means, points": Look("#d55e00", "D"),
    "k-means, clusters": Look("#0173b2", "o"),
    "k-means, dimensions": Look("#de8f05", "s"),
}
TIMED = ("whitening", "level 1", "level 2")
MEMORIES = {"peak": "peak_memory", "before": "memory_before"}  # line -> record
READING = ("images_per_second", "index_bytes_per_photo", "lines_per_second", "peak_memory")
WAYS = ("way", "step")  # keys whose values say by themselves what they are
GROWTH, KILLS = "clustering_growth", "kill_test"
ABSENT = "Not measured yet: python benchmarks/{}.py"

Points = Mapping[int, float]  # number of images -> value
BENCHMARKS = "the records in results/benchmarks"


def benchmark_records(folder: Path | None = None) -> list[Record]:
    """What the programs in ``benchmarks/`` have measured, by default for this project."""
    return read_records(folder or project_root() / "results" / "benchmarks")


# Clustering


def growth_figure(records: Sequence[Record]) -> Fragment:
    """Seconds and memory of a clustering against the number of images, both axes logarithmic."""
    seconds, memory = clustering_seconds(records), clustering_memory(records)
    if not seconds:
        return say(ABSENT.format(GROWTH))
    return show_side_by_side(
        [
            (plot_growth(seconds, "seconds"), describe_growth("Seconds of a clustering", seconds, "s")),
            (plot_growth(memory, "resident memory, MB"), describe_growth("Resident memory", memory, "MB")),
        ],
        caption="A clustering on two levels against the number of images, both axes logarithmic, with the slope of a "
        "straight line through each: 1 is twice the time for twice the images, 0 is no growth. Memory is that of the "
        "whole process with its libraries, pages of mapped files included; before: as the clustering begins. "
        f"{origin(_growth_records(records), GROWTH)}",
    )


def growth_table(records: Sequence[Record]) -> Table | Fragment:
    """The numbers of the figure."""
    seconds, memory = clustering_seconds(records, (*TIMED, "all")), clustering_memory(records)
    if not seconds:
        return say(ABSENT.format(GROWTH))
    sizes = sorted(memory["peak"])
    rows = tuple(
        Row(
            f"{n:,}",
            (
                *(Cell(f"{line[n]:,.1f}" if n in line else "") for line in seconds.values()),
                *(Cell(f"{line[n]:,.0f}") for line in memory.values()),
            ),
        )
        for n in sizes
    )
    growth = memory["peak"][sizes[-1]] / memory["peak"][sizes[len(sizes) // 2]] - 1
    config = _growth_records(records)[0].card.config  # type: ignore[union-attr]
    return Table(
        caption=f"Clustering into {config['n_super']} x {config['n_sub']} clusters, features of {config['pca_dim']} "
        "numbers kept on disk",
        columns=("Images", *(f"{phase}, s" for phase in seconds), *(f"{name}, MB" for name in memory)),
        groups=(Group("", rows),),
        notes=(
            f"From {sizes[len(sizes) // 2]:,} to {sizes[-1]:,} images the peak grows by {growth:.1%}: the number of "
            f"each image's cluster is kept in memory, its features are not. {origin(_growth_records(records), GROWTH)}",
        ),
    )


def clustering_seconds(records: Sequence[Record], phases: Sequence[str] = TIMED) -> dict[str, Points]:
    """Seconds of each phase by the number of images."""
    found = {phase: _points(select(_growth_records(records), "seconds", phase=phase)) for phase in phases}
    return {phase: points for phase, points in found.items() if points}


def clustering_memory(records: Sequence[Record]) -> dict[str, Points]:
    """Resident megabytes, at most and before, by the number of images."""
    return {line: _points(select(_growth_records(records), name)) for line, name in MEMORIES.items()}


def slope(points: Points) -> float:
    """Exponent of n in the power law through the points, by least squares of logarithms."""
    return float(np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)[0])


def plot_growth(lines: Mapping[str, Points], ylabel: str, xlabel: str = "images", *, ax: Axes | None = None) -> Axes:
    """Values against a size, on logarithmic axes, each line with its slope."""
    ax = new_axes(*PANEL) if ax is None else ax
    for name, points in lines.items():
        look = LOOKS[name]
        label = f"{name}, slope {slope(points):.2f}"
        ax.loglog(list(points), list(points.values()), color=look.color, marker=look.marker, markersize=5, label=label)
    low = min(min(points.values()) for points in lines.values())
    high = max(max(points.values()) for points in lines.values())
    ax.set_ylim(low / 2, 4 * high)
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(xlabel, fontsize=SIZE)
    ax.set_ylabel(ylabel, fontsize=SIZE)
    key_below(ax)
    return finish(ax)


def describe_growth(what: str, lines: Mapping[str, Points], unit: str, of: str = "images") -> str:
    """The lines in words: first and last point, and slope."""
    parts = []
    for name, points in lines.items():
        (first, low), *_, (last, high) = points.items()
        parts.append(
            f"{name} from {low:,.1f} {unit} at {first:,} {of} to {high:,.1f} {unit} at {last:,}, "
            f"slope {slope(points):.2f}"
        )
    return f"{what} against the number of {of}. {'; '.join(parts)}."


# Kills, and reading


def kill_table(records: Sequence[Record]) -> Table | Fragment:
    """In which phase the kills of the kill test have landed."""
    kills = select(records, "kills")
    if not kills:
        return say(ABSENT.format(KILLS))
    compared = ", ".join(f"{r.value:,.0f} {r.unit}" for r in select(records, "compared") if r.unit != "runs")
    total = sum(record.value for record in kills)
    return Table(
        caption=f"{total:.0f} kills at random moments, each followed by a restart",
        columns=("Phase", "kills"),
        groups=(Group("", tuple(Row(str(r.keys["phase"]), (Cell(f"{r.value:.0f}"),)) for r in kills)),),
        notes=(
            f"At the end {compared} and the list of files were compared with those of a run that was left in peace: "
            f"not a bit differs, readings of the clock aside. {origin(kills, KILLS)}",
        ),
    )


def reading_table(records: Sequence[Record]) -> Table | Fragment:
    """How fast photographs and their metadata are read from YFCC100M's own files; says so where nothing is measured."""
    found = [r for r in records if r.name in READING and "precision" not in r.keys and _is_typical(r)]
    if not found:
        return say(ABSENT.format("zip_reading"))
    rows = tuple(Row(_label(r), (Cell(f"{r.value:,.0f} {r.unit}"), Cell(f"{r.n:,}"))) for r in found)
    devices = ", ".join(sorted({r.card.device for r in found if r.card is not None}))
    return Table(
        caption="Reading YFCC100M's layout: generated archives and a generated table",
        columns=("What", "value", "of"),
        groups=(Group("", rows),),
        notes=(
            "Of: photographs read, or lines of the table. Medians where a step was repeated. "
            f"Measured on {devices}; records: results/benchmarks/.",
        ),
    )


def origin(records: Sequence[Record], name: str) -> str:
    """Where and when a benchmark's records were made, in a sentence."""
    card = records[0].card
    if card is None:
        raise ValueError("need records that were read from a file, which have a run card; got one without")
    return (
        f"Measured on {card.device} by benchmarks/{name}.py, {card.created[:10]}, code {card.code_hash}; "
        f"record: results/benchmarks/{name}{'' if len({id(r.card) for r in records}) == 1 else '*'}.json."
    )


def _growth_records(records: Sequence[Record]) -> list[Record]:
    """Those of the clustering's growth, at the first precision that was measured."""
    own = [record for record in records if "precision" in record.keys]
    return [record for record in own if record.keys["precision"] == own[0].keys["precision"]]


def _points(records: Sequence[Record]) -> Points:
    return {record.n: record.value for record in sorted(records, key=lambda r: r.n)}


def _is_typical(record: Record) -> bool:
    return record.keys.get("statistic", "median") == "median"


def _label(record: Record) -> str:
    """``images per second: index, cold cache``."""
    keys = {key: value for key, value in record.keys.items() if key != "statistic"}
    said = ", ".join(f"{value}" if key in WAYS else f"{value} {key}" for key, value in keys.items())
    return record.name.replace("_", " ") + (f": {said}" if said else "")


def to_have_seen(records: Sequence[Record]) -> Fragment:
    """How time and memory of a clustering grow with the images, and what the kills left behind."""
    return shown(list(_seen(records)), BENCHMARKS)


def _seen(records: Sequence[Record]) -> Lines:
    seconds, memory = clustering_seconds(records, ("all",)), clustering_memory(records)
    if seconds and memory:
        time, peak = slope(seconds["all"]), slope(memory["peak"])
        low, high = min(memory["peak"]), max(memory["peak"])
        grows = "less than in proportion" if time < 1 else "more than in proportion"
        yield f"From {low:,} to {high:,} images a clustering's time grows {grows} (slope {time:.2f})."
        factor = memory["peak"][high] / memory["peak"][low]
        yield f"Its memory grows by {factor:.2f} times (slope {peak:.2f}), for {high / low:,.0f} times the images."
    if kills := select(records, "kills"):
        yield f"A run was killed {sum(r.value for r in kills):.0f} times, in {len(kills)} phases, and ended the same."
