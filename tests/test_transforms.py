"""Crops, flips, turns and resizing against torchvision, Pillow and NumPy."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import CenterCrop, Compose, RandomResizedCrop, Resize

from dclib.data.transforms import (
    Crop,
    Crops,
    crop_batch,
    crop_image,
    crop_quickly,
    draw_crop,
    draw_crops,
    quarter_turn,
    resize_and_centre,
    to_tensor,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_image(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def smooth_image(width: int, height: int) -> Image.Image:
    """Small noise blown up: photographs are smooth, and so is the effect of a shift by a fraction of a pixel."""
    return noise_image(width // 12, height // 12).resize((width, height), Image.Resampling.BICUBIC)


def boxes(*rows: tuple[int, int, int, int, bool]) -> Crops:
    top, left, height, width, flip = zip(*rows, strict=True)
    sizes = (torch.tensor(column, dtype=torch.float64) for column in (top, left, height, width))
    return Crops(*sizes, torch.tensor(flip))


def draw(width: int, height: int, count: int, smallest_area: float = 0.08) -> Crops:
    return draw_crops(torch.full((count,), height), torch.full((count,), width), smallest_area, rng())


def draw_with_torchvision(width: int, height: int, count: int, smallest_area: float) -> np.ndarray:
    """Top, left, height, width (count, 4)."""
    image = torch.zeros(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(image, [smallest_area, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    return np.array(drawn)


# --- where crops fall


@pytest.mark.parametrize(("width", "height", "area"), [(320, 240, 0.08), (200, 200, 0.3), (90, 400, 0.5)])
def test_crops_are_distributed_as_in_torchvision(width, height, area):
    count = 3000
    crops = draw(width, height, count, area)
    ours = torch.stack([crops.top, crops.left, crops.height, crops.width], dim=1).numpy()
    theirs = draw_with_torchvision(width, height, count, area)
    for name, statistic in {
        "area": lambda box: box[:, 2] * box[:, 3],
        "ratio": lambda box: box[:, 3] / box[:, 2],
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
    }.items():
        # two samples of one law fail this once in a thousand seeds; these seeds are fixed
        assert ks_2samp(statistic(ours), statistic(theirs)).pvalue > 1e-3, name


def test_crops_are_whole_pixels_inside_the_image_and_their_ratios_in_range():
    crops = draw(61, 47, 5000)
    for values in (crops.top, crops.left, crops.height, crops.width):
        assert torch.equal(values, values.round())
        assert values.min() >= 0
    assert (crops.top + crops.height).max() == 47  # touches the edge, never passes it
    assert (crops.left + crops.width).max() == 61
    # sides are rounded by up to half a pixel
    assert ((crops.width + 0.5) / (crops.height - 0.5)).min() >= 3 / 4
    assert ((crops.width - 0.5) / (crops.height + 0.5)).max() <= 4 / 3
    assert ((crops.width + 0.5) * (crops.height + 0.5)).min() >= 0.08 * 61 * 47


@pytest.mark.parametrize(("width", "height"), [(10, 1000), (1000, 10), (3, 40)])
def test_an_image_no_crop_fits_gives_torchvisions_central_one(width, height):
    crops = draw(width, height, 20, 1.0)  # the whole area at a ratio in [3/4, 4/3] cannot fit
    expected = draw_with_torchvision(width, height, 1, 1.0)[0]
    for row in torch.stack([crops.top, crops.left, crops.height, crops.width], dim=1).tolist():
        assert row == expected.tolist()


def test_half_of_the_crops_are_mirrored():
    # binomial of 10000: sigma 50
    assert abs(int(draw(50, 50, 10_000).flip.sum()) - 5000) < 250


def test_crops_depend_on_their_generator_alone():
    a, b = draw(50, 40, 9), draw(50, 40, 9)
    assert all(torch.equal(getattr(a, f), getattr(b, f)) for f in ("top", "left", "height", "width", "flip"))
    before = torch.get_rng_state()
    draw(50, 40, 9)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("width", "height", "area"), [(320, 240, 0.08), (500, 375, 0.3), (61, 47, 0.9), (10, 1000, 1.0), (1000, 9, 1.0)]
)
def test_one_crop_is_that_of_a_batch_of_one(width, height, area):
    for seed in range(300):
        one, batch = rng(seed), rng(seed)
        crop = draw_crop(height, width, area, one)
        crops = draw_crops(torch.tensor([height]), torch.tensor([width]), area, batch)
        assert crop == Crop(*(int(getattr(crops, name)) for name in ("top", "left", "height", "width", "flip")))
        assert torch.equal(one.get_state(), batch.get_state())


# --- cutting batches


def pixels_of(*images: Image.Image) -> torch.Tensor:
    return torch.stack([to_tensor(image) for image in images])


def test_a_full_box_is_the_image_itself():
    pixels = pixels_of(noise_image(16, 16))
    cut = crop_batch(pixels, boxes((0, 0, 16, 16, False)), 16)
    # float32 sampling positions are good to 1e-6 of 16 pixels, and neighbours differ by up to 1
    torch.testing.assert_close(cut, pixels.float() / 255, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [8, 16, 20])
def test_mirrored_crops_are_flips_of_plain_ones(size):
    pixels = pixels_of(noise_image(24, 24), noise_image(24, 24))
    plain, mirrored = (crop_batch(pixels, boxes((3, 5, 14, 16, f), (3, 5, 14, 16, f)), size) for f in (False, True))
    torch.testing.assert_close(mirrored, plain.flip(3), rtol=0, atol=2e-5)  # positions, as above


@pytest.mark.parametrize(
    ("box", "size"), [((2, 5, 20, 18, False), 12), ((0, 0, 32, 32, False), 20), ((10, 7, 13, 16, False), 10)]
)
def test_shrinking_crops_equal_torchvision_without_antialias(box, size):
    pixels = pixels_of(noise_image(32, 32))
    top, left, height, width, _ = box
    expected = TF.resized_crop(pixels.float() / 255, top, left, height, width, [size, size], antialias=False)
    torch.testing.assert_close(crop_batch(pixels, boxes(box), size), expected, rtol=0, atol=2e-5)  # positions


def test_growing_crops_equal_torchvision_away_from_the_frame():
    pixels = pixels_of(noise_image(32, 32))
    top, left, height, width = 6, 9, 12, 10
    cut = crop_batch(pixels, boxes((top, left, height, width, False)), 24)
    expected = TF.resized_crop(pixels.float() / 255, top, left, height, width, [24, 24], antialias=False)
    # the frame, half a source pixel wide, mixes in what lies outside the box; torchvision repeats the last pixel
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(cut[inside], expected[inside], rtol=0, atol=2e-5)  # positions


def test_each_image_of_a_batch_is_cut_by_its_own_box():
    pixels = pixels_of(noise_image(20, 20), noise_image(20, 20, seed=1))
    rows = [(0, 0, 12, 9, False), (4, 8, 11, 12, True)]
    together = crop_batch(pixels, boxes(*rows), 10)
    alone = [crop_batch(pixels[i : i + 1], boxes(row), 10)[0] for i, row in enumerate(rows)]
    assert torch.equal(together, torch.stack(alone))
    assert together.dtype == torch.float32
    assert 0 <= together.min() <= together.max() <= 1


@pytest.mark.parametrize("flip", [False, True])
def test_crops_with_pillow_equal_torchvision(flip):
    image = noise_image(40, 30)
    top, left, height, width = 4, 6, 21, 25
    actual = crop_image(image, Crop(top, left, height, width, flip), 16)
    expected = TF.pil_to_tensor(TF.resized_crop(image, top, left, height, width, [16, 16]))
    expected = expected.flip(2) if flip else expected
    assert actual.dtype == torch.uint8
    # one output pixel along the frame reaches for source pixels outside the box, which torchvision has cut away
    assert torch.equal(actual[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("box", "size"),
    [((4, 6, 21, 25), 16), ((0, 0, 30, 40), 16), ((5, 3, 10, 8), 24), ((2, 9, 16, 16), 16), ((0, 1, 1, 2), 4)],
)
def test_quick_crops_equal_torchvisions_of_pillow_images_frame_included(flip, box, size):
    image = noise_image(40, 30)
    actual = crop_quickly(image, Crop(*box, flip), size)
    expected = TF.pil_to_tensor(TF.resized_crop(image, *box, [size, size]))
    difference = (actual.int() - (expected.flip(2) if flip else expected).int()).abs()
    assert (actual.shape, actual.dtype) == ((3, size, size), torch.uint8)
    # both round weights, and to whole levels after each of two passes: one level off where a half is near, on noise
    assert difference.max() <= 1
    assert difference.float().mean() < 0.05


def test_the_two_ways_to_cut_agree_where_nothing_is_shrunk():
    image = smooth_image(48, 48)
    box = (5, 9, 20, 22, True)
    with_pillow = crop_image(image, Crop(*box), 32).float()
    at_once = 255 * crop_batch(pixels_of(image), boxes(box), 32)[0]
    # Pillow rounds to whole grey levels after each of two passes
    assert (with_pillow - at_once).abs().max() <= 1.01


# --- centre views, tensors, turns


@pytest.mark.parametrize(
    "image_size",
    [(500, 375), (375, 500), (640, 427), (427, 640), (500, 333), (256, 256), (100, 80), (64, 47), (31, 1000), (57, 63)],
)
@pytest.mark.parametrize(("resize", "size"), [(256, 224), (37, 32)])
def test_centre_views_equal_torchvisions_bit_for_bit(image_size, resize, size):
    image = noise_image(*image_size)
    expected = Compose([Resize(resize), CenterCrop(size)])(image)
    actual = resize_and_centre(image, resize, size)
    assert actual.size == (size, size)
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))


def test_to_tensor_equals_torchvisions():
    image = noise_image(7, 5)
    assert torch.equal(to_tensor(image), TF.pil_to_tensor(image))
    assert to_tensor(image).is_contiguous()


def test_turns_are_counter_clockwise_and_lossless():
    images = torch.rand(5, 3, 6, 6, generator=rng())
    before = images.clone()
    turns = torch.tensor([0, 1, 2, 3, 1])
    turned = quarter_turn(images, turns)
    for image, turn, actual in zip(images.numpy(), turns.tolist(), turned.numpy(), strict=True):
        # rot90 of rows and columns turns counter-clockwise as an image is seen
        np.testing.assert_array_equal(actual.transpose(1, 2, 0), np.rot90(image.transpose(1, 2, 0), turn))
    assert torch.equal(images, before)


def test_one_turn_brings_the_top_right_corner_to_the_top_left():
    image = torch.zeros(1, 3, 4, 4)
    image[0, :, 0, -1] = 1
    assert quarter_turn(image, torch.tensor([1]))[0, 0].nonzero().tolist() == [[0, 0]]
    pillow = np.asarray(Image.fromarray(image[0, 0].numpy()).transpose(Image.Transpose.ROTATE_90))
    np.testing.assert_array_equal(quarter_turn(image, torch.tensor([1]))[0, 0].numpy(), pillow)


def test_four_turns_are_none():
    images = torch.rand(3, 3, 5, 5, generator=rng())
    turned = images
    for _ in range(4):
        turned = quarter_turn(turned, torch.tensor([1, 1, 1]))
    assert torch.equal(turned, images)
