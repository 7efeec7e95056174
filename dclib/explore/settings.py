"""What is trained on a folder of photographs in the time there is: nothing that its owner has to choose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dclib.config import (
    AnalysisConfig,
    ChoiceConfig,
    ClusterConfig,
    CountsConfig,
    DataConfig,
    FinetuneConfig,
    LowShotConfig,
    MethodConfig,
    ModelConfig,
    Preset,
    ProbeConfig,
    RetrievalConfig,
    TrainConfig,
    VocConfig,
)
from dclib.explore.look import SIDE
from dclib.planner.hardware import Hardware
from dclib.planner.plan import Plan, make_plan
from dclib.planner.words import duration

LEAST = 200  # different photographs from which there is something to learn
SMALL = 40  # short side in pixels up to which photographs are seen at 32 pixels
PER_CLUSTER, FEWEST, MOST = 300, 8, 1000  # photographs for each cluster that is learned, as in the paper; and bounds
START = 0.4  # share of the time that RotNet gets, from which DeeperCluster starts
CLUSTERINGS = 20  # at most, and no more than take this share of the time:
CLUSTERING = 0.25
EPOCHS = 8  # at least, of each of the two; they show fewer photographs where time is short
MOST_PASSES = 2_000_000  # as many as CIFAR-10 got in the published run: more was not tried
TRIED = 10  # epochs that a plan is scaled from
WORTH_IT = 20_000  # image passes below which nothing is learned, so that it is not begun
ENOUGH = 200_000  # image passes below which a warning is due
BATCH, LR, LATER_LR = 64, 0.025, 0.02


@dataclass(frozen=True)
class Settings:
    """Two pre-trainings, one after the other.

    Attributes:
        start: RotNet, from nothing; None where there is a network to go on from.
        main: DeeperCluster, from there.
        seconds: That both are expected to take.
        passes: Image passes of both.
    """

    start: MethodConfig | None
    main: MethodConfig
    seconds: float
    passes: int

    @property
    def line(self) -> str:
        """What will be trained, in a sentence."""
        model, train = self.main.model, self.main.train
        first = f"RotNet for {self.start.train.epochs} epochs, then " if self.start else "from the network there is, "
        return (
            f"{first}DeeperCluster for {train.epochs}, at {model.image_size} pixels, with "
            f"{self.main.cluster.n_sub} clusters: {self.passes:,} image passes, {duration(self.seconds)}"
        )


def model_for(short_side: float) -> ModelConfig:
    """The network for photographs whose median short side is so many pixels."""
    size = 32 if short_side <= SMALL else 64
    return ModelConfig(image_size=size, width=0.25, hidden_dim=256, feature_dim=256, dropout=0.0)


def kept_side(model: ModelConfig) -> int:
    """Short side that photographs are kept at for training: as in the paper, 256 for an input of 224."""
    return min(SIDE, round(model.image_size * 256 / 224))


def choose(n: int, model: ModelConfig, seconds: float, hardware: Hardware, *, goes_on: bool = False) -> Settings | None:
    """What fits into the time; None where that is too little to learn anything.

    Args:
        n: Different photographs, LEAST or more.
        seconds: For all of the training, clusterings included.
        hardware: This machine, measured.
        goes_on: From a network that was trained before: DeeperCluster alone.
    """
    k = min(MOST, max(FEWEST, round(n / PER_CLUSTER)))
    base = MethodConfig(model=model, cluster=ClusterConfig(n_sub=k, pca_dim=64), train=_train(TRIED, n, LATER_LR))
    main_time = seconds if goes_on else seconds * (1 - START)
    main, main_seconds, main_passes = _fit(base, n, main_time, hardware)
    start, start_seconds, start_passes = None, 0.0, 0
    if not goes_on:
        rotnet = replace(base, method="rotnet", train=_train(TRIED, n, LR))
        start, start_seconds, start_passes = _fit(rotnet, n, seconds * START, hardware)
    passes = main_passes + start_passes
    return Settings(start, main, main_seconds + start_seconds, passes) if passes >= min(WORTH_IT, 10 * n) else None


def _train(epochs: int, shown: int, lr: float) -> TrainConfig:
    return TrainConfig(
        epochs=epochs,
        epoch_images=shown,
        batch_size=BATCH,
        lr=lr,
        weight_decay=1e-4,
        decay_from=0.7,
        crop_area=0.3,
        precision="auto",
    )


def _fit(config: MethodConfig, n: int, seconds: float, hardware: Hardware) -> tuple[MethodConfig, float, int]:
    """The settings with as many epochs and clusterings as fit, the seconds they take and the image passes."""
    phases = {phase.name: phase for phase in _plan(config, n, hardware).phases}
    a_pass = phases.pop("training").total_seconds / TRIED / n
    a_clustering = (
        sum(phase.seconds for name, phase in phases.items() if name != "evaluation") if config.clusters else 0
    )
    clusterings = (
        int(max(2, min(CLUSTERINGS, CLUSTERING * seconds // max(a_clustering, 1e-9)))) if config.clusters else 0
    )
    passes = min(MOST_PASSES, max(0.0, seconds - clusterings * a_clustering) / a_pass)
    epochs = max(EPOCHS, round(passes / n))
    shown = min(n, max(BATCH, int(passes / epochs)))
    epochs = max(EPOCHS, min(epochs, int(passes / shown)))
    every = math.ceil(0.75 * epochs / clusterings) if clusterings else 1
    train = replace(config.train, epochs=epochs, epoch_images=shown)
    cluster = replace(config.cluster, reassign_every=every, reassign_until=0.75)
    fitted = replace(config, train=train, cluster=cluster)
    return fitted, epochs * shown * a_pass + clusterings * a_clustering, epochs * shown


def _plan(config: MethodConfig, n: int, hardware: Hardware) -> Plan:
    return make_plan(as_preset({"network": config}, n), "network", hardware, n_images=n, labelled=(0, 0, 0))


def as_preset(methods: Mapping[str, MethodConfig], n: int) -> Preset:
    """Settings as the planner takes them."""
    return Preset(
        name="explore",
        description="one's own photographs",
        seeds=(0,),
        data=DataConfig(root="photographs", pool_images=n, resize=SIDE),
        probe=ProbeConfig(),
        finetune=FinetuneConfig(),
        voc=VocConfig(),
        retrieval=RetrievalConfig(),
        analysis=AnalysisConfig(),
        choice=ChoiceConfig(),
        low_shot=LowShotConfig(),
        counts=CountsConfig(),
        methods=methods,
    )
