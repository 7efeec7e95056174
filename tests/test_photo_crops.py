"""Crops straight from bytes: the boxes of the whole image, at the scale that a crop needs, near the full decode."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dclib.data import photo_crops as module
from dclib.data.decoding import decode_rgb
from dclib.data.photo_crops import crop_photo, reduction
from dclib.data.transforms import Crop, crop_image, crop_quickly, draw_crop
from dclib.randomness import generator

pytestmark = pytest.mark.usefixtures("one_thread")


def encode(image: Image.Image, kind: str = "jpeg", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise of five scales, the finest of single pixels, weaker the finer: as the spectra of photographs fall."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cell, weight in ((128, 60), (32, 30), (8, 15), (2, 6), (1, 3)):
        noise = rng.normal(0, weight, (height // cell + 2, width // cell + 2, 3))
        channels = [Image.fromarray(noise[..., c].astype(np.float32)) for c in range(3)]
        grown = [c.resize((width, height), Image.Resampling.BICUBIC) for c in channels]
        total += np.stack([np.asarray(c) for c in grown], axis=-1)
    return Image.fromarray((128 + total).clip(0, 255).astype(np.uint8))


def drawn(width: int, height: int, seed: int, area: float) -> Crop:
    return draw_crop(height, width, area, generator(seed))


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (375, 500, 224, 1),  # half of the shorter side would be 187
        (448, 448, 224, 2),
        (447, 2000, 224, 1),
        (895, 900, 224, 2),
        (896, 900, 224, 4),
        (5000, 1792, 224, 8),
        (9999, 9999, 224, 8),  # JPEG has no smaller scale
        (100, 100, 224, 1),  # it is enlarged in any case
        (64, 64, 32, 2),
    ],
)
def test_an_image_is_reduced_as_far_as_the_crop_keeps_its_pixels(height, width, size, expected):
    assert reduction(Crop(0, 0, height, width, False), size) == expected


@pytest.mark.parametrize(("width", "height"), [(801, 599), (640, 480), (333, 1001)])
def test_boxes_are_those_of_the_whole_image_and_it_is_decoded_as_small_as_they_allow(width, height, monkeypatch):
    content = encode(photograph(width, height))
    seen: list[tuple[int, ...]] = []

    def watch_slow(image, crop, size, scale):
        seen.append((*image.size, scale))
        boxes.append(crop)
        return crop_image(image, crop, size, scale)

    def watch_quick(image, crop, size):
        seen.append((*image.size, 1))
        boxes.append(crop)
        return crop_quickly(image, crop, size)

    boxes: list[Crop] = []
    monkeypatch.setattr(module, "crop_image", watch_slow)
    monkeypatch.setattr(module, "crop_quickly", watch_quick)
    for seed in range(40):
        crop_photo(content, 0.08, 64, generator(seed))
        whole = drawn(width, height, seed, 0.08)
        assert boxes[-1] == whole
        scale = seen[-1][2]
        assert seen[-1] == (-(-width // scale), -(-height // scale), reduction(whole, 64))
        shorter = min(whole.height, whole.width)
        assert scale == 1 or shorter / scale >= 64
        assert scale == 8 or shorter / (2 * scale) < 64
    assert len({scale for *_, scale in seen}) >= 2  # of 1, 2, 4 and 8


@pytest.mark.parametrize(("size", "scale"), [(96, 2), (48, 4), (24, 8)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_reduced_crops_are_near_those_of_the_whole_image(size, scale, subsampling):
    content = encode(photograph(400, 300), quality=90, subsampling=subsampling)
    means, shifts = [], []
    for seed in range(12):
        crop = drawn(400, 300, seed, 0.6)
        assert reduction(crop, size) == scale  # 0.6 of the area at any ratio is 232 pixels a side, of 192 needed
        actual = crop_photo(content, 0.6, size, generator(seed)).float()
        expected = crop_image(decode_rgb(content), crop, size).float()
        means.append(float((actual - expected).abs().mean()))
        shifts.append(float((actual - expected).mean()))
    # the finest noise, 3 and 6 levels strong, is averaged by other weights: a level or two of it is left over
    assert max(means) < 2.0
    # and nothing gets brighter or darker: with 24 pixels a side, what enters at the frame is a fifth of all
    assert max(map(abs, shifts)) < 0.5


def test_a_crop_that_needs_all_pixels_is_that_of_the_whole_image_bit_for_bit():
    for content in (encode(photograph(200, 150)), encode(photograph(200, 150).convert("L"))):
        for seed in range(6):
            expected = crop_quickly(decode_rgb(content), drawn(200, 150, seed, 0.08), 128)
            assert torch.equal(crop_photo(content, 0.08, 128, generator(seed)), expected)


@pytest.mark.parametrize("kind", ["png", "webp", "bmp"])
def test_nothing_but_jpeg_is_reduced(kind):
    content = encode(photograph(200, 150), kind)
    expected = crop_quickly(decode_rgb(content), drawn(200, 150, 1, 0.08), 16)
    assert torch.equal(crop_photo(content, 0.08, 16, generator(1)), expected)


@pytest.mark.parametrize("size", [16, 128])
def test_damaged_bytes_raise(size):
    content = encode(photograph(200, 150))
    for broken in (b"", b"no image", content[: len(content) // 2]):
        with pytest.raises(OSError, match="truncated|cannot identify"):
            crop_photo(broken, 0.08, size, generator(0))
