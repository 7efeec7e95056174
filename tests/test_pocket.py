"""The pocket world keeps its drawing rules, and writes layouts that plain code reads back."""

import csv
import hashlib
import io
import json
import math
import zipfile
from collections import Counter
from pathlib import Path
from urllib.parse import unquote_plus
from xml.etree import ElementTree

import numpy as np
import PIL
import pytest
from PIL import Image

from dclib.pocket import clip_set, folder_sets, pictures, voc_set, world
from dclib.pocket.colour import GROUND_KINDS, ground_field, tint
from dclib.pocket.landmark_set import CITIES, grade, inside_points, visible_share
from dclib.pocket.people import CELLS, SCANNER, draw_long_tail, plan_photos
from dclib.pocket.pictures import CLASSES, SCANNED_BED, Style, draw_ground, draw_object, pose, sketch_object
from dclib.pocket.pool_set import image_numbers, metadata_columns, photo_bytes
from dclib.pocket.scenes import SCENES, draw_scene
from dclib.pocket.seeds import stream
from dclib.pocket.sketch import Sketch, rectangle, thick, turn
from dclib.pocket.tones import DARK, GROUND, INK, MID
from dclib.pocket.voc_set import Instance, image_label, visible_shares

POOL = 100


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The smallest world, drawn in this process."""
    return world.make_pocket_world(tmp_path_factory.mktemp("world") / "one", pool_images=POOL, seed=3, processes=1)


def hashes(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def metadata(root: Path) -> list[list[str]]:
    with (root / "pool" / "yfcc100m_dataset.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def zip_members(root: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted((root / "pool").glob("*/*.zip")):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            for name in archive.namelist():
                found[f"{path.parent.name}{path.stem}{Path(name).stem}"] = archive.read(name)
    return found


# --- determinism and the folder as a whole


def test_two_processes_write_the_same_bytes_as_one(drawn, tmp_path):
    again = world.make_pocket_world(tmp_path / "two", pool_images=POOL, seed=3, processes=2)
    assert hashes(again) == hashes(drawn)


def test_another_seed_draws_other_pictures_and_other_people():
    first, second = (draw_object("cat", stream(seed, "pool", 0)) for seed in (0, 1))
    assert first.tobytes() != second.tobytes()
    plans = [plan_photos(50, seed, list(range(50))) for seed in (0, 1)]
    assert [p.title for p in plans[0]] != [p.title for p in plans[1]]


def test_train_and_val_share_no_picture(drawn):
    digests = [
        d for name, d in hashes(drawn).items() if name.endswith(".jpg") and name.startswith(("objects", "scenes"))
    ]
    assert len(set(digests)) == len(digests)


def test_second_call_returns_at_once(drawn, monkeypatch):
    monkeypatch.setattr(world, "plan_world", lambda *_: pytest.fail("drew a world that was there"))
    assert world.make_pocket_world(drawn, pool_images=POOL, seed=3) == drawn


def test_another_world_in_the_folder_is_an_error_that_names_both(drawn):
    with pytest.raises(ValueError, match="seed 4; .* with 3"):
        world.make_pocket_world(drawn, pool_images=POOL, seed=4)
    with pytest.raises(ValueError, match="sizes"):
        world.make_pocket_world(drawn, pool_images=2000, seed=3)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        world.make_pocket_world(tmp_path, pool_images=POOL)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_failing_drawing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(folder_sets, "jpeg_bytes", fail)
    monkeypatch.setattr(world, "plan_pool", lambda *_, **__: [])
    monkeypatch.setattr(world, "plan_voc", lambda *_, **__: [])
    monkeypatch.setattr(world, "plan_landmarks", lambda *_: [])
    monkeypatch.setattr(world, "plan_clips", lambda *_, **__: [])
    with pytest.raises(OSError, match="disk full"):
        world.make_pocket_world(tmp_path / "deep" / "root", pool_images=POOL, processes=1)
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_caller_who_finishes_second_takes_the_first_ones_world(drawn, tmp_path, monkeypatch):
    root, rival = tmp_path / "root", b"the first one's"
    marker = (drawn / "pocket_world.json").read_bytes()

    def plan(partial_root, sizes, seed, **_):
        def finish_first():
            root.mkdir()
            (root / "pocket_world.json").write_bytes(marker)
            (root / "picture.jpg").write_bytes(rival)

        return [finish_first]

    monkeypatch.setattr(world, "plan_world", plan)
    assert world.make_pocket_world(root, pool_images=POOL, seed=3, processes=1) == root
    assert (root / "picture.jpg").read_bytes() == rival
    assert [p.name for p in tmp_path.iterdir()] == ["root"]


def test_marker_says_what_the_world_is(drawn):
    marker = json.loads((drawn / "pocket_world.json").read_text())
    assert marker["seed"] == 3
    assert marker["sizes"]["pool"] == POOL
    assert marker["classes"] == list(CLASSES)
    assert "no evidence" in marker["statement"]


@pytest.mark.parametrize("wrong", [{"pool_images": 99}, {"pool_images": 100, "processes": 0}])
def test_impossible_sizes_fail_before_anything_is_made(tmp_path, wrong):
    with pytest.raises(ValueError, match="pool_images >= 100"):
        world.make_pocket_world(tmp_path / "root", **wrong)
    assert not (tmp_path / "root").exists()


# --- layouts


def test_pool_zips_and_metadata_name_the_same_images(drawn):
    images, lines = zip_members(drawn), metadata(drawn)
    assert len(images) == len(lines) == POOL
    assert all(len(line) == 23 for line in lines)
    assert {f"{int(line[0]):08d}" for line in lines} == set(images)
    for number, data in list(images.items())[:20]:
        picture = Image.open(io.BytesIO(data))
        assert (number.isdigit(), len(number), picture.size, picture.mode) == (True, 8, (128, 128), "RGB")


def test_hidden_classes_name_every_image_once(drawn):
    rows = [line.split("\t") for line in (drawn / "pool" / "hidden_classes.tsv").read_text().splitlines()]
    assert {number for number, _ in rows} == set(zip_members(drawn))
    assert {name for _, name in rows} == set(CLASSES)
    assert len(rows) == POOL


def test_metadata_fields_are_of_their_kind(drawn):
    for line in metadata(drawn):
        assert line[3][:4].isdigit()
        assert 1_000_000_000 < int(line[4]) < 1_500_000_000
        assert (line[10] == "") == (line[11] == "") == (line[12] == "")
        if line[10]:
            assert -180 <= float(line[10]) <= 180
            assert -90 <= float(line[11]) <= 90
        assert line[13].startswith("http://photos.example.org/photos/")
        assert line[14].endswith(f"_{line[19]}.jpg")
        assert (line[21], line[22]) == ("jpg", "0")


def test_awkward_titles_survive_the_table():
    photos = plan_photos(4000, 0, list(range(4000)))
    odd = [p for p in photos if any(c in p.title for c in '\t\n<"%\u732b')]
    assert {c for p in odd for c in p.title} >= set("\t\n<>\"'%&\u732b")
    for photo in odd:
        line = "\t".join(metadata_columns(0, photo))
        assert "\n" not in line
        columns = line.split("\t")
        assert len(columns) == 23
        assert unquote_plus(columns[6]) == photo.title
        assert tuple(map(unquote_plus, filter(None, columns[8].split(",")))) == photo.tags


def test_image_numbers_are_distinct_sparse_and_500_to_a_zip():
    numbers = image_numbers(10_000, 0)
    assert len(set(numbers)) == 10_000
    assert max(numbers) < 10**8
    assert min(numbers) < 10**6  # folder 00: the leading zeros are part of the number
    assert Counter(Counter(n // 1000 for n in numbers).values()) == {500: 20}
    assert len({n // 10**6 for n in numbers}) == 4


@pytest.mark.parametrize(("kind", "names"), [("objects", CLASSES), ("scenes", SCENES)])
def test_folder_sets_are_balanced_and_whole(drawn, kind, names):
    sizes = world.world_sizes(POOL)
    for split in ("train", "val"):
        folders = {p.name: len(list(p.glob("*.jpg"))) for p in (drawn / kind / split).iterdir()}
        assert set(folders) == set(names)
        assert max(folders.values()) - min(folders.values()) <= 1
        assert sum(folders.values()) == getattr(sizes, f"{kind}_{split}")
        with Image.open(next((drawn / kind / split / names[0]).glob("*.jpg"))) as picture:
            assert picture.size == (128, 128)


def test_pocket_size_is_the_published_one():
    sizes = world.world_sizes(10_000)
    assert (sizes.objects_train, sizes.objects_val, sizes.scenes_train, sizes.scenes_val) == (3000, 2000, 400, 1000)
    assert (sizes.voc_train + sizes.voc_val, sizes.voc_test) == (600, 400)


def voc_objects(root: Path, image_id: str) -> tuple[tuple[int, int], list[tuple[str, int, list[int]]]]:
    tree = ElementTree.parse(root / "VOC2007" / "Annotations" / f"{image_id}.xml").getroot()
    size = int(tree.findtext("size/width")), int(tree.findtext("size/height"))
    objects = []
    for node in tree.iter("object"):
        box = [int(node.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")]
        objects.append((node.findtext("name"), int(node.findtext("difficult")), box))
    return size, objects


def voc_ids(root: Path, split: str) -> list[str]:
    return (root / "VOC2007" / "ImageSets" / "Main" / f"{split}.txt").read_text().split()


def test_voc_boxes_lie_in_their_images(drawn):
    ids = voc_ids(drawn, "trainval") + voc_ids(drawn, "test")
    assert len(ids) == len(set(ids)) == len(list((drawn / "VOC2007" / "JPEGImages").iterdir()))
    for image_id in ids:
        size, objects = voc_objects(drawn, image_id)
        with Image.open(drawn / "VOC2007" / "JPEGImages" / f"{image_id}.jpg") as picture:
            assert picture.size == size
        assert 1 <= len(objects) <= 4
        for _, _, (left, top, right, bottom) in objects:
            assert 1 <= left <= right <= size[0]
            assert 1 <= top <= bottom <= size[1]


def test_voc_lists_agree_with_the_annotations(drawn):
    assert sorted(voc_ids(drawn, "train") + voc_ids(drawn, "val")) == voc_ids(drawn, "trainval")
    seen = set()
    for split in ("train", "val", "trainval", "test"):
        ids = voc_ids(drawn, split)
        for name in CLASSES:
            path = drawn / "VOC2007" / "ImageSets" / "Main" / f"{name}_{split}.txt"
            rows = [line.split() for line in path.read_text().splitlines()]
            assert [row[0] for row in rows] == ids
            labels = {row[0]: int(row[1]) for row in rows}
            assert 1 in labels.values(), f"no {name} in {split}"
            for image_id in ids:
                difficult = [d for n, d, _ in voc_objects(drawn, image_id)[1] if n == name]
                expected = -1 if not difficult else 1 if 0 in difficult else 0
                assert labels[image_id] == expected
            seen |= set(labels.values())
    assert seen == {-1, 0, 1}


def test_image_label_is_zero_for_difficult_objects_only():
    def cat(difficult):
        return Instance("cat", (1, 1, 2, 2), False, difficult)

    assert image_label([], "cat") == -1
    assert image_label([cat(True)], "dog") == -1
    assert image_label([cat(True)], "cat") == 0
    assert image_label([cat(True), cat(False)], "cat") == 1


def test_visible_shares_of_squares_worked_by_hand():
    def square(left, top, side):
        return _filled(rectangle(left, top, left + side - 1, top + side - 1))  # polygons include their last pixel

    # a 20 x 20 square, half of it under a second one, which the frame cuts to a quarter
    shares = visible_shares([square(30, 30, 20), square(40, 30, 40)], (60, 50))
    assert shares == pytest.approx([0.5, 20 * 20 / 1600], abs=1e-9)
    assert visible_shares([square(-15, -10, 20)], (60, 50)) == pytest.approx([5 * 10 / 400], abs=1e-9)


def _filled(points) -> Sketch:
    sketch = Sketch()
    sketch.fill(points, 50)
    return sketch


@pytest.mark.parametrize("city", CITIES, ids=lambda city: city.folder)
def test_landmark_files_refer_to_images_and_boxes(drawn, city):
    root = drawn / city.folder
    images = {p.stem: p for p in (root / "jpg").iterdir()}
    queries = sorted((root / "groundtruth").glob("*_query.txt"))
    assert len(queries) == 15
    used = set()
    for path in queries:
        name, *box = path.read_text().split()
        assert name.startswith(city.query_prefix)
        name = name.removeprefix(city.query_prefix)
        left, top, right, bottom = map(float, box)
        with Image.open(images[name]) as picture:
            assert 0 <= left < right <= picture.width
            assert 0 <= top < bottom <= picture.height
        lists = {k: path.with_name(path.name.replace("query", k)).read_text().split() for k in ("good", "ok", "junk")}
        together = sum(lists.values(), [])
        assert len(together) == len(set(together))
        assert set(together) <= set(images)
        assert name in lists["good"]
        assert all(lists.values())
        used |= set(together)
    assert len(set(images) - used) == world.world_sizes(POOL).landmark_distractors


def test_grades_follow_the_share_in_sight():
    assert [grade(s) for s in (0.9, 0.7, 0.69, 0.26, 0.25, 0.05)] == ["good", "good", "ok", "ok", "junk", "junk"]


def test_visible_share_of_a_square_worked_by_hand():
    building = _filled(rectangle(0, 0, 1, 1))
    pixels = inside_points(building) * 80 - (40, 0)  # the left half is out of the frame
    half = visible_share(pixels, Sketch(), (100, 100))
    quarter = visible_share(pixels, _filled(rectangle(-1, 40, 100, 100)), (100, 100))
    # points are 1/40 apart, so an edge may take one row or column more or less
    assert (half, quarter) == (pytest.approx(0.5, abs=0.03), pytest.approx(0.25, abs=0.03))


# --- moving pictures


def clip_rows(root: Path) -> list[list[str]]:
    return [line.split("\t") for line in (root / "clips" / "hidden_boxes.tsv").read_text().splitlines()]


def test_clips_have_eight_to_twelve_frames_and_a_box_for_each(drawn):
    folders = sorted(path for path in (drawn / "clips").iterdir() if path.is_dir())
    assert [path.name for path in folders] == [f"{i:04d}" for i in range(world.world_sizes(POOL).clips)]
    counts = [len(list(path.glob("*.jpg"))) for path in folders]
    assert set(counts) <= set(range(8, 13))
    assert len(set(counts)) > 2
    rows = clip_rows(drawn)
    assert [row[0] for row in rows] == [path.name for path, n in zip(folders, counts, strict=True) for _ in range(n)]
    for clip, frame, *box, name in rows:
        with Image.open(drawn / "clips" / clip / f"{frame}.jpg") as picture:
            assert picture.size == (128, 128)
        top, left, height, width = map(int, box)
        assert 0 <= top < top + height <= 128
        assert 0 <= left < left + width <= 128
        assert name in CLASSES
    assert {row[-1] for row in rows} == set(CLASSES)


def test_what_moves_is_where_the_box_says(monkeypatch):
    """Without ground, noise and light, every dark pixel is in the box, and the box is no larger than they need."""
    monkeypatch.setattr(clip_set, "draw_ground", lambda *_: (Image.new("RGB", (416, 416), "white"), 200.0))
    monkeypatch.setattr(clip_set, "draw_clutter", lambda *_: None)
    monkeypatch.setattr(clip_set, "add_noise", lambda rng, image, *_: image)
    monkeypatch.setattr(clip_set, "LIGHT", (1.0, 1.0))
    for index in range(0, 32, 3):
        for frame, box in zip(clip_set.draw_clip(0, index), clip_set.clip_boxes(0, index), strict=True):
            rows, columns = np.nonzero(np.asarray(frame).mean(axis=2) < 230)
            top, left, height, width = box
            seen = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
            # lines end where their polygon does, and an edge is a pixel or two of half tones
            assert np.abs(seen - (top, left, top + height, left + width)).max() <= 3


def test_things_move_and_come_closer_and_light_changes():
    boxes = [clip_set.clip_boxes(0, index) for index in range(100)]
    middles = [b[:, :2] + b[:, 2:] / 2 for b in boxes]
    steps = np.array([np.linalg.norm(m[-1] - m[0]) / (len(m) - 1) for m in middles])
    assert np.quantile(steps, 0.1) > 2  # pixels a frame
    inside = np.concatenate(middles)
    assert ((inside > 8) & (inside < 120)).all()
    grown = np.array([np.sqrt(b[-1, 2:].prod() / b[0, 2:].prod()) for b in boxes])
    assert np.median(grown) > 1.05
    light = [np.asarray(clip_set.draw_clip(0, i)[j]).mean() for i in range(6) for j in (0, -1)]
    assert np.abs(np.log(np.array(light[::2]) / light[1::2])).max() > 0.05


def test_frames_look_like_pictures_of_the_pool():
    """Grain included: local deviations of grey in frames are within a third of those in pictures of the pool."""

    def grain(picture):
        grey = np.asarray(picture, dtype=float).mean(axis=2).reshape(32, 4, 32, 4).mean(axis=(1, 3))
        return np.median(np.abs(np.diff(grey, axis=0)))

    pool = np.mean([grain(draw_object(CLASSES[i % 16], stream(0, "pool", i))) for i in range(40)])
    frames = np.mean([grain(clip_set.draw_clip(0, i)[3]) for i in range(40)])
    assert frames == pytest.approx(pool, rel=1 / 3)


@pytest.mark.skipif((PIL.__version__, np.__version__) != ("13.0.0", "2.4.6"), reason="other versions draw otherwise")
def test_the_other_sets_are_those_that_published_records_were_made_from():
    """Hashes taken before there were clips: the published edition stands on these pictures."""

    def digest(contents):
        return hashlib.sha256(b"".join(contents)).hexdigest()[:12]

    photos = plan_photos(100, 0, image_numbers(100, 0))[:8]
    assert digest(photo_bytes(0, photo) for photo in photos) == "0aafacfe6968"
    draw = folder_sets.image_bytes
    assert digest(draw("objects", "train", CLASSES[i], i, 0) for i in range(8)) == "9160d6a5879f"
    assert digest(draw("scenes", "val", SCENES[i], i, 0) for i in range(4)) == "713a8c7ff625"
    names = voc_set.voc_ids(world.world_sizes(100).voc, 0)["test"][:4]
    assert digest(voc_set.draw_numbered(n, i, 0)[0].tobytes() for i, n in enumerate(names)) == "a37a664965aa"


# --- drawing rules, measured on pixels


@pytest.mark.parametrize("grey", [16, 60, 110, 161, 205])
def test_tint_keeps_the_mean_of_the_channels(grey):
    for hue in np.linspace(0, 1, 13):
        for saturation in (0.25, 0.45, 0.7):
            rgb = tint(grey, hue, saturation)
            # each channel is rounded by at most 1/2, so their mean is, too
            assert abs(sum(rgb) / 3 - grey) <= 0.5


@pytest.mark.parametrize("kind", GROUND_KINDS)
def test_grounds_have_no_direction(kind):
    fields = np.stack([ground_field(np.random.default_rng([7, i]), kind, 22.0) for i in range(300)])
    assert np.abs(fields).max() <= 22.001
    down, across = np.abs(np.diff(fields, axis=1)).mean(), np.abs(np.diff(fields, axis=2)).mean()
    assert down == pytest.approx(across, rel=0.1)  # 300 random angles
    halves = fields[:, :32].mean(axis=(1, 2)) - fields[:, 32:].mean(axis=(1, 2))
    assert abs(halves.mean()) < 4 * halves.std() / math.sqrt(300)


def test_ground_is_light_and_object_is_dark(monkeypatch):
    monkeypatch.setattr(pictures, "BRIGHTNESS", (1.0, 1.0))
    monkeypatch.setattr(pictures, "draw_clutter", lambda *_, **__: None)
    for i, name in enumerate(CLASSES * 2):
        canvas, level = draw_ground(stream(1, "ground", i), (64, 64), 0.3, 1.0)
        grey = np.asarray(canvas, dtype=float).mean(axis=2)
        assert GROUND[0] <= level <= GROUND[1]
        assert grey.mean() == pytest.approx(level, abs=1.5)  # rounding and the enlargement's edges
        picture = np.asarray(draw_object(name, stream(1, "rules", i), noise=0), dtype=float).mean(axis=2)
        dark = picture < (MID[1] + GROUND[0] - 22) / 2
        assert INK[0] - 1 <= picture.min() <= INK[1] + 1 or picture.min() <= DARK[1]
        assert 0.03 < dark.mean() < 0.75
        assert np.median(picture[~dark]) - np.median(picture[dark]) > 40


@pytest.mark.parametrize("name", CLASSES)
def test_every_part_of_an_object_is_in_one_of_the_three_bands(name):
    for i in range(20):
        for part in sketch_object(name, stream(2, name, i)).parts:
            assert any(low <= part.grey <= high for low, high in (DARK, MID, INK))
            assert np.isfinite(part.points).all()


def test_no_light_from_above():
    halves = []
    for i in range(480):
        grey = np.asarray(draw_object(CLASSES[i % 16], stream(4, "light", i), size=32), dtype=float).mean(axis=2)
        halves.append(grey[:16].mean() - grey[16:].mean())
    # the ground has no direction; what objects themselves weigh above and below may leave a few grey levels
    assert abs(np.mean(halves)) < 5
    assert 5 < np.std(halves) < 60


def test_objects_keep_their_size_and_place():
    for i in range(200):
        rng = stream(5, "place", i)
        sketch = pictures.place(rng, pose(rng, sketch_object(CLASSES[i % 16], rng)), (256, 256))
        left, top, right, bottom = sketch.box
        assert pictures.OBJECT_SIDE[0] * 256 - 1e-6 <= max(right - left, bottom - top) <= pictures.OBJECT_SIDE[1] * 256
        assert min(left, top) >= -1e-6
        assert max(right, bottom) <= 256 + 1e-6


def test_poses_stay_upright():
    arrow = _filled([(0, -1), (0.2, 1), (-0.2, 1)])
    for i in range(100):
        tip, right, left = pose(stream(6, "pose", i), arrow).parts[0].points
        middle = (right + left) / 2 - tip
        assert abs(math.degrees(math.atan2(middle[0], middle[1]))) <= pictures.TILT + 1e-9


def test_noise_has_its_deviation_at_32_pixels():
    deviations = []
    for i in range(40):
        with_noise, without = (
            np.asarray(draw_object("cup", stream(7, "noise", i), noise=n).resize((32, 32), Image.Resampling.BOX), float)
            for n in (pictures.NOISE, 0.0)
        )
        middle = (without > 60) & (without < 200)  # where no channel is cut off
        deviations.append((with_noise - without)[middle].std())
    assert np.mean(deviations) == pytest.approx(pictures.NOISE, rel=0.1)


def test_one_hue_per_picture():
    for i in range(48):
        picture = draw_object(CLASSES[i % 16], stream(8, "hue", i), noise=0)
        hue, saturation, _ = (np.asarray(c, dtype=float) / 255 for c in picture.convert("HSV").split())
        angles = 2 * math.pi * hue[saturation > 0.15]
        centre = np.angle(np.exp(1j * angles).mean())
        away = np.abs(np.angle(np.exp(1j * (angles - centre)))) / (2 * math.pi)
        # ground and object are within 0.06 + 0.04 of the picture's hue on either side, clutter within 0.1
        assert np.quantile(away, 0.99) < 0.21


def test_scanner_leaves_a_pale_border_and_others_do_not():
    def border(picture):
        grey = np.asarray(picture, dtype=float)
        return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])

    scanned = border(draw_object("fish", stream(9, "scan", 0), style=Style(scanned=True)))
    plain = border(draw_object("fish", stream(9, "scan", 0)))
    assert scanned.mean() > SCANNED_BED[0] - 6
    assert scanned.std() < 12
    assert plain.std() > 12


def test_scenes_do_not_share_a_polarity_but_differ_in_layout():
    tops = [np.asarray(draw_scene("desert", stream(10, "polarity", i)), dtype=float)[:30].mean() for i in range(40)]
    assert min(tops) < 110
    assert max(tops) > 180


@pytest.mark.parametrize("draw", [draw_object, draw_scene])
def test_unknown_name_is_an_error_that_lists_the_known(draw):
    with pytest.raises(ValueError, match="(house, tree|beach, desert).*got 'zebra'"):
        draw("zebra", np.random.default_rng(0))


# --- people


def test_pool_has_a_long_tail_of_classes():
    counts = np.sort(np.bincount(draw_long_tail(np.random.default_rng(0), 20_000), minlength=16))[::-1]
    shares = np.arange(1, 17) ** -0.7
    expected = 20_000 * shares / shares.sum()
    # 5 standard deviations of a binomial count; sorting moves neighbours by less
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_even_a_tiny_pool_has_every_class():
    for seed in range(20):
        assert set(draw_long_tail(np.random.default_rng(seed), 16)) == set(range(16))


def test_people_places_devices_and_words_are_uneven_as_in_life():
    photos = plan_photos(10_000, 0, list(range(10_000)))
    owners = Counter(p.person.nsid for p in photos).most_common()
    assert owners[0][1] > 20 * owners[len(owners) // 2][1]
    devices = Counter(p.device for p in photos)
    assert len(devices) == 8
    assert 0.01 < devices[SCANNER] / 10_000 <= 0.04
    assert all(p.style.scanned == (p.device == SCANNER) for p in photos)
    located = [p for p in photos if p.position]
    assert 0.15 < len(located) / 10_000 < 0.6
    cells = Counter((math.floor(p.position[0]), math.floor(p.position[1])) for p in located)
    assert {cell for cell, _ in cells.most_common(6)} == {(c.longitude, c.latitude) for c in CELLS}
    tags = Counter(t for p in photos for t in p.tags).most_common()
    assert tags[0][1] > 50 * tags[len(tags) // 2][1]
    assert 0.05 < sum(not p.tags for p in photos) / 10_000 < 0.3
    assert any(p.taken.startswith("4501") for p in photos)


def test_people_have_favourite_subjects():
    photos = plan_photos(10_000, 0, list(range(10_000)))
    busiest = Counter(p.person.nsid for p in photos).most_common(1)[0][0]
    mine = Counter(p.class_name for p in photos if p.person.nsid == busiest)
    everyone = Counter(p.class_name for p in photos)
    lift = {name: mine[name] / everyone[name] for name in CLASSES}
    assert max(lift.values()) > 3 * np.median(list(lift.values()))


def test_tags_speak_of_the_picture():
    photos = plan_photos(5000, 0, list(range(5000)))
    told = [p.class_name in p.tags for p in photos if p.tags]
    mistaken = [c in p.tags for p in photos if p.tags for c in CLASSES if c != p.class_name]
    assert np.mean(told) > 0.6
    assert np.mean(mistaken) < 0.01


# --- geometry


def test_thick_line_has_its_width_and_a_ring_its_hole():
    bar = thick([(0, 0), (10, 0)], 2)
    assert sorted(map(tuple, bar.tolist())) == [(0, -1), (0, 1), (10, -1), (10, 1)]
    bent = thick([(0, 0), (10, 0), (10, 10)], 2)
    np.testing.assert_allclose(sorted(bent[[1, 4]].tolist()), [[9, 1], [11, -1]], atol=1e-12)  # a mitred corner
    angles = np.linspace(0, 2 * math.pi, 41)
    ring = thick(np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.2)
    np.testing.assert_allclose(np.unique(np.hypot(*ring.T).round(3)), [0.9, 1.1], atol=0.002)


def test_turn_is_clockwise_in_the_picture():
    np.testing.assert_allclose(turn(np.array([[1.0, 0.0]]), 90), [[0.0, 1.0]], atol=1e-12)  # right goes down


def test_main_object_of_a_group_is_never_difficult():
    for i in range(32):
        picture, instances = voc_set.draw_group(CLASSES[i % 16], stream(11, "group", i))
        assert any(o.class_name == CLASSES[i % 16] and not o.difficult for o in instances)
        assert all(o.box[2] <= picture.width and o.box[3] <= picture.height for o in instances)
