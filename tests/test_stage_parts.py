"""What a page depends on, by name; what is downloaded; how long a run will take."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_records import make_card, make_probes
from zip_archives import write_archives

from dclib.data.layouts import open_images
from dclib.presets import load_preset
from dclib.press import stages as module
from dclib.press.downloads import as_csv, write_downloads
from dclib.press.forecast import Forecast
from dclib.press.site import stale_notice
from dclib.press.stages import EVALUATIONS, SUMMARIES, Stage, changed_parts, key_of, plan_stages, stage_parts
from dclib.records import Record

# pages with lines about the paper's claims: every network's, and the supplement's exhibits
JUDGED = {
    *(f"pretraining_{name}" for name in load_preset("smoke").methods),
    *("linear_probes", "finetuning", "retrieval", "voc", "hashtags", "colour", "metadata", "scorecard"),
}


@pytest.fixture(scope="module")
def planned() -> tuple:
    return plan_stages("smoke")


def keys_after(planned: tuple, monkeypatch: pytest.MonkeyPatch, changed: str) -> set[str]:
    """Pages whose key changes when one module of the library does."""
    preset, stages = planned
    before = stage_parts(stages, preset)
    real = module.code_hash
    monkeypatch.setattr(module, "code_hash", lambda *rooms: "changed" if rooms == (changed,) else real(*rooms))
    after = stage_parts(stages, preset)
    return {page for page in before if key_of(before[page]) != key_of(after[page])}


@pytest.mark.parametrize(
    ("changed", "pages"),
    [
        ("report/retrieval", {"retrieval"}),
        ("report/voc", {"voc"}),
        ("report/hashtags", {"hashtags"}),
        ("report/gradients", {"sobel"}),
        ("evaluate/rmac", {"retrieval", *SUMMARIES}),
        ("evaluate/finetune", {"finetuning", *SUMMARIES}),
        ("analysis/colour", {"colour", *SUMMARIES}),
        ("report/scorecard", JUDGED),
        ("report/performance", {"performance"}),
    ],
)
def test_a_change_of_a_module_touches_the_pages_that_use_it(planned, monkeypatch, changed, pages) -> None:
    """How a number is shown concerns its page; how it is made concerns those that judge and time it too."""
    assert keys_after(planned, monkeypatch, changed) == pages


def test_new_published_records_touch_the_pages_that_show_them_and_train_nothing_anew(planned, monkeypatch) -> None:
    preset, stages = planned
    before = stage_parts(stages, preset)
    real = module.folder_stamp
    monkeypatch.setattr(module, "folder_stamp", lambda f: "new" if f.name == preset.name else real(f))
    changed = {page: changed_parts(before[page], now) for page, now in stage_parts(stages, preset).items()}
    assert {page for page, parts in changed.items() if parts} == JUDGED | {"recipes"}
    assert {part for parts in changed.values() for part in parts} == {"published records"}


def test_a_change_of_the_training_touches_everything_that_looks_at_networks(planned, monkeypatch) -> None:
    touched = keys_after(planned, monkeypatch, "train/pretrain")
    assert {"linear_probes", "voc", "retrieval", "finetuning", "colour", "metadata", "scorecard"} <= touched
    assert "data" in touched  # it imports train.runs, which imports the training


def test_opening_the_images_makes_no_page_anew(tmp_path: Path) -> None:
    """Opening zip archives leaves an index beside them."""
    write_archives(tmp_path / "pool", [7, 12_345_678])
    preset = load_preset("smoke", {"data.root": str(tmp_path), "data.pool": "pool"})
    stages = plan_stages("smoke")[1]
    before = stage_parts(stages, preset)
    open_images(tmp_path / "pool")
    assert list((tmp_path / "pool" / "zip_index").iterdir())
    assert stage_parts(stages, preset) == before
    write_archives(tmp_path / "pool", [7_000])
    assert {page for page, parts in stage_parts(stages, preset).items() if parts != before[page]} == before.keys()


def test_every_evaluation_is_judged_at_the_end(planned) -> None:
    _, stages = planned
    assert set(stages[-1].needs) == set(EVALUATIONS)


def test_what_changed_is_named() -> None:
    assert changed_parts({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b", "c"]
    notice = stale_notice([f"dclib/report/{i}" for i in range(8)])
    assert "`dclib/report/0`" in notice
    assert "and 2 more" in notice
    assert "make book" in notice


def test_recipes_are_presets_that_ask_for_images() -> None:
    from dclib.config import RECIPES

    for name in RECIPES:
        preset = load_preset(name)
        (method,) = [config for key, config in preset.methods.items() if key != "random"]
        assert replace(method, train=replace(method.train, patience=0)) == RECIPES[name]
        assert method.train.patience > 0
        with pytest.raises(ValueError, match=r"reads images from data/.*give their folder with --data"):
            plan_stages(name)


# downloads


def test_downloads_hold_every_record_of_a_stage(tmp_path: Path) -> None:
    records = make_probes({"rotnet": [1.0] * 13, "random": [2.0] * 13}, seeds=(0, 1))
    odd = Record(
        name="voc_ap", value=3.5, unit="%", n=4, keys={"class": 'a, "b"\n<c>'}, card=make_card("rotnet", 0, "voc")
    )
    written = write_downloads([*records, odd], tmp_path)
    assert {p.name for p in written} == {"linear_probe.csv", "linear_probe.json", "voc.csv", "voc.json"}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "linear_probe.csv").read_text())))
    assert len(rows) == 52
    assert [float(r["value"]) for r in rows] == [r.value for r in records]
    assert {(r["method"], r["seed"], r["layer"]) for r in rows} == {
        (m, str(s), str(i)) for m in ("rotnet", "random") for s in (0, 1) for i in range(1, 14)
    }
    (row,) = csv.DictReader(io.StringIO(as_csv([odd])))
    assert row["class"] == 'a, "b"\n<c>'
    runs = json.loads((tmp_path / "linear_probe.json").read_text())
    assert sorted(len(run["records"]) for run in runs) == [13] * 4


# forecast


def chain() -> list[Stage]:
    path = Path("x.ipynb")
    return [
        Stage(page="a", notebook=path, parameters={}, cost=1000),
        Stage(page="b", notebook=path, parameters={}, needs=("a",), cost=2000),
        Stage(page="c", notebook=path, parameters={}, needs=("a",), cost=4000),
    ]


def test_measured_stages_are_expected_to_take_as_long() -> None:
    forecast = Forecast(chain(), {"a": 20.0, "b": 30.0, "c": 50.0}, jobs=2)
    assert forecast.seconds_left([], {}) == 70.0  # the chain a, c; not (20 + 30 + 50) / 2
    assert forecast.seconds_left(["a"], {"c": 10.0}) == 40.0
    assert forecast.seconds_left(["a", "b", "c"], {}) == 0.0


def test_others_are_expected_at_the_pace_of_those() -> None:
    forecast = Forecast(chain(), {}, jobs=1)
    guess = forecast.seconds_left([], {})
    assert guess > 0
    forecast.learn("a", 10_010.0)  # ten seconds of them to start, and ten for each of a cost of 1,000
    # two seconds for a cost of 1,000 were guessed, and both are one pace: (2 + 10,000) s for a cost of 2,000
    assert forecast.seconds_left(["a"], {}) == pytest.approx((10 + 10_002) + (10 + 20_004))


def test_one_tiny_stage_does_not_make_hours_of_the_others() -> None:
    path = Path("x.ipynb")
    tiny = Stage(page="tiny", notebook=path, parameters={}, cost=60)  # 15 s more than a start, for 60 images
    others = [Stage(page=f"page {i}", notebook=path, parameters={}, cost=2000) for i in range(10)]
    forecast = Forecast([tiny, *others], {}, jobs=1)
    forecast.learn("tiny", 25.0)
    assert 10 * 10 < forecast.seconds_left(["tiny"], {}) < 10 * 60


def test_a_stage_that_takes_longer_than_expected_has_nothing_left() -> None:
    forecast = Forecast(chain(), {"a": 20.0, "b": 30.0, "c": 50.0}, jobs=1)
    assert forecast.seconds_left(["a", "b"], {"c": 500.0}) == 0.0
