"""The slider over the clusterings of a run: what its script needs, put into a book beside the script. No torch here.

A page may load scripts and pictures beside it from a disk, but read no files: so the maps come as a script that hands
them over. Arrays are little-endian in base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclib.report.forming import Course, colour_share
from dclib.report.series import title_of
from dclib.train.forming import mapped_rows

FOLDER = "forming"  # below a book; its scripts and style come from book/_extra
DATA, SHEET = "data.js", "sheet.jpg"
SIDE = 40  # pixels of a picture
PER_ROW = 40  # pictures in a row of the sheet
FOLLOWED = 5  # clusters whose pictures are shown
PICTURES = 8  # of each
QUALITY = 78
MARK = 'class="dclib-forming" data-preset='  # in a page that has a place for the slider


def pages_about(html: Path, preset: str) -> list[Path]:
    """Pages with a place for the slider of a preset's runs."""
    place = f'{MARK}"{preset}"'
    return [path for path in sorted((html / "stages").glob("*.html")) if place in path.read_text(encoding="utf-8")]


def write_forming(html: Path, preset: str, found: Sequence[Course], thumbs: NDArray[np.uint8] | None) -> list[Path]:
    """Write the maps into a book, and have its pages about ``preset`` load them; returns these pages.

    Args:
        found: Of one set of images.
        thumbs: (m, 3, t, t) of the images that have a place; None where no pictures are to be shown.

    Raises:
        OSError: it cannot be written.
    """
    pages = pages_about(html, preset)
    several = [course for course in found if all(len(one) for one in course.places)]
    if not several or not pages:
        return []
    (html / FOLDER).mkdir(exist_ok=True)
    chosen = [followed(course) for course in several]
    rows = [pictures_of(course, clusters) for course, clusters in zip(several, chosen, strict=True)]
    tiles = sorted({image for run in rows for step in run for cluster in step for image in cluster})
    if thumbs is not None:
        _write_sheet(html / FOLDER / SHEET, thumbs[tiles])
    number = {image: tile for tile, image in enumerate(tiles)}
    colours = None if thumbs is None else np.rint(thumbs.mean(axis=(2, 3))).astype(np.uint8)
    content = {
        "images": several[0].n,
        "mapped": len(mapped_rows(several[0].n)),
        "side": SIDE,
        "perRow": PER_ROW,
        "tiles": len(tiles) if thumbs is not None else 0,
        "colours": "" if colours is None else _packed(colours, "<u1"),
        "networks": [
            {
                **_network(course, colours),
                "followed": clusters,
                "pictures": [[[number[image] for image in cluster] for cluster in step] for step in own],
            }
            for course, clusters, own in zip(several, chosen, rows, strict=True)
        ],
    }
    text = f"dclibForming({json.dumps(content, separators=(',', ':'))});\n"
    (html / FOLDER / DATA).write_text(text, encoding="ascii")
    for path in pages:
        _load_in(path, preset)
    return pages


def followed(course: Course) -> list[int]:
    """Some clusters of the last clustering, drawn at random from those of enough images; largest first."""
    last, counts = np.unique(course.clusters[-1], return_counts=True)
    enough = np.flatnonzero(counts >= min(PICTURES, int(counts.max())))
    drawn = np.random.default_rng(0).permutation(enough)[:FOLLOWED]
    return [int(last[i]) for i in sorted(drawn.tolist(), key=lambda i: -counts[i])]


def pictures_of(course: Course, clusters: Sequence[int]) -> list[list[list[int]]]:
    """For each clustering and each of some clusters, positions of a few of its images; those that stay come first."""
    order = np.random.default_rng(0).permutation(len(course.clusters[0]))
    return [[order[step[order] == cluster][:PICTURES].tolist() for cluster in clusters] for step in course.clusters]


def _network(course: Course, colours: NDArray[np.uint8] | None) -> dict[str, Any]:
    """What the script knows of one run."""
    kind = "<u1" if max(int(step.max()) for step in course.clusters) < 256 else "<u4"
    return {
        "title": title_of(course.method),
        "when": [course.when(number) for number in range(len(course.epochs))],
        "changed": [round(value, 4) for value in course.changed],
        "agreement": [round(value, 4) for value in course.agreement],
        "colour": [] if colours is None else [round(colour_share(step, colours), 4) for step in course.clusters],
        "bytes": int(kind[-1]),
        "clusters": [_packed(step, kind) for step in course.clusters],
        "places": [_packed(np.rint(place * 65535), "<u2") for place in course.places],
    }


def _write_sheet(path: Path, thumbs: NDArray[np.uint8]) -> None:
    n_rows = -(-len(thumbs) // PER_ROW)
    sheet = Image.new("RGB", (PER_ROW * SIDE, n_rows * SIDE), "#808080")
    for tile, thumb in enumerate(thumbs):
        picture = Image.fromarray(thumb.transpose(1, 2, 0)).resize((SIDE, SIDE), Image.Resampling.BOX)
        sheet.paste(picture, (tile % PER_ROW * SIDE, tile // PER_ROW * SIDE))
    sheet.save(path, quality=QUALITY, subsampling=0)  # else a colour would reach into the next picture


def _load_in(path: Path, preset: str) -> None:
    """Have a page load the script, the style and the maps, which are one folder up."""
    text, place = path.read_text(encoding="utf-8"), f'{MARK}"{preset}"'
    text = text.replace(place, f'{place} data-from="../{FOLDER}/"')
    scripts = "".join(f'<script defer src="../{FOLDER}/{name}"></script>' for name in ("forming.js", DATA))
    text = text.replace("</head>", f'<link rel="stylesheet" href="../{FOLDER}/forming.css">{scripts}</head>', 1)
    path.write_text(text, encoding="utf-8")


def _packed(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")
