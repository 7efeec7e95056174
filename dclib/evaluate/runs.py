"""From a preset to the records of Table 1."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from dclib.config import Preset, config_hash
from dclib.data.images import ImageSet, balanced_subset
from dclib.data.pixels import Pixels
from dclib.evaluate.linear_probe import OBJECTS_LR, SCENES_LR, linear_probe
from dclib.evaluate.networks import trained_network
from dclib.presets import measuring
from dclib.records import Record, write_records
from dclib.train.runs import (
    default_device,
    is_current,
    kept_pixels,
    method_pixels,
    prepare_data,
    preset_folder,
    run_card,
)
from dclib.train.start import ROOMS

HALVES = {"objects": OBJECTS_LR, "scenes": SCENES_LR}  # the halves of Table 1 and their learning rates


@measuring
def probe_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Probe the 13 layers of one trained network on every labelled set of the preset and write the records.

    Nothing is computed where current records are there. The network is trained first if it is not yet.
    """
    preset.method(method)  # an unknown one is refused before any image is drawn
    data = prepare_data(preset)
    sets = {"objects": (data.objects_train, data.objects_test), "scenes": (data.scenes_train, data.scenes_test)}
    place = torch.device(device or default_device())
    trained_on = method_pixels(preset, method, data)
    for half, (train, test) in sets.items():
        if train is None or test is None:
            if half in data.faults:
                print(f"no probes on {half}: {data.faults[half]}")
            continue
        pixels = (
            labelled_pixels(preset, method, train, preset.probe.train_images),
            labelled_pixels(preset, method, test, preset.probe.test_images),
        )
        probe_half(preset, method, seed, half, trained_on, pixels, place)


def probe_half(
    preset: Preset,
    method: str,
    seed: int,
    half: str,
    trained_on: Pixels,
    pixels: tuple[Pixels, Pixels],
    device: torch.device,
) -> None:
    """One network on one half of Table 1, from training and test pixels to records."""
    path = preset_folder(preset) / "records" / "linear_probe" / f"{method}-{half}-s{seed}.json"
    # what the network was trained on belongs to its configuration; the data are the images that are classified
    settings = config_hash(preset.probe, trained_on.identity, pixels[0].resize, pixels[0].decoded is None)
    rooms = (*ROOMS, "evaluate/linear_probe")
    facts = {"epochs": preset.probe.epochs, "augment": preset.probe.augment, "classes": len(pixels[0].images.classes)}
    card = run_card("linear_probe", preset, method, seed, pixels, device, notes=facts, settings=settings, rooms=rooms)
    if is_current(path, card):
        return
    trunk = trained_network(preset, method, seed, device=str(device))
    start = time.monotonic()
    result = linear_probe(trunk, *pixels, preset.probe, learning_rates=HALVES[half], seed=seed)
    measured = (("top1", result.top1, result.n_test), ("train_top1", result.train_top1, result.n_train))
    records = [
        Record(name=name, value=value, unit="%", n=n, keys={"dataset": half, "layer": layer})
        for name, values, n in measured
        for layer, value in enumerate(values, start=1)
    ]
    write_records(path, replace(card, seconds=round(time.monotonic() - start, 1)), records)


def labelled_pixels(preset: Preset, method: str, images: ImageSet, count: int) -> Pixels:
    """Pixels of a labelled set, or of ``count`` of its images spread evenly over the classes."""
    return kept_pixels(preset, method, balanced_subset(images, count, seed=0), scan=True)
