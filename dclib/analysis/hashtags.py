"""Figure 1: how many photographs carry each hashtag, against how many images each label of a curated set has.

Source: supplement, section 2.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dclib.data.metadata_table import connect
from dclib.data.yfcc_metadata import normalise_tag, read_metadata
from dclib.reading import encoding_of, read_text

SHOWN = 200  # characters of a header that is wrong
TOP_SHARE = 0.01  # the most frequent one per cent of the hashtags


@dataclass(frozen=True)
class RankedTags:
    """Hashtags from the most frequent to the rarest, ties by the alphabet; there may be millions.

    Attributes:
        photographs: That were looked at, those without a hashtag included.
        counts: (n,) photographs with each hashtag, descending.
        at_rank: The hashtag at some ranks, from 1.
        ranks: The rank of some hashtags.
    """

    photographs: int
    counts: NDArray[np.int64]
    at_rank: Mapping[int, str]
    ranks: Mapping[str, int]


def count_tags(photos: Iterable[Sequence[str]]) -> Counter[str]:
    """In how many photographs each hashtag is; one that a photograph carries twice counts once."""
    counts: Counter[str] = Counter()
    for tags in photos:
        counts.update({normalise_tag(tag) for tag in tags} - {""})
    return counts


def rank_tags(photos: Sequence[Sequence[str]], words: Collection[str], drawn: int) -> RankedTags:
    """Count in memory.

    Args:
        photos: The hashtags of each photograph, as written.
        words: Whose ranks are wanted, where they are hashtags.
        drawn: Ranks that are wanted by name, spaced evenly on a logarithmic axis.
    """
    ordered = sorted(count_tags(photos).items(), key=lambda item: (-item[1], item[0]))
    rank_of = {tag: rank for rank, (tag, _) in enumerate(ordered, start=1)}
    return RankedTags(
        photographs=len(photos),
        counts=np.array([count for _, count in ordered], dtype=np.int64),
        at_rank={rank: ordered[rank - 1][0] for rank in spaced_ranks(len(ordered), drawn)},
        ranks={tag: rank_of[tag] for tag in map(normalise_tag, words) if tag in rank_of},
    )


def rank_table_tags(table: Path, words: Collection[str], drawn: int, *, threads: int = 0) -> RankedTags:
    """The same of a table imported by :func:`dclib.data.metadata_table.import_metadata`, by SQL: any length will do."""
    with connect(table.parent, threads=threads) as connection:
        connection.execute(
            "CREATE TEMP TABLE ranked AS SELECT row_number() OVER (ORDER BY n DESC, tag) AS rank, tag, n FROM "
            "(SELECT tag, count(*) AS n FROM (SELECT unnest(hashtags) AS tag FROM read_parquet(?)) GROUP BY tag)",
            [str(table)],
        )
        (photographs,) = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(table)]).fetchall()[0]
        counts = connection.execute("SELECT n FROM ranked ORDER BY rank").fetchnumpy()["n"]
        chosen = "SELECT rank, tag FROM ranked WHERE "
        ranks = spaced_ranks(len(counts), drawn)
        at_rank = connection.execute(f"{chosen} rank IN (SELECT unnest(?)) ORDER BY rank", [ranks]).fetchall()
        tags = list(map(normalise_tag, words))
        found = connection.execute(f"{chosen} tag IN (SELECT unnest(?))", [tags]).fetchall()
    return RankedTags(photographs, np.asarray(counts), dict(at_rank), {tag: rank for rank, tag in found})


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
    return sorted(set(np.geomspace(1, n, num=min(n, count)).round().astype(int).tolist())) if n else []


def example_words(tags: Mapping[str, int], labels: Iterable[str]) -> tuple[str, ...]:
    """Of the labels that are hashtags too, the one that most photographs carry and the one that fewest do.

    The supplement does this for ImageNet's labels: baseball and guenon. ``tags`` holds photographs by hashtag.
    """
    shared = [word for word in labels if tags.get(normalise_tag(word))]
    shared.sort(key=lambda word: -tags[normalise_tag(word)])
    return tuple(dict.fromkeys((shared[0], shared[-1]))) if shared else ()


def _read_json(path: Path) -> list[tuple[str, ...]]:
    try:
        photos = json.loads(read_text(path))
        return [tuple(str(photo.get("tags") or "").split()) for photo in photos]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no list of photographs with their tags: {error}") from None


def _read_csv(path: Path) -> list[tuple[str, ...]]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.readline()
        encoding = encoding_of(head)
        with opener(path, "rt", encoding=encoding, newline="") as file:
            first = head.decode(encoding, "replace")
            rows = csv.DictReader(file, delimiter=max(",;\t", key=first.count))
            rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
            if "label" not in rows.fieldnames:
                named = ", ".join(rows.fieldnames)
                raise ValueError(f"{path} needs a header with a column 'label'; it has {named[:SHOWN]}")
            return [((row["label"] or "").strip(),) for row in rows]
    except (csv.Error, EOFError, OSError, UnicodeError, zlib.error) as error:
        raise ValueError(f"{path} is no whole table of labels in UTF-8: {error}; fetch it again") from None
