"""What records say on Table 1: linear probes of the thirteen layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dclib.paper import HALVES, LAYERS, N_LAYERS, Half
from dclib.report.finder import Finder
from dclib.report.margins import Check, Evidence, Values, combine, lead
from dclib.report.series import title_of

# layers in which both halves of the paper's table have the two methods in the same order
EARLY = (1, 2, 3, 4)  # RotNet over DeeperCluster
LATER = tuple(range(6, N_LAYERS + 1))  # DeeperCluster over RotNet
EARLIEST = (1, 2, 3)  # RotNet over labels
LABELS_OVER_ROTNET = tuple(range(7, N_LAYERS + 1))
MIDDLE = (5, 6, 8)  # DeeperCluster over labels
LATE = (11, 12, 13)  # labels over DeeperCluster: the last block of convolutions
ROTNETS_BEST = 11  # in the paper's table: chosen there, and so not by luck here


def last_layer_order(find: Finder) -> Evidence:
    checks = []
    for half in HALVES:
        labels, deeper, rotnet = (find.accuracy(m, half, N_LAYERS) for m in ("supervised", "deepercluster", "rotnet"))
        checks.append(Check(half, "Supervised over DeeperCluster", lead(labels, deeper)))
        checks.append(Check(half, "DeeperCluster over RotNet", lead(deeper, rotnet)))
    return Evidence(tuple(checks))


def early_then_falling(find: Finder) -> Evidence:
    checks = []
    for half in HALVES:
        checks += _layer_checks(find, half, "rotnet", "deepercluster", EARLY)
        best, end = (find.accuracy("rotnet", half, layer) for layer in (ROTNETS_BEST, N_LAYERS))
        checks.append(Check(half, f"RotNet's fall from {LAYERS[ROTNETS_BEST - 1]} to {LAYERS[-1]}", lead(best, end)))
    return Evidence(tuple(checks))


def peak_before_last(find: Finder) -> Evidence:
    def margin(*curve: Any) -> Any:
        # the mean of the two: to take the better one would be to choose by luck
        return (curve[10] + curve[11]) / 2 - np.max([*curve[:10], curve[12]], axis=0)

    return _over_curves(find, "deepercluster", "mean of conv11 and conv12 over every other layer", margin)


def smaller_gap_on_scenes(find: Finder) -> Evidence:
    gaps = [
        lead(find.accuracy("supervised", half, N_LAYERS), find.accuracy("deepercluster", half, N_LAYERS))
        for half in HALVES
    ]
    both = "objects and scenes"
    premises = [Check(both, f"distance to labels on {half}", gap) for half, gap in zip(HALVES, gaps, strict=True)]
    smaller = Check(both, "distance on objects less that on scenes", lead(*gaps))
    return Evidence((smaller,), premises=tuple(premises))


def later_layers(find: Finder) -> Evidence:
    return _in_layers(find, "deepercluster", "rotnet", LATER)


def labels_peak_last(find: Finder) -> Evidence:
    return _over_curves(
        find,
        "supervised",
        f"{LAYERS[-1]} over every other layer",
        lambda *curve: curve[-1] - np.max(curve[:-1], axis=0),
    )


def rotnet_over_labels(find: Finder) -> Evidence:
    return _in_layers(find, "rotnet", "supervised", EARLIEST)


def deeper_over_labels(find: Finder) -> Evidence:
    return _in_layers(find, "deepercluster", "supervised", MIDDLE)


def labels_over_rotnet(find: Finder) -> Evidence:
    return _in_layers(find, "supervised", "rotnet", LABELS_OVER_ROTNET)


def labels_over_deeper(find: Finder) -> Evidence:
    return _in_layers(find, "supervised", "deepercluster", LATE)


def all_over_random(find: Finder) -> Evidence:
    pretrained = ("rotnet", "deepcluster", "deepercluster")
    return Evidence(
        tuple(
            c for half in HALVES for m in pretrained for c in _layer_checks(find, half, m, "random", LATE, named=True)
        )
    )


def _in_layers(find: Finder, better: str, worse: str, layers: Sequence[int]) -> Evidence:
    return Evidence(tuple(c for half in HALVES for c in _layer_checks(find, half, better, worse, layers)))


def _layer_checks(
    find: Finder, half: Half, better: str, worse: str, layers: Sequence[int], *, named: bool = False
) -> list[Check]:
    who = f"{title_of(better)} over {title_of(worse)}, " if named else ""
    return [
        Check(half, f"{who}{LAYERS[i - 1]}", lead(find.accuracy(better, half, i), find.accuracy(worse, half, i)))
        for i in layers
    ]


def _over_curves(find: Finder, method: str, name: str, margin: Callable[..., Any]) -> Evidence:
    """``margin`` of the thirteen accuracies of a method, on both halves."""

    def curve(half: Half) -> list[Values]:
        return [find.accuracy(method, half, i) for i in range(1, N_LAYERS + 1)]

    return Evidence(tuple(Check(half, name, combine(margin, *curve(half))) for half in HALVES))
