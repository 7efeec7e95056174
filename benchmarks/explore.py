"""Explore folders of photographs as a new user would: minutes, memory, the verdict, and how pure the clusters are.

    python benchmarks/explore.py ../shared/data/imagenette112/train.tar ../shared/data/VOC2007 --minutes 30

Classes are hidden: the photographs of an archive are written to one folder under numbers. What is found is compared
with them beside as many clusters, by the same k-means, of the photographs' pixels, of colour histograms, and of a
network that was only drawn. The record goes to ``results/benchmarks/explore.json``; one set takes the time it is given.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measuring import benchmark_card, record_path
from sklearn.metrics import normalized_mutual_info_score

from dclib.data.layouts import open_images
from dclib.data.photographs import open_photographs
from dclib.explore.describe import balanced, describe_images, part_sizes
from dclib.explore.group import find_space
from dclib.explore.learn import Network, shrink
from dclib.explore.look import look_at
from dclib.machine import count_cores, cpu_name
from dclib.models.vgg import Trunk
from dclib.presets import load_preset
from dclib.records import Record, write_records
from dclib.train.runnable import draw_pocket_world

LEAST_OF_CLASS = 50  # photographs of VOC2007 with a class for it to be one of those that are hidden


def hidden(source: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """Photographs without their classes, and the class of each that has one."""
    if (source / "ImageSets" / "Main").is_dir():
        return source / "JPEGImages", voc_classes(source)
    images, classes = open_images(source), {}
    order = np.random.default_rng(0).permutation(len(images))  # names say nothing of the class
    for number, i in enumerate(order.tolist()):
        name = f"{number:05d}{Path(images.ids[i]).suffix}"
        (folder / name).write_bytes(images.read(i, bytes))
        if images.labels is not None:
            classes[name] = images.classes[images.labels[i]]
    return folder, classes


def voc_classes(source: Path) -> dict[str, str]:
    """The rarest class of each photograph of Pascal VOC 2007, among those that many have."""
    having: dict[str, list[str]] = {}
    for split in ("trainval", "test"):
        for path in sorted((source / "ImageSets" / "Main").glob(f"*_{split}.txt")):
            lines = [line.split() for line in path.read_text().splitlines()]
            having.setdefault(path.stem.rpartition("_")[0], []).extend(one[0] for one in lines if one[1] == "1")
    there = {path.stem for path in (source / "JPEGImages").iterdir()}
    having = {name: [i for i in ids if i in there] for name, ids in having.items()}
    common = sorted((name for name, ids in having.items() if len(ids) >= LEAST_OF_CLASS), key=lambda c: -len(having[c]))
    return {f"{image}.jpg": name for name in common for image in having[name]}  # rarer ones come last and stay


def purity(classes: np.ndarray, clusters: np.ndarray) -> float:
    """Share of photographs that are of the commonest class of their cluster."""
    return float(sum(np.bincount(classes[clusters == c]).max() for c in np.unique(clusters)) / len(classes))


def baselines(photographs: Path, out: Path, k: int) -> Iterator[tuple[str, np.ndarray]]:
    """As many clusters of what is simpler, over the same photographs in the same order."""
    looked = look_at(open_photographs(photographs), out / "look", lambda done, of: None)
    squares = torch.from_numpy(looked.squares[:])
    yield "pixels", clustered(F.adaptive_avg_pool2d(squares.float() / 255, 8).flatten(1), k)
    levels = (squares // 64).long()
    bins = (levels[:, 0] * 16 + levels[:, 1] * 4 + levels[:, 2]).flatten(1)
    histograms = torch.stack([torch.bincount(one, minlength=64) for one in bins]).float().sqrt()
    yield "colour histograms", clustered(histograms, k)
    rounds = Network.at(out / "network").rounds
    if rounds:
        trunk = Trunk(rounds[0].model, torch.Generator().manual_seed(0)).eval()
        with tempfile.TemporaryDirectory() as work:
            rows = np.arange(len(looked))
            pixels = shrink(looked.squares, rows, rounds[0].model, looked.images, "all", Path(work))
            drawn = describe_images(trunk, pixels)
        yield "network that was only drawn", clustered(drawn, k, balanced(drawn, part_sizes(trunk)))


def clustered(features: torch.Tensor, k: int, scale: torch.Tensor | None = None) -> np.ndarray:
    space = find_space(features, k, torch.ones(features.shape[1]) if scale is None else scale)
    return space.place(features)["cluster"].numpy()


def measure(source: Path, minutes: float) -> list[Record]:
    keys: dict[str, str | int] = {"set": "/".join(source.parts[-2:])}
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "photos").mkdir()
        photographs, classes = hidden(source, Path(work) / "photos")
        out, began = Path(work) / "out", time.monotonic()
        command = [sys.executable, "-m", "dclib", "explore", str(photographs), "--minutes", str(minutes)]
        subprocess.run([*command, "--out", str(out)], check=True)
        took = (time.monotonic() - began) / 60
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
        with (out / "photos.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        keys["verdict"] = summary["verdict"]["word"]
        n = len(rows)
        records = [
            Record(name="explore_minutes", value=took, unit="min", n=n, keys=keys),
            Record(name="explore_memory", value=memory, unit="GB", n=n, keys=keys),
            Record(name="explore_score", value=float(summary["verdict"].get("score", 0.0)), unit="1", n=n, keys=keys),
        ]
        known = np.array([row["path"] in classes for row in rows])
        if known.any() and rows[0]["cluster"]:
            names = sorted(set(classes.values()))
            told = np.array([names.index(classes.get(row["path"], names[0])) for row in rows])
            ours = np.array([int(row["cluster"]) for row in rows])
            for what, found in [("explored", ours), *baselines(photographs, out, summary["clusters"])]:
                own = {**keys, "clusters": what}
                score = purity(told[known], found[known])
                nmi = float(normalized_mutual_info_score(told[known], found[known]))
                records.append(Record(name="explore_purity", value=100 * score, unit="%", n=int(known.sum()), keys=own))
                records.append(Record(name="explore_nmi", value=nmi, unit="1", n=int(known.sum()), keys=own))
    for record in records:
        print(f"{record.name} {dict(record.keys)}: {record.value:.4g} {record.unit} of {record.n}", flush=True)
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sources", nargs="*", type=Path, help="class folders, tars of them, or Pascal VOC 2007 (default: drawn images)"
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="that each may take")
    parser.add_argument("--output", type=Path, default=record_path("explore"))
    options = parser.parse_args()
    options.sources = options.sources or [draw_pocket_world(load_preset("smoke")) / "objects" / "train"]
    began = time.monotonic()
    device = cpu_name(count_cores())
    settings = {"sets": len(options.sources), "minutes": options.minutes}
    records: list[Record] = []
    for source in options.sources:  # what is measured is kept, whatever comes of the next one
        records += measure(source, options.minutes)
        card = benchmark_card(settings, ("explore",), began, device=device, seed=0)
        write_records(options.output, card, records)


if __name__ == "__main__":
    main()
