"""How often a false claim would hold: every rule kept to its level, and the simulation itself against known cases."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_records import make_probes
from test_scorecard import PLANTS, SEEDS

from dclib import paper
from dclib.report import error_rates, margins
from dclib.report.error_rates import DRAWS, LEVEL, Simulated, all_rates, rates_of, rates_table
from dclib.report.evidence import EVIDENCE
from dclib.report.finder import Finder, published_records

# three standard deviations of a share of so many draws, and half as much for the worst of several checks
ALLOWED = LEVEL + 4.5 * 100 * (LEVEL / 100 * (1 - LEVEL / 100) / DRAWS) ** 0.5
COUNTED = {"C12"}


@pytest.mark.parametrize("claim", paper.CLAIMS, ids=lambda c: c.id)
def test_a_false_claim_holds_in_five_of_a_hundred_cases_at_most(claim: paper.Claim) -> None:
    rates = all_rates()[claim.id]
    if claim.id in COUNTED:
        assert rates.one_part_false is None
        return
    assert rates.no_effect is not None
    assert rates.one_part_false is not None
    assert rates.no_effect <= ALLOWED
    assert rates.one_part_false <= ALLOWED


def finders(noise: float) -> tuple[Simulated, Simulated, Finder]:
    """Draws around no effect and around the paper's numbers, with a spread over seeds of ``noise``."""
    curves = {m: [50.0 + i for i in range(13)] for m in ("supervised", "deepercluster", "rotnet")}
    seeds = {0: -noise, 1: 0.0, 2: noise}  # whose standard deviation is the noise
    shifted = [
        r
        for half in paper.HALVES
        for s, by in seeds.items()
        for r in make_probes({m: [v + by - 0.01 * s for v in c] for m, c in curves.items()}, (s,), half)
    ]
    published = Finder(published_records())
    return Simulated(Finder(shifted)), Simulated(Finder(shifted), published), published


def test_draws_have_the_mean_and_the_spread_they_are_told() -> None:
    alike, true, _ = finders(2.0)
    drawn = np.asarray(list(alike.accuracy("rotnet", "objects", 3).values()))
    assert drawn.shape == (3, DRAWS)
    assert drawn.mean() == pytest.approx(50, abs=0.05)  # 60,000 draws of deviation 2: 0.008 each way
    assert drawn.std() == pytest.approx(2, abs=0.03)
    assert np.mean(true.accuracy("rotnet", "objects", 13)[0]) == pytest.approx(33.0, abs=0.1)
    assert (drawn == np.asarray(list(alike.accuracy("rotnet", "objects", 3).values()))).all()
    other = np.asarray(list(alike.accuracy("rotnet", "objects", 4).values()))
    assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 0.02  # independent: 0.004


def test_with_little_noise_what_the_paper_found_is_found() -> None:
    """And with much of it, nothing is."""
    assert rates_of("C1", *finders(0.1)).as_published == pytest.approx(100, abs=0.5)
    assert rates_of("C1", *finders(30.0)).as_published < 2


def test_a_rule_that_chooses_by_luck_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fall from whichever layer is best is there in noise as well."""

    def best_less_last(find: Finder) -> margins.Evidence:
        curve = [find.accuracy("rotnet", "objects", i) for i in range(1, 14)]
        fall = margins.combine(lambda *c: np.max(c, axis=0) - c[-1], *curve)
        return margins.Evidence((margins.Check("objects", "fall", fall),))

    monkeypatch.setitem(EVIDENCE, "C2", best_less_last)
    assert rates_of("C2", *finders(1.0)).no_effect > 40


def test_a_weaker_bound_on_luck_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean above the standard deviation, which is t = 1.73 with three seeds, lets 11 of 100 through."""
    monkeypatch.setattr(margins, "T95", (1.0, 3**0.5))
    assert rates_of("C6", *finders_of_all()).one_part_false == pytest.approx(11.3, abs=1.0)


def finders_of_all() -> tuple[Simulated, Simulated, Finder]:
    records = [r for s in SEEDS for r in PLANTS["C6"](1 + s, s)]
    published = Finder(published_records())
    return Simulated(Finder(records)), Simulated(Finder(records), published), published


def test_the_table_has_a_line_for_every_claim_and_says_what_cannot_be_drawn() -> None:
    rows = rates_table().groups[0].rows
    assert [row.label.split(".")[0] for row in rows] == [claim.id for claim in paper.CLAIMS]
    assert [cell.text for cell in rows[11].cells] == ["–", "–", "–"]  # C12 is a count
    assert rows[0].cells[1].text == "5"


def test_without_published_records_the_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_rates, "SPREADS_FROM", "no such preset")
    all_rates.cache_clear()
    try:
        assert "No records come with this copy of the project." in rates_table()._repr_html_()
    finally:
        all_rates.cache_clear()
