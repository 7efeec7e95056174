"""Patches that are followed through clips, as pixels to be cut into batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dclib.config import config_hash
from dclib.data.clips import Clips
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels
from dclib.data.tracks import load_tracks


def track_pixels(clips: Clips, cache: Path | None, *, patch: int, side: int, frames: int, size: int) -> Pixels:
    """The patches of :func:`load_tracks` as pixels to be cut into batches of ``size``; labels are their clips.

    A track's ``frames`` patches follow each other.

    Raises:
        ValueError: fewer than two clips have something that moves.
    """
    tracks, patches = load_tracks(clips, cache, patch=patch, side=side, frames=frames)
    if len(set(tracks.clip.tolist())) < 2:
        raise ValueError(
            f"need patches that move in two clips or more, each through {frames} frames; found {len(tracks)} in "
            f"{len(clips)} clips of {clips.images.name}: give more clips, or fewer frames"
        )
    ids = [clips.images.ids[row] for row in tracks.frame.flatten().tolist()]
    images = ImageSet(
        f"patches of {clips.images.name}",
        ids,
        clips.images.reader,
        np.repeat(tracks.clip, frames),
        clips.names,
        (*clips.images.notes, *tracks.notes),
    )
    content = config_hash(tracks.frame.tolist(), tracks.box.tolist())
    decoded = torch.from_numpy(patches.reshape(-1, 3, side, side))
    return Pixels(images, (), size, side, decoded, content=content)
