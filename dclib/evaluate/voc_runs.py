"""From a preset to the records of Table 4."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from dclib.config import Preset, config_hash
from dclib.data.pixels import load_pixels
from dclib.evaluate.networks import trained_network
from dclib.evaluate.validation import usable_voc_splits
from dclib.evaluate.voc import SETTINGS, Setting, VocResult, classify_voc
from dclib.paper import TABLE4_METHODS
from dclib.records import Record, write_records
from dclib.train.runs import (
    default_device,
    is_current,
    method_pixels,
    prepare_data,
    preset_folder,
    run_card,
)
from dclib.train.start import ROOMS

VOC_ROOMS = (*ROOMS, "evaluate/voc", "evaluate/classifier", "data/voc")
IN_TABLE = {method for pair in TABLE4_METHODS.values() for method in pair} | {"released"}


def settings_of(method: str) -> tuple[Setting, ...]:
    """Frozen convolutions for every network; trained ones for those of Table 4, since that takes long."""
    return SETTINGS if method in IN_TABLE else SETTINGS[:1]


def voc_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Classify VOC with one trained network, trainval to test, and write the records of each setting.

    Nothing is computed where current records are there, or where the preset has no VOC set that can be used.
    """
    preset.method(method)
    splits = usable_voc_splits(preset, "trainval", "test")
    if splits is None:
        return
    place = torch.device(device or default_device())
    size = preset.method(method).model.image_size
    data = replace(preset.data, memory_gb=0.0, resize=size)
    pixels = [load_pixels(s.images, data, size, scan=True) for s in splits]
    trained_on = "" if preset.method(method).weights else method_pixels(preset, method, prepare_data(preset)).identity
    for setting in settings_of(method):
        path = preset_folder(preset) / "records" / "voc" / f"{method}-{setting}-s{seed}.json"
        identity = config_hash(preset.voc, setting, trained_on, [s.labels.tolist() for s in splits])
        card = run_card("voc", preset, method, seed, pixels, place, settings=identity, rooms=VOC_ROOMS)
        if is_current(path, card):
            continue
        trunk = trained_network(preset, method, seed, device=str(place))
        start = time.monotonic()
        train, test = splits
        result = classify_voc(
            trunk, train, test, preset.voc, setting=setting, seed=seed, data=preset.data, report=print
        )
        notes = {**card.notes, "classes_left_out": ", ".join(result.left_out) or "none"}
        card = replace(card, seconds=round(time.monotonic() - start, 1), notes=notes)
        write_records(path, card, voc_records(result, setting))


def voc_records(result: VocResult, setting: Setting) -> list[Record]:
    """The mean over classes, and each class's average precision."""
    keys: dict[str, str | int] = {"setting": setting, "split": "test"}
    records = [Record(name="voc_map", value=result.mean, unit="%", n=result.n_test, keys=keys)]
    return records + [
        Record(name="voc_ap", value=value, unit="%", n=result.n_positives[name], keys={**keys, "class": name})
        for name, value in result.average_precision.items()
    ]
