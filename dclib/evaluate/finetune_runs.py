"""From a preset to the records of Table 2."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import torch

from dclib.config import Preset, config_hash
from dclib.data.images import balanced_subset
from dclib.data.pixels import Pixels
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
from dclib.evaluate.low_shot import draw_share, share_name, share_size
from dclib.evaluate.networks import trained_network
from dclib.models.vgg import Trunk
from dclib.paper import TABLE2_METHODS
from dclib.presets import measuring
from dclib.records import Record, write_records
from dclib.train.runnable import runnable_methods
from dclib.train.runs import default_device, is_current, kept_pixels, prepare_data, preset_folder, run_card
from dclib.train.start import ROOMS, weights_hash

FINETUNE_ROOMS = (
    *(*ROOMS, "evaluate/finetune", "evaluate/classifier", "evaluate/low_shot"),
    *("models/folding", "train/checkpoints"),
)


def starts_of(preset: Preset) -> tuple[str, ...]:
    """The starts of Table 2 that a preset can have, ``random`` being from scratch; or its released weights."""
    wanted, there = (*TABLE2_METHODS.values(), "released"), runnable_methods(preset)
    return tuple(method for method in wanted if method in there)


@measuring
def finetune_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Fine-tune from one trained network by both recipes and write the records of each; ``random`` is from scratch.

    With ``finetune.shares`` each share of the labels is trained with, even over the classes and the smaller ones part
    of the larger. Nothing is computed where current records are there, or where the preset has no labelled objects.

    Raises:
        ValueError: a share has not one image for each class; before anything is trained.
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
    for asked in preset.finetune.shares:
        share_size(len(train), len(train.images.classes), asked, "finetune")  # refuses what is too small
    _clear_others(preset, method, seed)
    for share in preset.finetune.shares or (None,):
        for recipe in RECIPES:
            _finetune_share(preset, method, seed, recipe, share, (train, test), place)


def _finetune_share(
    preset: Preset,
    method: str,
    seed: int,
    recipe: str,
    share: float | None,
    pixels: tuple[Pixels, Pixels],
    place: torch.device,
) -> None:
    """One training, unless its records are there; a killed one goes on. ``share`` None is of a preset without shares.

    The card is of the whole set, of which share and seed draw the part, so that all seeds have the same. The checkpoint
    is its own whichever shares it is asked for beside, so that asking for another trains only that.
    """
    whole, test = pixels
    train = whole if share is None else draw_share(whole, share, seed, "finetune")
    tune = replace(preset.finetune, shares=(), steps=0)
    name = _run_name(method, recipe, share, seed)
    path = preset_folder(preset) / "records" / "finetune" / f"{name}.json"
    passes = preset.finetune.passes(len(train))
    of_share = () if share is None else (share,)
    settings = config_hash(tune, recipe, whole.identity, test.identity, passes, *of_share)
    facts: dict[str, object] = {"classes": len(train.images.classes)}
    keys: dict[str, str | int] = {}
    judged = share is None or share == preset.finetune.judged_share
    if share is not None:
        keys = {"share": share_name(share)}
        facts |= {"labels": f"{len(train):,} ({share_name(share)})", "passes": passes}
    card = run_card(
        "finetune", preset, method, seed, pixels, place, notes=facts, settings=settings, rooms=FINETUNE_ROOMS
    )
    identity = card.config_hash
    card = replace(card, config_hash=config_hash(identity, judged))  # it decides what the records are called
    if is_current(path, card):
        return
    start = start_of(preset, method, seed, place)
    identity = config_hash(identity, card.data_hash, seed, weights_hash(start), card.code_hash)
    folder = preset_folder(preset) / "runs" / f"finetune-{name}-{identity}"
    began = time.monotonic()
    epochs = finetune(
        start, train, test, preset.finetune, recipe, folder=folder, identity=identity, seed=seed, report=print
    )
    card = replace(card, seconds=round(time.monotonic() - began, 1))
    write_records(path, card, finetune_records(epochs, recipe, len(train), len(test), keys, judged=judged))


def _run_name(method: str, recipe: str, share: float | None, seed: int) -> str:
    return f"{method}-{recipe}-s{seed}" if share is None else f"{method}-{recipe}-{100 * share:g}-s{seed}"


def _clear_others(preset: Preset, method: str, seed: int) -> None:
    """Delete records of shares that are no longer asked for, which a page would take for this run's.

    Their checkpoints stay: where a share is asked for again its records are written anew without training.
    """
    folder, shares = preset_folder(preset) / "records" / "finetune", preset.finetune.shares or (None,)
    for recipe in RECIPES:
        wanted = {_run_name(method, recipe, share, seed) for share in shares}
        for path in folder.glob(f"{method}-{recipe}*-s{seed}.json"):
            if path.stem not in wanted:
                path.unlink()


def start_of(preset: Preset, method: str, seed: int, device: torch.device) -> Trunk:
    """The network of colour that fine-tuning starts from."""
    config = preset.method(method)
    if config.method == "random":
        return scratch_network(config.model, seed).to(device)
    return colour_network(trained_network(preset, method, seed, device=str(device)))


def full_rate_epochs(epochs: int = PAPER_EPOCHS) -> dict[str, float]:
    """Recipe -> the epochs at the full learning rate that its epochs add up to; "ours" has ``epochs`` of them."""
    return {r: sum(rate_factor(r, e, epochs) for e in range(scaled_epochs(r, epochs))) for r in RECIPES}


def finetune_records(
    epochs: list[Epoch], recipe: str, n_train: int, n_test: int, of: Mapping[str, str | int], *, judged: bool
) -> list[Record]:
    """Loss and accuracy after each epoch, counted from 1, under the keys ``of`` a share and those of the recipe.

    A share that is not judged has names of its own, so that nothing that looks for Table 2 can take it for that.
    """
    top1, loss = ("finetuned_top1", "finetune_loss") if judged else ("share_top1", "share_loss")
    records = []
    for number, epoch in enumerate(epochs, start=1):
        keys = {**of, "recipe": recipe, "epoch": number}
        records.append(Record(name=top1, value=epoch.top1, unit="%", n=n_test, keys=keys))
        records.append(Record(name=loss, value=epoch.loss, unit="nats", n=n_train, keys=keys))
    return records
