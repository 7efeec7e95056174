"""What a preset's images are enough for, looked at before anything runs. No torch here: the plan of a book asks too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dclib.cluster.counts import check_cluster_counts
from dclib.config import MethodConfig, Preset
from dclib.counted import compared, counted
from dclib.data.clips import Clips, open_clips
from dclib.data.images import ImageSet, NumberedIds, drawn_subset, name_some, printable
from dclib.data.landmarks import CORRUPTED_PARIS, open_landmarks
from dclib.data.layouts import find_split, open_split
from dclib.data.unreadable import unreadable_fault
from dclib.data.voc import check_classes, open_voc
from dclib.data.yfcc_metadata import read_metadata, table_beside, text_bytes
from dclib.methods import OUTLINES
from dclib.pocket.outline import ClipDrawer
from dclib.pocket.world import make_pocket_world
from dclib.presets import data_root, edition, runs_folder
from dclib.records import code_hash, held, make_folder

CITIES = ("oxford", "paris")
HALVES = ("objects", "scenes")
LOOKED_AT = 100  # lines of a large metadata table
SMALL_TABLE = 2**24  # bytes of text that are read to their end: 40,000 lines, which take seconds
PAGES: Mapping[str, tuple[str, ...]] = {
    "objects": ("linear_probes", "finetuning"),
    "voc": ("voc",),
    "retrieval": ("retrieval",),
    "metadata": ("hashtags", "metadata"),
}  # what is looked for -> pages that show nothing without it


def draw_pocket_world(preset: Preset, *, outline: bool = False) -> Path:
    """The folder of a preset's pocket world, drawn where it is not yet; its drawing code is part of the name.

    In ``outline`` most pictures are empty: see :func:`dclib.pocket.world.make_pocket_world`.
    """
    data, kind = preset.data, "outline" if outline else "world"
    root = runs_folder() / f"pocket-{kind}-{data.pocket_images}-{data.pocket_seed}-{code_hash('pocket')[:6]}"
    make_folder(root.parent)
    with held(root.parent):  # several pages at once need it, and one of them draws it
        return make_pocket_world(root, pool_images=data.pocket_images, seed=data.pocket_seed, outline=outline)


@dataclass(frozen=True)
class Labelled:
    """The labelled sets below a preset's folder, and why a half of them is of no use."""

    sets: Mapping[str, ImageSet | None]  # objects_train, objects_test, scenes_train, scenes_test
    faults: Mapping[str, str]  # half -> a sentence; its test set is None then


def open_labelled(preset: Preset, root: Path) -> Labelled:
    """Open the labelled sets below ``root``; one that is there and cannot be used is told, and costs its half alone.

    Raises:
        ValueError: a set is named in the preset and not there.
    """
    sets: dict[str, ImageSet | None] = {}
    faults: dict[str, str] = {}
    for half in HALVES:
        names = (f"{half}_train", f"{half}_test")
        for name in names:
            sets[name], fault = _open(preset, root, name)
            faults |= {half: fault} if fault else {}
        train, test = (sets[name] for name in names)
        if fault := faults.get(half) or _half_fault(preset, train, test):
            sets[names[1]], faults[half] = None, fault
    return Labelled(sets, faults)


def _open(preset: Preset, root: Path, name: str) -> tuple[ImageSet | None, str]:
    """A labelled set, or None and why it cannot be opened. Raises ValueError where it is named and not there."""
    choices = getattr(preset.data, name)
    find_split(root, choices, name=name)
    try:
        return open_split(root, choices, name=name, cache=runs_folder()), ""
    except ValueError as error:
        return None, str(error)


def _unreadable(preset: Preset, images: ImageSet) -> str:
    """Why too many images of a set cannot be read; of drawings all can, and in outline they are not there yet."""
    return "" if preset.data.is_drawn else unreadable_fault(images, preset.data.max_unreadable)


def _half_fault(preset: Preset, train: ImageSet | None, test: ImageSet | None) -> str:
    """Why classifiers cannot be trained on one set and tested on the other; empty where they can, or have neither."""
    there = [images for images in (train, test) if images is not None]
    for images in there:
        if fault := labels_fault(images) or _unreadable(preset, images):
            return fault
    if train is None or test is None:
        here, gone = ("train", "test") if test is None else ("test", "train")
        return f"there are images for {here} and none for {gone}: give both" if there else ""
    odd = sorted(set(train.classes) ^ set(test.classes))
    if odd:
        return (
            f"{_called(train)} has {len(train.classes)} classes and {_called(test)} {len(test.classes)}, and in one of "
            f"them only there are {name_some(odd)}: put images of the same classes into both"
        )
    return ""


def labels_fault(images: ImageSet | None) -> str:
    """Why nothing can be learned from the labels of a set; empty where it can."""
    if images is None:
        return "there are no images for data.objects_train: give a folder with one sub-folder per class"
    found = 0 if images.labels is None else len(np.unique(images.labels))
    if found >= 2:
        return ""
    which = "one class alone" if found else "no class folders"
    more = "".join(f" ({note})" for note in images.notes if note.startswith("no labels"))
    return f"{_called(images)} has {which}: give one sub-folder for each of two or more classes{more}"


def _called(images: ImageSet) -> str:
    """The name of a set's folder or archive, which people know it by."""
    place: str | Path = getattr(images.reader, "root", "") or getattr(images.reader, "path", "") or images.name
    return printable(Path(place).name)


def voc_fault(preset: Preset, root: Path, splits: tuple[str, str] = ("trainval", "test")) -> str:
    """Why Pascal VOC below ``root`` cannot be classified, one split to the other; empty where it can."""
    folder = root / preset.data.voc
    if not preset.data.voc or not folder.is_dir():
        return f"there is no {preset.data.voc or 'VOC2007'} below the images"
    try:
        opened = [open_voc(folder, split) for split in splits]
        check_classes(*opened)
    except (ValueError, OSError) as error:
        return str(error)
    return next(filter(None, (_unreadable(preset, voc.images) for voc in opened)), "")


def retrieval_fault(preset: Preset, root: Path) -> str:
    """Why nothing can be retrieved from the landmarks below ``root``; empty where it can."""
    folders = city_folders(preset, root)
    gone = [city for city in CITIES if city not in folders]
    if gone:
        wanted = " and no ".join(getattr(preset.data, city) or city for city in gone)
        both = "; both sets are needed, since whitening is learnt on the other one" if folders else ""
        return f"there is no {wanted} below the images{both}"
    try:
        opened = [open_landmarks(f, ignore=CORRUPTED_PARIS if c == "paris" else ())[0] for c, f in folders.items()]
    except (ValueError, OSError) as error:
        return str(error)
    return next(filter(None, (_unreadable(preset, images) for images in opened)), "")


def city_folders(preset: Preset, root: Path) -> dict[str, Path]:
    """The folders of the landmark sets that are there."""
    named = {city: getattr(preset.data, city) for city in CITIES}
    return {city: root / name for city, name in named.items() if name and (root / name).is_dir()}


def find_clips(preset: Preset, root: Path) -> Clips | None:
    """The moving pictures below ``root``; None where there is no such folder.

    Raises:
        ValueError: there is one, and no clip in it.
    """
    folder = root / preset.data.clips
    if not preset.data.clips or not folder.is_dir():
        return None
    in_outline = preset.data.is_drawn and edition() is not None
    return open_clips(folder, reader=ClipDrawer(folder, preset.data.pocket_seed) if in_outline else None)


def clips_fault(preset: Preset, root: Path) -> str:
    """Why nothing can be learned from the moving pictures below ``root``; empty where it can."""
    try:
        clips = find_clips(preset, root)
    except (ValueError, OSError) as error:
        return str(error)
    return "" if clips else f"there is no folder {preset.data.clips or 'clips'} of moving pictures below the images"


def metadata_fault(preset: Preset, pool: ImageSet) -> str:
    """Why the pool's photographs have no metadata to count; empty where they have. Of a large table the top is read."""
    if named := preset.data.metadata:
        if not (Path(named).exists() or (data_root(preset.data) / named).exists()):
            raise ValueError(f"data.metadata names {named}, which is not there; correct it or leave it out")
        return ""
    table = table_beside(pool)
    if table is None:
        return "the images come without a metadata table"
    try:
        if text_bytes(table) <= SMALL_TABLE:
            read_metadata(table, max_bad=preset.data.max_bad_metadata)
        else:
            read_metadata(table, lines=range(LOOKED_AT), max_bad=max(0.5, preset.data.max_bad_metadata))
    except (ValueError, OSError, EOFError) as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class Outlook:
    """What will run of a preset, and what is left out."""

    methods: tuple[str, ...]
    left_out: Mapping[str, str]  # page -> why, a sentence without a full stop
    notes: tuple[str, ...]  # what was passed over while the sets were opened
    counts: Mapping[str, int]  # images of each set that is there
    n_classes: int = 0  # of the labelled objects

    @property
    def lines(self) -> list[str]:
        """All of it for people, a line each; pages with one reason together."""
        pages: dict[str, list[str]] = {}
        for page, why in self.left_out.items():
            pages.setdefault(why, []).append(page)
        return [*self.notes, *(f"left out: {', '.join(found)}: {why}" for why, found in pages.items())]


def look_ahead(preset: Preset) -> Outlook:
    """What a preset's images are enough for; the pocket world has everything.

    Raises:
        ValueError: there are no images to pre-train on, or too many of them cannot be read; a named set is not there,
            or a method needs more images.
    """
    if not preset.data.root:
        return Outlook(tuple(preset.methods), {}, (), {})
    root = data_root(preset.data)
    labelled = open_labelled(preset, root)
    pool = open_pool(preset, root, labelled)
    if fault := _unreadable(preset, pool):
        raise ValueError(fault)
    faults = {**labelled.faults, "voc": voc_fault(preset, root), "retrieval": retrieval_fault(preset, root)}
    faults["metadata"] = metadata_fault(preset, pool)
    if not faults.get("objects") and labelled.sets["objects_train"] is None:
        faults["objects"] = "there are no class folders for training and for test below the images"
    left_out = {page: faults[kind] for kind, pages in PAGES.items() if faults.get(kind) for page in pages}
    if labelled.sets["scenes_test"] is not None:
        left_out.pop("linear_probes", None)  # the other half has them
    methods = []
    for name in preset.methods:
        if fault := method_fault(preset, name, labelled.sets["objects_train"]):
            left_out[f"pretraining_{name}"] = fault
        else:
            methods.append(name)
            _check_method(preset, name, pool, labelled.sets["objects_train"])
    for name in compared(preset):
        _check_method(counted(preset), name, pool, None)
    found = {"pool": pool, **{name: images for name, images in labelled.sets.items() if images is not None}}
    notes = dict.fromkeys(f"{_called(images)}: {note}" for images in found.values() for note in images.notes)
    counts, objects = {name: len(images) for name, images in found.items()}, found.get("objects_train")
    n_classes = 0 if objects is None or objects.labels is None else len(np.unique(objects.labels))
    return Outlook(tuple(methods), left_out, tuple(notes), counts, n_classes)


def runnable_methods(preset: Preset) -> tuple[str, ...]:
    """The preset's methods without those that its images are not enough for, see :func:`method_fault`.

    All of them where published results are shown: nothing is trained, and no images are needed.

    Raises:
        ValueError: the labelled images are named and not there.
    """
    if not preset.data.root or edition() is not None:
        return tuple(preset.methods)
    objects, _ = _open(preset, data_root(preset.data), "objects_train")
    return tuple(name for name in preset.methods if not method_fault(preset, name, objects))


def method_fault(preset: Preset, method: str, objects: ImageSet | None) -> str:
    """Why a method, or one that it starts from, cannot learn from the labelled objects; empty where it need or can."""
    config = preset.method(method)
    fault = ""
    if config.method == "supervised" or (config.images == "objects" and objects is None):
        fault = labels_fault(objects)
    if not fault and learns_from_objects(config) and objects is not None:
        fault = _unreadable(preset, objects)
    if OUTLINES[config.method].learns_from == "clips" and not preset.data.is_drawn:
        fault = clips_fault(preset, data_root(preset.data))
    return fault or (method_fault(preset, config.init, objects) if config.init else "")


def learns_from_objects(config: MethodConfig) -> bool:
    """Whether a method trains on the labelled objects; only the supervised one looks at their labels."""
    return OUTLINES[config.method].learns_from == "objects" or config.images == "objects"


def images_of(config: MethodConfig, pool: ImageSet, objects: ImageSet | None) -> ImageSet:
    """The images that a method trains on.

    Raises:
        ValueError: there are no labelled ones, or fewer in the pool than it asks for.
    """
    if learns_from_objects(config):
        if objects is None:
            raise ValueError(f"{config.method} learns from labelled images, and there are none; give their folder")
        return objects
    if config.pool_images > len(pool):
        raise ValueError(
            f"pool_images asks for {config.pool_images:,} images; {pool.name} has {len(pool):,}: ask for fewer"
        )
    return drawn_subset(pool, config.pool_images) if config.pool_images else pool


def open_pool(preset: Preset, root: Path, labelled: Labelled) -> ImageSet:
    """The images to pre-train on, without those of the preset's evaluation sets that lie among them.

    Raises:
        ValueError: there are none.
    """
    data = preset.data
    path = find_split(root, data.pool, name="pool")
    pool = open_split(root, data.pool, name="pool", cache=runs_folder())
    if pool is None or path is None:
        raise ValueError("data.pool must name the images to pre-train on; it is empty")
    evaluated = [half for half in HALVES if labelled.sets[f"{half}_test"] is not None]
    named = [find_split(root, getattr(data, f"{half}_test"), name=f"{half}_test") for half in evaluated]
    named += [root / name for name in (data.voc, data.oxford, data.paris) if name and (root / name).is_dir()]
    here = Path(os.path.abspath(path))
    below = [Path(os.path.abspath(other)) for other in named if other is not None and path.is_dir()]
    prefixes = tuple(f"{other.relative_to(here)}/" for other in below if here in other.parents)
    clips = _clip_prefix(here, Path(os.path.abspath(root / data.clips)), pool) if data.clips else ()
    prefixes += clips
    if prefixes and not isinstance(pool.ids, NumberedIds):
        kept = [i for i, image_id in enumerate(pool.ids) if not image_id.startswith(prefixes)]
        if len(kept) < len(pool):
            passed = f"passed over {len(pool) - len(kept):,} images of sets for evaluation"
            told = f"{passed}{', or of clips' if clips else ''}: {', '.join(prefixes)}"
            pool = replace(pool.subset(kept), notes=(*pool.notes, told))
    if 0 < data.pool_images < len(pool):
        pool = drawn_subset(pool, data.pool_images)
    return pool


def _clip_prefix(pool_folder: Path, clips: Path, pool: ImageSet) -> tuple[str, ...]:
    """How the ids of a pool begin that are frames: those below a folder of folders; pictures right in it are none."""
    if pool_folder not in clips.parents or isinstance(pool.ids, NumberedIds):
        return ()
    prefix = f"{clips.relative_to(pool_folder)}/"
    within = [image_id.removeprefix(prefix) for image_id in pool.ids if image_id.startswith(prefix)]
    return (prefix,) if within and all("/" in name for name in within) else ()


def _check_method(preset: Preset, method: str, pool: ImageSet, objects: ImageSet | None) -> None:
    """ValueError for settings of a method that these images do not allow."""
    config = preset.method(method)
    images = images_of(config, pool, objects)
    if config.clusters:
        check_cluster_counts(len(images), config.cluster)
    if config.train.patience and (fault := voc_fault(preset, data_root(preset.data), ("train", "val"))):
        raise ValueError(f"methods.{method} stops by Pascal VOC 2007, and {fault}; or set train.patience to 0")
