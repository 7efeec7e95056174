"""One picture of one object: what the pool and the balanced object set are made of.

The rules are measured ones: everything that makes a picture hard is something a random crop washes out (place,
size, clutter, grain), and nothing but the hue is a property of the whole picture. The ground has no sky, no
horizon and no light from above, so that only the object can tell which way is up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from dclib.pocket.colour import GROUND_KINDS, add_noise, ground_field, paint_field, tint, tinter
from dclib.pocket.household import draw_bottle, draw_clock, draw_cup, draw_lamp, draw_umbrella
from dclib.pocket.living import draw_bird, draw_cat, draw_fish, draw_flower, draw_mushroom, draw_tree
from dclib.pocket.sketch import Sketch, between, blob, chance, ellipse, fit, paint, rectangle, turn, upright
from dclib.pocket.tones import GROUND, Tones, draw_tones
from dclib.pocket.vehicles import draw_bicycle, draw_boat, draw_car, draw_house, draw_rocket

DRAWINGS = {
    "house": draw_house,
    "tree": draw_tree,
    "car": draw_car,
    "boat": draw_boat,
    "bird": draw_bird,
    "fish": draw_fish,
    "flower": draw_flower,
    "cat": draw_cat,
    "cup": draw_cup,
    "bicycle": draw_bicycle,
    "mushroom": draw_mushroom,
    "rocket": draw_rocket,
    "lamp": draw_lamp,
    "bottle": draw_bottle,
    "umbrella": draw_umbrella,
    "clock": draw_clock,
}
CLASSES = tuple(DRAWINGS)
CLUTTER_KINDS = ("disc", "triangle", "square", "blob", "ring", "bar")

SUPERSAMPLING = 2
HUE_SPREAD = 0.1  # ground, clutter and object stay this near one hue (turns): colour then tells nothing apart
# a temptation and no more: with half as much again, DeeperCluster on colour learns the hue and hardly anything else
GROUND_SATURATION, OBJECT_SATURATION = 0.17, 0.32
TILT = 12.0  # degrees
STRETCH = 0.12
OBJECT_SIDE = (0.68, 0.96)  # longer side of the object's box, in picture sides
GROUND_AMPLITUDE = 22.0
NOISE = 7.74  # deviation of each channel when the picture is seen at 32 pixels
BRIGHTNESS = (0.9, 1.1)
SCANNED_BED = (226.0, 246.0)  # grey of the paper under a scanned print


@dataclass(frozen=True)
class Style:
    """What a place or a device does to its pictures.

    Attributes:
        grounds: Ground kinds to choose from.
        clutter: Clutter kinds to choose from.
        scanned: The picture lies on a scanner's bed: a pale border, a little askew.
    """

    grounds: tuple[str, ...] = GROUND_KINDS
    clutter: tuple[str, ...] = CLUTTER_KINDS[:4]
    scanned: bool = False


PLAIN = Style()


def draw_object(
    class_name: str, rng: np.random.Generator, size: int = 128, *, style: Style = PLAIN, noise: float = NOISE
) -> Image.Image:
    """A square RGB picture of one object on its ground.

    Args:
        class_name: One of CLASSES.
        rng: Where every choice comes from; the same state gives the same picture.
        size: Pixels a side.
        style: Traces of place and device.
        noise: Deviation of the grain at 32 pixels a side; 0 leaves it out.

    Raises:
        ValueError: no such class.
    """
    if class_name not in DRAWINGS:
        raise ValueError(f"need a class among {', '.join(CLASSES)}; got {class_name!r}")
    hue, gain = between(rng, 0, 1), between(rng, *BRIGHTNESS)
    canvas, level = draw_ground(rng, (size, size), hue, gain, style)
    draw = ImageDraw.Draw(canvas)
    draw_clutter(rng, draw, canvas.size, level, hue, gain, style)
    sketch = place(rng, pose(rng, sketch_object(class_name, rng)), canvas.size)
    object_hue = hue + between(rng, -HUE_SPREAD, HUE_SPREAD) * 0.6
    paint(draw, sketch.parts, tinter(object_hue, HUE_SPREAD * 0.4, OBJECT_SATURATION, gain))
    picture = canvas.reduce(SUPERSAMPLING)
    if noise:
        picture = add_noise(rng, picture, noise)
    return lay_on_scanner(rng, picture) if style.scanned else picture


def sketch_object(class_name: str, rng: np.random.Generator, tones: Tones | None = None) -> Sketch:
    """The upright drawing of one object, in its own units."""
    return DRAWINGS[class_name](rng, tones or draw_tones(rng))


def pose(rng: np.random.Generator, sketch: Sketch) -> Sketch:
    """The drawing mirrored or not, a little stretched and tilted; never upside down."""
    return upright(
        sketch,
        tilt=between(rng, -TILT, TILT),
        stretch=1 + between(rng, -STRETCH, STRETCH),
        mirror=chance(rng, 0.5),
    )


def place(rng: np.random.Generator, sketch: Sketch, canvas: tuple[int, int]) -> Sketch:
    """The drawing at a random size and place, whole in the picture."""
    side = between(rng, *OBJECT_SIDE) * min(canvas)
    left, top, right, bottom = sketch.box
    scale = side / max(right - left, bottom - top)
    half_width, half_height = scale * (right - left) / 2, scale * (bottom - top) / 2
    x = between(rng, half_width, canvas[0] - half_width)
    y = between(rng, half_height, canvas[1] - half_height)
    return fit(sketch, side, x, y)


def draw_ground(
    rng: np.random.Generator, size: tuple[int, int], hue: float, gain: float, style: Style = PLAIN
) -> tuple[Image.Image, float]:
    """An isotropic ground at SUPERSAMPLING times ``size`` (width, height), and its mean grey level."""
    level = between(rng, *GROUND)
    kind = style.grounds[int(rng.integers(len(style.grounds)))]
    texture = ground_field(rng, kind, between(rng, 0.4, 1.0) * GROUND_AMPLITUDE)
    # the texture must not move the mean out of its band
    field = gain * (level + texture - float(texture.mean()))
    ground_hue = hue + between(rng, -HUE_SPREAD, HUE_SPREAD) * 0.6
    large = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
    return paint_field(field, large, lambda grey, _: tint(grey, ground_hue, GROUND_SATURATION)), level


def draw_clutter(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    canvas: tuple[int, int],
    level: float,
    hue: float,
    gain: float,
    style: Style = PLAIN,
) -> None:
    """Scatter 4 to 9 small shapes, at any angle, over the ground."""
    side = min(canvas)
    for _ in range(int(rng.integers(4, 10))):
        grey = gain * float(np.clip(level + between(rng, -45, 30), 135, 225))
        colour = tint(grey, hue + between(rng, -HUE_SPREAD, HUE_SPREAD), GROUND_SATURATION)
        x, y = between(rng, 0, canvas[0]), between(rng, 0, canvas[1])
        kind = style.clutter[int(rng.integers(len(style.clutter)))]
        shape = _clutter_shape(rng, kind, between(rng, 0.03, 0.085) * side)
        shape = turn(shape, between(rng, 0, 360)) + (x, y)
        draw.polygon(shape.ravel().tolist(), fill=colour)


def _clutter_shape(rng: np.random.Generator, kind: str, radius: float) -> np.ndarray:
    if kind == "disc":
        return ellipse(0, 0, radius, radius * between(rng, 0.7, 1.0), n=16)
    if kind == "triangle":
        return ellipse(0, 0, radius * 1.2, n=3)
    if kind == "square":
        return rectangle(-radius, -radius, radius, radius) * (0.9, between(rng, 0.5, 0.9))
    if kind == "blob":
        return blob(rng, 0, 0, radius, wobble=0.15)
    if kind == "ring":
        circle = ellipse(0, 0, radius, n=18)
        return np.concatenate([circle, circle[:1], circle[:1] * 0.55, (circle * 0.55)[::-1]])
    return rectangle(-radius * 1.5, -radius * 0.25, radius * 1.5, radius * 0.25)


def lay_on_scanner(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """The picture as a print on a scanner's pale bed: a border of 5 to 10 % and a degree or two askew."""
    width, height = picture.size
    bed = round(between(rng, *SCANNED_BED))
    margin = between(rng, 0.05, 0.10)
    inner = (round(width * (1 - 2 * margin)), round(height * (1 - 2 * margin)))
    sheet = Image.new("RGB", picture.size, (bed, bed, bed))
    shadow = bed - 34
    offset = ((width - inner[0]) // 2, (height - inner[1]) // 2)
    print_ = Image.new("RGB", (inner[0] + 2, inner[1] + 2), (shadow, shadow, shadow))
    print_.paste(picture.resize(inner, Image.Resampling.BILINEAR), (1, 1))
    sheet.paste(print_, (offset[0] - 1, offset[1] - 1))
    askew = between(rng, -2.5, 2.5)
    return sheet.rotate(askew, Image.Resampling.BILINEAR, fillcolor=(bed, bed, bed))
