"""Provenance: what was read, and a word wherever records of one table were not made alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_records import make_card, make_curve, make_probes, make_training

from dclib.config import Preset
from dclib.presets import parse_preset
from dclib.records import Record, write_records
from dclib.report import provenance

FLAT = [50.0] * 13


@pytest.fixture
def preset() -> Preset:
    return parse_preset("made-up", {"seeds": [0, 1], "methods": {"rotnet": None, "random": None}})


def write(folder: Path, method: str, seed: int) -> None:
    card = make_card(method, seed)
    record = Record(name="top1", value=50.0, unit="%", n=10, keys={"dataset": "objects", "layer": 1})
    write_records(folder / "made-up" / "records" / "linear_probe" / f"{method}-s{seed}.json", card, [record])


def test_records_of_the_presets_methods_and_seeds_are_read(
    preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    assert provenance.load_records(preset) == []
    for method, seed in (("rotnet", 0), ("random", 1), ("rotnet", 7), ("gone", 0)):
        write(tmp_path, method, seed)
    found = {(r.card.method, r.card.seed) for r in provenance.load_records(preset) if r.card}
    assert found == {("rotnet", 0), ("random", 1)}


def test_the_strip_says_where_everything_came_from() -> None:
    text = str(provenance.strip(make_probes({"rotnet": FLAT, "random": FLAT})))
    assert "yours: seeds 0, 1, 2, cpu (2 threads), 2026-01-02, code code · preset made-up · 6 runs · 3 min" in text
    assert "RotNet config-rotnet, Random config-random" in text
    assert "python 3.12.0, torch 2.14.0" in text
    assert "Mind" not in text


def test_under_an_exhibit_stands_only_what_it_was_made_of() -> None:
    records = make_probes({"rotnet": FLAT}) + make_training("random", 7)
    text = str(provenance.under(records, "top1"))
    assert "seeds 0, 1, 2, " in text
    assert " · 3 runs · " in text
    assert "Random" not in text
    assert "yours: seed 7, " in str(provenance.under(records, "loss"))
    assert provenance.under(records, "nmi_labels") is None


def test_under_pictures_stands_their_run(preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    for method, seed in (("rotnet", 0), ("rotnet", 1), ("random", 1)):
        write(tmp_path, method, seed)
    text = str(provenance.under_pictures(preset, "linear_probe", "rotnet", 1))
    assert "yours: seed 1, " in text
    assert " · 1 run · " in text
    assert "RotNet config-rotnet" in text
    assert provenance.under_pictures(preset, "linear_probe", "rotnet", 2) is None
    assert provenance.under_pictures(preset, "colour", "rotnet", 1) is None


def test_a_strip_of_nothing_says_so() -> None:
    assert str(provenance.strip([])) == "No records yet."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code_hash": "newer"}, "linear_probe: records come from 2 versions of the code (code, newer)"),
        ({"config_hash": "other"}, "the seeds of RotNet come from 2 configurations (config-rotnet, other)"),
        ({"data_hash": "elsewhere"}, "probes on objects come from 2 sets of images (data, elsewhere)"),
    ],
)
def test_what_does_not_match_is_said_once(change: dict[str, str], message: str) -> None:
    records = make_curve("rotnet", 0, FLAT) + make_curve("rotnet", 1, FLAT, **change)
    assert [message in said for said in provenance.find_mismatches(records)] == [True]
    shown = provenance.strip(records)
    assert message in shown.text
    assert message in shown.html


def test_methods_may_differ_in_configuration_and_halves_in_images() -> None:
    records = make_curve("rotnet", 0, FLAT) + make_curve("random", 0, FLAT)
    records += make_curve("rotnet", 0, FLAT, dataset="scenes", data_hash="scenes")
    assert provenance.find_mismatches(records) == []


def test_probes_of_two_methods_on_different_images_are_told() -> None:
    records = make_curve("rotnet", 0, FLAT) + make_curve("random", 0, FLAT, data_hash="elsewhere")
    assert len(provenance.find_mismatches(records)) == 1


def test_stages_may_come_from_different_code() -> None:
    records = make_curve("rotnet", 0, FLAT)
    records += make_curve("rotnet", 0, FLAT, stage="pretrain", code_hash="training", dataset="scenes")
    assert provenance.find_mismatches(records) == []


def test_networks_of_another_task_rest_on_code_of_their_own() -> None:
    """A variant is of its method's task; and what looks at all images, whatever the network, of none."""
    records = make_curve("rotnet", 0, FLAT) + make_curve("context", 0, FLAT, code_hash="with context")
    assert provenance.find_mismatches(records) == []
    named = make_curve("mine", 0, FLAT, config={"method": "context"}, code_hash="newer")
    for other in (make_curve("deepercluster_rgb", 0, FLAT, code_hash="newer"), named):
        (said,) = provenance.find_mismatches(records + other)
        assert "2 versions of the code" in said


def test_text_in_a_card_is_escaped() -> None:
    shown = provenance.strip(make_curve("rotnet", 0, FLAT, device="<script>"))
    assert "<script>" not in shown.html


def test_times_are_written_to_be_read() -> None:
    assert provenance.moment("2026-01-02T03:04:05+00:00") == "2 January 2026, 03:04 UTC"
    assert provenance.moment("2026-01-02T01:04:05+02:00") == "1 January 2026, 23:04 UTC"
    assert provenance.moment("2026-01-02T03:04:05") == "2 January 2026, 03:04"  # no zone is claimed
    assert provenance.moment("yesterday") == "yesterday"
    assert "2 January 2026, 03:04 UTC" in provenance.strip(make_curve("rotnet", 0, FLAT)).html


@pytest.mark.parametrize(("seconds", "words"), [(90.0, "90 s"), (600.0, "10 min"), (9000.0, "2.5 h")])
def test_durations_read_well(seconds: float, words: str) -> None:
    assert f"· {words}\n" in str(provenance.strip(make_curve("rotnet", 0, FLAT, seconds=seconds)))
