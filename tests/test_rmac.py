"""R-MAC: region grids by hand and by an independent reading of the rule, descriptors by a loop written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dclib.cluster.whitening import fit_pca_whitening
from dclib.evaluate.rmac import Region, aggregate, extra_regions, region_vectors, rmac, rmac_regions

FLOAT32 = 1e-6  # descriptors have length one


def per_level(regions: list[Region]) -> list[int]:
    sides = [r.side for r in regions]
    return [sides.count(side) for side in sorted(set(sides), reverse=True)]


def test_a_square_map_has_1_4_and_9_regions() -> None:
    assert per_level(rmac_regions(32, 32, 3)) == [1, 4, 9]


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 48), (6, 8), (24, 32)])
def test_a_map_of_4_to_3_has_2_6_and_12(height: int, width: int) -> None:
    assert per_level(rmac_regions(height, width, 3)) == [2, 6, 12]


def by_the_rule(height: int, width: int, levels: int) -> list[tuple[int, int, int]]:
    """The same grid from the formula of the protocol: centres, floors, half sides."""
    w = min(height, width)
    steps = np.arange(2, 8)
    b = (max(height, width) - w) / (steps - 1)
    nearest = int(np.argmin(np.abs((w**2 - w * b) / w**2 - 0.4)))
    more_down, more_across = (nearest + 1) * (height > width), (nearest + 1) * (width > height)
    found = []
    for level in range(1, levels + 1):
        side = math.floor(2 * w / (level + 1))
        half = math.floor(side / 2 - 1)
        if side == 0:
            continue

        def starts(length: int, more: int, level: int = level, side: int = side, half: int = half) -> list[int]:
            gap = (length - side) / (level + more - 1) if level + more > 1 else 0
            return [math.floor(half + i * gap) - half for i in range(level + more)]

        found += [(y, x, side) for y in starts(height, more_down) for x in starts(width, more_across)]
    return found


@pytest.mark.parametrize(
    ("height", "width"), [(32, 32), (48, 64), (64, 43), (65, 20), (7, 9), (5, 31), (3, 4), (33, 64), (1, 1), (2, 9)]
)
@pytest.mark.parametrize("levels", [1, 3, 5])
def test_the_grid_is_the_protocols(height: int, width: int, levels: int) -> None:
    found = [(r.top, r.left, r.side) for r in rmac_regions(height, width, levels)]
    assert found == by_the_rule(height, width, levels)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (20, 65), (9, 9), (31, 5)])
def test_regions_lie_inside_and_reach_every_border(height: int, width: int) -> None:
    regions = rmac_regions(height, width, 3)
    assert all(r.top >= 0 and r.left >= 0 for r in regions)
    assert max(r.top + r.side for r in regions) == height
    assert max(r.left + r.side for r in regions) == width


def test_turning_the_map_turns_the_grid() -> None:
    turned = {(r.left, r.top, r.side) for r in rmac_regions(30, 47, 3)}
    assert turned == {(r.top, r.left, r.side) for r in rmac_regions(47, 30, 3)}


def test_more_squares_stand_along_a_longer_side() -> None:
    extras = [extra_regions(20, width) for width in (20, 26, 40, 60, 80)]
    assert extras == sorted(extras)
    assert extras[0] == 0
    assert extras[1] == 1


@pytest.mark.parametrize("sizes", [(0, 5, 3), (5, 0, 3), (5, 5, 0)])
def test_an_empty_map_is_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least one pixel and one level"):
        rmac_regions(*sizes)


def a_map(height: int = 9, width: int = 12, channels: int = 5) -> torch.Tensor:
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(0))


def test_the_descriptor_is_that_of_a_loop_written_out() -> None:
    feature_map = a_map()
    total = np.zeros(5)
    for top, left, side in by_the_rule(9, 12, 3):
        region = feature_map[:, top : top + side, left : left + side].numpy().reshape(5, -1).max(axis=1)
        total += region / np.linalg.norm(region)
    expected = total / np.linalg.norm(total)
    np.testing.assert_allclose(rmac(feature_map).numpy(), expected, atol=FLOAT32)


def test_the_descriptor_does_not_depend_on_the_scale_of_responses() -> None:
    torch.testing.assert_close(rmac(7.5 * a_map()), rmac(a_map()), rtol=0, atol=FLOAT32)


def test_a_silent_map_has_a_descriptor_of_zeros_and_no_nan() -> None:
    assert bool((rmac(torch.zeros(4, 6, 8)) == 0).all())


def test_whitened_regions_are_normalised_before_they_are_summed() -> None:
    vectors = torch.cat([region_vectors(a_map(9 + i, 12)) for i in range(4)])
    whitening = fit_pca_whitening(vectors, 5)
    own = region_vectors(a_map()).double().numpy()
    mean, projection = whitening.mean.double().numpy(), whitening.projection.double().numpy()
    white = (own - mean) @ projection
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    expected = white.sum(axis=0) / np.linalg.norm(white.sum(axis=0))
    # whitening stretches by up to 1 / sqrt(1e-5) what float32 knows to 1e-7
    np.testing.assert_allclose(aggregate(region_vectors(a_map()), whitening).numpy(), expected, atol=1e-3)
