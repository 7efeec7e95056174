"""Moving pictures on a page: clips as strips of frames, with the patches that move framed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from PIL import ImageDraw

from dclib.config import DataConfig, Preset
from dclib.data.clips import Clips
from dclib.data.tracks import SMALLEST_PATCH, Tracks, mine_tracks
from dclib.pocket.clip_set import clip_boxes
from dclib.report import pictures
from dclib.report.display import Fragment, say, show
from dclib.report.figures import WIDTH, new_axes
from dclib.report.series import plural
from dclib.train.runnable import find_clips

SHOWN_CLIPS, SHOWN_FRAMES = 5, 8
PATCH = 0.45  # of a frame's shorter side
TRACK = 4  # frames
TILE = 96  # pixels of a frame on the page
COLOURS = ("#ffd400", "#00b3ff", "#ff5fa2", "#8cff66")  # of a clip's tracks, in turn


@pictures.pictured
def moving_pictures(preset: Preset, root: Path) -> Fragment:
    """Some clips below ``root`` with what was found to move in them, or a sentence where there is none."""
    try:
        clips = find_clips(preset, root)
    except ValueError as error:
        return say(f"The moving pictures cannot be used: {error}.")
    if clips is None:
        return say("No moving pictures come with these images.")
    some = clips.subset(np.unique(np.linspace(0, len(clips) - 1, SHOWN_CLIPS).round().astype(int)).tolist())
    patch = max(SMALLEST_PATCH, round(PATCH * min(pictures.open_to_show(some.images, 0).size)))
    tracks = mine_tracks(some, patch=patch, frames=TRACK)
    counts = np.bincount(clips.clip)
    caption = (
        f"{len(clips):,} clips of {counts.min()} to {counts.max()} frames, {len(clips.images):,} in all. Of "
        f"{len(some)} of them the first frames; framed is what was found to move otherwise than its ground, by "
        f"patches of {patch} pixels followed through {TRACK} frames: {plural(len(tracks), 'track')}."
    )
    shown = [i for number in range(len(some)) for i in some.frames(number)[:SHOWN_FRAMES]]
    return show(
        draw_clips(some, tracks),
        pictures=True,
        alt=describe_clips(some, tracks),
        caption=caption + _truth(some, tracks, preset.data) + pictures.note_unreadable(some.images, shown),
    )


def draw_clips(clips: Clips, tracks: Tracks) -> Axes:
    """A strip of frames for each clip, from the first on; the boxes of a track have one colour."""
    strips = []
    for number in range(len(clips)):
        mine = np.flatnonzero(tracks.clip == number).tolist()
        strip = []
        for row in clips.frames(number)[:SHOWN_FRAMES]:
            image = pictures.open_to_show(clips.images, row).copy()
            for order, track in enumerate(mine):
                for box in tracks.box[track][tracks.frame[track] == row].tolist():
                    top, left, height, width = box
                    corners = (left, top, left + width - 1, top + height - 1)
                    line = max(2, min(image.size) // 48)
                    ImageDraw.Draw(image).rectangle(corners, outline=COLOURS[order % len(COLOURS)], width=line)
            strip.append(pictures.square_tile(image, TILE))
        strips.append(strip)
    ax = new_axes(WIDTH, WIDTH * len(strips) / max(map(len, strips)))
    ax.imshow(pictures.join_tiles(strips, TILE), aspect="equal", interpolation="nearest")
    return pictures.bare(ax)


def describe_clips(clips: Clips, tracks: Tracks) -> str:
    """The strips in words: from where to where each track goes."""
    parts = []
    for number, name in enumerate(clips.names):
        moved = []
        for boxes in tracks.box[tracks.clip == number]:
            (top, left), (down, right) = (boxes[[0, -1], :2] + boxes[[0, -1], 2:] // 2).tolist()
            moved.append(f"a patch moves from {left}, {top} to {right}, {down}")
        parts.append(f"clip {name}: {'; '.join(moved) or 'nothing was followed'}")
    return f"Strips of {plural(len(clips), 'clip')}, in pixels from left and top. {'. '.join(parts)}."


def _truth(clips: Clips, tracks: Tracks, data: DataConfig) -> str:
    """How many of the patches are on what moves; empty where that is not known."""
    if not data.is_drawn or not len(tracks):
        return ""
    on_it = 0
    for frames, boxes, number in zip(tracks.frame, tracks.box, tracks.clip.tolist(), strict=True):
        true = clip_boxes(data.pocket_seed, int(clips.names[number]))[frames - clips.frames(number).start]
        middles = boxes[:, :2] + boxes[:, 2:] / 2
        on_it += int(((middles >= true[:, :2]) & (middles < true[:, :2] + true[:, 2:])).all(axis=1).sum())
    return f" Of drawings it is known what moves: the middle of {on_it} of {tracks.frame.size} patches is on it."
