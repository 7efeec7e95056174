"""Oxford's and Paris's ground truth: the two forms against each other, and pickles that must not run."""

import json
import os
import pickle
import shutil
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dclib.data.landmarks import (
    CORRUPTED_PARIS,
    Landmarks,
    load_plain_pickle,
    open_landmarks,
    read_ground_truth,
)


@pytest.fixture
def root(tmp_path) -> Path:
    """Five images, two queries in text form; one name has a prefix, one list is empty."""
    root = tmp_path / "oxford"
    (root / "jpg").mkdir(parents=True)
    (root / "groundtruth").mkdir()
    for i, name in enumerate("abcde"):
        Image.new("L", (8, 6), 40 * i).save(root / "jpg" / f"{name}_000{i}.jpg")
    files = {
        "tower_1_query.txt": "oxc1_a_0000 1.5 2 7 5\n",
        "tower_1_good.txt": "a_0000\nb_0001\n",
        "tower_1_ok.txt": "c_0002",
        "tower_1_junk.txt": "d_0003\n",
        "gate_2_query.txt": "e_0004 0 0 8 6",
        "gate_2_good.txt": "e_0004\n",
        "gate_2_ok.txt": "",
        "gate_2_junk.txt": "\n",
    }
    for name, text in files.items():
        (root / "groundtruth" / name).write_text(text)
    return root


def write_pickle(path: Path, **changes) -> Path:
    """The same ground truth in the form of a pickle."""
    content = {
        "imlist": ["e_0004", "d_0003", "c_0002", "b_0001", "a_0000"],
        "qimlist": ["e_0004", "a_0000"],
        "gnd": [
            {"bbx": [0, 0, 8, 6], "ok": [0], "junk": []},
            {"bbx": [1.5, 2, 7, 5], "ok": [2, 3, 4], "junk": [1]},
        ],
        **changes,
    }
    path.write_bytes(pickle.dumps(content))
    return path


def answers(truth: Landmarks) -> dict:
    return {q.image: (q.box, q.positives, q.junk) for q in truth.queries}


# --- both forms


def test_text_files_give_queries_and_answers(root):
    truth = read_ground_truth(root / "groundtruth")
    gate, tower = truth.queries
    assert (gate.name, tower.name) == ("gate_2", "tower_1")
    assert (tower.image, tower.box) == ("a_0000", (1.5, 2.0, 7.0, 5.0))
    assert (tower.good, tower.ok, tower.junk) == ({"a_0000", "b_0001"}, {"c_0002"}, {"d_0003"})
    assert tower.positives == {"a_0000", "b_0001", "c_0002"}
    assert (gate.good, gate.ok, gate.junk) == ({"e_0004"}, set(), set())
    assert truth.images == ("a_0000", "b_0001", "c_0002", "d_0003", "e_0004")


def test_pickle_gives_the_same_answers(root):
    truth = read_ground_truth(write_pickle(root / "gnd_tiny.pkl"))
    assert answers(truth) == answers(read_ground_truth(root / "groundtruth"))
    assert truth.images == ("e_0004", "d_0003", "c_0002", "b_0001", "a_0000")
    assert [q.name for q in truth.queries] == ["e_0004", "a_0000"]


def test_images_come_in_the_order_of_the_ground_truth(root):
    images, truth = open_landmarks(root)
    assert images.name == "oxford"
    assert truth.images == ("a_0000", "b_0001", "c_0002", "d_0003", "e_0004")
    tower = truth.queries[1]
    assert truth.positions(tower.positives).tolist() == [0, 1, 2]
    assert truth.positions(tower.junk).tolist() == [3]
    assert truth.positions([]).dtype == np.int64
    (query,) = truth.positions([truth.queries[0].image])
    assert abs(images[int(query)].getpixel((0, 0))[0] - 160) <= 2  # JPEG
    assert images.labels is None
    with pytest.raises(ValueError, match="no image 'x' among the 5"):
        truth.positions(["x"])


def test_pickle_is_used_where_there_is_no_text_and_where_asked(root):
    path = write_pickle(root / "gnd_tiny.pkl")
    assert open_landmarks(root)[1].queries[0].name == "gate_2"
    by_pickle = open_landmarks(root, ground_truth=path)[1]
    assert by_pickle.queries[0].name == "e_0004"
    assert by_pickle.images[0] == "a_0000"  # the order of the images, not of the pickle
    shutil.rmtree(root / "groundtruth")
    assert open_landmarks(root)[1] == by_pickle


def test_images_may_lie_in_folders_and_text_beside_them(root):
    shutil.move(root / "jpg", root / "paris")
    (root / "paris" / "deep").mkdir()
    shutil.move(root / "paris" / "a_0000.jpg", root / "paris" / "deep" / "a_0000.jpg")
    for path in (root / "groundtruth").iterdir():
        shutil.move(path, root / path.name)
    images, truth = open_landmarks(root)
    at = truth.images.index("a_0000")
    assert images.ids[at] == "paris/deep/a_0000.jpg"
    assert images[at].getpixel((0, 0))[0] <= 2


@pytest.mark.parametrize("images", ["", "images", "images/of/it"])
@pytest.mark.parametrize("truth", ["gt", "gt/of/it", "images/gt"])
@pytest.mark.parametrize("form", ["text", "pickle"])
def test_ground_truth_in_a_folder_of_its_own_is_found(root, images, truth, form):
    before = answers(open_landmarks(root)[1])
    pictures, texts = shutil.move(root / "jpg", root / "was"), root / "groundtruth"
    (root / images).mkdir(parents=True, exist_ok=True)
    for path in Path(pictures).iterdir():
        shutil.move(path, root / images)
    (root / truth).parent.mkdir(parents=True, exist_ok=True)
    if form == "text":
        texts.rename(root / truth)
    else:
        (root / truth).mkdir()
        shutil.rmtree(texts)
        write_pickle(root / truth / "gnd_oxford5k.pkl")
    found, read = open_landmarks(root)
    assert answers(read) == before
    assert {Path(i).parent for i in found.ids} == {Path(images)}


def test_ignored_images_are_nowhere(root):
    images, truth = open_landmarks(root, ignore=["b_0001", "d_0003"])
    assert truth.images == ("a_0000", "c_0002", "e_0004")
    assert images.ids == ["a_0000.jpg", "c_0002.jpg", "e_0004.jpg"]
    assert (truth.queries[1].positives, truth.queries[1].junk) == ({"a_0000", "c_0002"}, set())
    by_pickle = read_ground_truth(write_pickle(root / "gnd_tiny.pkl"), ignore=["b_0001", "d_0003"])
    assert answers(by_pickle) == answers(truth)
    assert by_pickle.images == ("e_0004", "c_0002", "a_0000")
    with pytest.raises(ValueError, match="query tower_1 is cut from 'a_0000', which is to be ignored"):
        open_landmarks(root, ignore=["a_0000"])


# --- errors


def test_missing_image_is_counted_and_named(root):
    for name in ("b_0001", "d_0003"):
        (root / "jpg" / f"{name}.jpg").unlink()
    with pytest.raises(ValueError, match=r"groundtruth names 2 images that are not in .*, first 'b_0001'"):
        open_landmarks(root)
    with pytest.raises(ValueError, match="names 2 images"):
        open_landmarks(root, ground_truth=write_pickle(root / "gnd_tiny.pkl"))
    assert len(open_landmarks(root, ignore=["b_0001", "d_0003"])[0]) == 3


def test_two_images_of_one_name_are_refused(root):
    Image.new("L", (8, 6)).save(root / "jpg" / "a_0000.png")
    with pytest.raises(ValueError, match="one image of each name .*'a_0000' comes more than once"):
        open_landmarks(root)


def test_ground_truth_must_be_one(root):
    shutil.copytree(root / "groundtruth", root / "older")
    with pytest.raises(ValueError, match=r"need one folder .*; it has groundtruth, older: keep one there"):
        open_landmarks(root)
    shutil.rmtree(root / "older")
    shutil.rmtree(root / "groundtruth")
    with pytest.raises(ValueError, match="it has none: put it there"):
        open_landmarks(root)
    with pytest.raises(ValueError, match="no ground truth at .*gone"):
        read_ground_truth(root / "gone")
    with pytest.raises(ValueError, match="no queries in .*jpg"):
        read_ground_truth(root / "jpg")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a_0000 1 2 3", "a name and four coordinates"),
        ("a_0000 1 2 x 4", "four numbers"),
        ("a_0000 5 2 5 9", "left < right"),
    ],
)
def test_query_that_is_none_is_named(root, text, reason):
    (root / "groundtruth" / "tower_1_query.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"tower_1_query\.txt.*{reason}"):
        open_landmarks(root)


def test_missing_list_of_a_query_is_named(root):
    (root / "groundtruth" / "gate_2_ok.txt").unlink()
    with pytest.raises(ValueError, match=r"query gate_2 lacks .*gate_2_ok\.txt"):
        open_landmarks(root)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gnd": [{"bbx": [0, 0, 8, 6], "easy": [0], "junk": []}] * 2}, "KeyError 'ok'"),
        ({"gnd": [{"bbx": [0, 0, 8, 6], "ok": [5], "junk": []}] * 2}, "image number 5 of 5"),
        ({"gnd": [{"bbx": [0, 0, 8, 6], "ok": [-1], "junk": []}] * 2}, "image number -1 of 5"),
        ({"gnd": [{"bbx": None, "ok": [1], "junk": []}] * 2}, "a box of four numbers; got None"),
        ({"gnd": []}, "2 queries have 0 answers"),
        ({"imlist": None}, "TypeError"),
    ],
)
def test_pickle_of_another_form_is_named(root, changes, reason):
    path = write_pickle(root / "gnd_tiny.pkl", **changes)
    with pytest.raises(ValueError, match=reason):
        read_ground_truth(path)


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_never_runs_code(tmp_path, protocol):
    trap = tmp_path / "sprung"
    path = tmp_path / "gnd_bad.pkl"
    path.write_bytes(pickle.dumps({"imlist": Malicious(trap)}, protocol))
    with pytest.raises(ValueError, match=r"gnd_bad\.pkl cannot be read as a plain pickle: it asks for \w+\.mkdir"):
        read_ground_truth(path)
    assert not trap.exists()
    with open(path, "rb") as file:
        pickle.load(file)  # the trap is a real one
    assert trap.exists()


def test_old_style_instances_are_refused_too(tmp_path):
    path = tmp_path / "old.pkl"
    path.write_bytes(b"(S'echo'\nios\nsystem\n.")
    with pytest.raises(ValueError, match=r"asks for os\.system"):
        load_plain_pickle(path)


@pytest.mark.parametrize("content", [np.arange(3), OrderedDict(a=1), {1, 2}, Path("x")])
def test_only_plain_values_are_read(tmp_path, content):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match="only lists, dicts, text and numbers"):
        load_plain_pickle(path)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x04]", b"\x80\x63."])
def test_what_is_no_pickle_is_named(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.pkl cannot be read as a plain pickle"):
        load_plain_pickle(tmp_path / "x.pkl")


# --- the real ground truth


def test_paris_is_the_same_in_both_forms(shared_data):
    text = read_ground_truth(shared_data("paris6k/groundtruth"))
    packed = read_ground_truth(shared_data("paris6k/gnd_paris6k.pkl"))
    assert len(text.queries) == len(packed.queries) == 55
    assert answers(text) == answers(packed)
    assert len(packed.images) == 6392
    assert set(text.images) <= set(packed.images)
    assert sorted({q.name[:-2] for q in text.queries})[:3] == ["defense", "eiffel", "invalides"]


def test_corrupted_paris_images_are_those_that_the_field_leaves_out(shared_data):
    named = set(read_ground_truth(shared_data("paris6k/groundtruth")).images)
    listed = set(read_ground_truth(shared_data("paris6k/gnd_paris6k.pkl")).images)
    assert len(CORRUPTED_PARIS) == 6412 - 6392  # images of the download, images that are ranked
    assert not CORRUPTED_PARIS & (named | listed)


def test_oxford_has_the_published_counts(shared_data):
    truth = read_ground_truth(shared_data("oxford5k/gnd_oxford5k.pkl"))
    assert (len(truth.images), len(truth.queries)) == (5063, 55)
    assert sum(len(q.positives) for q in truth.queries) == 2840
    assert sum(len(q.junk) for q in truth.queries) == 1495
    assert all(q.image in q.positives and not q.positives & q.junk for q in truth.queries)
    assert truth.queries[0].box == (136.5, 34.1, 648.5, 955.7)


@pytest.mark.parametrize("name", ["oxford5k", "paris6k"])
def test_pickle_agrees_with_the_same_in_json(shared_data, name):
    truth = read_ground_truth(shared_data(f"{name}/gnd_{name}.pkl"))
    content = json.loads(shared_data(f"{name}/gnd_{name}.json").read_text())
    for query, image, entry in zip(truth.queries, content["qimlist"], content["gnd"], strict=True):
        assert (query.image, list(query.box)) == (image, entry["bbx"])
        assert truth.positions(query.positives).tolist() == sorted(entry["ok"])
        assert truth.positions(query.junk).tolist() == sorted(entry["junk"])


def test_ten_real_oxford_queries(shared_data):
    root = shared_data("oxford5k")
    images, truth = open_landmarks(root)
    assert (len(images), len(truth.queries)) == (10, 10)
    packed = read_ground_truth(root / "gnd_oxford5k.pkl")
    everything = answers(packed)
    for query in truth.queries:
        box, positives, junk = everything[query.image]
        assert (query.box, query.positives, query.junk) == (
            box,
            positives & set(truth.images),
            junk & set(truth.images),
        )
        (at,) = truth.positions([query.image])
        assert Path(images.ids[at]).stem == query.image
        width, height = images[int(at)].size
        assert query.box[2] <= width + 1  # one box ends a pixel outside
        assert query.box[3] <= height + 1
    with pytest.raises(ValueError, match="names 5053 images that are not in"):
        open_landmarks(root, ground_truth=root / "gnd_oxford5k.pkl")


def test_what_macos_writes_beside_the_ground_truth_is_passed_over(root):
    before = answers(open_landmarks(root)[1])
    folder = next(root.rglob("*_query.txt")).parent
    for path in list(folder.glob("*.txt")):
        (folder / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\xa3\xb0")
    assert answers(open_landmarks(root)[1]) == before
    assert answers(read_ground_truth(folder)) == before
