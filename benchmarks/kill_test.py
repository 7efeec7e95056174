"""Kill a run again and again: it must end with the numbers of one that was left in peace.

    OMP_NUM_THREADS=1 python benchmarks/kill_test.py

Pre-trains and probes a small preset (``python -m dclib pretrain``, then ``probe``) once without disturbance, then once
more while SIGKILL ends its process group at random moments, each time followed by a restart. Kills are aimed at the
phases in turn, at a random part of each, and some at any moment. At the end every record, every weight and the list of
files must be the same, readings of the clock aside. The kills in each phase go to
``results/benchmarks/kill_test.json``.

Each sitting is a process forked from one that has imported the library, so that it costs no import. It tells its phase
by a byte into a pipe, which outlives it: where a kill has landed is known, not guessed.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import torch
import torch._dynamo  # optimisers import it when first made; here, it is there for every sitting
import yaml
from measuring import benchmark_card, record_path

from dclib import __main__ as door
from dclib.cluster import pseudo_labels
from dclib.evaluate import runs as evaluation
from dclib.pocket.world import make_pocket_world
from dclib.records import Record, write_records
from dclib.train import clustering
from dclib.train import pretrain as loop
from dclib.train import runs as pretraining
from dclib.train.checkpoints import Saver
from dclib.train.start import ROOMS

METHOD = "deepercluster"
PRESET: dict[str, Any] = {
    "description": "For the kill test: both levels of k-means, dropout, features of half precision.",
    "data": {"resize": 32},
    "model": {"image_size": 32, "width": 0.125, "hidden_dim": 128, "feature_dim": 256, "dropout": 0.3},
    "cluster": {"n_super": 2, "n_sub": 16, "pca_dim": 128, "n_iter": 20, "precision": "float16"},
    "train": {"epochs": 30, "epoch_images": 256, "batch_size": 32, "lr": 0.025, "crop_area": 0.3},
    "probe": {"epochs": 30, "batch_size": 64, "augment": False},
    "methods": {METHOD: {}},
}
POOL_IMAGES = 1000
SAVE_EVERY = 0.1  # seconds between checkpoints of a run that is killed; one in peace has the library's minute

ANY_SHARE = 1 / 8  # of a whole run, within which a kill at any moment comes
LOG = "log.txt"

EVALUATION, BETWEEN, ANY = "evaluation", "loading and in between", "any moment"
PHASES: dict[str, tuple[Any, str]] = {  # the function of the library that is a phase
    "feature extraction": (clustering, "store_features"),
    "whitening": (pseudo_labels, "whiten"),
    "k-means, level 1": (pseudo_labels, "_first_level"),
    "k-means, level 2": (pseudo_labels, "_second_level"),
    "training": (loop, "train_epoch"),
    "checkpoint writing": (Saver, "save"),
    EVALUATION: (evaluation, "linear_probe"),
}
NAMES = (BETWEEN, *PHASES)
# what may differ
CLOCK = ("seconds", "created", "epoch_began", "waited", "images_per_second", "data_wait", "pretrain_seconds")


# --- the run, in a process of its own


@dataclass
class Sitting:
    """A process that pre-trains and probes, or goes on with it."""

    process: int
    pipe: int  # it tells its phases there
    log: Path
    phase: str = BETWEEN  # the last it has told

    @classmethod
    def begin(cls, runs: Path, preset: Path, save_every: float | None) -> Sitting:
        """Fork it, as the head of a process group of its own."""
        runs.mkdir(exist_ok=True)
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            status = 1
            try:
                os.setsid()
                status = pretrain_and_probe(runs, preset, save_every, writing)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        os.close(writing)
        return cls(process, reading, runs / LOG)

    def listen(self, patience: float | None) -> bool:
        """Wait for the next phase, at most ``patience`` seconds; False when the time is up or the process has ended."""
        ready = select.select([self.pipe], [], [], patience)[0]
        told = os.read(self.pipe, 1) if ready else b""
        if told:
            self.phase = NAMES[told[0]]
        return bool(told)

    def kill(self) -> bool:
        """End its process group. False if it had come to its end by itself; SystemExit if that was no good one."""
        os.killpg(self.process, signal.SIGKILL)
        return self.end()

    def end(self) -> bool:
        """Wait for its end, hear what it told last, and say whether it was killed."""
        _, status = os.waitpid(self.process, 0)
        while self.listen(0.0):
            pass
        os.close(self.pipe)
        if status and os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            raise SystemExit(f"the run failed:\n{self.log.read_text()[-3000:]}")
        return bool(status)


def pretrain_and_probe(runs: Path, preset: Path, save_every: float | None, pipe: int) -> int:
    """What the two commands do; the exit status."""
    log = os.open(runs / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["DCLIB_RUNS"] = str(runs)
    torch.set_num_threads(1)
    stack = [BETWEEN]
    for phase, (owner, function) in PHASES.items():
        setattr(owner, function, telling(getattr(owner, function), phase, stack, pipe))
    if save_every is not None:
        pretraining.pretrain = partial(pretraining.pretrain, save_every=save_every)
    options = ["--preset", str(preset), "--method", METHOD]
    return door.main(["pretrain", *options]) or door.main(["probe", *options])


def telling(call: Callable[..., Any], phase: str, stack: list[str], pipe: int) -> Callable[..., Any]:
    """``call``, which says when it begins and what goes on when it ends."""

    def tell() -> None:
        os.write(pipe, bytes([NAMES.index(stack[-1])]))

    @wraps(call)
    def told(*arguments: Any, **options: Any) -> Any:
        stack.append(phase)
        tell()
        try:
            return call(*arguments, **options)
        finally:
            stack.pop()
            tell()

    return told


# --- the one who kills


def run_in_peace(runs: Path, preset: Path) -> dict[str, float]:
    """Median seconds of each phase of an undisturbed run, and under ``ANY`` those of the whole."""
    sitting = Sitting.begin(runs, preset, None)
    began = since = time.monotonic()
    spent: dict[str, list[float]] = {}
    phase = sitting.phase
    while sitting.listen(None):
        now = time.monotonic()
        spent.setdefault(phase, []).append(now - since)
        phase, since = sitting.phase, now
    sitting.end()
    return {**{name: median(seconds) for name, seconds in spent.items()}, ANY: time.monotonic() - began}


def run_killed(runs: Path, preset: Path, plan: list[str], seconds: Mapping[str, float], draws: Random) -> Counter[str]:
    """Kill and restart a run as planned until it has come to its end; the kills in each phase.

    What has landed is taken from the plan; more of it is left if the run ends too soon.
    """
    hits: Counter[str] = Counter()
    while True:
        aim = plan[0] if plan else None
        delay = draws.random() * (seconds[ANY] * ANY_SHARE if aim == ANY else seconds[aim] if aim else 0.0)
        phase = sit(runs, preset, aim, delay)
        if phase is None:
            return hits
        hits[phase] += 1
        print(f"{runs.name}: kill {hits.total()}, aimed at {plan.pop(0)}: {phase}", flush=True)


def sit(runs: Path, preset: Path, aim: str | None, delay: float) -> str | None:
    """One sitting, killed ``delay`` seconds after its phase ``aim`` has begun; ``ANY`` begins with it, None never.

    Returns the phase that the kill has ended; None if the run came to its end before.
    """
    sitting = Sitting.begin(runs, preset, SAVE_EVERY)
    moment = time.monotonic() + delay if aim == ANY else None
    while sitting.listen(None if moment is None else max(0.0, moment - time.monotonic())):
        if moment is None and sitting.phase == aim:
            moment = time.monotonic() + delay
    killed = sitting.kill() if moment is not None else sitting.end()
    return sitting.phase if killed else None


def plan_kills(kills: int, draws: Random) -> list[str]:
    """What each kill is aimed at: all phases in turn, evaluation last, for nothing comes after it."""
    aims: list[str] = []
    while len(aims) < kills:
        aims += draws.sample([*PHASES, ANY], len(PHASES) + 1)
    return sorted(aims[:kills], key=EVALUATION.__eq__)


# --- what must be the same


def compare(one: Path, other: Path) -> tuple[Counter[str], list[str]]:
    """Numbers compared, records and weights, and what differs between two folders of runs."""
    names = [sorted(str(p.relative_to(runs)) for p in runs.rglob("*") if p.name != LOG) for runs in (one, other)]
    found = [f"only in one of them: {name}" for name in sorted({*names[0]} ^ {*names[1]})]
    compared: Counter[str] = Counter()
    for name in sorted({*names[0]} & {*names[1]}):
        contents = [read(runs / name) for runs in (one, other)]
        found += [f"{name}: {place}" for place in differences(*contents)]
        if name.endswith(".json"):
            compared["records"] += len(contents[0].get("records", ()))
        if name.endswith(".pt"):
            compared["weights"] += sum(tensor.numel() for tensor in contents[0]["state"]["trunk"].values())
    return compared, found


def read(path: Path) -> Any:
    """A file's content, in parts where it has some."""
    if path.is_dir():
        return None
    if path.suffix == ".json":
        return json.loads(path.read_text())
    return torch.load(path, weights_only=True) if path.suffix == ".pt" else path.read_bytes()


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Places at which two contents differ by a bit, readings of the clock aside."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        clock = {*CLOCK, "value"} if one.get("name") in CLOCK else CLOCK
        for key in one.keys() - clock:
            yield from differences(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{place}/{i}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield f"{place} differs"
    elif type(one) is not type(other) or one != other:
        yield f"{place} is {one!r:.60} and {other!r:.60}"


# --- the whole


def kill_and_compare(
    folder: Path, preset: Path, plan: list[str], each: int, draws: Random
) -> tuple[Counter[str], Counter[str]]:
    """Kills in each phase, at least ``each``, and how much was compared; SystemExit where something differs."""
    seconds = run_in_peace(folder / "peace", preset)
    print("in peace: " + ", ".join(f"{name} {value:.3f} s" for name, value in seconds.items()), flush=True)
    hits: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    while plan:
        compared["runs"] += 1
        runs = folder / f"killed-{compared['runs']}"
        hits += run_killed(runs, preset, plan, seconds, draws)
        numbers, found = compare(folder / "peace", runs)
        if found:
            raise SystemExit("\n".join([f"{runs} differs from the run in peace:", *found]))
        compared += numbers
        if not plan:
            plan = [phase for phase in PHASES for _ in range(each - hits[phase])]
    return hits, compared


def write(path: Path, seconds: float, hits: Mapping[str, int], compared: Mapping[str, int]) -> None:
    """The records of the test."""
    total = sum(hits.values())
    records = [Record(name="kills", value=hits[name], unit="kills", n=total, keys={"phase": name}) for name in NAMES]
    records += [Record(name="compared", value=compared[what], unit=what, n=total) for what in compared]
    settings = {**PRESET, "images": POOL_IMAGES, "save_every": SAVE_EVERY}
    rooms = (*ROOMS, "train", "evaluate/linear_probe", "evaluate/runs")
    card = benchmark_card(settings, rooms, time.monotonic() - seconds, device="cpu (1 thread)")
    write_records(path, card, records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills, at least")
    parser.add_argument("--aims", nargs="+", choices=[*PHASES, ANY], help="of each kill, in place of all in turn")
    parser.add_argument("--each", type=int, default=2, help="kills in every phase, at least")
    parser.add_argument(
        "--epochs", type=int, default=PRESET["train"]["epochs"], help="of the run, with a clustering each"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the aims and moments")
    parser.add_argument("--images", type=Path, help="pool/, objects/ and scenes/; a pocket world unless given")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder unless given")
    parser.add_argument("--output", type=Path, default=record_path("kill_test"))
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="kill-test-") as name:
        folder = Path(name)
        images = options.images or make_pocket_world(folder / "world", pool_images=POOL_IMAGES, processes=1)
        preset = folder / "killed.yaml"
        train = {**PRESET["train"], "epochs": options.epochs}
        preset.write_text(yaml.safe_dump({**PRESET, "data": {**PRESET["data"], "root": str(images)}, "train": train}))
        draws = Random(options.seed)
        plan = options.aims or plan_kills(options.kills, draws)
        hits, compared = kill_and_compare(folder, preset, plan, options.each, draws)
    for phase in NAMES:
        print(f"{hits[phase]:4} {phase}")
    print(f"{hits.total():4} kills; the same in all: {', '.join(f'{n:,} {what}' for what, n in compared.items())}")
    write(options.output, time.monotonic() - start, hits, compared)


if __name__ == "__main__":
    main()
