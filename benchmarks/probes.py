"""Linear classifiers on 13 layers in one pass over the images, beside that on conv13 alone, and beside 13 runs.

    python benchmarks/probes.py

The full VGG-16 sees random images of 224 pixels in training steps of the classifiers. Alone, a layer's classifier
needs the network up to that layer and its own pooling; the three ways take turns. Then the resident memory of one
pass is measured with maps pooled and freed as they are made, and with all 13 kept until the last. Medians and
extremes over repeats go to ``results/benchmarks/probes.json``. Linux only, for the memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from measuring import benchmark_card, forget_peak, in_child, record_path, resident, side_by_side
from torch import Tensor

from dclib.config import ModelConfig, ProbeConfig
from dclib.evaluate.linear_probe import OBJECTS_LR, LinearProbes, pool_activations, pool_kernel
from dclib.models.vgg import N_CONV, Trunk
from dclib.randomness import generator
from dclib.records import Record, write_records

TOGETHER, LAST, APART = "13 in one pass", "conv13 alone", "13 runs"
FREED, KEPT = "pooled as they are made", "all 13 kept"
ROOMS = ("evaluate/linear_probe", "models")

Pooled = Callable[[Tensor], list[Tensor]]


def pool_all(trunk: Trunk) -> Pooled:
    return torch.no_grad()(lambda images: pool_activations(trunk.conv_activations(images)))


def pool_one(trunk: Trunk, layer: int) -> Pooled:
    """The network up to one layer, and its pooling alone."""

    @torch.no_grad()
    def pooled(images: Tensor) -> list[Tensor]:
        maps = next(islice(trunk.conv_activations(images), layer - 1, None))
        return [F.avg_pool2d(maps, pool_kernel(layer, maps.shape[-1])).flatten(1)]

    return pooled


def probe_seconds(pooled: Pooled, rates: Sequence[float], batches: Sequence[Tensor], classes: int) -> float:
    """One pass of the classifiers on what ``pooled`` gives, one for each rate."""
    labels = torch.arange(len(batches[0])) % classes
    dims = [x.shape[1] for x in pooled(batches[0][:2])]
    probes = LinearProbes(dims, classes, ProbeConfig(), rates, generator(0, "probes"), batches[0].device)
    start = time.perf_counter()
    for images in batches:
        probes.step(pooled(images), labels)
    return time.perf_counter() - start


def peak_memory(trunk: Trunk, maps: str, images: Tensor) -> float:
    """Most resident memory during one batch over what there was before it, MB."""
    held = torch.no_grad()(lambda images: pool_activations(list(trunk.conv_activations(images))))
    pooled = pool_all(trunk) if maps == FREED else held
    pooled(images[:1])  # what libraries set up with the first image is not the batch's
    forget_peak()
    before = resident("VmRSS")
    pooled(images)
    return resident("VmHWM") - before


def peak_in_child(maps: str) -> float:
    """:func:`peak_memory` in a process that gives freed arrays back at once, with this one's options."""
    return float(in_child(__file__, *sys.argv[1:], "--memory", maps, gives_back=True))


def draw_batches(steps: int, options: argparse.Namespace) -> list[Tensor]:
    draws, shape = generator(0, "images"), (options.batch, 3, options.size, options.size)
    return [torch.rand(shape, generator=draws).contiguous(memory_format=torch.channels_last) for _ in range(steps)]


def measure(trunk: Trunk, options: argparse.Namespace) -> list[Record]:
    """The three ways in turn, then the memory."""
    batches = draw_batches(options.steps, options)
    seconds = defaultdict[str, list[float]](list)

    def alone(layer: int) -> float:
        return probe_seconds(pool_one(trunk, layer), OBJECTS_LR[layer - 1 : layer], batches, options.classes)

    pool_all(trunk)(batches[0])  # the first pass through a network is slower
    for _ in range(options.repeats):
        seconds[TOGETHER].append(probe_seconds(pool_all(trunk), OBJECTS_LR, batches, options.classes))
        seconds[LAST].append(alone(N_CONV))
        seconds[APART].append(seconds[LAST][-1] + sum(alone(layer) for layer in range(1, N_CONV)))
    work = f"{options.steps} steps of {options.batch} images of {options.size} pixels"
    records = side_by_side("probes", work, seconds, "s", ours=TOGETHER)
    for maps in (FREED, KEPT):
        value = peak_in_child(maps)
        records.append(Record(name="probe_memory", value=value, unit="MB", n=options.batch, keys={"maps": maps}))
        print(f"probe_memory {maps}: {value:,.0f} MB over {options.batch} images")
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0, help="of the network")
    parser.add_argument("--size", type=int, default=224, help="side of the images, pixels")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=record_path("probes"))
    parser.add_argument("--memory", choices=(FREED, KEPT), help=argparse.SUPPRESS)
    options = parser.parse_args()
    began = time.monotonic()
    model = ModelConfig(width=options.width, image_size=options.size, hidden_dim=8, feature_dim=8)
    trunk = Trunk(model, generator(0, "trunk")).eval().to(memory_format=torch.channels_last)
    if options.memory:
        print(peak_memory(trunk, options.memory, draw_batches(1, options)[0]))
        return
    from dclib.train.runs import device_name  # which loads for seconds that a child need not spend

    records = measure(trunk, options)
    settings = {name: getattr(options, name) for name in ("width", "size", "classes", "batch", "steps", "repeats")}
    card = benchmark_card(settings, ROOMS, began, device=device_name(torch.device("cpu")))
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
