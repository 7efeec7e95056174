"""What records say for or against each claim of the paper: margins, seed by seed.

Every claim becomes a list of checks, each a margin per seed that is above zero where the claim holds. The same
code reads our records and, put into the form of records, the published tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from dclib.paper import (
    HALVES,
    LAYERS,
    N_LAYERS,
    TABLE2,
    TABLE2_METHODS,
    TABLE2_RECIPES,
    TABLE3,
    TABLE3_METHODS,
    TABLE4,
    TABLE4_METHODS,
    Half,
    table1,
)
from dclib.records import DATA, Record, RunCard, select
from dclib.report.series import accuracy_by_layer, history, spread, title_of

TIE = 1e-9  # accuracies are shares of a count: a smaller difference is rounding, not a lead
LATE = (11, 12, 13)  # "the last layers": the last block of convolutions
EARLY = (1, 2, 3, 4)
FAR = 2.0  # "far behind" is less than one half
NEARLY_ONE_COLOUR = 0.25  # of the whole pool's spread of colour
LONG_TAIL, NO_TAIL = 0.5, 0.25  # Gini coefficients
SAME_LEAD = 0.5  # points within which two leads count as the same

Values = Mapping[int, float]  # seed -> value


@dataclass(frozen=True)
class Check:
    """One thing compared.

    Attributes:
        subject: What it is about: a data set, a recipe; checks of one subject share a line of the scorecard.
        name: What is compared, such as ``conv11`` or ``RotNet over Random``.
        margins: Seed -> how far the claim holds, above zero where it does. None where a record is missing.
        unit: Of the margins.
        tie_holds: The claim says "not below": zero is enough.
    """

    subject: str
    name: str
    margins: Values | None
    unit: str = "points"
    tie_holds: bool = False

    def holds_at(self, margin: float) -> bool:
        """Whether this margin is on the claim's side."""
        return margin > (-TIE if self.tie_holds else TIE)

    @property
    def agreeing(self) -> int:
        """Seeds on the claim's side."""
        return sum(map(self.holds_at, (self.margins or {}).values()))

    @property
    def is_clear(self) -> bool:
        """Whether every seed agrees and the mean margin is above the spread over seeds, of which one has none."""
        values = list((self.margins or {}).values())
        beyond = bool(values) and (self.tie_holds or mean(values) > spread(values))
        return len(values) > 1 and self.agreeing == len(values) and beyond

    @property
    def leans(self) -> bool:
        """Whether the mean and most of the seeds are on the claim's side."""
        values = list((self.margins or {}).values())
        return bool(values) and self.holds_at(mean(values)) and 2 * self.agreeing > len(values)


@dataclass(frozen=True)
class Evidence:
    """All checks of a claim. ``exact`` evidence is a count over data, in which no seed takes part."""

    checks: tuple[Check, ...]
    exact: bool = False

    @property
    def measured(self) -> tuple[Check, ...]:
        """The checks that have records."""
        return tuple(check for check in self.checks if check.margins)

    @property
    def missing(self) -> tuple[Check, ...]:
        """The checks that have none."""
        return tuple(check for check in self.checks if not check.margins)

    @property
    def n_seeds(self) -> int:
        """The fewest seeds that any measured check has."""
        return min((len(check.margins or ()) for check in self.measured), default=0)


class Finder:
    """Looks values up in records, per seed."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def values(self, name: str, method: str, **keys: str | int) -> Values:
        """Seed -> value of the one record per seed with these keys; empty where there is none."""
        return {r.card.seed: r.value for r in select(self.records, name, method=method, **keys) if r.card}

    def last(self, name: str, method: str, **keys: str | int) -> Values:
        """Seed -> value at the last epoch."""
        found: dict[int, tuple[int, float]] = {}
        for record in select(self.records, name, method=method, **keys):
            if record.card:
                epoch = int(record.keys["epoch"])
                found[record.card.seed] = max(found.get(record.card.seed, (0, 0.0)), (epoch, record.value))
        return {seed: value for seed, (_, value) in found.items()}

    def accuracy(self, method: str, half: Half, layer: int) -> Values:
        """Seed -> probe accuracy of a layer, of networks whose 13 layers were all probed."""
        return {seed: curve[layer - 1] for seed, curve in self.curves(half).get(method, {}).items()}

    def curves(self, half: Half) -> Mapping[str, Mapping[int, Sequence[float]]]:
        """Method -> seed -> 13 accuracies."""
        return accuracy_by_layer(self.records, half)


def combine(formula: Callable[..., float], *series: Values) -> Values | None:
    """``formula`` of the values of each seed that all series have; None where they share none."""
    seeds = set.intersection(*(set(values) for values in series))
    return {seed: formula(*(values[seed] for values in series)) for seed in sorted(seeds)} or None


def lead(better: Values, worse: Values) -> Values | None:
    """How far one is above the other, seed by seed."""
    return combine(lambda a, b: a - b, better, worse)


def evidence_for(claim_id: str, records: Sequence[Record]) -> Evidence:
    """What some records say about a claim; checks without records are kept, empty."""
    return EVIDENCE[claim_id](Finder(records))


def _last_layer_order(find: Finder) -> Evidence:
    checks = []
    for half in HALVES:
        labels, deeper, rotnet = (find.accuracy(m, half, N_LAYERS) for m in ("supervised", "deepercluster", "rotnet"))
        checks.append(Check(half, "Supervised over DeeperCluster", lead(labels, deeper)))
        checks.append(Check(half, "DeeperCluster over RotNet", lead(deeper, rotnet)))
    return Evidence(tuple(checks))


def _early_then_falling(find: Finder) -> Evidence:
    checks = []
    for half in HALVES:
        checks += _layer_checks(find, half, "rotnet", "deepercluster", EARLY)
        checks.append(
            Check(half, "fall from the best layer", _over_curve(find, half, lambda c: max(c) - c[-1], "rotnet"))
        )
    return Evidence(tuple(checks))


def _peak_before_last(find: Finder) -> Evidence:
    def margin(curve: Sequence[float]) -> float:
        return max(curve[10:12]) - max([*curve[:10], curve[12]])

    name = "best of conv11 and conv12 over every other layer"
    return Evidence(tuple(Check(half, name, _over_curve(find, half, margin, "deepercluster")) for half in HALVES))


def _smaller_gap_on_scenes(find: Finder) -> Evidence:
    gaps = [
        lead(find.accuracy("supervised", half, N_LAYERS), find.accuracy("deepercluster", half, N_LAYERS)) or {}
        for half in HALVES
    ]
    # without a distance on both there is none that could be the smaller one
    checks = [Check("objects and scenes", f"distance on {half}", gap) for half, gap in zip(HALVES, gaps, strict=True)]
    checks.append(Check("objects and scenes", "distance on objects less that on scenes", lead(*gaps)))
    return Evidence(tuple(checks))


def _starts_over_scratch(find: Finder) -> Evidence:
    return Evidence(_start_checks(find, [("rotnet", "random"), ("deepercluster", "random")]))


def _deeper_start_over_rotnet(find: Finder) -> Evidence:
    return Evidence(_start_checks(find, [("deepercluster", "rotnet")]))


def _lead_shrinks(find: Finder) -> Evidence:
    early, late = _leads_over_scratch(find, "deepercluster")
    shrinks = Check("both recipes", "lead before convergence less that at it", lead(early, late))
    return Evidence((_early_lead(early), shrinks))


def _lead_stays(find: Finder) -> Evidence:
    early, late = _leads_over_scratch(find, "rotnet")
    margin = combine(lambda a, b: SAME_LEAD - abs(a - b), early, late)
    return Evidence((_early_lead(early), Check("both recipes", "half a point less the change of the lead", margin)))


def _early_lead(lead_of: Values) -> Check:
    """What claims about the fate of a lead presuppose: that there is one."""
    return Check("both recipes", "lead before convergence", lead_of)


def _retrieval_order(find: Finder) -> Evidence:
    checks = []
    for city in ("oxford", "paris"):
        of = {m: find.values("retrieval_map", m, dataset=city) for m in TABLE3_METHODS.values()}
        checks += [
            Check(city, "labels over DeepCluster", lead(of["supervised"], of["deepcluster"])),
            Check(city, "DeepCluster over DeeperCluster", lead(of["deepcluster"], of["deepercluster"]), tie_holds=True),
            Check(city, "DeeperCluster over RotNet", lead(of["deepercluster"], of["rotnet"])),
            Check(city, "RotNet over twice Random", combine(lambda a, b: a - FAR * b, of["rotnet"], of["random"])),
        ]
    return Evidence(tuple(checks))


def _more_lost_on_oxford(find: Finder) -> Evidence:
    losses = [
        lead(*(find.values("retrieval_map", m, dataset=city) for m in ("deepcluster", "deepercluster"))) or {}
        for city in ("oxford", "paris")
    ]
    # to lose more there it has to lose something there
    checks = (
        Check("Oxford and Paris", "loss on Oxford", losses[0]),
        Check("Oxford and Paris", "loss on Oxford less that on Paris", lead(*losses)),
    )
    return Evidence(checks)


def _sobel_helps_more(find: Finder) -> Evidence:
    deeper, rotnet = _sobel_gain(find, "deepercluster"), _sobel_gain(find, "rotnet")
    return Evidence(
        (
            Check("VOC2007", "gain of DeeperCluster", deeper or None),
            Check("VOC2007", "that gain less RotNet's", lead(deeper, rotnet)),
        )
    )


def _sobel_helps_rotnet(find: Finder) -> Evidence:
    return Evidence((Check("VOC2007", "gain of RotNet", _sobel_gain(find, "rotnet") or None),))


def _rgb_by_colour(find: Finder) -> Evidence:
    quantiles = {method: _spread_quantiles(find, method) for method in ("rotnet_rgb", "deepercluster_rgb")}
    checks = [
        Check(
            "pool", name, lead(*({s: q[i] for s, q in per_seed.items()} for per_seed in quantiles.values())), "levels"
        )
        for i, name in enumerate(("lower quartile", "median", "upper quartile"))
    ]
    return Evidence(tuple(checks))


def _nearly_one_colour(find: Finder) -> Evidence:
    whole = find.values("colour_spread_all", "deepercluster_rgb")
    lowest = {seed: min(values) for seed, values in _spreads(find, "deepercluster_rgb").items()}
    margin = combine(lambda all_, least: NEARLY_ONE_COLOUR * all_ - least, whole, lowest)
    return Evidence(
        (Check("pool", "a quarter of the pool's spread less that of the most uniform cluster", margin, "levels"),)
    )


def _long_tail(find: Finder) -> Evidence:
    tags = combine(lambda g: g - LONG_TAIL, find.values("hashtag_gini", DATA))
    labels = combine(lambda g: NO_TAIL - g, find.values("label_gini", DATA))
    checks = (
        Check("pool", "Gini of hashtags above 0.5", tags, ""),
        Check("labelled objects", "Gini of labels below 0.25", labels, ""),
    )
    return Evidence(checks, exact=True)


def _beyond_chance(find: Finder) -> Evidence:
    checks = []
    for field in ("hashtag", "device", "gps"):
        real, dealt = (
            find.values("metadata_nmi", "deepercluster", field=field, labels=labels) for labels in ("real", "shuffled")
        )
        checks.append(Check("pool", f"{field}, NMI above chance", lead(real, dealt), ""))
    return Evidence(tuple(checks))


def _all_over_random(find: Finder) -> Evidence:
    methods = ("rotnet", "deepcluster", "deepercluster")
    return Evidence(
        tuple(
            check
            for half in HALVES
            for method in methods
            for check in _layer_checks(find, half, method, "random", LATE, named=True)
        )
    )


def _deeper_over_rotnet(find: Finder) -> Evidence:
    return Evidence(tuple(c for half in HALVES for c in _layer_checks(find, half, "deepercluster", "rotnet", LATE)))


def _agreement_rises(find: Finder) -> Evidence:
    checks = []
    for method in ("deepercluster", "deepcluster"):
        lines = history(find.records, "nmi_labels", method, "assignment")
        rises = {seed: ys[-1] - ys[0] for seed, (_, ys) in lines.items() if len(ys) > 1}
        checks.append(Check("pool", f"{title_of(method)}, rise of NMI", rises or None, ""))
    return Evidence(tuple(checks))


def _labels_peak_last(find: Finder) -> Evidence:
    name = "conv13 over every other layer"
    return Evidence(
        tuple(
            Check(half, name, _over_curve(find, half, lambda c: c[-1] - max(c[:-1]), "supervised")) for half in HALVES
        )
    )


EVIDENCE: Mapping[str, Callable[[Finder], Evidence]] = {
    "C1": _last_layer_order,
    "C2": _early_then_falling,
    "C3": _peak_before_last,
    "C4": _smaller_gap_on_scenes,
    "C5": _starts_over_scratch,
    "C6": _deeper_start_over_rotnet,
    "C7": _retrieval_order,
    "C8": _more_lost_on_oxford,
    "C9": _sobel_helps_more,
    "C10": _rgb_by_colour,
    "C11": _nearly_one_colour,
    "C12": _long_tail,
    "C13": _beyond_chance,
    "C14": _lead_shrinks,
    "K1": _all_over_random,
    "K2": _deeper_over_rotnet,
    "K3": _agreement_rises,
    "K4": _labels_peak_last,
    "K5": _sobel_helps_rotnet,
    "K6": _lead_stays,
}


def published_records() -> list[Record]:
    """Tables 1 to 4 of the supplement in the form of records, seed 0, under our names of methods."""
    made = []
    for half in HALVES:
        for method, curve in table1(half).items():
            cells = [({"dataset": half, "layer": i}, value) for i, value in enumerate(curve, start=1)]
            made += [_published("top1", method, keys, value) for keys, value in cells]
    for row, method in TABLE2_METHODS.items():
        for recipe, accuracy in zip(TABLE2_RECIPES, TABLE2[row], strict=True):
            if accuracy is not None:
                made.append(_published("finetuned_top1", method, {"recipe": recipe, "epoch": 1}, accuracy))
    for place, method in TABLE3_METHODS.items():
        for city, value in zip(("oxford", "paris"), TABLE3[place], strict=True):
            made.append(_published("retrieval_map", method, {"dataset": city}, value))
    for place, pair in TABLE4_METHODS.items():
        for method, value in zip(pair, TABLE4[place], strict=True):
            made.append(_published("voc_map", method, {"setting": "fc68", "split": "test"}, value))
    return made


def _published(name: str, method: str, keys: Mapping[str, str | int], value: float) -> Record:
    card = RunCard(
        stage="published",
        preset="paper",
        method=method,
        seed=0,
        config_hash="",
        data_hash="",
        code_hash="",
        device="",
        seconds=0.0,
        created="",
        versions={},
    )
    return Record(name=name, value=value, unit="%", n=1, keys=keys, card=card)


def _layer_checks(
    find: Finder, half: Half, better: str, worse: str, layers: Sequence[int], *, named: bool = False
) -> list[Check]:
    who = f"{title_of(better)} over {title_of(worse)}, " if named else ""
    return [
        Check(half, f"{who}{LAYERS[i - 1]}", lead(find.accuracy(better, half, i), find.accuracy(worse, half, i)))
        for i in layers
    ]


def _over_curve(find: Finder, half: Half, margin: Callable[[Sequence[float]], float], method: str) -> Values | None:
    return {seed: margin(curve) for seed, curve in find.curves(half).get(method, {}).items()} or None


def _start_checks(find: Finder, pairs: Sequence[tuple[str, str]]) -> tuple[Check, ...]:
    return tuple(
        Check(
            recipe.replace("_", " "),
            f"{title_of(better)} over {'scratch' if worse == 'random' else title_of(worse)}",
            lead(find.last("finetuned_top1", better, recipe=recipe), find.last("finetuned_top1", worse, recipe=recipe)),
        )
        for recipe in TABLE2_RECIPES
        for better, worse in pairs
    )


def _leads_over_scratch(find: Finder, method: str) -> list[Values]:
    """The lead over scratch with each recipe: before convergence, and at it."""
    return [
        lead(find.last("finetuned_top1", method, recipe=r), find.last("finetuned_top1", "random", recipe=r)) or {}
        for r in TABLE2_RECIPES
    ]


def _sobel_gain(find: Finder, task: str) -> Values:
    with_sobel, with_colour = (
        find.values("voc_map", method, setting="fc68", split="test") for method in (task, f"{task}_rgb")
    )
    return lead(with_sobel, with_colour) or {}


def _spreads(find: Finder, method: str) -> Mapping[int, list[float]]:
    found: dict[int, list[float]] = {}
    for record in select(find.records, "colour_spread", method=method):
        if record.card:
            found.setdefault(record.card.seed, []).append(record.value)
    return found


def _spread_quantiles(find: Finder, method: str) -> Mapping[int, tuple[float, ...]]:
    return {
        seed: tuple(sorted(values)[round(q * (len(values) - 1))] for q in (0.25, 0.5, 0.75))
        for seed, values in _spreads(find, method).items()
    }
