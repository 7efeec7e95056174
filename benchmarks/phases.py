"""Measure what the planner needs to know of this machine, in less than a minute.

    python benchmarks/phases.py
    python benchmarks/phases.py --device cuda --hardware h100

Training steps and passes without gradients at several sizes give the rates of convolutions and of element-wise work
and the overhead of a step, by least squares; k-means, whitening, stored features, decoding and cropping are timed
alone. The record goes to ``results/benchmarks/phases-HARDWARE.json``, from where ``python -m dclib plan`` reads it.
Nothing else should be running. Rates between processes are not measured.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from measuring import benchmark_card, record_path
from PIL import Image
from plan_accuracy import peak_in_child

from dclib.cluster.kmeans import assign
from dclib.cluster.stored_rows import StoredRows
from dclib.cluster.whitening import fit_pca_whitening
from dclib.data.photo_crops import crop_photo
from dclib.data.transforms import crop_batch, draw_crops
from dclib.planner.hardware import CPU, GPUS, Hardware
from dclib.planner.passes import fit_rates, fitted_passes
from dclib.records import Record, write_records
from dclib.train.runs import device_name
from dclib.train.speed import pass_work

SIZES = (  # width, side, batch
    *((1 / 16, 32, 256), (1 / 8, 32, 16), (1 / 8, 32, 64)),
    *((1 / 4, 32, 64), (1 / 4, 64, 32), (1 / 2, 48, 32)),
)
GPU_SIZES = ((1 / 8, 64, 64), (1 / 2, 128, 64), (1.0, 128, 64), (1.0, 224, 32), (1.0, 224, 64))
UNITS = {
    **dict.fromkeys(("conv_flops", "linear_flops", "double_flops"), "FLOP/s"),
    **dict.fromkeys(("memory_rate", "disk_rate"), "B/s"),
    "decode_rate": "images/s",
    "crop_rate": "pixels/s",
    "overhead": "s",
    "bfloat16_gain": "1",
    **dict.fromkeys(("base_bytes", "memory_bytes", "ram_bytes"), "B"),
}
ROOMS = ("cluster", "data/images", "data/photo_crops", "data/transforms", "models", "planner", "train/speed")


def seconds_of(work: Callable[[], object], device: torch.device, least: float) -> float:
    """Median time of a call, after one that does not count, over at least three calls and ``least`` seconds."""
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < least:
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def network_rates(device: torch.device, sizes: Sequence[tuple[float, int, int]], least: float) -> dict[str, float]:
    """Rates of convolutions and of element-wise work, and the overhead, from passes with and without gradients."""
    times: dict[str, float] = {}
    for one in (passes := fitted_passes(sizes)):
        work = pass_work(one.model, one.batch, one.precision, one.trains, device)
        times[one.name] = seconds_of(work, device, least)
        print(f"{one.name}: {one.flops / times[one.name]:,.4g} FLOP/s")
    return fit_rates(passes, times)


@torch.no_grad()
def bfloat16_gain(device: torch.device, least: float) -> dict[str, float]:
    """How many times as fast a convolution of VGG-16 is in bfloat16 as in float32."""
    layer = torch.nn.Conv2d(256, 256, 3, padding=1).to(device).to(memory_format=torch.channels_last)
    maps = torch.rand(16, 256, 32, 32).to(device, memory_format=torch.channels_last)
    exact = seconds_of(lambda: layer(maps), device, least)
    layer, maps = layer.bfloat16(), maps.bfloat16()
    return {"bfloat16_gain": exact / seconds_of(lambda: layer(maps), device, least)}


def clustering_rates(device: torch.device, least: float) -> dict[str, float]:
    """E step in float32, moments in float64, and rows read back from a stored matrix."""
    n, d, k = (200_000, 1024, 4096) if device.type == "cuda" else (8192, 256, 512)
    rng = torch.Generator().manual_seed(2)
    points = torch.randn(n, d, generator=rng).to(device)
    centroids = torch.randn(k, d, generator=rng).to(device)
    rates = {"linear_flops": 2.0 * n * k * d / seconds_of(lambda: assign(points, centroids), device, least)}
    few = points[: n // 2]
    taken = seconds_of(lambda: fit_pca_whitening(few, 16), device, least)
    rates["double_flops"] = 2.0 * len(few) * d * d / taken  # eigenvectors included: they are few here
    with tempfile.TemporaryDirectory(prefix="phases-") as folder:
        stored = StoredRows.at(Path(folder), n, d, "float32").to(device)
        for file in range(stored.n_files):
            rows = stored.file_rows(file)
            stored.write(file, points[rows.start : rows.stop])
        rates["disk_rate"] = 4.0 * n * d / seconds_of(lambda: [len(b) for b in stored.split(4096)], device, least)
    return rates


def image_rates(least: float) -> dict[str, float]:
    """Photographs of 500 pixels decoded and cropped by one process, and crops of images that are kept decoded."""
    cpu, rng = torch.device("cpu"), np.random.default_rng(3)
    noise = [Image.fromarray(rng.integers(0, 256, (s, s, 3), dtype=np.uint8)).resize((500, 375)) for s in (5, 60)]
    buffer = io.BytesIO()
    Image.blend(noise[0], noise[1], 0.3).save(buffer, "jpeg", quality=90)
    photo = buffer.getvalue()

    def decode() -> None:
        crop_photo(photo, 0.08, 224, torch.Generator().manual_seed(4))

    kept = torch.from_numpy(rng.integers(0, 256, (64, 3, 32, 32), dtype=np.uint8))
    sides = torch.full((64,), 32)

    def crop() -> None:
        crop_batch(kept, draw_crops(sides, sides, 0.3, torch.Generator().manual_seed(5)), 32)

    return {
        "decode_rate": 1 / seconds_of(decode, cpu, least),
        "crop_rate": 64 * 32 * 32 / seconds_of(crop, cpu, least),
    }


def memories(device: torch.device, base: float) -> dict[str, float]:
    """Bytes of a process whose run is next to nothing, of the device, and of the machine for each process."""
    ram = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    whole = float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else ram
    processes = max(1, torch.cuda.device_count()) if device.type == "cuda" else 1
    return {"base_bytes": base, "memory_bytes": whole, "ram_bytes": ram / processes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    table: dict[str, Hardware] = {**GPUS, "cpu": CPU}
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--hardware", default="cpu", choices=list(table), help="the planner's name for it")
    parser.add_argument("--least", type=float, default=1.0, help="seconds for each of the 17 measurements")
    parser.add_argument("--output", type=Path, help="default: results/benchmarks/phases-HARDWARE.json")
    options = parser.parse_args()
    # first, for a child has never held less than its parent held then; imports alone are not it, since kernels and
    # their scratch memory come with the first pass through a network
    base = peak_in_child("next to nothing")
    began, device = time.monotonic(), torch.device(options.device)
    if table[options.hardware].is_gpu != (device.type == "cuda"):
        parser.error(f"--hardware {options.hardware} does not name what --device {options.device} is")
    sizes = GPU_SIZES if device.type == "cuda" else SIZES
    found = {
        **network_rates(device, sizes, options.least),
        **bfloat16_gain(device, options.least),
        **clustering_rates(device, options.least),
        **image_rates(options.least),
        **memories(device, base),
    }
    settings = {"hardware": options.hardware, "least": options.least, "sizes": [list(size) for size in sizes]}
    card = benchmark_card(settings, ROOMS, began, device=device_name(device))
    records = [Record(name=name, value=value, unit=UNITS[name], n=1) for name, value in found.items()]
    for record in records:
        print(f"{record.name}: {record.value:,.4g} {record.unit}")
    default = record_path(f"phases-{options.hardware}")
    write_records(options.output or default, card, records)


if __name__ == "__main__":
    main()
