"""The methods of the supplement: all ask for classes, and differ in what the classes are."""

from __future__ import annotations

from dclib.methods.outline import Outline

_TURNS, _SUPER, _SUB = {"turn": "turns"}, {"super": "super-classes"}, {"sub": "sub-classes"}

OUTLINES = {
    "random": Outline(
        title="Random",
        words="The network is drawn at random and never trained: the floor that others must clear.",
        learns_from="nothing",
    ),
    "rotnet": Outline(
        title="RotNet",
        words="Each image is turned by a random number of quarter turns, and the network says by how many.",
        turns=4,
        asks=_TURNS,
        cite="gidaris2018",
    ),
    "deepcluster": Outline(
        title="DeepCluster",
        words="Features are grouped by k-means; the groups are the classes of the next epochs.",
        clusters=True,
        asks=_SUB,
        cite="caron2018",
    ),
    "deepercluster": Outline(
        title="DeeperCluster",
        words="Features are grouped by k-means, and the network predicts an image's group together with the "
        "quarter turn it was shown in.",
        turns=4,
        clusters=True,
        asks={**_TURNS, **_SUPER, **_SUB},
        cite="caron2019",
    ),
    "supervised": Outline(
        title="Supervised",
        words="The network learns the true classes of labelled images: the reference that needs them.",
        learns_from="objects",
        asks={"train": "classes"},
    ),
    "released": Outline(
        title="Released weights",
        words="The network is read from a file of published weights.",
        learns_from="nothing",
    ),
}
