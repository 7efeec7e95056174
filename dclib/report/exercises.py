"""What the exercises share: drawn pictures to try things on, answers as a picture, and whether they came out as told.

A solution is a cell of its notebook, which computes; what it says is chosen here by what it found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from dclib.config import ModelConfig, Preset
from dclib.counted import count_of
from dclib.pocket.pictures import CLASSES, draw_object
from dclib.pocket.seeds import stream
from dclib.presets import load_preset, project_root
from dclib.records import Record, read_records
from dclib.report.display import Fragment, show
from dclib.report.figures import SIZE, finish, key_below, new_axes
from dclib.report.provenance import load_records
from dclib.report.published import load_published
from dclib.report.series import listed, plural, seeds_of

PURPOSE = "exercises"  # of the random numbers that draw them: other pictures than any that trained or tested
COLORS = ("#0173b2", "#d55e00", "#029e73", "#cc78bc", "#949494")  # seaborn's "colorblind" palette, as for methods


def drawn_sample(n: int, side: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures of the pocket world and their classes, which take turns: (n, 3, side, side), and (n,)."""
    labels = np.arange(n) % len(CLASSES)
    drawn = [draw_object(CLASSES[label], stream(seed, PURPOSE, i), side) for i, label in enumerate(labels)]
    return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in drawn]), labels


def picture_of(image: NDArray[np.uint8]) -> Image.Image:
    """One of them, (3, side, side), as an image."""
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))


def network_of(preset: Preset) -> ModelConfig:
    """The network of a preset that draws its images; of any other the pocket preset's, which is small enough here."""
    drawn = preset if preset.data.is_drawn else load_preset("pocket")
    return next(drawn.method(name).model for name in drawn.methods)


def records_to_ask(preset: Preset) -> list[Record]:
    """Records of several seeds: the preset's published ones, those of its run, or the pocket preset's.

    Where there is one seed at most wherever one looks, those of the run.
    """
    own = load_records(preset)
    pocket = read_records(project_root() / "results" / "pocket" / "records")
    pocket = [r for r in pocket if r.card and not count_of(r.card.method)]
    found = (load_published(preset, own, all_methods=True), own, pocket)
    return next((records for records in found if len(seeds_of(records)) > 1), own)


def whose(records: Sequence[Record]) -> str:
    """Of which preset records are, and of how many seeds."""
    presets = listed(dict.fromkeys(r.card.preset for r in records if r.card))
    return f"preset {presets}, {plural(len(seeds_of(records)), 'seed')}" if records else "no records"


def renamed(records: Sequence[Record], names: Mapping[str, str]) -> list[Record]:
    """The same records with some networks' names exchanged."""
    return [
        replace(r, card=replace(r.card, method=names.get(r.card.method, r.card.method))) if r.card else r
        for r in records
    ]


def outcome(came_out: bool, seen: str, otherwise: str) -> Fragment:
    """What was to be seen, where the numbers say so; else what they say instead."""
    mark, words = ("✓ To be seen", seen) if came_out else ("✗ Not on this run", otherwise)
    html = f'<div class="dclib-finding"><p><strong>{mark}.</strong> {escape(words)}</p></div>'
    return Fragment(html, f"{mark}. {words}")


def bars(values: Mapping[str, float], what: str, caption: str, *, form: str = ".2f") -> Fragment:
    """A bar for each value, with the value behind it."""
    ax = new_axes(height=0.8 + 0.4 * len(values))
    ax.barh(range(len(values)), list(values.values()), color=COLORS[0])
    for place, value in enumerate(values.values()):
        ax.annotate(f" {value:{form}}", (max(value, 0.0), place), va="center", fontsize=SIZE - 1)
    ax.set_yticks(range(len(values)), list(values))
    ax.set_xlim(min(0.0, *values.values()), 1.15 * max(*values.values(), 1e-9))
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=form == ".0f"))
    ax.set_xlabel(what, fontsize=SIZE)
    said = "; ".join(f"{name} {value:{form}}" for name, value in values.items())
    return show(finish(ax), alt=f"{what}: {said}.", caption=caption)


def lines(
    found: Mapping[str, Mapping[float, float]], x: str, y: str, caption: str, *, form: str = ".2f", log: bool = False
) -> Fragment:
    """A line for each series, over the same or other places; ``log`` spaces these by doublings."""
    ax = new_axes(height=3.2)
    for (name, points), color, marker in zip(found.items(), COLORS, "osD^v", strict=False):
        ax.plot(list(points), list(points.values()), color=color, marker=marker, label=name)
    if log:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel(x, fontsize=SIZE)
    ax.set_ylabel(y, fontsize=SIZE)
    key_below(ax)
    said = "; ".join(f"{n} " + ", ".join(f"{v:{form}} at {at:g}" for at, v in p.items()) for n, p in found.items())
    return show(finish(ax), alt=f"{y} against {x}. {said}.", caption=caption)
