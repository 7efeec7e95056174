"""Writes the uncurated pool in YFCC100M's layout: zip shards of numbered images, and the metadata table.

``AA/BBB.zip`` holds ``CCC.jpg``; the image number is AABBBCCC. In the real collection the metadata table is
joined to the shards by way of another identifier; here the photo identifier *is* the image number, as an
integer, so that the join needs no third file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from urllib.parse import quote_plus

import numpy as np

from dclib.pocket.people import Photo, plan_photos
from dclib.pocket.pictures import draw_object
from dclib.pocket.seeds import jpeg_bytes, stream
from dclib.pocket.words import LICENCES

FOLDERS = (0, 7, 42, 99)  # AA; 00 is there because leading zeros get lost in careless code
IMAGES_PER_ZIP = 500
METADATA = "yfcc100m_dataset.tsv"
HIDDEN_CLASSES = "hidden_classes.tsv"
ZIP_DATE = (2014, 6, 1, 0, 0, 0)  # fixed, so that the same seed gives the same bytes


def plan_pool(root: Path, count: int, seed: int, *, drawn: bool = True) -> list[Callable[[], None]]:
    """The jobs that write the pool below ``root``: one for each zip, and one for the tables.

    Unless ``drawn``, every picture has its place and no bytes.
    """
    photos = plan_photos(count, seed, image_numbers(count, seed))
    by_zip = groupby(sorted(photos, key=lambda p: p.number), key=lambda p: p.number // 1000)
    jobs: list[Callable[[], None]] = [partial(write_zip, root, seed, list(group), drawn) for _, group in by_zip]
    return [partial(write_tables, root, seed, photos), *jobs]


def image_numbers(count: int, seed: int) -> list[int]:
    """``count`` different image numbers in random order: at most IMAGES_PER_ZIP to a zip, with gaps."""
    rng = stream(seed, "pool/numbers")
    zips = max(-(-count // IMAGES_PER_ZIP), min(4, count))
    shards = [
        1000 * aa + int(bbb) for aa, bbb in zip(np.resize(FOLDERS, zips), rng.permutation(1000)[:zips], strict=True)
    ]
    numbers = []
    for i, shard in enumerate(shards):
        size = count * (i + 1) // zips - count * i // zips
        numbers += [1000 * shard + int(ccc) for ccc in rng.permutation(1000)[:size]]
    return [numbers[i] for i in rng.permutation(count)]


def write_zip(root: Path, seed: int, photos: Sequence[Photo], drawn: bool = True) -> None:
    """Draw the photos of one shard and store them in its zip, in order of their number."""
    folder, shard = divmod(photos[0].number // 1000, 1000)
    path = root / f"{folder:02d}" / f"{shard:03d}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for photo in photos:
            entry = zipfile.ZipInfo(f"{photo.number % 1000:03d}.jpg", ZIP_DATE)
            archive.writestr(entry, photo_bytes(seed, photo) if drawn else b"")


def photo_bytes(seed: int, photo: Photo) -> bytes:
    """The picture of one photo."""
    return jpeg_bytes(draw_object(photo.class_name, stream(seed, "pool", photo.index), style=photo.style))


def write_tables(root: Path, seed: int, photos: Sequence[Photo]) -> None:
    """Write the metadata table, its lines in no particular order, and the classes that only displays may read."""
    root.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(metadata_columns(seed, photo)) for photo in photos]
    (root / METADATA).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    classes = sorted((f"{photo.number:08d}", photo.class_name) for photo in photos)
    text = "".join(f"{number}\t{name}\n" for number, name in classes)
    (root / HIDDEN_CLASSES).write_text(text, encoding="utf-8", newline="\n")


def metadata_columns(seed: int, photo: Photo) -> list[str]:
    """The 23 columns of one photo, free text URL-encoded, as in ``yfcc100m_dataset``."""
    rng = stream(seed, "pool/secrets", photo.index)
    secret, original = rng.bytes(5).hex(), rng.bytes(5).hex()
    server, farm = str(rng.integers(1, 9000)), str(rng.integers(1, 10))
    person, number = photo.person, str(photo.number)
    lon, lat = ("", "") if photo.position is None else (f"{v:.6f}" for v in photo.position)
    return [
        number,
        person.nsid,
        quote_plus(person.nickname),
        photo.taken,
        str(photo.uploaded),
        quote_plus(photo.device),
        quote_plus(photo.title),
        quote_plus(photo.description),
        ",".join(quote_plus(tag) for tag in photo.tags),
        ",".join(quote_plus(tag) for tag in photo.machine_tags),
        lon,
        lat,
        "" if photo.position is None else str(rng.integers(10, 17)),
        f"http://photos.example.org/photos/{person.nsid}/{number}/",
        f"http://farm{farm}.photos.example.org/{server}/{number}_{secret}.jpg",
        *LICENCES[person.licence],
        server,
        farm,
        secret,
        original,
        "jpg",
        "0",
    ]
