"""Does a GPU compute what the CPU does? Each kernel of the method against itself on the CPU in float64.

The error of a check is the largest difference from float64, in units of the largest value there. It is measured for
the CPU and for the device, in float32 with TF32 off but for the training steps: both must stay below the check's
tolerance, and a device that is as good as the CPU has an error of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from gpu_records import Part, Setting
from gpu_speed import Noise, tf32
from torch import Tensor

from dclib.cluster.kmeans import assign, update_centroids
from dclib.cluster.whitening import fit_pca_whitening
from dclib.config import ClusterConfig, MethodConfig, ModelConfig, TrainConfig
from dclib.data.images import ImageSet, NumberedIds
from dclib.data.pixels import Pixels
from dclib.data.samplers import plan_epoch
from dclib.models import batch_norm
from dclib.models.heads import Heads, joint_loss
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.records import Record
from dclib.train.features import extract_features
from dclib.train.pretrain import train_step
from dclib.train.state import State

EPS = 2.0**-24  # rounding of one float32 operation, relative
ROOMS = ("cluster", "models", "train/features", "train/pretrain", "train/state")
Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Check:
    """One kernel: its values on a device in a precision, and how far from float64 they may be."""

    values: Callable[[bool, torch.device, torch.dtype], Values]  # the first says whether it is of toy size
    tolerance: float
    reason: str
    dtype: torch.dtype = torch.float32  # in which the CPU and the device are held against the CPU in float64


def whitening(toy: bool, device: torch.device, dtype: torch.dtype) -> Values:
    """Points on the principal axes of features whose variances fall by a constant factor: no two axes mix."""
    n, d = (400, 16) if toy else (50_000, 512)
    scales = torch.logspace(0, -1, d) * d**0.5
    features = (torch.randn(n, d, generator=generator(0, "features")) * scales).to(device, dtype)
    fitted = fit_pca_whitening(features, d // 2)
    points = fitted.transform(features)
    largest = fitted.projection.abs().argmax(dim=0, keepdim=True)
    signs = fitted.projection.gather(0, largest).sign()  # an axis may point either way
    return {"points": points * signs, "explained": torch.tensor([fitted.explained])}


def clusters(toy: bool, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    n, d, k = (500, 16, 20) if toy else (100_000, 256, 5_000)
    points = torch.randn(n, d, generator=generator(0, "points"))
    middles = points[torch.randperm(n, generator=generator(0, "middles"))[:k]]
    return points.to(device, dtype), middles.to(device, dtype)


def e_step(toy: bool, device: torch.device, dtype: torch.dtype) -> Values:
    """Squared distances as found, and in float64 from each point to the centroid that was chosen.

    The second sees a wrong choice, and not one between two centroids that tie within rounding.
    """
    return assigned(toy, device, dtype, "torch")


def e_step_in_bfloat16(toy: bool, device: torch.device, dtype: torch.dtype) -> Values:
    """The same through products in bfloat16, on a GPU by the kernel that keeps no scores."""
    return assigned(toy, device, dtype, "torch-bf16" if dtype == torch.float32 else "torch")


def assigned(toy: bool, device: torch.device, dtype: torch.dtype, backend: str) -> Values:
    nearest, distances = assign(*clusters(toy, device, dtype), backend)
    points, middles = clusters(toy, torch.device("cpu"), torch.float64)
    chosen = middles[nearest.cpu()]
    return {"distances": distances, "chosen": (points - chosen).square().sum(dim=1)}


def m_step(toy: bool, device: torch.device, dtype: torch.dtype) -> Values:
    points, middles = clusters(toy, device, dtype)
    owners = torch.randint(len(middles) - 1, (len(points),), generator=generator(0, "owners"))  # one stays empty
    centroids, counts = update_centroids(points, owners.to(device), middles)
    return {"centroids": centroids, "counts": counts}


def loss_and_gradients(toy: bool, device: torch.device, dtype: torch.dtype) -> Values:
    b, d, s, k = (24, 16, 8, 5) if toy else (256, 1024, 16, 1_000)
    heads = Heads(d, s, k, generator(0, "heads")).to(device, dtype)
    features = torch.randn(b, d, generator=generator(0, "features")).to(device, dtype).requires_grad_()
    super_class = torch.arange(b, device=device) % s
    sub_class = torch.randint(k, (b,), generator=generator(0, "sub-classes")).to(device)
    result = joint_loss(heads, features, super_class, sub_class)
    result.loss.backward()
    gradients = {name: parameter.grad for name, parameter in heads.named_parameters()}
    return {"loss": result.loss[None], "features": features.grad, **gradients}


def shared_batch_norm(toy: bool, device: torch.device, dtype: torch.dtype) -> Values:
    """Maps, gradients and running statistics of the layer as many processes have it, here in one."""
    shape = (4, 3, 5, 5) if toy else (64, 64, 56, 56)
    maps = (3 + 2 * torch.randn(shape, generator=generator(0, "maps"))).to(device, dtype).requires_grad_()
    weights = torch.randn(shape, generator=generator(0, "weights")).to(device, dtype)
    layer = batch_norm.BatchNorm2d(shape[1]).to(device, dtype)
    with mock.patch.object(batch_norm, "is_distributed", return_value=True):
        out = layer(maps)
    (out * weights).sum().backward()
    running = {"running mean": layer.running_mean, "running variance": layer.running_var}
    return {"maps": out, "gradient": maps.grad, "weight": layer.weight.grad, "bias": layer.bias.grad, **running}


def network_config(toy: bool) -> MethodConfig:
    width, side, batch = (1 / 16, 32, 8) if toy else (0.5, 96, 64)
    return MethodConfig(
        model=ModelConfig(image_size=side, width=width, hidden_dim=64, feature_dim=64, dropout=0.0),
        cluster=ClusterConfig(n_sub=4 if toy else 100),
        train=TrainConfig(batch_size=batch, lr=0.01),
    )


def blobs(n: int, side: int) -> Pixels:
    """Pictures of smooth noise, as photographs are smoother than noise."""
    coarse = torch.rand(n, 3, 6, 6, generator=generator(0, "blobs"))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    images = ImageSet("blobs", NumberedIds(np.arange(n), 8), Noise())
    return Pixels(images, (), side, side, (255 * smooth.clamp(0, 1)).to(torch.uint8))


def features(toy: bool, device: torch.device, dtype: torch.dtype) -> Values:
    config = network_config(toy).model
    pixels = blobs(8 if toy else 256, config.image_size)
    trunk = Trunk(config, generator(0, "trunk")).to(device)
    if dtype == torch.float64:
        with torch.no_grad():
            return {"features": trunk.double().eval()(pixels.decoded.double() / 255)}
    return {"features": extract_features(trunk, pixels).values}


def first_loss(toy: bool, device: torch.device, dtype: torch.dtype) -> Values:
    """The loss of the first step, before anything has moved."""
    return {"loss": training_steps(toy, device, dtype, steps=1)["losses"]}


def training_steps(toy: bool, device: torch.device, dtype: torch.dtype, *, steps: int = 5) -> Values:
    """The loss of each step, and how far the steps have moved both ends of the trunk and the heads."""
    config = network_config(toy)
    batch = config.train.batch_size
    pixels = blobs(steps * batch, config.model.image_size)
    state = State.begin(config, pixels, 0, device, None)
    state.trunk.to(dtype), state.task.head.to(dtype)
    owners = torch.randint(config.cluster.n_sub, (len(pixels),), generator=generator(0, "owners"))
    shape = {"n_super": 1, "n_turns": config.n_turns, "epoch_images": len(pixels), "batch_size": batch}
    plan = plan_epoch(torch.zeros_like(owners), owners, **shape, seed=0, epoch=0)
    parts = {"conv1": state.trunk.features[0], "fc2": state.trunk.classifier[3], "heads": state.task.head}
    before = {name: _flat(part) for name, part in parts.items()}
    results = []
    for step in range(steps):
        rows = torch.arange(batch) + step * batch
        images = pixels.decoded[plan.index[rows]].to(dtype) / 255
        results.append(train_step(state, [images], plan, rows, config.train))
    moved = {name: _flat(part) - before[name] for name, part in parts.items()}
    return {"losses": torch.stack(results)[:, 0], **moved}


def _flat(part: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().double().cpu().flatten() for parameter in part.parameters()])


def walk(terms: int) -> float:
    """Tolerance for float32 sums of so many terms: ten times what their roundings come to as a random walk."""
    return 10 * terms**0.5 * EPS


CHECKS = {
    "whitening": Check(whitening, walk(512), "projections are rounded once, and points are sums of 512 products"),
    "k-means, E step": Check(e_step, walk(256), "distances are sums of 256 products"),
    "k-means, E step in bfloat16": Check(
        e_step_in_bfloat16, walk(256), "bfloat16 decides nothing that it cannot prove"
    ),
    "k-means, M step": Check(m_step, 4 * EPS, "sums are in float64, and each mean is rounded once"),
    "joint loss and gradients": Check(
        loss_and_gradients, walk(1024), "scores and gradients are sums of 1,024 products"
    ),
    "batch norm": Check(shared_batch_norm, walk(100), "means over 200,000 pixels, in blocks: about 100 roundings each"),
    "features": Check(
        features, 5 * walk(4608), "13 layers of sums of up to 4,608 products, and Winograd's convolutions round more"
    ),
    "first loss": Check(first_loss, walk(4608), "a mean over images of what comes out of the 13 layers"),
    "training steps": Check(
        training_steps,
        1e-6,
        "in float64, where roundings that five steps multiply stay below it; in float32 a ReLU or a pooling whose "
        "sides tie within rounding switches, and after five steps the CPU itself is tenths away from float64",
        torch.float64,
    ),
}


def error_of(found: Values, exact: Values) -> float:
    """The largest difference, in units of the largest value of the same kind."""
    return max(
        float((found[name].detach().double().cpu() - exact[name].detach().double().cpu()).abs().max())
        / max(float(exact[name].detach().double().abs().max()), 1e-30)
        for name in exact
    )


def measure(setting: Setting) -> tuple[list[Record], dict[str, Any], dict[str, Any]]:
    """The errors of each check on the CPU and on the device, and its tolerance."""
    toy, cpu, records = setting.size == "toy", torch.device("cpu"), []
    with tf32(False):
        for name, check in CHECKS.items():
            exact = check.values(toy, cpu, torch.float64)
            errors = {
                "cpu": error_of(check.values(toy, cpu, check.dtype), exact),
                "device": error_of(check.values(toy, setting.device, check.dtype), exact),
            }
            print(f"{name}: {errors['cpu']:.1e} on the CPU, {errors['device']:.1e} on {setting.device}")
            keys = {"check": name}
            records.append(Record(name="gpu_tolerance", value=check.tolerance, unit="1", n=1, keys=keys))
            records += [
                Record(name="gpu_error", value=e, unit="1", n=1, keys={**keys, "on": on}) for on, e in errors.items()
            ]
    return records, {}, {"reasons": {name: check.reason for name, check in CHECKS.items()}}


def failures(records: list[Record]) -> list[str]:
    """The checks whose error is above their tolerance, or not a number."""
    limits = {record.keys["check"]: record.value for record in records if record.name == "gpu_tolerance"}
    errors = [record for record in records if record.name == "gpu_error"]
    return [
        f"{r.keys['check']} on {r.keys['on']}: {r.value:.1e}" for r in errors if not r.value <= limits[r.keys["check"]]
    ]


CORRECTNESS = Part("correctness", ROOMS, 90, measure)
