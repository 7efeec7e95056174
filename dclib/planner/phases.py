"""What each phase of a run costs one process: seconds by what they go to, memory, disk and traffic.

The formulas follow the code of ``cluster`` and ``train`` line by line; what they leave out is said where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dclib.planner.network import FLOAT, LONG, network_size
from dclib.planner.passes import FEATURE_BATCH, TRAINING_MAP_PASSES, Pass
from dclib.planner.workload import (
    BYTES,
    Workload,
    checkpoint_bytes,
    copied_bytes,
    image_bytes,
    own_checkpoint_bytes,
    pooled_sizes,
    ram_bytes,
    reduced_bytes,
    resident_bytes,
    stored_bytes,
)

DOUBLE = 8  # bytes
BLOCK_ROWS = 1024  # rows that a whitening holds in float64: cluster.whitening
BLOCK_ELEMENTS, CUDA_BLOCK_ELEMENTS = 2**23, 2**25  # numbers of an E step at once: cluster.kmeans
LARGEST_FILE = 4_096  # rows of a file of stored features: cluster.stored_rows
SAVE_EVERY = 60.0  # seconds between two checkpoints: train.pretrain
EIGH = 9  # d^3 of them are the FLOPs of eigenvalues with vectors, at a tenth of the rate of a product
EIGH_SHARE = 0.1
UPDATE_PASSES = 12  # reads and writes of a weight by an update with momentum and decay; and of its gradient
FUSED_PASSES = 6  # the same where it is one pass: train.state
BACKWARD_MAPS = 3  # maps of the largest size that a way back holds besides what it kept
HEAD_COPIES = 2  # of a head's gradient, while it is averaged over processes


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a run, each of ``times`` alike. Memory is that of the process that needs most of it."""

    name: str
    times: int
    parts: Mapping[str, float]  # seconds that follow one another, by what they go to
    beside: Mapping[str, float] = field(default_factory=dict)  # seconds of other processes at the same time
    device_bytes: float = 0.0  # on the GPU; for a process without one in its own memory
    ram_bytes: float = 0.0  # of a process, apart from that
    disk_bytes: float = 0.0  # of all processes together, while it runs
    sent_bytes: float = 0.0  # by one process to others
    read_bytes: float = 0.0  # of stored features, by all processes together

    @property
    def seconds(self) -> float:
        """Of one time."""
        return max(sum(self.parts.values()), *self.beside.values(), 0.0)

    @property
    def total_seconds(self) -> float:
        return self.times * self.seconds

    @property
    def bottleneck(self) -> str:
        """What most of its time goes to."""
        waiting = {what: seconds for what, seconds in self.beside.items() if seconds > sum(self.parts.values())}
        return max(waiting or self.parts, key=lambda what: (waiting or self.parts)[what])


def phases_of(work: Workload) -> list[Phase]:
    """All phases that the method has, in their order."""
    clustering = [features_phase(work), whitening_phase(work), first_level_phase(work), second_level_phase(work)]
    trains = work.config.trains
    phases = [*(clustering if work.clusterings else []), *([training_phase(work)] if trains else [])]
    return [phase for phase in [*phases, evaluation_phase(work)] if phase.times]


def features_phase(work: Workload) -> Phase:
    """One pass over all images without gradients, whose outputs go to disk."""
    network, d = work.network, work.config.model.feature_dim
    stored = stored_bytes(work, d)
    parts, beside = input_seconds(work, work.share, work.n_images)
    parts |= {
        "network": forward_seconds(work, work.share, work.config.train.precision),
        "disk": stored / work.processes / work.hardware.disk_rate,
        "overhead": -(-work.share // FEATURE_BATCH) * work.hardware.overhead,
    }
    batch = min(FEATURE_BATCH, work.share)
    return Phase(
        name="features",
        times=work.clusterings,
        parts=parts,
        beside=beside,
        device_bytes=resident_bytes(work)
        + copied_bytes(work, network.parameters)
        + batch * (2 * network.largest_map_bytes + image_bytes(work)),
        ram_bytes=ram_bytes(work, FLOAT * d * min(LARGEST_FILE, work.share) * 3),  # a file's rows and its bytes
        disk_bytes=checkpoint_bytes(work) + stored,
    )


def whitening_phase(work: Workload) -> Phase:
    """Moments in float64, principal axes on every process, and all features projected onto them."""
    machine, d, dim, share = work.hardware, work.config.model.feature_dim, work.pca_dim, work.share
    stored, points = stored_bytes(work, d), stored_bytes(work, dim)
    sent = reduced_bytes(DOUBLE * d * d, work.processes)
    parts = {
        "moments": 2.0 * share * d * d / machine.double_flops,
        "principal axes": EIGH * d**3 / (EIGH_SHARE * machine.double_flops),
        "projection": 2.0 * share * d * dim / machine.linear_flops,
        "disk": (2 * stored + points) / work.processes / machine.disk_rate,
        "traffic": sent / machine.rate_between(work.processes),
    }
    rows = min(LARGEST_FILE, share)
    # the covariance and its vectors; on a GPU also what they are made from
    matrices = (6 if machine.is_gpu else 2) * DOUBLE * d * d
    projected = FLOAT * (d * dim + rows * (d + dim) + 3 * BLOCK_ROWS * dim)
    return Phase(
        name="whitening",
        times=work.clusterings,
        parts=parts,
        device_bytes=resident_bytes(work) + max(matrices + min(BLOCK_ROWS, share) * d * (FLOAT + DOUBLE), projected),
        ram_bytes=ram_bytes(work, rows * d * FLOAT * 2),
        disk_bytes=checkpoint_bytes(work) + stored + points,
        sent_bytes=sent,
        read_bytes=2 * stored,
    )


def first_level_phase(work: Workload) -> Phase:
    """All images into super-clusters, by all processes; none where there is one."""
    cluster, n = work.config.cluster, work.n_images
    labels = reduced_bytes(LONG * n, work.processes)
    times = work.clusterings if cluster.n_super > 1 else 0
    return _lloyd_phase(work, "k-means, level 1", times, work.share, cluster.n_super, work.processes, labels)


def second_level_phase(work: Workload) -> Phase:
    """The images of each super-cluster into sub-clusters, by a team of its own; super-clusters of equal size."""
    cluster, w, n = work.config.cluster, work.processes, work.n_images
    members = -(-n // cluster.n_super)
    team = max(1, w // cluster.n_super)
    own = -(-cluster.n_super // w) * members if w < cluster.n_super else -(-members // team)
    k = min(cluster.n_sub, members)
    rounds = -(-cluster.n_super // w) if w < cluster.n_super else 1
    labels = reduced_bytes(LONG * n, w)
    return _lloyd_phase(work, "k-means, level 2", work.clusterings, own, k, team, labels, rounds)


def training_phase(work: Workload) -> Phase:
    """All epochs: forward, back, gradients averaged, update."""
    machine, network, heads, batch = work.hardware, work.network, work.heads, work.local_batch
    trunk_bytes = FLOAT * (network.parameters + heads.super_parameters)
    head_bytes = FLOAT * work.held_heads * heads.sub_parameters
    sharers = max(1, work.processes // heads.n_super_classes) if work.is_sharded else work.processes
    trunk_sent, head_sent = reduced_bytes(trunk_bytes, work.processes), reduced_bytes(head_bytes, sharers)
    parts, beside = input_seconds(work, batch, work.n_images)
    parts |= {
        **step_seconds(work, batch),
        "update": FUSED_PASSES * FLOAT * work.own_weights / machine.memory_rate,
        "traffic": trunk_sent / machine.rate_between(work.processes) + head_sent / machine.rate_between(sharers),
    }
    steps = work.steps * work.config.train.epochs
    parts, beside = ({what: steps * seconds for what, seconds in each.items()} for each in (parts, beside))
    saves = max(work.config.train.epochs + work.clusterings, sum(parts.values()) / SAVE_EVERY)
    parts["checkpoints"] = saves * own_checkpoint_bytes(work) / machine.disk_rate
    copies = HEAD_COPIES * head_bytes if work.processes > 1 else 0
    activations = network.kept_bytes + BACKWARD_MAPS * network.largest_map_bytes + 2 * image_bytes(work)
    logits = 3 * FLOAT * (heads.n_sub_classes + heads.n_super_classes)
    way_back = work.part * (activations + logits) + copied_bytes(work, work.own_weights)
    return Phase(
        name="training",
        times=1,
        parts=parts,
        beside=beside,
        device_bytes=resident_bytes(work) + max(way_back, copies),  # heads' gradients are averaged when maps are gone
        ram_bytes=ram_bytes(work, 2.0 * batch * image_bytes(work)),
        disk_bytes=checkpoint_bytes(work) * 2,  # the one before stays until the next one is whole
        sent_bytes=steps * (trunk_sent + head_sent),
    )


def evaluation_phase(work: Workload) -> Phase:
    """Linear classifiers on the 13 layers of the finished network, on one set of labelled images, by one process."""
    machine, network, probe = work.hardware, network_size(work.config.model), work.probe  # in float32
    n, pooled = work.labelled_images, sum(pooled_sizes(work))
    passes = (probe.epochs if probe.augment else 1) * n + work.test_images
    steps = probe.epochs * -(-n // probe.batch_size)
    parts, beside = input_seconds(work, passes, n)
    parts |= {
        "network": forward_seconds(work, passes, "float32"),
        "classifiers": 6.0 * pooled * work.n_classes * probe.epochs * n / machine.linear_flops
        + steps * UPDATE_PASSES * FLOAT * pooled * work.n_classes / machine.memory_rate,
        "overhead": steps * machine.overhead,
    }
    batch = min(n, max(FEATURE_BATCH, probe.batch_size if probe.augment else 0))
    classifiers = 4 * FLOAT * pooled * work.n_classes  # weights, momentum, gradients, and those with decay
    kept = 0 if probe.augment else FLOAT * n * pooled
    return Phase(
        name="evaluation",
        times=1 if n else 0,
        parts=parts,
        beside=beside,
        device_bytes=FLOAT * network.parameters
        + classifiers
        + kept
        + batch * (2 * network.largest_map_bytes + FLOAT * pooled + image_bytes(work)),
        ram_bytes=machine.base_bytes + work.decoded_bytes(n) + work.decoded_bytes(work.test_images),
        disk_bytes=checkpoint_bytes(work),
    )


def _lloyd_phase(
    work: Workload, name: str, times: int, own: int, k: int, team: int, labels_sent: float, rounds: int = 1
) -> Phase:
    """k-means of ``own`` points by this process, one of a team; repairs of empty clusters are left out."""
    machine, dim, n_iter = work.hardware, work.pca_dim, work.config.cluster.n_iter
    passes = n_iter + 1  # E steps, and M steps too
    own_read = (1 + 2 * passes) * own * dim * BYTES[work.config.cluster.precision]
    sums = reduced_bytes(DOUBLE * k * dim, team) * passes * rounds
    parts = {
        "nearest centroids": 2.0 * passes * own * k * dim / machine.linear_flops,
        "means": passes * own * dim * (2 * FLOAT + 3 * DOUBLE) / machine.memory_rate,
        "disk": own_read / machine.disk_rate,
        "traffic": sums / machine.rate_between(team) + labels_sent / machine.rate_between(work.processes),
    }
    block = CUDA_BLOCK_ELEMENTS if machine.is_gpu else BLOCK_ELEMENTS
    return Phase(
        name=name,
        times=times,
        parts=parts,
        # sums and means in float64, centroids before, after and at the start
        device_bytes=resident_bytes(work)
        + k * dim * (2 * DOUBLE + 3 * FLOAT)
        + (3 * FLOAT + DOUBLE) * min(block, own * dim),
        ram_bytes=ram_bytes(work, 2 * FLOAT * min(block, own * dim)),
        disk_bytes=checkpoint_bytes(work) + stored_bytes(work, work.config.model.feature_dim) + stored_bytes(work, dim),
        sent_bytes=sums + labels_sent,
        read_bytes=float(own_read) * work.processes,
    )


def step_seconds(work: Workload, batch: int) -> dict[str, float]:
    """The network forward and back, by what its time goes to; as one where such a step was measured itself."""
    machine, network, heads, train = work.hardware, work.network, work.heads, work.config.train
    conv_flops, linear_flops = machine.product_rates(work.precision)
    measured = Pass(model=work.config.model, batch=work.part, precision=train.precision, trains=True)
    if taken := machine.passes.get(measured.name):
        products = 3 * heads.flops * batch / linear_flops
        return {"network": batch / work.part * taken, "heads": products, "overhead": machine.overhead}
    return {
        "convolutions": (network.training_flops - 3 * network.linear_flops) * batch / conv_flops,
        "fully connected layers and heads": 3 * (network.linear_flops + heads.flops) * batch / linear_flops,
        "element-wise layers": TRAINING_MAP_PASSES * network.maps_bytes * batch / machine.memory_rate,
        "overhead": train.accumulate * machine.overhead,
    }


def forward_seconds(work: Workload, images: float, precision: str, batch: int = FEATURE_BATCH) -> float:
    """The trunk's pass over images in batches, without gradients."""
    one = Pass(model=work.config.model, batch=batch, precision=precision, trains=False)
    return images / batch * one.seconds(work.hardware)


def input_seconds(work: Workload, images: float, of: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds until images of a set of ``of`` are there: in the process, and beside it by those that decode for it."""
    machine = work.hardware
    if work.decoded_bytes(of):
        return {"cropping": images * work.config.model.image_size**2 / machine.crop_rate}, {}
    if not work.data.workers:
        return {"decoding": images / machine.decode_rate}, {}
    return {}, {"decoding": images / machine.decode_rate / work.data.workers}
