"""The page about judging without labels: the score of many networks beside what a linear classifier makes of them.

Everything is computed from ``results/judge``; where nothing is there, it says which program measures it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from dclib.presets import project_root
from dclib.records import Record, read_records
from dclib.report.display import Fragment, say, show_side_by_side
from dclib.report.figures import Look, finish, key_below, new_axes
from dclib.report.seen import Lines, shown
from dclib.report.series import listed, plural
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table

PANEL = 4.6, 4.3  # inches
TITLES: Mapping[str, str] = {
    "pocket": "the pocket world",
    "photographs": "CIFAR-10",
    "imagenette": "Imagenette",
}
WORDS: Mapping[str, Look] = {  # seaborn's "colorblind" palette
    "learned": Look("#029e73", "o"),
    "still learning": Look("#0173b2", "^"),
    "nothing learned": Look("#949494", "v"),
    "collapsed to colour": Look("#d55e00", "D"),
    "collapsed to duplicates": Look("#cc78bc", "s"),
}
MEASURES: Mapping[str, str] = {
    "score": "the score",
    "cropped": "a cropped image stays in its cluster",
    "starts": "two clusterings from different starts agree",
    "colour": "colours explained by clusters",
    "effective_rank": "effective rank",
    "found_again": "an image is recognised in a crop of itself",
    "largest": "size of the largest cluster",
    "previous": "agreement with the clustering before",
}
ACCURACY = "accuracy"  # of the yardstick; its layer is a key
LAYERS: Mapping[str, str] = {"last": "the features that are clustered", "conv13": "the last convolution"}
ABSENT = "Not measured yet: python benchmarks/judge.py pocket, and likewise photographs and imagenette."
SHUFFLES = 2000  # of networks, for what chance gives
FARTHEST = 3  # networks of a collection that the score is farthest off for
FEWEST = 4  # networks that a rank correlation is taken of


@dataclass(frozen=True)
class Judged:
    """One network: what was said of it, and what the yardstick says."""

    name: str
    method: str
    collection: str
    word: str
    seen: bool  # whether it was looked at when the score was chosen
    values: Mapping[str, float]  # measures, and accuracies by layer, %

    @property
    def accuracy(self) -> float:
        return self.values["last"]


def judged(folder: Path | None = None) -> list[Judged]:
    """The networks that were judged, by default those of this project; none where there are no records."""
    found: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in read_records(folder or project_root() / "results" / "judge"):
        found[str(record.keys["collection"]), str(record.keys["network"])].append(record)
    return [
        Judged(
            name,
            str(records[0].keys["method"]),
            collection,
            str(records[0].keys["verdict"]),
            bool(records[0].keys["seen"]),
            {str(r.keys["layer"]) if r.name == ACCURACY else r.name: r.value for r in records},
        )
        for (collection, name), records in found.items()
    ]


def by_collection(networks: Sequence[Judged]) -> dict[str, list[Judged]]:
    """The networks of each collection, in the order of ``TITLES``."""
    return {name: own for name in TITLES if (own := [n for n in networks if n.collection == name])}


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's: the correlation of ranks, equal values sharing theirs; 0 where one of them is constant."""
    a, b = (_ranks(np.asarray(values, dtype=np.float64)) for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def by_chance(n: int) -> float:
    """The rank correlation of ``n`` networks that a score without any knowledge stays below, 95 times in a hundred."""
    rng = np.random.default_rng(0)
    ranks = np.arange(n)
    return float(np.quantile([rank_correlation(ranks, rng.permutation(n)) for _ in range(SHUFFLES)], 0.95))


def scatter_figure(networks: Sequence[Judged]) -> Fragment:
    """Score against accuracy, a panel for each collection, a point for each network, in the look of its verdict."""
    if not networks:
        return say(ABSENT)
    panels = [(plot_scatter(own), describe_scatter(own)) for own in by_collection(networks).values()]
    return show_side_by_side(
        panels,
        caption="Each point is a network: across, the score, made without labels; up, the accuracy of a ridge "
        "classifier on its features, which the score never saw. Its shape and colour are the verdict in words. "
        "Filled: looked at while the score was being chosen; hollow: judged only afterwards.",
    )


def plot_scatter(networks: Sequence[Judged], *, ax: Axes | None = None) -> Axes:
    """Accuracy, %, against the score of the networks of one collection."""
    ax = new_axes(*PANEL) if ax is None else ax
    for word, look in WORDS.items():
        for seen in (True, False):
            own = [n for n in networks if n.word == word and n.seen is seen]
            if own:
                ax.plot(
                    [n.values["score"] for n in own],
                    [n.accuracy for n in own],
                    linestyle="",
                    marker=look.marker,
                    color=look.color,
                    fillstyle="full" if seen else "none",
                    markersize=6,
                    label=word if seen or not any(n.seen and n.word == word for n in networks) else "_",
                )
    rho = rank_correlation(*_pairs(networks, "score"))
    ax.set(
        xlabel="score without labels",
        ylabel="accuracy of a ridge classifier, %",
        title=f"{TITLES[networks[0].collection]}: rank correlation {rho:.2f}",
    )
    key_below(ax)
    return finish(ax)


def describe_scatter(networks: Sequence[Judged]) -> str:
    """The panel in words."""
    low, high = (of(networks, key=lambda n: n.values["score"]) for of in (min, max))
    return (
        f"Score against accuracy of {len(networks)} networks of {TITLES[networks[0].collection]}: rank correlation "
        f"{rank_correlation(*_pairs(networks, 'score')):.2f}; lowest score {low.values['score']:.2f} ({low.name}, "
        f"{low.accuracy:.0f} %), highest {high.values['score']:.2f} ({high.name}, {high.accuracy:.0f} %)."
    )


def correlation_table(networks: Sequence[Judged]) -> Table | Fragment:
    """Rank correlation of the score with accuracy, of all networks, of those not looked at before, and of chance."""
    if not networks:
        return say(ABSENT)
    rows = []
    for title, own in [*((TITLES[c], o) for c, o in by_collection(networks).items()), ("all together", networks)]:
        fresh, trained = [n for n in own if not n.seen], [n for n in own if n.method not in ("random", "supervised")]
        rows.append(
            Row(
                title,
                (
                    Cell(str(len(own))),
                    *(_correlation(own, "score", layer) for layer in LAYERS),
                    Cell(str(len(fresh))),
                    _correlation(fresh, "score"),
                    _correlation(trained, "score"),
                    Cell(f"{by_chance(len(own)):.2f}"),
                ),
            )
        )
    return Table(
        caption="Rank correlation of the score with accuracy",
        columns=("Networks of", "number", *LAYERS.values(), "not seen before", "of these", "without labels", "chance"),
        groups=(Group("", tuple(rows)),),
        notes=(
            "Spearman's. The columns of layers: with a ridge classifier on the features that are clustered, and on the "
            "map of the last convolution in four quarters. Not seen before: networks that nobody had looked at when "
            "the score was chosen. Without labels: only networks that were trained, and without them. Chance: below "
            f"this stay 95 of 100 scores that know nothing. All together mixes sets with other numbers of classes. "
            f"{origin(networks)}",
        ),
    )


def measures_table(networks: Sequence[Judged]) -> Table | Fragment:
    """How well each measure does alone: its rank correlation with accuracy in each collection."""
    if not networks:
        return say(ABSENT)
    there = by_collection(networks)
    rows = [
        Row(words, tuple(_correlation([n for n in own if name in n.values], name) for own in there.values()))
        for name, words in MEASURES.items()
    ]
    return Table(
        caption="Rank correlation of each measure with accuracy",
        columns=("Measure", *(TITLES[name] for name in there)),
        groups=(Group("", tuple(rows)),),
        notes=("Networks whose features are not finite, or all the same, have a score of 0 and no other measure.",),
    )


def words_table(networks: Sequence[Judged]) -> Table | Fragment:
    """What each verdict was worth: how many networks got it, and their accuracy."""
    if not networks:
        return say(ABSENT)
    groups = []
    for collection, own in by_collection(networks).items():
        rows, drawn = [], [n.accuracy for n in own if n.method == "random"]
        for word in WORDS:
            found = [n.accuracy for n in own if n.word == word]
            if found:
                ends = (median(found), min(found), max(found))
                above = f"{sum(value > max(drawn) for value in found)} of {len(found)}" if drawn else NO_VALUE
                rows.append(Row(word, (Cell(str(len(found))), *(Cell(f"{value:.1f}") for value in ends), Cell(above))))
        note = f"Networks that were only drawn: {median(drawn):.1f} %, the best {max(drawn):.1f} %." if drawn else ""
        groups.append(Group(TITLES[collection], tuple(rows), note))
    return Table(
        caption="What each verdict was worth: accuracy, %",
        columns=("Verdict", "networks", "median", "lowest", "highest", "better than any that was only drawn"),
        groups=tuple(groups),
    )


def failures(networks: Sequence[Judged]) -> Fragment:
    """Where the score is farthest off, in ranks, and which way; computed."""
    if not networks:
        return say(ABSENT)
    said = [_farthest(own) for own in by_collection(networks).values() if len(own) >= FEWEST]
    return sum(map(say, said[1:]), start=say(said[0])) if said else say("Too few networks were judged to tell.")


def origin(networks: Sequence[Judged]) -> str:
    """What measured it, in a sentence."""
    names = listed([f"{name}.json" for name in by_collection(networks)])
    return f"Measured by benchmarks/judge.py; records: {names} in results/judge/."


def _farthest(networks: Sequence[Judged]) -> str:
    scores, accuracies = _pairs(networks, "score")
    off = _ranks(np.asarray(scores)) - _ranks(np.asarray(accuracies))
    said = partial(_placed, networks, off)
    over, under = np.argsort(-off)[:FARTHEST].tolist(), np.argsort(off)[:FARTHEST].tolist()
    return (
        f"Of {plural(len(networks), 'network')} of {TITLES[networks[0].collection]} the score thinks too much of "
        f"{listed(map(said, over))}, and too little of {listed(map(said, under))}."
    )


def _placed(networks: Sequence[Judged], off: NDArray[np.float64], i: int) -> str:
    return f"{networks[i].name.replace('_', ' ')} ({abs(off[i]):.0f} places, accuracy {networks[i].accuracy:.0f} %)"


def _pairs(networks: Sequence[Judged], measure: str, layer: str = "last") -> tuple[list[float], list[float]]:
    return [n.values[measure] for n in networks], [n.values[layer] for n in networks]


def _correlation(networks: Sequence[Judged], measure: str, layer: str = "last") -> Cell:
    if len(networks) < FEWEST:
        return Cell(NO_VALUE)
    return Cell(f"{rank_correlation(*_pairs(networks, measure, layer)):.2f}")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0, equal values sharing the mean of theirs."""
    names, counts = np.unique(values, return_inverse=True, return_counts=True)[1:]
    means: NDArray[np.float64] = (np.cumsum(counts) - (counts + 1) / 2)[names]
    return means


def to_have_seen(networks: Sequence[Judged]) -> Fragment:
    """Whether the score put networks into the order of their labels, beyond what chance gives."""
    return shown(list(_seen(networks)), "the records in results/judge")


def _seen(networks: Sequence[Judged]) -> Lines:
    for collection, own in by_collection(networks).items():
        if len(own) >= FEWEST:
            found = rank_correlation([n.values["score"] for n in own], [n.accuracy for n in own])
            chance = by_chance(len(own))
            said = "more than chance gives" if found > chance else "no more than chance gives"
            title = TITLES[collection]
            yield (
                f"{title[:1].upper()}{title[1:]}: score and accuracy of {len(own)} networks have a rank correlation of "
                f"{found:.2f}, {said} ({chance:.2f})."
            )
            told = {word: [n.accuracy for n in own if (n.word == "learned") == word] for word in (True, False)}
            if all(told.values()):
                said = " and ".join(f"{median(accuracies):.1f} %" for accuracies in told.values())
                yield f"Median accuracy there of networks called learned, and of all others: {said}."
