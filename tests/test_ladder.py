"""The page of what was tried: passes, what was changed, and the lead over the RotNet of as many passes."""

from dataclasses import asdict, replace

import pytest
from synthetic_records import make_card

from dclib.config import MethodConfig
from dclib.presets import parse_preset
from dclib.press.stages import evaluations_of
from dclib.records import Record, write_records
from dclib.report.ladder import LADDER, ladder_folder, ladder_in_short, ladder_table, load_ladder

SHARED = {"cluster": {"n_sub": 64}, "train": {"lr": 0.05, "epochs": 10}}
RUNGS = {
    "random": None,
    "rotnet_short": {"method": "rotnet"},
    "rotnet_long": {"method": "rotnet", "train": {"epochs": 20}},
    "rotnet_a_lr": {"method": "rotnet", "train": {"lr": 0.2}},
    "scratch": {"method": "deepercluster"},
    "scratch_lr": {"method": "deepercluster", "train": {"lr": 0.2}},
    "from_short": {"method": "deepercluster", "init": "rotnet_short"},
    "k_8": {"method": "deepercluster", "init": "rotnet_short", "cluster": {"n_sub": 8}},
    "longer": {"method": "deepercluster", "init": "rotnet_long", "train": {"epochs": 5, "lr": 0.1}},
}
LATE = {  # conv11, conv12, conv13 of seed 100; another seed has a point more
    "random": (1.0, 1.0, 1.0),
    "rotnet_short": (30.0, 20.0, 10.0),
    "rotnet_long": (40.0, 30.0, 20.0),
    "rotnet_a_lr": (31.0, 20.0, 9.0),
    "scratch": (25.0, 20.0, 12.0),
    "scratch_lr": (32.0, 21.0, 10.0),
    "from_short": (41.0, 33.0, 26.0),
    "k_8": (39.0, 28.0, 21.0),
    "longer": (50.0, 50.0, 50.0),
}


def of(card, name: str, value: float, n: int = 9, **keys: object) -> Record:
    return Record(name=name, value=value, unit="%", n=n, keys=keys, card=card)


def records(seeds: tuple[int, ...] = (100,)) -> list[Record]:
    preset = parse_preset("ladder", {"methods": RUNGS, **SHARED})
    found = []
    for rung, config in preset.methods.items():
        for seed in seeds:
            card = make_card(rung, seed, "pretrain", config=asdict(config))
            epochs = 0 if rung == "random" else config.train.epochs
            found += [of(card, "loss", 1.0, 50_000, epoch=epoch) for epoch in range(1, epochs + 1)]
            found.append(of(card, "final_nmi_labels", 0.125))
            probed = make_card(rung, seed, config=asdict(config))
            curve = [5.0] * 10 + [value + seed - 100 for value in LATE[rung]]
            found += [of(probed, "top1", v, 5_000, dataset="objects", layer=i) for i, v in enumerate(curve, start=1)]
    return found


def rows(found: list[Record]) -> dict[str, list[str]]:
    return {r.label: [cell.text for cell in r.cells] for group in ladder_table(found).groups for r in group.rows}


def test_each_rung_stands_with_its_passes_and_what_was_changed():
    """Counted by hand: 50,000 images an epoch; what a rung starts from counts too."""
    found = rows(records())
    assert {rung: cells[1] for rung, cells in found.items()} == {
        "random": "–",
        "rotnet_short": "0.5",
        "rotnet_long": "1.0",
        "rotnet_a_lr": "0.5",
        "scratch": "0.5",
        "scratch_lr": "0.5",
        "from_short": "1.0",
        "k_8": "1.0",
        "longer": "1.2",
    }
    assert {rung: cells[0] for rung, cells in found.items()} == {
        "random": "Random",
        "rotnet_short": "RotNet",
        "rotnet_long": "RotNet",
        "rotnet_a_lr": "RotNet: lr 0.2 (0.05)",
        "scratch": "DeeperCluster",
        "scratch_lr": "DeeperCluster: lr 0.2 (0.05)",
        "from_short": "DeeperCluster from rotnet_short",
        "k_8": "DeeperCluster from rotnet_short: n_sub 8 (64)",
        "longer": "DeeperCluster from rotnet_long: lr 0.1 (0.05)",
    }
    assert found["k_8"][6:] == ["5.0", "5.0", "5.0", "39.0", "28.0", "21.0", "0.125"]
    assert [len(group.rows) for group in ladder_table(records()).groups] == [6, 3]


@pytest.mark.parametrize("seeds", [(100,), (100, 101)])
def test_the_lead_is_over_the_rotnet_of_as_many_passes(seeds):
    found = rows(records(seeds))
    assert found["from_short"][2:5] == ["+1.0", "+3.0", "+6.0"]  # over rotnet_long, not over the one it starts from
    assert found["k_8"][2:5] == ["−1.0", "−2.0", "+1.0"]
    assert found["scratch"][2:5] == ["−5.0", "+0.0", "+2.0"]
    assert found["scratch_lr"][2:5] == ["+1.0", "+1.0", "+1.0"]  # over the one of its own rate
    measures = {
        "from_short": "rotnet_long",
        "k_8": "rotnet_long",
        "scratch": "rotnet_short",
        "scratch_lr": "rotnet_a_lr",
    }
    assert {rung: cells[5] for rung, cells in found.items() if cells[5] != "–"} == measures
    for none in (
        "rotnet_a_lr",
        "random",
        "rotnet_short",
        "rotnet_long",
        "longer",
    ):  # of 1.25 million passes there is no RotNet
        assert found[none][2:5] == ["–", "–", "–"]
    assert ladder_in_short(records(seeds)).text == (
        "Mean of conv11, conv12 and conv13: of 4 rungs with clusters, 2 are ahead of the RotNet of as many passes. The "
        "best is from_short (+3.3 points), the last scratch (−1.0)."
    )


def test_a_preset_has_the_page_where_rungs_are_published(tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    preset = parse_preset("photographs", {"methods": {"rotnet": None}})
    assert "ladder" not in evaluations_of(preset)
    assert load_ladder(preset) == []
    assert "No rung of a ladder was published" in repr(ladder_table([]))
    assert ladder_in_short([]).text == "No rung with clusters stands beside a RotNet of as many passes."
    card = make_card("rotnet", 100, "pretrain", config=asdict(MethodConfig()))
    kept = of(card, "loss", 1.0)
    write_records(ladder_folder(preset) / "pretrain" / "rotnet-s100.json", card, [replace(kept, card=None)])
    assert ladder_folder(preset).parts[-3:] == ("photographs", LADDER, "records")
    assert evaluations_of(preset)["ladder"] == "17_ladder"
    assert load_ladder(preset) == [kept]
