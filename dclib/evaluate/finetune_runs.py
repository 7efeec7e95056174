"""From a preset to the records of Table 2."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from dclib.config import Preset, config_hash
from dclib.data.images import balanced_subset
from dclib.evaluate.finetune import (
    PAPER_EPOCHS,
    RECIPES,
    Epoch,
    colour_network,
    finetune,
    rate_factor,
    scaled_epochs,
    scratch_network,
)
from dclib.evaluate.networks import trained_network
from dclib.models.vgg import Trunk
from dclib.paper import TABLE2_METHODS
from dclib.presets import measuring
from dclib.records import Record, write_records
from dclib.train.runnable import runnable_methods
from dclib.train.runs import default_device, is_current, kept_pixels, prepare_data, preset_folder, run_card
from dclib.train.start import ROOMS, weights_hash

FINETUNE_ROOMS = (*ROOMS, "evaluate/finetune", "evaluate/classifier", "models/folding", "train/checkpoints")


def starts_of(preset: Preset) -> tuple[str, ...]:
    """The starts of Table 2 that a preset can have, ``random`` being from scratch; or its released weights."""
    wanted, there = (*TABLE2_METHODS.values(), "released"), runnable_methods(preset)
    return tuple(method for method in wanted if method in there)


@measuring
def finetune_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Fine-tune from one trained network by both recipes and write the records of each; ``random`` is from scratch.

    Nothing is computed where current records are there, or where the preset has no labelled objects.
    """
    preset.method(method)  # an unknown one is refused before any image is drawn
    data = prepare_data(preset)
    if data.objects_train is None or data.objects_test is None:
        print(f"no fine-tuning: {data.faults.get('objects', 'there are no labelled objects')}")
        return
    place = torch.device(device or default_device())
    train, test = (
        kept_pixels(preset, method, balanced_subset(images, count, seed=0), scan=True)
        for images, count in (
            (data.objects_train, preset.finetune.train_images),
            (data.objects_test, preset.finetune.test_images),
        )
    )
    for recipe in RECIPES:
        path = preset_folder(preset) / "records" / "finetune" / f"{method}-{recipe}-s{seed}.json"
        settings = config_hash(preset.finetune, recipe, train.identity, test.identity)
        facts = {"classes": len(train.images.classes)}
        card = run_card(
            "finetune", preset, method, seed, (train, test), place, notes=facts, settings=settings, rooms=FINETUNE_ROOMS
        )
        if is_current(path, card):
            continue
        start = start_of(preset, method, seed, place)
        identity = config_hash(card.config_hash, card.data_hash, seed, weights_hash(start), card.code_hash)
        folder = preset_folder(preset) / "runs" / f"finetune-{method}-{recipe}-s{seed}-{identity}"
        began = time.monotonic()
        epochs = finetune(
            start, train, test, preset.finetune, recipe, folder=folder, identity=identity, seed=seed, report=print
        )
        card = replace(card, seconds=round(time.monotonic() - began, 1))
        write_records(path, card, finetune_records(epochs, recipe, len(train), len(test)))


def start_of(preset: Preset, method: str, seed: int, device: torch.device) -> Trunk:
    """The network of colour that fine-tuning starts from."""
    config = preset.method(method)
    if config.method == "random":
        return scratch_network(config.model, seed).to(device)
    return colour_network(trained_network(preset, method, seed, device=str(device)))


def full_rate_epochs(epochs: int = PAPER_EPOCHS) -> dict[str, float]:
    """Recipe -> the epochs at the full learning rate that its epochs add up to; "ours" has ``epochs`` of them."""
    return {r: sum(rate_factor(r, e, epochs) for e in range(scaled_epochs(r, epochs))) for r in RECIPES}


def finetune_records(epochs: list[Epoch], recipe: str, n_train: int, n_test: int) -> list[Record]:
    """Loss and accuracy after each epoch, counted from 1."""
    records = []
    for number, epoch in enumerate(epochs, start=1):
        keys: dict[str, str | int] = {"recipe": recipe, "epoch": number}
        records.append(Record(name="finetuned_top1", value=epoch.top1, unit="%", n=n_test, keys=keys))
        records.append(Record(name="finetune_loss", value=epoch.loss, unit="nats", n=n_train, keys=keys))
    return records
