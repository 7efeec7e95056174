"""Bytes, seconds and what an estimate rests on, in words."""

from __future__ import annotations

from collections.abc import Sequence

from dclib.planner.hardware import EFFICIENCY, MEASURABLE, Hardware

WORDS = {
    "conv_flops": "convolutions",
    "linear_flops": "float32 products",
    "double_flops": "float64 products",
    "memory_rate": "memory",
    "link_rate": "links in a machine",
    "network_rate": "network",
    "disk_rate": "disk",
    "decode_rate": "decoding",
    "crop_rate": "cropping",
    "overhead": "overhead of a step",
    "bfloat16_gain": "bfloat16",
    "base_bytes": "memory before the first image",
    "memory_bytes": "size of the memory",
    "ram_bytes": "size of the RAM",
}


def gigabytes(size: float) -> str:
    """Bytes in words, three digits."""
    for unit, scale in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size / 1e3:.3g} kB" if size else "0"


def duration(seconds: float) -> str:
    """Seconds in words, in the largest unit that leaves a number above one."""
    for unit, scale in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def hours(seconds: float) -> str:
    """Seconds as hours, whole ones where there are many: of processes added up, which have no larger unit."""
    return f"{seconds / 3600:,.0f}" if seconds >= 36_000 else f"{seconds / 3600:.2g}"


def hours_of(hardware: Hardware) -> str:
    """What hours of its processes are called."""
    return "GPU-hours" if hardware.is_gpu else "process-hours"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, its columns below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def rests_on(hardware: Hardware) -> str:
    """Which constants of some hardware are measured, which are peaks times an assumption, and which are assumed."""

    def listed(names: list[str]) -> str:
        return ", ".join(WORDS[name] for name in names) or "none"

    measured = [name for name in MEASURABLE if name in hardware.measured]
    peaks = [name for name in EFFICIENCY if name not in measured and name != "network_rate"]
    shares = sorted({f"{100 * EFFICIENCY[name]:.0f} %" for name in peaks})
    between = " to ".join(dict.fromkeys((shares[0], shares[-1]))) if shares else ""
    published = ["memory_bytes", "ram_bytes"]
    assumed = [name for name in MEASURABLE if name not in (*measured, *peaks, *published)]
    return (
        f"{hardware.name}: measured: {listed(measured)}. Published peaks times an assumed efficiency"
        f"{f' ({between})' if between else ''}: {listed(peaks)}. Assumed: {listed(assumed)}."
    )
