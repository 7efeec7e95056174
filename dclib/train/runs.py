"""From a preset to finished runs: open the data, train or go on, write the records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from dclib.config import DataConfig, MethodConfig, Preset, config_hash
from dclib.data.clips import Clips
from dclib.data.folders import FolderReader
from dclib.data.images import ImageSet
from dclib.data.pixels import Pixels, load_pixels
from dclib.data.samplers import images_shown
from dclib.distributed import from_main, is_main, main_first
from dclib.machine import cpu_name
from dclib.methods import OUTLINES
from dclib.models.released import file_digest, load_released
from dclib.models.vgg import Trunk
from dclib.pocket.outline import FolderDrawer, PoolDrawer
from dclib.precision import chosen_precision
from dclib.presets import data_root, edition, runs_folder
from dclib.randomness import generator
from dclib.records import Record, RunCard, code_hash, replacing, write_atomically, write_records
from dclib.train.chance import TASKS
from dclib.train.clustering import cluster_images, remove_stored
from dclib.train.health import clustering_values
from dclib.train.pretrain import pretrain
from dclib.train.runnable import (
    draw_pocket_world,
    find_clips,
    images_of,
    learns_from_objects,
    method_fault,
    open_labelled,
    open_pool,
)
from dclib.train.start import ROOMS, Validator, check_start, own_rooms, same_network
from dclib.train.state import State
from dclib.train.tasks import Task
from dclib.train.tasks.classes import Classes

PRETRAIN_ROOMS = (*ROOMS, "train/health", "train/runs")  # whose code decides the records of a pre-training
KEPT_ASSIGNMENTS = 100_000  # images of a pool whose final clusters are kept: 2 bytes each
PICTURED_CLUSTERS = 8  # clusters shown as mosaics on a page
PICTURED_IMAGES = 9  # images of each, as in the paper's cluster figure
UNITS = {
    **{"loss": "nats", "chance_loss": "nats", "images_per_second": "images/s", "data_wait": "s"},
    **{f"{task}_{what}": "%" for task in TASKS for what in ("accuracy", "chance")},
    "validation_map": "%",
    **dict.fromkeys(("empty_clusters",), "clusters"),
    **dict.fromkeys(("smallest_cluster", "median_cluster", "largest_cluster"), "images"),
}


def pretrain_code(config: MethodConfig) -> str:
    """Hash of the code that decides the records of a method's pre-training."""
    return code_hash(*PRETRAIN_ROOMS, *own_rooms(config))


@dataclass(frozen=True)
class Data:
    """The image sets of a preset; a labelled set that the preset does not have, or that is of no use, is None."""

    root: Path
    pool: ImageSet
    objects_train: ImageSet | None
    objects_test: ImageSet | None
    scenes_train: ImageSet | None
    scenes_test: ImageSet | None
    faults: Mapping[str, str] = field(default_factory=dict)  # half -> why it is of no use
    open_clips: Callable[[], Clips | None] = lambda: None

    @cached_property
    def clips(self) -> Clips | None:
        """The moving pictures, opened when they are first asked for. Raises ValueError where they are of no use."""
        return self.open_clips()


def prepare_data(preset: Preset) -> Data:
    """Open the preset's image sets; with no ``data.root``, draw the pocket world first.

    Raises:
        ValueError: a set that the preset needs is not there or holds no images.
    """
    data, outline = preset.data, edition() is not None and not preset.data.root
    with main_first():  # a world is drawn and an index of archives made once
        root = data_root(data) if data.root else draw_pocket_world(preset, outline=outline)
        labelled = open_labelled(preset, root)
        pool = open_pool(preset, root, labelled)
    if outline:  # published results are shown: nothing is measured, and few pictures are looked at
        pool = replace(pool, reader=PoolDrawer(root / data.pool, data.pocket_images, data.pocket_seed))
        labelled = replace(labelled, sets={name: _drawn(images, preset) for name, images in labelled.sets.items()})
    return Data(root, pool, **labelled.sets, faults=labelled.faults, open_clips=partial(find_clips, preset, root))


def _drawn(images: ImageSet | None, preset: Preset) -> ImageSet | None:
    """A labelled set of a world in outline, whose pictures are drawn when they are looked at."""
    if images is None:
        return None
    assert isinstance(images.reader, FolderReader)
    return replace(images, reader=FolderDrawer(images.reader.root, preset.data.pocket_seed))


def preset_folder(preset: Preset) -> Path:
    """Where the runs, records and pages of a preset are kept."""
    return runs_folder() / preset.name


def method_pixels(preset: Preset, method: str, data: Data) -> Pixels:
    """What a method trains on: the pool, or the labelled objects where it says so.

    Raises:
        ValueError: the method needs the labelled images, and the preset has none.
    """
    if fault := method_fault(preset, method, data.objects_train):
        raise ValueError(f"method {method!r} cannot be trained: {fault}; or leave the method out")
    config = preset.method(method)
    with main_first():
        if OUTLINES[config.method].learns_from == "clips":
            return patch_pixels(config, data, pixel_cache())
        return task_pixels(config, images_of(config, data.pool, data.objects_train), preset.data, pixel_cache())


def patch_pixels(config: MethodConfig, data: Data, cache: Path | None = None) -> Pixels:
    """The patches that are followed through the clips, as the method's task takes them."""
    from dclib.data.track_pixels import track_pixels  # with it comes SciPy, a quarter as long as torch

    assert data.clips is not None  # else there is a fault
    side = OUTLINES[config.method].square or (lambda _: config.model.image_size)
    return track_pixels(
        data.clips,
        cache,
        patch=config.task.patch,
        side=side(config),
        frames=config.task.frames,
        size=config.model.image_size,
    )


def task_pixels(config: MethodConfig, images: ImageSet, data: DataConfig, cache: Path | None = None) -> Pixels:
    """Images as the method's task takes them: at ``data.resize``, or as squares of its own size."""
    square, scan = OUTLINES[config.method].square, learns_from_objects(config)
    if square is None:
        return load_pixels(images, data, config.model.image_size, cache, scan=scan)
    return load_pixels(images, replace(data, resize=square(config)), square(config), cache, scan=scan)


def kept_pixels(preset: Preset, method: str, images: ImageSet, *, scan: bool = False) -> Pixels:
    """Pixels of a set at a method's input size, decoded once for all runs; ``scan`` where its labels are used."""
    size = preset.method(method).model.image_size
    with main_first():
        return load_pixels(images, preset.data, size, pixel_cache(), scan=scan)


def pixel_cache() -> Path:
    """Where decoded images are kept, and what is known of files that were read whole."""
    return runs_folder() / "pixels"


def pretrain_method(
    preset: Preset, method: str, seed: int, *, device: str = "", validator: Validator | None = None
) -> Trunk:
    """Train one method of a preset with one seed, or go on, or return at once if it is finished; write its records.

    A method with ``init`` trains that one first. ``random`` is the network as it was drawn, ``released`` the one of
    a published file. ``validator`` is needed where ``train.patience`` is set.
    """
    config = preset.method(method)
    if config.method == "released":
        return load_released(config.weights, allow_partial=config.allow_partial).trunk.to(
            torch.device(device or default_device())
        )
    data = prepare_data(preset)
    pixels = method_pixels(preset, method, data)
    check_method(preset, method, pixels)
    initial = pretrain_method(preset, config.init, seed, device=device, validator=validator) if config.init else None
    place = torch.device(device or default_device())
    folder = preset_folder(preset) / "runs" / f"{method}-s{seed}-{run_hash(preset, method, pixels, seed)}"
    records_path = preset_folder(preset) / "records" / "pretrain" / f"{method}-s{seed}.json"
    if is_main() and (said := why_anew(folder, records_path, preset, method, pixels)):
        print(f"{method}, seed {seed}: {said}", flush=True)
    if config.method == "random":
        state = State.begin(config, pixels, seed, place, initial)
        state.trunk.eval()
    else:
        state = pretrain(pixels, config, folder=folder, seed=seed, device=place, initial=initial, validator=validator)
    pool = kept_pixels(preset, method, data.pool)
    precision, common = chosen_precision(config.train.precision, place), preset.common_clustering
    card = run_card(
        "pretrain",
        preset,
        method,
        seed,
        [pixels],
        place,
        seconds=state.clock.seconds,
        notes={**state.notes, "precision": precision},
        precision=precision,
        settings=config_hash(pixels.identity, pool.identity, common and common.cluster),
        rooms=PRETRAIN_ROOMS,
    )
    if not from_main(is_current(records_path, card)):  # as one process sees it, before it writes
        records = history_records(state, config, len(pixels)) + final_records(preset, state, pool, seed, folder)
        if config.clusters and is_main():
            write_pictures(preset, method, seed, state.task, pixels)
        if is_main():
            write_records(records_path, card, records)
    return state.trunk


def why_anew(folder: Path, records: Path, preset: Preset, method: str, pixels: Pixels) -> str:
    """What is said where a run begins although there was one of its name: what is not as it was, and how long it took.

    Empty where it goes on, is finished, or is the first.
    """
    before = sorted(folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*/checkpoint.pt"))
    if not before or (folder / "checkpoint.pt").is_file() or preset.method(method).method == "random":
        return ""
    card = json.loads(records.read_text(encoding="utf-8"))["card"] if records.is_file() else {}
    changed = []
    if card and card["data_hash"] != pixels.data_hash:
        then = card["notes"].get("images", "?")
        counts = f" ({then} then, {len(pixels)} now)" if then != len(pixels) else ", though as many"
        changed.append(f"the images are not those of the last run{counts}")
    if card and card["code_hash"] != pretrain_code(preset.method(method)):
        changed.append("the code is another")
    if card and json.loads(json.dumps(card["config"])) != json.loads(json.dumps(asdict(preset.method(method)))):
        changed.append("the settings are others")
    why = " and ".join(changed) or "images, settings or code are not those of an earlier run"
    seconds = float(card.get("seconds", 0.0))
    took = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
    took = f"; it took {took} then" if seconds else ""
    return f"trains anew from the start, for {why}{took}. What was trained before is kept in {before[-1].parent}"


def check_method(preset: Preset, method: str, pixels: Pixels) -> None:
    """ValueError for what would fail later on, before the network to start from is trained for it."""
    config = preset.method(method)
    if config.method != "random":
        check_start(pixels, config)
    if config.init and not same_network(preset.method(config.init).model, config.model):
        raise ValueError(f"methods.{method} starts from {config.init}, so both need the same model settings")


def run_hash(preset: Preset, method: str, pixels: Pixels, seed: int) -> str:
    """Short name of everything that decides a run's numbers: settings along ``init``, data, seed and code."""
    return config_hash(
        method_chain(preset, method), pixels.identity, seed, code_hash(*ROOMS, *own_rooms(preset.method(method)))
    )


def method_chain(preset: Preset, method: str) -> list[object]:
    """A method's settings and those of every method its weights come from."""
    config: MethodConfig = preset.method(method)
    if config.method == "released":
        return [config_hash(config, file_digest(config.weights))]
    own = config_hash(config, OUTLINES[config.method].decides(config))
    return [own, *(method_chain(preset, config.init) if config.init else [])]


def run_card(
    stage: str,
    preset: Preset,
    method: str,
    seed: int,
    pixels: Sequence[Pixels],
    device: torch.device,
    *,
    seconds: float = 0.0,
    notes: Mapping[str, object] | None = None,
    settings: str = "",
    rooms: tuple[str, ...] = ROOMS,
    precision: str = "float32",
) -> RunCard:
    """The provenance of records measured on ``pixels``, with products in ``precision``.

    ``settings`` is the hash of what decides them besides.
    """
    hashes = [p.data_hash for p in pixels]
    return RunCard(
        stage=stage,
        preset=preset.name,
        method=method,
        seed=seed,
        config_hash=config_hash(method_chain(preset, method), settings),
        data_hash=hashes[0] if len(hashes) == 1 else config_hash(hashes),
        code_hash=code_hash(*rooms, *own_rooms(preset.method(method))),
        device=device_name(device, precision),
        seconds=round(seconds, 1),
        config=asdict(preset.method(method)),
        notes={
            **(notes or {}),
            "images": sum(map(len, pixels)),
            "unreadable": sum(len(p.unreadable) for p in pixels),
            **({"unreadable_images": said} if (said := "; ".join(p.note for p in pixels if p.note)) else {}),
        },
    )


def is_current(path: Path, card: RunCard) -> bool:
    """Whether ``path`` already holds records of the same settings, data and code."""
    if not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))["card"]
    return all(found[key] == getattr(card, key) for key in ("config_hash", "data_hash", "code_hash"))


def history_records(state: State, config: MethodConfig, n_images: int) -> list[Record]:
    """A record for each number of each epoch (over the images it showed) and clustering (over the whole set)."""
    records = []
    shown = images_shown(config.shown(n_images), config.train.batch_size)
    for row in state.history:
        keys: dict[str, str | int] = {key: int(row[key]) for key in ("epoch", "assignment") if key in row}
        n = n_images if "assignment" in keys else shown
        records += [
            Record(name=name, value=value, unit=UNITS.get(name, "1"), n=n, keys=keys)
            for name, value in row.items()
            if name not in keys
        ]
    return [*records, Record(name="pretrain_seconds", value=state.clock.seconds, unit="s", n=1)]


def final_records(preset: Preset, state: State, pool: Pixels, seed: int, folder: Path) -> list[Record]:
    """How well the finished features cluster: the same k-means for every method, against labels where there are any.

    The cluster of each image, (n,) in [0, k), is kept with the run's pictures.
    """
    common = preset.common_clustering
    if pool.images.labels is None or common is None:
        return []
    stored = folder.with_name(f"{folder.name}-final")
    clustering = cluster_images(state.trunk, pool, common.cluster, generator(seed, "final clustering"), stored)
    remove_stored(stored)
    values = clustering_values(clustering, None, torch.from_numpy(pool.images.labels))
    if is_main() and len(pool) <= KEPT_ASSIGNMENTS:
        clusters = clustering.labels.clusters.numpy()
        kind = np.int16 if clusters.max() <= np.iinfo(np.int16).max else np.int32
        with replacing(
            preset_folder(preset) / "pictures" / f"assignments-{folder.name.rpartition('-')[0]}.npy"
        ) as file:
            np.save(file, clusters.astype(kind))
    return [
        Record(name=f"final_{name}", value=values[name], unit="1", n=len(pool)) for name in ("nmi_labels", "ami_labels")
    ]


def write_pictures(preset: Preset, method: str, seed: int, task: Task, pixels: Pixels) -> None:
    """Save which images stand for some clusters of the last clustering, for the pages' mosaics."""
    rng = np.random.default_rng(seed)
    assert isinstance(task, Classes)  # nothing else has clusters
    clusters = task.labels.clusters.numpy()
    sizes = np.bincount(clusters)
    large_enough = np.flatnonzero(sizes >= PICTURED_IMAGES)
    chosen = np.sort(rng.permutation(large_enough)[:PICTURED_CLUSTERS])
    pictured = [
        {
            "cluster": int(c),
            "size": int(sizes[c]),
            "images": [pixels.images.ids[i] for i in rng.permutation(np.flatnonzero(clusters == c))[:PICTURED_IMAGES]],
        }
        for c in chosen
    ]
    path = preset_folder(preset) / "pictures" / f"clusters-{method}-s{seed}.json"
    write_atomically(path, json.dumps({"clusters": pictured}).encode())


def default_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: torch.device, precision: str = "") -> str:
    """What the run card calls a device: its model, the CPU's threads, and in what products were made, if it is said."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}{f' ({precision})' if precision else ''}"
    return cpu_name(torch.get_num_threads(), precision)
