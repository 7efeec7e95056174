"""How fast a GPU clusters, trains and extracts, and what share that is of what it can do at all.

Every part measures the limits, matrix products and a copy, in the same run as the figures that are held against them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gpu_records import Part, Setting
from measuring import summary
from torch import Tensor

from dclib.cluster.kmeans import Backend, KMeansResult, kmeans
from dclib.config import RECIPES, MethodConfig, ModelConfig
from dclib.data.images import ImageSet, NumberedIds
from dclib.data.pixels import Pixels
from dclib.data.samplers import EpochPlan, plan_epoch
from dclib.models.device import products_in
from dclib.models.heads import Heads
from dclib.models.vgg import Trunk
from dclib.planner.network import network_size
from dclib.randomness import generator
from dclib.records import Record
from dclib.train.pretrain import train_step
from dclib.train.state import State

ROOMS = ("cluster", "models", "train/pretrain", "train/state", "planner/network")
PRODUCTS = {"float32": (torch.float32, False), "tf32": (torch.float32, True), "bfloat16": (torch.bfloat16, False)}
PLAIN = "plain float32"  # channels first, TF32 off, a loop of its own
COPIED = "copy"
Measured = tuple[list[Record], dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    matrix: int  # side of the square matrices of a product
    copied: int  # bytes of a copy, read once and written once
    kmeans: tuple[int, int, int, int]  # points, dimensions, clusters, iterations
    method: MethodConfig  # whose training step it is
    batches: tuple[int, ...]
    repeats: int


SIZES = {
    "full": Size(8192, 2**31, (1_000_000, 256, 20_000, 25), RECIPES["deepercluster_yfcc1m"], (64, 128, 256, 512), 5),
    "toy": Size(64, 2**16, (500, 8, 10, 3), RECIPES["deepercluster_yfcc1m"], (8,), 2),
}
TOY_MODEL = ModelConfig(image_size=32, width=1 / 16, hidden_dim=16, feature_dim=16)


class Noise:
    """Stands where the images' bytes would come from."""

    def read(self, image_id: str) -> bytes:
        raise AssertionError(f"image {image_id} is decoded already")

    def sizes(self, image_ids: Sequence[str]) -> Any:
        return np.zeros(len(image_ids), dtype=np.int64)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether products and convolutions of float32 may round their factors to ten bits of mantissa."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = allowed
        yield
    finally:
        for backend, was in zip(backends, before, strict=True):
            backend.allow_tf32 = was


def times_of(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds of each call, after two that do not count: kernels are chosen and memory is taken in them."""
    times = []
    for repeat in range(repeats + 2):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        if repeat >= 2:
            times.append(time.perf_counter() - start)
    return times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def limits(setting: Setting) -> dict[str, float]:
    """What the device can do: FLOP/s of a matrix product in each precision, bytes/s of a copy within its memory.

    On a CPU there is no TF32, and none is measured.
    """
    size, device, found = SIZES[setting.size], setting.device, {}
    for name, (dtype, allowed) in PRODUCTS.items():
        if name == "tf32" and device.type == "cpu":
            continue
        a, b = (torch.randn(size.matrix, size.matrix, device=device).to(dtype) for _ in range(2))
        with tf32(allowed):
            times = times_of(lambda a=a, b=b: a @ b, device, 10)
        found[name] = 2.0 * size.matrix**3 / median(times)
    source = torch.ones(size.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found[COPIED] = 2.0 * size.copied / median(times_of(lambda: target.copy_(source), device, 10))
    return found


def limit_records(found: dict[str, float]) -> list[Record]:
    """A record for each limit."""
    unit = {COPIED: "B/s"}
    return [
        Record(name="gpu_limit", value=v, unit=unit.get(k, "FLOP/s"), n=10, keys={"limit": k}) for k, v in found.items()
    ]


def shares(flops: float, ceilings: dict[str, float], keys: dict[str, str | int]) -> list[Record]:
    """FLOP/s that were reached as a share of each measured product."""
    products = {name: ceiling for name, ceiling in ceilings.items() if name != COPIED}
    return [
        Record(name="gpu_share_of_limit", value=flops / ceiling, unit="1", n=1, keys={**keys, "limit": name})
        for name, ceiling in products.items()
    ]


# k-means


def measure_kmeans(setting: Setting) -> Measured:
    """Seconds of a whole clustering of a mixture of Gaussians on the unit sphere, the way it chooses and in float32."""
    size, device = SIZES[setting.size], setting.device
    n, d, k, iterations = size.kmeans
    ceilings = limits(setting)
    points = mixture(n, d, k, device)
    records, used = limit_records(ceilings), {}
    for backend in ("auto", "torch"):
        results: list[KMeansResult] = []

        def run(backend: Backend = backend, results: list[KMeansResult] = results) -> None:
            draws = generator(0, "first centroids")
            results[:] = [kmeans(points, k, generator=draws, n_iter=iterations, backend=backend)]

        times = times_of(run, device, min(size.repeats, 3))
        flops, keys = 2.0 * n * k * d * (iterations + 1) / median(times), {"backend": backend}
        records += [*summary("gpu_kmeans_seconds", times, "s", len(times), **keys), *shares(flops, ceilings, keys)]
        records.append(Record(name="gpu_inertia", value=results[0].inertia, unit="1", n=n, keys=keys))
        used[backend] = results[0].backend
    settings = dict(zip(("n", "d", "k", "iterations"), size.kmeans, strict=True))
    return records, settings, {"backend": used["auto"], "passes": iterations + 1}


def mixture(n: int, d: int, k: int, device: torch.device) -> Tensor:
    """(n, d) unit vectors around k / 2 directions, drawn on the CPU, so that every device clusters the same ones."""
    draws = generator(0, "mixture")
    middles = torch.randn(max(1, k // 2), d, generator=draws)
    points = middles[torch.randint(len(middles), (n,), generator=draws)]
    points += 0.7 * torch.randn(n, d, generator=draws)
    return F.normalize(points.to(device))


# steps of the network


def ways_of(device: torch.device) -> dict[str, tuple[bool, bool, str]]:
    """How a step may run: channels last, TF32, precision. The first is what the others are held against."""
    ways = {
        PLAIN: (False, False, "float32"),
        "float32": (True, False, "float32"),
        "tf32": (True, True, "float32"),
        "bfloat16": (True, True, "bfloat16"),
    }
    return {name: way for name, way in ways.items() if name != "tf32" or device.type != "cpu"}


def method_of(setting: Setting, batch: int, precision: str) -> MethodConfig:
    """The recipe at this size."""
    method = SIZES[setting.size].method
    if setting.size == "toy":
        method = replace(method, model=TOY_MODEL, cluster=replace(method.cluster, n_sub=5))
    return replace(method, train=replace(method.train, batch_size=batch, lr=1e-3, precision=precision))


def training(setting: Setting, batch: int, way: str) -> Callable[[], object]:
    """One update of trunk and heads by a batch that lies on the device: ``dclib``'s own step, or the plain one."""
    last, _, precision = ways_of(setting.device)[way]
    method = method_of(setting, batch, precision)
    plan = plan_of(method)
    images = images_of(method, batch, setting.device, last)
    if not last:
        return plain_step(method, plan, images)
    blank = ImageSet("noise", NumberedIds(np.arange(batch), 8), Noise())
    pixels = Pixels(blank, (), method.model.image_size, method.model.image_size, None)
    state = State.begin(method, pixels, 0, setting.device, None)
    rows = torch.arange(batch)

    def step() -> None:
        train_step(state, [images], plan, rows, method.train)

    return step


def plain_step(method: MethodConfig, plan: EpochPlan, images: Tensor) -> Callable[[], object]:
    """The same update written plainly: channels first, float32, the default optimiser."""
    device = images.device
    trunk = Trunk(method.model, generator(0, "trunk")).to(device).train()
    heads = Heads(method.model.feature_dim, method.n_turns, method.cluster.n_sub, generator(0, "heads")).to(device)
    train = method.train
    optimiser = torch.optim.SGD(
        [*trunk.parameters(), *heads.parameters()], train.lr, train.momentum, weight_decay=train.weight_decay
    )
    super_class, sub_class = plan.super_class.to(device), plan.sub_class.to(device)
    groups = [(super_class == s).nonzero().squeeze(1) for s in range(method.n_turns)]

    def step() -> None:
        optimiser.zero_grad()
        activations = F.relu(trunk(images))
        loss = F.cross_entropy(F.linear(activations, heads.super_weight, heads.super_bias), super_class)
        for s, members in enumerate(groups):
            scores = F.linear(activations[members], heads.sub_weight[s], heads.sub_bias[s])
            loss = loss + F.cross_entropy(scores, sub_class[members], reduction="sum") / len(images)
        loss.backward()
        optimiser.step()

    return step


def extraction(setting: Setting, batch: int, way: str) -> Callable[[], object]:
    """Features of a batch that lies on the device."""
    last, _, precision = ways_of(setting.device)[way]
    method = method_of(setting, batch, "float32")
    layout = torch.channels_last if last else torch.contiguous_format
    trunk = Trunk(method.model, generator(0, "trunk")).to(setting.device).to(memory_format=layout).eval()
    images = images_of(method, batch, setting.device, last)

    @torch.inference_mode()
    def step() -> None:
        with products_in(precision, setting.device):
            trunk(images).float()

    return step


def plan_of(method: MethodConfig) -> EpochPlan:
    """One batch whose super-classes and sub-classes are balanced."""
    batch = method.train.batch_size
    sub_class = torch.randint(method.cluster.n_sub, (batch,), generator=generator(0, "sub-classes"))
    turns, zeros = method.n_turns, torch.zeros(batch, dtype=torch.int64)
    return plan_epoch(zeros, sub_class, n_super=1, n_turns=turns, epoch_images=batch, batch_size=batch, seed=0, epoch=0)


def images_of(method: MethodConfig, batch: int, device: torch.device, channels_last: bool) -> Tensor:
    """A batch of noise on the device."""
    side = method.model.image_size
    images = torch.rand(batch, 3, side, side, generator=generator(0, "images")).to(device)
    return images.to(memory_format=torch.channels_last) if channels_last else images


def measure_steps(setting: Setting, make: Callable[[Setting, int, str], Callable[[], object]]) -> Measured:
    """Images per second of a step in every way and batch size; what does not fit in memory is left out and said."""
    size, ceilings, device = SIZES[setting.size], limits(setting), setting.device
    network = network_size(method_of(setting, size.batches[0], "float32").model)
    flops = network.training_flops if make is training else network.forward_flops
    records, left_out, plain = limit_records(ceilings), [], {}
    for batch in size.batches:
        for way, (_, allowed, _) in ways_of(device).items():
            keys: dict[str, str | int] = {"step": make.__name__, "way": way, "batch": batch}
            with tf32(allowed):
                rates, peak = rates_of(make, setting, batch, way)
            if not rates:
                left_out.append(f"{way}, batch {batch}")
                continue
            rate = median(rates)
            print(f"{make.__name__}, {way}, batch {batch}: {rate:,.0f} images/s, {rate * flops:.3g} FLOP/s")
            plain |= {batch: rate} if way == PLAIN else {}
            records += summary("gpu_images_per_second", rates, "images/s", len(rates), **keys)
            records += shares(rate * flops, ceilings, keys)
            if batch in plain:
                faster = rate / plain[batch]
                records.append(Record(name="gpu_speedup", value=faster, unit="1", n=size.repeats, keys=keys))
            if peak:
                records.append(Record(name="gpu_peak_bytes", value=float(peak), unit="B", n=1, keys=keys))
    method = method_of(setting, size.batches[0], "float32")
    settings = {"model": asdict(method.model), "n_sub": method.cluster.n_sub, "flops_per_image": flops}
    return records, settings, {"no room for": "; ".join(left_out)}


def rates_of(
    make: Callable[[Setting, int, str], Callable[[], object]], setting: Setting, batch: int, way: str
) -> tuple[list[float], int]:
    """Images per second of each repeat, none where memory does not suffice, and the device memory at most, in bytes."""
    device, repeats = setting.device, SIZES[setting.size].repeats
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        times = times_of(make(setting, batch, way), device, repeats)
    except torch.OutOfMemoryError:
        return [], 0
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return [batch / seconds for seconds in times], peak


KMEANS = Part("kmeans", (*ROOMS, "train/runs"), 120, measure_kmeans)
TRAINING = Part("training", ROOMS, 150, lambda setting: measure_steps(setting, training))
EXTRACTION = Part("extraction", ROOMS, 90, lambda setting: measure_steps(setting, extraction))
