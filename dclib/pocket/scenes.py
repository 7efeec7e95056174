"""Pictures of places, for the scene probe: composition and texture name the scene, not one object.

Unlike the object pictures these have a horizon, and their own nuisance: grey levels vary widely and are now and
then shuffled, so that no grey gradient stands for a scene; the view is zoomed and tilted; things stand in the way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from dclib.pocket.colour import GROUND_KINDS, add_noise, ground_field, tinter
from dclib.pocket.landscapes import (
    Levels,
    Rng,
    draw_beach,
    draw_desert,
    draw_field,
    draw_forest,
    draw_mountain,
)
from dclib.pocket.pictures import CLASSES, SUPERSAMPLING, pose, sketch_object
from dclib.pocket.settlements import draw_harbour, draw_kitchen, draw_library, draw_street, draw_village
from dclib.pocket.sketch import Points, Sketch, between, chance, fit, paint, turn

SCENE_NOISE = 10.0  # deviation of each channel when the picture is seen at 32 pixels
DAYLIGHT = (200.0, 140.0, 172.0, 110.0, 72.0, 55.0)  # grey levels of the materials, sky or wall first
LEVEL_SPREAD = 38.0
DAYLIGHT_SHARE = 0.8
ZOOM = (1.0, 1.3)
SCENE_TILT = 5.0  # degrees
THINGS_IN_THE_WAY = 2
WEATHER = (4.0, 16.0)  # amplitude of the veil, grey levels


PLACES: dict[str, Callable[[Rng, Sketch, Levels], None]] = {
    "beach": draw_beach,
    "desert": draw_desert,
    "field": draw_field,
    "forest": draw_forest,
    "harbour": draw_harbour,
    "kitchen": draw_kitchen,
    "library": draw_library,
    "mountain": draw_mountain,
    "street": draw_street,
    "village": draw_village,
}
SCENES = tuple(PLACES)


def draw_scene(scene: str, rng: Rng, size: int = 128) -> Image.Image:
    """A square RGB picture of one place.

    Args:
        scene: One of SCENES.
        rng: Where every choice comes from.
        size: Pixels a side.

    Raises:
        ValueError: no such scene.
    """
    if scene not in PLACES:
        raise ValueError(f"need a scene among {', '.join(SCENES)}; got {scene!r}")
    sketch = Sketch()
    PLACES[scene](rng, sketch, draw_levels(rng))
    put_things_in_the_way(rng, sketch)
    side = size * SUPERSAMPLING
    sketch = sketch.map(random_view(rng))
    canvas = Image.new("RGB", (side, side))
    spread = between(rng, 0.05, 0.3)
    colour = tinter(between(rng, 0, 1), spread, between(rng, 0.25, 0.6), between(rng, 0.9, 1.1))
    paint(ImageDraw.Draw(canvas), sketch.parts, colour, side)
    return add_noise(rng, _weather(rng, canvas.reduce(SUPERSAMPLING)), SCENE_NOISE)


def draw_levels(rng: Rng) -> Levels:
    """Grey levels for the six materials of one picture, in the order that the drawings below use them.

    Four pictures of five have a light sky and darker things before it; the others, night pieces and
    negatives, have their levels in any order.
    """
    levels = np.array(DAYLIGHT) + rng.uniform(-LEVEL_SPREAD, LEVEL_SPREAD, len(DAYLIGHT))
    return [float(v) for v in (levels if chance(rng, DAYLIGHT_SHARE) else rng.permutation(levels))]


def random_view(rng: Rng) -> Callable[[Points], Points]:
    """A camera: zoom, shift, a little tilt, mirrored half of the time. Unit square to unit square."""
    zoom, tilt = between(rng, *ZOOM), between(rng, -SCENE_TILT, SCENE_TILT)
    slack = (zoom - 1) / 2 + 0.05
    shift = np.array([between(rng, -slack, slack), between(rng, -slack, slack)])
    across = -1.0 if chance(rng, 0.5) else 1.0
    return lambda points: turn((points - 0.5) * (across * zoom, zoom), tilt) + 0.5 + shift


def put_things_in_the_way(rng: Rng, sketch: Sketch) -> None:
    """Add a few objects of any class in any grey: what a scene holds does not say which scene it is."""
    for _ in range(int(rng.integers(THINGS_IN_THE_WAY + 1))):
        thing = pose(rng, sketch_object(CLASSES[int(rng.integers(len(CLASSES)))], rng))
        shift = between(rng, 0, 120)
        thing = fit(thing, between(rng, 0.12, 0.34), between(rng, 0.05, 0.95), between(rng, 0.3, 1.0))
        sketch.extend(thing.regrey(lambda grey, shift=shift: grey + shift).parts)  # type: ignore[misc]


def _weather(rng: Rng, picture: Image.Image) -> Image.Image:
    """A texture over everything, as of weather or of an old print."""
    kind = GROUND_KINDS[int(rng.integers(len(GROUND_KINDS)))]
    veil = ground_field(rng, kind, between(rng, *WEATHER)) + 128
    grey = Image.fromarray(np.rint(veil).astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)
    return ImageChops.add(picture, Image.merge("RGB", (grey, grey, grey)), offset=-128)
