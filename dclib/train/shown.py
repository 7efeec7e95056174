"""The image sets that the pictures of a page are drawn from. No torch here, unless something is to be measured.

Published results need no images, and none of other people's come with them: a picture is kept as names of images, and
drawn where their set is on this machine. Where it is not, a sentence stands in its place.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dclib.config import DataConfig, Preset
from dclib.data.images import ImageSet
from dclib.data.layouts import find_split, open_split
from dclib.data.public_sets import SETS, place_of
from dclib.presets import data_root, edition, runs_folder, shown_folder
from dclib.records import read_records
from dclib.train.runnable import learns_from_objects


class AbsentImagesError(ValueError):
    """Pictures of a set were to be drawn that is not on this machine; the message says what to do for them."""


@dataclass(frozen=True)
class AbsentSet:
    """A set of images that is not on this machine."""

    name: str  # of its file or folder in the preset
    title: str  # what it is called on a page
    advice: str  # how to get it, as a sentence
    count: int = 0  # of its images, as published records tell; 0 where they do not

    @property
    def sentence(self) -> str:
        """What stands in place of its pictures."""
        return f"Not shown here: the book brings no photographs, and {self.title} is not on this machine. {self.advice}"


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
        from dclib.train.runs import prepare_data

        found = prepare_data(preset)
        labelled = (found.objects_train, found.objects_test, found.scenes_train, found.scenes_test)
        return ShownSets(found.root, found.pool, *labelled)
    names = ("objects_train", "objects_test", "scenes_train", "scenes_test")
    pool = _published_set(preset, "pool") or absent_set(data, "pool")
    return ShownSets(data_root(data), pool, *(_published_set(preset, name) for name in names))


def lacks_images(data: DataConfig) -> bool:
    """Whether the images to train on are not on this machine; drawings always are."""
    if data.is_drawn:
        return False
    try:
        return find_split(data_root(data), data.pool, name="pool") is None
    except ValueError:
        return True


def present(images: ImageSet | AbsentSet) -> ImageSet:
    """The set, to draw from it; AbsentImagesError where it is not here."""
    if isinstance(images, AbsentSet):
        raise AbsentImagesError(images.sentence)
    return images


def absent_set(data: DataConfig, name: str, count: int = 0) -> AbsentSet:
    """What is known of a set of these settings that is not here: how to get it."""
    named = getattr(data, name).split("|")[0].strip()
    path = Path(os.path.abspath(data_root(data) / named))
    for key, public in SETS.items():
        if path.is_relative_to(os.path.abspath(place_of(key))):
            advice = f"The command {public.command} gets it, and make book draws it then."
            return AbsentSet(named, public.title, advice, count)
    return AbsentSet(named, named, f"With {named} in the folder {data.root}, make book draws it.", count)


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
