"""A training step: the plain formulation of it, bfloat16, a batch in parts, and nothing that waits for a device."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from tiny_images import (
    TINY_MODEL,
    Interruption,
    decoded_pixels,
    interrupt_at,
    method_config,
    silent,
    write_pictures,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dclib.config import MethodConfig, TrainConfig
from dclib.data.layouts import open_images
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan
from dclib.data.transforms import quarter_turn
from dclib.models import batch_norm
from dclib.models.batch_norm import BatchNorm2d
from dclib.models.device import Replayed, products_in, replayed
from dclib.models.sobel import Stem
from dclib.models.vgg import Trunk
from dclib.precision import chosen_precision
from dclib.randomness import generator
from dclib.train import features, placement
from dclib.train import pretrain as loop
from dclib.train.features import extract_features, feature_batches
from dclib.train.placement import Placement
from dclib.train.pretrain import pretrain, train_step
from dclib.train.state import State
from dclib.train.tasks import classes

ROOT = Path(__file__).resolve().parent.parent
BATCH = 32
# wide enough for roundings to average out; four turns of two super-clusters with six sub-classes each
MODEL = replace(TINY_MODEL, width=1 / 8, hidden_dim=64, feature_dim=32)
CONFIG = method_config("deepercluster", model=MODEL, cluster={"n_super": 2}, train={"batch_size": BATCH})
SIDE = MODEL.image_size
LOW = replace(CONFIG, train=replace(CONFIG.train, precision="bfloat16"))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Pixels:
    return decoded_pixels(open_images(write_pictures(tmp_path_factory.mktemp("pictures"), 64)))


def begin(pixels: Pixels, config: MethodConfig) -> tuple[State, EpochPlan]:
    """A state with random labels, and its first epoch."""
    state = State.begin(config, pixels, 0, torch.device("cpu"), None)
    draws = torch.Generator().manual_seed(7)
    state.task.labels.super_cluster.copy_(torch.arange(64) % 2)
    state.task.labels.sub_class.copy_(torch.randint(6, (64,), generator=draws))
    return state, state.task.plan_epoch(0)


def batch_of(pixels: Pixels, plan: EpochPlan, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.arange(len(plan.index))[plan.batch(step)]
    return pixels.decoded[plan.index[rows], :, 2:34, 2:34].float() / 255, rows


def take_steps(pixels: Pixels, config: MethodConfig, steps: int = 3) -> tuple[State, torch.Tensor]:
    state, plan = begin(pixels, config)
    return state, torch.stack(
        [train_step(state, *_of(pixels, plan, step % len(plan)), config.train) for step in range(steps)]
    )


def _of(pixels: Pixels, plan: EpochPlan, step: int) -> tuple[list[torch.Tensor], EpochPlan, torch.Tensor]:
    images, rows = batch_of(pixels, plan, step)
    return [images], plan, rows


def plain_loss(state: State, images: torch.Tensor, plan: EpochPlan, rows: torch.Tensor) -> torch.Tensor:
    """Both cross-entropies of some images, each head's members looked for by their label."""
    turned = quarter_turn(images, plan.turn[rows]).contiguous(memory_format=torch.channels_last)
    seen = F.relu(state.trunk(turned))
    super_class, sub_class, heads = plan.super_class[rows], plan.sub_class[rows], state.task.head
    scores = F.linear(seen, heads.super_weight, heads.super_bias)
    loss = F.cross_entropy(scores, super_class, reduction="sum") / BATCH
    for s in range(heads.n_super_classes):
        here = super_class == s
        scores = F.linear(seen[here], heads.sub_weight[s], heads.sub_bias[s])
        loss = loss + F.cross_entropy(scores, sub_class[here], reduction="sum") / BATCH
    return loss


def plain_steps(pixels: Pixels, config: MethodConfig, parts: int = 1, steps: int = 3) -> tuple[State, list[float]]:
    """The steps without a fused kernel or autocast; sub-class heads learn S times as fast."""
    state, plan = begin(pixels, config)
    own = [*state.trunk.parameters(), *state.task.head.parameters()]
    faster = {id(p): float(state.task.head.n_super_classes) for p in state.task.head.sub_parameters()}
    train = config.train
    plain = torch.optim.SGD(own, train.lr, train.momentum, weight_decay=train.weight_decay, foreach=False, fused=False)
    state.trunk.train()
    losses = []
    for step in range(steps):
        images, rows = batch_of(pixels, plan, step % len(plan))
        parted = []
        plain.zero_grad()
        rounds = torch.arange(BATCH).view(-1, 8)  # of the eight super-classes
        for part in (rounds[first::parts].flatten() for first in range(parts)):
            loss = plain_loss(state, images[part], plan, rows[part])
            parted.append(loss.detach())
            for p, gradient in zip(own, torch.autograd.grad(loss, own), strict=True):
                gradient = gradient * faster.get(id(p), 1.0)
                p.grad = gradient if p.grad is None else p.grad + gradient
        plain.step()
        losses.append(float(torch.stack(parted).sum()))
    return state, losses


def weights(state: State) -> dict[str, torch.Tensor]:
    return {**state.trunk.state_dict(), **state.task.head.state_dict()}


# --- float32


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_step_is_the_plain_one(pixels, parts):
    """Also where a batch comes in parts, each with statistics of its own for batch norm."""
    config = replace(CONFIG, train=replace(CONFIG.train, accumulate=parts))
    state, taken = take_steps(pixels, config)
    expected, losses = plain_steps(pixels, config, parts)
    assert taken[:, 0].tolist() == losses
    for name, value in weights(state).items():
        assert torch.equal(value, weights(expected)[name]), name


def test_parts_have_the_gradient_of_the_whole_but_for_batch_norm(pixels, monkeypatch):
    """With running averages in its place nothing is left that a part could differ by."""
    found = {}
    for parts in (1, 4):
        config = replace(CONFIG, train=replace(CONFIG.train, accumulate=parts))
        state, plan = begin(pixels, config)
        state.trunk.eval()
        monkeypatch.setattr(state.trunk, "train", lambda: None)
        with patch.object(state.task, "add_gradients", wraps=state.task.add_gradients) as calls:
            train_step(state, *_of(pixels, plan, 0), config.train)
        taken = [call.args[3] for call in calls.call_args_list]
        shares = [torch.bincount(plan.super_class[rows], minlength=8).tolist() for rows in taken]
        assert shares == [[BATCH // parts // 8] * 8] * parts
        assert sorted(torch.cat(taken).tolist()) == list(range(BATCH))
        found[parts] = {
            name: p.grad for name, p in [*state.trunk.named_parameters(), *state.task.head.named_parameters()]
        }
    for name, gradient in found[1].items():
        # float32 sums of a few thousand numbers in another order
        torch.testing.assert_close(found[4][name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))


def test_parts_are_refused_where_they_are_too_small(monkeypatch):
    for accumulate in (0, 17):
        with pytest.raises(ValueError, match=f"accumulate from 1 to 16.*got {accumulate}"):
            TrainConfig(batch_size=32, accumulate=accumulate)
    monkeypatch.setattr(placement, "world_size", lambda: 8)
    with pytest.raises(ValueError, match="batch_size >= 136, an image for each of 8 processes in each of 5 parts"):
        Placement.of(TrainConfig(batch_size=128, accumulate=5), 4)


# --- bfloat16


def gradients(pixels: Pixels, config: MethodConfig, *, rounded: bool = False) -> dict[str, torch.Tensor]:
    """Of the first step, as one vector for each part; ``rounded`` starts from weights that bfloat16 can hold."""
    state, plan = begin(pixels, config)
    for p in state.trunk.parameters() if rounded else []:
        p.data = p.data.bfloat16().float()
    train_step(state, *_of(pixels, plan, 0), config.train)
    parts = {"convolutions": state.trunk.features, "fully connected": state.trunk.classifier, "heads": state.task.head}
    return {name: torch.cat([p.grad.flatten() for p in part.parameters()]) for name, part in parts.items()}


def test_bfloat16_gradients_are_near_those_of_float32(pixels):
    exact, low, rounded = gradients(pixels, CONFIG), gradients(pixels, LOW), gradients(pixels, CONFIG, rounded=True)
    error = {name: float((low[name] - exact[name]).norm() / exact[name].norm()) for name in exact}
    control = {name: float((rounded[name] - exact[name]).norm() / exact[name].norm()) for name in exact}
    # roundings of 2^-9 in 15 layers, which add up like random ones, to 1.5 % at the heads
    assert 0.002 < error["heads"] < 0.04
    # further down what counts is which ReLUs and pools switch: their share goes with the square root of the error, so
    # that even one rounding of the weights moves a gradient by 10 and 30 %. bfloat16 rounds three times a layer
    for name in ("fully connected", "convolutions"):
        assert error[name] < 3 * control[name], name
        assert F.cosine_similarity(low[name], exact[name], dim=0) > (0.95 if name == "fully connected" else 0.8), name


def test_bfloat16_learns_as_float32_does(pixels):
    steady = [replace(c, train=replace(c.train, lr=0.02)) for c in (CONFIG, LOW)]
    exact, low = (take_steps(pixels, config, 12)[1][:, 0] for config in steady)
    assert exact[-1] < 0.6 * exact[0]
    assert not torch.equal(exact, low)
    # the first within the rounding of features; then gradients that are 30 % off in no one direction, for 12 steps
    assert abs(low[0] / exact[0] - 1) < 0.002
    torch.testing.assert_close(low, exact, rtol=0.04, atol=0)


class Types(TorchDispatchMode):
    """The type of the factors of each product, and of what each batch normalisation and loss comes with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("convolution", "convolution_backward", "addmm", "mm", "_log_softmax"):
            self.seen.setdefault(name, set()).update(x.dtype for x in args if isinstance(x, torch.Tensor))
        if name == "native_batch_norm":
            self.seen.setdefault(name, set()).update(x.dtype for x in result[1:])  # mean and deviation
        return result


def test_products_are_bfloat16_and_sums_are_float32(pixels):
    state, plan = begin(pixels, LOW)
    with Types() as types:
        loss = train_step(state, *_of(pixels, plan, 0), LOW.train)
    low, exact = {torch.bfloat16}, {torch.float32}
    assert types.seen == {
        "convolution": low,
        "convolution_backward": low,
        "addmm": low,
        "mm": low,
        "native_batch_norm": exact,
        "_log_softmax": exact,
    }
    assert loss.dtype == torch.float32
    kept = tree_leaves(state.snapshot())
    assert {x.dtype for x in kept if isinstance(x, torch.Tensor)} == {torch.float32, torch.int64}
    assert {p.grad.dtype for p in state.trunk.parameters()} == exact


def test_sobel_is_exact_under_autocast():
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with products_in("bfloat16", torch.device("cpu")):
        low = Stem("sobel")(images)
    assert torch.equal(low, Stem("sobel")(images))


@pytest.mark.parametrize("shared", [False, True])
def test_batch_norm_of_bfloat16_maps_has_statistics_in_float32(shared, monkeypatch):
    """Against formulas in float64 on the same maps; their mean is far from zero, where bfloat16 is coarse."""
    monkeypatch.setattr(batch_norm, "is_distributed", lambda: shared)  # a team of one
    draws = torch.Generator().manual_seed(3)
    maps = (3 + torch.randn(16, 5, 6, 6, generator=draws)).bfloat16().requires_grad_()
    layer = BatchNorm2d(5).train()
    layer.weight.data.uniform_(0.5, 2, generator=draws)
    out = layer(maps)
    assert (out.dtype, layer.running_mean.dtype) == (torch.bfloat16, torch.float32)
    x = maps.detach().double().requires_grad_()
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    expected = (x - mean.view(1, -1, 1, 1)) / (variance + 1e-5).sqrt().view(1, -1, 1, 1)
    expected = expected * layer.weight.detach().double().view(1, -1, 1, 1)
    # float32 sums of 576 numbers near 3; in bfloat16 the mean alone would be 0.006 off
    torch.testing.assert_close(layer.running_mean.double(), 0.1 * mean.detach(), rtol=1e-5, atol=0)
    unbiased = variance.detach() * 576 / 575
    torch.testing.assert_close(layer.running_var.double(), 0.9 + 0.1 * unbiased, rtol=1e-5, atol=0)
    torch.testing.assert_close(out.double(), expected.detach(), rtol=2**-8, atol=1e-5)  # rounded once, at the end
    upstream = torch.randn(out.shape, generator=draws).bfloat16()
    out.backward(upstream)
    expected.backward(upstream.double())
    assert maps.grad.dtype == torch.bfloat16
    torch.testing.assert_close(maps.grad.double(), x.grad, rtol=2**-8, atol=1e-4)
    own = (upstream.double() * expected.detach()).sum(dim=(0, 2, 3)) / layer.weight.detach().double()
    torch.testing.assert_close(layer.weight.grad.double(), own, rtol=1e-4, atol=1e-3)


def test_features_in_bfloat16_are_near_and_those_of_a_finished_network_are_float32(pixels):
    trunk = State.begin(LOW, pixels, 0, torch.device("cpu"), None).trunk
    exact = extract_features(trunk, pixels).values
    low = torch.cat(list(feature_batches(trunk, pixels, range(64), 16, "bfloat16")))
    assert low.dtype == torch.float32
    assert torch.equal(exact, torch.cat(list(feature_batches(trunk, pixels, range(64), 256))))
    # roundings of 2^-9 in 15 layers, with what is common to all images taken out
    assert 0.001 < (low - exact).norm() / (exact - exact.mean(dim=0)).norm() < 0.1


# --- a run


def test_a_run_goes_on_in_its_precision(pixels, tmp_path, monkeypatch):
    asked: list[str] = []

    def noted(precision: str, device: torch.device) -> torch.autocast:
        asked.append(precision)
        return products_in(precision, device)

    for module in (classes, features):
        monkeypatch.setattr(module, "products_in", noted)
    whole = pretrain(pixels, LOW, folder=tmp_path / "whole", report=silent)
    with monkeypatch.context() as broken:
        broken.setattr(loop, "train_step", interrupt_at(1, loop.train_step))
        with pytest.raises(Interruption):
            pretrain(pixels, LOW, folder=tmp_path / "broken", save_every=0.0, report=silent)
    resumed = pretrain(pixels, LOW, folder=tmp_path / "broken", report=silent)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())
    assert set(asked) == {"bfloat16"}  # in steps and in the features that are clustered
    assert len(asked) > 6
    with pytest.raises(ValueError, match="belongs to another configuration"):
        pretrain(pixels, CONFIG, folder=tmp_path / "broken", report=silent)
    assert all(math.isfinite(row["loss"]) for row in resumed.history if "loss" in row)


@pytest.mark.parametrize(
    ("instructions", "chosen"),
    [
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx2": True}, "float32"),
        ({}, "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_machine_has_instructions_for_it(
    instructions, chosen, pixels, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    auto, same = (
        pretrain(pixels, replace(CONFIG, train=replace(CONFIG.train, precision=p)), folder=tmp_path / p, report=silent)
        for p in ("auto", chosen)
    )
    assert all(torch.equal(value, weights(same)[name]) for name, value in weights(auto).items())


@pytest.mark.parametrize(("limit", "chosen"), [("AVX2", "float32"), ("avx512_core_bf16", "bfloat16"), ("", "bfloat16")])
def test_auto_keeps_to_the_instructions_that_may_be_used(limit, chosen, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert chosen_precision("auto", torch.device("cpu")) == chosen


def test_other_precisions_are_refused():
    for word in ("float16", "half", "bf16", ""):
        with pytest.raises(ValueError, match=f"need precision float32, bfloat16 or auto; got {word}"):
            TrainConfig(precision=word)


# --- nothing waits

WAITING = (
    "_local_scalar_dense",
    "nonzero",
    "is_nonzero",
    "masked_select",
    "bincount",
    "_unique2",
    "unique_dim",
    "equal",
)


class Waits(TorchDispatchMode):
    """Follows what is computed from tensors of a device, and notes where the processor would wait for it.

    The device is the CPU as well, so it is told by storage what is on it: what was sent, and what came of that.
    """

    def __init__(self, there: list[torch.Tensor]) -> None:
        super().__init__()
        self.kept = there  # alive, so that no other tensor gets their place
        self.there = {self.place(x) for x in there}
        self.found: list[str] = []

    @staticmethod
    def place(x: torch.Tensor) -> int:
        return x.untyped_storage().data_ptr()

    def send(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        return self.add(x.clone())

    def add(self, x: torch.Tensor) -> torch.Tensor:
        self.kept.append(x)
        self.there.add(self.place(x))
        return x

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        result = func(*args, **(kwargs or {}))
        if any(self.place(x) in self.there for x in given):
            name = func.overloadpacket.__name__
            by_mask = name == "index" and any(x.dtype == torch.bool for x in given[1:])
            from_host = [x for x in given if x.dim() and self.place(x) not in self.there and x.numel()]
            if name in WAITING or by_mask or (from_host and name not in ("zeros_like", "empty_like")):
                self.found.append(name)
            for x in tree_leaves(result):
                if isinstance(x, torch.Tensor):
                    self.add(x)
        return result


@contextmanager
def watched(state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    modules = [*state.trunk.state_dict().values(), *state.trunk.buffers(), *state.task.head.parameters()]
    waits = Waits([x.detach() for x in modules])
    for module in ("dclib.train.tasks.classes.send", "dclib.models.heads.send"):
        monkeypatch.setattr(module, waits.send)
    with waits:
        yield waits


@pytest.mark.parametrize("config", [CONFIG, LOW], ids=["float32", "bfloat16"])
def test_a_step_never_waits_for_its_device(pixels, config, monkeypatch):
    state, plan = begin(pixels, config)
    with watched(state, monkeypatch) as waits:
        for step in range(2):
            train_step(state, *_of(pixels, plan, step % len(plan)), config.train)
    assert waits.found == []


def test_the_watch_sees_what_waits(pixels, monkeypatch):
    state, plan = begin(pixels, CONFIG)
    with watched(state, monkeypatch) as waits:
        features = state.trunk(waits.send(batch_of(pixels, plan, 0)[0]))
        (features[:, 0] > 0).nonzero()
        features[features[:, 0] > 0]
        float(features.sum().detach())
        features[torch.arange(3)]  # rows that must be sent first
    assert waits.found == ["nonzero", "index", "_local_scalar_dense", "index"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("config", [CONFIG, LOW], ids=["float32", "bfloat16"])
def test_a_step_never_waits_for_a_gpu(pixels, config):
    state = State.begin(config, pixels, 0, torch.device("cuda"), None)
    plan = state.task.plan_epoch(0)
    train_step(state, *_of(pixels, plan, 0), config.train)  # what is set up once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step(state, *_of(pixels, plan, 0), config.train)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_recording_leaves_the_network_as_it_was_and_serves_the_images_it_was_made_for(monkeypatch):
    """What a GPU repeats is stood in for: a recording runs the network some times on images without any content."""
    replays = []

    def record(whole, images):
        for _ in range(3):
            whole(*images)
        return lambda given: (replays.append(given.shape), whole(given))[1]

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    network = Trunk(CONFIG.model, generator(0, "trunk"))
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    found = Replayed(network, torch.zeros(4, 3, SIDE, SIDE), "float32")
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    images = torch.rand(5, 3, SIDE, SIDE, generator=generator(0, "images"))
    exact = copy.deepcopy(network)
    assert torch.equal(found(images[:4]), exact(images[:4]))
    assert len(replays) == 1
    assert torch.equal(found(images), exact(images))  # another shape
    found((255 * images[:4]).byte())  # another type
    assert len(replays) == 1
    assert {id(p) for p in found.parameters()} == {id(p) for p in network.parameters()}


def test_nothing_is_recorded_without_a_gpu_or_where_it_is_not_wanted(monkeypatch):
    network = Trunk(CONFIG.model, generator(0, "trunk"))
    assert replayed(network, (4, 3, SIDE, SIDE), "float32", torch.device("cpu")) is network
    monkeypatch.setenv("DCLIB_CUDA_GRAPHS", "0")
    assert replayed(network, (4, 3, SIDE, SIDE), "float32", torch.device("cuda")) is network
