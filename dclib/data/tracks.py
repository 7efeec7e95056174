"""Patches that move otherwise than the background of a clip does, each followed through some frames.

Of each pair of frames the camera's shift is found first: the one that most of the picture agrees with. What still
differs once frames are laid over each other has moved. The patches with most of it are followed by normalised
cross-correlation, and kept if they were found again in every frame and left the background (:mod:`dclib.data.motion`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclib.config import config_hash
from dclib.data import motion
from dclib.data.clips import Clips
from dclib.data.contents import content_hash
from dclib.data.images import UnreadableImageError, name_some
from dclib.machine import count_cores
from dclib.records import code_hash, make_folder, replacing, temporary_for

PER_CLIP = 4  # tracks at most
SMALLEST_PATCH = 16  # pixels: a smaller one is found again anywhere
WORKING_SIDE = 192  # frames with a longer side are looked at smaller; patches are cut from them as they are

Track = tuple[list[int], list[tuple[int, int, int, int]]]  # numbers of frames, and a box in each


@dataclass(frozen=True, eq=False)
class Tracks:
    """Patches that were followed, by number.

    Attributes:
        frame: (m, t) number of each frame among the clips' images; t frames that follow each other.
        box: (m, t, 4) top, left, height and width of the patch in each, pixels; whole in the frame.
        clip: (m,) number of the clip.
        notes: What could not be looked at, a sentence each.
    """

    frame: NDArray[np.int64]
    box: NDArray[np.int32]
    clip: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.clip)


def mine_tracks(clips: Clips, *, patch: int, frames: int, per_clip: int = PER_CLIP) -> Tracks:
    """The patches of each clip that move most, followed through ``frames`` frames.

    A track begins at every ``frames``-th frame of its clip; of one clip those with most motion are taken. Clips are
    looked at side by side, each alone in memory; the same clips give the same tracks.

    Args:
        clips: Any.
        patch: Side of a patch where its track begins, pixels.
        frames: Frames of a track; clips with fewer have none.
        per_clip: Tracks of one clip, at most.

    Raises:
        ValueError: a setting is too small.
    """
    if patch < SMALLEST_PATCH or frames < 2 or per_clip < 1:
        raise ValueError(
            f"need patch >= {SMALLEST_PATCH} pixels, frames >= 2 and per_clip >= 1; got {patch}, {frames}, {per_clip}"
        )
    with ThreadPoolExecutor(count_cores()) as pool:  # Pillow and the transforms let go of the interpreter
        found = list(pool.map(lambda number: _mine_clip(clips, number, patch, frames, per_clip), range(len(clips))))
    tracks = [track for some, _, _ in found for track in some]
    broken = [clips.images.ids[row] for _, rows, _ in found for row in rows]
    small = [clips.names[number] for number, (_, _, is_small) in enumerate(found) if is_small]
    kinds = {"frames that cannot be read": broken, f"clips whose frames are no larger than {patch} pixels": small}
    return Tracks(
        np.array([rows for rows, _ in tracks], dtype=np.int64).reshape(-1, frames),
        np.array([boxes for _, boxes in tracks], dtype=np.int32).reshape(-1, frames, 4),
        np.repeat(np.arange(len(clips)), [len(some) for some, _, _ in found]),
        tuple(f"passed over {what} ({len(names):,}): {name_some(names)}" for what, names in kinds.items() if names),
    )


def cut_patches(clips: Clips, tracks: Tracks, side: int) -> NDArray[np.uint8]:
    """(m, t, 3, side, side) RGB: each patch brought to ``side`` by ``side`` pixels, bilinear and antialiased.

    Raises:
        UnreadableImageError: a frame has changed since it was tracked.
    """
    patches = np.empty((*tracks.frame.shape, 3, side, side), dtype=np.uint8)
    _fill(clips, tracks, patches)
    return patches


def load_tracks(
    clips: Clips, cache: Path | None, *, patch: int, side: int, frames: int, per_clip: int = PER_CLIP
) -> tuple[Tracks, NDArray[np.uint8]]:
    """The tracks of some clips and their patches, found once for the same clips, settings and code.

    Args:
        clips: Any.
        cache: Folder that keeps both for the next call, the patches as a memory-mapped file (a change of them stays in
            memory); without it they live in memory.
        patch, frames, per_clip: As in :func:`mine_tracks`.
        side: As in :func:`cut_patches`.

    Raises:
        ValueError: nothing moves in any clip, or a setting is too small.
        OSError: the cache folder cannot be written.
    """
    if cache is None:
        tracks = _some_tracks(clips, patch, frames, per_clip)
        return tracks, cut_patches(clips, tracks, side)
    known = config_hash(clips.images.fingerprint, content_hash(clips.images, cache), clips.clip.tolist())
    code = code_hash("data/clips", "data/tracks", "data/motion", "data/decoding")
    stem = cache / f"tracks-{config_hash(known, patch, side, frames, per_clip, code)}"
    kept, pixels = stem.with_suffix(".npz"), stem.with_suffix(".npy")
    if not (kept.is_file() and pixels.is_file()):
        tracks = _some_tracks(clips, patch, frames, per_clip)
        make_folder(cache)
        with temporary_for(pixels) as temporary:
            shape = (*tracks.frame.shape, 3, side, side)
            patches = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            _fill(clips, tracks, patches)
            patches.flush()
        with replacing(kept) as file:  # after the pixels: both are there once this is
            np.savez(file, frame=tracks.frame, box=tracks.box, clip=tracks.clip, notes=np.array(tracks.notes, str))
    with np.load(kept) as found:
        tracks = Tracks(found["frame"], found["box"], found["clip"], tuple(map(str, found["notes"])))
    return tracks, np.load(pixels, mmap_mode="c")


def _some_tracks(clips: Clips, patch: int, frames: int, per_clip: int) -> Tracks:
    tracks = mine_tracks(clips, patch=patch, frames=frames, per_clip=per_clip)
    if not len(tracks):
        noted = "".join(f" ({note})" for note in tracks.notes)
        raise ValueError(
            f"need clips in which something moves otherwise than the background; in none of {len(clips):,} clips of "
            f"{clips.images.name} a patch of {patch} pixels could be followed through {frames} frames{noted}"
        )
    return tracks


def _fill(clips: Clips, tracks: Tracks, patches: NDArray[np.uint8]) -> None:
    """Cut the patches of all tracks, a clip at a time so that each frame is decoded once."""

    def cut_clip(number: int) -> None:
        mine = np.flatnonzero(tracks.clip == number)
        for row in np.unique(tracks.frame[mine]).tolist():
            image = clips.images.open(row)
            for track, place in zip(*np.nonzero(tracks.frame[mine] == row), strict=True):
                top, left, height, width = tracks.box[mine[track], place].tolist()
                cut = image.resize(
                    patches.shape[-2:], Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
                )
                patches[mine[track], place] = np.asarray(cut).transpose(2, 0, 1)

    with ThreadPoolExecutor(count_cores()) as pool:
        list(pool.map(cut_clip, np.unique(tracks.clip).tolist()))


# one clip


def _mine_clip(
    clips: Clips, number: int, patch: int, frames: int, per_clip: int
) -> tuple[list[Track], list[int], bool]:
    """The tracks of one clip, its frames that cannot be read, and whether they are too small for a patch."""
    rows, grey, broken, factor = _read_clip(clips, number)
    side = round(patch * factor)
    if len(rows) < frames:
        return [], broken, False
    if min(grey.shape[1:]) <= side or side < SMALLEST_PATCH // 2:
        return [], broken, True
    smooth = motion.lessen_grain(grey)
    even = motion.even_out(smooth, side)
    shifts = [motion.camera_shift(one, other) for one, other in zip(even, even[1:], strict=False)]
    found = [
        (-value, start, place)
        for start in range(0, len(rows) - frames + 1, frames)
        for value, place in motion.most_moved(motion.motion(even, shifts, start), side, per_clip)
    ]
    tracks: list[Track] = []
    for _, start, place in sorted(found):
        stop = start + frames
        places = motion.follow(smooth[start:stop], shifts[start : stop - 1], place)
        if places is not None and len(tracks) < per_clip:
            size = clips.images.open(rows[start]).size
            tracks.append((rows[start:stop], [_box(one, factor, size) for one in places]))
    return tracks, broken, False


def _read_clip(clips: Clips, number: int) -> tuple[list[int], NDArray[np.float32], list[int], float]:
    """The readable frames of a clip: numbers, grey (n, h, w), at WORKING_SIDE; those that are not; the scale of it."""
    rows: list[int] = []
    grey: list[NDArray[np.float32]] = []
    broken: list[int] = []
    factor = 1.0
    for row in clips.frames(number):
        try:
            image = clips.images.open(row)
        except UnreadableImageError:
            broken.append(row)
            continue
        factor = min(1.0, WORKING_SIDE / max(image.size))
        if factor < 1:
            image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BOX)
        rows.append(row)
        grey.append(np.asarray(image, dtype=np.float32).mean(axis=2))
    return rows, np.array(grey, dtype=np.float32), broken, factor


def _box(place: motion.Place, factor: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A place in a frame that was made smaller, in one of ``size`` (width, height)."""
    side = min(round(place[2] / factor), *size)
    top, left = (round(edge / factor) for edge in place[:2])
    return min(max(top, 0), size[1] - side), min(max(left, 0), size[0] - side), side, side
