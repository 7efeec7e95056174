"""Margins: how far something compared is on a claim's side, seed by seed, and what several seeds can tell of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIE = 1e-9  # accuracies are shares of a count: a smaller difference is rounding, not a lead
# Student's t for 1, 2, ... degrees of freedom: the mean of noise is beyond it, on one side, in 5 of 100 cases
T95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833)

Source = tuple[str, str, tuple[tuple[str, str | int], ...]]  # what was measured, of which method, where


class Values(dict[int, float]):
    """Seed -> value, and which measurements it was made of.

    In a simulation each value is an array of draws: formulas are written so that they work for both.
    """

    def __init__(self, values: Mapping[int, float] | None = None, sources: Iterable[Source] = ()) -> None:
        super().__init__(values or {})
        self.sources = frozenset(sources)


def combine(formula: Callable[..., Any], *series: Values) -> Values | None:
    """``formula`` of the values of each seed that all series have; None where they share none."""
    seeds = set.intersection(*(set(values) for values in series))
    sources = frozenset[Source]().union(*(values.sources for values in series))
    found = {seed: formula(*(values[seed] for values in series)) for seed in sorted(seeds)}
    return Values(found, sources) if found else None


def lead(better: Values | None, worse: Values | None) -> Values | None:
    """How far one is above the other, seed by seed."""
    return combine(lambda a, b: a - b, better, worse) if better and worse else None


def precision(values: Sequence[Any] | NDArray[np.float64]) -> Any:
    """How far the mean over the first axis, two seeds or more, may be off by luck: 5 of 100 are further above."""
    n = len(values)
    return T95[min(n - 1, len(T95)) - 1] * np.std(values, axis=0, ddof=1) / math.sqrt(n)


def are_clear(values: Sequence[Any] | NDArray[np.float64], *, tie_holds: bool = False) -> Any:
    """Whether margins, seeds along the first axis, are on the claim's side beyond luck, and in each seed.

    One seed never is. With margins that are normal noise around zero this is so in at most 5 of 100 cases.
    """
    margins = np.asarray(values)
    if len(margins) < 2:
        return np.zeros(margins.shape[1:], dtype=bool)
    lowest = np.minimum(margins.mean(axis=0) - precision(margins), margins.min(axis=0))
    return lowest >= -TIE if tie_holds else lowest > TIE


@dataclass(frozen=True)
class Check:
    """One thing compared.

    Attributes:
        subject: What it is about: a data set, a recipe; checks of one subject share a line of the scorecard.
        name: What is compared, such as ``conv11`` or ``RotNet over Random``.
        margins: Seed -> how far the claim holds, above zero where it does. None where a record is missing.
        unit: Of the margins.
        tie_holds: The claim says "not below": zero is enough.
        most: The largest margin there can be, where two things are to be alike within it.
        unfit: Why it says nothing although there may be records, such as a network that has not learned its task.
    """

    subject: str
    name: str
    margins: Mapping[int, float] | None
    unit: str = "points"
    tie_holds: bool = False
    most: float = math.inf
    unfit: str = ""

    @property
    def values(self) -> list[float]:
        """The margins, by seed."""
        return list((self.margins or {}).values())

    @property
    def sources(self) -> frozenset[Source]:
        """The measurements that the margins were made of."""
        return self.margins.sources if isinstance(self.margins, Values) else frozenset()

    def holds_at(self, margin: float) -> bool:
        """Whether this margin is on the claim's side."""
        return margin > (-TIE if self.tie_holds else TIE)

    @property
    def agreeing(self) -> int:
        """Seeds on the claim's side."""
        return sum(map(self.holds_at, self.values))

    @property
    def is_clear(self) -> bool:
        """Whether every seed agrees and the mean is above zero by more than luck explains; never with one seed."""
        return bool(are_clear(self.values, tie_holds=self.tie_holds)) if self.values else False

    @property
    def is_against(self) -> bool:
        """Whether every seed is on the other side, and the mean beyond what luck explains; never with one seed."""
        return bool(are_clear([-value for value in self.values])) if self.values else False

    @property
    def leans(self) -> bool:
        """Whether the mean and most of the seeds are on the claim's side."""
        return bool(self.values) and self.holds_at(mean(self.values)) and 2 * self.agreeing > len(self.values)

    @property
    def is_undecided(self) -> bool:
        """Whether it could not be clear at this spread, whatever is true, and is not clearly against it either."""
        if not self.values or self.most == math.inf:
            return False
        if len(self.values) < 2:
            return True
        off = float(precision(self.values))
        return off >= self.most and mean(self.values) + off >= 0


@dataclass(frozen=True)
class Evidence:
    """All checks of a claim.

    Attributes:
        checks: What has to be so for the claim to hold.
        exact: A count over data, in which no seed takes part.
        premises: What has to be so for the claim to be asked at all.
    """

    checks: tuple[Check, ...]
    exact: bool = False
    premises: tuple[Check, ...] = ()

    @property
    def measured(self) -> tuple[Check, ...]:
        """The checks that have records which say something."""
        return tuple(check for check in self.checks if check.margins and not check.unfit)

    @property
    def missing(self) -> tuple[Check, ...]:
        """The other ones."""
        return tuple(check for check in self.checks if not check.margins or check.unfit)

    @property
    def unmet(self) -> tuple[Check, ...]:
        """Premises that are not so, not even on the mean and in most seeds."""
        return tuple(premise for premise in self.premises if premise.unfit or not premise.leans)

    @property
    def n_seeds(self) -> int:
        """The fewest seeds that any measured check has."""
        return min((len(check.values) for check in self.measured), default=0)

    def without(self, unlearned: Mapping[str, str]) -> Evidence:
        """The same, in which whatever compares a network that has not learned its task says nothing.

        ``unlearned``: method -> what it has not learned, in words.
        """

        def judged(check: Check) -> Check:
            reasons = [unlearned[m] for m in sorted({m for _, m, _ in check.sources}) if m in unlearned]
            return replace(check, unfit="; ".join(reasons)) if reasons and not check.unfit else check

        return replace(self, checks=tuple(map(judged, self.checks)), premises=tuple(map(judged, self.premises)))
