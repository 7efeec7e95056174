"""From a preset to the records of few labels: of its networks, and of methods that have none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dclib.config import Preset, config_hash
from dclib.data.pixels import Pixels
from dclib.evaluate.linear_svm import choose_and_fit, standardise_
from dclib.evaluate.low_shot import LowShotResult, draw_share, low_shot, share_name, share_size
from dclib.evaluate.neighbours import vote_of_neighbours
from dclib.evaluate.networks import trained_network
from dclib.evaluate.patches import fit_patch_encoder
from dclib.evaluate.runs import labelled_pixels
from dclib.presets import measuring
from dclib.randomness import generator
from dclib.records import DATA, Record, RunCard, code_hash, write_records
from dclib.train.runs import (
    default_device,
    device_name,
    is_current,
    method_pixels,
    prepare_data,
    preset_folder,
    run_card,
)
from dclib.train.start import DATA_ROOMS, ROOMS

LOW_SHOT_ROOMS = (*ROOMS, "evaluate/linear_probe", "evaluate/low_shot", "evaluate/neighbours")
METHODS_ROOMS = ("evaluate/linear_svm", "evaluate/neighbours", "evaluate/patches", "evaluate/low_shot")
BASELINE_ROOMS = ("randomness", "distributed", "cluster", *DATA_ROOMS, *METHODS_ROOMS, "evaluate/low_shot_runs")
PIXELS = "pixels"  # what the features are called that are the image itself
BLOCK_IMAGES = 1024
LARGEST = 8 * 2**30  # bytes of features that are kept in memory


@measuring
def low_shot_method(preset: Preset, method: str, seed: int, *, device: str = "") -> None:
    """Probe one trained network with few labels, let neighbours vote, and write the records.

    Nothing is computed where current records are there, where the preset asks for no shares, or without labelled
    objects. All labels are those of Table 1, whose probes have their own records.
    """
    preset.method(method)  # an unknown one is refused before any image is drawn
    sets = _labelled(preset, method)
    if sets is None:
        return
    place = torch.device(device or default_device())
    trained_on = method_pixels(preset, method, prepare_data(preset))
    settings = config_hash(preset.low_shot.shares, preset.low_shot.neighbours, preset.probe, trained_on.identity)
    facts = {"labels": _counts(preset, sets[0]), "neighbours": preset.low_shot.neighbours}
    card = run_card("low_shot", preset, method, seed, sets, place, notes=facts, settings=settings, rooms=LOW_SHOT_ROOMS)
    path = preset_folder(preset) / "records" / "low_shot" / f"{method}-s{seed}.json"
    if is_current(path, card):
        return
    trunk = trained_network(preset, method, seed, device=str(place))
    start = time.monotonic()
    result = low_shot(trunk, *sets, preset.probe, preset.low_shot, seed)
    card = replace(card, seconds=round(time.monotonic() - start, 1))
    write_records(path, card, low_shot_records(result, len(sets[1])))


def low_shot_records(result: LowShotResult, n_test: int) -> list[Record]:
    """The chosen layer, the probes of every layer for each share, and the votes in two layers."""
    probes = [
        Record(name="low_shot_top1", value=value, unit="%", n=n_test, keys={"share": share_name(share), "layer": layer})
        for share, curve in result.probes.items()
        for layer, value in enumerate(curve, start=1)
    ]
    votes = [
        Record(name="neighbour_top1", value=value, unit="%", n=n_test, keys={"layer": layer})
        for layer, value in result.neighbours.items()
    ]
    return [Record(name="best_layer", value=result.best_layer, unit="1", n=result.judged_on), *probes, *votes]


@measuring
def baselines(preset: Preset, seed: int, *, device: str = "") -> None:
    """The same of methods without a network, raw pixels and k-means features of one layer, and write their records.

    Nothing is computed where current records are there, or where the preset asks for no such method.

    Raises:
        ValueError: the features would take more than 8 GiB; before anything is encoded.
    """
    sets = _labelled(preset, next(iter(preset.methods))) if preset.low_shot.centroids else None
    if sets is None:
        return
    place = torch.device(device or default_device())
    for k in (0, *preset.low_shot.centroids):
        _check_memory(sets, k)
    for k in (0, *preset.low_shot.centroids):  # none: the pixels themselves
        name = f"k-means-{k}" if k else PIXELS
        path = preset_folder(preset) / "records" / "baselines" / f"{name}-s{seed}.json"
        card = _baseline_card(preset, seed, k, sets, place)
        if is_current(path, card):
            continue
        start = time.monotonic()
        train, test = baseline_features(preset, k, sets, seed, place)
        keys: dict[str, str | int] = {"features": name}
        records = list(_measured(preset, sets, train, test, seed, keys))
        write_records(path, replace(card, seconds=round(time.monotonic() - start, 1)), records)


def baseline_features(
    preset: Preset, k: int, sets: tuple[Pixels, Pixels], seed: int, place: torch.device
) -> tuple[Tensor, Tensor]:
    """Features (n, d) float32 of the training and test images: of k centroids, or for 0 the pixels, 0 to 255."""
    train, test = (torch.cat(list(pixels.centre_batches(BLOCK_IMAGES))).to(place) for pixels in sets)
    if not k:
        return train.flatten(1).float(), test.flatten(1).float()
    encoder = fit_patch_encoder(train, k, preset.low_shot.patches, generator(seed, "patches", k))
    return encoder.encode(train), encoder.encode(test)


def _measured(
    preset: Preset,
    sets: tuple[Pixels, Pixels],
    train: Tensor,
    test: Tensor,
    seed: int,
    keys: dict[str, str | int],
) -> Iterator[Record]:
    """Votes of neighbours in the features, then classifiers with each share of the labels; the features are used up."""
    n_classes, n_test = len(sets[0].images.classes), len(test)
    labels, truth = (torch.from_numpy(pixels.images.labels).to(train.device) for pixels in sets)
    voted = vote_of_neighbours(train, labels, test, preset.low_shot.neighbours, n_classes)
    top1 = 100 * float((voted == truth).double().mean())
    yield Record(name="neighbour_top1", value=top1, unit="%", n=n_test, keys=keys)
    standardise_(train, test)
    numbers = {image: row for row, image in enumerate(sets[0].images.ids)}
    for share in preset.low_shot.shares:
        rows = torch.tensor([numbers[image] for image in draw_share(sets[0], share, seed).images.ids])
        chosen = (train, labels) if len(rows) == len(train) else (train[rows], labels[rows])
        svm, decay = choose_and_fit(*chosen, n_classes, generator(seed, "held-out tenths"))
        own = {**keys, "share": share_name(share)}
        yield Record(name="low_shot_top1", value=svm.accuracy(test, truth), unit="%", n=n_test, keys=own)
        yield Record(name="chosen_decay", value=decay, unit="1", n=len(rows), keys=own)


def _labelled(preset: Preset, method: str) -> tuple[Pixels, Pixels] | None:
    """The labelled objects that Table 1's probes have; None where there is nothing to measure.

    Raises:
        ValueError: a share has not one image for each class.
    """
    if not preset.low_shot.shares:
        return None
    data = prepare_data(preset)
    if data.objects_train is None or data.objects_test is None:
        print(f"no few labels: {data.faults.get('objects', 'there are no labelled objects')}")
        return None
    train = labelled_pixels(preset, method, data.objects_train, preset.probe.train_images)
    _counts(preset, train)
    return train, labelled_pixels(preset, method, data.objects_test, preset.probe.test_images)


def _counts(preset: Preset, train: Pixels) -> str:
    """How many images each share is, for the card: ``500 (1 %)``."""
    n_classes = len(train.images.classes)
    counts = {share: share_size(len(train), n_classes, share) for share in preset.low_shot.shares}
    return ", ".join(f"{count:,} ({share_name(share)})" for share, count in counts.items())


def _check_memory(sets: tuple[Pixels, Pixels], k: int) -> None:
    width, n_images = 4 * k or 3 * sets[0].size ** 2, sum(map(len, sets))
    if (needed := 4 * width * n_images) > LARGEST:
        raise ValueError(
            f"features of {n_images:,} images, {width:,} numbers each, would take {needed / 2**30:.1f} GiB, over "
            f"{LARGEST / 2**30:.0f}: set probe.train_images to {LARGEST // (4 * width) - len(sets[1]):,} or fewer, or "
            "low_shot.centroids to []"
        )


def _baseline_card(preset: Preset, seed: int, k: int, sets: tuple[Pixels, Pixels], place: torch.device) -> RunCard:
    low = preset.low_shot
    patches = low.patches if k else 0
    return RunCard(
        stage="baselines",
        preset=preset.name,
        method=DATA,
        seed=seed,
        config_hash=config_hash(low.shares, low.neighbours, k, patches, [pixels.identity for pixels in sets]),
        data_hash=config_hash([pixels.data_hash for pixels in sets]),
        code_hash=code_hash(*BASELINE_ROOMS),
        device=device_name(place, "float32"),
        seconds=0.0,
        notes={
            "labels": _counts(preset, sets[0]),
            "neighbours": low.neighbours,
            **({"patches": patches} if k else {}),
            "images": sum(map(len, sets)),
        },
    )
