"""Verdicts on the paper's claims, computed from records and from nothing else.

Every direction that the paper claims becomes a table of margins, one row per seed and one column per thing
compared (a layer, say); it holds where the margin is above zero. A verdict is a property of those margins:
there is no field to type it into.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from dclib.paper import CLAIMS, DATASETS, LAYERS, Claim, Half, Scale, table1
from dclib.records import Record, select
from dclib.report.series import (
    Curves,
    accuracy_by_layer,
    best_layer,
    history,
    plural,
    spread,
    title_of,
)
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table

Outcome = Literal["holds here", "holds in direction", "does not hold here", "not measured"]
OUTCOMES: tuple[Outcome, ...] = ("holds here", "holds in direction", "does not hold here", "not measured")
MARKS: Mapping[Outcome, str] = {
    "holds here": "✓",
    "holds in direction": "≈",
    "does not hold here": "✗",
    "not measured": NO_VALUE,
}

EARLY = (1, 2, 3, 4)  # "the first layers"
LATE = (11, 12, 13)  # "the last layers": the block after the last pooling but one
TOLERANCE = 1.0  # points within which a published accuracy counts as reached, at the paper's scale
TIE = 1e-9  # accuracies are shares of a count: a smaller difference is rounding, not a lead


@dataclass(frozen=True)
class Evidence:
    """What was compared: ``margins[seed][check]`` is above zero where the claim holds.

    Attributes:
        seeds: One number per row of ``margins``.
        checks: What each column compares, such as ``conv11``.
        margins: One row per seed.
        unit: Of the margins: "points" of accuracy, "layers", or "" for NMI.
        text: The measured values behind the margins, for the page, where the margins alone say too little.
    """

    seeds: tuple[int, ...]
    checks: tuple[str, ...]
    margins: tuple[tuple[float, ...], ...]
    unit: str
    text: str = ""

    @property
    def agreeing_seeds(self) -> int:
        """Seeds in which every check holds."""
        return sum(all(margin > TIE for margin in row) for row in self.margins)

    @property
    def leans(self) -> bool:
        """Whether every check holds on the mean over seeds and in most of them."""
        columns = list(zip(*self.margins, strict=True))
        mostly = all(2 * sum(margin > TIE for margin in column) > len(column) for column in columns)
        return mostly and all(mean(column) > TIE for column in columns)

    def describe(self) -> str:
        """Margins with their spread over seeds: ``conv11 +5.2 ± 1.1, conv12 ... points``."""
        columns = zip(self.checks, zip(*self.margins, strict=True), strict=True)
        digits = 2 if self.unit == "" else 1
        parts = [f"{name} {_signed(values, digits)}".strip() for name, values in columns]
        margins = f"{', '.join(parts)} {self.unit}".strip()
        if self.unit == "layers":
            return self.text  # names every layer: their distance would say it twice
        return f"{self.text} ({margins})" if self.text else margins


@dataclass(frozen=True)
class Comparison:
    """A measured number against a published one; ``comparable`` only at the paper's scale."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    published: float
    comparable: bool
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One claim, on one half of the data, with what was found. Outcome and reason follow from the findings."""

    claim: Claim
    half: Half | None
    paper: str
    found: Evidence | Comparison | str  # a string says why there is nothing to judge by

    @property
    def outcome(self) -> Outcome:
        """One of four verdicts; see :func:`judge`."""
        if isinstance(self.found, str):
            return "not measured"
        if isinstance(self.found, Comparison):
            return _outcome_of_value(self.found)
        if self.found.agreeing_seeds == len(self.found.seeds):
            return "holds here"
        return "holds in direction" if self.found.leans else "does not hold here"

    @property
    def n_seeds(self) -> int:
        """Seeds the verdict rests on."""
        return 0 if isinstance(self.found, str) else len(self.found.seeds)

    @property
    def verdict(self) -> str:
        """The outcome in words; one seed alone says so."""
        return f"{self.outcome} (1 seed)" if self.n_seeds == 1 else self.outcome

    @property
    def ours(self) -> str:
        """Our numbers, with their spread over seeds."""
        if isinstance(self.found, str):
            return NO_VALUE
        if isinstance(self.found, Comparison):
            deviation = f" ± {spread(self.found.values):.1f}" if len(self.found.values) > 1 else ""
            return f"{mean(self.found.values):.1f}{deviation} %"
        return self.found.describe()

    @property
    def reason(self) -> str:
        """Why the verdict is what it is."""
        if isinstance(self.found, str):
            return self.found
        if isinstance(self.found, Comparison):
            return self.found.why_not or f"published value {self.found.published} %, tolerance {TOLERANCE} points"
        return _reason_of_direction(self.found)


def judge(records: Sequence[Record], claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """A verdict for every claim, on each half of the data that the claim is about.

    A direction *holds here* when it does in every seed and every layer or value compared; it *holds in
    direction* when each of these holds on the mean over seeds and in most of them; else it *does not hold here*,
    ties included. Methods are compared seed by seed. An absolute value is compared at the paper's own
    scale only: on anything smaller it is *not measured*, however close.
    """
    return [_judge_one(records, claim, half) for claim in claims for half in (claim.halves or (None,))]


def scorecard_table(verdicts: Sequence[Verdict]) -> Table:
    """The verdicts as a table for the page."""
    claims = {verdict.claim.id: verdict.claim for verdict in verdicts}
    return Table(
        caption="The paper's claims, judged from this preset's records",
        columns=("Images", "verdict", "ours", "paper", "why"),
        groups=tuple(
            Group(f"{claim.statement} ({claim.where})", tuple(_row(v) for v in verdicts if v.claim.id == claim.id))
            for claim in claims.values()
        ),
        notes=(
            "✓ holds here: in every seed and everywhere it was looked for. ≈ holds in direction: everywhere on the "
            "mean over seeds and in most of them. ✗ does not hold here: not even that, ties included. – not measured: "
            "no records, or a run too small for an absolute value. Margins are differences between methods of the "
            "same seed, ± the standard deviation over seeds.",
        ),
    )


def summarise(verdicts: Sequence[Verdict]) -> str:
    """The verdicts counted, in a sentence."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    measured = len(verdicts) - counts["not measured"]
    parts = ", ".join(
        f"{counts[outcome]} {outcome.replace('holds', 'hold').replace('does', 'do')}" for outcome in OUTCOMES[:3]
    )
    claims = len({verdict.claim.id for verdict in verdicts})
    return (
        f"{plural(claims, 'claim')} in {plural(len(verdicts), 'row')}: of {measured} measured, {parts}; "
        f"{counts['not measured']} not measured."
    )


# The evaluators below take accuracies as method -> seed -> 13 values, so that the same code reads our records
# and the published table. Each returns Evidence, or a sentence that says what is missing.
CurveTest = Callable[[Curves], Evidence | str]


def _lead(better: str, worse: str, layers: Sequence[int]) -> CurveTest:
    """One method above another in each of some layers, seed by seed."""

    def test(curves: Curves) -> Evidence | str:
        seeds = _shared_seeds(curves, better, worse)
        if isinstance(seeds, str):
            return seeds
        pairs = [(curves[better][seed], curves[worse][seed]) for seed in seeds]
        margins = tuple(tuple(a[i - 1] - b[i - 1] for i in layers) for a, b in pairs)
        return Evidence(seeds, tuple(LAYERS[i - 1] for i in layers), margins, "points")

    return test


def _earlier_peak(first: str, second: str) -> CurveTest:
    """One method's best layer before another's, in layers."""

    def test(curves: Curves) -> Evidence | str:
        seeds = _shared_seeds(curves, first, second)
        if isinstance(seeds, str):
            return seeds
        margins = tuple((float(best_layer(curves[second][s]) - best_layer(curves[first][s])),) for s in seeds)
        text = "; ".join(f"{title_of(m)} {_peaks(curves, m, seeds)}" for m in (first, second))
        return Evidence(seeds, ("",), margins, "layers", text)

    return test


def _peak_after(method: str, layer: int) -> CurveTest:
    """A method's best layer deeper than ``layer``, in layers."""

    def test(curves: Curves) -> Evidence | str:
        seeds = _shared_seeds(curves, method)
        if isinstance(seeds, str):
            return seeds
        margins = tuple((float(best_layer(curves[method][s]) - layer),) for s in seeds)
        return Evidence(
            seeds,
            (f"past {LAYERS[layer - 1]}",),
            margins,
            "layers",
            f"best at {_peaks(curves, method, seeds)}",
        )

    return test


def _fall(method: str) -> CurveTest:
    """A method's last layer below its best one, in points."""

    def test(curves: Curves) -> Evidence | str:
        seeds = _shared_seeds(curves, method)
        if isinstance(seeds, str):
            return seeds
        margins = tuple((max(curves[method][s]) - curves[method][s][-1],) for s in seeds)
        return Evidence(seeds, ("fall",), margins, "points", f"best at {_peaks(curves, method, seeds)}")

    return test


CURVE_TESTS: Mapping[str, CurveTest] = {
    "supervised-over-deepercluster": _lead("supervised", "deepercluster", LATE),
    "deepercluster-over-rotnet": _lead("deepercluster", "rotnet", LATE),
    "rotnet-over-random": _lead("rotnet", "random", LATE),
    "deepercluster-over-random": _lead("deepercluster", "random", LATE),
    "deepcluster-over-random": _lead("deepcluster", "random", LATE),
    "rotnet-ahead-early": _lead("rotnet", "deepercluster", EARLY),
    "rotnet-peaks-before-deepercluster": _earlier_peak("rotnet", "deepercluster"),
    "rotnet-falls": _fall("rotnet"),
    "deepercluster-peaks-late": _peak_after("deepercluster", LATE[0] - 1),
    "supervised-peaks-last": _peak_after("supervised", LATE[-1] - 1),
}
NMI_METHODS: Mapping[str, str] = {
    "nmi-rises-deepercluster": "deepercluster",
    "nmi-rises-deepcluster": "deepcluster",
}


def _judge_one(records: Sequence[Record], claim: Claim, half: Half | None) -> Verdict:
    paper, found = claim.published, "no record holds it yet: this book does not measure it so far"
    result: Evidence | Comparison | str = found
    if claim.id in CURVE_TESTS and half is not None:
        test = CURVE_TESTS[claim.id]
        published = test({method: {0: curve} for method, curve in table1(half).items()})
        paper = published.describe() if isinstance(published, Evidence) else "no published number"
        result = test(accuracy_by_layer(records, half)) if select(records, "top1", dataset=half) else _no_half(half)
    elif claim.kind == "value" and half is not None and claim.scale is not None:
        published_value = table1(half)["deepercluster"][-1]
        paper = f"{published_value} % ({DATASETS[half]})"
        result = _compare_last_layer(records, "deepercluster", half, published_value, claim.scale)
    elif claim.id in NMI_METHODS:
        result = _rise(records, NMI_METHODS[claim.id])
    return Verdict(claim=claim, half=half, paper=paper, found=result)


def _rise(records: Sequence[Record], method: str) -> Evidence | str:
    """Agreement with the classes at the last assignment above the first one, seed by seed."""
    lines = {
        seed: line for seed, line in history(records, "nmi_labels", method, "assignment").items() if len(line[0]) > 1
    }
    if not lines:
        return f"no two clusterings of {title_of(method)} with classes to compare them to"
    margins = tuple((ys[-1] - ys[0],) for _, ys in lines.values())
    first, last = mean(ys[0] for _, ys in lines.values()), mean(ys[-1] for _, ys in lines.values())
    return Evidence(tuple(lines), ("rise",), margins, "", f"NMI {first:.2f} to {last:.2f}")


def _compare_last_layer(
    records: Sequence[Record], method: str, half: Half, published: float, scale: Scale
) -> Comparison | str:
    """The last layer's accuracy against the published one, comparable only when enough was run."""
    last = select(records, "top1", dataset=half, method=method, layer=len(LAYERS))
    if not last:
        return _no_half(half)
    seeds = sorted(r.card.seed for r in last if r.card is not None)
    values = {r.card.seed: r.value for r in last if r.card is not None}
    short = _shortfall(records, method, seeds, min(r.n for r in last), scale, half)
    return Comparison(tuple(seeds), tuple(values[s] for s in seeds), published, not short, short)


def _shortfall(
    records: Sequence[Record], method: str, seeds: Sequence[int], tested: int, scale: Scale, half: Half
) -> str:
    """Why a run may not be compared with a published value; empty when it may."""
    shown = min(sum(r.n for r in select(records, "loss", method=method, seed=seed)) for seed in seeds)
    if tested >= scale.test_images[half] and shown >= scale.pretraining_images:
        return ""
    return (
        f"a small run confirms directions only: {shown:,} images shown and {tested:,} tested, "
        f"where the value needs {scale.pretraining_images:,} and {scale.test_images[half]:,}"
    )


def _outcome_of_value(comparison: Comparison) -> Outcome:
    if not comparison.comparable:
        return "not measured"
    return "holds here" if abs(mean(comparison.values) - comparison.published) <= TOLERANCE else "does not hold here"


def _reason_of_direction(evidence: Evidence) -> str:
    held = Counter(
        check for row in evidence.margins for check, margin in zip(evidence.checks, row, strict=True) if margin > TIE
    )
    n = len(evidence.seeds)
    reason = f"{evidence.agreeing_seeds}/{plural(n, 'seed')}"
    failing = [f"{check} in {held[check]}/{n}" for check in evidence.checks if held[check] < n and check]
    return f"{reason}; {', '.join(failing)}" if failing and len(evidence.checks) > 1 else reason


def _shared_seeds(curves: Curves, *methods: str) -> tuple[int, ...] | str:
    """Seeds that all these methods have, or a sentence that says what is missing."""
    missing = [title_of(method) for method in methods if not curves.get(method)]
    if missing:
        return f"no complete probe of {' and '.join(missing)}"
    shared = set.intersection(*(set(curves[method]) for method in methods))
    return tuple(sorted(shared)) if shared else f"no seed is shared by {' and '.join(map(title_of, methods))}"


def _peaks(curves: Curves, method: str, seeds: Sequence[int]) -> str:
    """The best layer in each seed, once when they agree."""
    layers = [LAYERS[best_layer(curves[method][seed]) - 1] for seed in seeds]
    return layers[0] if len(set(layers)) == 1 else ", ".join(layers)


def _no_half(half: Half) -> str:
    return f"no probe on {half} in this preset"


def _signed(values: Sequence[float], digits: int) -> str:
    deviation = f" ± {spread(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):+.{digits}f}{deviation}"


def _row(verdict: Verdict) -> Row:
    words = (f"{MARKS[verdict.outcome]} {verdict.verdict}", verdict.ours, verdict.paper, verdict.reason)
    return Row(verdict.half or "all", tuple(Cell(text, words=True) for text in words))
