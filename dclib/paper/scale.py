"""How much stood behind DeeperCluster's published values: what a run needs before its values may be set beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dclib.paper.tables import TABLE2, TABLE3, TABLE4, table1

_YFCC = 95_920_149  # images of YFCC100M, each shown once at least
_NETWORK: Mapping[str, float] = {"pixels": 224, "width": 1}  # section 5; VGG-16 at its full width


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One published value of DeeperCluster with the sizes behind it, and the records of ours that correspond."""

    table: int
    part: str  # which of its values
    images: str  # the set it was measured on
    value: float  # %
    record: str  # our name of the measurement
    keys: Mapping[str, str | int]
    split: str = ""  # that it is published on, where there are several
    sizes: Mapping[str, float] = field(default_factory=dict)  # what -> how many


def _sizes(shown: int, images: int, tested: int, unit: str = "images", **more: float) -> Mapping[str, float]:
    """Images shown in pre-training; images of the evaluation, training and test; images or queries tested."""
    counts = {"images shown": shown, "images of the evaluation": images, f"{unit} tested": tested}
    return {**counts, **_NETWORK, **{name.replace("_", " "): value for name, value in more.items()}}


_IMAGENET, _IMAGENET_TEST = 1_281_167 + 50_000, 50_000
_PLACES, _PLACES_TEST = 2_448_873 + 20_500, 20_500
_CITIES = 5063 + 6392  # Oxford5K, and Paris6K less its 20 corrupted files; 55 queries each
_OXFORD, _PARIS = TABLE3["DeeperCluster", "YFCC100M"]
_FINETUNED = TABLE2["Supervised + DeeperCluster pre-training"][1]
assert _FINETUNED is not None

SCALES: tuple[Scale, ...] = (
    Scale(
        table=1,
        part="probe of conv13, objects",
        images="ImageNet",
        value=table1("objects")["deepercluster"][-1],
        record="top1",
        keys={"dataset": "objects", "layer": 13},
        sizes=_sizes(_YFCC, _IMAGENET, _IMAGENET_TEST, classes=1000, epochs=100, augmentation=1),
    ),
    Scale(
        table=1,
        part="probe of conv13, scenes",
        images="Places205",
        value=table1("scenes")["deepercluster"][-1],
        record="top1",
        keys={"dataset": "scenes", "layer": 13},
        sizes=_sizes(_YFCC, _PLACES, _PLACES_TEST, classes=205, epochs=100, augmentation=1),
    ),
    Scale(
        table=2,
        part="fine-tuning, our hyperparam",
        images="ImageNet",
        value=_FINETUNED,
        record="finetuned_top1",
        keys={"recipe": "ours"},
        sizes=_sizes(_YFCC, _IMAGENET, _IMAGENET_TEST, classes=1000, epochs=100),
    ),
    Scale(
        table=3,
        part="retrieval, Oxford",
        images="Oxford5K",
        value=_OXFORD,
        record="retrieval_map",
        keys={"dataset": "oxford"},
        sizes=_sizes(_YFCC, _CITIES, 55, "queries", pixels_of_the_longer_side=1024, grid_levels=3),
    ),
    Scale(
        table=3,
        part="retrieval, Paris",
        images="Paris6K",
        value=_PARIS,
        record="retrieval_map",
        keys={"dataset": "paris"},
        sizes=_sizes(_YFCC, _CITIES, 55, "queries", pixels_of_the_longer_side=1024, grid_levels=3),
    ),
    Scale(
        table=4,
        part="Pascal VOC, FC68, Sobel",
        images="VOC2007",
        value=TABLE4["DeeperCluster", "YFCC 20M"][1],
        record="voc_map",
        keys={"setting": "fc68"},
        split="val",
        sizes=_sizes(20_000_000, 5011, 2510, classes=20, iterations=150_000, test_crops=10),
    ),
)
