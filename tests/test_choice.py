"""Choosing and stopping by VOC2007, train to val; and what the folded first layer sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_voc_classification import voc_folder
from tiny_images import TINY_MODEL, decoded_pixels, method_config, silent, write_pictures

from dclib.config import ChoiceConfig, MethodConfig, Preset
from dclib.data.layouts import open_images
from dclib.evaluate import choice as module
from dclib.evaluate import voc_runs
from dclib.evaluate.choice import changed_method, choose_setting
from dclib.evaluate.first_layer import look_through
from dclib.evaluate.networks import trained_network
from dclib.evaluate.validation import open_voc_splits, voc_validator
from dclib.evaluate.voc import VocResult
from dclib.models.vgg import Trunk
from dclib.presets import parse_preset
from dclib.randomness import generator
from dclib.records import read_records, select
from dclib.train.pretrain import pretrain
from dclib.train.start import Validator

pytestmark = pytest.mark.usefixtures("one_thread")


def world(root: Path, *, voc: bool = True) -> Path:
    write_pictures(root / "pool", 32, seed=0)
    write_pictures(root / "objects" / "train", 16, seed=1)
    write_pictures(root / "objects" / "val", 8, seed=2)
    if voc:
        voc_folder(voc_folder(root / "VOC2007", 12, split="train"), 12, split="val")
    return root


def preset_of(root: Path, **sections: object) -> Preset:
    raw: dict[str, object] = {
        "data": {"root": str(root), "scenes_train": "", "scenes_test": "", "resize": 36},
        "model": {"image_size": 32, "width": 1 / 16, "hidden_dim": 16, "feature_dim": 16, "dropout": 0.0},
        "train": {"epochs": 4, "epoch_images": 16, "batch_size": 16, "lr": 0.05, "crop_area": 0.5},
        "voc": {"validation_iterations": 2, "batch_size": 4, "dropout": 0.0, "test_crops": 1},
        "methods": {"rotnet": None},
    }
    return parse_preset("tiny", {**raw, **sections})


# which splits are measured


def test_voc_is_classified_from_train_to_val_and_from_trainval_to_test(tmp_path: Path, monkeypatch) -> None:
    """With the steps of each; only what stands in Table 4 has its convolutions trained as well."""
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    root = world(tmp_path / "world")
    for split in ("trainval", "test"):
        voc_folder(root / "VOC2007", 12, split=split)
    preset = preset_of(root, methods={"random": None, "rotnet": {"train": {"epochs": 1}}})
    preset = replace(preset, voc=replace(preset.voc, iterations=9))
    seen = []

    def classify(trunk, train, test, config, *, setting, iterations, **rest) -> VocResult:
        seen.append((setting, train.images.name, test.images.name, iterations))
        return VocResult({"disc": 10.0 * len(seen)}, {"disc": 4}, (), 12)

    monkeypatch.setattr(voc_runs, "classify_voc", classify)
    for method in preset.methods:
        voc_runs.voc_method(preset, method, 0)
    frozen = [("fc68", "VOC2007 train", "VOC2007 val", 2), ("fc68", "VOC2007 trainval", "VOC2007 test", 9)]
    assert seen == [*frozen, *frozen, ("all", "VOC2007 trainval", "VOC2007 test", 9)]
    records = read_records(tmp_path / "runs" / "tiny" / "records" / "voc")
    found = {(r.card.method, r.keys["setting"], r.keys["split"]): r.value for r in select(records, "voc_map")}
    assert found == {
        ("random", "fc68", "val"): 10.0,
        ("random", "fc68", "test"): 20.0,
        ("rotnet", "fc68", "val"): 30.0,
        ("rotnet", "fc68", "test"): 40.0,
        ("rotnet", "all", "test"): 50.0,
    }
    assert {r.keys["split"]: r.card.notes["iterations"] for r in records} == {"val": 2, "test": 9}
    assert {(r.card.notes["classes"], r.card.notes["test_crops"]) for r in records} == {(3, 1)}
    for method in preset.methods:
        voc_runs.voc_method(preset, method, 0)
    assert len(seen) == 5  # current records are not made again


# choosing


def test_every_value_is_trained_and_scored_and_the_best_is_noted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    choice = {"method": "rotnet", "values": [0.001, 0.05], "epochs": 1}
    preset = preset_of(world(tmp_path / "world"), choice=choice)
    scores = {0.001: 12.0, 0.05: 34.0}
    seen = []

    def score(preset_, trunk, splits, seed) -> float:
        seen.append([split.images.name for split in splits])
        return list(scores.values())[len(seen) - 1]

    monkeypatch.setattr(module, "validation_score", score)
    choose_setting(preset, 0)
    records = read_records(tmp_path / "runs" / "tiny" / "records")
    assert {r.keys["tried"]: r.value for r in select(records, "choice_map")} == {"0.001": 12.0, "0.05": 34.0}
    assert {r.card.notes["best"] for r in records} == {0.05}
    assert {r.card.method for r in records} == {"rotnet"}
    assert seen == [["VOC2007 train", "VOC2007 val"]] * 2  # never the test split
    # the trials' own runs and records are elsewhere
    assert not list((tmp_path / "runs" / "tiny").glob("records/pretrain/*"))
    choose_setting(preset, 0)
    assert len(seen) == 2  # current records are not made again


def test_without_a_choice_or_without_voc_nothing_is_done(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    choose_setting(preset_of(world(tmp_path / "a")), 0)
    root = world(tmp_path / "b", voc=False)
    choose_setting(preset_of(root, choice={"method": "rotnet", "values": [0.1, 0.2]}), 0)
    assert not (tmp_path / "runs" / "tiny" / "records").exists()


@pytest.mark.parametrize(("key", "value", "expected"), [("train.lr", 0.5, 0.5), ("train.batch_size", 32.0, 32)])
def test_one_setting_is_changed_and_no_other(key: str, value: float, expected: float) -> None:
    config = method_config("rotnet", train={"patience": 2})
    choice = ChoiceConfig(method="rotnet", key=key, values=(value, 2 * value), epochs=1)
    changed = changed_method(config, choice, value)
    assert getattr(changed.train, key.removeprefix("train.")) == expected
    assert (changed.train.epochs, changed.train.patience) == (1, 0)
    assert (changed.model, changed.cluster, changed.train.momentum) == (
        config.model,
        config.cluster,
        config.train.momentum,
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lr", 0.1, "choice.key must be section.setting with a section of model, cluster, train"),
        ("train.rate", 0.1, "unknown key 'rate'"),
        ("train.lr", -1.0, "lr > 0"),
        ("train.batch_size", 2.5, "must be int"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_training(key: str, value: float, message: str) -> None:
    choice = ChoiceConfig(method="rotnet", key=key, values=(value, value))
    with pytest.raises(ValueError, match=message):
        changed_method(MethodConfig(method="rotnet"), choice, value)


def test_a_choice_among_methods_that_are_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choice.method must be one of rotnet; got 'simclr'"):
        preset_of(tmp_path, choice={"method": "simclr", "values": [0.1, 0.2]})


# stopping


def stopped_run(tmp_path: Path, scores: list[float], **train: object) -> tuple[list[float], dict[str, str], int]:
    """Validation scores, notes and epochs of a run whose validator gives ``scores`` one after the other."""
    pixels = decoded_pixels(open_images(write_pictures(tmp_path / "pool", 24)))
    config = method_config("rotnet", train={"epochs": 6, "epoch_images": 16, **train})
    waiting = iter(scores)
    judge = Validator(lambda trunk: next(waiting), "planted")
    state = pretrain(pixels, config, folder=tmp_path / "run", validator=judge, report=silent)
    return [r["validation_map"] for r in state.history if "validation_map" in r], state.notes, state.epoch


@pytest.mark.parametrize(
    ("scores", "patience", "epochs"),
    [
        ([10, 20, 19, 18, 99, 99], 2, 4),  # two without a new best
        ([10, 20, 20, 20, 99, 99], 2, 4),  # a tie is no new best
        ([10, 9, 11, 10, 12, 13], 2, 6),
        ([10, 9, 8, 7, 6, 5], 1, 2),
        ([1, 2, 3, 4, 5, 6], 1, 6),
    ],
)
def test_training_ends_after_so_many_validations_without_a_new_best(tmp_path, scores, patience, epochs) -> None:
    seen, notes, trained = stopped_run(tmp_path, scores, patience=patience)
    assert (seen, trained) == (scores[:epochs], epochs)
    assert ("stopped" in notes) == (epochs < 6)


def test_validations_may_be_further_apart(tmp_path: Path) -> None:
    seen, notes, trained = stopped_run(tmp_path, [5, 4], patience=1, validate_every=2)
    assert (seen, trained) == ([5, 4], 4)
    assert notes["stopped"] == "after epoch 4: no new best in 1 validations"


def test_without_patience_nothing_is_validated(tmp_path: Path) -> None:
    assert stopped_run(tmp_path, [])[0] == []


def test_patience_without_a_judge_is_refused_before_training(tmp_path: Path) -> None:
    images = open_images(write_pictures(tmp_path / "pool", 24))
    with pytest.raises(ValueError, match=r"train\.patience needs a validator"):
        pretrain(images, method_config("rotnet", train={"patience": 1}), folder=tmp_path / "run")


def test_a_judge_does_not_change_what_is_learnt(tmp_path: Path) -> None:
    """Its draws and its modes are its own: the weights are those of a run without it."""

    def disturb(trunk: Trunk) -> float:
        torch.rand(7)
        return float(len(calls.append(0) or calls))

    pixels = decoded_pixels(open_images(write_pictures(tmp_path / "pool", 24)))
    weights = []
    for name, patience in (("with", 9), ("without", 0)):
        calls: list[int] = []
        config = method_config("deepercluster", train={"patience": patience})
        judge = Validator(disturb, "planted")
        state = pretrain(pixels, config, folder=tmp_path / name, validator=judge, report=silent)
        weights.append(state.trunk.state_dict())
    assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())


def test_a_preset_with_patience_stops_by_voc_and_records_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    train = {"epochs": 3, "epoch_images": 16, "batch_size": 16, "lr": 1e-6, "crop_area": 0.5, "patience": 1}
    preset = preset_of(world(tmp_path / "world"), train=train)
    trained_network(preset, "rotnet", 0)
    found = select(read_records(tmp_path / "runs" / "tiny" / "records"), "validation_map")
    assert 2 <= len(found) <= 3
    assert all(r.unit == "%" and 0 <= r.value <= 100 for r in found)
    assert found[0].card.notes.get("stopped", "").startswith("after epoch") == (len(found) == 2)


def test_patience_without_voc_says_what_to_do(tmp_path: Path) -> None:
    preset = preset_of(world(tmp_path / "world", voc=False))
    assert open_voc_splits(preset, "train", "val") is None
    with pytest.raises(ValueError, match=r"put it in 'VOC2007' below the images, name its folder in data\.voc"):
        voc_validator(preset, 0)


# the first layer


def test_the_first_layer_is_the_same_before_and_after_folding() -> None:
    trunk = Trunk(TINY_MODEL, generator(0)).eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8))
    seen = look_through(trunk, image, n_filters=3)
    assert seen.gradients.shape == (2, 42, 58)
    assert seen.responses.shape == (3, 42, 58)
    assert seen.filters.shape == (3, 3, 5, 5)
    assert 0 < seen.difference < 1e-5 * seen.scale  # float32
    responses = trunk.features[0](torch.from_numpy(seen.gradients)[None])[0].detach()
    strengths = responses.flatten(1).std(dim=1)
    assert sorted(seen.chosen) == sorted(strengths.argsort(descending=True)[:3].tolist())


def test_a_large_photograph_is_shrunk_and_left_as_it_was() -> None:
    image = Image.new("RGB", (1200, 900))
    seen = look_through(Trunk(TINY_MODEL, generator(0)).eval(), image)
    assert seen.gradients.shape == (2, 386, 514)
    assert image.size == (1200, 900)
