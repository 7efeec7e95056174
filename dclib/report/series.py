"""From a list of records to the series that tables, figures and verdicts are made of.

Everything is keyed by method and seed, in an order that never depends on the order of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean, stdev

from dclib.methods import OUTLINES
from dclib.paper import N_LAYERS, NAMES, Curve, task_of
from dclib.records import DATA, Record, RunCard, select

BY_YEAR = sorted((method for method, outline in OUTLINES.items() if outline.year), key=lambda m: OUTLINES[m].year)
METHOD_ORDER = ("supervised", *reversed(BY_YEAR), "random")  # as in the tables of the book

Curves = dict[str, dict[int, Curve]]  # method -> seed -> one accuracy per layer, %
Line = tuple[tuple[int, ...], tuple[float, ...]]  # steps, and a value at each


def title_of(method: str) -> str:
    """How a method is written on a page: ``deepercluster_hierarchy`` -> ``DeeperCluster, hierarchy``."""
    task = task_of(method)
    words = method[len(task) :].strip("_").split("_")
    variant = " ".join(f"{int(word):,}" if word.isdecimal() else {"rgb": "RGB"}.get(word, word) for word in words)
    return ", ".join(part for part in (NAMES.get(task, task), variant) if part)


def era_of(method: str) -> str:
    """``paper`` for the paper's methods, their variants and references; ``before`` and ``after`` it for others."""
    outline = OUTLINES.get(task_of(method))
    return outline.era if outline else "paper"


def order_methods(methods: Iterable[str]) -> list[str]:
    """Methods in the book's order: labels, then from the latest to the earliest, variants after what they vary."""

    def place(method: str) -> tuple[int, str]:
        task = task_of(method)
        return (METHOD_ORDER.index(task) if task in METHOD_ORDER else len(METHOD_ORDER), method)

    return sorted(set(methods), key=place)


def cards_of(records: Iterable[Record]) -> list[RunCard]:
    """The run cards behind some records, each once, by stage, method and seed."""
    unique = {id(record.card): record.card for record in records if record.card is not None}
    return sorted(unique.values(), key=lambda card: (card.stage, card.method, card.seed))


def methods_in(records: Iterable[Record]) -> list[str]:
    """Every method that some record is about, in the book's order."""
    return order_methods(r.card.method for r in records if r.card is not None)


def accuracy_by_layer(records: Iterable[Record], dataset: str) -> Curves:
    """Probe accuracies, method -> seed -> 13 values in %; a seed with a missing layer is left out.

    Raises:
        ValueError: two records give the same method, seed and layer.
    """
    found: dict[str, dict[int, dict[int, float]]] = {}
    for record in select(records, "top1", dataset=dataset):
        method, seed = _method_and_seed(record)
        layers = found.setdefault(method, {}).setdefault(seed, {})
        _put(layers, int(record.keys["layer"]), record, f"{method}, seed {seed}, {dataset}, layer")
    return {
        method: {
            seed: tuple(layers[i] for i in range(1, N_LAYERS + 1))
            for seed, layers in sorted(found[method].items())
            if set(layers) >= set(range(1, N_LAYERS + 1))
        }
        for method in order_methods(found)
    }


def history(records: Iterable[Record], name: str, method: str, step: str) -> dict[int, Line]:
    """One value over time for one method: seed -> (steps, values), steps being epochs or assignments.

    Raises:
        ValueError: two records give the same seed and step.
    """
    found: dict[int, dict[int, float]] = {}
    for record in select(records, name, method=method):
        if step in record.keys:
            _, seed = _method_and_seed(record)
            _put(
                found.setdefault(seed, {}),
                int(record.keys[step]),
                record,
                f"{method}, seed {seed}, {name}, {step}",
            )
    return {seed: (tuple(sorted(line)), tuple(line[x] for x in sorted(line))) for seed, line in sorted(found.items())}


def final_values(records: Iterable[Record], name: str, method: str) -> dict[int, float]:
    """A value given once per run: seed -> value."""
    found: dict[int, float] = {}
    for record in select(records, name, method=method):
        _, seed = _method_and_seed(record)
        _put(found, seed, record, f"{method}, {name}, seed")
    return dict(sorted(found.items()))


def mean_line(lines: dict[int, Line]) -> tuple[tuple[int, ...], list[float], list[float]]:
    """Steps that every seed has, with mean and sample standard deviation (0 for one seed) at each."""
    steps = sorted(set.intersection(*(set(xs) for xs, _ in lines.values()))) if lines else []
    at = [[ys[xs.index(step)] for xs, ys in lines.values()] for step in steps]
    return tuple(steps), [mean(values) for values in at], [spread(values) for values in at]


def mean_curve(curves: dict[int, Curve]) -> tuple[list[float], list[float]]:
    """Mean and sample standard deviation (0 for one seed) of each layer over seeds."""
    columns = list(zip(*curves.values(), strict=True))
    return [mean(column) for column in columns], [spread(column) for column in columns]


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 for a single value."""
    return stdev(values) if len(values) > 1 else 0.0


def signed(value: float) -> str:
    """A difference as tables show it: ``+1.0``, ``−0.5``; one that rounds to zero is ``+0.0``."""
    return f"{value:+z.1f}".replace("-", "−")


def best_layer(curve: Curve) -> int:
    """The layer of the highest accuracy, 1 to 13; the first of them when several tie."""
    return curve.index(max(curve)) + 1


def plural(count: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(words: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *before, last = [*words] or [""]
    return f"{', '.join(before)} and {last}" if before else last


def seeds_of(records: Iterable[Record]) -> list[int]:
    """The seeds of networks that some records are about; what is counted over data has none."""
    return sorted({r.card.seed for r in records if r.card is not None and r.card.method != DATA})


def over_seeds(records: Iterable[Record], *, spread: bool = True) -> str:
    """How values of some records are averaged, in words that follow from the number of seeds of each network.

    ``spread`` is false where no deviation is shown.
    """
    per_method: dict[str, set[int]] = {}
    for card in (record.card for record in records if record.card is not None and record.card.method != DATA):
        per_method.setdefault(card.method, set()).add(card.seed)
    counts = sorted({len(seeds) for seeds in per_method.values()})
    if not counts:
        return "no seed"
    seeds = sorted(set.union(*per_method.values()))
    if counts[-1] == 1:
        which = f"one seed ({seeds[0]})" if len(seeds) == 1 else "one seed of each network"
        return f"{which}, without a deviation" if spread else which
    number = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    deviation = " with the sample standard deviation" if spread else ""
    return f"mean over {number} seeds ({listed(map(str, seeds))}){deviation}"


def _method_and_seed(record: Record) -> tuple[str, int]:
    if record.card is None:
        raise ValueError(f"record {record.name!r} has no run card; read records with dclib.records.read_records")
    return record.card.method, record.card.seed


def _put(values: dict[int, float], key: int, record: Record, what: str) -> None:
    if key in values:
        raise ValueError(
            f"two records for {what} {key}: {values[key]} and {record.value}; delete the stale run's records"
        )
    values[key] = record.value
