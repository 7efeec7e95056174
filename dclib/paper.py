"""What the supplement published, as data: every number of its tables, and its claims in our own words.

Caron, Bojanowski, Mairal and Joulin, "Unsupervised Pre-Training of Image Features on Non-Curated Data",
arXiv:1905.01278, supplementary material. A number that stands here was read from a table there; nothing here
was measured by us. Hyper-parameters (section 5) are in :data:`dclib.config.RECIPES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Half = Literal["objects", "scenes"]
HALVES: tuple[Half, ...] = ("objects", "scenes")
N_LAYERS = 13  # convolutional layers of VGG-16
LAYERS = tuple(f"conv{i}" for i in range(1, N_LAYERS + 1))

DATASETS: Mapping[Half, str] = {"objects": "ImageNet", "scenes": "Places205"}  # the two halves of Table 1
NAMES = {
    "supervised": "Supervised",
    "rotnet": "RotNet",
    "deepcluster": "DeepCluster",
    "deepercluster": "DeeperCluster",
    "random": "Random",
}  # our names of methods, and the supplement's

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

TABLE4_COLUMNS = ("RGB", "Sobel")
TABLE4: Mapping[tuple[str, str], tuple[float, float]] = {
    ("RotNet", "YFCC 1M"): (69.8, 70.4),
    ("DeeperCluster", "YFCC 20M"): (71.6, 76.1),
}  # (method, pre-training images) -> validation mAP on Pascal VOC classification, FC68, %

FIGURE1_COUNTS = {"guenon": (1300, 226), "baseball": (1300, 256_758)}  # images in ImageNet, in YFCC100M


@dataclass(frozen=True, kw_only=True)
class PublishedNumber:
    """One cell of one table."""

    value: float
    unit: str
    table: int
    row: str
    column: str


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much has to be run before an absolute value may be compared with the paper's."""

    test_images: Mapping[Half, int]  # images the accuracy is measured on
    pretraining_images: int  # images shown to the network before, counted with repetition


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something the paper says, to be looked for in our records. It holds no verdict: those are computed."""

    id: str
    statement: str  # in our own words
    where: str  # where it is published
    kind: Literal["direction", "value"]  # an order or a sign; or a number
    needs: tuple[str, ...]  # names of the records that decide it
    halves: tuple[Half, ...] = ()  # data sets it is made about; () when it is about neither
    published: str = ""  # the paper's numbers, where the tables' own curves do not give them
    scale: Scale | None = None  # for a value: the smallest run that may be compared


def table1(dataset: Half) -> dict[str, Curve]:
    """Table 1, one half of it: our name of a method -> 13 accuracies in %, conv1 to conv13."""
    rows = TABLE1[DATASETS[dataset]]
    return {method: rows[name] for method, name in NAMES.items() if name in rows}


def task_of(method: str) -> str:
    """The published method of which this is a variant: ``deepercluster_hierarchy`` -> ``deepercluster``."""
    base = method.split("_", 1)[0]
    return base if base in NAMES else method


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


def claim(claim_id: str) -> Claim:
    """The claim with this id; ValueError lists the ids there are."""
    for candidate in CLAIMS:
        if candidate.id == claim_id:
            return candidate
    raise ValueError(f"unknown claim {claim_id!r}; there are {', '.join(c.id for c in CLAIMS)}")


def _gains(row: str) -> str:
    """How far a row of Table 2 is above training from scratch, with each recipe."""
    scratch = TABLE2["Supervised (our code)"]
    pairs = zip(TABLE2_COLUMNS, TABLE2[row], scratch, strict=True)
    return ", ".join(f"{column}: {b - a:+.1f} points" for column, b, a in pairs if a is not None and b is not None)


def _retrieval(*rows: tuple[str, str]) -> str:
    """Rows of Table 3 as text."""
    return "; ".join(
        f"{method} ({images}) "
        + ", ".join(f"{v} % {c}" for c, v in zip(TABLE3_COLUMNS, TABLE3[method, images], strict=True))
        for method, images in rows
    )


def _sobel_gain(method: str, images: str) -> str:
    """One row of Table 4 as text."""
    rgb, sobel = TABLE4[method, images]
    return f"RGB {rgb} %, Sobel {sobel} % ({sobel - rgb:+.1f} points)"


_TABLE1 = "Table 1 of the supplement"
_CONTROL = "our control: Table 1 of the supplement has no random network"
_NMI = "cluster-quality figure of the main paper; no number in the supplement"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="supervised-over-deepercluster",
        statement="In the last three layers, a network trained with labels is ahead of DeeperCluster.",
        where=_TABLE1,
        kind="direction",
        needs=("top1",),
        halves=HALVES,
    ),
    Claim(
        id="deepercluster-over-rotnet",
        statement="In the last three layers, DeeperCluster is ahead of RotNet.",
        where=_TABLE1,
        kind="direction",
        needs=("top1",),
        halves=HALVES,
    ),
    Claim(
        id="rotnet-over-random",
        statement="In the last three layers, RotNet is ahead of a network that was never trained.",
        where=_CONTROL,
        kind="direction",
        needs=("top1",),
        halves=HALVES,
    ),
    Claim(
        id="deepercluster-over-random",
        statement="In the last three layers, DeeperCluster is ahead of a network that was never trained.",
        where=_CONTROL,
        kind="direction",
        needs=("top1",),
        halves=HALVES,
    ),
    Claim(
        id="deepcluster-over-random",
        statement="In the last three layers, DeepCluster is ahead of a network that was never trained.",
        where=_CONTROL,
        kind="direction",
        needs=("top1",),
        halves=HALVES,
    ),
    Claim(
        id="rotnet-ahead-early",
        statement="In the first four layers, RotNet is ahead of DeeperCluster.",
        where=_TABLE1,
        kind="direction",
        needs=("top1",),
        halves=HALVES,
    ),
    Claim(
        id="rotnet-peaks-before-deepercluster",
        statement="RotNet's best layer comes earlier than DeeperCluster's.",
        where=_TABLE1,
        kind="direction",
        needs=("top1",),
        halves=("objects",),  # on Places205 the two published best layers tie
    ),
    Claim(
        id="rotnet-falls",
        statement="RotNet's last layer is below its own best layer.",
        where=_TABLE1,
        kind="direction",
        needs=("top1",),
        halves=HALVES,
    ),
    Claim(
        id="deepercluster-peaks-late",
        statement="DeeperCluster's best layer is one of the last three.",
        where=_TABLE1,
        kind="direction",
        needs=("top1",),
        halves=HALVES,
    ),
    Claim(
        id="supervised-peaks-last",
        statement="A network trained with labels is best at its very last layer.",
        where=_TABLE1,
        kind="direction",
        needs=("top1",),
        halves=HALVES,
    ),
    Claim(
        id="deepercluster-conv13",
        statement="A linear classifier on DeeperCluster's last layer reaches the published accuracy.",
        where=_TABLE1,
        kind="value",
        needs=("top1", "loss"),
        halves=HALVES,
        scale=Scale(test_images={"objects": 50_000, "scenes": 20_500}, pretraining_images=95_920_149),
    ),
    Claim(
        id="nmi-rises-deepercluster",
        statement="DeeperCluster's clusters agree with the classes better at the last reassignment than at first.",
        where=_NMI,
        kind="direction",
        needs=("nmi_labels",),
        published="rises; no number in the supplement",
    ),
    Claim(
        id="nmi-rises-deepcluster",
        statement="DeepCluster's clusters agree with the classes better at the last reassignment than at first.",
        where=_NMI,
        kind="direction",
        needs=("nmi_labels",),
        published="rises; no number in the supplement",
    ),
    Claim(
        id="hashtags-have-a-long-tail",
        statement="Hashtags of non-curated photographs have a long tail; ImageNet's classes are balanced.",
        where="section 2 and Figure 1 of the supplement",
        kind="direction",
        needs=("hashtag_images",),
        published="; ".join(f"{tag}: {a:,} in ImageNet, {b:,} in YFCC100M" for tag, (a, b) in FIGURE1_COUNTS.items()),
    ),
    Claim(
        id="finetuning-gains-from-deepercluster",
        statement="Fine-tuning on ImageNet ends higher when it starts from DeeperCluster than from scratch.",
        where="section 3 and Table 2 of the supplement",
        kind="direction",
        needs=("finetuned_top1",),
        published=_gains("Supervised + DeeperCluster pre-training"),
    ),
    Claim(
        id="finetuning-gains-from-rotnet",
        statement="Fine-tuning on ImageNet ends higher when it starts from RotNet than from scratch.",
        where="section 3 and Table 2 of the supplement",
        kind="direction",
        needs=("finetuned_top1",),
        published=_gains("Supervised + RotNet pre-training"),
    ),
    Claim(
        id="retrieval-rotnet-below-deepcluster",
        statement="At finding the same building again, RotNet's features are far behind DeepCluster's.",
        where="section 4.1 and Table 3 of the supplement",
        kind="direction",
        needs=("retrieval_map",),
        published=_retrieval(("RotNet", "YFCC100M"), ("DeepCluster", "YFCC100M")),
    ),
    Claim(
        id="retrieval-deepercluster-below-deepcluster",
        statement="Learning rotations costs DeeperCluster some retrieval accuracy against DeepCluster.",
        where="section 4.1 and Table 3 of the supplement",
        kind="direction",
        needs=("retrieval_map",),
        published=_retrieval(("DeepCluster", "YFCC100M"), ("DeeperCluster", "YFCC100M")),
    ),
    Claim(
        id="rgb-clusters-by-colour",
        statement="Fed with raw colour, DeeperCluster's clusters are about colour more than RotNet's are.",
        where="section 4.2, Figures 2 and 3 of the supplement",
        kind="direction",
        needs=("colour_spread",),
        published="drawn as curves; no number in the text",
    ),
    Claim(
        id="sobel-helps-deepercluster",
        statement="Feeding image gradients instead of colour makes DeeperCluster's features much better.",
        where="section 4.2 and Table 4 of the supplement",
        kind="direction",
        needs=("voc_map",),
        published=_sobel_gain("DeeperCluster", "YFCC 20M"),
    ),
    Claim(
        id="sobel-helps-rotnet",
        statement="Feeding image gradients instead of colour makes RotNet's features slightly better.",
        where="section 4.2 and Table 4 of the supplement",
        kind="direction",
        needs=("voc_map",),
        published=_sobel_gain("RotNet", "YFCC 1M"),
    ),
)
