"""What the supplement claims, in our own words, each with the place and the numbers it is published with.

Nothing here says whether a claim holds: verdicts are computed, from records, in ``report.scorecard``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dclib.paper.tables import (
    FIGURE1_COUNTS,
    LAYERS,
    TABLE2_COLUMNS,
    TABLE3_COLUMNS,
    TABLE4_COLUMNS,
    PublishedNumber,
    published_numbers,
)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something to be looked for in records. It holds no verdict."""

    id: str  # C1 and up are the supplement's; K1 and up are controls that are ours alone
    statement: str  # in our own words
    where: str  # section, table, rows and columns it is published in
    numbers: tuple[PublishedNumber, ...] = ()  # the cells it rests on
    published: str = ""  # what is published where no table gives numbers
    our_rule: str = ""  # how words such as "nearly" were made into something to measure

    @property
    def is_the_papers(self) -> bool:
        """False for the controls."""
        return self.id.startswith("C")


def claim(claim_id: str) -> Claim:
    """The claim with this id; ValueError lists the ids there are."""
    for candidate in CLAIMS:
        if candidate.id == claim_id:
            return candidate
    raise ValueError(f"unknown claim {claim_id!r}; there are {', '.join(c.id for c in CLAIMS)}")


def cells(table: int, rows: Collection[str], columns: Collection[str]) -> tuple[PublishedNumber, ...]:
    """The published numbers of some rows and columns of a table, in its order.

    Raises:
        ValueError: a row or column is not in that table.
    """
    found = [n for n in published_numbers() if n.table == table]
    unknown = sorted((set(rows) - {n.row for n in found}) | (set(columns) - {n.column for n in found}))
    if unknown:
        raise ValueError(f"Table {table} has no {', '.join(unknown)}")
    return tuple(n for n in found if n.row in rows and n.column in columns)


def _both_halves(*methods: str) -> list[str]:
    """Row labels of Table 1."""
    return [f"{dataset}, {method}" for dataset in ("ImageNet", "Places205") for method in methods]


_SCRATCH = "Supervised (our code)"
_ROTNET_START, _DEEPER_START = "Supervised + RotNet pre-training", "Supervised + DeeperCluster pre-training"
_TABLE4_ROWS = ("RotNet, YFCC 1M", "DeeperCluster, YFCC 20M")
_LAST = LAYERS[-1:]
_CURVES = "drawn as curves; the text gives no number"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="C1",
        statement="At the last layer, labels are ahead of DeeperCluster, and DeeperCluster of RotNet.",
        where="Table 1, column conv13",
        numbers=cells(1, _both_halves("Supervised", "RotNet", "DeeperCluster"), _LAST),
    ),
    Claim(
        id="C2",
        statement="RotNet is ahead of DeeperCluster in the early layers, and falls towards the last.",
        where="Table 1, rows RotNet and DeeperCluster, columns conv1 to conv4; row RotNet, columns conv11 and conv13",
        numbers=cells(1, _both_halves("RotNet", "DeeperCluster"), (*LAYERS[:4], LAYERS[10], *_LAST)),
        our_rule="early means conv1 to conv4; it falls from conv11, where it is best in the paper, to conv13",
    ),
    Claim(
        id="C3",
        statement="DeeperCluster is best at conv11 or conv12, just before the last layer.",
        where="Table 1, rows DeeperCluster",
        numbers=cells(1, _both_halves("DeeperCluster"), LAYERS[10:]),
        our_rule="the mean of the two is above every other layer; to take the better one would be to choose by luck",
    ),
    Claim(
        id="C4",
        statement="DeeperCluster's distance to labels is smaller on scenes than on objects.",
        where="Table 1, rows Supervised and DeeperCluster, column conv13",
        numbers=cells(1, _both_halves("Supervised", "DeeperCluster"), _LAST),
        our_rule="presupposed: labels are ahead on both, or there is no distance",
    ),
    Claim(
        id="C5",
        statement="Fine-tuning ends higher from a pre-trained start than from scratch, with either recipe.",
        where="section 3; Table 2",
        numbers=cells(2, (_SCRATCH, _ROTNET_START, _DEEPER_START), TABLE2_COLUMNS),
    ),
    Claim(
        id="C6",
        statement="Fine-tuning ends higher from DeeperCluster than from RotNet.",
        where="Table 2, the last two rows",
        numbers=cells(2, (_ROTNET_START, _DEEPER_START), TABLE2_COLUMNS),
    ),
    Claim(
        id="C7",
        statement="At finding a building again: labels, then DeepCluster, not below it DeeperCluster, then RotNet, "
        "and a random network far behind.",
        where="section 4.1; Table 3, rows on YFCC100M, ImageNet labels and Random",
        numbers=tuple(
            n
            for n in cells(
                3,
                (
                    "ImageNet labels, ImageNet",
                    "Random, -",
                    "RotNet, YFCC100M",
                    "DeepCluster, YFCC100M",
                    "DeeperCluster, YFCC100M",
                ),
                TABLE3_COLUMNS,
            )
        ),
        our_rule="far behind means less than half of RotNet",
    ),
    Claim(
        id="C8",
        statement="Against DeepCluster, DeeperCluster loses more on Oxford than on Paris.",
        where="section 4.1; Table 3, rows DeepCluster on ImageNet and DeeperCluster",
        numbers=cells(3, ("DeepCluster, ImageNet", "DeeperCluster, YFCC100M"), TABLE3_COLUMNS),
        our_rule="DeepCluster is that on curated images: only against it is the loss on Oxford an important one, as "
        "the text says (5.3 against 1.5; on the same photographs it is 1.4 against 1.2); it loses something on Oxford",
    ),
    Claim(
        id="C9",
        statement="Image gradients in place of colour help DeeperCluster, and more than they help RotNet.",
        where="section 4.2; Table 4",
        numbers=cells(4, _TABLE4_ROWS, TABLE4_COLUMNS),
    ),
    Claim(
        id="C10",
        statement="Fed with colour, DeeperCluster's clusters are more uniform in colour than RotNet's are.",
        where="section 4.2; Figure 2",
        published=_CURVES,
        our_rule="the sorted curve lies below at its quartiles and its median; both networks see colour",
    ),
    Claim(
        id="C11",
        statement="Fed with colour, some of DeeperCluster's clusters are nearly of one colour.",
        where="section 4.2; Figure 3",
        published="shown as pictures",
        our_rule="some means three clusters of nine images or more; nearly means a quarter of the whole pool's "
        "spread of colour, or less, and less than the most uniform of random clusters of the same sizes have",
    ),
    Claim(
        id="C12",
        statement="Hashtags of non-curated photographs have a long tail; the labels of a curated set have none.",
        where="section 2; Figure 1",
        published="; ".join(f"{tag}: {a:,} in ImageNet, {b:,} in YFCC100M" for tag, (a, b) in FIGURE1_COUNTS.items()),
        our_rule="a Gini coefficient above 0.5 for hashtags, below 0.25 for labels",
    ),
    Claim(
        id="C13",
        statement="DeeperCluster's clusters agree with hashtags, cameras and places more than chance does.",
        where="cluster figure of the main paper, named in section 6",
        published="shown as pictures",
        our_rule="normalised mutual information above that of the same labels dealt out anew",
    ),
    Claim(
        id="C14",
        statement="DeeperCluster's lead over training from scratch shrinks when both are trained to convergence.",
        where="section 3; Table 2, from the first column to the second",
        numbers=cells(2, (_SCRATCH, _DEEPER_START), TABLE2_COLUMNS),
        our_rule="presupposed: there is a lead before convergence, and training from scratch ends higher by the second "
        "recipe, or that is no more convergence than the first",
    ),
    Claim(
        id="C15",
        statement="The second recipe of fine-tuning ends higher than the first, from every start.",
        where="Table 2, from the first column to the second",
        numbers=cells(2, (_SCRATCH, _ROTNET_START, _DEEPER_START), TABLE2_COLUMNS),
    ),
    Claim(
        id="C16",
        statement="At finding a building again, RotNet is behind DeepCluster in both cities, on curated images as on "
        "others.",
        where="section 4.1; Table 3, rows RotNet and DeepCluster",
        numbers=cells(
            3,
            ("RotNet, ImageNet", "DeepCluster, ImageNet", "RotNet, YFCC100M", "DeepCluster, YFCC100M"),
            TABLE3_COLUMNS,
        ),
    ),
    Claim(
        id="C17",
        statement="Fed with colour, DeeperCluster is ahead of RotNet at classification.",
        where="Table 4, column RGB",
        numbers=cells(4, _TABLE4_ROWS, TABLE4_COLUMNS[:1]),
    ),
    Claim(
        id="C18",
        statement="Fed with image gradients, DeeperCluster is ahead of RotNet at classification.",
        where="Table 4, column Sobel",
        numbers=cells(4, _TABLE4_ROWS, TABLE4_COLUMNS[1:]),
    ),
    Claim(
        id="C19",
        statement="Image gradients in place of colour help RotNet too, slightly.",
        where="section 4.2; Table 4, row RotNet",
        numbers=cells(4, _TABLE4_ROWS[:1], TABLE4_COLUMNS),
        our_rule="slightly is not judged, only the sign",
    ),
    Claim(
        id="C20",
        statement="RotNet's lead over training from scratch stays as it is when both are trained to convergence.",
        where="section 3; Table 2, from the first column to the second",
        numbers=cells(2, (_SCRATCH, _ROTNET_START), TABLE2_COLUMNS),
        our_rule="it changes by less than 0.1 points, half of what is called shrinking; presupposed is what C14 "
        "presupposes",
    ),
    Claim(
        id="C21",
        statement="From a pre-trained start, fine-tuning converges earlier than from scratch.",
        where="section 3",
        published="said; no number",
        our_rule="by the first recipe, the mean accuracy over epochs is a larger share of the last one",
    ),
    Claim(
        id="C22",
        statement="At finding a building again, RotNet and DeepCluster do better when pre-trained on curated images, "
        "and labels do better still.",
        where="Table 3, rows RotNet and DeepCluster on ImageNet and on YFCC100M, row ImageNet labels",
        numbers=cells(
            3,
            (
                "ImageNet labels, ImageNet",
                "RotNet, ImageNet",
                "DeepCluster, ImageNet",
                "RotNet, YFCC100M",
                "DeepCluster, YFCC100M",
            ),
            TABLE3_COLUMNS,
        ),
    ),
    Claim(
        id="C23",
        statement="At finding a building again, each method is ahead of the one before it: context prediction of a "
        "random network, transitive invariance of that, RotNet of both, and DeepCluster of RotNet.",
        where="Table 3, rows Random, Doersch et al. and Wang et al., and RotNet and DeepCluster on YFCC100M",
        numbers=cells(
            3,
            (
                "Random, -",
                "Doersch et al., ImageNet",
                "Wang et al., Youtube 9M",
                "RotNet, YFCC100M",
                "DeepCluster, YFCC100M",
            ),
            TABLE3_COLUMNS,
        ),
    ),
    Claim(
        id="C24",
        statement="From conv6 on, DeeperCluster is ahead of RotNet.",
        where="Table 1, rows RotNet and DeeperCluster, columns conv6 to conv13",
        numbers=cells(1, _both_halves("RotNet", "DeeperCluster"), LAYERS[5:]),
    ),
    Claim(
        id="C25",
        statement="A network trained with labels is best at its very last layer.",
        where="Table 1, rows Supervised",
        numbers=cells(1, _both_halves("Supervised"), LAYERS),
    ),
    Claim(
        id="C26",
        statement="In the first three layers, RotNet is ahead even of labels.",
        where="Table 1, rows Supervised and RotNet, columns conv1 to conv3",
        numbers=cells(1, _both_halves("Supervised", "RotNet"), LAYERS[:3]),
    ),
    Claim(
        id="C27",
        statement="In the middle, at conv5, conv6 and conv8, DeeperCluster is ahead even of labels.",
        where="Table 1, rows Supervised and DeeperCluster, columns conv5, conv6 and conv8",
        numbers=cells(1, _both_halves("Supervised", "DeeperCluster"), (LAYERS[4], LAYERS[5], LAYERS[7])),
        our_rule="layers of the middle in which both data sets of the paper agree",
    ),
    Claim(
        id="C28",
        statement="From conv7 on, labels are ahead of RotNet.",
        where="Table 1, rows Supervised and RotNet, columns conv7 to conv13",
        numbers=cells(1, _both_halves("Supervised", "RotNet"), LAYERS[6:]),
    ),
    Claim(
        id="C29",
        statement="In the last three layers, labels are ahead of DeeperCluster.",
        where="Table 1, rows Supervised and DeeperCluster, columns conv11 to conv13",
        numbers=cells(1, _both_halves("Supervised", "DeeperCluster"), LAYERS[10:]),
    ),
    Claim(
        id="C30",
        statement="Clusters by colour are balanced, and easy for a network to tell.",
        where="section 4.2",
        published="said; no number",
        our_rule="easier and not less balanced than DeeperCluster's clusters on image gradients: more sub-classes told "
        "right in the last epoch, and a largest cluster of no more medians",
    ),
    Claim(
        id="C31",
        statement="At finding a building again, DeeperCluster on non-curated images is ahead of RotNet on curated "
        "ones.",
        where="Table 3, rows RotNet on ImageNet and DeeperCluster",
        numbers=cells(3, ("RotNet, ImageNet", "DeeperCluster, YFCC100M"), TABLE3_COLUMNS),
    ),
    Claim(
        id="K1",
        statement="In the last three layers, RotNet, DeepCluster and DeeperCluster are ahead of a network that was "
        "never trained.",
        where="our control: Table 1 has no random network",
        published="no number in the supplement",
    ),
    Claim(
        id="K2",
        statement="Clusters agree with the classes better at the last clustering than at the first.",
        where="our control: the supplement says nothing of it",
        published="no number in the supplement",
    ),
)
