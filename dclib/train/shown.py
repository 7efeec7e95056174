"""The image sets that the pictures of a page are drawn from: those of a run, or what is here of an edition's."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dclib.config import Preset
from dclib.data.images import ImageSet
from dclib.data.layouts import find_split, open_split
from dclib.presets import data_root, edition, runs_folder, shown_folder
from dclib.records import read_records
from dclib.train.absent import AbsentSet, absent_set
from dclib.train.runnable import learns_from_objects
from dclib.train.runs import prepare_data


@dataclass(frozen=True)
class ShownSets:
    """The image sets of a preset; None where it has no such set."""

    root: Path
    pool: ImageSet | AbsentSet
    objects_train: ImageSet | AbsentSet | None
    objects_test: ImageSet | AbsentSet | None
    scenes_train: ImageSet | AbsentSet | None
    scenes_test: ImageSet | AbsentSet | None


def sets_to_show(preset: Preset) -> ShownSets:
    """The sets that a run reads; of those that published results were made from, the ones that are there.

    Raises:
        ValueError: as :func:`dclib.train.runs.prepare_data`, where no published results are shown.
    """
    data = preset.data
    if edition() is None or data.is_drawn:
        found = prepare_data(preset)
        labelled = (found.objects_train, found.objects_test, found.scenes_train, found.scenes_test)
        return ShownSets(found.root, found.pool, *labelled)
    names = ("objects_train", "objects_test", "scenes_train", "scenes_test")
    pool = _published_set(preset, "pool") or absent_set(data, "pool")
    return ShownSets(data_root(data), pool, *(_published_set(preset, name) for name in names))


def _published_set(preset: Preset, name: str) -> ImageSet | AbsentSet | None:
    """One set as it is, for the names in published pictures are names in it; None where the settings have no such."""
    root, choices = data_root(preset.data), getattr(preset.data, name)
    if not choices.strip():
        return None
    with suppress(ValueError):
        if find_split(root, choices, name=name) is not None:
            return open_split(root, choices, name=name, cache=runs_folder())
    return absent_set(preset.data, name, _recorded_count(preset, name))


def _recorded_count(preset: Preset, name: str) -> int:
    """How many images a set had: a probe's card counts those that it learned from and was tested on together."""
    half, _, part = name.partition("_")
    for record in read_records(shown_folder(preset.name) / "records"):
        card = record.card
        if card is None or "images" not in card.notes:
            continue
        of_pool = card.method in preset.methods and not learns_from_objects(preset.methods[card.method])
        if name == "pool" and card.stage == "pretrain" and of_pool:
            return int(card.notes["images"])
        if card.stage == "linear_probe" and record.keys.get("dataset") == half:
            return record.n if part == "test" else int(card.notes["images"]) - record.n
    return 0
