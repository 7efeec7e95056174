"""How well a verdict without labels tells good networks from bad: its score beside the accuracy of a linear classifier.

    python benchmarks/judge.py pocket                            # the networks in runs/pocket, and short, broken ones
    python benchmarks/judge.py photographs --data path/to/data   # likewise, of CIFAR-10
    python benchmarks/judge.py imagenette --data path/to/data    # short and broken ones of larger photographs

Networks that a preset has trained are found in its folder of runs and looked at; those of ``BROKEN`` are trained here,
in a minute or less each on a core. Every network is judged by images without labels, and then, by labels, with a ridge
classifier on its features, trained on some labelled images and tested on others: the same for all. Nothing of that
comes into the verdict. What is done is in ``results/judge/<collection>.json``, and a call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import benchmark_card

from dclib.analysis.judge import judge, rise, word_of
from dclib.analysis.measures import centre, features_of
from dclib.config import MethodConfig, ModelConfig, Preset
from dclib.data.pixels import Pixels
from dclib.models.vgg import Trunk
from dclib.presets import load_preset, project_root, runs_folder
from dclib.randomness import generator
from dclib.records import Record, read_records, write_records
from dclib.train.pretrain import pretrain
from dclib.train.runs import device_name, kept_pixels, prepare_data

SCENES = {"data.scenes_train": "scene15/train|", "data.scenes_test": "scene15/test|"}  # may be there; not used
CIFAR = {"data.pool": "cifar10/train", "data.objects_train": "cifar10/train", "data.objects_test": "cifar10/test"}
NETTE = {"data.pool": "imagenette112/train", "data.objects_train": "imagenette112/train"}
NETTE |= {"data.objects_test": "imagenette112/val", "data.resize": 64, "model.image_size": 64}
SETS: Mapping[str, Mapping[str, Any]] = {
    "pocket": {},
    "photographs": {**SCENES, **CIFAR},
    "imagenette": {**SCENES, **NETTE},
}
SHORT = {"pocket": 6000, "photographs": 3000, "imagenette": 1500}  # images of an epoch, of two epochs
# name -> method, settings that differ from the pocket preset's with SHORT epochs, and what is done to the images
BROKEN: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, int]]] = {
    "a_thousand": ("deepercluster", {"train.epochs": 1, "train.epoch_images": 1000}, {}),
    "one_epoch": ("deepercluster", {"train.epochs": 1}, {}),
    "two_epochs": ("deepercluster", {}, {}),
    "four_epochs": ("deepercluster", {"train.epochs": 4}, {}),
    "lr_high": ("deepercluster", {"train.lr": 0.4}, {}),
    "lr_too_high": ("deepercluster", {"train.lr": 3.0}, {}),
    "lr_low": ("deepercluster", {"train.lr": 0.0001}, {}),
    "clusters_2000": ("deepercluster", {"cluster.n_sub": 2000}, {}),
    "clusters_2": ("deepercluster", {"cluster.n_sub": 2}, {}),
    "axes_2": ("deepercluster", {"cluster.pca_dim": 2}, {}),
    "rgb": ("deepercluster", {"model.stem": "rgb"}, {}),
    "rgb_deepcluster": ("deepcluster", {"model.stem": "rgb"}, {}),
    "deepcluster": ("deepcluster", {}, {}),
    "rotnet_short": ("rotnet", {"train.epochs": 1}, {}),
    "rotnet_four": ("rotnet", {"train.epochs": 4}, {}),
    "decay": ("deepercluster", {"train.weight_decay": 0.1}, {}),
    "hundred_images": ("deepercluster", {"cluster.n_sub": 16}, {"images": 100}),
    "noise": ("deepercluster", {}, {"noise": 1}),
    "random_labels": ("supervised", {}, {"shuffled": 1}),
    "supervised_short": ("supervised", {"train.epochs": 1}, {}),
}
POOL = 10_000  # images that the broken ones learn from, at most
LABELLED = {"train": 3000, "test": 2000}  # images of the ridge classifier, at most
DECAYS = (1e-3, 1e-2, 1e-1, 1.0)  # tried on a fifth of its training images
# collection -> seeds of its networks that were looked at when the score was chosen; all others were kept back
SEEN = {"pocket": ("0", "1"), "photographs": ("0", "1", "2")}
BROKEN_SEEN = ("pocket", "photographs")  # collections whose broken networks were looked at too
DRAWN = 3  # networks that are only drawn


@dataclass(frozen=True)
class Network:
    """One to be judged."""

    name: str
    method: str
    trunk: Trunk
    history: list[dict[str, float]]
    seen: bool = False  # whether it was looked at when the score was chosen

    @property
    def keys(self) -> dict[str, str | int]:
        """Of its records."""
        return {"network": self.name, "method": self.method, "seen": int(self.seen)}


def found(folder: Path, seen: Sequence[str], name: str = "") -> Iterator[Network]:
    """The networks that a preset has trained, by their checkpoints."""
    for path in sorted(folder.glob("*-s*/checkpoint.pt"), key=_by_seed):
        run = re.fullmatch(r"(?P<method>.+)-s(?P<seed>\d+)-[0-9a-f]{12}", path.parent.name)
        if run and not run["method"].startswith("finetune-"):
            saved = torch.load(path, map_location="cpu", weights_only=True)["state"]
            trunk = Trunk(ModelConfig(**saved["model"]), generator(0, "judge"))
            trunk.load_state_dict(saved["trunk"])
            called = f"{name}{run['method']}-s{run['seed']}"
            yield Network(called, run["method"], trunk, saved["history"], run["seed"] in seen)


def _by_seed(path: Path) -> tuple[str, str]:
    """One seed of each method first: a call that is cut short has seen all methods."""
    return path.parent.name.split("-s")[-1][:1], path.parent.name


def drawn(config: ModelConfig, seen: Sequence[str]) -> Iterator[Network]:
    """Networks as they are before any training."""
    for seed in range(DRAWN):
        yield Network(f"random-s{seed}", "random", Trunk(config, generator(seed, "trunk")), [], str(seed) in seen)


def broken(collection: str, data: str) -> Iterator[Network]:
    """Short trainings, most of them with a setting that spoils them; kept, and gone on with."""
    for name, (method, settings, images) in BROKEN.items():
        shown = {"epochs": 2, "epoch_images": SHORT[collection]}
        short = {key.partition(".")[2]: value for key, value in settings.items() if key.startswith("train.")}
        preset = load_preset("pocket", {**_root(data), **SETS[collection], **settings})
        config = preset.method(method)
        config = replace(config, init="", train=replace(config.train, **{**shown, **short}))
        pixels = _spoiled(preset, config, images)
        folder = runs_folder() / "judge" / collection / name
        try:
            state = pretrain(pixels, config, folder=folder, report=lambda line: None)
            trunk, history = state.trunk, state.history
        except FloatingPointError:  # the checkpoint before that is what there is
            saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)["state"]
            trunk, history = Trunk(config.model, generator(0, "judge")), saved["history"]
            trunk.load_state_dict(saved["trunk"])
        yield Network(name, method, trunk, history)


def _spoiled(preset: Preset, config: MethodConfig, images: Mapping[str, int]) -> Pixels:
    """The images that a broken network learns from: few, noise, or with labels that mean nothing."""
    sets = prepare_data(preset)
    chosen = sets.objects_train if config.method == "supervised" else sets.pool
    assert chosen is not None
    pixels = kept_pixels(preset, config.method, chosen)
    assert pixels.decoded is not None
    rng = np.random.default_rng(5)
    rows = np.sort(rng.permutation(len(pixels))[: images.get("images", POOL)])
    if len(rows) < len(pixels):
        pixels = replace(pixels, images=pixels.images.subset(rows), decoded=pixels.decoded[torch.from_numpy(rows)])
    if "noise" in images:
        pixels = replace(pixels, decoded=torch.from_numpy(rng.integers(0, 256, pixels.decoded.shape, dtype=np.uint8)))
    if "shuffled" in images:
        assert pixels.images.labels is not None
        pixels = replace(pixels, images=replace(pixels.images, labels=rng.permutation(pixels.images.labels)))
    return pixels


def ridge_accuracy(
    train: torch.Tensor, labels: torch.Tensor, test: torch.Tensor, true: torch.Tensor, n_classes: int
) -> float:
    """Accuracy, %, of one-against-the-rest ridge regression on standardised features, its decay held out for."""
    if not bool(torch.isfinite(train).all() and torch.isfinite(test).all()):
        return 100 / n_classes
    scale, mean = torch.std_mean(train.double(), dim=0, correction=0)
    scale = scale + 1e-3 * float(scale.max()) + 1e-12
    own, others = ((part.double() - mean) / scale for part in (train, test))
    wanted = torch.eye(n_classes, dtype=torch.float64)[labels]
    order = torch.randperm(len(own), generator=generator(0, "ridge"))
    fitted, held = order[: len(own) * 4 // 5], order[len(own) * 4 // 5 :]

    def right(rows: torch.Tensor, decay: float, asked: torch.Tensor, answers: torch.Tensor) -> float:
        x, y = own[rows], wanted[rows] - wanted[rows].mean(dim=0)
        squares = x.T @ x + decay * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
        return float(((asked @ torch.linalg.solve(squares, x.T @ y)).argmax(dim=1) == answers).double().mean())

    best = max(DECAYS, key=lambda decay: right(fitted, decay, own[held], labels[held]))
    return 100 * right(order, best, others, true)


@dataclass(frozen=True)
class Labelled:
    """Images with labels, for the yardstick alone."""

    pixels: Mapping[str, torch.Tensor]  # part -> (n, 3, h, w) uint8
    labels: Mapping[str, torch.Tensor]
    n_classes: int

    @classmethod
    def of(cls, preset: Preset) -> Labelled:
        """Some training and test images of the preset's objects."""
        sets, pixels, labels = prepare_data(preset), {}, {}
        for part, most in LABELLED.items():
            images = sets.objects_train if part == "train" else sets.objects_test
            assert images is not None
            kept = kept_pixels(preset, "random", images)
            rows = np.sort(np.random.default_rng(1).permutation(len(kept))[:most])
            assert kept.images.labels is not None
            assert kept.decoded is not None
            pixels[part] = centre(kept.decoded[torch.from_numpy(rows)], kept.size)
            labels[part] = torch.from_numpy(kept.images.labels[rows])
        return cls(pixels, labels, int(labels["train"].max()) + 1)

    def accuracies(self, trunk: Trunk) -> dict[str, float]:
        """Of a ridge classifier, %: on the features that are clustered, and on the last map in four quarters."""
        maps: dict[str, list[torch.Tensor]] = {"train": [], "test": []}
        now = ["train"]

        def keep(_: torch.nn.Module, __: Any, output: torch.Tensor) -> None:
            maps[now[0]].append(torch.nn.functional.adaptive_avg_pool2d(output, 2).flatten(1))

        last = {}
        hook = trunk.features[-2].register_forward_hook(keep)  # the last ReLU
        try:
            for now[0] in maps:
                last[now[0]] = features_of(trunk, self.pixels[now[0]])
        finally:
            hook.remove()
        deep = {part: torch.cat(found) for part, found in maps.items()}
        return {name: self._ridge(features) for name, features in (("last", last), ("conv13", deep))}

    def _ridge(self, features: Mapping[str, torch.Tensor]) -> float:
        train, test = self.labels["train"], self.labels["test"]
        return ridge_accuracy(features["train"], train, features["test"], test, self.n_classes)


def _root(data: str) -> dict[str, str]:
    return {"data.root": data} if data else {}


def networks(collection: str, preset: Preset, data: str) -> Iterator[Network]:
    """All of a collection: found, drawn and broken."""
    seen = SEEN.get(collection, ())
    trained = collection in SEEN
    yield from drawn((load_preset(collection) if trained else preset).method("random").model, seen)
    if trained:
        yield from found(runs_folder() / f"{collection}-choice" / "runs", seen, "choice-")
        yield from found(runs_folder() / collection / "runs", seen)
    for network in broken(collection, data):
        yield replace(network, seen=collection in BROKEN_SEEN)


def main(collection: str, data: str) -> None:
    """Judge what is not judged yet, and write after each."""
    torch.set_num_threads(1)
    began, path = time.monotonic(), project_root() / "results" / "judge" / f"{collection}.json"
    preset = load_preset("pocket", {**_root(data), **SETS[collection]})
    pool, labelled = kept_pixels(preset, "random", prepare_data(preset).pool), Labelled.of(preset)
    card = benchmark_card(
        {"collection": collection, "broken": json.loads(json.dumps(BROKEN)), "short": SHORT, "labelled": LABELLED},
        ("analysis/measures", "train/quality"),
        began,
        device=device_name(torch.device("cpu")),
        data_hash=pool.data_hash,
    )
    records = [r for r in (read_records(path.parent) if path.is_file() else []) if _is_of(r, collection, card)]
    drawn_scores: dict[ModelConfig, float] = {}
    done = {record.keys["network"] for record in records}
    for network in networks(collection, preset, data):
        if network.name in done:  # by an earlier call, perhaps before this was kept
            own = [record for record in records if record.keys["network"] == network.name]
            if not any(record.name == "rise" for record in own):
                records.append(replace(own[0], name="rise", value=rise(network.history)))
            continue
        form = network.trunk.config
        verdict = judge(network.trunk.eval(), pool, network.history, seconds_per_epoch=60, drawn=drawn_scores.get(form))
        if "drawn" in verdict.measures:
            drawn_scores[form] = verdict.measures["drawn"]
        keys = {**network.keys, "collection": collection}
        values = {**verdict.measures, "score": verdict.score}
        records += [Record(name=k, value=v, unit="1", n=int(values["images"]), keys=keys) for k, v in values.items()]
        records += [
            Record(
                name="accuracy", value=value, unit="%", n=len(labelled.labels["test"]), keys={**keys, "layer": layer}
            )
            for layer, value in labelled.accuracies(network.trunk).items()
        ]
        said = (f"{r.name} {r.value:.3g}" for r in records[-len(values) - 2 :])
        print(collection, network.name, verdict.word, *said, flush=True)
        write_records(path, replace(card, seconds=round(time.monotonic() - began, 1)), with_words(records))
    write_records(path, replace(card, seconds=round(time.monotonic() - began, 1)), with_words(records))


def with_words(records: Sequence[Record]) -> list[Record]:
    """Records with the verdict that their network's measures lead to by the rules of now."""
    measures: dict[Any, dict[str, float]] = defaultdict(dict)
    for record in records:
        measures[record.keys["network"]][record.name] = record.value
    # features that cannot be clustered have no measure but the score, which is 0
    words = {name: word_of(own if "drawn" in own else {}) for name, own in measures.items()}
    return [replace(r, keys={**r.keys, "verdict": words[r.keys["network"]]}) for r in records]


def _is_of(record: Record, collection: str, card: Any) -> bool:
    """Whether a record of an earlier call was made by this code on these images."""
    same = record.card is not None and (record.card.code_hash, record.card.data_hash) == (
        card.code_hash,
        card.data_hash,
    )
    return same and record.keys.get("collection") == collection


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", choices=SETS)
    parser.add_argument("--data", default="", help="folder of the public images; of drawings there is none")
    arguments = parser.parse_args()
    main(arguments.collection, arguments.data)
