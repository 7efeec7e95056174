"""Writes the landmark sets in the layout of Oxford Buildings and Paris: views of a few buildings, and distractors.

``jpg/*.jpg``, and for query k of a landmark four files in ``groundtruth/``: ``<landmark>_<k>_query.txt`` with the
image name and a box in pixels, and ``_good``, ``_ok`` and ``_junk`` with one name per line. As in the real sets
the lists of a landmark's queries are the same and hold the query images. Whether a view is good, ok or junk is
measured: how much of the building is in the frame and not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from dclib.pocket.buildings import draw_building
from dclib.pocket.colour import GROUND_KINDS, add_noise, ground_field, tinter
from dclib.pocket.pictures import SUPERSAMPLING, pose, sketch_object
from dclib.pocket.scenes import SCENES, draw_scene
from dclib.pocket.seeds import jpeg_bytes, stream
from dclib.pocket.sketch import Points, Sketch, between, blob, chance, fit, paint, rectangle, turn

Rng = np.random.Generator
Size = tuple[int, int]

GOOD_SHARE, OK_SHARE = 0.70, 0.25  # of the building in sight; Oxford's own words are "clear" and "more than 25 %"
LEAST_SHARE = 0.03  # less than this is not a view of the building at all
QUERIES = 3
SIZES: tuple[Size, ...] = ((240, 180), (180, 240), (224, 168), (256, 192), (192, 192), (160, 208))
LANDMARK_NOISE = 8.0


@dataclass(frozen=True)
class City:
    """One landmark set.

    Attributes:
        folder: Name of the set's folder.
        landmarks: Invented names of its buildings.
        image_prefix: Before the landmark's name in image names.
        distractor_prefix: Before the number of a picture of no landmark.
        query_prefix: Before the image name in query files (Oxford has ``oxc1_``).
    """

    folder: str
    landmarks: tuple[str, ...]
    image_prefix: str
    distractor_prefix: str
    query_prefix: str


CITIES = (
    City(
        "oxford5k",
        ("button_hall", "thimble_tower", "needle_gate", "cotton_library", "spool_chapel"),
        "",
        "oxford",
        "oxc1_",
    ),
    City("paris6k", ("ribbon", "velvet", "lace", "satin", "tassel"), "paris_", "paris_general", ""),
)


@dataclass(frozen=True)
class View:
    """One picture of a landmark: how much of it is in sight (0 to 1), and its box, clipped to the picture."""

    picture: Image.Image
    share: float
    box: tuple[float, float, float, float]


def plan_landmarks(root: Path, city: City, views: int, distractors: int, seed: int) -> list[Callable[[], None]]:
    """The job that writes one city's set: ``views`` pictures of each landmark, and distractors."""
    return [partial(write_city, root, city, views, distractors, seed)]


def write_city(root: Path, city: City, views: int, distractors: int, seed: int) -> None:
    """Draw the pictures of a city and write its ground truth."""
    (root / "jpg").mkdir(parents=True, exist_ok=True)
    (root / "groundtruth").mkdir(exist_ok=True)
    for landmark in city.landmarks:
        purpose = f"{city.folder}/{landmark}"
        building = draw_building(stream(seed, purpose))
        seen: list[tuple[str, View]] = []
        for i in range(views):
            name = f"{city.image_prefix}{landmark}_{i + 1:06d}"
            view = draw_view(stream(seed, purpose, i + 1), building, intent(i, views))
            (root / "jpg" / f"{name}.jpg").write_bytes(jpeg_bytes(view.picture))
            seen.append((name, view))
        _write_ground_truth(root / "groundtruth", city, landmark, seen)
    for i in range(distractors):
        picture = draw_distractor(stream(seed, f"{city.folder}/distractors", i))
        (root / "jpg" / f"{city.distractor_prefix}_{i + 1:06d}.jpg").write_bytes(jpeg_bytes(picture))


def intent(i: int, views: int) -> str:
    """What view ``i`` is meant to be: half of them good, the rest ok and junk in turn."""
    if i < max(QUERIES, views // 2):
        return "good"
    return "ok" if i % 5 < 3 else "junk"


def _write_ground_truth(folder: Path, city: City, landmark: str, seen: Sequence[tuple[str, View]]) -> None:
    lists: dict[str, list[str]] = {"good": [], "ok": [], "junk": []}
    for name, view in seen:
        lists[grade(view.share)].append(name)
    boxes = {name: view.box for name, view in seen}
    for k, query in enumerate(lists["good"][:QUERIES], start=1):
        corners = " ".join(f"{v:.1f}" for v in boxes[query])
        (folder / f"{landmark}_{k}_query.txt").write_text(f"{city.query_prefix}{query} {corners}\n", encoding="utf-8")
        for kind, names in lists.items():
            text = "".join(f"{name}\n" for name in names)
            (folder / f"{landmark}_{k}_{kind}.txt").write_text(text, encoding="utf-8")


def grade(share: float) -> str:
    """good, ok or junk, from the share of the building in sight."""
    return "good" if share >= GOOD_SHARE else "ok" if share > OK_SHARE else "junk"


def draw_view(rng: Rng, building: Sketch, wanted: str) -> View:
    """A picture of the building whose measured grade is ``wanted`` (good, ok or junk)."""
    samples = inside_points(building)
    size = SIZES[int(rng.integers(len(SIZES)))]
    for _ in range(200):
        camera = random_camera(rng, building, size, wanted)
        hiding = _things_in_front(rng, size, wanted)
        share = visible_share(camera(samples), hiding, size)
        if share >= LEAST_SHARE and grade(share) == wanted:
            break
    else:
        raise AssertionError(f"no {wanted} view of this building in 200 tries; check random_camera")
    seen = building.map(camera)
    left, top, right, bottom = seen.box
    box = (max(0.0, left), max(0.0, top), min(float(size[0]), right), min(float(size[1]), bottom))
    return View(_paint_view(rng, seen, hiding, size), share, box)


def inside_points(building: Sketch, n: int = 40) -> Points:
    """About ``n`` times ``n`` points spread evenly over the building's outline, in its own units (m, 2)."""
    left, top, right, bottom = building.box
    scale = 4 * n / max(right - left, bottom - top)
    mask = Image.new("1", (round((right - left) * scale) + 1, round((bottom - top) * scale) + 1))
    draw = ImageDraw.Draw(mask)
    for part in building.parts:
        draw.polygon(((part.points - (left, top)) * scale).ravel().tolist(), fill=1)
    rows, columns = np.nonzero(np.asarray(mask)[::4, ::4])
    return np.stack([columns * 4 / scale + left, rows * 4 / scale + top], axis=1)


def random_camera(rng: Rng, building: Sketch, size: Size, wanted: str) -> Callable[[Points], Points]:
    """A projective view that takes the building's units to pixels: distance, angle, tilt and aim."""
    left, top, right, bottom = building.box
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    reach = {"good": (0.5, 0.92), "ok": (0.8, 1.9), "junk": (0.4, 3.2)}[wanted]
    scale = between(rng, *reach) * min(size[0] / (right - left), size[1] / (bottom - top))
    stray = {"good": 0.12, "ok": 0.45, "junk": 0.75}[wanted]
    aim = np.array([size[0] * (0.5 + between(rng, -stray, stray)), size[1] * (0.52 + between(rng, -stray, stray))])
    yaw, pitch = between(rng, -0.28, 0.28), between(rng, -0.08, 0.08)
    squeeze, tilt = 1 - abs(yaw) * between(rng, 0.3, 1.0), between(rng, -6, 6)
    mirror_free = np.array([squeeze, 1.0])  # a building is never mirrored

    def camera(points: Points) -> Points:
        flat = (points - middle) * mirror_free
        depth = 1 + flat @ np.array([yaw, pitch])
        return np.asarray(turn(flat / depth[:, None] * scale, tilt) + aim)

    return camera


def _things_in_front(rng: Rng, size: Size, wanted: str) -> Sketch:
    """Trees, cars, lamps and the like between the camera and the building, in pixels."""
    most = {"good": 3, "ok": 6, "junk": 8}[wanted]
    sketch = Sketch()
    for _ in range(int(rng.integers(0, most + 1))):
        kind = ("tree", "tree", "car", "lamp", "bicycle", "umbrella", "bird", "flower")[int(rng.integers(8))]
        reach = (0.12, 0.34) if wanted == "good" else (0.2, 0.8)
        side = between(rng, *reach) * min(size)
        thing = fit(
            pose(rng, sketch_object(kind, rng)), side, between(rng, 0, size[0]), size[1] - side * between(rng, 0.2, 0.6)
        )
        sketch.extend(thing.parts)
    return sketch


def visible_share(points: Points, hiding: Sketch, size: Size) -> float:
    """Share of ``points`` (n, 2), in pixels, that lie in the frame and behind nothing."""
    inside = np.all((points >= 0) & (points < np.array(size)), axis=1)
    mask = Image.new("1", size)
    draw = ImageDraw.Draw(mask)
    for part in hiding.parts:
        draw.polygon(part.points.ravel().tolist(), fill=1)
    x, y = points[inside].astype(int).T
    return float(np.sum(~np.asarray(mask)[y, x])) / len(points)


def _paint_view(rng: Rng, building: Sketch, hiding: Sketch, size: Size) -> Image.Image:
    hue, gain = between(rng, 0, 1), between(rng, 0.8, 1.2)
    horizon = min(max(building.box[3] - 0.04 * size[1], 0.2 * size[1]), 1.1 * size[1])
    canvas = Image.new("RGB", (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    light, saturation = between(rng, -25, 25), between(rng, 0.25, 0.65)
    town = tinter(hue, 0.12, saturation, gain)
    paint(draw, _surroundings(rng, size, horizon).parts, town, SUPERSAMPLING)
    paint(draw, building.regrey(lambda grey: grey + light).parts, town, SUPERSAMPLING)
    lift = between(rng, 0, 45)
    in_front = tinter(hue + between(rng, -0.3, 0.3), 0.1, saturation, gain)
    paint(draw, hiding.regrey(lambda grey: grey + lift).parts, in_front, SUPERSAMPLING)
    return _develop(rng, canvas.reduce(SUPERSAMPLING))


def _surroundings(rng: Rng, size: Size, horizon: float) -> Sketch:
    """Sky, clouds, roofs in the distance and a square, in pixels."""
    sketch, (width, height) = Sketch(), size
    sky, square, town = between(rng, 150, 225), between(rng, 80, 180), between(rng, 90, 190)
    sketch.fill(rectangle(-width, -height, 2 * width, 2 * height), sky, -1)
    for _ in range(int(rng.integers(0, 5))):
        x, y = between(rng, 0, width), between(rng, 0, max(10.0, horizon * 0.7))
        sketch.fill(
            blob(rng, x, y, between(rng, 0.06, 0.2) * width, between(rng, 0.02, 0.06) * height, wobble=0.12),
            sky + 18,
            -1,
        )
    x = -0.1 * width
    while x < 1.1 * width:
        wide, tall = between(rng, 0.08, 0.2) * width, between(rng, 0.08, 0.4) * height
        grey = town + between(rng, -22, 22)
        sketch.fill(rectangle(x, horizon - tall, x + wide, horizon + 2), grey, 0.8)
        if chance(rng, 0.5):
            sketch.fill(
                [(x, horizon - tall), (x + wide / 2, horizon - tall - wide * 0.4), (x + wide, horizon - tall)],
                grey - 25,
                1,
            )
        for row in np.arange(horizon - tall + 6, horizon - 6, 14):
            for column in np.arange(x + 4, x + wide - 6, 11):
                sketch.fill(rectangle(column, row, column + 5, row + 7), grey - 35, -0.5)
        x += wide + between(rng, 0, 0.05) * width
    sketch.fill(rectangle(-width, horizon, 2 * width, 2 * height), square, 0.5)
    for share in np.linspace(0.1, 1, 6) ** 2:
        y = horizon + share * max(8.0, height - horizon)
        sketch.line([(-width, y), (2 * width, y)], 1.2, square - 18, 0.5)
    return sketch


def _develop(rng: Rng, picture: Image.Image) -> Image.Image:
    """Weather, a little blur now and then, and grain."""
    side = max(picture.size)
    veil = ground_field(rng, GROUND_KINDS[int(rng.integers(len(GROUND_KINDS)))], between(rng, 2, 16)) + 128
    grey = Image.fromarray(np.rint(veil).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    grey = grey.crop((0, 0, *picture.size))
    picture = ImageChops.add(picture, Image.merge("RGB", (grey, grey, grey)), offset=-128)
    if chance(rng, 0.25):
        picture = picture.filter(ImageFilter.GaussianBlur(between(rng, 0.4, 1.4)))
    return add_noise(rng, picture, LANDMARK_NOISE, grid=72)


def draw_distractor(rng: Rng) -> Image.Image:
    """A picture of none of the landmarks: mostly some other building, else a scene."""
    if chance(rng, 0.3):
        return draw_scene(SCENES[int(rng.integers(len(SCENES)))], rng, 176)
    size = SIZES[int(rng.integers(len(SIZES)))]
    building = draw_building(rng)
    kind = ("good", "ok")[int(rng.integers(2))]
    return _paint_view(
        rng, building.map(random_camera(rng, building, size, kind)), _things_in_front(rng, size, kind), size
    )
