"""Invented photographers, their devices, places and words: the metadata of the pocket world's pool.

Everything here is made up. What is kept from real collections is the shape: a few people take most photos and
have favourite subjects, a few hashtags are on most photos and most hashtags are on few, and some lines are odd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from dclib.pocket.pictures import CLASSES, Style
from dclib.pocket.seeds import stream
from dclib.pocket.sketch import between, chance
from dclib.pocket.words import (
    LICENCES,
    NAMES,
    NOISE_WORDS,
    ODD_TITLES,
    SURNAMES,
    SYLLABLES,
    SYNONYMS,
    TITLES,
)

SCANNER = "Pocket CanoScan 9000"
DEVICES = (
    "NIKON D70",
    "Canon PowerShot SD450",
    "SONY DSC-W5",
    "Panasonic DMC-FZ50",
    "OLYMPUS E-510",
    "Apple iPhone 4",
    "",  # the device is often not known
    SCANNER,
)
DEVICE_TAGS = {
    "NIKON D70": "nikon",
    "Canon PowerShot SD450": "canon",
    "SONY DSC-W5": "sony",
    "Apple iPhone 4": "iphone",
}
SCANNED_SHARE = 0.03
GPS_SHARE = 0.5  # of the people, who then locate this share of their photos:
LOCATED_SHARE = 0.65
TAIL_EXPONENT = 0.7  # class frequency ~ rank ** -0.7
ACTIVITY_EXPONENT = 1.0
ODD_YEAR = 4501  # a date that the real metadata holds, too


@dataclass(frozen=True)
class Cell:
    """A place one degree wide, with its own look.

    Attributes:
        longitude: Western edge in degrees, a whole number.
        latitude: Southern edge in degrees, a whole number.
        word: The hashtag of the place.
        style: What pictures taken there have in common.
    """

    longitude: int
    latitude: int
    word: str
    style: Style


CELLS = (
    Cell(-123, 37, "goldport", Style(grounds=("stripes", "gradient"), clutter=("ring", "disc"))),
    Cell(-1, 51, "oldbridge", Style(grounds=("blobs", "gradient"), clutter=("square", "bar"))),
    Cell(2, 48, "lightville", Style(grounds=("speckle", "gradient"), clutter=("triangle", "ring"))),
    Cell(139, 35, "eastbay", Style(grounds=("speckle", "stripes"), clutter=("disc", "bar"))),
    Cell(151, -34, "southcove", Style(grounds=("blobs", "stripes"), clutter=("blob", "triangle"))),
    Cell(-44, -23, "sugarhill", Style(grounds=("gradient", "speckle"), clutter=("square", "blob"))),
)


@dataclass(frozen=True)
class Person:
    """One photographer and the habits that show in the metadata."""

    nsid: str
    nickname: str
    devices: tuple[str, ...]
    cell: Cell | None
    licence: int
    first_year: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class Photo:
    """One line of the metadata, and what to draw for it.

    Attributes:
        number: The 8-digit image number AABBBCCC as an integer; also the photo identifier.
        index: Which picture of the pool: names its random stream.
        class_name: What it shows. For display only.
        taken: As the real file writes it, such as ``2005-03-01 12:39:28.0``.
        uploaded: Seconds since 1970, UTC.
        position: Longitude and latitude in degrees, or None.
    """

    number: int
    index: int
    class_name: str
    person: Person
    device: str
    style: Style
    taken: str
    uploaded: int
    title: str
    description: str
    tags: tuple[str, ...]
    machine_tags: tuple[str, ...]
    position: tuple[float, float] | None


def plan_photos(count: int, seed: int, numbers: Sequence[int]) -> list[Photo]:
    """Who took what, when, where and with what words: ``count`` photos with the given image numbers."""
    rng = stream(seed, "pool/plan")
    people = invent_people(rng, max(12, count // 40))
    archivists = [p for p in people if p.devices == (SCANNER,)]
    tag_share = zipf_shares(len(NOISE_WORDS) + count // 20)
    words = [*NOISE_WORDS] + invent_words(rng, count // 20)
    classes = draw_long_tail(rng, count)
    owners = draw_owners(rng, people, classes)
    scanned = rng.random(count) < SCANNED_SHARE
    scanned[int(rng.integers(count))] = True  # a tiny pool shows the scanner, too
    noise_tags = rng.choice(len(words), size=(count, 6), p=tag_share)
    photos = []
    for i in range(count):
        person = archivists[int(rng.integers(len(archivists)))] if scanned[i] else people[owners[i]]
        extra = [words[j] for j in noise_tags[i]]
        photos.append(_take_photo(rng, numbers[i], i, CLASSES[classes[i]], person, extra))
    return photos


def zipf_shares(count: int, exponent: float = 1.0) -> np.ndarray:
    """Shares (count,) that fall as rank ** -exponent and add up to one."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def draw_long_tail(rng: np.random.Generator, count: int) -> np.ndarray:
    """Class numbers (count,): frequency ~ rank ** -0.7 with ranks in random order; none missing if count >= 16."""
    shares = zipf_shares(len(CLASSES), TAIL_EXPONENT)[np.argsort(rng.permutation(len(CLASSES)))]
    classes = rng.choice(len(CLASSES), size=count, p=shares)
    if count >= len(CLASSES):
        for missing in sorted(set(range(len(CLASSES))) - set(classes.tolist())):
            # taken from the commonest class, so that no other class loses its only photo
            classes[np.flatnonzero(classes == np.bincount(classes).argmax())[0]] = missing
    return classes


def draw_owners(rng: np.random.Generator, people: Sequence[Person], classes: np.ndarray) -> np.ndarray:
    """Who took each photo (n,): the active ones more, and each person more of a few favourite classes."""
    cameras = np.array([p.devices != (SCANNER,) for p in people])
    activity = zipf_shares(len(people), ACTIVITY_EXPONENT) * cameras
    taste = np.ones((len(people), len(CLASSES)))
    for row in taste:
        row[rng.choice(len(CLASSES), size=3, replace=False)] = 12.0
    owners = np.zeros(len(classes), dtype=np.int64)
    for number in range(len(CLASSES)):
        mine = np.flatnonzero(classes == number)
        shares = activity * taste[:, number]
        owners[mine] = rng.choice(len(people), size=len(mine), p=shares / shares.sum())
    return owners


def invent_people(rng: np.random.Generator, count: int) -> list[Person]:
    """``count`` people, three of whom do nothing but scan old prints."""
    people = []
    for i in range(count):
        cameras = rng.choice(len(DEVICES) - 1, size=int(rng.integers(1, 3)), replace=False, p=_device_shares())
        people.append(
            Person(
                nsid=f"{int(rng.integers(10**6, 10**8))}@N{int(rng.integers(10)):02d}",
                nickname=_nickname(rng, i),
                devices=(SCANNER,) if count - 4 < i else tuple(DEVICES[c] for c in cameras),
                cell=CELLS[int(rng.integers(len(CELLS)))] if chance(rng, GPS_SHARE) else None,
                licence=int(rng.integers(len(LICENCES))),
                first_year=int(rng.integers(2004, 2012)),
                words=tuple(str(w) for w in rng.choice(NOISE_WORDS, size=2, replace=False)),
            )
        )
    return people


def _device_shares() -> np.ndarray:
    shares = np.array([6, 5, 3, 2, 2, 4, 5], dtype=np.float64)
    return np.asarray(shares / shares.sum())


def _nickname(rng: np.random.Generator, i: int) -> str:
    name, surname = NAMES[int(rng.integers(len(NAMES)))], SURNAMES[int(rng.integers(len(SURNAMES)))]
    return (f"{name} {surname}", f"{name.lower()}{i}", f"{name} & {surname} Photography", f"\u2605{name}\u2605")[
        int(rng.choice(4, p=(0.45, 0.4, 0.1, 0.05)))
    ]


def invent_words(rng: np.random.Generator, count: int) -> list[str]:
    """Made-up hashtags for the long tail, all different."""
    words: dict[str, None] = {}
    while len(words) < count:
        parts = rng.choice(len(SYLLABLES), size=int(rng.integers(2, 5)))
        words["".join(SYLLABLES[p] for p in parts)] = None
    return list(words)


def _take_photo(
    rng: np.random.Generator, number: int, index: int, class_name: str, person: Person, extra: Sequence[str]
) -> Photo:
    device = person.devices[int(rng.integers(len(person.devices)))]
    taken, uploaded, year = _dates(rng, person)
    cell = person.cell if person.cell and chance(rng, LOCATED_SHARE) else None
    position = _position(rng, cell)
    place = cell.word if cell else "the garden"
    word = SYNONYMS[class_name][int(rng.choice(4, p=(0.55, 0.2, 0.15, 0.1)))]
    style = cell.style if cell else Style()
    if device == SCANNER:
        style = Style(style.grounds, style.clutter, scanned=True)
    tags = _tags(rng, class_name, person, device, year, cell, extra)
    return Photo(
        number=number,
        index=index,
        class_name=class_name,
        person=person,
        device=device,
        style=style,
        taken=taken,
        uploaded=uploaded,
        title=_title(rng, word, place),
        description=f"A {word}, seen in {place}.\n\nNo {word} was harmed!" if chance(rng, 0.15) else "",
        tags=tags,
        machine_tags=(f"pocket:roll={int(rng.integers(1, 40))}",) if chance(rng, 0.03) else (),
        position=position,
    )


def _dates(rng: np.random.Generator, person: Person) -> tuple[str, int, int]:
    start = datetime(person.first_year, 1, 1, tzinfo=UTC)
    taken = start + timedelta(seconds=int(between(rng, 0, 3 * 365 * 86400)))
    uploaded = int((taken + timedelta(hours=between(rng, 0.1, 24 * 40))).timestamp())
    if chance(rng, 0.002):
        return f"{ODD_YEAR}-01-01 00:00:00.0", uploaded, taken.year
    return taken.strftime("%Y-%m-%d %H:%M:%S.0"), uploaded, taken.year


def _position(rng: np.random.Generator, cell: Cell | None) -> tuple[float, float] | None:
    if cell is not None:
        return (
            round(cell.longitude + between(rng, 0.05, 0.95), 6),
            round(cell.latitude + between(rng, 0.05, 0.95), 6),
        )
    if chance(rng, 0.03):  # a journey
        return round(between(rng, -179, 179), 6), round(math.degrees(math.asin(between(rng, -0.9, 0.9))), 6)
    return None


def _title(rng: np.random.Generator, word: str, place: str) -> str:
    odd = chance(rng, 0.02)
    template = ODD_TITLES[int(rng.integers(len(ODD_TITLES)))] if odd else TITLES[int(rng.integers(len(TITLES)))]
    number = int(rng.integers(1, 9999))
    return template.format(word=word, Word=word.capitalize(), number=number, place=place)


def _tags(
    rng: np.random.Generator,
    class_name: str,
    person: Person,
    device: str,
    year: int,
    cell: Cell | None,
    extra: Sequence[str],
) -> tuple[str, ...]:
    """Sorted hashtags, as the real file has them; nothing at all on about one photo in eight."""
    if chance(rng, 0.12):
        return ()
    tags = set(extra[: int(rng.integers(0, len(extra) + 1))])
    if chance(rng, 0.75):
        tags.add(SYNONYMS[class_name][0])
    if chance(rng, 0.35):
        tags.add(SYNONYMS[class_name][int(rng.integers(1, 4))])
    if chance(rng, 0.3):
        tags.update(person.words)
    if chance(rng, 0.2):
        tags.add(str(year))
    if chance(rng, 0.25) and device in DEVICE_TAGS:
        tags.add(DEVICE_TAGS[device])
    if cell is not None and chance(rng, 0.5):
        tags.add(cell.word)
    return tuple(sorted(tags))
