"""What sets of images are called on a page: by their names where they are photographs, as stand-ins where drawn.

Every exhibit takes its words from here, and they follow from one fact, :attr:`dclib.config.DataConfig.is_drawn`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dclib.config import DataConfig

CITIES = {"oxford": "Oxford5K", "paris": "Paris6K"}
FIELDS = {"hashtag": "hashtags", "device": "cameras", "gps": "places", "user": "users"}  # of metadata
BENCHMARKS = ("VOC2007", *CITIES.values())
DRAWN_NOTICE = "The pocket world is pictures drawn by rules, not photographs."


@dataclass(frozen=True)
class SetNames:
    """The words for a preset's images."""

    drawn: bool

    def of(self, name: str) -> str:
        """A public set's name: ``VOC2007``, or ``drawn stand-in for VOC2007``."""
        return f"drawn stand-in for {name}" if self.drawn else name

    def the(self, name: str) -> str:
        """The same inside a sentence, with its article."""
        return f"the {self.of(name)}" if self.drawn else name

    def head(self, name: str) -> str:
        """A column's head over rows of ours and of the paper's, which are of the real set in any case."""
        return f"{name} (ours: drawn stand-in)" if self.drawn else name

    @property
    def images(self) -> str:
        """What the images are, in the plural."""
        return "drawings" if self.drawn else "photographs"

    @property
    def aside(self) -> str:
        """What a caption adds behind the name of a set that has no public name."""
        return " (drawings)" if self.drawn else ""


def names_in(data: DataConfig) -> SetNames:
    """The words for the images of a preset."""
    return SetNames(drawn=data.is_drawn)


def names_in_table(data: DataConfig) -> SetNames:
    """The words for what its metadata are about: a table given by path describes photographs, whatever the pool is."""
    return SetNames(drawn=data.is_drawn and not data.metadata)


def folder_name(folder: str, names: SetNames) -> str:
    """What a set is called that lies in a folder: ``oxford5k`` -> ``drawn stand-in for Oxford5K``."""
    known = next((name for name in BENCHMARKS if name.casefold() == folder.casefold()), "")
    return names.of(known) if known else f"{folder}{names.aside}"
