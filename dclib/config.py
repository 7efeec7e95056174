"""What a run is made of: typed settings, the supplement's five recipes, and presets read from YAML.

A preset is a file of overrides. Every key is checked against the dataclasses below, with its type, before
anything runs; a key nobody knows is an error that names its neighbours.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

Method = Literal["random", "rotnet", "deepcluster", "deepercluster", "supervised"]
T = TypeVar("T")


def _need(condition: bool, what: str, came: object) -> None:
    if not condition:
        raise ValueError(f"need {what}; got {came}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: VGG-16 with batch normalisation behind a fixed stem."""

    image_size: int = 224  # side of the square input, pixels
    width: float = 1.0  # multiplies the 64..512 channels of VGG-16
    stem: Literal["sobel", "rgb"] = "sobel"  # fixed image gradients, or plain colour
    hidden_dim: int = 4096  # first fully connected layer
    feature_dim: int = 4096  # second one: the features that are clustered
    dropout: float = 0.5  # after the first fully connected layer

    def __post_init__(self) -> None:
        _need(self.image_size >= 30, "image_size >= 30, so that five poolings leave a pixel", self.image_size)
        _need(self.width > 0, "width > 0", self.width)
        _need(min(self.hidden_dim, self.feature_dim) >= 1, "hidden_dim and feature_dim >= 1", self)
        _need(0 <= self.dropout < 1, "dropout in [0, 1)", self.dropout)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """How features become pseudo-labels."""

    n_super: int = 1  # super-clusters, first k-means level
    n_sub: int = 10_000  # sub-clusters inside each super-cluster
    pca_dim: int = 256  # dimensions kept by PCA-whitening
    n_iter: int = 10  # Lloyd updates per level
    reassign_every: int = 1  # epochs between two clusterings
    reassign_until: float = 1.0  # no clustering after this fraction of the epochs
    backend: Literal["auto", "torch", "faiss"] = "auto"  # k-means implementation

    def __post_init__(self) -> None:
        _need(self.n_super >= 1, "n_super >= 1", self.n_super)
        _need(self.n_sub >= 2, "n_sub >= 2", self.n_sub)
        _need(self.pca_dim >= 1, "pca_dim >= 1", self.pca_dim)
        _need(self.n_iter >= 1, "n_iter >= 1", self.n_iter)
        _need(self.reassign_every >= 1, "reassign_every >= 1 epoch", self.reassign_every)
        _need(0 < self.reassign_until <= 1, "reassign_until in (0, 1]", self.reassign_until)

    @property
    def n_clusters(self) -> int:
        """Clusters in all, over both levels."""
        return self.n_super * self.n_sub


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Stochastic gradient descent and the images it sees."""

    epochs: int = 100
    epoch_images: int = 0  # images per epoch; 0 means as many as the set holds
    batch_size: int = 256  # images per step, over all processes
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1.0e-5  # on every weight, biases and batch norm included
    decay_from: float = 1.0  # fraction of the steps after which lr falls linearly; 1 means never
    final_lr: float = 0.02  # fraction of lr that it falls to at the end
    crop_area: float = 0.08  # smallest share of the image's area a random crop may keep
    sub_head_gradient: Literal["group_mean", "global_mean"] = "group_mean"
    # group_mean: each sub-class head averages over its own super-class's images, as the released code does
    # global_mean: over the whole batch, as the paper's formula reads (S times smaller)

    def __post_init__(self) -> None:
        _need(self.epochs >= 1, "epochs >= 1", self.epochs)
        _need(self.epoch_images >= 0, "epoch_images >= 0", self.epoch_images)
        _need(self.batch_size >= 2, "batch_size >= 2, for batch normalisation", self.batch_size)
        _need(0 < self.lr < math.inf, "lr > 0 and finite", self.lr)
        _need(0 <= self.momentum < 1, "momentum in [0, 1)", self.momentum)
        _need(0 <= self.weight_decay < math.inf, "weight_decay >= 0 and finite", self.weight_decay)
        _need(0 < self.crop_area <= 1, "crop_area in (0, 1]", self.crop_area)
        _need(0 <= self.decay_from <= 1, "decay_from in [0, 1]", self.decay_from)
        _need(0 <= self.final_lr <= 1, "final_lr in [0, 1]", self.final_lr)


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One pre-training, whole: what a checkpoint is identified by."""

    method: Method = "deepercluster"
    init: str = ""  # another method of the preset whose trained trunk this one starts from
    model: ModelConfig = field(default_factory=ModelConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.method == "deepcluster":
            _need(
                self.cluster.n_super == 1,
                "n_super = 1 for deepcluster, which has one level",
                self.cluster.n_super,
            )

    @property
    def n_turns(self) -> int:
        """Quarter turns told apart, R: 4, or 1 where rotation is no part of the task."""
        return 4 if self.method in ("rotnet", "deepercluster") else 1

    @property
    def clusters(self) -> bool:
        """Whether pseudo-labels are part of the task."""
        return self.method in ("deepcluster", "deepercluster")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images are. Paths are taken from ``root``; an empty one means there is no such set."""

    root: str = ""  # folder of the data; empty means the pocket world, drawn on first use
    pool: str = "pool"  # images to pre-train on; no label of theirs is ever trained on
    objects_train: str = "objects/train"  # labelled images for the ImageNet half of Table 1
    objects_test: str = "objects/val"
    scenes_train: str = "scenes/train"  # labelled images for its Places205 half
    scenes_test: str = "scenes/val"
    resize: int = 256  # short side after resizing, pixels, before the centre crop
    memory_gb: float = 4.0  # decoded images are kept in one memory-mapped file up to this size
    workers: int = 0  # processes that decode images when they are not kept decoded
    max_unreadable: float = 0.01  # share of unreadable images above which a run refuses to start
    pocket_images: int = 10_000  # images in the pocket world's pool
    pocket_seed: int = 0

    def __post_init__(self) -> None:
        _need(self.resize >= 30, "resize >= 30 pixels", self.resize)
        _need(self.memory_gb >= 0, "memory_gb >= 0", self.memory_gb)
        _need(self.workers >= 0, "workers >= 0", self.workers)
        _need(0 <= self.max_unreadable < 1, "max_unreadable in [0, 1)", self.max_unreadable)
        _need(self.pocket_images >= 100, "pocket_images >= 100", self.pocket_images)


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Linear classifiers on frozen layers."""

    epochs: int = 100
    batch_size: int = 256
    lr_scale: float = 1.0  # multiplies the paper's learning rate of each layer
    momentum: float = 0.9
    weight_decay: float = 1.0e-5
    augment: bool = True  # random crops and flips, as in the paper; False computes features once
    train_images: int = 0  # use this many labelled images, balanced over classes; 0 means all
    test_images: int = 0

    def __post_init__(self) -> None:
        _need(self.epochs >= 1, "epochs >= 1", self.epochs)
        _need(self.batch_size >= 1, "batch_size >= 1", self.batch_size)
        _need(self.lr_scale > 0, "lr_scale > 0", self.lr_scale)
        _need(min(self.train_images, self.test_images) >= 0, "train_images and test_images >= 0", self)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything the notebooks need to know, under one name."""

    name: str
    description: str
    seeds: tuple[int, ...]
    data: DataConfig
    probe: ProbeConfig
    methods: Mapping[str, MethodConfig]

    def method(self, name: str) -> MethodConfig:
        """The settings of one method; ValueError lists the names there are."""
        if name not in self.methods:
            raise ValueError(f"unknown method {name!r} in preset {self.name!r}; it has {', '.join(self.methods)}")
        return self.methods[name]


SECTIONS: Mapping[str, type[Any]] = {"model": ModelConfig, "cluster": ClusterConfig, "train": TrainConfig}

# Section 5 of the supplement. k is the total over both levels there; n_sub is per super-cluster here.
_ROTNET = MethodConfig(
    method="rotnet",
    model=ModelConfig(stem="rgb", dropout=0.3),
    train=TrainConfig(batch_size=512, lr=0.05, weight_decay=1.0e-5),
)
RECIPES: dict[str, MethodConfig] = {
    "rotnet_yfcc100m": _ROTNET,
    "rotnet_imagenet": _ROTNET,
    "deepercluster_yfcc1m": MethodConfig(
        cluster=ClusterConfig(n_sub=10_000, pca_dim=256, reassign_every=2),
        train=TrainConfig(batch_size=256, lr=0.05),
    ),
    "deepercluster_yfcc100m": MethodConfig(
        cluster=ClusterConfig(n_super=4, n_sub=80_000, pca_dim=4096, reassign_every=3),
        train=TrainConfig(batch_size=3072, lr=0.1),
    ),
    "deepercluster_imagenet": MethodConfig(
        cluster=ClusterConfig(n_sub=10_000, pca_dim=4096, reassign_every=5),
        train=TrainConfig(batch_size=748, lr=0.1),
    ),
}


def project_root() -> Path:
    """The folder that holds notebooks/ and book/: DCLIB_ROOT, else above this file, else the current one."""
    if "DCLIB_ROOT" in os.environ:
        return Path(os.environ["DCLIB_ROOT"])
    for folder in (Path(__file__).resolve().parent.parent, *[Path.cwd(), *Path.cwd().parents]):
        if (folder / "notebooks" / "presets").is_dir():
            return folder
    return Path.cwd()


def data_root(data: DataConfig) -> Path:
    """The folder of a preset's images: ``data.root`` from here, or, if it is not there, from the project."""
    here = Path(data.root)
    return here if here.exists() or here.is_absolute() else project_root() / here


def runs_folder() -> Path:
    """Where runs are kept: DCLIB_RUNS, else runs/ in the project."""
    return Path(os.environ.get("DCLIB_RUNS", project_root() / "runs"))


def load_preset(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Preset:
    """Read a preset by name or path, with dotted overrides such as ``{"train.lr": 0.1}``.

    The sections ``model``, ``cluster`` and ``train`` hold for every method; a method's own sections come on
    top, and ``recipe`` starts it from a recipe of the supplement. Overrides win over the file; one that names
    a shared section (``train.lr``) also wins over a method's own value.

    Raises:
        ValueError: no such preset, an unknown key, a value of the wrong type or out of its range.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else preset_folder() / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in preset_folder().glob("*.yaml"))
        raise ValueError(
            f"unknown preset {str(name)!r}; there are {', '.join(known)}, or give the path of a .yaml file"
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold a mapping of settings; got {raw!r}")
    for key, value in (overrides or {}).items():
        _override(raw, key, value)
    return parse_preset(path.stem, raw)


def preset_folder() -> Path:
    """The folder of the presets that come with the project."""
    return project_root() / "notebooks" / "presets"


def parse_preset(name: str, raw: Mapping[str, Any]) -> Preset:
    """Build a preset from its parsed YAML; see :func:`load_preset`."""
    known = ["description", "seeds", "data", "probe", "model", "cluster", "train", "methods"]
    _check_keys(raw, known, f"preset {name!r}")
    shared = {section: raw.get(section) or {} for section in SECTIONS}
    for section, cls in SECTIONS.items():
        build(cls, shared[section], section)  # so that a fault in it is reported where it stands
    entries = raw.get("methods") or {}
    if not isinstance(entries, Mapping):
        raise ValueError(f"methods must be a mapping, one key per method ('rotnet:'); got {entries!r}")
    methods: dict[str, MethodConfig] = {}
    for method, own in entries.items():
        methods[method] = _parse_method(method, own or {}, shared)
    if not methods:
        raise ValueError(f"preset {name!r} needs at least one entry under 'methods'; got none")
    _check_inits(methods)
    seeds = raw.get("seeds", [0])
    if not (isinstance(seeds, list) and seeds and all(type(s) is int and s >= 0 for s in seeds)):
        raise ValueError(f"seeds must be a list of integers >= 0; got {seeds!r}")
    return Preset(
        name=name,
        description=str(raw.get("description", "")),
        seeds=tuple(seeds),
        data=build(DataConfig, raw.get("data") or {}, "data"),
        probe=build(ProbeConfig, raw.get("probe") or {}, "probe"),
        methods=methods,
    )


def build(cls: type[T], values: Mapping[str, Any], where: str, base: T | None = None) -> T:
    """Make a config of type ``cls``, checking every key and type; ``base`` gives the other values."""
    hints = typing.get_type_hints(cls)
    _check_keys(values, list(hints), where)
    checked = {key: _checked(value, hints[key], f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**checked) if base is None else dataclasses.replace(base, **checked)  # type: ignore[type-var]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def config_hash(*values: Any) -> str:
    """Twelve hexadecimal digits that change with any value in the given dataclasses, mappings or lists."""
    plain = [dataclasses.asdict(v) if dataclasses.is_dataclass(v) and not isinstance(v, type) else v for v in values]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _check_inits(methods: Mapping[str, MethodConfig]) -> None:
    for method in methods:
        chain = [method]
        while start := methods[chain[-1]].init:
            if start not in methods:
                raise ValueError(f"methods.{chain[-1]}.init must name another method of the preset; got {start!r}")
            if start in chain:
                path = " <- ".join([*chain, start])
                raise ValueError(f"methods.{method}.init must not lead back to itself; got {path}")
            chain.append(start)


def _parse_method(name: str, own: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]) -> MethodConfig:
    where = f"methods.{name}"
    _check_keys(own, ["method", "init", "recipe", "model", "cluster", "train"], where)
    recipe = own.get("recipe", "")
    if recipe and recipe not in RECIPES:
        raise ValueError(f"{where}.recipe must be one of {', '.join(RECIPES)}; got {recipe!r}")
    base = RECIPES[recipe] if recipe else MethodConfig()
    task = own.get("method", base.method if recipe else name)
    if task not in typing.get_args(Method):
        raise ValueError(f"{where}: unknown method {task!r}; use one of {', '.join(typing.get_args(Method))}")
    sections = {}
    for section, cls in SECTIONS.items():
        values = own.get(section) or {}
        _check_keys(values, [f.name for f in dataclasses.fields(cls)], f"{where}.{section}")
        sections[section] = build(cls, {**shared[section], **values}, f"{where}.{section}", getattr(base, section))
    try:
        return MethodConfig(method=task, init=str(own.get("init") or base.init), **sections)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    level = raw
    for parent in parents:
        if level.get(parent) is None:
            level[parent] = {}
        level = level[parent]
        if not isinstance(level, dict):
            raise ValueError(f"override {dotted!r}: {parent!r} is not a section")
    level[leaf] = value
    if len(parents) == 1 and parents[0] in ("model", "cluster", "train"):
        for own in (raw.get("methods") or {}).values():
            ((own or {}).get(parents[0]) or {}).pop(leaf, None)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """``value`` if it fits the annotation, integers widened to float where a float is meant."""
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise ValueError(f"{where} must be one of {', '.join(map(str, typing.get_args(hint)))}; got {value!r}")
        return value
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias) and type(value) is not hint:
        advice = " (YAML reads 1e-3 as text: write 1.0e-3)" if hint is float and isinstance(value, str) else ""
        raise ValueError(f"{where} must be {hint.__name__}; got {value!r}{advice}")
    return value


def _check_keys(values: Mapping[str, Any], known: list[str], where: str) -> None:
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping of settings; got {values!r}")
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise ValueError(f"unknown key {key!r} in {where}; {hint}")
