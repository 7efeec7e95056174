"""Choosing a setting by Pascal VOC 2007, train to val, without fine-tuning: supplement, section 5.

The test split is never looked at.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from dclib.config import ChoiceConfig, MethodConfig, Preset, config_hash
from dclib.data.contents import content_hashes
from dclib.evaluate.validation import usable_voc_splits, validation_score
from dclib.evaluate.voc_runs import VOC_ROOMS
from dclib.presets import SECTIONS, build, measuring
from dclib.records import Record, write_records
from dclib.train.runnable import runnable_methods
from dclib.train.runs import (
    default_device,
    is_current,
    method_pixels,
    pixel_cache,
    prepare_data,
    preset_folder,
    pretrain_method,
    run_card,
)

CHOICE_ROOMS = (*VOC_ROOMS, "evaluate/choice", "evaluate/validation")


@measuring
def choose_setting(preset: Preset, seed: int, *, device: str = "") -> None:
    """Train ``preset.choice.method`` with each value of the setting, score each on VOC, and write the records.

    Nothing is computed where current records are there, where nothing is to be chosen, or without a VOC set.

    Raises:
        ValueError: the setting is unknown, or a value is out of its range; before anything is trained.
    """
    choice = preset.choice
    if choice.method not in runnable_methods(preset):
        return
    tries = {value: changed_method(preset.method(choice.method), choice, value) for value in choice.values}
    splits = usable_voc_splits(preset, "train", "val")
    if splits is None:
        return
    place = torch.device(device or default_device())
    pixels = method_pixels(preset, choice.method, prepare_data(preset))
    images = content_hashes([split.images for split in splits], pixel_cache())
    settings = config_hash(choice, preset.voc, pixels.identity, images)
    card = run_card("choice", preset, choice.method, seed, [pixels], place, settings=settings, rooms=CHOICE_ROOMS)
    path = preset_folder(preset) / "records" / "choice" / f"{choice.method}-s{seed}.json"
    if is_current(path, card):
        return
    start, found = time.monotonic(), {}
    for value, config in tries.items():
        # a preset of its own name, so that runs and records of the trials are kept apart from the preset's
        trial = replace(
            preset, name=f"{preset.name}-choice", methods={**preset.methods, trial_name(choice, value): config}
        )
        trunk = pretrain_method(trial, trial_name(choice, value), seed, device=str(place))
        found[value] = validation_score(preset, trunk, splits, seed)
        print(f"{choice.key} = {value:g}: VOC2007, train to val, {found[value]:.1f} %")
    best = max(found, key=lambda value: found[value])
    card = replace(card, seconds=round(time.monotonic() - start, 1), notes={**card.notes, "best": best})
    write_records(path, card, choice_records(choice, found, len(splits[1])))


def changed_method(config: MethodConfig, choice: ChoiceConfig, value: float) -> MethodConfig:
    """A method with one setting changed, and trained for the epochs of the choice.

    Raises:
        ValueError: there is no such setting, or the value does not fit it.
    """
    section, _, key = choice.key.partition(".")
    if section not in SECTIONS or not key:
        raise ValueError(
            f"choice.key must be section.setting with a section of {', '.join(SECTIONS)}; got {choice.key!r}"
        )
    current = getattr(config, section)
    wanted: Any = int(value) if isinstance(getattr(current, key, None), int) and value == int(value) else value
    changed = replace(config, **{section: build(SECTIONS[section], {key: wanted}, choice.key, current)})
    epochs = choice.epochs or changed.train.epochs
    return replace(changed, train=replace(changed.train, epochs=epochs, patience=0))


def trial_name(choice: ChoiceConfig, value: float) -> str:
    """Name of a method with one value: ``deepercluster_train.lr_0.025``."""
    return f"{choice.method}_{choice.key}_{value:g}"


def choice_records(choice: ChoiceConfig, found: Mapping[float, float], n: int) -> list[Record]:
    """Validation score of each value, %."""
    return [
        Record(
            name="choice_map",
            value=score,
            unit="%",
            n=n,
            keys={"key": choice.key, "tried": f"{value:g}", "split": "val"},
        )
        for value, score in found.items()
    ]
