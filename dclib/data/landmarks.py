"""Oxford and Paris buildings: landmarks to be found again, and what counts as found.

Two forms of the same ground truth are read: the original text files, ``<landmark>_<k>_query.txt`` with
``_good.txt``, ``_ok.txt`` and ``_junk.txt``, and the ``gnd_*.pkl`` that later code made of them.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dclib.data.evaluation_sets import QUERY
from dclib.data.folders import files_below, open_folder
from dclib.data.images import ImageSet
from dclib.reading import read_text, split_fields

QUERY_PREFIX = "oxc1_"  # stands before the image's name in Oxford's query files, and nowhere else

# Files of the Paris download that hold no image. By custom they are left out, which leaves 6,392 of 6,412.
CORRUPTED_PARIS = frozenset(
    {
        "paris_louvre_000136",
        "paris_louvre_000146",
        "paris_moulinrouge_000422",
        "paris_museedorsay_001059",
        "paris_notredame_000188",
        "paris_pantheon_000284",
        "paris_pantheon_000960",
        "paris_pantheon_000974",
        "paris_pompidou_000195",
        "paris_pompidou_000196",
        "paris_pompidou_000201",
        "paris_pompidou_000467",
        "paris_pompidou_000640",
        "paris_sacrecoeur_000299",
        "paris_sacrecoeur_000330",
        "paris_sacrecoeur_000353",
        "paris_triomphe_000662",
        "paris_triomphe_000833",
        "paris_triomphe_000863",
        "paris_triomphe_000867",
    }
)


@dataclass(frozen=True)
class LandmarkQuery:
    """One question: where else is what this box shows?"""

    name: str  # as the text files are called, "all_souls_1"; from a pickle, the image's name
    image: str  # name of the image that the box is cut from; it is itself among the answers
    box: tuple[float, float, float, float]  # left, top, right, bottom, pixels of the original image
    good: frozenset[str]  # names of images that show the landmark clearly
    ok: frozenset[str]  # that show at least a quarter of it; a pickle puts the good ones here too
    junk: frozenset[str]  # that show less; ranked as if they were not there

    @property
    def positives(self) -> frozenset[str]:
        """Names of the images that count as found, good and ok."""
        return self.good | self.ok


@dataclass(frozen=True)
class Landmarks:
    """The images of a retrieval set, by name, and its queries."""

    images: tuple[str, ...]
    queries: tuple[LandmarkQuery, ...]

    @cached_property
    def _position(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.images)}

    def positions(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Numbers of the named images, sorted. Raises ValueError for one that is not in the set."""
        try:
            return np.array(sorted(self._position[name] for name in names), dtype=np.int64)
        except KeyError as error:
            raise ValueError(f"no image {error} among the {len(self.images)} of the set") from None


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, text and numbers. Anything that would run code asks for a global, and is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only lists, dicts, text and numbers are read")


def open_landmarks(
    root: str | Path, *, ground_truth: str | Path | None = None, ignore: Collection[str] = ()
) -> tuple[ImageSet, Landmarks]:
    """Images and ground truth of a retrieval set.

    Args:
        root: Folder with the images in ``jpg`` (or anywhere below, as in Paris's own tree) and the ground truth, with
            them or in a folder of its own.
        ground_truth: Folder of text files or ``gnd_*.pkl``; by default the one found in ``root`` or below.
        ignore: Names of images to leave out, such as CORRUPTED_PARIS.

    Returns:
        The images, and the ground truth whose ``images`` are theirs, in the same order.

    Raises:
        ValueError: there is no ground truth or more than one, two images share a name, or an image that the
            ground truth names is not there.
    """
    root = Path(root)
    truth_path = _find_ground_truth(root) if ground_truth is None else Path(ground_truth)
    found = open_folder(root / "jpg" if (root / "jpg").is_dir() else root, whole=True)
    stems = [PurePosixPath(i).stem for i in found.ids]
    kept = [i for i, stem in enumerate(stems) if stem not in ignore]
    names = tuple(stems[i] for i in kept)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"need one image of each name in {root}; {twice!r} comes more than once")
    truth = read_ground_truth(truth_path, images=None if truth_path.is_file() else names, ignore=ignore)
    missing = sorted(_named(truth.queries).union(truth.images) - set(names))
    if missing:
        raise ValueError(
            f"{truth_path} names {len(missing)} images that are not in {root}, first {missing[0]!r}; "
            "fetch them, or list them in ignore"
        )
    images = ImageSet(root.resolve().name, [found.ids[i] for i in kept], found.reader)
    return images, Landmarks(names, truth.queries)


def read_ground_truth(
    path: str | Path, *, images: Iterable[str] | None = None, ignore: Collection[str] = ()
) -> Landmarks:
    """Queries and answers from a folder of text files or from a ``gnd_*.pkl``.

    Args:
        path: The folder or the file. A pickle is read without running anything that is in it.
        images: Names of the images of the set; by default those that the ground truth names.
        ignore: Names to strike out.

    Raises:
        ValueError: it is neither, a file of a query is missing, or a line or entry is malformed.
    """
    path = Path(path)
    if path.is_dir():
        queries = _read_text(path)
        listed: Iterable[str] = sorted(_named(queries))
    elif path.is_file():
        listed, queries = _read_pickle(path)
    else:
        raise ValueError(f"no ground truth at {path}: need a folder of *_query.txt files or a gnd_*.pkl")
    names = tuple(name for name in (listed if images is None else images) if name not in ignore)
    return Landmarks(names, tuple(_without(query, frozenset(ignore)) for query in queries))


def _find_ground_truth(root: Path) -> Path:
    """The one place in ``root`` or below with ground truth; folders of text files go before a pickle."""
    files = sorted(files_below(root))
    folders = {path.rpartition("/")[0] or "." for path in files if path.endswith(QUERY)}
    pickles = [path for path in files if fnmatchcase(path.rpartition("/")[2], "gnd_*.pkl")]
    found = sorted(folders) or pickles
    if len(found) != 1:
        there = f"it has {', '.join(found)}" if found else "it has none"
        raise ValueError(
            f"need one folder of *{QUERY} files, or one gnd_*.pkl, in {root}; {there}: "
            f"{'keep one there' if found else 'put it there'}, or give the one to use as ground_truth"
        )
    return root / found[0]


def _read_text(folder: Path) -> tuple[LandmarkQuery, ...]:
    files = sorted(folder.glob(f"[!.]*{QUERY}"))
    if not files:
        raise ValueError(f"no queries in {folder}: need files named <landmark>_<k>_query.txt")
    return tuple(_read_query(path) for path in files)


def _read_query(path: Path) -> LandmarkQuery:
    """One query from its four files."""
    fields = split_fields(read_text(path))
    name = path.name.removesuffix(QUERY)
    if len(fields) != 5:
        raise ValueError(f"{path} must have a name and four coordinates; got {' '.join(fields)!r}")
    answers = {}
    for kind in ("good", "ok", "junk"):
        file = path.with_name(f"{name}_{kind}.txt")
        if not file.is_file():
            raise ValueError(f"query {name} lacks {file}")
        answers[kind] = frozenset(split_fields(read_text(file)))
    return LandmarkQuery(name, fields[0].removeprefix(QUERY_PREFIX), _check_box(fields[1:], path), **answers)


def _read_pickle(path: Path) -> tuple[list[str], tuple[LandmarkQuery, ...]]:
    """Image names and queries from a dict of imlist, qimlist and, for each query, bbx, ok and junk."""
    content = load_plain_pickle(path)
    try:
        names, query_names, truths = content["imlist"], content["qimlist"], content["gnd"]
        if len(query_names) != len(truths):
            raise TypeError(f"{len(query_names)} queries have {len(truths)} answers")
        queries = [
            LandmarkQuery(
                name=image,
                image=image,
                box=_check_box(truth["bbx"], path),
                good=frozenset(),
                ok=frozenset(_lookup(names, truth["ok"])),
                junk=frozenset(_lookup(names, truth["junk"])),
            )
            for image, truth in zip(query_names, truths, strict=True)
        ]
        wrong = next((name for name in [*names, *query_names] if not isinstance(name, str)), None)
        if wrong is not None:
            raise TypeError(f"an image is called {wrong!r}, which is no text")
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{path} must hold imlist, qimlist and gnd with bbx, ok and junk for each query: "
            f"{type(error).__name__} {error}"
        ) from None
    return list(names), tuple(queries)


def load_plain_pickle(path: str | Path) -> Any:
    """The lists, dicts, text and numbers in a pickle, without running code.

    Raises:
        ValueError: it is no pickle, or holds anything else.
    """
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file).load()
    except Exception as error:  # broken bytes raise nearly anything, also want of the memory that they ask for
        raise ValueError(f"{path} cannot be read as a plain pickle: {error or type(error).__name__}") from None


def _lookup(names: list[str], indices: Iterable[int]) -> Iterable[str]:
    for i in indices:
        if not 0 <= i < len(names):
            raise IndexError(f"image number {i} of {len(names)}")
        yield names[i]


def _check_box(numbers: Iterable[Any], path: Path) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = map(float, numbers)
    except (TypeError, ValueError):
        raise ValueError(f"{path}: need a box of four numbers; got {numbers!r}") from None
    if not (-math.inf < left < right < math.inf and -math.inf < top < bottom < math.inf):
        raise ValueError(f"{path}: need a box with left < right and top < bottom; got {(left, top, right, bottom)}")
    return left, top, right, bottom


def _named(queries: Iterable[LandmarkQuery]) -> set[str]:
    """Every image that a query asks from, or counts as found, or as junk."""
    return {name for q in queries for name in (q.image, *q.positives, *q.junk)}


def _without(query: LandmarkQuery, ignore: frozenset[str]) -> LandmarkQuery:
    if query.image in ignore:
        raise ValueError(f"query {query.name} is cut from {query.image!r}, which is to be ignored")
    good, ok, junk = (names - ignore for names in (query.good, query.ok, query.junk))
    return LandmarkQuery(query.name, query.image, query.box, good, ok, junk)
