"""Fine-tuning: schedules against torch's own, steps against a loop written out, and going on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_images import CLASSES, TINY_MODEL, Interruption, interrupt_at, labelled, picture_tensor, silent

from dclib.config import FinetuneConfig
from dclib.data.pixels import Pixels
from dclib.evaluate import finetune as module
from dclib.evaluate.classifier import Classifier
from dclib.evaluate.finetune import RECIPES, colour_network, finetune, rate_factor, scaled_epochs, scratch_network
from dclib.models.vgg import Trunk
from dclib.randomness import derive_seed, generator

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
