"""Published networks: their first steps, taken again by the code of now, give the numbers that were recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_images import silent, write_pictures

from dclib.__main__ import main
from dclib.cluster import pseudo_labels
from dclib.config import Preset
from dclib.data import pixels
from dclib.data.layouts import open_images
from dclib.pocket.outline import PoolDrawer
from dclib.pocket.pool_set import plan_pool
from dclib.presets import load_preset
from dclib.records import read_records, select
from dclib.report import replayed
from dclib.report.replayed import replay_sentence
from dclib.train import pretrain, replay
from dclib.train.replay import (
    LOSS_TOLERANCE,
    FirstSteps,
    difference,
    first_steps,
    other_settings,
    read_replay,
    record,
    trained_networks,
)
from dclib.train.replay import replay as take_again
from dclib.train.runs import Data, prepare_data, pretrain_method, task_pixels
from dclib.train.tasks import classes

RESULTS = Path(__file__).resolve().parent.parent / "results"
PUBLISHED = sorted(path.parent.parent for path in RESULTS.glob("*/records/pretrain"))
CHECKED = ("rotnet", "deepercluster_hierarchy")  # turns, and two levels of clustering with turns in each
FEW = 3  # steps, of those that are recorded of a published network: the third shows what the others have learned
METHODS = {
    "rotnet": {},
    "deepcluster": {},
    "supervised": {},
    "two_levels": {"method": "deepercluster", "init": "rotnet", "cluster": {"n_super": 2, "n_sub": 3}},
}
COMMIT = "0123456789abcdef"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a preset, its images, and the published records of its networks."""
    project = tmp_path_factory.mktemp("project")
    write_pictures(project / "images" / "pool", 48)
    write_pictures(project / "images" / "objects" / "train", 32, seed=1)
    settings = {
        "data": {
            "root": str(project / "images"),
            "resize": 36,
            "objects_test": "",
            "scenes_train": "",
            "scenes_test": "",
        },
        "model": {"image_size": 32, "width": 1 / 16, "hidden_dim": 16, "feature_dim": 16, "dropout": 0.0},
        "cluster": {"n_sub": 6, "pca_dim": 8, "n_iter": 3},
        "train": {"epochs": 1, "batch_size": 8, "lr": 0.05, "crop_area": 0.3},
        "methods": METHODS,
    }
    (project / "notebooks" / "presets").mkdir(parents=True)
    (project / "notebooks" / "presets" / "tiny.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCLIB_ROOT", str(project))
        for method in METHODS:
            pretrain_method(load_preset("tiny"), method, 0, device="cpu")
    shutil.copytree(project / "runs" / "tiny" / "records", project / "results" / "tiny" / "records")
    return project


@pytest.fixture
def project(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same without a replay, in a commit."""
    monkeypatch.setenv("DCLIB_ROOT", str(tiny))
    monkeypatch.setattr(replay, "source_commit", lambda: COMMIT)
    yield tiny / "results" / "tiny"
    (tiny / "results" / "tiny" / "replay.json").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def recorded(tiny: Path) -> str:
    """What a replay of these networks records, taken once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCLIB_ROOT", str(tiny))
        patch.setattr(replay, "source_commit", lambda: COMMIT)
        record(load_preset("tiny"), tiny / "results" / "tiny", silent)
    path = tiny / "results" / "tiny" / replay.FILE
    text = path.read_text()
    path.unlink()
    return text


@pytest.fixture
def kept(project: Path, recorded: str) -> Path:
    """The published records with their replay beside them."""
    (project / replay.FILE).write_text(recorded)
    return project


@pytest.fixture(scope="module")
def steps_then(tiny: Path) -> FirstSteps:
    """Steps of the network that has every part of a training, as they were taken before anything changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCLIB_ROOT", str(tiny))
        preset = load_preset("tiny")
        return first_steps(preset, "two_levels", 0, prepare_data(preset))


def test_first_steps_are_those_of_the_training(project: Path) -> None:
    """Of a set no larger than a replay's part: the mean over the first epoch's steps is the loss it has on record."""
    preset = load_preset("tiny")
    for method, n_steps in (("rotnet", 6), ("deepcluster", 6), ("supervised", 4)):
        steps = first_steps(preset, method, 0, prepare_data(preset))
        (loss,) = select(read_records(project / "records"), "loss", method=method)
        assert (len(steps.losses), len(steps.clusters)) == (n_steps, 48 if method == "deepcluster" else 0)
        assert float(np.float32(steps.losses[0])) != steps.losses[0]  # made in float64
        # what float32 rounds off grows from step to step; another order of the images would move it by some percent
        assert sum(steps.losses) / n_steps == pytest.approx(loss.value, rel=1e-4), method


def test_a_part_of_a_large_set_is_spread_over_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every class of a set that is sorted by classes is in it, and an epoch is as long as that of all images."""
    seen = []

    def load(config, part, *arguments, **options):
        seen.append(part)
        return task_pixels(config, part, *arguments, **options)

    monkeypatch.setattr(replay, "IMAGES", 8)
    monkeypatch.setattr(replay, "task_pixels", load)
    preset = load_preset("tiny")
    steps = first_steps(preset, "supervised", 0, prepare_data(preset))
    assert (seen[0].labels.tolist(), len(steps.losses)) == ([0, 0, 1, 1, 2, 2, 3, 3], 4)


def test_recorded_steps_are_taken_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command: recorded, and found again; with the last loss of one network changed, it is told and fails."""
    path = project / "replay.json"
    assert main(["replay", "--preset", "tiny", "--record"]) == 0
    before = path.read_text()
    assert main(["replay", "--preset", "tiny"]) == 0
    assert path.read_text() == before  # nothing new to tell: no page that shows it has to be made anew
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{name}-s0: {what}" for what in ("recorded", "same numbers") for name in sorted(METHODS)]
    content = json.loads(path.read_text())
    assert content["made"]["commit"] == COMMIT
    content["networks"]["rotnet-s0"]["losses"][-1] *= 1 + 2 * LOSS_TOLERANCE
    path.write_text(changed := json.dumps(content))
    monkeypatch.setattr(replay, "code_hash", lambda *_: "new code")
    assert main(["replay", "--preset", "tiny"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "same numbers" not in line] == [
        line for line in said if line.startswith("rotnet-s0: from step 6 the loss is another (")
    ]
    assert path.read_text() == changed  # what does not agree confirms nothing


def test_nothing_is_seen_where_nothing_changed(project: Path, steps_then: FirstSteps) -> None:
    preset = load_preset("tiny")
    now = first_steps(preset, "two_levels", 0, prepare_data(preset), clusters=steps_then.clusters)
    assert difference(steps_then, now) == ""


@pytest.mark.parametrize("part", ["crops", "loss", "learning rate", "clustering", "pictures"])
def test_a_change_of_numbers_is_seen(
    part: str, project: Path, steps_then: FirstSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a hundredth, or of one update less, in any part of the training."""
    preset, then = load_preset("tiny"), steps_then
    data = prepare_data(preset)
    draw, joint, set_rate, group, decode = (
        pixels.draw_crops, classes.joint_loss, pretrain.set_learning_rate, pseudo_labels.kmeans, replay.task_pixels
    )  # fmt: skip

    def louder(*arguments, **options):
        result = joint(*arguments, **options)
        return replace(result, loss=1.01 * result.loss)

    def darker(*arguments, **options):
        found = decode(*arguments, **options)
        return replace(found, decoded=(found.decoded * 0.99).to(torch.uint8))

    broken = {
        "crops": (pixels, "draw_crops", lambda h, w, area, rng: draw(h, w, 0.9 * area, rng)),
        "loss": (classes, "joint_loss", louder),
        "learning rate": (
            pretrain,
            "set_learning_rate",
            lambda state, config, progress: set_rate(state, replace(config, lr=1.01 * config.lr), progress),
        ),
        "clustering": (pseudo_labels, "kmeans", lambda *p, n_iter, **o: group(*p, n_iter=n_iter - 1, **o)),
        "pictures": (replay, "task_pixels", darker),
    }
    monkeypatch.setattr(*broken[part])
    said = difference(then, first_steps(preset, "two_levels", 0, data, clusters=then.clusters))
    assert ("in another cluster" if part == "clustering" else "from step") in said
    assert ("its images are others" in said) == (part == "pictures")


def test_steps_go_on_from_the_recorded_clusters(project: Path) -> None:
    """Whatever was found now: it is told, and decides no step."""
    preset = load_preset("tiny")
    data = prepare_data(preset)
    then = first_steps(preset, "deepcluster", 0, data)
    moved = [*((c + 1) % 6 for c in then.clusters[:8]), *then.clusters[8:]]
    now = first_steps(preset, "deepcluster", 0, data, clusters=moved)
    assert (now.clusters == then.clusters, now.losses == then.losses) == (True, False)


def test_on_a_cpu_that_rounds_in_another_way_the_first_step_is_compared(
    kept: Path, recorded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There all agrees but for what is rounded in the crops, and the steps after multiply it: nothing is confirmed."""
    preset, said = load_preset("tiny"), list[str]()
    monkeypatch.setattr(replay, "crop_rounding", lambda: "that of another kind")
    monkeypatch.setattr(replay, "code_hash", lambda *_: "new code")
    assert take_again(preset, kept, said.append)
    assert said == [f"{name}-s0: the same first step" for name in sorted(METHODS)]
    assert (kept / "replay.json").read_text() == recorded


def test_what_cannot_be_recorded_or_replayed_is_refused(
    project: Path, recorded: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records without a replay, or with that of others; code and settings that did not make them."""

    def refused(*arguments: str) -> str:
        assert main(["replay", "--preset", "tiny", *arguments]) == 2
        return capsys.readouterr().err

    assert "deepcluster-s0, rotnet-s0, supervised-s0, two_levels-s0 are not: run replay --record" in refused()
    assert "deepcluster-s0: the preset tiny now has another train.lr;" in refused("--record", "--set", "train.lr=0.1")
    with monkeypatch.context() as patch:
        patch.setattr(replay, "pretrain_code", lambda *_: "another")
        assert "was trained by code" in refused("--record")
    content = json.loads(recorded)
    networks = {name: {**row, "trained_by": "another"} for name, row in content["networks"].items()}
    (project / "replay.json").write_text(json.dumps({**content, "networks": networks}))
    assert "are not: run replay --record" in refused()


def test_other_settings_are_told_though_no_step_shows_them(kept: Path) -> None:
    said: list[str] = []
    assert not take_again(load_preset("tiny", {"train.epochs": 9}), kept, said.append)
    assert said == [f"{name}-s0: the preset tiny now has another train.epochs" for name in sorted(METHODS)]


def test_a_setting_that_came_later_is_no_other_one(project: Path) -> None:
    """Code goes on: a run card does not know what was added since."""
    preset = load_preset("tiny")
    card = trained_networks(project)[0]
    assert card.config["train"]["momentum"] == 0.9
    older = {key: value for key, value in card.config["train"].items() if key != "momentum"}
    assert other_settings(preset, replace(card, config={**card.config, "train": {**older, "forgotten": 1}})) == ""
    assert "train.lr" in other_settings(preset, replace(card, config={**card.config, "train": {**older, "lr": 1.0}}))
    assert "now has another init" in other_settings(preset, replace(card, config={**card.config, "init": "rotnet"}))


@pytest.mark.parametrize("commit", ["", "0123456789-changed"])
def test_code_that_is_in_no_commit_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch, commit: str) -> None:
    monkeypatch.setattr(replay, "source_commit", lambda: commit)
    with pytest.raises(ValueError, match=f"need a git checkout .* got {commit or 'none'}"):
        record(load_preset("tiny"), project, silent)
    assert not (project / "replay.json").exists()


def test_a_page_says_what_the_last_replay_found(project: Path, recorded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without running anything: code as it was, code that gives the same numbers, and code that was not looked at."""
    assert replay_sentence(project) == ""
    (project / replay.FILE).write_text(recorded)
    trained = "Its networks were trained by the code as it is in commit 0123456"
    assert replay_sentence(project) == f"{trained}, and it has not changed since."
    now = replay.code_hash
    monkeypatch.setattr(replayed, "code_hash", lambda *_: "new code")
    assert replay_sentence(project).startswith(f"{trained}. That code has changed since, and whether")
    monkeypatch.setattr(replay, "code_hash", lambda *_: "new code")
    assert take_again(load_preset("tiny"), project, silent)
    assert replay_sentence(project).startswith(
        f"{trained}. That code has changed since; a replay of each network's first 6 steps gives the same numbers"
    )
    monkeypatch.setattr(replayed, "code_hash", lambda *_: "newer code")
    assert "`python -m dclib replay --preset tiny` looks." in replay_sentence(project)
    monkeypatch.setattr(replayed, "code_hash", now)
    assert replay_sentence(project) == f"{trained}, and it has not changed since."


# --- what is published


@pytest.fixture(scope="module")
def pocket_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pool of the pocket world, of whose pictures only those are drawn that are looked at."""
    data = load_preset("pocket").data
    root = tmp_path_factory.mktemp("pocket") / "pool"
    for job in plan_pool(root, data.pocket_images, data.pocket_seed, drawn=False):
        job()
    return root


def published_data(preset: Preset, request: pytest.FixtureRequest) -> Data:
    """The pool of a published preset; skips where its photographs are not at hand."""
    if preset.data.root:
        root = request.getfixturevalue("shared_data")(str(Path(preset.data.root).relative_to("data")))
        return prepare_data(replace(preset, data=replace(preset.data, root=str(root))))
    root = request.getfixturevalue("pocket_pool")
    drawer = PoolDrawer(root, preset.data.pocket_images, preset.data.pocket_seed)
    return Data(root, replace(open_images(root), reader=drawer), None, None, None, None)


@pytest.mark.parametrize("results", PUBLISHED, ids=lambda path: path.name)
def test_published_networks_take_the_first_steps_they_took(
    results: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two of them here; all, and fifty steps of each, by the command ``replay``."""
    if not (results / replay.FILE).is_file():
        pytest.skip(f"needs {replay.FILE} beside the records: python -m dclib replay --preset {results.name} --record")
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    preset, (about, recorded) = load_preset(results.name), read_replay(results)
    steps = FEW if about["made"]["crop_rounding"] == replay.crop_rounding() else 1
    data, checked = published_data(preset, request), [name for name in CHECKED if f"{name}-s0" in recorded]
    assert checked
    for method in checked[-1:] if preset.data.root else checked:  # photographs are many, and one of both says enough
        then = recorded[f"{method}-s0"]
        now = first_steps(preset, method, 0, data, clusters=then.clusters, steps=steps)
        assert difference(then, now) == "", method
