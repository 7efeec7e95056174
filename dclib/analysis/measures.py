"""A network and unlabelled images in, measures out: what the verdict of ``analysis/judge`` rests on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dclib.cluster.whitening import l2_normalise
from dclib.data.pixels import Pixels
from dclib.data.transforms import crop_batch, draw_crops
from dclib.models.device import send
from dclib.models.vgg import Trunk
from dclib.randomness import generator
from dclib.train.quality import (
    cluster_views,
    effective_rank,
    found_again,
    is_alive,
    score_of,
    share_explained,
    spectrum,
    steadiness,
)

SAMPLE = 2000  # images that are looked at, drawn at random
VIEWS = 2  # crops of each
CROP_AREA = (0.3, 1.0)  # share of an image that a crop keeps
BATCH = 250  # images in a pass
COARSE = 10  # clusters whose colours are looked at


def measure_network(
    trunk: Trunk, pixels: Pixels, rows: NDArray[np.int64], groups: NDArray[np.int32], drawn: float | None = None
) -> dict[str, float]:
    """What the network's features of some images say of themselves, and the score of one that was only drawn.

    Args:
        rows: (m,) numbers of the images, none of them a copy of another; of :func:`sample`.
        groups: (n,) group of all images that show the same, -1 for one of its own.
        drawn: That score where it is known, of a network of the same form and the same images.

    Returns:
        Measures by name; empty where features are not finite, or the same for every image.
    """
    squares, side = _squares(pixels, rows), pixels.size
    measures = measure(trunk, squares, side)
    if not measures:
        return {}
    if drawn is None:
        other = Trunk(trunk.config, generator(0, "judge")).to(next(trunk.parameters()).device)
        drawn = measure(other, squares, side).get("score", 0.0)
    return {**measures, "drawn": drawn, **_copies_found(trunk, pixels, groups)}


def measure(trunk: Trunk, squares: Tensor, side: int) -> dict[str, float]:
    """What features say of themselves; empty where they are not finite or all the same.

    Args:
        squares: (n, 3, s, s) uint8, whole images.
        side: Of what the network is shown, pixels.
    """
    whole = features_of(trunk, centre(squares, side))
    views = [features_of(trunk, _crops(squares, side, view)) for view in range(VIEWS)]
    if not all(map(is_alive, (whole, *views))):
        return {}
    cropped, starts = steadiness(whole, views)
    clusters = cluster_views(whole, [], min(COARSE, len(whole) // 4), 0)[0]
    colours = centre(squares, side).double().mean(dim=(2, 3)).numpy()
    colour, rank = share_explained(colours, clusters), effective_rank(spectrum(whole))
    return {
        "score": score_of(cropped, colour, rank),
        "cropped": cropped,
        "starts": starts,
        "effective_rank": rank,
        "found_again": found_again(whole, views[0]),
        "largest": float(np.bincount(clusters).max() / len(clusters)),
        "colour": colour,
    }


@torch.no_grad()
def features_of(trunk: Trunk, images: Tensor) -> Tensor:
    """(n, d) float32 on the CPU of images (n, 3, h, w), uint8 or float in [0, 1]; the network's mode is put back."""
    device, training = next(trunk.parameters()).device, trunk.training
    trunk.eval()
    try:
        batches = images.split(BATCH)
        return torch.cat([trunk(send(part, device, torch.channels_last)).float().cpu() for part in batches])
    finally:
        trunk.train(training)


def sample(groups: NDArray[np.int32]) -> NDArray[np.int64]:
    """Numbers of at most ``SAMPLE`` images, ascending: at random, and one of each group of copies."""
    order = np.random.default_rng(0).permutation(len(groups))
    ordered = groups[order]
    firsts = np.zeros(len(groups), dtype=bool)
    firsts[np.unique(ordered, return_index=True)[1]] = True
    return np.sort(order[firsts | (ordered < 0)][:SAMPLE])


def share_of_copies(groups: NDArray[np.int32]) -> float:
    """The share of images that are left out when one of each group is kept."""
    grouped = groups[groups >= 0]
    return (len(grouped) - len(np.unique(grouped))) / len(groups)


def _copies_found(trunk: Trunk, pixels: Pixels, groups: NDArray[np.int32]) -> dict[str, float]:
    """The share of images with copies whose nearest image is one of their group, among at most ``SAMPLE`` of them."""
    rows = np.flatnonzero(groups >= 0)
    rows = rows[np.argsort(groups[rows], kind="stable")][:SAMPLE]  # groups stay together
    if len(rows) < 2:
        return {}
    features = features_of(trunk, centre(_squares(pixels, rows), pixels.size))
    if not is_alive(features):
        return {}
    points = l2_normalise(features - features.mean(dim=0))
    nearest = (points @ points.T).fill_diagonal_(-2).argmax(dim=1).numpy()
    several = np.bincount(groups[rows])[groups[rows]] > 1
    return {"copies_found": float((groups[rows][nearest] == groups[rows])[several].mean())} if several.any() else {}


def _squares(pixels: Pixels, rows: NDArray[np.int64]) -> Tensor:
    """Images whole, (n, 3, resize, resize) uint8."""
    batches = [torch.from_numpy(part) for part in np.split(rows, range(BATCH, len(rows), BATCH))]
    return torch.cat(list(pixels.square_batches(batches, [torch.arange(len(part)) for part in batches])))


def centre(squares: Tensor, side: int) -> Tensor:
    """What is clustered of whole images: (n, 3, side, side) uint8."""
    edge = round((squares.shape[-1] - side) / 2)
    return squares[..., edge : edge + side, edge : edge + side]


def _crops(squares: Tensor, side: int, view: int) -> Tensor:
    """A random crop of each image, mirrored or not: (n, 3, side, side) float in [0, 1]."""
    sides = torch.full((len(squares),), squares.shape[-1])
    crops = draw_crops(sides, sides, CROP_AREA, generator(view, "judge crops"))
    batches = torch.arange(len(squares)).split(BATCH)
    return torch.cat([crop_batch(squares[part], crops.at(part), side) for part in batches])
