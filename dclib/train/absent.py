"""Images that are not on this machine, and need not be: what stands in place of their pictures. No torch here.

Published results need no images, and none of other people's come with them: a picture is kept as names of images, and
drawn where their set is on this machine. Where it is not, a sentence stands in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

from dclib.config import DataConfig
from dclib.data.images import ImageSet
from dclib.data.layouts import find_split
from dclib.data.public_sets import public_set
from dclib.presets import data_root


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


def present(images: ImageSet | AbsentSet) -> ImageSet:
    """The set, to draw from it; AbsentImagesError where it is not here."""
    if isinstance(images, AbsentSet):
        raise AbsentImagesError(images.sentence)
    return images


def absent_set(data: DataConfig, name: str, count: int = 0) -> AbsentSet:
    """What is known of a set of these settings that is not here: how to get it."""
    named = getattr(data, name).split("|")[0].strip()
    public = public_set(data, name)
    if public:
        advice = f"The command {public.command} gets it, and make book draws it then."
        return AbsentSet(named, public.title, advice, count)
    return AbsentSet(named, named, f"With {named} in the folder {data.root}, make book draws it.", count)


def lacks_images(data: DataConfig) -> bool:
    """Whether the images to train on are not on this machine; drawings always are."""
    if data.is_drawn:
        return False
    try:
        return find_split(data_root(data), data.pool, name="pool") is None
    except ValueError:
        return True
