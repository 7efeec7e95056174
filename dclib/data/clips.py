"""Moving pictures: a folder with a folder of frames for each clip, and video files where a decoder is installed.

Frames become one set of images, those of a clip one after the other, so that all that reads images reads clips.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dclib.data.decoding import IMAGE_SUFFIXES, open_encoded
from dclib.data.folders import FolderReader, changed_at, files_below, sort_out
from dclib.data.images import ImageSet, Reader, UnreadableImageError, name_some, printable
from dclib.machine import count_cores

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv", ".3gp", ".mts"),
    *(".m2ts",),
)
DECODER = "av"  # the package, an extra of dclib's
INSTALL = f"install the package {DECODER} (pip install {DECODER}) to read them"
MOST_FRAMES = 64  # of a clip
FRAMES_AT_ONCE = 256  # whose heads a thread reads at a time

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Clips:
    """Moving pictures by number.

    Attributes:
        images: The frames of all clips. An id is a path, ``clip/frame.jpg``, or of a video ``clip.mp4#000012``.
        clip: (n,) number of each frame's clip; those of a clip follow each other, in the order they were taken in.
        names: What each clip is called: the path of its folder, or of the video.
    """

    images: ImageSet
    clip: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was passed over, a sentence each."""
        return self.images.notes

    def frames(self, number: int) -> range:
        """The numbers of a clip's frames among ``images``."""
        start, stop = np.searchsorted(self.clip, [number, number + 1]).tolist()
        return range(start, stop)

    def subset(self, numbers: Sequence[int]) -> Clips:
        """The clips with these numbers, in this order."""
        rows = [self.frames(number) for number in numbers]
        clip = np.repeat(np.arange(len(rows)), [len(some) for some in rows])
        names = tuple(self.names[number] for number in numbers)
        return Clips(self.images.subset([row for some in rows for row in some]), clip, names)


@dataclass(frozen=True)
class Video:
    """A video file: how many frames it has, their size, and which are taken."""

    path: str
    count: int
    size: Size  # width, height
    taken: tuple[int, ...]


@dataclass
class ClipReader:
    """Reads frames from files below a folder, and from videos there; of a video, a thread keeps those it has decoded.

    A frame of a video comes as PPM: as it was decoded, without a further loss.
    """

    files: FolderReader
    videos: dict[str, Video] = field(default_factory=dict)  # by name
    _kept: threading.local = field(default_factory=threading.local, compare=False, repr=False)

    @property
    def root(self) -> Path:
        """The folder of the clips."""
        return self.files.root

    def read(self, image_id: str) -> bytes:
        name, _, number = image_id.rpartition("#")
        if name not in self.videos:
            return self.files.read(image_id)
        if getattr(self._kept, "name", None) != name:
            self._kept.name, self._kept.frames = None, {}  # before the next: a thread holds one video's
            self._kept.frames = decode_video(self.root / self.videos[name].path, self.videos[name].taken)
            self._kept.name = name
        pixels = self._kept.frames[int(number)]
        return b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + bytes(pixels.tobytes())

    def sizes(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        return np.array([self._size(image_id) for image_id in image_ids], dtype=np.int64)

    def _size(self, image_id: str) -> int:
        video = self.videos.get(image_id.rpartition("#")[0])
        if video is None:
            return int(self.files.sizes([image_id])[0])
        return len(b"P6 %d %d 255\n" % video.size) + 3 * video.size[0] * video.size[1]

    def written(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        names = dict.fromkeys(image_id.rpartition("#")[0] for image_id in image_ids)
        videos = [changed_at(self.root / self.videos[name].path) for name in names if name in self.videos]
        files = [image_id for image_id in image_ids if image_id.rpartition("#")[0] not in self.videos]
        return np.concatenate([self.files.written(files), np.array(videos, dtype=np.int64)])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_kept": threading.local()})


def open_clips(root: str | Path, *, most_frames: int = MOST_FRAMES, reader: Reader | None = None) -> Clips:
    """Every clip below ``root``: each folder that holds frames itself, however deep, and each video file.

    Frames go by the natural order of their names (``frame2`` before ``frame10``). The head of every frame is read: one
    that is no image, or of another size than most of its clip, is passed over, and so is a clip with fewer than two
    frames left. Broken pixels show when a frame is decoded. A video's frames are counted, and not turned by its
    orientation tag. All that is passed over is in ``notes``.

    Args:
        root: A folder.
        most_frames: Of a longer clip every second frame is taken, or every third, until they are at most so many.
        reader: Gives the frames in place of the files, none of which is looked at then.

    Raises:
        ValueError: there is no clip; the message says what there is instead.
    """
    root = Path(root)
    if most_frames < 2:
        raise ValueError(f"need most_frames >= 2, for a clip is at least two frames; got {most_frames}")
    if not root.is_dir():
        raise ValueError(f"need a folder of clips; {root} is {'a file' if root.exists() else 'not there'}")
    closed: list[str] = []
    files = list(files_below(root, closed))
    found = sort_out((path for path in files if not is_video(path)), whole=True, closed=closed)
    notes, told = list(found.notes), Told()
    odd = {image_id: path for image_id, path in found.paths.items() if image_id != path}
    clip_reader = ClipReader(FolderReader(root, paths=odd))
    clips: dict[str, list[str]] = {}
    for image_id in found.paths:
        (clips.setdefault(_folder(image_id), []) if "/" in image_id else told.still).append(image_id)
    clips = {name: _spread(sorted(ids, key=natural), most_frames, told) for name, ids in clips.items()}
    if reader is None:
        clips = _readable(ImageSet(root.name, [i for ids in clips.values() for i in ids], clip_reader), clips, told)
    clips = {name: ids for name, ids in clips.items() if len(ids) >= 2 or told.add_short(name)}
    for video in _open_videos(root, [path for path in files if is_video(path)], most_frames, told):
        name = printable(video.path)
        clip_reader.videos[name] = video
        clips[name] = [f"{name}#{number:06d}" for number in video.taken]
    notes += told.notes(most_frames)
    if not clips:
        passed = f" ({'; '.join(notes)})" if notes else ""
        raise ValueError(
            f"no clips in {root}: need a folder for each clip with its frames, two or more, as images ending in "
            f"{', '.join(IMAGE_SUFFIXES[:2])}, .png or the like{passed}"
        )
    names = sorted(clips, key=natural)
    numbers = np.repeat(np.arange(len(names)), [len(clips[name]) for name in names])
    ids = [image_id for name in names for image_id in clips[name]]
    return Clips(ImageSet(root.resolve().name, ids, reader or clip_reader, notes=tuple(notes)), numbers, tuple(names))


@dataclass
class Told:
    """What is passed over on the way, by name."""

    still: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    other_size: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    thinned: list[str] = field(default_factory=list)
    undecoded: list[str] = field(default_factory=list)
    bad_videos: list[str] = field(default_factory=list)

    def add_short(self, name: str) -> bool:
        """Note a clip that is too short; False, for it is not kept."""
        self.short.append(name)
        return False

    def notes(self, most_frames: int) -> list[str]:
        """A sentence for each kind."""
        kinds = {
            "pictures beside the folders of clips, so of no clip": self.still,
            "frames that cannot be read": self.broken,
            "frames of another size than most of their clip": self.other_size,
            "clips of fewer than two frames": self.short,
            "videos that cannot be decoded, or have fewer than two frames": self.bad_videos,
            f"videos, which need a decoder ({INSTALL})": self.undecoded,
        }
        said = [f"passed over {what} ({len(names):,}): {name_some(names)}" for what, names in kinds.items() if names]
        if self.thinned:
            said.append(
                f"took at most {most_frames} frames, evenly spread, of longer clips ({len(self.thinned):,}): "
                f"{name_some(self.thinned)}"
            )
        return said


def is_video(path: str) -> bool:
    """Whether a path ends as a video does."""
    return path.lower().endswith(VIDEO_SUFFIXES)


def natural(name: str) -> tuple[Any, ...]:
    """A key that sorts numbers in names by value: ``a2`` before ``a10``."""
    parts = re.split(r"([0-9]+)", name)
    return (*(int(part) if i % 2 else part for i, part in enumerate(parts)), name)


def _folder(image_id: str) -> str:
    return str(PurePosixPath(image_id).parent)


def _spread(frames: list[str], most: int, told: Told) -> list[str]:
    """Every k-th frame, with the smallest k that leaves at most ``most``."""
    if len(frames) > most:
        told.thinned.append(_folder(frames[0]))
    return frames[:: -(-len(frames) // most)]


def _readable(images: ImageSet, clips: dict[str, list[str]], told: Told) -> dict[str, list[str]]:
    """Clips without the frames whose head is none of an image, or that differ from the others of their clip in size."""
    with ThreadPoolExecutor(count_cores()) as pool:
        starts = range(0, len(images), FRAMES_AT_ONCE)
        sizes = [size for some in pool.map(partial(_frame_sizes, images), starts) for size in some]
    by_id = dict(zip(images.ids, sizes, strict=True))
    told.broken += [image_id for image_id, size in by_id.items() if size is None]
    kept = {}
    for name, ids in clips.items():
        found = Counter(size for image_id in ids if (size := by_id[image_id]) is not None)
        usual = found.most_common(1)[0][0] if found else None
        kept[name] = [image_id for image_id in ids if usual is not None and by_id[image_id] == usual]
        told.other_size += [image_id for image_id in ids if by_id[image_id] not in (usual, None)]
    return kept


def _frame_sizes(images: ImageSet, start: int) -> list[Size | None]:
    return [_frame_size(images, row) for row in range(start, min(start + FRAMES_AT_ONCE, len(images)))]


def _frame_size(images: ImageSet, row: int) -> Size | None:
    """Width and height by a frame's head; None where it is no image."""
    try:
        return images.read(row, lambda content: open_encoded(content).size)
    except UnreadableImageError:
        return None


# video files


def _open_videos(root: Path, paths: Iterable[str], most_frames: int, told: Told) -> Iterator[Video]:
    """Look at each video; it is decoded once, for its frames to be counted."""
    paths = sorted(paths, key=natural)
    if find_spec(DECODER) is None:
        told.undecoded += map(printable, paths)
        return
    with ThreadPoolExecutor(count_cores()) as pool:
        for path, looked in zip(paths, pool.map(partial(_look_at_video, root), paths), strict=True):
            if looked is None or looked[0] < 2:
                told.bad_videos.append(printable(path))
                continue
            count, size = looked
            if count > most_frames:
                told.thinned.append(printable(path))
            yield Video(path, count, size, tuple(range(0, count, -(-count // most_frames))))


def _look_at_video(root: Path, path: str) -> tuple[int, Size] | None:
    """How many frames a video has, and their width and height; None where it cannot be decoded."""
    try:
        with _opened(root / path) as frames:
            count, size = 0, (0, 0)
            for frame in frames():
                count, size = count + 1, size if count else (frame.width, frame.height)
    except (OSError, ValueError):
        return None
    return count, size


def decode_video(path: Path, wanted: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """The frames with these numbers, counted from 0 in the order they are shown: (height, width, 3) RGB.

    Raises:
        OSError: it cannot be opened.
        ValueError: it cannot be decoded, or has fewer frames.
    """
    found: dict[int, NDArray[np.uint8]] = {}
    left = set(wanted)
    with _opened(path) as frames:
        for number, frame in enumerate(frames()):
            if number in left:
                found[number] = frame.to_ndarray(format="rgb24")
                left.remove(number)
            if not left:
                return found
    raise ValueError(f"need frame {min(left)} of {path.name}, and decoding ended before it")


@contextmanager
def _opened(path: Path) -> Iterator[Callable[[], Iterator[Any]]]:
    """What decodes the first picture stream of a file, in one thread, for clips are read side by side."""
    import av

    try:
        with av.open(os.fspath(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path.name} has no pictures")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            yield lambda: container.decode(stream)
    except av.FFmpegError as error:
        raise ValueError(f"{path.name} cannot be decoded: {error}") from error
