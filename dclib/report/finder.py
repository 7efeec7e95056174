"""Looking values up in records, per seed; and the published tables in the form of records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

from dclib.paper import (
    HALVES,
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
from dclib.records import Record, RunCard, select
from dclib.report.margins import Source, Values
from dclib.report.series import Curves, accuracy_by_layer

Pick = Callable[[Sequence[Record]], float | None]  # one value from the records of one seed; None where there is none


def only(found: Sequence[Record]) -> float:
    """The value of the one record there is."""
    return found[-1].value


def last(found: Sequence[Record]) -> float:
    """The value at the last epoch."""
    return max(found, key=_epoch).value


def first(found: Sequence[Record]) -> float | None:
    """The value at the first of several epochs."""
    return min(found, key=_epoch).value if len(found) > 1 else None


def average(found: Sequence[Record]) -> float | None:
    """The mean over several epochs."""
    return mean(record.value for record in found) if len(found) > 1 else None


@dataclass(frozen=True)
class Quantile:
    """The value that this share of the records stays below."""

    share: float

    def __call__(self, found: Sequence[Record]) -> float:
        return sorted(r.value for r in found)[round(self.share * (len(found) - 1))]


@dataclass(frozen=True)
class Lowest:
    """The value at a place, counted from 1 at the lowest, among records of ``floor`` images or more."""

    place: int
    floor: int

    def __call__(self, found: Sequence[Record]) -> float | None:
        values = sorted(r.value for r in found if r.n >= self.floor)
        return values[self.place - 1] if len(values) >= self.place else None


def _epoch(record: Record) -> int:
    return int(record.keys["epoch"])


class Finder:
    """Looks values up in records, per seed."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    @cached_property
    def _named(self) -> Mapping[tuple[str, str], list[Record]]:
        """Records by what was measured and of which method."""
        named: dict[tuple[str, str], list[Record]] = {}
        for record in self.records:
            if record.card:
                named.setdefault((record.name, record.card.method), []).append(record)
        return named

    @cached_property
    def _curves(self) -> Mapping[str, Curves]:
        return {half: accuracy_by_layer(self.records, half) for half in HALVES}

    def values(self, name: str, method: str, pick: Pick = only, **keys: str | int) -> Values:
        """Seed -> value picked from the records with these keys, the one there is by default; empty without any."""
        found: dict[int, list[Record]] = {}
        for record in select(self._named.get((name, method), ()), name, **keys):
            if record.card:
                found.setdefault(record.card.seed, []).append(record)
        picked = {seed: pick(of) for seed, of in found.items()}
        return Values({s: v for s, v in picked.items() if v is not None}, [source_of(name, method, keys)])

    def last(self, name: str, method: str, **keys: str | int) -> Values:
        """Seed -> value at the last epoch."""
        return self.values(name, method, last, **keys)

    def accuracy(self, method: str, half: Half, layer: int) -> Values:
        """Seed -> probe accuracy of a layer, of networks whose 13 layers were all probed."""
        curves = self._curves[half].get(method, {})
        source = source_of("top1", method, {"dataset": half, "layer": layer})
        return Values({seed: curve[layer - 1] for seed, curve in curves.items()}, [source])


def source_of(name: str, method: str, keys: Mapping[str, str | int]) -> Source:
    """What stands for one measurement."""
    return name, method, tuple(sorted(keys.items()))


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
            made.append(_published("voc_map", method, {"setting": "fc68", "split": "val"}, value))
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
