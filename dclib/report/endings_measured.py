"""What one should have seen on the pages about machines and measures, whose records no single preset made."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from dclib.data.images import ImageSet
from dclib.records import Record, select
from dclib.report import counts, judge, ladder, performance, planner, scaling
from dclib.report.display import Fragment
from dclib.report.endings import Lines, shown, shown_beside
from dclib.report.gradients import FirstLayer
from dclib.report.series import listed, plural
from dclib.train.absent import AbsentSet, present

BENCHMARKS = "the records in results/benchmarks"
TWICE = 2.0  # times the smallest class: above it classes are called uneven
FLAT = 0.1  # of the strongest gradient
ROUNDING = 1e-4  # of the largest response: sums of 75 products in float32 stay far below it


def of_images(pool: ImageSet | AbsentSet, objects: ImageSet | AbsentSet | None) -> Fragment:
    """How uneven the classes of the pool are, beside those of the labelled objects."""
    sets = {"pool": present(pool), "labelled objects": None if objects is None else present(objects)}
    labels = {name: of.labels for name, of in sets.items() if of is not None and of.labels is not None}
    lines = [_classes(name, known) for name, of in labels.items() if len(known := of[of >= 0])]
    return shown(lines, "the labels of the images, which pre-training never reads")


def _classes(name: str, labels: NDArray[np.int64]) -> str:
    counts = np.unique(labels, return_counts=True)[1]
    times = counts.max() / counts.min()
    said = "even" if times < TWICE else "uneven"
    return (
        f"The {len(counts)} classes of the {name} are {said}: the largest has {times:.1f} times the smallest's images."
    )


def of_gradients(seen: Sequence[FirstLayer]) -> Fragment:
    """How much of an image its gradients leave at zero, and whether folding changed a response."""
    return shown(list(_gradients(seen)), "the pictures above")


def _gradients(seen: Sequence[FirstLayer]) -> Lines:
    if seen:
        strength = [np.hypot(*layer.gradients) for layer in seen]
        flat = float(np.mean(np.concatenate([(s < FLAT * s.max()).ravel() for s in strength])))
        yield f"{100 * flat:.0f} % of all points are flat: their gradient is below {100 * FLAT:.0f} % of the strongest."
        off = max(layer.difference / layer.scale for layer in seen if layer.scale)
        said = "rounding, no more" if off < ROUNDING else "more than rounding explains"
        yield f"Folded and unfolded, responses differ by {off:.0e} of the largest: {said}."


def of_judging(networks: Sequence[judge.Judged]) -> Fragment:
    """Whether the score put networks into the order of their labels, beyond what chance gives."""
    return shown(list(_judging(networks)), "the records in results/judge")


def _judging(networks: Sequence[judge.Judged]) -> Lines:
    for collection, own in judge.by_collection(networks).items():
        if len(own) >= judge.FEWEST:
            found = judge.rank_correlation([n.values["score"] for n in own], [n.accuracy for n in own])
            chance = judge.by_chance(len(own))
            said = "more than chance gives" if found > chance else "no more than chance gives"
            title = judge.TITLES[collection]
            yield (
                f"{title[:1].upper()}{title[1:]}: score and accuracy of {len(own)} networks have a rank correlation of "
                f"{found:.2f}, {said} ({chance:.2f})."
            )
            told = {word: [n.accuracy for n in own if (n.word == "learned") == word] for word in (True, False)}
            if all(told.values()):
                said = " and ".join(f"{median(accuracies):.1f} %" for accuracies in told.values())
                yield f"Median accuracy there of networks called learned, and of all others: {said}."


def of_counts(records: Sequence[Record], published: Sequence[Record]) -> Fragment:
    """How many of the lines over counts rise, fall, or are flat within luck."""
    return shown_beside(list(_counts(records)), records, list(_counts(published)), published)


def _counts(records: Sequence[Record]) -> Lines:
    for kind in ("images", "clusters"):
        slopes = [c.slope for measure in counts.MEASURES for c in counts.courses(records, measure) if c.kind == kind]
        slopes = [slope for slope in slopes if slope.values]
        if slopes:
            up, down = sum(s.is_clear for s in slopes), sum(s.is_against for s in slopes)
            told = {"rising": up, "falling": down, "flat within luck": len(slopes) - up - down}
            said = listed(f"{count} {word}" for word, count in told.items() if count)
            yield f"{plural(len(slopes), 'line')} over more {kind}: {said}."


def of_scaling(records: Sequence[Record]) -> Fragment:
    """How time and memory of a clustering grow with the images, and what the kills left behind."""
    return shown(list(_scaling(records)), BENCHMARKS)


def _scaling(records: Sequence[Record]) -> Lines:
    seconds, memory = scaling.clustering_seconds(records, ("all",)), scaling.clustering_memory(records)
    if seconds and memory:
        time, peak = scaling.slope(seconds["all"]), scaling.slope(memory["peak"])
        low, high = min(memory["peak"]), max(memory["peak"])
        grows = "less than in proportion" if time < 1 else "more than in proportion"
        yield f"From {low:,} to {high:,} images a clustering's time grows {grows} (slope {time:.2f})."
        factor = memory["peak"][high] / memory["peak"][low]
        yield f"Its memory grows by {factor:.2f} times (slope {peak:.2f}), for {high / low:,.0f} times the images."
    if kills := select(records, "kills"):
        yield f"A run was killed {sum(r.value for r in kills):.0f} times, in {len(kills)} phases, and ended the same."


def of_performance(runs: Sequence[Record], records: Sequence[Record]) -> Fragment:
    """Which stage took most, who is faster than ours, and what grows faster than the images."""
    return shown(list(_performance(runs, records)), f"the runs of this book and {BENCHMARKS}")


def _performance(runs: Sequence[Record], records: Sequence[Record]) -> Lines:
    seconds = {stage: sum(of.values()) for stage, of in performance.stage_seconds(runs).items()}
    if seconds:
        most = max(seconds, key=seconds.__getitem__)
        yield f"Most of the runs' time went into {most}: {100 * seconds[most] / sum(seconds.values()):.0f} %."
    found = select(records, "times_as_good", statistic="median")
    ratios = [r.value for r in found if r.keys["way"] not in performance.OWN]
    if ratios:
        ahead, best = sum(ratio > 1 for ratio in ratios), max(ratios)
        yield f"Of {len(ratios)} comparisons with other ways, ours is ahead in {ahead}, by {best:.1f} times at most."
    slopes = {of: scaling.slope(line) for of, line in performance.growth_points(records, "images", "points").items()}
    if slopes:
        worse = [of for of, slope in slopes.items() if slope > performance.SLOPE_TARGET]
        said = f"{listed(worse)} grow faster" if worse else "nothing grows faster"
        yield f"Twice the images, twice the time: {said} (largest slope {max(slopes.values()):.2f})."


def of_planner(records: Sequence[Record]) -> Fragment:
    """Where the paper's run spends its time, and how near plans come to what is measured."""
    return shown(list(_planner(records)), f"the plans and {BENCHMARKS}")


def _planner(records: Sequence[Record]) -> Lines:
    for name, plan in list(planner.paper_plans().items())[:1]:
        phases = {phase.name: phase.total_seconds for phase in plan.phases}
        most = max(phases, key=phases.__getitem__)
        share = 100 * phases[most] / sum(phases.values())
        yield f"The paper's run on {name} spends {share:.0f} % of its time in: {most}."
    runs = {str(r.keys["run"]) for r in records if r.name in planner.NEAR}
    for name in planner.NEAR if runs else ():
        pairs = [planner.planned_measured(records, run, name) for run in sorted(runs)]
        distances = [abs(planned / measured - 1) for planned, measured in pairs]
        near = sum(distance <= planner.NEAR[name] for distance in distances)
        what = "time" if name == "plan_seconds" else "memory"
        yield (
            f"Of {plural(len(distances), 'plan')}, {near} came within {100 * planner.NEAR[name]:.0f} % of the measured "
            f"{what}; the farthest was {100 * max(distances):.0f} % off."
        )


def of_ladder(rungs: Sequence[Record]) -> Fragment:
    """How many rungs with clusters were ahead of the RotNet of as many passes."""
    words = ladder.ladder_in_short(rungs).text
    return shown([f"{line.rstrip('.')}." for line in words.split(". ")], "the rungs that were tried")
