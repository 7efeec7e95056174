"""Fine-tuning: schedules against torch's own, steps against a loop written out, and going on after a stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from notebook_cells import run_notebook
from tiny_images import (
    CLASSES,
    SIDE,
    TINY_MODEL,
    Interruption,
    interrupt_at,
    labelled,
    picture_tensor,
    silent,
    write_pictures,
)

from dclib.config import FinetuneConfig, Preset
from dclib.data.pixels import Pixels
from dclib.evaluate import finetune as module
from dclib.evaluate.classifier import Classifier
from dclib.evaluate.finetune import RECIPES, colour_network, finetune, rate_factor, scaled_epochs, scratch_network
from dclib.evaluate.finetune_runs import finetune_method
from dclib.models.vgg import Trunk
from dclib.presets import parse_preset, runs_folder
from dclib.randomness import derive_seed, generator
from dclib.records import Record, read_records
from dclib.report.provenance import find_mismatches
from dclib.train.runs import kept_pixels, prepare_data

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = FinetuneConfig(epochs=3, batch_size=8, lr=0.02, weight_decay=1e-3, dropout=0.0, crop_area=0.5)


def shapes(n: int, seed: int) -> Pixels:
    kinds = [CLASSES[i % 4] for i in range(n)]
    return labelled(picture_tensor(kinds, seed), [i % 4 for i in range(n)], 32)


@pytest.fixture(scope="module")
def train() -> Pixels:
    return shapes(33, 0)  # four batches of eight and one image more


@pytest.fixture(scope="module")
def test() -> Pixels:
    return shapes(16, 1)


@pytest.fixture
def start() -> Trunk:
    return scratch_network(TINY_MODEL, 5)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("epochs", [100, 10, 50])
def test_the_schedule_is_torchs_where_milestones_fall_on_epochs(recipe: str, epochs: int) -> None:
    total = scaled_epochs(recipe, epochs)
    assert total == RECIPES[recipe].epochs * epochs // 100
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    milestones = [m * epochs // 100 for m in RECIPES[recipe].milestones]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, RECIPES[recipe].factor)
    for epoch in range(total):
        assert rate_factor(recipe, epoch, epochs) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()


def test_the_recipes_are_the_supplements() -> None:
    assert (RECIPES["pytorch_doc"].epochs, RECIPES["pytorch_doc"].milestones, RECIPES["pytorch_doc"].factor) == (
        *(90, (30, 60)),
        0.1,
    )
    rates = [rate_factor("ours", epoch, 100) for epoch in (19, 20, 40, 60, 80, 99)]
    assert rates == pytest.approx([1, 0.2, 0.04, 0.008, 0.0016, 0.0016])


def test_an_epoch_is_that_of_a_loop_written_out(train: Pixels, test: Pixels, start: Trunk, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=2)
    done = finetune(start, train, test, config, "ours", folder=tmp_path, identity="x", seed=4)
    model = Classifier(start, 4, 0.0, generator(4, "fine-tuning layers"), plain_last=True).to(
        memory_format=torch.channels_last
    )
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    losses = []
    for epoch in range(2):
        order = torch.randperm(33, generator=generator(4, "fine-tuning order", epoch))
        rows = [order[:8], order[8:16], order[16:24], order[24:]]  # nine in the last: one image makes no batch
        seeds = [derive_seed(4, "fine-tuning crops", epoch, i) for i in range(4)]
        lr, total = 0.02 * (1, 0.2**2)[epoch], 0.0  # the second of two epochs is the 50th of 100
        model.train()
        for batch, images in zip(rows, train.crop_batches(rows, 0.5, seeds), strict=True):
            loss = F.cross_entropy(model(images), torch.from_numpy(train.images.labels)[batch])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                    v.mul_(0.9).add_(g + 1e-3 * p)
                    p.sub_(lr * v)
            total += float(loss.detach()) * len(batch)
        losses.append(total / 33)
    # the same operations in another order of additions: float32 over ten steps
    assert [e.loss for e in done] == pytest.approx(losses, rel=1e-4)


def test_every_layer_learns_and_the_start_is_left_as_it_was(train, test, start, tmp_path, monkeypatch) -> None:
    before = {k: v.clone() for k, v in start.state_dict().items()}
    seen = []
    monkeypatch.setattr(module, "Classifier", lambda *a, **k: seen.append(Classifier(*a, **k)) or seen[-1])
    finetune(start, train, test, CONFIG, "pytorch_doc", folder=tmp_path, identity="x", seed=0)
    assert all(torch.equal(before[k], v) for k, v in start.state_dict().items())
    after = seen[0].state_dict()
    assert not any(torch.equal(before[k], after[k]) for k in before if k.startswith("features."))


def test_a_run_that_was_stopped_ends_with_the_same_numbers(train, test, start, tmp_path, monkeypatch) -> None:
    config = replace(CONFIG, dropout=0.3)
    whole = finetune(start, train, test, config, "ours", folder=tmp_path / "a", identity="x", seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_train_epoch", interrupt_at(2, module._train_epoch))
        with pytest.raises(Interruption):
            finetune(start, train, test, config, "ours", folder=tmp_path / "b", identity="x", seed=1)
    resumed = finetune(start, train, test, config, "ours", folder=tmp_path / "b", identity="x", seed=1)
    assert resumed == whole
    monkeypatch.setattr(module, "_train_epoch", interrupt_at(0, module._train_epoch))
    assert finetune(start, train, test, config, "ours", folder=tmp_path / "b", identity="x", seed=1) == whole


def test_passes_give_every_share_its_steps_and_no_more_than_are_needed() -> None:
    config = replace(CONFIG, shares=(0.1, 1.0), steps=100)
    for images in (1, 7, 8, 9, 33, 100, 5000):
        batches = max(1, images // 8)
        least = next(n for n in range(1, 101) if 3 * batches * n >= 100)
        assert config.passes(images) == least
    assert CONFIG.passes(33) == 1
    assert [replace(CONFIG, shares=s).judged_share for s in ((1.0, 0.01, 0.1), (0.1, 1.0), (0.5,), ())] == [
        0.1,
        1,
        0.5,
        1,
    ]


def test_an_epoch_of_several_passes_is_as_many_epochs_of_one(train, test, start, tmp_path, monkeypatch) -> None:
    """At a constant rate six epochs and three of two passes are one and the same training, tested half as often."""
    monkeypatch.setattr(module, "rate_factor", lambda *_: 1.0)
    one = finetune(start, train, test, replace(CONFIG, epochs=6), "ours", folder=tmp_path / "a", identity="x")
    config = replace(CONFIG, shares=(1.0,), steps=17)  # three epochs of four whole batches have twelve
    two = finetune(start, train, test, config, "ours", folder=tmp_path / "b", identity="x")
    assert [e.top1 for e in two] == [e.top1 for e in one[1::2]]
    assert [e.loss for e in two] == pytest.approx(
        [(a.loss + b.loss) / 2 for a, b in zip(one[::2], one[1::2], strict=True)]
    )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Settings of two shares of 40 pictures of four classes, tested on 16; with one network, from scratch."""
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    for part, count in (("train", 40), ("test", 16)):
        write_pictures(tmp_path / "images" / part, count)
    return {
        "data": {
            **{"root": str(tmp_path / "images"), "pool": "train", "objects_train": "train", "objects_test": "test"},
            **{"scenes_train": "", "scenes_test": "", "resize": SIDE},
        },
        "model": {"image_size": 32, "width": 1 / 16, "hidden_dim": 16, "feature_dim": 16, "dropout": 0.0},
        "finetune": {"epochs": 2, "batch_size": 8, "shares": [0.2, 1.0], "steps": 8},
        "methods": {"random": None},
    }


def records_of(preset: Preset) -> list[Record]:
    return read_records(runs_folder() / preset.name / "records" / "finetune")


def asking(world: dict[str, object], **finetune: object) -> Preset:
    return parse_preset("asking", {**world, "finetune": {**world["finetune"], **finetune}})


def test_each_share_has_records_of_its_own_and_only_the_middle_ones_name_is_table_2s(world) -> None:
    finetune_method(asking(world), "random", 0)
    records = records_of(asking(world))
    found = {(r.name, r.keys["share"], r.keys["recipe"], r.keys["epoch"]) for r in records}
    names = {"20 %": ("share_top1", "share_loss"), "100 %": ("finetuned_top1", "finetune_loss")}
    assert found == {(n, s, r, e) for s, of in names.items() for n in of for r in RECIPES for e in (1, 2)}
    assert {(r.keys["share"], r.n) for r in records if r.name.endswith("loss")} == {("20 %", 8), ("100 %", 40)}
    assert {(r.card.notes["labels"], r.card.notes["passes"]) for r in records} == {("8 (20 %)", 4), ("40 (100 %)", 1)}
    finetune_method(asking(world), "random", 1)  # of other pictures of the same set
    assert find_mismatches(records_of(asking(world))) == []


def test_a_killed_share_goes_on_and_what_is_there_is_not_trained_again(world, monkeypatch, tmp_path) -> None:
    """Killed in the second training of four; then asked for a third share, which the other two are kept beside."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "_train_epoch", interrupt_at(13, module._train_epoch))
        with pytest.raises(Interruption):
            finetune_method(asking(world), "random", 0)
    assert len({r.keys["recipe"] for r in records_of(asking(world))}) == 1
    turns = []
    real = module._train_epoch
    monkeypatch.setattr(module, "_train_epoch", lambda *a: turns.append(len(a[2])) or real(*a))
    finetune_method(asking(world), "random", 0)
    assert turns == [8] * 4 + [40] * 4  # of the second training its second epoch of four passes, then two trainings
    resumed = numbers(records_of(asking(world)))
    finetune_method(asking(world, shares=[0.2, 0.5, 1.0]), "random", 0)
    assert turns[8:] == [20] * 8  # two recipes, two epochs of two passes
    kept = [r for r in records_of(asking(world)) if r.keys["share"] != "50 %"]
    assert numbers(kept) == resumed
    assert {r.name for r in kept} == {"share_top1", "share_loss"}
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "anew"))
    finetune_method(asking(world), "random", 0)
    assert numbers(records_of(asking(world))) == resumed


def numbers(records: Sequence[Record]) -> list[tuple[object, ...]]:
    return sorted((r.unit, r.keys["share"], r.keys["recipe"], r.keys["epoch"], r.value) for r in records)


def test_the_page_shows_the_shares_that_are_asked_for_and_none_that_once_were(world, tmp_path) -> None:
    """All labels; then three shares, of which 50 % are judged; then two, of which all are; then all labels again."""
    shown, left = [], []
    for shares in ([], [0.2, 0.5, 1.0], [0.2, 1.0], []):
        steps = 8 if shares else 0
        path = tmp_path / "asking.yaml"
        path.write_text(json.dumps({**world, "finetune": {**world["finetune"], "shares": shares, "steps": steps}}))
        shown.append(run_notebook("04_finetuning", preset=str(path)))
        left.append({(r.name, r.keys.get("share")) for r in records_of(asking(world)) if r.name.endswith("top1")})
    assert left[0] == left[3] == {("finetuned_top1", None)}
    assert left[1] == {("share_top1", "20 %"), ("finetuned_top1", "50 %"), ("share_top1", "100 %")}
    assert left[2] == {("share_top1", "20 %"), ("finetuned_top1", "100 %")}
    rows = [
        [line.split("|")[1].strip() for line in text.splitlines() if " %, from " in line and "|" in line]
        for text in shown
    ]
    assert rows == [[], *([f"{n} %, from scratch" for n in of] for of in ((20, 50, 100), (20, 100))), []]
    assert "(50 % of the labels)" in shown[1]
    assert "asks for no shares" in shown[0]


def test_a_share_without_an_image_of_each_class_is_refused_before_any_training(world, monkeypatch) -> None:
    monkeypatch.setattr(module, "_train_epoch", interrupt_at(0, module._train_epoch))
    with pytest.raises(ValueError, match=r"finetune\.shares needs an image of each of 4 classes; 0\.05 of 40"):
        finetune_method(asking(world, shares=[1.0, 0.05]), "random", 0)


def test_without_shares_records_have_the_keys_and_numbers_of_a_training_alone(world, train, tmp_path) -> None:
    plain = asking(world, shares=[], steps=0)
    finetune_method(plain, "random", 0)
    records = records_of(plain)
    assert {(r.name, *r.keys) for r in records} == {(n, "recipe", "epoch") for n in ("finetuned_top1", "finetune_loss")}
    data = prepare_data(plain)
    pixels = [kept_pixels(plain, "random", images, scan=True) for images in (data.objects_train, data.objects_test)]
    alone = finetune(
        scratch_network(plain.method("random").model, 0),
        *pixels,
        plain.finetune,
        "ours",
        folder=tmp_path / "c",
        identity="x",
    )
    assert [r.value for r in records if r.name == "finetune_loss" and r.keys["recipe"] == "ours"] == [
        e.loss for e in alone
    ]


@pytest.mark.parametrize(
    "wrong", [{"shares": [0.0]}, {"shares": [0.1, 0.1]}, {"shares": [1.5]}, {"shares": [], "steps": 5}, {"steps": -1}]
)
def test_shares_out_of_range_are_refused(world, wrong) -> None:
    with pytest.raises(ValueError, match="finetune: need"):
        asking(world, **wrong)


def test_a_checkpoint_of_something_else_is_refused(train, test, start, tmp_path) -> None:
    finetune(start, train, test, CONFIG, "ours", folder=tmp_path, identity="x")
    with pytest.raises(ValueError, match="another configuration"):
        finetune(start, train, test, CONFIG, "ours", folder=tmp_path, identity="y")


def test_shapes_are_learnt(train, test, start, tmp_path) -> None:
    config = replace(CONFIG, epochs=16, lr=0.05)
    done = finetune(start, train, test, config, "ours", folder=tmp_path, identity="x", report=silent)
    assert len(done) == 16
    assert done[-1].loss < 0.6 * done[0].loss
    assert max(e.top1 for e in done) > 50  # of four classes


def test_what_is_started_from() -> None:
    sobel = Trunk(TINY_MODEL, generator(0))
    assert colour_network(sobel).config.stem == "folded"
    rgb = Trunk(replace(TINY_MODEL, stem="rgb"), generator(0))
    assert colour_network(rgb) is rgb
    one, same, other = (scratch_network(TINY_MODEL, seed) for seed in (0, 0, 1))
    assert one.config.stem == "rgb"
    assert torch.equal(one.features[0].weight, same.features[0].weight)
    assert not torch.equal(one.features[0].weight, other.features[0].weight)


def test_bad_input_is_refused_before_any_training(train, test, start, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_train_epoch", interrupt_at(0, module._train_epoch))
    with pytest.raises(ValueError, match="unknown recipe 'mine'; there are pytorch_doc, ours"):
        finetune(start, train, test, CONFIG, "mine", folder=tmp_path, identity="x")
    with pytest.raises(ValueError, match="fold Sobel into it first"):
        finetune(Trunk(TINY_MODEL, generator(0)), train, test, CONFIG, "ours", folder=tmp_path, identity="x")


def test_a_rate_that_explodes_is_told(train, test, start, tmp_path) -> None:
    with pytest.raises(FloatingPointError, match=r"lower finetune\.lr"):
        finetune(start, train, test, replace(CONFIG, lr=1e8), "ours", folder=tmp_path, identity="x")
