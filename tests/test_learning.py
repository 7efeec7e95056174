"""Networks that have not learned their task: found, named, and no claim rests on them."""

from __future__ import annotations

import pytest
from synthetic_records import make_card
from test_scorecard import PLANTS, SEEDS, verdict, voc

from dclib.records import Record
from dclib.report import scorecard
from dclib.report.learning import task_table, unlearned

N = 16_000
CHANCE = {"turn": 25.0, "super": 12.5, "sub": 3.125, "train": 6.25}  # two super-clusters, 32 sub-clusters, 16 classes


def trained(method: str, seed: int, **ends: float) -> list[Record]:
    """Accuracies of tasks, and what a guess gives, after three epochs; before the last they are misleading."""
    card = make_card(method, seed, stage="pretrain")

    def at(name: str, epoch: int, value: float) -> Record:
        return Record(name=name, value=value, unit="%", n=N, keys={"epoch": epoch}, card=card)

    return [
        record
        for task, end in ends.items()
        for epoch, value in ((1, 99 - end), (3, end), (2, 99 - end))
        for record in (at(f"{task}_accuracy", epoch, value), at(f"{task}_chance", epoch, CHANCE[task]))
    ]


def test_a_rotation_network_at_a_quarter_has_learned_nothing() -> None:
    records = [r for s, a in ((0, 24.5), (1, 26.7), (2, 52.7)) for r in trained("rotnet_rgb", s, turn=a)]
    records += [r for s in SEEDS for r in trained("rotnet", s, turn=94.0)]
    assert unlearned(records) == {
        "rotnet_rgb": "RotNet, RGB has not learned to tell turns "
        "(24 %, 27 % after the last epoch in seeds 0, 1, chance 25 %)"
    }


@pytest.mark.parametrize(
    ("accuracies", "told"),
    [
        ({"turn": 60.0, "super": 12.0, "sub": 50.0}, "super-classes (12 %"),
        ({"turn": 60.0, "super": 60.0, "sub": 3.5}, "sub-classes (4 %"),
        ({"turn": 60.0, "super": 60.0, "sub": 4.5}, ""),
        # twice chance at super-classes, and none at turns
        ({"turn": 25.0, "super": 25.0, "sub": 50.0}, "turns (25 %"),
        ({"train": 7.0}, "classes (7 %"),
    ],
)
def test_each_task_has_its_own_chance(accuracies: dict[str, float], told: str) -> None:
    found = unlearned(trained("deepercluster", 0, **accuracies))
    assert list(found) == (["deepercluster"] if told else [])
    assert not told or found["deepercluster"].startswith(f"DeeperCluster has not learned to tell {told}")


def test_a_task_at_chance_is_named_with_its_seeds_on_the_page() -> None:
    records = [r for seed, end in ((0, 26.0), (1, 60.0), (2, 27.5)) for r in trained("rotnet", seed, turn=end)]
    (row,) = task_table(records, "rotnet").groups[0].rows
    assert [row.label, *(cell.text for cell in row.cells)] == [
        "turns",
        "37.8",  # mean of the last epochs
        "25",
        "WARNING: no, at chance in 2 seeds (0, 2)",
    ]
    rows = task_table(trained("deepercluster", 0, turn=90.0, sub=30.0), "deepercluster").groups[0].rows
    assert [(row.label, row.cells[-1].text) for row in rows] == [("turns", "yes"), ("sub-classes", "yes")]
    assert "Random was asked nothing" in repr(task_table([], "random"))


def gains(of_rgb: float) -> list[Record]:
    """Gradients help by 30 points, and RotNet by none; the network of colour tells so many turns."""
    values = {"rotnet": 60, "rotnet_rgb": 60, "deepercluster_rgb": 60}
    found = [r for s in SEEDS for r in voc({**values, "deepercluster": 90 + 0.1 * s}, s)]
    turns = {"deepercluster_rgb": of_rgb, "deepercluster": 92.0, "rotnet": 94.0, "rotnet_rgb": 94.0}
    return found + [r for s in SEEDS for m, v in turns.items() for r in trained(m, s, turn=v)]


def test_no_claim_holds_against_a_baseline_that_has_not_learned_its_task() -> None:
    assert verdict(gains(52.0), "C9").outcome == "holds"
    collapsed = verdict(gains(25.0), "C9")
    assert collapsed.outcome == "not measured"
    assert collapsed.reason.startswith("DeeperCluster, RGB has not learned to tell turns (25 %, 25 %, 25 %")
    assert collapsed.reason.count("has not learned") == 1
    assert "+30.1 ± 0.1 (not judged)" in scorecard.scorecard_table([collapsed])._repr_html_()
    # nor does its own defeat speak against it; who is well is judged as before
    assert verdict(gains(25.0), "C17").outcome == "not measured"
    assert verdict(gains(25.0), "C18").outcome == "holds"


def test_a_claim_of_several_networks_leans_when_one_has_not_learned() -> None:
    records = [r for s in SEEDS for r in PLANTS["K1"](5 + 0.1 * s, s)] + trained("deepcluster", 0, sub=3.0)
    found = verdict(records, "K1")
    assert found.outcome == "leans"
    assert "DeepCluster has not learned to tell sub-classes" in found.reason
