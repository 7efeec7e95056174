"""What moves in a few frames otherwise than their background, and where a patch is found again. Arrays alone, no files.

Frames are grey, (n, height, width) float32; a place is top, left and side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

FARTHEST = 0.1  # of the shorter side that a camera may shift between two frames
SPARSE = 4  # pixels between those that a first estimate of the shift looks at
FINE = 2  # and between those that decide
COARSE = 5  # of the first estimates that are looked at more closely
GRAIN = 1.0  # pixels: deviation of the blur that lessens grain
SLOW = 0.3  # of a patch's side: deviation of the blur that is taken off, so that light does not count as motion
UNUSUAL = 2.0  # times the usual difference between frames: what a patch must have to be followed
COMPARABLE = 0.6  # times the motion in the first patch of a frame: what another must have, or it holds its edge alone
SEARCHED = 0.3  # of a patch's side: how far around its expected place it is looked for
SCALES = (1.0, 0.94, 1.06)  # of a patch from one frame to the next
SCALE_LIMITS = (0.5, 2.0)  # of its first size
KEEP_SCALE = 0.003  # by how much another scale must correlate better than the same one
FOUND = 0.75  # correlation below which a patch is lost
RENEWED = 0.3  # share of the newest view in the template
MOVED = 0.1  # of its side a patch must move against the background, from the first frame to the last
LEAST_MOVED = 5.0  # pixels, in any case: shifts of the camera are whole pixels, and their errors add up
SET_APART = 0.03  # by how much it correlates better where it was found than where the background went, on average

Frame = NDArray[np.float32]
Shift = tuple[int, int]  # down, right
Place = tuple[int, int, int]  # top, left, side


def lessen_grain(frames: Frame) -> Frame:
    """Frames blurred a little."""
    return np.asarray(ndimage.gaussian_filter(frames, (0, GRAIN, GRAIN), truncate=3.0), dtype=np.float32)


def even_out(smooth: Frame, side: float) -> Frame:
    """Frames without slow light, each with unit deviation, so that differences between them are of things.

    ``smooth`` are frames as :func:`lessen_grain` gives them, ``side`` that of the patches looked for.
    """
    even = smooth - ndimage.gaussian_filter(smooth, (0, SLOW * side, SLOW * side), truncate=3.0)
    return np.asarray(even / np.maximum(even.std(axis=(1, 2), keepdims=True), 1e-3), dtype=np.float32)


def camera_shift(before: Frame, after: Frame) -> Shift:
    """How far the background moves from one frame (height, width) to the next, whole pixels, up to FARTHEST.

    The shift that leaves the smallest median difference: a thing that covers less than half of the picture does not
    count. Every second one is tried on some of the pixels first; of equal ones the least is taken.
    """
    reach = 2 * round(FARTHEST * min(before.shape) / 2)
    beyond = np.pad(after, reach, constant_values=np.inf)
    views = sliding_window_view(beyond, before.shape)[::2, ::2, ::SPARSE, ::SPARSE]
    medians = np.median(np.abs(views - before[::SPARSE, ::SPARSE]).reshape(*views.shape[:2], -1), axis=-1)
    best = np.argsort(medians, axis=None, kind="stable")[:COARSE]
    coarse = [
        (2 * int(i) - reach, 2 * int(j) - reach) for i, j in zip(*np.unravel_index(best, medians.shape), strict=True)
    ]
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    tried = {(0, 0), *((at[0] + down, at[1] + right) for at in coarse for down, right in steps)}
    left = {shift: float(np.median(_difference(before, after, shift)[::FINE, ::FINE])) for shift in tried}
    return min(left, key=lambda shift: (left[shift], abs(shift[0]) + abs(shift[1]), shift))


def _difference(before: Frame, after: Frame, shift: Shift) -> Frame:
    """Absolute differences where two frames overlap once the second is moved back."""
    (top, left), (height, width) = np.maximum(shift, 0), before.shape
    down, right = shift
    there = after[top : height + min(down, 0), left : width + min(right, 0)]
    here = before[top - down : height + min(down, 0) - down, left - right : width + min(right, 0) - right]
    return np.asarray(np.abs(there - here))


def motion(even: Frame, shifts: Sequence[Shift], at: int) -> Frame:
    """(height, width): how much frame ``at`` differs from both its neighbours, once the camera's shift is undone.

    Zero where a neighbour does not reach. ``shifts[i]`` leads from frame i to the next.
    """
    found = []
    for other, (down, right) in ((at + 1, shifts[at] if at < len(shifts) else (0, 0)), (at - 1, _back(shifts, at))):
        if 0 <= other < len(even):
            full = np.zeros_like(even[at])
            top, left = max(-down, 0), max(-right, 0)
            part = _difference(even[at], even[other], (down, right))
            full[top : top + part.shape[0], left : left + part.shape[1]] = part
            found.append(full)
    return np.asarray(np.min(found, axis=0))


def _back(shifts: Sequence[Shift], at: int) -> Shift:
    return (-shifts[at - 1][0], -shifts[at - 1][1]) if at else (0, 0)


def most_moved(energy: Frame, side: int, count: int) -> list[tuple[float, Place]]:
    """At most ``count`` patches with unusual motion, that with most first, no two overlapping: its share, and place."""
    usual = float(np.median(energy))
    weight = ndimage.gaussian_filter(energy, side / 4, mode="constant")
    mean = ndimage.uniform_filter(energy, side, mode="constant")
    half = side // 2
    found: list[tuple[float, Place]] = []
    room = (slice(half, energy.shape[0] - side + half + 1), slice(half, energy.shape[1] - side + half + 1))
    allowed = np.full_like(weight, -1.0)
    allowed[room] = weight[room]
    for _ in range(count):
        row, column = (int(i) for i in np.unravel_index(int(allowed.argmax()), allowed.shape))
        value = float(mean[row, column])
        least = COMPARABLE * found[0][0] if found else max(UNUSUAL * usual, 1e-3)
        if allowed[row, column] <= 0 or value <= least:
            break
        found.append((value, (row - half, column - half, side)))
        allowed[max(0, row - side + 1) : row + side, max(0, column - side + 1) : column + side] = -1.0
    return found


def follow(frames: Frame, shifts: Sequence[Shift], place: Place) -> list[Place] | None:
    """Where a patch of the first of some frames is in each; None where it gets lost, or stays with the background,
    or where that leaves the frame, so that nothing tells the two apart.

    Args:
        frames: (t, height, width), as :func:`lessen_grain` gives them.
        shifts: t - 1 camera shifts between them.
        place: The patch in the first frame, whole in it.
    """
    top, left, first_side = place
    template = frames[0, top : top + first_side, left : left + first_side]
    places, step, apart = [place], np.array(shifts[0], dtype=float), 0.0
    for frame, shift in zip(frames[1:], shifts, strict=True):
        middle = _middle(places[-1])
        score, found = _find(frame, template, places[-1][2], middle + step, first_side)
        background = _score_at(frame, template, middle + shift, places[-1][2])
        if score < FOUND or found is None or background is None:
            return None
        apart += score - background
        step = _middle(found) - middle
        view = frame[found[0] : found[0] + found[2], found[1] : found[1] + found[2]]
        template = (1 - RENEWED) * _even_patch(template) + RENEWED * _even_patch(_resized(view, first_side))
        places.append(found)
    moved = _middle(places[-1]) - _middle(places[0]) - np.sum(shifts, axis=0)
    if np.linalg.norm(moved) < max(MOVED * first_side, LEAST_MOVED) or apart / len(shifts) < SET_APART:
        return None
    return places


def _find(
    frame: Frame, template: Frame, side: int, middle: NDArray[np.float64], first_side: int
) -> tuple[float, Place | None]:
    """The best correlation around ``middle``, at one of SCALES times ``side``, and where it is."""
    best: tuple[float, Place | None] = (-1.0, None)
    for scale in SCALES:
        size = round(side * scale)
        if not SCALE_LIMITS[0] <= size / first_side <= SCALE_LIMITS[1]:
            continue
        reach = round(SEARCHED * size)
        low = np.maximum(np.round(middle - size / 2).astype(int) - reach, 0)
        high = np.minimum(np.round(middle - size / 2).astype(int) + reach + size, frame.shape)
        if np.any(high - low < size):
            continue
        scores = correlation(frame[low[0] : high[0], low[1] : high[1]], _resized(template, size))
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        score = float(scores[row, column]) - (KEEP_SCALE if scale != 1.0 else 0.0)
        if score > best[0]:
            best = score, (int(low[0] + row), int(low[1] + column), size)
    return best


def _score_at(frame: Frame, template: Frame, middle: NDArray[np.float64], side: int) -> float | None:
    """Correlation of the template with the patch around ``middle``; None where that is not whole in the frame."""
    top, left = np.round(middle - side / 2).astype(int)
    view = frame[max(top, 0) : top + side, max(left, 0) : left + side]
    return float(correlation(view, _resized(template, side))[0, 0]) if view.shape == (side, side) else None


def correlation(region: Frame, template: Frame) -> Frame:
    """Normalised cross-correlation of a template (s, s) with every patch of a region (h, w): (h - s + 1, w - s + 1).

    In [-1, 1]; 0 where the patch or the template is even.
    """
    size = template.shape[0]
    pattern = template - template.mean()
    pattern /= max(float(np.linalg.norm(pattern)), 1e-6)
    shape = [fft.next_fast_len(n, real=True) for n in region.shape]
    centred = region - region.mean()
    product = fft.rfft2(centred, shape) * np.conj(fft.rfft2(pattern, shape))
    found = fft.irfft2(product, shape)[: region.shape[0] - size + 1, : region.shape[1] - size + 1]
    sums, squares = (_window_sums(centred.astype(np.float64) ** power, size) for power in (1, 2))
    deviation = np.sqrt(np.maximum(squares - sums**2 / size**2, 0.0))
    even = deviation < 1e-3 * size  # a thousandth of a grey level: nothing but rounding
    return np.asarray(np.where(even, 0.0, found / np.where(even, 1.0, deviation)), dtype=np.float32)


def _window_sums(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    return np.asarray(total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size])


def _resized(patch: Frame, side: int) -> Frame:
    if patch.shape == (side, side):
        return patch
    image = Image.fromarray(np.ascontiguousarray(patch, dtype=np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def _even_patch(patch: Frame) -> Frame:
    """A patch with mean 0 and deviation 1, so that light does not weigh in the template."""
    return np.asarray((patch - patch.mean()) / max(float(patch.std()), 1e-3), dtype=np.float32)


def _middle(place: Place) -> NDArray[np.float64]:
    return np.array(place[:2]) + place[2] / 2
