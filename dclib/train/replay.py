"""The first steps of published networks, taken again: whether the code of now still gives their numbers.

A training takes hours, and its code goes on changing. What is published stays valid while a replay of each network's
first steps gives the losses that were recorded with it, and its first clustering the same clusters. A replay is the
training itself, by the same functions, but for what lets it take seconds and agree between machines:

- it is of ``IMAGES`` of the images, spread evenly over the set; its epochs are as long as those of all of them;
- the network computes in float64 on a CPU. Each step multiplies what is rounded off: in float32, losses of step 50 were
  0.06 apart between two kinds of CPU, in float64 never 2e-14;
- a network that starts from the weights of another one starts from random ones;
- the steps go on from the recorded clusters, for one image more or less in a cluster changes all batches.

Crops are made in float32 all the same; a CPU without AVX2 rounds them in another way (:func:`crop_rounding`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from dclib.config import MethodConfig, Preset
from dclib.counted import counted
from dclib.data.images import name_some
from dclib.data.pixels import Pixels
from dclib.methods import OUTLINES
from dclib.records import CHANGED, RunCard, code_hash, installed_versions, read_records, source_commit, write_atomically
from dclib.train.checkpoints import Saver
from dclib.train.pretrain import train_epoch
from dclib.train.runnable import images_of
from dclib.train.runs import (
    PRETRAIN_ROOMS,
    Data,
    device_name,
    patch_pixels,
    pixel_cache,
    prepare_data,
    pretrain_code,
    task_pixels,
)
from dclib.train.state import State
from dclib.train.tasks.classes import Classes

FILE = "replay.json"  # beside the published records
CODE = (*PRETRAIN_ROOMS, "train/tasks")  # of all methods; their outlines count by what they decide
STEPS, IMAGES = 50, 1000
LOSS_TOLERANCE = 1e-6  # of a loss; a thousandth more of the learning rate, or of the crop area, changes step 2 by more
CLUSTER_TOLERANCE = 0.01  # of the images, which may lie between two clusters; none moved between those machines


@dataclass(frozen=True)
class FirstSteps:
    """What a replay gives."""

    losses: Sequence[float]  # of each step, nats
    clusters: Sequence[int]  # of each image, by the first clustering; empty where nothing is clustered
    pixels: str  # hash of the images as they were decoded; empty where that is done batch by batch
    trained_by: str = ""  # hash of the code on the network's run card


class _Enough(Exception):
    """The last step that was wanted has been taken."""


class _Watch(Saver):
    """Takes the place of what saves a run: told of every step, it keeps the loss, and ends the run after ``steps``."""

    def __init__(self, steps: int) -> None:
        self.steps, self.losses, self._total = steps, list[float](), 0.0

    @property
    def is_due(self) -> bool:
        return True

    def save(self, state: State) -> None:
        self.losses.append(state.totals[0] - self._total)
        self._total = state.totals[0]
        if len(self.losses) == self.steps:
            raise _Enough


def first_steps(
    preset: Preset, method: str, seed: int, data: Data, *, clusters: Sequence[int] = (), steps: int = STEPS
) -> FirstSteps:
    """Take the first ``steps`` of a network, at most an epoch, from ``clusters`` where they are given."""
    config = preset.method(method)
    shown, pixels = _part(config, preset, data)
    if clusters and len(clusters) != len(pixels):
        raise ValueError(f"need the {len(clusters)} images whose clusters are given; there are {len(pixels)}")
    train = replace(config.train, precision="float32", epoch_images=config.train.epoch_images or shown)
    config = replace(config, train=train)
    found, watch = list[int](), _Watch(steps)
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as folder, suppress(_Enough):
        state = in_double(State.begin(config, pixels, seed, torch.device("cpu"), None))
        task = state.task
        if task.is_due(state):
            task.renew(state, Path(folder), lambda _: None)
            if isinstance(task, Classes):
                found = task.labels.clusters.tolist()
                kept, n_sub = torch.tensor(clusters or found), task.labels.n_sub
                task.labels = replace(task.labels, super_cluster=kept // n_sub, sub_class=kept % n_sub)
        train_epoch(state, task.plan_epoch(0), config.train, seed, watch)
    return FirstSteps(watch.losses, found, _hash_of(pixels))


def _part(config: MethodConfig, preset: Preset, data: Data) -> tuple[int, Pixels]:
    """How many images a method learns from, and those that a replay does; of clips all patches that are followed."""
    if OUTLINES[config.method].learns_from == "clips":
        pixels = patch_pixels(config, data, pixel_cache())
        return len(pixels), pixels
    images = images_of(config, data.pool, data.objects_train)
    part = images.subset(np.arange(0, len(images), max(1, len(images) // IMAGES))[:IMAGES])
    return len(images), task_pixels(config, part, preset.data)


def in_double(state: State) -> State:
    """The same weights in float64, and every image that the network is given."""
    state.trunk.double().register_forward_pre_hook(
        lambda _, images: tuple(x.double() / 255 if x.dtype == torch.uint8 else x.double() for x in images)
    )
    state.task.double()
    return state


def _hash_of(pixels: Pixels) -> str:
    return "" if pixels.decoded is None else hashlib.sha256(pixels.decoded.numpy().tobytes()).hexdigest()[:12]


def difference(then: FirstSteps, now: FirstSteps) -> str:
    """Where the replay of ``now`` leaves the recorded one, in words; empty where it gives the same numbers."""
    said = []
    moved = sum(one != other for one, other in zip(then.clusters, now.clusters, strict=True))
    if moved > CLUSTER_TOLERANCE * len(then.clusters):
        said.append(f"{moved:,} of {len(then.clusters):,} images are in another cluster")
    pairs = list(zip(then.losses, now.losses, strict=False))
    gone = [step for step, (one, other) in enumerate(pairs) if not abs(one - other) <= LOSS_TOLERANCE * one]
    if gone:
        one, other = pairs[gone[0]]
        said.append(f"from step {gone[0] + 1} the loss is another ({other:.6g} instead of {one:.6g})")
    if said and then.pixels != now.pixels:
        said.append("its images are others, or decoded to other pixels")
    return "; ".join(said)


def record(preset: Preset, results: Path, report: Callable[[str], None]) -> None:
    """Take the first steps of every published network of ``results`` and keep them beside its records.

    Raises:
        ValueError: the records were made by other code or settings than those here, or the code is in no commit.
    """
    cards = trained_networks(results)
    preset = counted(preset, (card.method for card in cards))
    for card in cards:
        if card.code_hash != (here := pretrain_code(preset.method(card.method))):
            raise ValueError(
                f"{name_of(card)} was trained by code {card.code_hash}, and here is {here}: "
                "record its first steps with the commit that it was trained with"
            )
        if said := other_settings(preset, card):
            raise ValueError(f"{name_of(card)}: {said}; record its first steps with those that it was trained with")
    made = {"commit": committed(), **_here()}
    data, networks = prepare_data(preset), {}
    for card in cards:
        steps = first_steps(preset, card.method, card.seed, data)
        networks[name_of(card)] = replace(steps, trained_by=card.code_hash)
        report(f"{name_of(card)}: recorded")
    _write(results / FILE, {"made": made, "confirmed": made}, networks)


def replay(preset: Preset, results: Path, report: Callable[[str], None]) -> bool:
    """Whether the first steps of every published network of ``results`` are what was recorded; says so of each.

    Where all are, and the code is another than it was, the file then says that this code gives them too. A CPU that
    rounds crops in another way than that of the record is asked for one step, and leaves the file as it is.

    Raises:
        ValueError: none were recorded with these records.
    """
    content, recorded = read_replay(results)
    alike = content["made"]["crop_rounding"] == crop_rounding()
    data, same, cards = prepare_data(preset), True, trained_networks(results)
    preset = counted(preset, (card.method for card in cards))
    for card in cards:
        then = recorded[name_of(card)]
        said = other_settings(preset, card)
        if not said:
            steps = STEPS if alike else 1
            now = first_steps(preset, card.method, card.seed, data, clusters=then.clusters, steps=steps)
            said = difference(then, now)
        report(f"{name_of(card)}: {said or ('same numbers' if alike else 'the same first step')}")
        same = same and not said
    if same and alike and content["confirmed"]["code"] != code_hash(*CODE):
        _write(results / FILE, {**content, "confirmed": _here()}, recorded)
    return same


def trained_networks(results: Path) -> list[RunCard]:
    """The run cards of the networks that were trained for ``results``, in order of method and seed."""
    cards = {r.card.method + str(r.card.seed): r.card for r in read_records(results / "records" / "pretrain") if r.card}
    trained = [card for card in cards.values() if OUTLINES[card.config["method"]].learns_from != "nothing"]
    if not trained:
        raise ValueError(
            f"need the records of trained networks in {results}/records; there are none: publish a run first"
        )
    return sorted(trained, key=lambda card: (card.method, card.seed))


def name_of(card: RunCard) -> str:
    """What a network is called among the others: ``rotnet-s0``."""
    return f"{card.method}-s{card.seed}"


def other_settings(preset: Preset, card: RunCard) -> str:
    """That the preset has other settings now than a network was trained with; empty where it has not.

    A setting that only one of them knows is none: the steps show what it changes.
    """
    now = _by_name(json.loads(json.dumps(asdict(preset.method(card.method)))))
    names = [name for name, value in _by_name(card.config).items() if name in now and now[name] != value]
    return f"the preset {preset.name} now has another {', '.join(names)}" if names else ""


def _by_name(config: Mapping[str, Any]) -> dict[str, Any]:
    """Each setting of a method and of its sections: ``init``, ``train.lr``."""
    sections = {name: value for name, value in config.items() if isinstance(value, dict)}
    inner = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    return inner | {name: value for name, value in config.items() if name not in sections}


def read_replay(results: Path) -> tuple[dict[str, Any], dict[str, FirstSteps]]:
    """What the file says of itself, and the recorded steps of each network.

    Raises:
        ValueError: there is none, or it belongs to other records.
    """
    cards = trained_networks(results)
    path = results / FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"networks": {}}
    rows = content.pop("networks")
    found = {
        name: FirstSteps(
            row["losses"],
            [*map(int, row["clusters"].split())],
            row["pixels"],
            row.get("trained_by", content["made"]["code"]),  # earlier files: one code for all
        )
        for name, row in rows.items()
    }
    without = [
        name_of(card)
        for card in cards
        if name_of(card) not in found or found[name_of(card)].trained_by != card.code_hash
    ]
    if without:
        raise ValueError(
            f"need the first steps of every network in {path}, recorded with it; those of {name_some(without)} are "
            "not: run replay --record with the commit that they were trained with"
        )
    return content, found


def committed() -> str:
    """The commit that the code here is of.

    Raises:
        ValueError: this is no checkout, or its code is not what was committed.
    """
    commit = source_commit()
    if not commit or commit.endswith(CHANGED):
        raise ValueError(f"need a git checkout with all code in a commit, to say which; got {commit or 'none'}")
    return commit


def crop_rounding() -> str:
    """The instructions that decide how this CPU rounds crops: AVX2 and what is wider agree to the last bit."""
    capability = torch.backends.cpu.get_cpu_capability()
    return "AVX2" if capability in ("AVX2", "AVX512") else capability


def _here() -> dict[str, Any]:
    """What the steps are taken with: the code, and the files whose code it is, the machine, the time."""
    return {
        "code": code_hash(*CODE),
        "rooms": CODE,
        "device": device_name(torch.device("cpu"), "float64"),
        "crop_rounding": crop_rounding(),
        "versions": installed_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write(path: Path, about: dict[str, Any], networks: Mapping[str, FirstSteps]) -> None:
    """One network a line; losses with ten digits."""
    rows = [
        json.dumps(name)
        + ": "
        + json.dumps(
            {
                "losses": [float(f"{loss:.10g}") for loss in steps.losses],
                "clusters": " ".join(map(str, steps.clusters)),
                "pixels": steps.pixels,
                "trained_by": steps.trained_by,
            }
        )
        for name, steps in networks.items()
    ]
    lines = ",\n".join(rows)
    head = json.dumps(about, indent=1).removesuffix("\n}")
    write_atomically(path, f'{head},\n "networks": {{\n{lines}\n}}}}\n'.encode())
