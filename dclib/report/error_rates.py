"""How often a claim that is false would be said to hold, and how often one that is true: by simulation.

Records of networks are drawn with normal noise of the spread that the published records have over seeds, and go
through the code that judges real ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dclib.counted import count_of
from dclib.paper import CLAIMS, Half
from dclib.presets import project_root
from dclib.records import Record, read_records
from dclib.report.evidence import EVIDENCE
from dclib.report.finder import Finder, Pick, only, published_records, source_of
from dclib.report.margins import Check, Evidence, Source, Values, are_clear
from dclib.report.series import plural, spread
from dclib.report.tables import NO_VALUE, Cell, Group, Row, Table

DRAWS, SEEDS = 20_000, 3
LEVEL = 5.0  # %: no claim that is false may be said to hold more often
NO_EFFECT = 50.0  # every value of every network, where nothing has an effect
SPREADS_FROM = "pocket"  # preset of the published records whose spread is taken


@dataclass(frozen=True)
class Rates:
    """How often a claim is said to hold, in % of draws; None where it cannot be drawn.

    Attributes:
        no_effect: Where all networks are alike.
        one_part_false: Where one thing compared has no effect and all others are clear: the worst of them.
        as_published: Where the paper's numbers are true.
    """

    no_effect: float | None
    one_part_false: float | None
    as_published: float | None


class Simulated(Finder):
    """Draws values in place of looking them up: each is an array of ``draws``, for each of ``seeds`` seeds.

    Args:
        spreads: Records over whose seeds the noise is measured, for each kind of measurement.
        means: Records of the true values; what they lack is as in ``spreads``. Without any, all is ``NO_EFFECT``.
    """

    def __init__(self, spreads: Finder, means: Finder | None = None, *, draws: int = DRAWS, seeds: int = SEEDS) -> None:
        super().__init__(())
        self.spreads, self.means, self.draws, self.seeds = spreads, means, draws, seeds
        self.noise: dict[tuple[object, ...], float | None] = {}  # kind of measurement -> standard deviation
        self.methods = sorted({r.card.method for r in spreads.records if r.card})

    def values(self, name: str, method: str, pick: Pick = only, **keys: str | int) -> Values:
        def looked_up(method: str) -> Values:
            return self.spreads.values(name, method, pick, **keys)

        told = self.means.values(name, method, pick, **keys) if self.means else None
        return self._drawn(source_of(name, method, keys), getattr(pick, "__name__", repr(pick)), looked_up, told)

    def accuracy(self, method: str, half: Half, layer: int) -> Values:
        def looked_up(method: str) -> Values:
            return self.spreads.accuracy(method, half, layer)

        told = self.means.accuracy(method, half, layer) if self.means else None
        source = source_of("top1", method, {"dataset": half, "layer": layer})
        return self._drawn(source, "only", looked_up, told)

    def _drawn(self, source: Source, picked: str, looked_up: Callable[[str], Values], told: Values | None) -> Values:
        """Draws of one measurement, the same ones whenever it is asked for."""
        name, method, keys = source
        kind = (name, keys, picked)
        if kind not in self.noise:
            observed = [list(looked_up(m).values()) for m in self.methods]
            self.noise[kind] = _pooled([values for values in observed if len(values) > 1])
        noise, known = self.noise[kind], told or (looked_up(method) if self.means else None)
        if noise is None or (self.means and not known):
            return Values({}, [source])
        mean = float(np.mean(list(known.values()))) if known else NO_EFFECT
        rng = np.random.default_rng(zlib.crc32(repr((source, picked)).encode()))
        drawn: Any = rng.normal(mean, noise, (self.seeds, self.draws))
        return Values(dict(enumerate(drawn)), [source])


def _pooled(groups: Sequence[Sequence[float]]) -> float | None:
    """Root of the mean variance of several groups of seeds, None without any."""
    return float(np.sqrt(np.mean([spread(group) ** 2 for group in groups]))) if groups else None


def rates_of(claim_id: str, alike: Finder, true: Finder, published: Finder) -> Rates:
    """The three rates of one claim, from draws in which all is alike and from draws around the paper's numbers."""
    found, at_paper, given = (EVIDENCE[claim_id](find) for find in (alike, true, published))
    if found.exact or not found.measured:
        return Rates(None, None, None)
    worst = max(_share(_level(check)) for check in (*found.checks, *at_paper.checks) if check.margins)
    complete = all(check.margins for check in (*given.checks, *at_paper.checks))
    return Rates(_holding(found), worst, _holding(at_paper) if complete else None)


def _holding(found: Evidence) -> float:
    """Share of draws in which every part that is drawn is clear, %."""
    parts = [check for check in (*found.checks, *found.premises) if check.margins]
    return _share(np.all([_clear(check, _margins(check)) for check in parts], axis=0))


def _level(check: Check) -> NDArray[np.bool_]:
    """Whether a check is clear where it has no effect: its noise, around zero."""
    margins = _margins(check)
    return _clear(check, margins - max(0.0, float(margins.mean())))


def _margins(check: Check) -> NDArray[np.float64]:
    return np.asarray(check.values)


def _clear(check: Check, margins: NDArray[np.float64]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = are_clear(margins, tie_holds=check.tie_holds)
    return found


def _share(holds: NDArray[np.bool_]) -> float:
    return 100 * float(np.mean(holds))


def spread_records() -> list[Record]:
    """The records that come with the project, whose spread is taken; none where they do not."""
    found = read_records(project_root() / "results" / SPREADS_FROM / "records")
    return [record for record in found if record.card and not count_of(record.card.method)]


@cache
def all_rates() -> Mapping[str, Rates]:
    """The rates of every claim, by the spread in the records that come with the project; empty without those."""
    records = spread_records()
    spreads, published = Finder(records), Finder(published_records())
    alike, true = Simulated(spreads), Simulated(spreads, published)
    return {claim.id: rates_of(claim.id, alike, true, published) for claim in CLAIMS} if records else {}


def rates_table() -> Table:
    """How often each claim would be said to hold if it were false, and if the paper's numbers were true."""
    rows = []
    for claim in CLAIMS:
        rates = all_rates().get(claim.id, Rates(None, None, None))
        cells = (rates.no_effect, rates.one_part_false, rates.as_published)
        rows.append(Row(f"{claim.id}. {claim.statement}", tuple(Cell(_percent(rate)) for rate in cells)))
    return Table(
        caption=f"How often “holds” would be said with {plural(SEEDS, 'seed')}, % of {DRAWS:,} draws",
        columns=("Claim", "no effect at all", "one part false", "the paper's numbers true"),
        groups=(Group("", tuple(rows), "" if all_rates() else "No records come with this copy of the project."),),
        notes=(
            "Drawn with normal noise of the spread over seeds in the published records of the preset "
            f"{SPREADS_FROM}, each kind of measurement with its own. No effect at all: all networks are alike. One "
            "part false: one thing compared has no effect and everything else that the claim says is clear; the worst "
            "case. The last column is what these few seeds can see: where it is small, a true claim will mostly lean. "
            f"{NO_VALUE}: a count over data, or nothing to draw from.",
        ),
        beside=spread_records(),
    )


def _percent(rate: float | None) -> str:
    """In whole percent, which is as far as the draws tell."""
    if rate is None:
        return NO_VALUE
    return f"{rate:.0f}" if rate >= 1 or not rate else "below 1"
