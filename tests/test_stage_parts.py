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
from dclib.planner.pages import PageCost
from dclib.presets import load_preset
from dclib.press import stages as module
from dclib.press.downloads import as_csv, write_downloads
from dclib.press.forecast import TRUSTED, Forecast, expected_seconds
from dclib.press.stages import EVALUATIONS, SUMMARIES, Stage, changed_parts, key_of, plan_stages, stage_parts
from dclib.press.status import stale_notice
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
        ("evaluate/rmac", {"retrieval", *SUMMARIES, "exercises_features", "exercises_verdicts"}),
        ("evaluate/finetune", {"finetuning", *SUMMARIES, "exercises_verdicts"}),
        ("analysis/colour", {"colour", *SUMMARIES, "exercises_clusters", "exercises_verdicts"}),
        ("report/scorecard", JUDGED | {"exercises_verdicts"}),
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
    asked = {"recipes", "what_came_after", "exercises_features", "exercises_verdicts"}
    assert {page for page, parts in changed.items() if parts} == JUDGED | asked
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
        assert replace(method, train=replace(method.train, patience=0, validate_every=1)) == RECIPES[name]
        assert method.train.patience > 0
        with pytest.raises(ValueError, match=r"reads images from data/.*give their folder with --data"):
            plan_stages(name)


# downloads


def test_downloads_hold_every_record_of_a_stage(tmp_path: Path) -> None:
    records = make_probes({"rotnet": [1.0] * 13, "random": [2.0] * 13}, seeds=(0, 1))
    odd = Record(
        name="voc_ap", value=3.5, unit="%", n=4, keys={"class": 'a, "b"\n<c>'}, card=make_card("rotnet", 0, "voc")
    )
    kept = make_probes({"rotnet": [3.0] * 13}, seeds=(0,))
    written = write_downloads([*records, odd], kept, tmp_path)
    assert {p.name for p in written} == {"linear_probe.csv", "linear_probe.json", "voc.csv", "voc.json"}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "linear_probe.csv").read_text())))
    assert len(rows) == 52 + 13
    assert [float(r["value"]) for r in rows] == [r.value for r in [*records, *kept]]
    assert [r["whose"] for r in rows] == ["own"] * 52 + ["published"] * 13
    assert {(r["method"], r["seed"], r["layer"]) for r in rows} == {
        (m, str(s), str(i)) for m in ("rotnet", "random") for s in (0, 1) for i in range(1, 14)
    }
    (row,) = csv.DictReader(io.StringIO(as_csv([("own", odd)])))
    assert row["class"] == 'a, "b"\n<c>'
    runs = json.loads((tmp_path / "linear_probe.json").read_text())
    assert [(len(run["records"]), run["whose"]) for run in runs] == [(13, "own")] * 4 + [(13, "published")]


# forecast


def chain() -> list[Stage]:
    path = Path("x.ipynb")
    return [
        Stage(page="a", notebook=path, parameters={}, cost=1000),
        Stage(page="b", notebook=path, parameters={}, needs=("a",), cost=2000),
        Stage(page="c", notebook=path, parameters={}, needs=("a",), cost=4000),
    ]


EXPECTED = {"a": 20.0, "b": 30.0, "c": 50.0}


def test_time_left_is_that_of_the_run_as_it_will_go() -> None:
    assert Forecast(chain(), EXPECTED, jobs=2).seconds_left() == 70.0  # c beside b, after a; not (20 + 30 + 50) / 2
    assert Forecast(chain(), EXPECTED, jobs=1).seconds_left() == 100.0
    assert Forecast(chain(), EXPECTED, jobs=2).seconds_left(["a"], {"c": 10.0}) == 40.0
    assert Forecast(chain(), EXPECTED, jobs=1).seconds_left(["a"], {"c": 10.0}) == 70.0  # b waits for c's place
    assert Forecast(chain(), EXPECTED, jobs=2).seconds_left(["a", "b", "c"]) == 0.0


def test_three_equal_stages_on_two_places_take_two_turns() -> None:
    stages = [Stage(page=page, notebook=Path("x.ipynb"), parameters={}) for page in "abc"]
    assert Forecast(stages, dict.fromkeys("abc", 10.0), jobs=2).seconds_left() == 20.0  # not 3 * 10 / 2


def test_the_rest_goes_at_the_pace_of_what_was_measured() -> None:
    forecast = Forecast(chain(), EXPECTED, jobs=1)
    forecast.learn("a", 20.0 + TRUSTED)
    pace = (2 * TRUSTED + 20) / (TRUSTED + 20)  # what was expected counts as so many seconds that came true
    assert forecast.seconds_left(["a"]) == pytest.approx(pace * 80)
    tiny = Forecast(chain(), {**EXPECTED, "a": 1.0}, jobs=1)
    tiny.learn("a", 10.0)  # nine seconds more of a start tell little
    assert tiny.seconds_left(["a"]) < 1.3 * 80


def test_a_stage_that_takes_longer_than_expected_is_expected_to_end_soon() -> None:
    assert Forecast(chain(), EXPECTED, jobs=1).seconds_left(["a", "b"], {"c": 500.0}) == pytest.approx(50.0)


def test_a_page_is_expected_to_take_what_is_to_be_done_for_it() -> None:
    cost = PageCost(shown=8.0, work=100.0)
    parts = {
        "preset": "p",
        "dclib/report/tables": "t",
        "dclib/train/pretrain": "r",
        "x.ipynb": "n",
        "dclib/config": "c",
    }
    card = {"key": key_of(parts), "parts": parts}
    assert expected_seconds(cost, None, card["key"], parts) == 108.0
    assert expected_seconds(cost, card, card["key"], parts) == 0.0
    assert expected_seconds(cost, card, card["key"], parts, force=True) == 8.0
    for part, seconds in {"dclib/report/tables": 8.0, "x.ipynb": 8.0, "dclib/config": 8.0}.items():
        assert expected_seconds(cost, card, "another", {**parts, part: "new"}) == seconds
    for part in ("preset", "dclib/train/pretrain"):
        assert expected_seconds(cost, card, "another", {**parts, part: "new"}) == 108.0
