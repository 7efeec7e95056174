"""Answers as files: a table, features, folders of clusters, and what the folder holds in words."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dclib.explore.answers import NONE, Answers
from dclib.records import UnwrittenError, replacing, replacing_folder, temporary_for, write_atomically

SORTS = ("link", "copy")
# what a folder of answers may hold besides small squares of the photographs
WRITTEN = (
    *("photos.csv", "photos.parquet", "features.npy", "duplicates.csv", "summary.json", "README.txt"),
    *("centroids.npz", "explorer", "clusters", "network"),
)
LONGEST_NAME, LONGEST_SUFFIX = 200, 20  # bytes of a file's name in a cluster's folder, without its number


def table_of(answers: Answers) -> pd.DataFrame:
    """A row for each photograph; what it has none of is empty. ``row`` is that of ``features.npy``."""
    n = len(answers)
    columns: dict[str, Any] = {"path": list(answers.paths), "row": np.arange(n)}
    if answers.groupings:
        first = answers.groupings[0]
        columns |= {
            "cluster": _optional(first.cluster),
            "distance": pd.array(np.where(first.cluster == NONE, np.nan, first.distance), dtype="Float32"),
            "second": _optional(first.second),
            "sharpness": pd.array(np.where(first.cluster == NONE, np.nan, first.sharpness), dtype="Float32"),
            "map_x": first.place[:, 0],
            "map_y": first.place[:, 1],
        }
    columns |= {
        "duplicates": _optional(answers.duplicate),
        "duplicate_kind": list(answers.duplicate_kind),
        "width": answers.size[:, 0],
        "height": answers.size[:, 1],
        "taken": list(answers.taken),
        "bytes": answers.bytes,
    }
    return pd.DataFrame(columns)


def _optional(numbers: NDArray[np.int32]) -> pd.Series[Any]:
    """Whole numbers, of which NONE is empty."""
    column = pd.Series(numbers, dtype="Int32")
    return column.mask(column == NONE)


def write_tables(folder: Path, answers: Answers, features: NDArray[np.float32] | None) -> None:
    """``photos.csv``, ``photos.parquet``, ``features.npy`` (row i is that of row i there) and ``duplicates.csv``."""
    table = table_of(answers)
    write_atomically(folder / "photos.csv", _csv(table))
    try:
        with temporary_for(folder / "photos.parquet") as temporary, duckdb.connect() as database:
            database.register("photos", table)
            quoted = str(temporary).replace("'", "''")
            database.execute(f"COPY photos TO '{quoted}' (FORMAT parquet)")
    except duckdb.IOException as error:
        reason = str(error).splitlines()[0]
        raise UnwrittenError(
            f"could not write {folder / 'photos.parquet'}: {reason}; make room, then run again"
        ) from error
    if features is not None:
        with replacing(folder / "features.npy") as file:
            np.save(file, features)
    write_atomically(folder / "duplicates.csv", _csv(duplicates_of(answers)))


def duplicates_of(answers: Answers) -> pd.DataFrame:
    """The photographs of each group of duplicates; ``keep`` marks the one with most pixels, of these most bytes."""
    rows = np.flatnonzero(answers.duplicate != NONE)
    pixels = answers.size.astype(np.int64).prod(axis=1)
    rows = rows[np.lexsort((-answers.bytes[rows], -pixels[rows], answers.duplicate[rows]))]
    groups = answers.duplicate[rows]
    first = np.diff(groups, prepend=NONE) != 0
    return pd.DataFrame(
        {
            "group": groups,
            "keep": np.where(first, "yes", ""),
            "path": [answers.paths[i] for i in rows.tolist()],
            "kind": [answers.duplicate_kind[i] for i in rows.tolist()],
            "width": answers.size[rows, 0],
            "height": answers.size[rows, 1],
            "bytes": answers.bytes[rows],
        }
    )


def _csv(table: pd.DataFrame) -> bytes:
    """As RFC 4180 has it: names with commas, quotes or line breaks in quotes."""
    text = io.StringIO(newline="")
    table.to_csv(text, index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n", float_format="%.6g")
    return text.getvalue().encode("utf-8", "backslashreplace")


def sort_into_folders(folder: Path, answers: Answers, sources: Callable[[str], Path], how: str) -> None:
    """``clusters/007/0001-name.jpg`` and so on: a folder for each cluster, from its middle to its edge.

    Args:
        sources: The file of a photograph, by its name.
        how: ``"link"`` to the photographs, or ``"copy"``.

    Raises:
        OSError: there is no room for copies, found before the first is made; or no link can be made there.
    """
    cluster, distance = answers.groupings[0].cluster, answers.groupings[0].distance
    clustered = cluster != NONE
    if how == "copy":
        needed, free = int(answers.bytes[clustered].sum()), shutil.disk_usage(folder).free
        if needed > free:
            raise OSError(
                f"need {needed / 1e9:.1f} GB in {folder} for copies; {free / 1e9:.1f} GB are free: "
                "make room, or take --sort link"
            )
    digits = len(str(int(cluster.max(initial=0))))
    with replacing_folder(folder / "clusters") as new:
        for c in np.unique(cluster[clustered]).tolist():
            place = new / f"{c:0{digits}d}"
            place.mkdir()
            rows = np.flatnonzero(cluster == c)
            for rank, i in enumerate(rows[np.argsort(distance[rows], kind="stable")].tolist(), 1):
                source = sources(answers.paths[i]).absolute()
                if not os.path.exists(source):
                    continue  # gone since it was looked at
                target = place / f"{rank:04d}-{_shortened(Path(answers.paths[i]).name)}"
                if how == "link":
                    target.symlink_to(source)
                else:
                    shutil.copyfile(source, target)


def sorted_before(folder: Path) -> str:
    """What an earlier call has put into ``clusters/``: ``"link"`` or ``"copy"``; empty where there is nothing."""
    first = next((folder / "clusters").glob("*/*"), None)
    return "" if first is None else "link" if first.is_symlink() else "copy"


def _shortened(name: str) -> str:
    stem, suffix = (part.encode("utf-8", "surrogateescape") for part in os.path.splitext(name))
    return (stem[:LONGEST_NAME] + suffix[:LONGEST_SUFFIX]).decode("utf-8", "ignore")


def write_summary(folder: Path, summary: Mapping[str, Any], lines: Sequence[str]) -> None:
    """``summary.json`` for programs, and ``README.txt`` for people; bytes of names that are no UTF-8 are escaped."""
    told = json.dumps(summary, indent=1, ensure_ascii=False), "".join(f"{line}\n" for line in lines)
    for name, text in zip(("summary.json", "README.txt"), told, strict=True):
        write_atomically(folder / name, text.encode("utf-8", "backslashreplace"))
