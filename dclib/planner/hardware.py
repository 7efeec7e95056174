"""What a machine can do: published peaks times an assumed efficiency, or what ``benchmarks/phases.py`` has measured.

This machine is another matter: :mod:`dclib.planner.calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dclib.presets import project_root
from dclib.records import read_records

GB = 1e9
TERA = 1e12
# shares of a published peak that the kernels of a training reach: an assumption, in line with what is usual
EFFICIENCY: Mapping[str, float] = {
    "conv_flops": 0.5,
    "linear_flops": 0.7,
    "double_flops": 0.7,
    "memory_rate": 0.7,
    "link_rate": 0.7,
    "network_rate": 0.7,
}


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What one process has: a GPU, or some cores. Rates are what is reached, not peaks."""

    name: str
    is_gpu: bool
    memory_bytes: float  # of the GPU, or of the process
    ram_bytes: float  # of the machine, a process's share
    conv_flops: float  # FLOP/s of convolutions: TF32 where the GPU has it, PyTorch's default
    linear_flops: float  # FLOP/s of float32 matrix products, which PyTorch leaves in full precision by default
    double_flops: float  # FLOP/s of float64 matrix products
    memory_rate: float  # bytes/s that element-wise work moves
    link_rate: float  # bytes/s to the other processes of a machine, one way
    network_rate: float  # bytes/s between machines, one way, for a whole machine
    per_machine: int = 8  # processes of a machine
    disk_rate: float = 1.0 * GB  # bytes/s of stored features read or written by a process
    decode_rate: float = 100.0  # photographs of 500 pixels decoded and cropped per second by one process
    crop_rate: float = 20e6  # pixels per second cropped from images that are kept decoded
    overhead: float = 0.01  # seconds that a step costs however small it is
    bfloat16_gain: float = 1.0  # times as fast as ``conv_flops``, convolutions and products in bfloat16
    base_bytes: float = 3.0 * GB  # memory of a process before the first image, PyTorch's libraries above all
    interpreter_rate: float = 250.0  # times a second that Python does a fixed piece of work: train.speed
    passes: Mapping[str, float] = field(default_factory=dict)  # seconds of whole batches that were measured themselves
    measured: tuple[str, ...] = ()  # those of the above that come from a record

    def rate_between(self, processes: int) -> float:
        """Bytes/s of a reduction over so many processes, by its slowest link."""
        return self.link_rate if processes <= self.per_machine else min(self.link_rate, self.network_rate)

    def product_rates(self, precision: str) -> tuple[float, float]:
        """FLOP/s of convolutions and of other matrix products in the network."""
        if precision == "float32":
            return self.conv_flops, self.linear_flops
        low = self.bfloat16_gain * self.conv_flops
        return low, max(low, self.linear_flops)


def _gpu(
    name: str, tf32: float, fp32: float, fp64: float, gb: float, gb_s: float, link: float, ram: float, gain: float
) -> Hardware:
    """TFLOP/s, GB, GB/s, GB/s one way and GB of the machine for each GPU, as published, to what is reached."""
    return Hardware(
        name=name,
        is_gpu=True,
        memory_bytes=gb * 2**30,
        ram_bytes=ram * GB,
        conv_flops=EFFICIENCY["conv_flops"] * tf32 * TERA,
        linear_flops=EFFICIENCY["linear_flops"] * fp32 * TERA,
        double_flops=EFFICIENCY["double_flops"] * fp64 * TERA,
        memory_rate=EFFICIENCY["memory_rate"] * gb_s * GB,
        link_rate=EFFICIENCY["link_rate"] * link * GB,
        bfloat16_gain=gain,
        network_rate=EFFICIENCY["network_rate"] * 12.5 * GB,  # 100 Gb/s for a machine: an assumption
    )


# NVIDIA's data sheets, SXM modules, without sparsity: H100 (2022), A100 (2020, 2021), V100 (2018); float64 of H100
# and A100 by their tensor cores, which are twice as fast in bfloat16 as in TF32. NVLink counts one way, half of what
# is printed. RAM: DGX H100, A100 and 1, by 8.
GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("h100", tf32=494.5, fp32=67, fp64=67, gb=80, gb_s=3350, link=450, ram=256, gain=2),
        _gpu("a100-80gb", tf32=156, fp32=19.5, fp64=19.5, gb=80, gb_s=2039, link=300, ram=256, gain=2),
        _gpu("a100-40gb", tf32=156, fp32=19.5, fp64=19.5, gb=40, gb_s=1555, link=300, ram=128, gain=2),
        _gpu("v100-32gb", tf32=15.7, fp32=15.7, fp64=7.8, gb=32, gb_s=900, link=150, ram=64, gain=1),
        _gpu("v100-16gb", tf32=15.7, fp32=15.7, fp64=7.8, gb=16, gb_s=900, link=150, ram=64, gain=1),
    )
}
# two cores at 3 GHz with two AVX2 units of 8 float32 each, and half of a memory channel pair
CPU = Hardware(
    name="cpu",
    is_gpu=False,
    memory_bytes=8 * 2**30,
    ram_bytes=8 * 2**30,
    conv_flops=EFFICIENCY["conv_flops"] * 0.192 * TERA,
    linear_flops=EFFICIENCY["linear_flops"] * 0.192 * TERA,
    double_flops=EFFICIENCY["double_flops"] * 0.096 * TERA,
    memory_rate=EFFICIENCY["memory_rate"] * 20 * GB,
    link_rate=EFFICIENCY["link_rate"] * 10 * GB,
    network_rate=EFFICIENCY["network_rate"] * 1.25 * GB,
    per_machine=1,
    overhead=0.002,
    base_bytes=0.4 * GB,
)
THIS = "this"  # name of the machine that a plan is made on: planner.calibration
MEASURABLE = (
    *EFFICIENCY,
    "disk_rate",
    "decode_rate",
    "crop_rate",
    "overhead",
    "bfloat16_gain",
    "base_bytes",
    "memory_bytes",
    "ram_bytes",
)


def hardware_named(name: str, folder: Path | None = None) -> Hardware:
    """A GPU by its name, or ``cpu``: the one of the newest record, called by its model. What was measured wins.

    Args:
        folder: Where the records of ``benchmarks/phases.py`` are; ``results/benchmarks`` by default.

    Raises:
        ValueError: a name that is not in the table.
    """
    table = {**GPUS, CPU.name: CPU}
    if name not in table:
        raise ValueError(f"unknown hardware {name!r}; there are {', '.join(table)}, and {THIS}, which is measured here")
    device, values = select_measured(folder or project_root() / "results" / "benchmarks").get(name, ("", {}))
    called = device if device and not table[name].is_gpu else name
    return replace(table[name], name=called, **values, measured=tuple(values))  # type: ignore[arg-type]


def select_measured(folder: Path) -> dict[str, tuple[str, dict[str, float]]]:
    """For each hardware that was measured: on which device at last, and values by the names of :class:`Hardware`."""
    found: dict[str, tuple[str, dict[str, float]]] = {}
    records = [r for r in read_records(folder) if r.card is not None and "hardware" in r.card.config]
    for record in sorted(records, key=lambda r: r.card.created if r.card else ""):
        if record.name in MEASURABLE and record.card is not None:
            name = str(record.card.config["hardware"])
            found[name] = record.card.device, {**found.get(name, ("", {}))[1], record.name: record.value}
    return found
