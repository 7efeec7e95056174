"""Networks that have not learned their task: found, named, and no claim rests on them."""

from __future__ import annotations

import pytest
from synthetic_records import make_card
from test_scorecard import PLANTS, SEEDS, verdict, voc

from dclib.records import Record
from dclib.report import scorecard
from dclib.report.learning import unlearned

N = 16_000
END = " after the last epoch in seed 0, chance "


def trained(
    method: str, seed: int, *, kind: str = "", n_super: int = 1, n_sub: int = 32, **ends: float
) -> list[Record]:
    """Accuracies (and chances) after three epochs; before the last they are misleading."""
    config = {"method": kind or method, "cluster": {"n_super": n_super, "n_sub": 32}}
    card = make_card(method, seed, stage="pretrain", config=config)

    def at(name: str, epoch: int, value: float) -> Record:
        return Record(name=name, value=value, unit="%", n=N, keys={"epoch": epoch}, card=card)

    return [at(n, e, v) for n, end in ends.items() for e, v in ((1, 99 - end), (3, end), (2, 99 - end))]


def test_a_rotation_network_at_a_quarter_has_learned_nothing() -> None:
    records = [
        r
        for s, a in ((0, 24.5), (1, 26.7), (2, 52.7))
        for r in trained("rotnet_rgb", s, kind="rotnet", super_accuracy=a)
    ]
    records += [r for s in SEEDS for r in trained("rotnet", s, super_accuracy=94.0)]
    assert unlearned(records) == {
        "rotnet_rgb": "RotNet, RGB has not learned to tell turns "
        "(24 %, 27 % after the last epoch in seeds 0, 1, chance 25 %)"
    }


@pytest.mark.parametrize(
    ("accuracies", "told"),
    [
        (
            {"super_accuracy": 12.0, "sub_accuracy": 50.0},
            "super-classes (12 %{}12 %)",
        ),
        (
            {"super_accuracy": 60.0, "sub_accuracy": 3.5},
            "sub-classes (4 %{}3.1 %)",
        ),
        ({"super_accuracy": 60.0, "sub_accuracy": 4.5}, ""),
        # twice chance at super-classes and none at turns: only the record of its own tells
        (
            {"super_accuracy": 25.0, "sub_accuracy": 50.0, "turn_accuracy": 25.0, "turn_chance": 25.0},
            "turns (25 %{}25 %)",
        ),
    ],
)
def test_each_task_has_its_own_chance(accuracies: dict[str, float], told: str) -> None:
    """Two super-clusters make eight super-classes."""
    found = unlearned(trained("deepercluster", 0, n_super=2, **accuracies))
    assert found == ({"deepercluster": f"DeeperCluster has not learned to tell {told.format(END)}"} if told else {})


def test_recorded_chance_comes_before_the_settings() -> None:
    assert unlearned(trained("deepcluster", 0, sub_accuracy=10.0)) == {}
    assert "chance 10 %" in unlearned(trained("deepcluster", 0, sub_accuracy=10.0, sub_chance=10.0))["deepcluster"]


def test_a_task_told_twice_is_said_once() -> None:
    both = trained("rotnet", 0, super_accuracy=25.0, turn_accuracy=25.0, turn_chance=25.0)
    assert unlearned(both)["rotnet"].count("turns") == 1


def test_a_supervised_network_is_judged_where_chance_is_known() -> None:
    assert unlearned(trained("supervised", 0, train_accuracy=10.0)) == {}
    assert "labels" in unlearned(trained("supervised", 0, train_accuracy=10.0, sub_chance=10.0))["supervised"]


def gains(of_rgb: float) -> list[Record]:
    """Gradients help by 30 points, and RotNet by none; the network of colour tells so many turns."""
    values = {"rotnet": 60, "rotnet_rgb": 60, "deepercluster_rgb": 60}
    found = [r for s in SEEDS for r in voc({**values, "deepercluster": 90 + 0.1 * s}, s)]
    turns = {"deepercluster_rgb": of_rgb, "deepercluster": 92.0, "rotnet": 94.0, "rotnet_rgb": 94.0}
    return found + [
        r for s in SEEDS for m, v in turns.items() for r in trained(m, s, kind=m.split("_")[0], super_accuracy=v)
    ]


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
    records = [r for s in SEEDS for r in PLANTS["K1"](5 + 0.1 * s, s)] + trained("deepcluster", 0, sub_accuracy=3.0)
    found = verdict(records, "K1")
    assert found.outcome == "leans"
    assert "DeepCluster has not learned to tell sub-classes" in found.reason
