"""A folded network computes what it computed through Sobel, pixel by pixel."""

from __future__ import annotations

import pytest
import torch

from dclib.config import ModelConfig
from dclib.models.folding import fold_kernel, fold_sobel
from dclib.models.sobel import SOBEL_KERNELS
from dclib.models.vgg import Trunk

ROUNDING = 1e-11  # float64 carries 16 digits, and responses through 13 layers stay below 1e3


def trained_like(*, size: int = 32, width: float = 0.125, grid: int = 226, stem: str = "sobel") -> Trunk:
    """A network in evaluation mode whose biases and batch-norm statistics are not those of a fresh one."""
    config = ModelConfig(image_size=size, width=width, stem=stem, grid=grid, hidden_dim=12, feature_dim=10)
    draws = torch.Generator().manual_seed(1)
    trunk = Trunk(config, draws).double()
    for name, tensor in trunk.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.copy_(torch.randn(tensor.shape, generator=draws) * 0.3)
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=draws) + 0.5)
    return trunk.eval().requires_grad_(False)


def images(size: int) -> torch.Tensor:
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize(("size", "width"), [(32, 0.125), (33, 0.25), (47, 0.05)])
def test_every_layer_agrees_borders_included(size: int, width: float) -> None:
    trunk = trained_like(size=size, width=width)
    folded = fold_sobel(trunk)
    batch = images(size)
    assert folded.config.stem == "folded"
    for one, other in zip(trunk.conv_activations(batch), folded.conv_activations(batch), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(folded(batch), trunk(batch), rtol=0, atol=ROUNDING)


def test_images_that_are_not_square_agree_too() -> None:
    trunk = trained_like()
    batch = torch.rand(2, 3, 40, 61, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for one, other in zip(trunk.conv_activations(batch), fold_sobel(trunk).conv_activations(batch), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=ROUNDING)


def test_on_deepclusters_grid_the_interior_agrees_and_the_outermost_ring_does_not() -> None:
    trunk = trained_like(grid=224)
    batch = images(32)
    with torch.no_grad():
        difference = next(trunk.conv_activations(batch)) - next(fold_sobel(trunk).conv_activations(batch))
    difference = difference.abs().amax((0, 1))
    assert difference.shape == (32, 32)
    assert float(difference[1:-1, 1:-1].max()) < ROUNDING
    ring = torch.cat([difference[0], difference[-1], difference[1:-1, 0], difference[1:-1, -1]])
    assert float(ring.max()) > 0.1  # of responses of about 1


def test_all_25_taps_are_those_of_a_loop_written_out() -> None:
    """Every pair of a tap of Sobel and a tap of the convolution meets at the sum of their places."""
    kernel = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = torch.zeros(4, 3, 5, 5, dtype=torch.float64)
    for c in range(2):
        for i in range(3):
            for j in range(3):
                for u in range(3):
                    for v in range(3):
                        term = kernel[:, c, i, j] * SOBEL_KERNELS[c][u][v] / 3
                        expected[:, :, i + u, j + v] += term[:, None]
    folded = fold_kernel(kernel)
    torch.testing.assert_close(folded, expected, rtol=0, atol=1e-14)
    assert bool((folded != 0).all())


def test_the_given_network_is_left_as_it_was_and_shares_nothing() -> None:
    trunk = trained_like()
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    folded = fold_sobel(trunk)
    for parameter in folded.parameters():
        parameter.data.add_(1.0)
    assert all(bool((before[name] == tensor).all()) for name, tensor in trunk.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_precision_are_kept(training: bool) -> None:
    folded = fold_sobel(trained_like().float().train(training))
    assert folded.training == training
    assert next(folded.parameters()).dtype == torch.float32


@pytest.mark.parametrize("stem", ["rgb", "folded"])
def test_a_network_of_colour_has_nothing_to_fold(stem: str) -> None:
    with pytest.raises(ValueError, match=f"need a network behind a Sobel stem.*'{stem}'"):
        fold_sobel(trained_like(stem=stem))


def test_colour_can_be_learnt_once_folded() -> None:
    """Two images of the same grey are told apart after one channel's taps change, and not before."""
    folded = fold_sobel(trained_like())
    batch = images(32)[:1].repeat(2, 1, 1, 1)
    mean, std = folded.stem.mean[0].double(), folded.stem.std[0].double()
    # channels exchanged after normalising, so that grey is the same
    batch[1] = ((batch[0] - mean) / std).roll(1, dims=0) * std + mean
    same = folded(batch)
    torch.testing.assert_close(same[0], same[1], rtol=0, atol=ROUNDING)
    folded.features[0].weight.data[:, 0] *= 1.5
    different = folded(batch).detach()
    assert float((different[0] - different[1]).abs().max()) > 1e-6
