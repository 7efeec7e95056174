"""Compare the planner with real runs that its constants were not fitted on: seconds of each phase, peak memory.

    python benchmarks/phases.py          # first: the constants of this machine
    python benchmarks/plan_accuracy.py   # then: a few minutes on two cores, with nothing else running

Each run is a pre-training on random pixels in a process of its own, whose phases are timed as they are called. The
record goes to ``results/benchmarks/plan_accuracy.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measuring import benchmark_card, in_child, record_path

from dclib.cluster import pseudo_labels
from dclib.config import ClusterConfig, DataConfig, MethodConfig, ModelConfig, ProbeConfig, TrainConfig
from dclib.data.images import ImageSet, NumberedIds
from dclib.data.pixels import Pixels
from dclib.planner.hardware import Hardware, hardware_named
from dclib.planner.plan import plan_work
from dclib.planner.workload import Workload
from dclib.records import Record, write_records
from dclib.train import clustering, pretrain
from dclib.train.runs import device_name

# name -> images, width, side, feature dimension, super-clusters, sub-clusters, batch
RUNS = {
    "narrow": (6000, 1 / 8, 32, 128, 1, 64, 64),
    "wide": (1500, 1 / 2, 32, 256, 1, 16, 32),
    "larger images": (1500, 1 / 4, 64, 128, 2, 16, 64),
    "many images": (40_000, 1 / 16, 32, 256, 4, 100, 256),
    "many clusters": (12_000, 1 / 16, 32, 512, 1, 2000, 128),
}
TINY = {"next to nothing": (64, 1 / 16, 32, 16, 1, 4, 8)}  # what such a run holds, any run holds
TIMED = {
    "features": (clustering, "store_features"),
    "whitening": (pseudo_labels, "whiten"),
    "k-means, level 1": (pseudo_labels, "_first_level"),
    "k-means, level 2": (pseudo_labels, "_second_level"),
    "training": (pretrain, "train_epoch"),
}
EPOCHS = 2


class Nothing:
    """Stands where the images' bytes would come from."""

    def read(self, image_id: str) -> bytes:
        raise AssertionError(f"image {image_id} is decoded already")

    def sizes(self, image_ids: Any) -> Any:
        return np.zeros(len(image_ids), dtype=np.int64)


def config_of(name: str) -> tuple[MethodConfig, int]:
    n, width, side, d, n_super, n_sub, batch = {**RUNS, **TINY}[name]
    return MethodConfig(
        model=ModelConfig(image_size=side, width=width, hidden_dim=d, feature_dim=d, dropout=0.0),
        cluster=ClusterConfig(n_super=n_super, n_sub=n_sub, pca_dim=d // 2, backend="torch"),
        train=TrainConfig(epochs=EPOCHS, batch_size=batch, lr=0.01, crop_area=0.3),
    ), n


def run_once(name: str) -> dict[str, float]:
    """One pre-training in this process: seconds of each phase, and its peak resident memory in bytes."""
    config, n = config_of(name)
    side, rng = config.model.image_size, torch.Generator().manual_seed(0)
    decoded = torch.randint(0, 256, (n, 3, side, side), generator=rng, dtype=torch.uint8)
    images = ImageSet("random", NumberedIds(np.arange(n), 8), Nothing())
    seconds: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory(prefix="plan_accuracy-") as folder:
        patches = [patch.object(room, f, timed(getattr(room, f), phase, seconds)) for phase, (room, f) in TIMED.items()]
        for each in patches:
            each.start()
        pretrain.pretrain(Pixels(images, (), side, side, decoded), config, folder=folder, report=lambda line: None)
    return {**seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0}


def timed(work: Callable[..., Any], phase: str, seconds: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return work(*arguments, **options)
        finally:
            seconds[phase] += time.perf_counter() - start

    return call


def planned(name: str, hardware: Hardware) -> dict[str, float]:
    """The same numbers by the planner."""
    config, n = config_of(name)
    work = Workload(
        config=config,
        data=DataConfig(resize=config.model.image_size),
        probe=ProbeConfig(),
        n_images=n,
        hardware=hardware,
        processes=1,
        labelled_images=1,
        test_images=1,
        n_classes=2,
    )
    phases = [phase for phase in plan_work(work).phases if phase.name in TIMED]
    peak = max(phase.device_bytes + phase.ram_bytes for phase in phases)
    return {**{phase.name: phase.total_seconds for phase in phases}, "peak": peak}


def run_in_child(name: str, *, gives_back: bool = False) -> dict[str, float]:
    """What :func:`run_once` returns in a process of its own."""
    found: dict[str, float] = json.loads(in_child(__file__, "--child", name, gives_back=gives_back).splitlines()[-1])
    return found


def peak_in_child(name: str) -> float:
    """Peak resident bytes of a run whose allocator gives large blocks back at once, which also makes it slower."""
    return run_in_child(name, gives_back=True)["peak"]


def compare(name: str, hardware: Hardware) -> list[Record]:
    """Planned and measured values of one run, in a process of its own."""
    found, expected, records = run_in_child(name), planned(name, hardware), []
    found["peak"] = peak_in_child(name)
    found["all phases"] = sum(found[phase] for phase in expected if phase != "peak")
    expected["all phases"] = sum(value for phase, value in expected.items() if phase != "peak")
    for phase, value in expected.items():
        unit, kind = ("B", "memory") if phase == "peak" else ("s", "seconds")
        print(f"{name}, {phase}: planned {value:,.4g} {unit}, measured {found[phase]:,.4g} {unit}")
        for source, number in (("planned", value), ("measured", found[phase])):
            keys = {"run": name, "phase": phase, "source": source}
            records.append(Record(name=f"plan_{kind}", value=number, unit=unit, n=1, keys=keys))
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS), help="default: all")
    parser.add_argument("--child", choices=[*RUNS, *TINY], help=argparse.SUPPRESS)
    parser.add_argument("--records", type=Path, help="folder of the record of benchmarks/phases.py")
    default = record_path("plan_accuracy")
    parser.add_argument("--output", type=Path, default=default)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_once(options.child)))
        return
    began, hardware = time.monotonic(), hardware_named("cpu", options.records)
    records = [record for name in options.runs for record in compare(name, hardware)]
    settings = {"runs": options.runs, "sizes": {name: repr(run) for name, run in RUNS.items()}, "epochs": EPOCHS}
    device = device_name(torch.device("cpu"))
    rooms = ("cluster", "models", "planner", "train")
    card = benchmark_card(settings, rooms, began, device=device, planned_for=hardware.name)
    write_records(options.output, card, records)


if __name__ == "__main__":
    main()
