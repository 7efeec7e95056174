"""A run to be planned: its settings, its images and its processes, and the bytes that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dclib.config import DataConfig, MethodConfig, ProbeConfig
from dclib.methods import OUTLINES
from dclib.planner.hardware import Hardware
from dclib.planner.network import FLOAT, LONG, MAP_BYTES, HeadsSize, NetworkSize, heads_size, network_size

BYTES = {"float16": 2, "float32": 4}  # of a stored number
# layers of one map size, how much smaller it is than the first, its side at 224 pixels and the pooling's kernel there
POOLING = ((2, 1, 226, 18), (2, 2, 113, 14), (3, 4, 56, 9), (3, 8, 28, 6), (3, 16, 14, 3))


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A run to be planned."""

    config: MethodConfig
    data: DataConfig
    probe: ProbeConfig
    n_images: int
    hardware: Hardware
    processes: int
    labelled_images: int  # that the classifiers are trained on
    test_images: int
    n_classes: int  # of the labelled images

    @property
    def precision(self) -> str:
        """In which the network is trained: ``"auto"`` is what the hardware is faster in."""
        chosen = self.config.train.precision
        return ("bfloat16" if self.hardware.bfloat16_gain > 1 else "float32") if chosen == "auto" else chosen

    @property
    def network(self) -> NetworkSize:
        """The trunk in the precision that it is trained in."""
        return network_size(self.config.model, self.precision)

    @property
    def heads(self) -> HeadsSize:
        return heads_size(self.config, self.n_classes)

    @property
    def share(self) -> int:
        """Images of the largest share when all are dealt out to the processes."""
        return -(-self.n_images // self.processes)

    @property
    def pca_dim(self) -> int:
        """Dimensions that whitening keeps: at most n - 1 and d."""
        return max(1, min(self.config.cluster.pca_dim, self.config.model.feature_dim, self.n_images - 1))

    @property
    def is_sharded(self) -> bool:
        own = OUTLINES[self.config.method].head is None  # heads of super-classes, which can be dealt out
        return own and self.config.train.head_placement == "sharded" and self.processes > 1

    @property
    def held_heads(self) -> int:
        """Sub-class heads of the process that holds most."""
        return -(-self.heads.n_super_classes // self.processes) if self.is_sharded else self.heads.n_super_classes

    @property
    def local_batch(self) -> int:
        """Images of a step for the process that takes most; one that is seen twice is counted twice."""
        batch, s = self.config.train.batch_size, self.heads.n_super_classes
        if not self.is_sharded:
            return math.ceil(-(-batch // self.processes) * self.config.passes)
        return -(-batch * self.held_heads // s // max(1, self.processes // s))

    @property
    def part(self) -> int:
        """Images of a step that are held at once."""
        return -(-self.local_batch // self.config.train.accumulate)

    @property
    def own_weights(self) -> int:
        """Trained numbers that one process holds."""
        heads = self.heads
        return self.network.parameters + heads.super_parameters + self.held_heads * heads.sub_parameters

    def decoded_bytes(self, images: int) -> float:
        """Of a set's memory-mapped file of decoded images; 0 where ``data.memory_gb`` does not allow it."""
        size = images * 3.0 * self.data.resize**2
        return size if size <= self.data.memory_gb * 2**30 else 0.0

    @property
    def clusterings(self) -> int:
        """How often the images are clustered anew."""
        cluster, epochs = self.config.cluster, self.config.train.epochs
        due = range(0, epochs, cluster.reassign_every) if self.config.clusters else range(0)
        return sum(epoch / epochs < cluster.reassign_until for epoch in due)

    @property
    def steps(self) -> int:
        """Updates of an epoch."""
        return max(1, round(self.config.shown(self.n_images) / self.config.train.batch_size))


def reduced_bytes(size: float, processes: int) -> float:
    """Bytes that each process sends when ``size`` bytes are added up over all of them in a ring."""
    return 2 * (processes - 1) / processes * size


def stored_bytes(work: Workload, columns: int) -> float:
    """Of a matrix on disk with a row for each image."""
    return float(work.n_images) * columns * BYTES[work.config.cluster.precision]


def image_bytes(work: Workload) -> float:
    """Of one image as the network takes it."""
    return 3.0 * FLOAT * work.config.model.image_size**2


def resident_bytes(work: Workload) -> float:
    """Weights, momentum and gradients, which stay on the device from one phase to the next."""
    return 3.0 * FLOAT * work.own_weights


def copied_bytes(work: Workload, weights: int) -> float:
    """Of so many weights' copies in the precision of products."""
    return 0.0 if work.precision == "float32" else MAP_BYTES[work.precision] * weights


def checkpoint_bytes(work: Workload) -> float:
    """Of a whole checkpoint, with momentum and pseudo-labels; and of the decoded images if they are kept."""
    heads = work.heads
    weights = work.network.parameters + heads.super_parameters + heads.n_super_classes * heads.sub_parameters
    return 2.0 * FLOAT * weights + 2.0 * LONG * work.n_images + work.decoded_bytes(work.n_images)


def own_checkpoint_bytes(work: Workload) -> float:
    """Of what the main process writes of it."""
    return 2.0 * FLOAT * work.own_weights + 2.0 * LONG * work.n_images


def ram_bytes(work: Workload, buffers: float) -> float:
    """Of a process in pre-training: libraries, int64 vectors over the images, decoded images, and buffers.

    Names of images are not counted: YFCC100M's are numbers, those of a folder take about 100 bytes each.
    """
    return work.hardware.base_bytes + LONG * vectors(work) + work.decoded_bytes(work.n_images) + buffers


def vectors(work: Workload) -> float:
    """Numbers of 8 bytes that a process keeps, with those made in passing: ids, labels, an epoch's plan, a sampling."""
    n, c, s = work.n_images, work.config.cluster.n_super if work.config.clusters else 1, work.heads.n_super_classes
    m = work.steps * work.config.train.batch_size
    sampling = m + 8 * n / c + 3 * m / s  # columns so far, and the permutations of one super-class
    planning = 2 * n + max(5.0 * m, sampling)  # labels, and columns, images, turns, super- and sub-classes
    clustering = 2 * n + (6 * n if work.config.clusters else 0)  # labels before and after, their sum over processes
    places = m / work.processes
    return n + max(planning + places, clustering)


def pooled_sizes(work: Workload) -> list[int]:
    """Numbers that each of the 13 layers' classifiers sees, after the average pooling of evaluate.linear_probe."""
    model, sizes = work.config.model, []
    for channels, (layers, shrink, paper_side, kernel) in zip((64, 128, 256, 512, 512), POOLING, strict=True):
        side = (model.image_size + model.grid - 224) // shrink
        pooled = side // max(1, math.ceil(kernel * side / paper_side))
        sizes += [max(1, round(channels * model.width)) * pooled**2] * layers
    return sizes
