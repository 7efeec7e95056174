"""A training step and a pass for features, plain and as they are here: the same network, images and labels.

    python benchmarks/training_step.py              # VGG-16 at 64 pixels, batches of 64: a few minutes on two cores
    python benchmarks/training_step.py --compile    # with torch.compile on top, whose first step is timed as well

``plain float32`` is what one would write first: PyTorch's usual memory format, SGD as it comes, the images of each
head looked for by their label. The others are ``train_step`` and ``feature_batches`` in either precision. All take
turns in one process, so that what disturbs one disturbs all. Medians, fastest and slowest go to
``results/benchmarks/training_step.json``, beside the rate of matrix products in the same run, the limit of what a
step can reach, and the loss of each one's first step. Nothing else should be running.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from measuring import benchmark_card, record_path, side_by_side, take_turns
from plan_accuracy import Nothing
from torch import Tensor

from dclib.config import ClusterConfig, MethodConfig, ModelConfig, TrainConfig
from dclib.data.images import ImageSet, NumberedIds
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan
from dclib.data.transforms import quarter_turn
from dclib.planner.network import network_size
from dclib.randomness import generator
from dclib.records import Record, write_records
from dclib.train.features import FEATURE_BATCH, feature_batches
from dclib.train.pretrain import train_step
from dclib.train.runs import device_name
from dclib.train.state import State
from dclib.train.tasks.classes import Classes

PLAIN, PRECISIONS = "plain float32", ("float32", "bfloat16")
BEST = PRECISIONS[-1]
STEP, FEATURES, PRODUCT = "training step", "features", "matrix product"
PRODUCT_SIDE = 2048
ROOMS = ("distributed", "models", "train/features", "train/pretrain", "train/state")
Works = dict[str, Callable[[], Tensor]]  # by what they are


def config_of(width: float, side: int, batch: int, n_sub: int) -> MethodConfig:
    """Four turns of one super-cluster, and no dropout, whose masks would differ between variants."""
    connected = max(16, round(4096 * width))
    return MethodConfig(
        model=ModelConfig(image_size=side, width=width, hidden_dim=connected, feature_dim=connected, dropout=0.0),
        cluster=ClusterConfig(n_sub=n_sub),
        train=TrainConfig(batch_size=batch, lr=0.01, sub_head_gradient="global_mean"),
    )


def random_pixels(n: int, side: int) -> Pixels:
    decoded = torch.randint(0, 256, (n, 3, side, side), generator=generator(0, "images"), dtype=torch.uint8)
    return Pixels(ImageSet("random", NumberedIds(np.arange(n), 8), Nothing()), (), side, side, decoded)


def begin(config: MethodConfig, pixels: Pixels, device: torch.device) -> tuple[State, EpochPlan, Tensor]:
    """A network, a plan of one batch with random labels, and the batch; the same numbers for every variant."""
    state = State.begin(config, pixels, 0, device, None)
    sub_class = torch.randint(config.cluster.n_sub, (len(pixels),), generator=generator(0, "labels"))
    assert isinstance(state.task, Classes)
    state.task.labels = replace(state.task.labels, sub_class=sub_class)
    plan = state.task.plan_epoch(0)
    return state, plan, torch.cat(list(pixels.centre_batches(len(pixels))))[plan.index]


def plain(config: MethodConfig, pixels: Pixels, device: torch.device) -> Works:
    """As one would write it first."""
    state, plan, images = begin(config, pixels, device)
    trunk, heads, train = state.trunk.to(memory_format=torch.contiguous_format), state.task.head, config.train
    own = [*trunk.parameters(), *heads.parameters()]
    optimiser = torch.optim.SGD(own, train.lr, train.momentum, weight_decay=train.weight_decay)

    def step() -> Tensor:
        trunk.train()
        seen = F.relu(trunk(quarter_turn(images, plan.turn).to(device)))
        super_class, sub_class = plan.super_class.to(device), plan.sub_class.to(device)
        loss = F.cross_entropy(F.linear(seen, heads.super_weight, heads.super_bias), super_class)
        for s in range(heads.n_super_classes):
            here = super_class == s
            scores = F.linear(seen[here], heads.sub_weight[s], heads.sub_bias[s])
            loss = loss + F.cross_entropy(scores, sub_class[here], reduction="sum") / len(images)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def features() -> Tensor:
        batches = pixels.centre_batches(FEATURE_BATCH)
        return torch.cat([trunk.eval()(batch.to(device)).cpu() for batch in batches])

    return {STEP: step, FEATURES: features}


def ours(config: MethodConfig, pixels: Pixels, device: torch.device, *, compiled: bool = False) -> Works:
    """As it is here."""
    state, plan, images = begin(config, pixels, device)
    rows, precision = torch.arange(len(images)), config.train.precision
    if compiled:
        state.shared_trunk = torch.compile(state.trunk)  # type: ignore[assignment]

    def step() -> Tensor:
        return train_step(state, [images], plan, rows, config.train)[0]

    def features() -> Tensor:
        return torch.cat(list(feature_batches(state.trunk, pixels, range(len(pixels)), FEATURE_BATCH, precision)))

    return {STEP: step} if compiled else {STEP: step, FEATURES: features}


def product(precision: str, device: torch.device) -> Works:
    """What the machine can do: a product of two large matrices."""
    draws = generator(0, "product")
    one, other = torch.randn(2, PRODUCT_SIDE, PRODUCT_SIDE, generator=draws).to(device, getattr(torch, precision))
    return {PRODUCT: lambda: one @ other}


Times = dict[tuple[str, str], list[float]]  # seconds of each call, by what it is and whose


def time_all(variants: dict[str, Works], repeats: int, device: torch.device) -> tuple[Times, dict[str, float]]:
    """Seconds of a first call of each and of ``repeats`` more, in turn; and the loss of each variant's first step."""
    losses: dict[str, float] = {}

    def finish(variant: str, what: str, work: Callable[[], Tensor]) -> None:
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if what == STEP and variant not in losses:
            losses[variant] = float(result)

    calls = {
        (what, variant): partial(finish, variant, what, work)
        for variant, works in variants.items()
        for what, work in works.items()
    }
    return take_turns(calls, repeats + 1), losses


def records_of(seconds: Times, options: argparse.Namespace) -> list[Record]:
    """The times of each work beside those of the plain way, and what share of the products' rate each reaches."""
    size = network_size(config_of(options.width, options.side, options.batch, options.n_sub).model)
    flops = {STEP: options.batch * size.training_flops, FEATURES: options.batch * size.forward_flops}
    flops[PRODUCT] = 2.0 * PRODUCT_SIDE**3
    network = "VGG-16" if options.width == 1 else f"VGG-16 of width {options.width:g}"
    images = f"{options.batch} images of {options.side} pixels, {network}"
    records = []
    for work in (STEP, FEATURES):
        ways = {way: times for (what, way), (_, *times) in seconds.items() if what == work}
        records += side_by_side("training_step", f"{work}: {images}", ways, "s", ours=BEST)
    for (work, way), (first, *times) in seconds.items():
        keys: dict[str, str | int] = {"work": work, "way": way}
        records.append(Record(name="first_call", value=first, unit="s", n=1, keys=keys))
        rate = flops[work] / median(times)
        records.append(Record(name="rate", value=rate, unit="FLOP/s", n=len(times), keys=keys))
        print(f"{work}, {way}: {rate / 1e9:.0f} GFLOP/s; the first {first:.2f} s")
    return records


def variants_of(config: MethodConfig, device: torch.device, compiled: bool) -> dict[str, Works]:
    """The plain one and ours, in the order of their turns."""
    pixels = random_pixels(config.train.batch_size, config.model.image_size)
    variants = {PLAIN: plain(config, pixels, device)}
    for precision in PRECISIONS:
        changed = replace(config, train=replace(config.train, precision=precision))
        variants[precision] = ours(changed, pixels, device) | product(precision, device)
        if compiled:
            variants[f"{precision}, compiled"] = ours(changed, pixels, device, compiled=True)
    return variants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0, help="of the network; 1 is VGG-16")
    parser.add_argument("--side", type=int, default=64, help="of the images, pixels")
    parser.add_argument("--batch", type=int, default=64, help="images of a step, and of a pass for features")
    parser.add_argument("--n-sub", type=int, default=1000, help="classes of each of the four sub-class heads")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="also time steps through torch.compile")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--output", type=Path, default=record_path("training_step"))
    options = parser.parse_args()
    began, device = time.monotonic(), torch.device(options.device)
    config = config_of(options.width, options.side, options.batch, options.n_sub)
    seconds, losses = time_all(variants_of(config, device, options.compile), options.repeats, device)
    records = records_of(seconds, options)
    records += [
        Record(name="loss", value=loss, unit="nats", n=options.batch, keys={"way": way}) for way, loss in losses.items()
    ]
    print(", ".join(f"first loss of {way} {loss:.5f}" for way, loss in losses.items()))
    instructions = torch.backends.cpu.get_cpu_capability()
    settings = {"repeats": options.repeats, "product_side": PRODUCT_SIDE, **asdict(config)}
    card = benchmark_card(settings, ROOMS, began, device=device_name(device), instructions=instructions)
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
