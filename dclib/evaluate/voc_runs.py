"""From a preset to the records of Table 4."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from dclib.config import Preset, config_hash
from dclib.data.pixels import load_pixels
from dclib.evaluate.networks import trained_network
from dclib.evaluate.validation import usable_voc_splits
from dclib.evaluate.voc import Setting, VocResult, classify_voc
from dclib.paper import TABLE4_METHODS
from dclib.presets import measuring
from dclib.records import Record, write_records
from dclib.train.runs import (
    default_device,
    is_current,
    method_pixels,
    pixel_cache,
    prepare_data,
    preset_folder,
    run_card,
)
from dclib.train.start import ROOMS

VOC_ROOMS = (*ROOMS, "evaluate/voc", "evaluate/classifier", "data/voc")
IN_TABLE = {method for pair in TABLE4_METHODS.values() for method in pair} | {"released"}
TRAINED_ON = {"val": "train", "test": "trainval"}  # split that is tested -> split that was trained on


@dataclass(frozen=True)
class Task:
    """One measurement: which layers are trained, the split that is tested, and the steps it is trained for."""

    setting: Setting
    split: str
    iterations: int

    def path(self, folder: Path, method: str, seed: int) -> Path:
        """Where its records are, below the preset's folder."""
        split = "" if self.split == "test" else f"-{self.split}"
        return folder / "records" / "voc" / f"{method}-{self.setting}{split}-s{seed}.json"


def tasks_of(preset: Preset, method: str) -> tuple[Task, ...]:
    """What is measured of a network, frozen convolutions first.

    Table 4 is on the validation split, so every network is classified from train to val; from trainval to test
    besides, where those of Table 4 have their convolutions trained as well, since that takes long.
    """
    steps = preset.voc.iterations
    short = min(steps, preset.voc.validation_iterations)
    tasks = (Task("fc68", "val", short), Task("fc68", "test", steps))
    return (*tasks, Task("all", "test", steps)) if method in IN_TABLE else tasks


@measuring
def voc_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Classify VOC with one trained network and write the records of each of its tasks.

    Nothing is computed where current records are there, or where the preset has no VOC set that can be used.
    """
    preset.method(method)
    opened = usable_voc_splits(preset, *TRAINED_ON, *TRAINED_ON.values())
    if opened is None:
        return
    splits = dict(zip((*TRAINED_ON, *TRAINED_ON.values()), opened, strict=True))
    place = torch.device(device or default_device())
    size = preset.method(method).model.image_size
    data = replace(preset.data, memory_gb=0.0, resize=size)
    trained_on = "" if preset.method(method).weights else method_pixels(preset, method, prepare_data(preset)).identity
    pixels_of = {
        name: load_pixels(split.images, data, size, pixel_cache(), scan=True) for name, split in splits.items()
    }
    for task in tasks_of(preset, method):
        train, test = splits[TRAINED_ON[task.split]], splits[task.split]
        path = task.path(preset_folder(preset), method, seed)
        pixels = [pixels_of[TRAINED_ON[task.split]], pixels_of[task.split]]
        identity = config_hash(preset.voc, asdict(task), trained_on, [s.labels.tolist() for s in (train, test)])
        facts = {"iterations": task.iterations, "test_crops": preset.voc.test_crops, "classes": len(train.classes)}
        card = run_card("voc", preset, method, seed, pixels, place, notes=facts, settings=identity, rooms=VOC_ROOMS)
        if is_current(path, card):
            continue
        trunk = trained_network(preset, method, seed, device=str(place))
        start = time.monotonic()
        result = classify_voc(
            trunk,
            train,
            test,
            preset.voc,
            setting=task.setting,
            seed=seed,
            iterations=task.iterations,
            data=preset.data,
            report=print,
        )
        notes = {**card.notes, "classes_left_out": ", ".join(result.left_out) or "none"}
        card = replace(card, seconds=round(time.monotonic() - start, 1), notes=notes)
        write_records(path, card, voc_records(result, task))


def voc_records(result: VocResult, task: Task) -> list[Record]:
    """The mean over classes, and each class's average precision."""
    keys: dict[str, str | int] = {"setting": task.setting, "split": task.split}
    records = [Record(name="voc_map", value=result.mean, unit="%", n=result.n_test, keys=keys)]
    return records + [
        Record(name="voc_ap", value=value, unit="%", n=result.n_positives[name], keys={**keys, "class": name})
        for name, value in result.average_precision.items()
    ]
