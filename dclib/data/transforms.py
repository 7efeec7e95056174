"""The paper's image transforms: a centre crop for clustering; a random crop, a flip and a quarter turn for training.

Everything is drawn from generators that are passed in. Batches are float (b, 3, h, w) in [0, 1]; the model itself
normalises colours.

Source: released code, src/data/loader.py, which uses torchvision's transforms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

ASPECT_RATIOS = (3 / 4, 4 / 3)  # width over height of a random crop
LONGEST = 50  # times the short side, above which an image is not resized whole
Area = float | tuple[float, float]  # smallest share of an image that a crop keeps, or smallest and largest
CROP_TRIES = 10  # draws before falling back to the largest central crop


@dataclass(frozen=True)
class Crops:
    """Where a batch is cut: top, left, height, width (b,) in pixels, and which ones are mirrored."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # (b,) bool

    def at(self, places: Tensor) -> Crops:
        """The crops at these positions."""
        return Crops(*(column[places] for column in (self.top, self.left, self.height, self.width, self.flip)))


@dataclass(frozen=True)
class Crop:
    """Where one image is cut, in whole pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def bounds(area: Area) -> tuple[float, float]:
    """Smallest and largest share of an image that a crop keeps."""
    return area if isinstance(area, tuple) else (area, 1.0)


def draw_crop(height: int, width: int, area: Area, generator: torch.Generator) -> Crop:
    """As :func:`draw_crops` for one image, from the same random numbers, and in a fifth of the time."""
    draws = torch.rand(4, CROP_TRIES, generator=generator, dtype=torch.float64).tolist()
    flip = float(torch.rand(1, generator=generator)) < 0.5
    (least, most), (low, high) = bounds(area), map(math.log, ASPECT_RATIOS)
    for area_draw, ratio_draw, top_draw, left_draw in zip(*draws, strict=True):
        kept = height * width * (least + (most - least) * area_draw)
        ratio = math.exp(low + (high - low) * ratio_draw)
        crop_w, crop_h = round(math.sqrt(kept * ratio)), round(math.sqrt(kept / ratio))
        if 1 <= crop_w <= width and 1 <= crop_h <= height:
            top, left = top_draw * (height - crop_h + 1), left_draw * (width - crop_w + 1)
            return Crop(int(top), int(left), crop_h, crop_w, flip)
    crop_h, crop_w = min(height, round(width / ASPECT_RATIOS[0])), min(width, round(height * ASPECT_RATIOS[1]))
    return Crop((height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w, flip)


def draw_crops(heights: Tensor, widths: Tensor, area: Area, generator: torch.Generator) -> Crops:
    """Random resized crops and flips for images of the given sizes (b,), as torchvision draws them.

    The share of the image is uniform within ``area`` (up to 1 where one number is given), the aspect ratio
    log-uniform in [3/4, 4/3]; a box that does not fit is drawn again up to ten times, and then replaced by the
    largest central one within the ratios. Flips have probability one half. Sizes are rounded to whole pixels as
    torchvision does.
    """
    b = len(heights)
    uniform = torch.rand(4, CROP_TRIES, b, generator=generator, dtype=torch.float64)
    h, w = heights.double(), widths.double()
    least, most = bounds(area)
    kept = h * w * (least + (most - least) * uniform[0])
    low, high = math.log(ASPECT_RATIOS[0]), math.log(ASPECT_RATIOS[1])
    ratio = torch.exp(low + (high - low) * uniform[1])
    crop_w, crop_h = (kept * ratio).sqrt().round(), (kept / ratio).sqrt().round()
    fits = (crop_w >= 1) & (crop_w <= w) & (crop_h >= 1) & (crop_h <= h)
    first = fits.to(torch.uint8).argmax(dim=0, keepdim=True)  # first try that fits, 0 if none does

    def pick(values: Tensor) -> Tensor:
        return values.gather(0, first).squeeze(0)

    some = fits.any(dim=0)
    crop_h = torch.where(some, pick(crop_h), torch.minimum(h, (w / ASPECT_RATIOS[0]).round()))
    crop_w = torch.where(some, pick(crop_w), torch.minimum(w, (h * ASPECT_RATIOS[1]).round()))
    top = torch.where(some, (pick(uniform[2]) * (h - crop_h + 1)).floor(), ((h - crop_h) / 2).floor())
    left = torch.where(some, (pick(uniform[3]) * (w - crop_w + 1)).floor(), ((w - crop_w) / 2).floor())
    flip = torch.rand(b, generator=generator) < 0.5
    return Crops(top, left, crop_h, crop_w, flip)


def crop_batch(pixels: Tensor, crops: Crops, size: int) -> Tensor:
    """Cut, mirror and resize a batch at once: (b, 3, h, w) uint8 to (b, 3, size, size) float in [0, 1].

    Bilinear, without the antialiasing that Pillow applies when it shrinks: meant for images kept near the size
    of the crops, where it does not matter.
    """
    _, _, h, w = pixels.shape
    theta = torch.zeros(len(pixels), 2, 3)
    mirror = 1.0 - 2.0 * crops.flip.float()
    theta[:, 0, 0] = (crops.width / w).float() * mirror
    theta[:, 0, 2] = ((2 * crops.left + crops.width) / w - 1).float()
    theta[:, 1, 1] = (crops.height / h).float()
    theta[:, 1, 2] = ((2 * crops.top + crops.height) / h - 1).float()
    grid = F.affine_grid(theta, [len(pixels), 3, size, size], align_corners=False).to(pixels.device)
    return F.grid_sample(pixels.float() / 255, grid, padding_mode="border", align_corners=False).clamp(0, 1)


def crop_image(image: Image.Image, crop: Crop, size: int, scale: int = 1) -> Tensor:
    """Cut, mirror and resize one image with Pillow: (3, size, size) uint8, bilinear with antialiasing.

    ``scale``: how many pixels of the crop one of the image is, where it was decoded at a reduced scale.
    """
    left, top, right, bottom = (side / scale for side in _box(crop))
    cut = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    if crop.flip:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return to_tensor(cut)


def crop_quickly(image: Image.Image, crop: Crop, size: int) -> Tensor:
    """As :func:`crop_image` to a grey level, and in half the time.

    Differs: the box is cut out first, as torchvision does it, where :func:`crop_image` looks a pixel beyond it at the
    frame; and the filter's weights are rounded to 16 bits.
    """
    data = torch.frombuffer(bytearray(image.crop(_box(crop)).tobytes()), dtype=torch.uint8)
    box = data.view(1, crop.height, crop.width, 3).permute(0, 3, 1, 2)
    cut = F.interpolate(box, size=(size, size), mode="bilinear", antialias=True)[0]
    return cut.flip(2) if crop.flip else cut


def _box(crop: Crop) -> tuple[int, int, int, int]:
    """Left, top, right and bottom."""
    return crop.left, crop.top, crop.left + crop.width, crop.top + crop.height


def resize_and_centre(image: Image.Image, resize: int, size: int) -> Image.Image:
    """The clustering pass's view: short side to ``resize`` (bilinear), then the central ``size`` x ``size``."""
    w, h = image.size
    longer = int(resize * max(w, h) / min(w, h))  # cut off, not rounded, as torchvision does
    w, h = (resize, longer) if w <= h else (longer, resize)
    left, top = round((w - size) / 2), round((h - size) / 2)
    if longer > LONGEST * resize:  # whole, a line of one by 60,000 pixels would take gigabytes
        x, y = image.width / w, image.height / h
        box = (left * x, top * y, min((left + size) * x, image.width), min((top + size) * y, image.height))
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return image.resize((w, h), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as (3, h, w) uint8."""
    data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return data.view(image.height, image.width, 3).permute(2, 0, 1).contiguous()


def quarter_turn(images: Tensor, turns: Tensor) -> Tensor:
    """Turn each image of a batch by ``turns`` (b,) quarters counter-clockwise, lossless. Needs h = w.

    Class 1 is 90 degrees counter-clockwise, 2 is 180, 3 is 270 (90 clockwise).
    """
    turned = images.clone()
    for turn in (1, 2, 3):
        chosen = (turns == turn).nonzero().squeeze(1)
        turned[chosen] = torch.rot90(images[chosen], turn, dims=(2, 3))
    return turned
