"""The numbers that the supplement published, as data: every cell of its tables.

Caron, Bojanowski, Mairal and Joulin, "Unsupervised Pre-Training of Image Features on Non-Curated Data",
arXiv:1905.01278, supplementary material. A number that stands here was read from a table there; nothing here
was measured by us. Hyper-parameters (section 5) are in :data:`dclib.config.RECIPES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dclib.methods import OUTLINES

Half = Literal["objects", "scenes"]
HALVES: tuple[Half, ...] = ("objects", "scenes")
N_LAYERS = 13  # convolutional layers of VGG-16
LAYERS = tuple(f"conv{i}" for i in range(1, N_LAYERS + 1))

DATASETS: Mapping[Half, str] = {"objects": "ImageNet", "scenes": "Places205"}  # the two halves of Table 1
NAMES = {method: outline.title for method, outline in OUTLINES.items()}  # our names of methods, and the supplement's

Curve = tuple[float, ...]  # one accuracy per layer, conv1 to conv13, %

# fmt: off
TABLE1: Mapping[str, Mapping[str, Curve]] = {
    "ImageNet": {
        "Supervised": (7.8, 12.3, 15.6, 21.4, 24.4, 24.1, 33.4, 41.1, 44.7, 49.6, 61.2, 66.0, 70.2),
        "RotNet": (10.9, 15.7, 17.2, 21.0, 27.0, 26.6, 26.7, 33.5, 35.2, 33.5, 39.6, 38.2, 33.0),
        "DeeperCluster": (7.4, 9.6, 14.9, 16.8, 26.1, 29.2, 34.2, 41.6, 43.4, 45.5, 49.0, 49.2, 45.6),
    },
    "Places205": {
        "Supervised": (10.5, 16.4, 20.7, 24.7, 30.3, 31.3, 35.0, 38.1, 39.5, 40.8, 45.4, 45.3, 45.9),
        "RotNet": (13.9, 19.1, 22.5, 24.8, 29.9, 30.8, 32.5, 35.3, 36.0, 36.1, 38.8, 37.9, 35.5),
        "DeeperCluster": (12.7, 14.8, 21.2, 23.3, 30.5, 32.6, 34.8, 39.5, 40.8, 41.6, 44.0, 44.0, 42.1),
    },
}  # top-1 accuracy of a linear classifier on each frozen layer of VGG-16, %
# fmt: on

TABLE2_COLUMNS = ("PyTorch doc hyperparam", "Our hyperparam")
TABLE2: Mapping[str, tuple[float | None, ...]] = {
    "Supervised (PyTorch documentation)": (73.4, None),
    "Supervised (our code)": (73.3, 74.1),
    "Supervised + RotNet pre-training": (73.7, 74.5),
    "Supervised + DeeperCluster pre-training": (74.3, 74.9),
}  # top-1 accuracy on ImageNet's validation set after fine-tuning, %
TABLE2_METHODS: Mapping[str, str] = {
    "Supervised (our code)": "random",
    "Supervised + RotNet pre-training": "rotnet",
    "Supervised + DeeperCluster pre-training": "deepercluster",
}  # what each row starts from, by our names; from scratch is from a random network
TABLE2_RECIPES = ("pytorch_doc", "ours")  # our names of its columns

TABLE3_COLUMNS = ("Oxford5K", "Paris6K")
TABLE3: Mapping[tuple[str, str], tuple[float, float]] = {
    ("ImageNet labels", "ImageNet"): (72.4, 81.5),
    ("Random", "-"): (6.9, 22.0),
    ("Doersch et al.", "ImageNet"): (35.4, 53.1),
    ("Wang et al.", "Youtube 9M"): (42.3, 58.0),
    ("RotNet", "ImageNet"): (48.2, 61.1),
    ("DeepCluster", "ImageNet"): (61.1, 74.9),
    ("RotNet", "YFCC100M"): (46.5, 59.2),
    ("DeepCluster", "YFCC100M"): (57.2, 74.6),
    ("DeeperCluster", "YFCC100M"): (55.8, 73.4),
}  # (method, pre-training images) -> mean average precision of instance retrieval, %
TABLE3_METHODS: Mapping[tuple[str, str], str] = {
    ("ImageNet labels", "ImageNet"): "supervised",
    ("Random", "-"): "random",
    ("Doersch et al.", "ImageNet"): "context",
    ("Wang et al.", "Youtube 9M"): "transitive",
    ("RotNet", "ImageNet"): "rotnet_curated",
    ("DeepCluster", "ImageNet"): "deepcluster_curated",
    ("RotNet", "YFCC100M"): "rotnet",
    ("DeepCluster", "YFCC100M"): "deepcluster",
    ("DeeperCluster", "YFCC100M"): "deepercluster",
}  # our names of its rows

TABLE4_COLUMNS = ("RGB", "Sobel")
TABLE4: Mapping[tuple[str, str], tuple[float, float]] = {
    ("RotNet", "YFCC 1M"): (69.8, 70.4),
    ("DeeperCluster", "YFCC 20M"): (71.6, 76.1),
}  # (method, pre-training images) -> validation mAP on Pascal VOC classification, FC68, %
TABLE4_METHODS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("RotNet", "YFCC 1M"): ("rotnet_rgb", "rotnet"),
    ("DeeperCluster", "YFCC 20M"): ("deepercluster_rgb", "deepercluster"),
}  # our names, RGB and Sobel

FIGURE1_COUNTS = {"guenon": (1300, 226), "baseball": (1300, 256_758)}  # images in ImageNet, in YFCC100M


@dataclass(frozen=True, kw_only=True)
class PublishedNumber:
    """One cell of one table."""

    value: float
    unit: str
    table: int
    row: str
    column: str


def table1(dataset: Half) -> dict[str, Curve]:
    """Table 1, one half of it: our name of a method -> 13 accuracies in %, conv1 to conv13."""
    rows = TABLE1[DATASETS[dataset]]
    return {method: rows[name] for method, name in NAMES.items() if name in rows}


def task_of(method: str) -> str:
    """The published method of which this is a variant: ``deepercluster_hierarchy`` -> ``deepercluster``."""
    fitting = [name for name in NAMES if f"{method}_".startswith(f"{name}_")]
    return max(fitting, key=len, default=method)


def published_numbers() -> list[PublishedNumber]:
    """Every number of Tables 1 to 4 with the place it stands in; empty cells are left out."""
    cells: list[tuple[int, str, str, float | None]] = []
    for dataset, rows in TABLE1.items():
        cells += [
            (1, f"{dataset}, {row}", layer, v)
            for row, curve in rows.items()
            for layer, v in zip(LAYERS, curve, strict=True)
        ]
    for row, values in TABLE2.items():
        cells += [(2, row, column, v) for column, v in zip(TABLE2_COLUMNS, values, strict=True)]
    for number, columns, table in ((3, TABLE3_COLUMNS, TABLE3), (4, TABLE4_COLUMNS, TABLE4)):
        for (method, images), pair in table.items():
            cells += [(number, f"{method}, {images}", column, v) for column, v in zip(columns, pair, strict=True)]
    return [
        PublishedNumber(value=v, unit="%", table=number, row=row, column=column)
        for number, row, column, v in cells
        if v is not None
    ]
