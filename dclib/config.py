"""What a run is made of: typed settings, checked when they are made, and the supplement's recipes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dclib.methods import OUTLINES


def _need(condition: bool, what: str, came: object) -> None:
    if not condition:
        raise ValueError(f"need {what}; got {came}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: VGG-16 with batch normalisation behind a fixed stem."""

    image_size: int = 224  # side of the square input, pixels
    width: float = 1.0  # multiplies the 64..512 channels of VGG-16
    stem: Literal["sobel", "rgb", "folded"] = "sobel"
    # sobel: fixed image gradients; rgb: plain colour; folded: colour through a 5x5 filter that has Sobel inside it
    grid: Literal[226, 224] = 226  # width of conv1's map at 224 pixels: DeeperCluster's, or that of DeepCluster-v1
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
    backend: Literal["auto", "torch", "torch-axes", "torch-bf16", "numpy", "faiss"] = "auto"  # k-means implementation
    precision: Literal["float32", "float16"] = "float32"  # of features while they are kept on disk

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
    epoch_images: int = 0  # images per epoch, those that are seen twice counted twice; 0 means as many as the set holds
    batch_size: int = 256  # images per step, over all processes
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1.0e-5  # on every weight, biases and batch norm included
    decay_from: float = 1.0  # fraction of the steps after which lr falls linearly; 1 means never
    final_lr: float = 0.02  # fraction of lr that it falls to at the end
    crop_area: float = 0.08  # smallest share of the image's area a random crop may keep
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    # of the network's and heads' matrix products, in steps and in the features that are clustered. Weights, momentum,
    # checkpoints, batch-norm statistics, losses and the clustering itself are float32 in either case. auto: bfloat16
    # where the machine has instructions for it
    accumulate: int = 1  # parts a batch is taken in, one after the other, to fit a smaller memory
    # gradients are those of the whole batch but for batch norm, whose statistics are those of each part, and whose
    # running averages move as many times a step
    patience: int = 0  # stop after so many validations on VOC2007 without a new best; 0 means train all epochs
    validate_every: int = 1  # epochs between two of them
    sub_head_gradient: Literal["group_mean", "global_mean"] = "group_mean"
    # group_mean: each sub-class head averages over its own super-class's images, as the released code does
    # global_mean: over the whole batch, as the paper's formula reads (S times smaller)
    head_placement: Literal["replicated", "sharded"] = "replicated"
    # with several processes. replicated: each has all sub-class heads; sharded: those of its super-classes alone

    def __post_init__(self) -> None:
        _need(self.epochs >= 1, "epochs >= 1", self.epochs)
        _need(self.epoch_images >= 0, "epoch_images >= 0", self.epoch_images)
        _need(self.batch_size >= 2, "batch_size >= 2, for batch normalisation", self.batch_size)
        _need(0 < self.lr < math.inf, "lr > 0 and finite", self.lr)
        _need(0 <= self.momentum < 1, "momentum in [0, 1)", self.momentum)
        _need(0 <= self.weight_decay < math.inf, "weight_decay >= 0 and finite", self.weight_decay)
        _need(0 < self.crop_area <= 1, "crop_area in (0, 1]", self.crop_area)
        _need(self.precision in ("float32", "bfloat16", "auto"), "precision float32, bfloat16 or auto", self.precision)
        _need(
            1 <= self.accumulate <= self.batch_size // 2,
            f"accumulate from 1 to {self.batch_size // 2}, for two images of a batch in each part",
            self.accumulate,
        )
        _need(0 <= self.decay_from <= 1, "decay_from in [0, 1]", self.decay_from)
        _need(0 <= self.final_lr <= 1, "final_lr in [0, 1]", self.final_lr)
        _need(self.patience >= 0, "patience >= 0 validations", self.patience)
        _need(self.validate_every >= 1, "validate_every >= 1 epoch", self.validate_every)


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One pre-training, whole: what a checkpoint is identified by."""

    method: str = "deepercluster"  # one of methods.OUTLINES
    init: str = ""  # another method of the preset whose trained trunk this one starts from
    images: Literal["pool", "objects"] = "pool"  # what it learns from; supervised takes the labelled objects anyway
    pool_images: int = 0  # of the pool so many, the same for all seeds, fewer being part of more; 0 means all
    weights: str = ""  # for "released": file of weights that takes the place of training
    allow_partial: bool = False  # of such a file take what fits, and leave the rest as it was drawn
    model: ModelConfig = field(default_factory=ModelConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    task: Any = None  # settings that this method alone has: a value of its outline's dataclass, by default as that says

    def __post_init__(self) -> None:
        _need(self.method in OUTLINES, f"a method among {', '.join(OUTLINES)}", self.method)
        settings = OUTLINES[self.method].settings
        if not isinstance(self.task, settings):  # also where a method is replaced by another
            object.__setattr__(self, "task", settings())
        _need(self.pool_images >= 0, "pool_images >= 0, 0 meaning all", self.pool_images)
        if self.images == "objects" or OUTLINES[self.method].learns_from != "pool":
            _need(not self.pool_images, "pool_images for a method that learns from the pool alone", self.pool_images)
        if self.method == "deepcluster":
            _need(
                self.cluster.n_super == 1,
                "n_super = 1 for deepcluster, which has one level",
                self.cluster.n_super,
            )
        if self.method == "released":
            _need(bool(self.weights), "weights, the path of a file, for released", "none")

    @property
    def n_turns(self) -> int:
        """Quarter turns told apart, R: 4, or 1 where rotation is no part of the task."""
        return OUTLINES[self.method].turns

    @property
    def clusters(self) -> bool:
        """Whether pseudo-labels are part of the task."""
        return OUTLINES[self.method].clusters

    @property
    def trains(self) -> bool:
        """Whether there is anything to learn: not for a network as it was drawn, or that is read from a file."""
        return OUTLINES[self.method].learns_from != "nothing"

    @property
    def passes(self) -> float:
        """What an image costs in a step, in passes of the network; see ``Outline.passes``."""
        return OUTLINES[self.method].passes(self)

    def shown(self, n_images: int) -> int:
        """About how many images an epoch shows, of a set of so many: they cost ``epoch_images`` passes, all the same
        for every method."""
        return round((self.train.epoch_images or n_images) / self.passes)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images are. Paths are taken from ``root``; an empty one means there is no such set."""

    root: str = ""  # folder of the data; empty means the pocket world, drawn on first use
    pool: str = "pool"  # images to pre-train on; no label of theirs is ever trained on
    pool_images: int = 0  # pre-train on so many of them, drawn at random once for all seeds; 0 means all
    objects_train: str = "objects/train"  # labelled images for the ImageNet half of Table 1
    objects_test: str = "objects/val"
    scenes_train: str = "scenes/train"  # labelled images for its Places205 half
    scenes_test: str = "scenes/val"
    voc: str = "VOC2007"  # Pascal VOC 2007 in its own layout, for Table 4
    oxford: str = "oxford5k"  # images and ground truth of Oxford5K, for Table 3
    paris: str = "paris6k"
    clips: str = "clips"  # folder of moving pictures, for transitive invariance; empty where there are none
    metadata: str = ""  # YFCC100M's table of the pool's photographs; empty means one that lies beside them
    max_bad_metadata: float = 0.01  # share of malformed lines in it above which a run refuses to start
    resize: int = 256  # short side after resizing, pixels, before the centre crop
    memory_gb: float = 4.0  # decoded images are kept in one memory-mapped file up to this size
    workers: int = 0  # processes that decode images when they are not kept decoded
    max_unreadable: float = 0.01  # share of unreadable images above which a run refuses to start, or to go on
    pocket_images: int = 10_000  # images in the pocket world's pool
    pocket_seed: int = 0

    @property
    def is_drawn(self) -> bool:
        """Whether the images are drawings made for this project; what a page calls them follows from it."""
        return not self.root

    def __post_init__(self) -> None:
        _need(self.resize >= 30, "resize >= 30 pixels", self.resize)
        _need(self.memory_gb >= 0, "memory_gb >= 0", self.memory_gb)
        _need(self.workers >= 0, "workers >= 0", self.workers)
        _need(0 <= self.max_unreadable < 1, "max_unreadable in [0, 1)", self.max_unreadable)
        _need(0 <= self.max_bad_metadata < 1, "max_bad_metadata in [0, 1)", self.max_bad_metadata)
        _need(self.pool_images >= 0, "pool_images >= 0, 0 meaning all", self.pool_images)
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
class FinetuneConfig:
    """Training with all labels from a pre-trained start; both recipes of Table 2 are scaled to ``epochs``."""

    epochs: int = 100  # of "our hyperparam"; "PyTorch doc" has nine tenths of them
    batch_size: int = 256
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1.0e-4
    dropout: float = 0.5
    crop_area: float = 0.08
    train_images: int = 0  # use this many labelled images, balanced over classes; 0 means all
    test_images: int = 0
    shares: tuple[float, ...] = ()  # of these labelled images, a training with each; none: with all of them alone
    steps: int = 0  # of "our hyperparam" at least, however few the images of a share are; see passes

    def __post_init__(self) -> None:
        _need(all(0 < share <= 1 for share in self.shares), "shares in (0, 1]", self.shares)
        _need(len(set(self.shares)) == len(self.shares), "each of shares once", self.shares)
        _need(self.steps >= 0, "steps >= 0", self.steps)
        _need(bool(self.shares) or not self.steps, "shares, where steps are asked for", self.shares)
        _need(self.epochs >= 2, "epochs >= 2, so that both recipes have some", self.epochs)
        _need(self.batch_size >= 2, "batch_size >= 2, for batch normalisation", self.batch_size)
        _need(0 < self.lr < math.inf, "lr > 0 and finite", self.lr)
        _need(0 <= self.dropout < 1, "dropout in [0, 1)", self.dropout)
        _need(0 < self.crop_area <= 1, "crop_area in (0, 1]", self.crop_area)
        _need(min(self.train_images, self.test_images) >= 0, "train_images and test_images >= 0", self)

    @property
    def judged_share(self) -> float:
        """The middle one of the shares, the larger of two: Table 2, its curves and the claims are about it."""
        return sorted(self.shares)[len(self.shares) // 2] if self.shares else 1.0

    def passes(self, images: int) -> int:
        """Passes over so many images that count as an epoch: the fewest whose whole batches give "ours" its steps."""
        return max(1, -(-self.steps // (self.epochs * max(1, images // self.batch_size))))


@dataclass(frozen=True, kw_only=True)
class VocConfig:
    """Classification on Pascal VOC 2007 with new fully connected layers; schedules are scaled to ``iterations``."""

    iterations: int = 150_000  # steps, in both settings
    validation_iterations: int = 150_000  # steps when it serves to choose settings or to stop training
    batch_size: int = 16
    lr: float = 0.003  # halved every 20,000 of 150,000 steps (FC68), every 10,000 (ALL)
    momentum: float = 0.9
    weight_decay_fc68: float = 1.0e-5
    weight_decay_all: float = 1.0e-4
    dropout: float = 0.5
    clip_norm: float = 10.0  # gradients are scaled down to this norm
    crop_area: float = 0.08
    test_crops: int = 10  # random crops whose scores are added up

    def __post_init__(self) -> None:
        _need(min(self.iterations, self.validation_iterations) >= 1, "iterations >= 1", self)
        _need(self.batch_size >= 1, "batch_size >= 1", self.batch_size)
        _need(0 < self.lr < math.inf, "lr > 0 and finite", self.lr)
        _need(0 <= self.dropout < 1, "dropout in [0, 1)", self.dropout)
        _need(self.clip_norm > 0, "clip_norm > 0", self.clip_norm)
        _need(0 < self.crop_area <= 1, "crop_area in (0, 1]", self.crop_area)
        _need(self.test_crops >= 1, "test_crops >= 1", self.test_crops)


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Instance retrieval by R-MAC."""

    longest_side: int = 1024  # pixels to which the longer side of every image is resized
    levels: int = 3  # grids of regions, coarse to fine

    def __post_init__(self) -> None:
        _need(self.longest_side >= 30, "longest_side >= 30", self.longest_side)
        _need(self.levels >= 1, "levels >= 1", self.levels)


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """What clusters are about: colour, hashtags, cameras, places."""

    clusters: int = 0  # that features are grouped into, on one level; 0: as the preset's methods do, on theirs
    drawn_clusters: int = 3000  # clusters of Figure 2, at random, at most

    def __post_init__(self) -> None:
        _need(self.clusters >= 0 and self.clusters != 1, "clusters = 0 or >= 2", self.clusters)
        _need(self.drawn_clusters >= 1, "drawn_clusters >= 1", self.drawn_clusters)


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """A setting to be chosen by Pascal VOC 2007, train to val, without fine-tuning: supplement, section 5."""

    method: str = ""  # method of the preset to train with each value; empty means nothing is chosen
    key: str = "train.lr"
    values: tuple[float, ...] = ()
    epochs: int = 0  # epochs of each training; 0 means as many as the method's own

    def __post_init__(self) -> None:
        _need(not self.method or len(self.values) >= 2, "at least two values to choose from", self.values)
        _need(self.epochs >= 0, "epochs >= 0", self.epochs)


@dataclass(frozen=True, kw_only=True)
class LowShotConfig:
    """What few labels give, what neighbours give without training, and what methods without a network give."""

    shares: tuple[float, ...] = ()  # of the probes' training images whose labels are used; none: nothing is measured
    neighbours: int = 20  # that vote on an image
    centroids: tuple[int, ...] = ()  # of k-means on image patches, a baseline for each; none: no baseline at all
    patches: int = 400_000  # that these centroids are learned from

    def __post_init__(self) -> None:
        _need(all(0 < share <= 1 for share in self.shares), "shares in (0, 1]", self.shares)
        _need(len(set(self.shares)) == len(self.shares), "each of shares once", self.shares)
        _need(self.neighbours >= 1, "neighbours >= 1", self.neighbours)
        _need(all(2 <= k <= self.patches for k in self.centroids), "centroids from 2 to patches", self)
        _need(bool(self.shares) or not self.centroids, "shares, where there are centroids", self.shares)


@dataclass(frozen=True, kw_only=True)
class CountsConfig:
    """How data and clusters count: each method trained once more with each count, with as many passes."""

    images: tuple[int, ...] = ()  # of the pool that a network learns from; none, here and below: nothing is trained
    clusters: tuple[int, ...] = ()  # in all, over both levels, of the methods that have some
    methods: tuple[str, ...] = ("deepercluster", "rotnet")  # of the preset

    def __post_init__(self) -> None:
        _need(all(value >= 2 for value in (*self.images, *self.clusters)), "images and clusters >= 2", self)
        for name in ("images", "clusters", "methods"):
            values = getattr(self, name)
            _need(len(set(values)) == len(values), f"each of {name} once", values)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything the notebooks need to know, under one name."""

    name: str
    description: str
    seeds: tuple[int, ...]
    data: DataConfig
    probe: ProbeConfig
    finetune: FinetuneConfig
    voc: VocConfig
    retrieval: RetrievalConfig
    analysis: AnalysisConfig
    choice: ChoiceConfig
    low_shot: LowShotConfig
    counts: CountsConfig
    methods: Mapping[str, MethodConfig]

    def method(self, name: str) -> MethodConfig:
        """The settings of one method; ValueError lists the names there are."""
        if name not in self.methods:
            raise ValueError(f"unknown method {name!r} in preset {self.name!r}; it has {', '.join(self.methods)}")
        return self.methods[name]

    @property
    def common_clustering(self) -> MethodConfig | None:
        """The method by whose clustering all networks are compared: the first of the fewest super-clusters."""
        own = [config for config in self.methods.values() if config.clusters]
        return min(own, key=lambda config: config.cluster.n_super, default=None)


# Section 5 of the supplement; deepcluster_yfcc1m is what Table 3 says that deepercluster_yfcc1m was. k is the total
# over both levels there; n_sub is per super-cluster here.
_ROTNET = MethodConfig(
    method="rotnet",
    model=ModelConfig(stem="rgb", dropout=0.3),
    train=TrainConfig(batch_size=512, lr=0.05, weight_decay=1.0e-5),
)
_ONE_LEVEL = MethodConfig(
    cluster=ClusterConfig(n_sub=10_000, pca_dim=256, reassign_every=2),
    train=TrainConfig(batch_size=256, lr=0.05),
)
RECIPES: dict[str, MethodConfig] = {
    "rotnet_yfcc100m": _ROTNET,
    "rotnet_imagenet": _ROTNET,
    "deepercluster_yfcc1m": _ONE_LEVEL,
    "deepcluster_yfcc1m": dataclasses.replace(_ONE_LEVEL, method="deepcluster"),
    "deepercluster_yfcc100m": MethodConfig(
        cluster=ClusterConfig(n_super=4, n_sub=80_000, pca_dim=4096, reassign_every=3, precision="float16"),
        train=TrainConfig(batch_size=3072, lr=0.1, head_placement="sharded"),
    ),
    "deepercluster_imagenet": MethodConfig(
        cluster=ClusterConfig(n_sub=10_000, pca_dim=4096, reassign_every=5),
        train=TrainConfig(batch_size=748, lr=0.1),
    ),
}


def config_hash(*values: Any) -> str:
    """Twelve hexadecimal digits that change with any value in the given dataclasses, mappings or lists."""
    plain = [dataclasses.asdict(v) if dataclasses.is_dataclass(v) and not isinstance(v, type) else v for v in values]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=_plain).encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    """What JSON has no word for; a set in order, for that of its members differs from process to process."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
