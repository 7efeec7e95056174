"""Verdicts: each must follow from the records, and from nothing else."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from synthetic_records import METHODS, make_curve, make_probes, make_training

from dclib import paper
from dclib.records import Record
from dclib.report import scorecard
from dclib.report.scorecard import Verdict

FLAT = {method: [10.0 * (len(METHODS) - i)] * 13 for i, method in enumerate(METHODS)}  # 50, 40, 30, 20, 10
ORDERS = ("supervised-over-deepercluster", "deepercluster-over-rotnet", "rotnet-over-random", "deepcluster-over-random")


def verdict_on(records: list[Record], claim_id: str, half: str | None = "objects") -> Verdict:
    found = [v for v in scorecard.judge(records) if v.claim.id == claim_id and v.half == half]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("claim_id", ORDERS)
def test_an_order_that_is_there_holds(claim_id: str) -> None:
    verdict = verdict_on(make_probes(FLAT), claim_id)
    assert (verdict.verdict, verdict.n_seeds) == ("holds here", 3)
    assert verdict.reason == "3/3 seeds"


@pytest.mark.parametrize("claim_id", ORDERS)
def test_the_reversed_order_does_not_hold(claim_id: str) -> None:
    reversed_ = dict(zip(FLAT, reversed(FLAT.values()), strict=True))
    assert verdict_on(make_probes(reversed_), claim_id).outcome == "does not hold here"


@pytest.mark.parametrize("claim_id", ORDERS)
def test_a_tie_does_not_hold(claim_id: str) -> None:
    assert verdict_on(make_probes(dict.fromkeys(METHODS, [50.0] * 13)), claim_id).outcome == "does not hold here"


def test_a_tie_by_rounding_does_not_hold() -> None:
    curves = {"deepercluster": [0.3] * 13, "rotnet": [0.1 + 0.2] * 13}  # 0.30000000000000004
    assert verdict_on(make_probes(curves, seeds=(0,)), "deepercluster-over-rotnet").outcome == "does not hold here"
    swapped = {"rotnet": curves["deepercluster"], "deepercluster": curves["rotnet"]}
    assert verdict_on(make_probes(swapped, seeds=(0,)), "deepercluster-over-rotnet").outcome == "does not hold here"


def test_one_seed_against_it_leaves_the_direction() -> None:
    records = make_probes(FLAT, seeds=(0, 1))
    records += make_curve("deepercluster", 2, [15.0] * 13) + make_curve("rotnet", 2, [20.0] * 13)
    verdict = verdict_on(records, "deepercluster-over-rotnet")
    assert verdict.outcome == "holds in direction"
    assert verdict.reason == "2/3 seeds; conv11 in 2/3, conv12 in 2/3, conv13 in 2/3"


def test_one_seed_far_against_it_is_no_direction() -> None:
    records = make_probes(FLAT, seeds=(0, 1))
    records += make_curve("deepercluster", 2, [0.0] * 13) + make_curve("rotnet", 2, [90.0] * 13)
    assert verdict_on(records, "deepercluster-over-rotnet").outcome == "does not hold here"


def test_a_mean_that_one_seed_carries_is_no_direction() -> None:
    """+30, -1 and -1 points: the mean leads, most seeds do not."""
    records = []
    for seed, lead in enumerate((30.0, -1.0, -1.0)):
        records += make_curve("deepercluster", seed, [40 + lead] * 13) + make_curve("rotnet", seed, [40.0] * 13)
    assert verdict_on(records, "deepercluster-over-rotnet").outcome == "does not hold here"


@pytest.mark.parametrize(
    ("layer", "outcome"), [(10, "holds here"), (11, "does not hold here"), (13, "does not hold here")]
)
def test_each_of_the_last_three_layers_counts_and_no_other(layer: int, outcome: str) -> None:
    rotnet = [20.0] * 13
    rotnet[layer - 1] = 45.0  # above DeeperCluster's 40
    assert verdict_on(make_probes({**FLAT, "rotnet": rotnet}), "deepercluster-over-rotnet").outcome == outcome


def test_methods_are_compared_seed_by_seed() -> None:
    """Seeds differ by far more than methods do, yet in each seed the same method leads."""
    records = []
    for seed, level in enumerate((20.0, 50.0, 80.0)):
        records += make_curve("deepercluster", seed, [level + 1] * 13) + make_curve("rotnet", seed, [level] * 13)
    verdict = verdict_on(records, "deepercluster-over-rotnet")
    assert verdict.outcome == "holds here"
    assert verdict.ours == "conv11 +1.0 ± 0.0, conv12 +1.0 ± 0.0, conv13 +1.0 ± 0.0 points"


def test_seeds_that_one_method_lacks_are_left_out() -> None:
    records = make_probes(FLAT, seeds=(0,)) + make_curve("rotnet", 1, [99.0] * 13)
    verdict = verdict_on(records, "deepercluster-over-rotnet")
    assert verdict.verdict == "holds here (1 seed)"
    assert verdict_on(make_curve("rotnet", 1, FLAT["rotnet"]) + make_curve("random", 2, FLAT["random"]),
                      "rotnet-over-random").outcome == "not measured"  # fmt: skip


def test_an_incomplete_probe_is_no_evidence() -> None:
    records = [r for r in make_probes(FLAT) if not (r.card and r.card.method == "rotnet" and r.keys["layer"] == 3)]
    verdict = verdict_on(records, "deepercluster-over-rotnet")
    assert (verdict.outcome, verdict.reason) == ("not measured", "no complete probe of RotNet")


def test_a_missing_half_is_not_measured() -> None:
    verdict = verdict_on(make_probes(FLAT), "deepercluster-over-rotnet", "scenes")
    assert (verdict.outcome, verdict.n_seeds, verdict.ours) == ("not measured", 0, "–")
    assert "scenes" in verdict.reason


def test_nothing_is_measured_without_records() -> None:
    verdicts = scorecard.judge([])
    assert {v.outcome for v in verdicts} == {"not measured"}
    assert {v.claim.id for v in verdicts} == {c.id for c in paper.CLAIMS}
    assert "of 0 measured" in scorecard.summarise(verdicts)


def test_two_values_for_one_layer_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two records for rotnet, seed 0, objects, layer 1"):
        scorecard.judge(make_probes(FLAT) + make_curve("rotnet", 0, [1.0] * 13))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_permuting_the_methods_values_permutes_the_verdicts(order: tuple[int, ...]) -> None:
    """Each pair's verdict is that of the numbers, whichever name they bear."""
    names = ("deepercluster", "rotnet", "random")
    values = [40.0, 30.0, 20.0]
    level = {name: values[place] for name, place in zip(names, order, strict=True)}
    records = make_probes({name: [v] * 13 for name, v in level.items()})
    for better, worse in (("deepercluster", "rotnet"), ("rotnet", "random"), ("deepercluster", "random")):
        expected = "holds here" if level[better] > level[worse] else "does not hold here"
        assert verdict_on(records, f"{better}-over-{worse}").outcome == expected


@pytest.mark.parametrize("claim", [c for c in paper.CLAIMS if c.id in scorecard.CURVE_TESTS], ids=lambda c: c.id)
def test_the_papers_own_table_confirms_its_own_claims(claim: paper.Claim) -> None:
    """Fed with Table 1, every claim read out of it must hold; controls it has no numbers for cannot be judged."""
    for half in claim.halves:
        records = make_probes(paper.table1(half), seeds=(0,), dataset=half)
        expected = "not measured" if "random" in claim.id else "holds here"
        assert verdict_on(records, claim.id, half).outcome == expected


def test_the_papers_numbers_are_computed_from_its_table() -> None:
    verdict = verdict_on(make_probes(FLAT), "deepercluster-over-rotnet")
    # 49.0 - 39.6, 49.2 - 38.2 and 45.6 - 33.0, worked out by hand
    assert verdict.paper == "conv11 +9.4, conv12 +11.0, conv13 +12.6 points"
    assert verdict_on(make_probes(FLAT), "rotnet-falls").paper == "best at conv11 (fall +6.6 points)"


def test_best_layers_are_ours_and_not_the_papers() -> None:
    early = [90.0 - abs(layer - 5) for layer in range(1, 14)]  # best at conv5
    later = [90.0 - abs(layer - 7) for layer in range(1, 14)]
    records = make_probes({"rotnet": early, "deepercluster": later})
    late = verdict_on(records, "deepercluster-peaks-late")
    assert (late.outcome, late.ours) == ("does not hold here", "best at conv7")
    first = verdict_on(records, "rotnet-peaks-before-deepercluster")
    assert (first.outcome, first.ours) == ("holds here", "RotNet conv5; DeeperCluster conv7")
    assert verdict_on(records, "rotnet-falls").ours == "best at conv5 (fall +8.0 ± 0.0 points)"


def test_rising_agreement_is_judged_in_each_seed() -> None:
    rising = [r for seed in (0, 1, 2) for r in make_training("deepercluster", seed, (0.2, 0.5, 0.4))]
    verdict = verdict_on(rising, "nmi-rises-deepercluster", None)
    assert (verdict.verdict, verdict.n_seeds) == ("holds here", 3)
    assert verdict.ours == "NMI 0.20 to 0.40 (rise +0.20 ± 0.00)"
    mixed = rising + make_training("deepercluster", 3, (0.3, 0.25))  # 3 of 4 rise
    assert verdict_on(mixed, "nmi-rises-deepercluster", None).outcome == "holds in direction"
    falling = make_training("deepercluster", 0, (0.4, 0.2))
    assert verdict_on(falling, "nmi-rises-deepercluster", None).verdict == "does not hold here (1 seed)"
    single = make_training("deepercluster", 0, (0.4,))
    assert verdict_on(single, "nmi-rises-deepercluster", None).outcome == "not measured"


def probes_with_value(value: float, *, tested: int, shown: int) -> list[Record]:
    curve = [*[10.0] * 12, value]
    return make_curve("deepercluster", 0, curve, n=tested) + make_training("deepercluster", 0, losses=(1.0,), n=shown)


def test_a_small_run_confirms_no_value_however_close() -> None:
    records = probes_with_value(45.6, tested=2000, shown=96_000)
    verdict = verdict_on(records, "deepercluster-conv13")
    assert verdict.outcome == "not measured"
    assert "96,000 images shown" in verdict.reason


@pytest.mark.parametrize(("tested", "shown"), [(50_000, 96_000), (2000, 95_920_149)])
def test_a_value_needs_both_the_papers_tests_and_its_training(tested: int, shown: int) -> None:
    assert (
        verdict_on(probes_with_value(45.6, tested=tested, shown=shown), "deepercluster-conv13").outcome
        == "not measured"
    )


@pytest.mark.parametrize(("value", "outcome"), [(45.0, "holds here"), (40.0, "does not hold here")])
def test_at_the_papers_scale_a_value_is_compared(value: float, outcome: str) -> None:
    records = probes_with_value(value, tested=50_000, shown=95_920_149)
    assert verdict_on(records, "deepercluster-conv13").outcome == outcome


def test_a_verdict_cannot_be_typed() -> None:
    assert {field.name for field in dataclasses.fields(Verdict)}.isdisjoint({"outcome", "verdict", "reason", "ours"})
    verdict = verdict_on(make_probes(FLAT), "rotnet-falls")
    for name in ("outcome", "verdict", "reason"):
        with pytest.raises(AttributeError):
            setattr(verdict, name, "holds here")


def test_no_notebook_or_claim_spells_a_verdict_in_code() -> None:
    root = Path(__file__).parent.parent
    for path in (root / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "".join(line for cell in cells if cell["cell_type"] == "code" for line in cell["source"])
        assert not any(outcome in code for outcome in scorecard.OUTCOMES), path.name
    said = " ".join(str(dataclasses.asdict(claim)) for claim in paper.CLAIMS)
    assert not any(outcome in said for outcome in scorecard.OUTCOMES)


def test_the_summary_counts_what_the_table_shows() -> None:
    verdicts = scorecard.judge(make_probes(FLAT))
    held = sum(v.outcome == "holds here" for v in verdicts)
    assert f"{held} hold here" in scorecard.summarise(verdicts)
    table = scorecard.scorecard_table(verdicts)
    shown = [row.cells[0].text for group in table.groups for row in group.rows]
    assert len(shown) == len(verdicts)
    assert sum(text.endswith("✓ holds here") for text in shown) == held
