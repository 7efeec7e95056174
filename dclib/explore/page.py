"""The explorer: one folder of plain files in which photographs, clusters and duplicates are looked through.

It opens from a disk, needs no server and asks no network. A page may not read files beside it, but it may load
scripts: so what is known of the photographs comes as scripts, each of which hands over one part. Numbers are
little-endian arrays in base64. Thumbnails come on sheets of a few, in the order in which clusters are shown, so that
what is seen together is loaded together; the page numbers the photographs in that order too.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclib.explore.answers import NONE, Answers, Grouping
from dclib.records import replacing_folder

SHEET = 5  # thumbnails in a row and in a column of a sheet
NO_PHOTOGRAPH = 2**32 - 1  # the number of a neighbour that is not there
BLOCK = 4096  # photographs whose neighbours come in one script
N_MIDDLE, N_EDGE = 9, 6  # photographs that stand for a cluster; clusters.js shows as many
QUALITY = 82  # of the JPEG sheets
STATIC = ("style.css", "store.js", "grid.js", "map.js", "clusters.js", "photographs.js", "duplicates.js", "explorer.js")


class Thumbnails(Protocol):
    """An array of pictures, or what gives rows of one as they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, index: Any, /) -> NDArray[np.uint8]: ...


def write_explorer(
    folder: Path,
    answers: Answers,
    thumbs: Thumbnails,
    *,
    title: str,
    verdict: Sequence[str] = (),
    notes: Sequence[str] = (),
    words: tuple[str, str] = ("photograph", "photographs"),
    key: str = "",
) -> Path:
    """Write the explorer of ``answers`` and return its ``index.html``; what was in ``folder`` is replaced as a whole.

    Args:
        folder: Becomes the explorer. Until it is complete, what is there stays.
        answers: What is known of n photographs.
        thumbs: (n, 3, t, t) uint8 RGB, row by row as in ``answers``; may be mapped from a file. Never modified.
        title: Of the collection, plain text like the other two.
        verdict: Sentences on how good the clusters are, shown first.
        notes: Sentences that a reader can open.
        words: What one of them is called on the page, and several.
        key: By which a browser finds again what its reader typed and ticked; by default another one for each list of
            photographs and clusters.

    Raises:
        ValueError: ``thumbs`` has another shape, or a clustering another number of photographs.
        OSError: it cannot be written; what was there is untouched.
    """
    _check(answers, thumbs)
    order = shown_order(answers)
    with replacing_folder(Path(folder)) as new:
        (new / "sheets").mkdir()
        (new / "data").mkdir()
        _write_sheets(new / "sheets", thumbs, order)
        about = {**_about(answers, thumbs.shape[-1], title), "words": words, **({"key": key} if key else {})}
        _write_part(new, "about", about)
        _write_part(new, "photographs", _photographs(answers, order))
        for g, grouping in enumerate(answers.groupings):
            _write_part(new, f"grouping-{g}", _grouping(grouping, order))
            for block, part in enumerate(_neighbours(grouping, order)):
                _write_part(new, f"neighbours-{g}-{block}", part)
        static = resources.files("dclib.explore") / "page"
        for name in STATIC:
            (new / name).write_bytes((static / name).read_bytes())
        page = Template((static / "index.html").read_text(encoding="utf-8"))
        text = page.substitute(
            one=words[0],
            many=words[1],
            Many=words[1].capitalize(),
            title=html.escape(_printable(title)),
            verdict="".join(f"<p>{_in_html(line)}</p>" for line in verdict),
            notes="".join(f"<li>{html.escape(_printable(line))}</li>" for line in notes),
        )
        (new / "index.html").write_text(text, encoding="utf-8")
    return Path(folder) / "index.html"


def _in_html(line: str) -> str:
    """A sentence, in which an option of a command stays on one line with its number."""
    return re.sub(r"--[a-z]+( \d+)?", r'<span class="whole">\g<0></span>', html.escape(_printable(line)))


def shown_order(answers: Answers) -> NDArray[np.int64]:
    """(n,) rows in the order of the page: those that stand for a cluster, then all others, cluster by cluster.

    By the first grouping: clusters by falling coherence, photographs by their distance to the centroid.
    """
    n = len(answers)
    if not answers.groupings:
        return np.arange(n)
    grouping = answers.groupings[0]
    coherence = _coherence(grouping)
    rank = np.empty(len(coherence) + 1, np.int64)
    rank[np.argsort(-coherence, kind="stable")] = np.arange(len(coherence))
    rank[-1] = len(coherence)  # NONE is -1: photographs of no cluster come last
    ranks = rank[grouping.cluster]
    stands_for = (_place_in(ranks, grouping.distance) < N_MIDDLE) | (_place_in(ranks, grouping.sharpness) < N_EDGE)
    return np.lexsort((grouping.distance, ranks, ~(stands_for & (grouping.cluster != NONE))))


def _coherence(grouping: Grouping) -> NDArray[np.float32]:
    """Of each cluster; 0 where identical photographs leave none to be measured."""
    coherence: NDArray[np.float32] = np.nan_to_num(grouping.coherence())
    return coherence


def _place_in(group: NDArray[np.int64], value: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n,) how many of its own group have a smaller value."""
    order = np.lexsort((value, group))
    in_order = group[order]
    place = np.empty(len(group), np.int64)
    place[order] = np.arange(len(group)) - np.searchsorted(in_order, in_order)
    return place


def _check(answers: Answers, thumbs: Thumbnails) -> None:
    n, t = len(answers), thumbs.shape[-1]
    if thumbs.shape != (n, 3, t, t) or thumbs.dtype != np.uint8:
        raise ValueError(
            f"need thumbnails as uint8 of shape ({n}, 3, t, t), one for each photograph, not {thumbs.dtype} of shape "
            f"{thumbs.shape}; make them from the same list of photographs"
        )
    for grouping in answers.groupings:
        if len(grouping.cluster) != n:
            raise ValueError(
                f"need a cluster for each of {n} photographs, and {grouping.name!r} has {len(grouping.cluster)}; "
                "cluster the same list of photographs"
            )


def _about(answers: Answers, thumb: int, title: str) -> dict[str, Any]:
    """What the page must know before anything else; ``key`` names the collection and its clusters."""
    digest = hashlib.sha256(json.dumps(list(answers.paths)).encode())
    for grouping in answers.groupings:
        digest.update(grouping.name.encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(grouping.cluster, "<i4").tobytes())
    return {
        "title": title,
        "n": len(answers),
        "root": answers.root,
        "key": digest.hexdigest()[:20],
        "sheet": SHEET,
        "thumb": thumb,
        "block": BLOCK,
        "groupings": [
            {
                "name": grouping.name,
                "family": grouping.family,
                "clusters": int(grouping.cluster.max(initial=NONE)) + 1,
                "map": grouping.map_name,
                "neighbours": int(grouping.neighbours.shape[1]),
            }
            for grouping in answers.groupings
        ],
    }


def _photographs(answers: Answers, order: NDArray[np.int64]) -> dict[str, Any]:
    """Columns of the photographs; ``listed`` are the page's numbers in the order of ``answers``."""
    kinds = np.array([kind == "exact" for kind in answers.duplicate_kind], bool)
    return {
        "paths": [answers.paths[i] for i in order],
        "listed": _packed(np.argsort(order), "<u4"),
        "size": _packed(answers.size[order], "<u4"),
        "bytes": _packed(np.minimum(answers.bytes[order], 2**32 - 1), "<u4"),
        "taken": _packed(np.array([_seconds(answers.taken[i]) for i in order], np.float64), "<f8"),
        "duplicate": _packed(answers.duplicate[order], "<i4"),
        "exact": _packed(kinds[order], "<u1"),
    }


def _grouping(grouping: Grouping, order: NDArray[np.int64]) -> dict[str, Any]:
    """Columns of one clustering; what is only drawn or ordered by is rounded to 1/65535."""
    farthest = float(np.nan_to_num(grouping.distance).max(initial=0)) or 1.0
    return {
        "cluster": _packed(grouping.cluster[order], "<i4"),
        "second": _packed(grouping.second[order], "<i4"),
        "distance": _packed(_rounded(grouping.distance[order] / farthest), "<u2"),
        "sharpness": _packed(_rounded(grouping.sharpness[order]), "<u2"),
        "place": _packed(_rounded(grouping.place[order]), "<u2"),
        "coherence": _packed(_coherence(grouping), "<f4"),
    }


def _neighbours(grouping: Grouping, order: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Neighbours of BLOCK photographs at a time, and cosines times 127; NO_PHOTOGRAPH where there are fewer."""
    number = np.append(np.argsort(order), NO_PHOTOGRAPH)  # NONE is -1: the last one
    parts = []
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        cosines = np.rint(np.clip(np.nan_to_num(grouping.similarity[rows]), -1, 1) * 127)
        parts.append({"nearest": _packed(number[grouping.neighbours[rows]], "<u4"), "cosine": _packed(cosines, "<i1")})
    return parts


def _write_sheets(folder: Path, thumbs: Thumbnails, order: NDArray[np.int64]) -> None:
    t, per_sheet = thumbs.shape[-1], SHEET * SHEET
    subsampling = 2 if t % 16 == 0 else 0  # else a colour would reach into the next thumbnail
    for number, start in enumerate(range(0, len(order), per_sheet)):
        rows = order[start : start + per_sheet]
        cells = np.full((per_sheet, t, t, 3), 128, np.uint8)
        cells[: len(rows)] = np.asarray(thumbs[rows]).transpose(0, 2, 3, 1)
        sheet = cells.reshape(SHEET, SHEET, t, t, 3).transpose(0, 2, 1, 3, 4).reshape(SHEET * t, SHEET * t, 3)
        Image.fromarray(sheet).save(folder / f"{number}.jpg", quality=QUALITY, subsampling=subsampling)


def _write_part(folder: Path, name: str, value: dict[str, Any]) -> None:
    """A script that hands ``value`` over; in ASCII, so that every name comes through as it is."""
    text = f"handOver({json.dumps(name)},{json.dumps(value, separators=(',', ':'))});\n"
    (folder / "data" / f"{name}.js").write_text(text, encoding="ascii")


def _packed(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")


def _rounded(fractions: NDArray[np.float32]) -> NDArray[np.float32]:
    rounded: NDArray[np.float32] = np.rint(np.clip(np.nan_to_num(fractions), 0, 1) * 65535)
    return rounded


def _seconds(taken: str) -> float:
    """Seconds since 1970 by the camera's own clock; NaN where there is no date or no such day."""
    try:
        return datetime.fromisoformat(taken).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")


def _printable(text: str) -> str:
    """Text that UTF-8 can hold: a byte of a name that is no text shows as a question mark in a box."""
    return text.encode("utf-8", "replace").decode()
