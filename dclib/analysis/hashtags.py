"""Figure 1: how many photographs carry each hashtag, against how many images each label of a curated set has.

Source: supplement, section 2.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dclib.data.yfcc_metadata import read_metadata

TOP_SHARE = 0.01  # the most frequent one per cent of the hashtags


def normalise_tag(tag: str) -> str:
    """A hashtag as it is counted: Unicode compatibility form, lower case, no ``#`` in front, single spaces.

    Two spellings that differ in these ways alone are one hashtag; accents, punctuation inside and plurals are kept.
    """
    folded = unicodedata.normalize("NFKC", tag).casefold().strip().lstrip("#")
    return re.sub(r"\s+", " ", folded).strip()


def count_tags(photos: Iterable[Sequence[str]]) -> Counter[str]:
    """In how many photographs each hashtag is; one that a photograph carries twice counts once."""
    counts: Counter[str] = Counter()
    for tags in photos:
        counts.update({normalise_tag(tag) for tag in tags} - {""})
    return counts


def read_tags(path: str | Path, *, max_bad: float = 0.01) -> list[tuple[str, ...]]:
    """The hashtags of each photograph of a metadata file, machine tags left out.

    Three forms are read: YFCC100M's table (23 columns, plain or .bz2); JSON, a list of photographs with ``tags``
    separated by spaces, or a folder of such files; and a table with a header and a column ``label`` (.csv, .csv.gz).

    Args:
        max_bad: Share of malformed lines of YFCC100M's table that may be left out.

    Raises:
        ValueError: the file is missing, has another form, or more lines are malformed.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise ValueError(f"need .json files with photographs and their tags in {path}; there is none")
        return [tags for file in files for tags in read_tags(file)]
    if not path.is_file():
        raise ValueError(f"no metadata at {path}: give YFCC100M's table, a .csv with a column 'label', or .json")
    if path.suffix == ".json":
        return _read_json(path)
    if path.name.endswith((".csv", ".csv.gz")):
        return _read_csv(path)
    return [photo.user_tags for photo in read_metadata(path, max_bad=max_bad)]


def gini(counts: Iterable[int]) -> float:
    """Gini coefficient of counts: 0 where all are equal, near 1 where a few have nearly everything.

    Raises:
        ValueError: there is no count, or they sum to zero.
    """
    ascending = np.sort(np.fromiter(counts, dtype=np.float64))
    if len(ascending) == 0 or ascending.sum() <= 0:
        raise ValueError("need counts above zero to say how uneven they are; got none")
    ranks = np.arange(1, len(ascending) + 1)
    return float((2 * ranks - len(ascending) - 1) @ ascending / (len(ascending) * ascending.sum()))


def top_share(counts: Iterable[int], share: float = TOP_SHARE) -> float:
    """Part of all occurrences that falls on the most frequent ``share`` of the entries (at least one), in [0, 1]."""
    descending = np.sort(np.fromiter(counts, dtype=np.float64))[::-1]
    top = max(1, round(share * len(descending)))
    return float(descending[:top].sum() / descending.sum())


def spaced_ranks(n: int, count: int) -> list[int]:
    """At most ``count`` ranks from 1 to n, evenly spaced on a logarithmic axis, both ends included."""
    return sorted(set(np.geomspace(1, n, num=min(n, count)).round().astype(int).tolist()))


def example_words(tags: Counter[str], labels: Iterable[str]) -> tuple[str, ...]:
    """Of the labels that are hashtags too, the one that most photographs carry and the one that fewest do.

    The supplement does this for ImageNet's labels: baseball and guenon.
    """
    shared = sorted((word for word in labels if tags[normalise_tag(word)]), key=lambda w: -tags[normalise_tag(w)])
    return tuple(dict.fromkeys((shared[0], shared[-1]))) if shared else ()


def _read_json(path: Path) -> list[tuple[str, ...]]:
    try:
        photos = json.loads(path.read_text(encoding="utf-8"))
        return [tuple(str(photo.get("tags") or "").split()) for photo in photos]
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is no list of photographs with their tags: {error}") from None


def _read_csv(path: Path) -> list[tuple[str, ...]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if "label" not in (rows.fieldnames or ()):
            raise ValueError(f"{path} needs a header with a column 'label'; it has {', '.join(rows.fieldnames or ())}")
        return [(row["label"],) for row in rows]
