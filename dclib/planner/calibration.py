"""This machine, measured: a few seconds at its first run, kept in the folder of the runs.

There rather than in the user's cache: who removes the runs leaves nothing behind, a folder on a disk that several
machines share has a file for each, and a test has its own. No torch here: processes of their own measure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from dclib.config import Preset, config_hash
from dclib.machine import cpu_model, cpu_name
from dclib.planner.hardware import CPU, Hardware
from dclib.planner.passes import Pass, fit_rates, fitted_passes, passes_of
from dclib.presets import runs_folder
from dclib.records import code_hash, installed_versions, write_atomically

BUDGET = 5.5  # seconds of measuring; with the start of its process it stays below ten
LONGEST = 0.4  # seconds of a batch that is measured itself; rates stand for larger ones
LEFT_OUT = 0.0  # in place of the seconds of such a batch, and of what the budget did not reach
LEAST_GAIN, USUAL_GAIN = 1.01, 1.5  # of bfloat16, where the CPU has instructions for it
SPEED = "dclib.train.speed"  # what measures
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")  # of the instructions that may be used, in the environment
ROOMS = ("cluster", "models", "planner/passes", "train/speed")  # whose speed it is


def this_machine(
    preset: Preset, *, threads: int, beside: int = 1, report: Callable[[str], None] = lambda line: None
) -> Hardware:
    """What a process of this machine does, measured now where it has not been; a guess where it cannot be.

    Args:
        preset: Whose networks are measured themselves; those that take too long are left to the rates.
        threads: Of the process.
        beside: Processes at work at once: as many measure.
        report: Told that it measures, or why it cannot.
    """
    path = calibration_path(threads, beside)
    found = read_calibration(path)
    wanted = [one for one in [*fitted_passes(), *passes_of(preset)] if one.name not in found]
    if wanted:
        report(f"measuring this machine for some seconds, {beside} at work at once; kept in {path}")
        try:
            measured = _measure(wanted, threads, beside)
        except (OSError, ValueError) as error:
            report(f"this machine could not be measured, so times are guesses: {error}")
            return replace(CPU, name=f"{cpu_name(threads)}, not measured")
        found = {**dict.fromkeys((one.name for one in wanted), LEFT_OUT), **found, **measured}
        _keep(path, found, report)
    return as_hardware(found, cpu_name(threads))


def kept_machine(threads: int) -> Hardware | None:
    """This machine as its newest calibration with so many threads has it; None where there is none."""
    place = calibration_path(threads, 1)
    kept = place.parent.glob(place.name.replace("x1.", "x*."))
    for path in sorted(kept, key=lambda path: path.stat().st_mtime, reverse=True):
        if found := read_calibration(path):
            return as_hardware(found, cpu_name(threads))
    return None


def calibration_path(threads: int, beside: int) -> Path:
    """Where a calibration is kept: one for each CPU, version of torch, limit of instructions, threads and company."""
    limits = {name: os.environ[name] for name in LIMITS if name in os.environ}
    of = config_hash(cpu_model(), installed_versions().get("torch", ""), limits, code_hash(*ROOMS))
    return runs_folder() / "calibration" / f"{of}-{threads}x{beside}.json"


def read_calibration(path: Path) -> dict[str, float]:
    """What was measured; nothing where the file is not there or not whole."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in found["measured"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def as_hardware(found: Mapping[str, float], name: str) -> Hardware:
    """A calibration as the planner takes it."""
    fitted = fitted_passes()
    seconds = {name: value for name, value in found.items() if ":" in name and value > 0}
    rates = {**fit_rates([one for one in fitted if one.name in seconds], seconds), **_general(found)}
    return replace(CPU, name=name, passes=seconds, measured=tuple(rates), **rates)  # type: ignore[arg-type]


def _general(found: Mapping[str, float]) -> dict[str, float]:
    """The rates that are not those of passes."""
    known = {name: found[name] for name in ("linear_flops", "double_flops", "crop_rate", "interpreter_rate")}
    ram = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return {**known, "bfloat16_gain": _gain(found), "memory_bytes": ram, "ram_bytes": ram}


def _gain(found: Mapping[str, float]) -> float:
    """How many times as fast passes in bfloat16 are; 1 where the CPU has no instructions for it."""
    if not found["bfloat16"]:
        return 1.0
    rounded = {name: seconds for name, seconds in found.items() if name.endswith((" auto", " bfloat16")) and seconds}
    exact = {name: found.get(f"{name.rpartition(' ')[0]} float32", LEFT_OUT) for name in rounded}
    gains = [exact[name] / seconds for name, seconds in rounded.items() if exact[name]]
    return max(LEAST_GAIN, sum(gains) / len(gains)) if gains else USUAL_GAIN


def _measure(passes: Sequence[Pass], threads: int, beside: int) -> dict[str, float]:
    """Means over ``beside`` processes that measure side by side. Raises ValueError where one of them fails."""
    asked = {"passes": [one.asked() for one in passes], "budget": BUDGET, "longest": LONGEST}
    command = [sys.executable, "-m", SPEED]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    children = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(beside)]
    try:
        with ThreadPoolExecutor(beside) as listeners:  # all of them at once, or one would wait for another's end
            said = list(listeners.map(lambda child: child.communicate(json.dumps(asked)), children))
    finally:
        for child in children:
            child.kill()
    if failed := [errors for child, (_, errors) in zip(children, said, strict=True) if child.returncode]:
        raise ValueError((failed[0].strip().splitlines() or ["its process was ended"])[-1])
    found = [json.loads(text.splitlines()[-1]) for text, _ in said]
    return {name: sum(one[name] for one in found) / beside for name in found[0] if all(name in one for one in found)}


def _keep(path: Path, found: Mapping[str, float], report: Callable[[str], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"cpu": cpu_model(), "measured": dict(found)}, indent=1).encode())
    except OSError as error:
        report(f"cannot keep it in {path.parent}: {error.strerror}; the next run measures again")
