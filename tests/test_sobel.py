"""The fixed stem: grey image gradients against SciPy, geometry, padding, and nothing that is trained or saved."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from dclib.models.sobel import Stem

MEAN = np.array([0.485, 0.456, 0.406])  # of ImageNet, per channel
STD = np.array([0.229, 0.224, 0.225])


def random_images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_sobel_matches_scipy_borders_included():
    images = random_images(2, 3, 9, 7)
    actual = Stem("sobel")(images).numpy()
    left_minus_right = np.outer([1, 2, 1], [1, 0, -1])
    above_minus_below = np.outer([1, 0, -1], [1, 2, 1])
    for image, (horizontal, vertical) in zip(images.double().numpy(), actual, strict=True):
        grey = ((image - MEAN[:, None, None]) / STD[:, None, None]).sum(axis=0) / 3
        padded = np.pad(grey, 2)  # zero is the mean colour once colours are normalised
        # float32 sums of 8 numbers below 20 against float64: 1e-5 is some 10 units in the last place
        np.testing.assert_allclose(horizontal, correlate2d(padded, left_minus_right, mode="valid"), atol=1e-5)
        np.testing.assert_allclose(vertical, correlate2d(padded, above_minus_below, mode="valid"), atol=1e-5)


@pytest.mark.parametrize(("kind", "channels"), [("sobel", 2), ("rgb", 3)])
def test_both_stems_give_226_pixels_for_224(kind, channels):
    stem = Stem(kind)
    assert stem.out_channels == channels
    assert stem(torch.zeros(1, 3, 224, 224)).shape == (1, channels, 226, 226)


def test_a_constant_image_has_no_gradient_inside():
    image = torch.tensor([0.9, 0.2, 0.4]).view(1, 3, 1, 1).expand(1, 3, 12, 12)
    gradients = Stem("sobel")(image)
    # the six taps of one sign and of the other are the same float32 number, so nothing is rounded
    assert gradients[..., 2:-2, 2:-2].abs().max() == 0
    assert gradients.abs().max() > 0.1  # the frame differs from the mean colour around it


def test_an_image_of_the_mean_colour_has_no_gradient_anywhere():
    image = torch.tensor(MEAN, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 12, 12)
    for kind in ("sobel", "rgb"):
        assert Stem(kind)(image).abs().max() == 0


def test_sobel_is_positive_where_left_and_above_are_brighter():
    bright_left, bright_above = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    bright_left[..., :4] = 1
    bright_above[..., :4, :] = 1
    stem = Stem("sobel")
    step = float((1 / STD).mean())  # one unit of light after normalisation
    horizontal, vertical = stem(bright_left)[0, :, 4, 4]  # output (4, 4) is centred on pixel (3, 3)
    # 4 is the sum of the positive taps; float32 rounding of numbers near 18, here and below
    assert horizontal == pytest.approx(4 * step, rel=1e-6)
    assert vertical == pytest.approx(0, abs=1e-5)
    horizontal, vertical = stem(bright_above)[0, :, 4, 4]
    assert vertical == pytest.approx(4 * step, rel=1e-6)
    assert horizontal == pytest.approx(0, abs=1e-5)


def test_sobel_does_not_see_a_change_of_colour_that_keeps_the_grey():
    image = random_images(1, 3, 10, 10) / 4 + 0.25
    other = image.clone()
    other[:, 0] += 0.1 * float(STD[0])  # up by 0.1 after normalisation in one channel, down in another
    other[:, 2] -= 0.1 * float(STD[2])
    stem = Stem("sobel")
    # equal up to float32 rounding of normalised values below 2, times 8 taps
    torch.testing.assert_close(stem(other), stem(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["sobel", "rgb", "folded"])
def test_levels_in_bytes_are_those_of_their_float_share(kind):
    images = torch.arange(256).repeat(12).view(4, 3, 16, 16)
    stem = Stem(kind)
    assert torch.equal(stem(images.to(torch.uint8)), stem(images.float() / 255))


@pytest.mark.parametrize("kind", ["sobel", "rgb", "folded"])
def test_the_layout_of_images_changes_nothing(kind):
    images = random_images(3, 3, 7, 11)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(Stem(kind)(last), Stem(kind)(images))
    assert torch.equal(last, images)  # and they are as they were


def test_the_rgb_stem_pads_normalised_colour_with_zeros():
    images = random_images(2, 3, 5, 6)
    padded = Stem("rgb")(images)
    assert padded.shape == (2, 3, 7, 8)
    frame = padded.clone()
    frame[..., 1:-1, 1:-1] = 0
    assert frame.abs().max() == 0
    expected = (images.double().numpy() - MEAN[:, None, None]) / STD[:, None, None]
    np.testing.assert_allclose(padded[..., 1:-1, 1:-1].numpy(), expected, atol=1e-6)  # float32 values below 3


@pytest.mark.parametrize("kind", ["sobel", "rgb"])
def test_the_stem_has_nothing_to_train_or_to_save(kind):
    stem = Stem(kind)
    assert list(stem.parameters()) == []
    assert stem.state_dict() == {}
    assert {buffer.dtype for buffer in stem.double().buffers()} == {torch.float64}  # but it follows the model
