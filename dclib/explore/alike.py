"""How alike two small pictures are where one of them lies upon the other.

One is moved and stretched until it fits; then their grey levels, their details and the colours are compared. That the
whole correlates says little: a page of text is white with dark lines, and every sky is lighter at the bottom. Where
the thumbnails keep too little detail to tell, the pictures count as different.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE, CHROMA = 48, 12  # sides of the grey thumbnail and of the two of colour, in points
COARSE, MIDDLE = 12, 24  # sides at which most pairs end
STEPS = {COARSE: 3, MIDDLE: 8, SIDE: 6}  # of the alignment, by the side of the thumbnails
REACH = {COARSE: 1, MIDDLE: 2, SIDE: 3}  # points to each side that the coarse forms are a mean of
ALIKE, DETAIL, OVERLAP, TINT = 0.9, 0.77, 0.55, 20.0  # what the same pictures keep (see Likeness)
ACROSS = 0.66  # detail in either direction: lines of text agree from above to below whatever they say
WORST = 2.0  # of the worst window
WORDS, WORDS_SHARE = 0.15, 12.0  # a caption differs in one place: this much, and so many times more than elsewhere
STRETCH = 1.15  # between width and height
GREY = 2.0  # levels of colour in a grey picture
NOISE = 0.6  # levels of detail that are noise
SHIFT = 0.015  # of a frame: more is a crop
WHOLE = (1.0, 1.0, 0.0, 0.0)  # the frame of a whole picture


@dataclass(frozen=True, eq=False)
class Likeness:
    """How alike the pictures of some pairs are where one lies upon the other, each (m,).

    Attributes:
        correlation: Of grey levels.
        detail: Correlation of what remains without the coarse forms; small where there is little.
        across: The smaller one of the detail's correlations from left to right and from above to below.
        worst: Mean square of the difference of the details in the worst window, in that of the picture's details.
        colour: Root mean square of the difference of the colour planes, in levels; 0 where one picture is grey.
        overlap: Share of the picture that both show, the smaller of the two.
        frame: (m, 4) the second one's width, height and centre, in the frame of the first (see ``align``).
    """

    correlation: Tensor
    detail: Tensor
    across: Tensor
    worst: Tensor
    colour: Tensor
    overlap: Tensor
    frame: Tensor

    def whole(self) -> Tensor:
        """(m,) bool, whether neither picture is a part of the other."""
        off: Tensor = (self.frame - torch.tensor(WHOLE)).abs().amax(1)
        return off <= SHIFT

    def same(self) -> Tensor:
        """(m,) bool, whether the pictures are the same; the same photograph under other words is another picture."""
        alike = (self.correlation >= ALIKE) & (self.detail >= DETAIL) & (self.across >= ACROSS)
        other_words = (self.worst > WORDS) & (self.worst > WORDS_SHARE * 2 * (1 - self.detail))
        stretch = (self.frame[:, 0] / self.frame[:, 1]).log().abs() <= float(np.log(STRETCH))
        shown = stretch & (self.overlap >= OVERLAP) & (self.colour <= TINT)
        return alike & shown & (self.worst <= WORST) & ~other_words


def likeness(first: Tensor, second: Tensor, frame: Tensor) -> Likeness:
    """Lay one picture of each pair upon the other, and compare.

    Args:
        first, second: (m, 3, SIDE, SIDE) grey levels and colours.
        frame: (m, 4) about where they agree, from ``fit``.
    """
    grey, other = first[:, :1], second[:, :1]
    tint, other_tint = (F.avg_pool2d(x[:, 1:], SIDE // CHROMA) for x in (first, second))
    frame = align(grey, other, SIDE, frame)
    laid, inside = lay(grey, frame, SIDE)
    a, b = (x - _around(x, REACH[SIDE]) for x in (blurred(laid), blurred(other)))
    difference = (_unit(a, inside) - _unit(b, inside)) ** 2
    windows = F.avg_pool2d(torch.cat([difference * inside, inside], 1), 6, 3)
    right = _agreement(a.diff(dim=3), b.diff(dim=3), inside[..., 1:])
    down = _agreement(a.diff(dim=2), b.diff(dim=2), inside[:, :, 1:])
    laid_tint, seen = lay(tint, frame, CHROMA)
    colour = _mean(((laid_tint - other_tint) ** 2).mean(1, keepdim=True), seen).sqrt().flatten()
    grey_ones = [((x - 128) ** 2).flatten(1).mean(1).sqrt() <= GREY for x in (tint, other_tint)]
    share = inside.flatten(1).mean(1)
    return Likeness(
        correlation=correlation(blurred(laid), blurred(other), inside),
        detail=_agreement(a, b, inside),
        across=torch.minimum(right, down),
        worst=(windows[:, 0] / windows[:, 1].clamp(min=0.5)).flatten(1).amax(1),
        colour=torch.where(grey_ones[0] ^ grey_ones[1], 0.0, colour),
        overlap=torch.minimum(share, share * frame[:, 0] * frame[:, 1]),
        frame=frame,
    )


def fit(moving: Tensor, fixed: Tensor, side: int, frame: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Align thumbnails of one side only: the (m, 4) frame, and (m,) correlations of grey levels and of details.

    Args:
        moving, fixed: (m, 1, s, s) grey levels.
        side: A divisor of s.
        frame: Where to begin; by default the whole picture.
    """
    frame = align(moving, fixed, side, frame)
    a, b = (blurred(F.avg_pool2d(x, x.shape[-1] // side)) for x in (moving, fixed))
    laid, inside = lay(a, frame, side)
    detail = _agreement(laid - _around(laid, REACH[side]), b - _around(b, REACH[side]), inside)
    return frame, correlation(laid, b, inside), detail


def align(moving: Tensor, fixed: Tensor, side: int, frame: Tensor | None = None) -> Tensor:
    """(m, 4) the part of one picture that lies upon the other: its width, height and centre, of frames from -1 to 1.

    By the inverse compositional method of Baker and Matthews ("Lucas-Kanade 20 years on", IJCV 2004), with a gain and
    an offset of the grey levels among the unknowns.

    Args:
        moving, fixed: (m, 1, s, s) grey levels.
        side: Of the thumbnails that are aligned, a divisor of s.
        frame: Where to begin; by default the whole picture.
    """
    frame = torch.tensor(WHOLE).repeat(len(fixed), 1) if frame is None else frame
    if not len(fixed):
        return frame
    a, b = (blurred(F.avg_pool2d(x, x.shape[-1] // side)) for x in (moving, fixed))
    everything = torch.ones_like(b)
    a, b = (_standardised(x, everything) for x in (a, b))
    down, right = torch.gradient(b, dim=(2, 3), spacing=2 / side)
    place = (torch.arange(side) * 2 + 1) / side - 1
    ways = torch.stack([right * place, down * place[:, None], right, down, b, everything], 1).flatten(2)
    solution = torch.linalg.solve(ways @ ways.mT + 1e-3 * side**2 * torch.eye(6), ways)
    for _ in range(STEPS[side]):
        laid, inside = lay(a, frame, side)
        step = (solution @ ((laid - b) * inside).flatten(1)[:, :, None])[:, :4, 0].clamp(-0.2, 0.2)
        size = frame[:, :2] / (1 + step[:, :2])
        centre = frame[:, 2:] - size * step[:, 2:]
        frame = torch.cat([size.clamp(0.5, 2), centre.clamp(-0.5, 0.5)], 1)
    return frame


def lay(picture: Tensor, frame: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The part of each picture within a frame, (m, c, side, side), and where there is any, (m, 1, side, side)."""
    if not len(frame):
        return picture, picture[:, :1]
    zero = torch.zeros(len(frame))
    theta = torch.stack([frame[:, 0], zero, frame[:, 2], zero, frame[:, 1], frame[:, 3]], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(frame), 1, side, side], align_corners=False)
    inside = (grid.abs().amax(3) <= 1).float()[:, None]
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False), inside


def blurred(x: Tensor) -> Tensor:
    """(m, c, s, s) by a binomial window of 3 points."""
    return F.avg_pool2d(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 2, 1), 2, 1)


def correlation(a: Tensor, b: Tensor, inside: Tensor) -> Tensor:
    """(m,) of the points inside."""
    return _mean(_standardised(a, inside) * _standardised(b, inside), inside).flatten()


def _around(x: Tensor, reach: int) -> Tensor:
    return F.avg_pool2d(F.pad(x, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)


def _mean(x: Tensor, inside: Tensor) -> Tensor:
    """(m, 1, 1, 1) over the points inside."""
    return (x * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)


def _unit(x: Tensor, inside: Tensor) -> Tensor:
    """With a mean square of 1 inside, less where there is little more than noise."""
    return x / (_mean(x**2, inside) + NOISE**2).sqrt()


def _agreement(a: Tensor, b: Tensor, inside: Tensor) -> Tensor:
    """(m,) correlation of details, which have no mean and are uncertain by the noise."""
    return _mean(_unit(a, inside) * _unit(b, inside), inside).flatten()


def _standardised(x: Tensor, inside: Tensor) -> Tensor:
    """With mean 0 and deviation 1 inside, where it deviates by more than half a level."""
    centred = x - _mean(x, inside)
    return centred / _mean(centred**2, inside).sqrt().clamp(min=0.5)
