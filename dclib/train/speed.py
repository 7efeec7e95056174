"""How fast this machine does what runs are made of, each thing measured alone.

``python -m dclib.train.speed`` reads what is asked from its standard input, as JSON, and prints the seconds of it;
:mod:`dclib.planner.calibration` asks.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from dclib.cluster.kmeans import assign
from dclib.cluster.whitening import fit_pca_whitening
from dclib.config import ModelConfig
from dclib.data.transforms import crop_batch, draw_crops
from dclib.models.device import products_in
from dclib.models.vgg import Trunk
from dclib.precision import multiplies_in_bfloat16

Work = Callable[[], object]
CPU = torch.device("cpu")
LEAST = 0.1  # seconds for which a thing is repeated, at least twice
POINTS, DIMENSIONS, CENTROIDS = 8192, 64, 64  # of a k-means step, and of a whitening
KEPT, SIDE = 64, 32  # images that are cropped, and their side


def pass_work(model: ModelConfig, batch: int, precision: str, trains: bool, device: torch.device) -> Work:
    """A batch through the trunk: forward and back where it trains, else forward in evaluation mode.

    Without an update: the first optimiser of a process costs seconds of imports, and its share is easily calculated.
    """
    trunk = Trunk(model, torch.Generator().manual_seed(0)).to(device).to(memory_format=torch.channels_last)
    size = (batch, 3, model.image_size, model.image_size)
    images = torch.rand(size, generator=torch.Generator().manual_seed(1))
    images = images.to(device, memory_format=torch.channels_last)
    trunk.train(trains)

    def step() -> None:
        trunk.zero_grad(set_to_none=True)
        with products_in(precision, device):
            features = trunk(images)
        features.float().square().mean().backward()

    @torch.no_grad()
    def forward() -> None:
        with products_in(precision, device):
            trunk(images)

    return step if trains else forward


def general_works() -> dict[str, tuple[Work, float]]:
    """What is alike for all networks, by the name of its rate: a call, and how much that call does."""
    rng = torch.Generator().manual_seed(2)
    points = torch.randn(POINTS, DIMENSIONS, generator=rng)
    centroids = torch.randn(CENTROIDS, DIMENSIONS, generator=rng)
    kept = torch.randint(0, 256, (KEPT, 3, SIDE, SIDE), generator=rng).to(torch.uint8)
    sides = torch.full((KEPT,), SIDE)

    def crop() -> None:
        crop_batch(kept, draw_crops(sides, sides, 0.3, torch.Generator().manual_seed(5)), SIDE)

    return {
        "linear_flops": (lambda: assign(points, centroids), 2.0 * POINTS * CENTROIDS * DIMENSIONS),
        "double_flops": (lambda: fit_pca_whitening(points, DIMENSIONS), 2.0 * POINTS * DIMENSIONS**2),
        "crop_rate": (crop, float(KEPT * SIDE * SIDE)),
        "interpreter_rate": (_interpret, 1.0),
    }


def _interpret() -> int:
    """A little of what Python itself does: calls, dictionaries, strings."""
    found: dict[str, int] = {}
    for number in range(20_000):
        found[str(number % 1000)] = found.get(str(number), 0) + number
    return len(found)


def fastest(work: Work, least: float = LEAST) -> float:
    """Seconds of the fastest call after one that does not count: what else is at work can only add to it."""
    work()
    times: list[float] = []
    while len(times) < 2 or sum(times) < least:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(passes: Sequence[Mapping[str, Any]], budget: float, longest: float) -> dict[str, float]:
    """Rates by their names, and seconds of a batch by the names of passes.

    Args:
        passes: With ``name``, ``model``, ``batch``, ``precision``, ``trains`` and ``flops``, the most wanted first.
        budget: Seconds after which no further one is begun.
        longest: Seconds that a batch may take, by the slowest of those before it; longer ones are left out.
    """
    began, found = time.monotonic(), {"bfloat16": float(multiplies_in_bfloat16(CPU))}
    for name, (work, amount) in general_works().items():
        found[name] = amount / fastest(work)
    slowest = float("inf")  # FLOP/s
    for one in passes:
        if time.monotonic() - began > budget:
            break
        if one["flops"] < longest * slowest:
            model = ModelConfig(**one["model"])
            taken = fastest(pass_work(model, one["batch"], one["precision"], one["trains"], CPU))
            found[one["name"]], slowest = taken, min(slowest, one["flops"] / taken)
    return found


def main() -> None:
    asked = json.load(sys.stdin)
    print(json.dumps(measure(**asked)))


if __name__ == "__main__":
    main()
