"""VOC's layout: made by hand, and the real subset against its lists and XML read another way."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dclib.data.layouts import open_images
from dclib.data.voc import VocSet, open_voc

REAL_COUNTS = """aeroplane 3/4, bicycle 15/7, bird 1/0, boat 4/4, bottle 4/5, bus 98/95, car 408/419, cat 206/197,
chair 20/11, cow 1/1, diningtable 2/2, dog 10/14, horse 8/6, motorbike 22/26, person 194/203, pottedplant 15/6,
sheep 1/0, sofa 13/9, train 154/150, tvmonitor 7/11"""  # trainval/test, from the notes that came with the data


@pytest.fixture
def root(tmp_path) -> Path:
    """Three images in the split "val", two classes; lists in another order than the split's."""
    root = tmp_path / "VOC2007"
    for folder in ("JPEGImages", "ImageSets/Main", "Annotations"):
        (root / folder).mkdir(parents=True)
    for i in (3, 1, 2):
        Image.new("L", (8, 8), 50 * i).save(root / "JPEGImages" / f"00000{i}.jpg")
    lists = root / "ImageSets" / "Main"
    (lists / "val.txt").write_text("000003\n000001\n000002\n")
    (lists / "yew_val.txt").write_text("000001 -1\n000002  0\n000003  1\n")
    (lists / "oak_val.txt").write_text("000002  1\n000003 -1\n000001  1\n")
    (lists / "elm_trainval.txt").write_text("000002  1\n")
    return root


def test_labels_are_in_the_order_of_images_and_classes(root):
    voc = open_voc(root, "val")
    assert list(voc.images.ids) == ["000003", "000001", "000002"]
    assert [round(voc.images[i].getpixel((0, 0))[0] / 50) for i in range(3)] == [3, 1, 2]
    assert voc.classes == ("oak", "yew")
    assert voc.labels.dtype == np.int8
    assert voc.labels.tolist() == [[-1, 1], [1, -1], [1, 0]]
    assert voc.n_positives() == {"oak": 2, "yew": 1}
    assert len(voc) == 3
    assert voc.images.labels is None


def test_images_are_the_files_of_the_folder(root):
    voc, folder = open_voc(root, "val"), open_images(root / "JPEGImages")
    sizes = dict(zip(folder.ids, folder.reader.sizes(folder.ids).tolist(), strict=True))
    assert voc.images.reader.sizes(voc.images.ids).tolist() == [sizes[f"{i}.jpg"] for i in voc.images.ids]


def test_what_is_missing_is_named(root):
    with pytest.raises(ValueError, match=r"not in VOC's layout: it lacks .*JPEGImages and .*Main"):
        open_voc(root.parent, "val")
    with pytest.raises(ValueError, match=r"no split 'test' in .*; it has val"):
        open_voc(root, "test")
    lists = root / "ImageSets" / "Main"
    (lists / "train.txt").write_text("000001\n")
    with pytest.raises(ValueError, match=r"no labels for 'train' .*<class>_train\.txt"):
        open_voc(root, "train")
    (lists / "oak_val.txt").write_text("000002  1\n")
    with pytest.raises(ValueError, match=r"oak_val\.txt has no label for 2 images \(000003, 000001\) of its split"):
        open_voc(root, "val")
    (root / "JPEGImages" / "000001.jpg").unlink()
    with pytest.raises(ValueError, match=r"val\.txt lists 3 images; JPEGImages lacks 1 images \(000001\.jpg\)"):
        open_voc(root, "val")
    (lists / "val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt lists 0 images"):
        open_voc(root, "val")


@pytest.mark.parametrize("line", ["000001 2", "000001", "000001 1 1", "000001 yes"])
def test_label_that_is_none_is_shown(root, line):
    (root / "ImageSets" / "Main" / "oak_val.txt").write_text(f"000002 1\n{line}\n000003 1\n")
    with pytest.raises(ValueError, match=rf"oak_val\.txt: need an id and 1, 0 or -1 on each line; got '{line}'"):
        open_voc(root, "val")


def test_labels_must_have_a_row_for_each_image_and_a_column_for_each_class(root):
    voc = open_voc(root, "val")
    with pytest.raises(ValueError, match=r"need labels of shape \(3, 2\).*got \(2, 3\)"):
        VocSet(voc.images, voc.labels.T, voc.classes)


def test_a_list_of_19_of_vocs_classes_is_refused(root):
    """In both splits alike, so that comparing them finds nothing; 20, and other names, are taken."""
    lists = root / "ImageSets" / "Main"
    for path in lists.glob("*_val.txt"):
        path.unlink()
    for name in re.findall(r"(\w+) \d+/", REAL_COUNTS):
        (lists / f"{name}_val.txt").write_text("000001 -1\n000002  0\n000003  1\n")
    assert len(open_voc(root, "val").classes) == 20
    (lists / "sheep_val.txt").unlink()
    with pytest.raises(ValueError, match=r"has 19 of VOC's 20 classes for 'val', .*: put back sheep_val\.txt$"):
        open_voc(root, "val")
    (lists / "oak_val.txt").write_text("000001 -1\n000002  0\n000003  1\n")
    assert len(open_voc(root, "val").classes) == 20


# --- the real subset


def test_real_splits_have_the_published_counts(shared_data):
    root = shared_data("VOC2007")
    sets = {split: open_voc(root, split) for split in ("train", "val", "trainval", "test")}
    assert {split: len(voc) for split, voc in sets.items()} == {"train": 438, "val": 412, "trainval": 850, "test": 857}
    pattern = r"(\w+) (\d+)/(\d+)"
    expected = {name: (int(a), int(b)) for name, a, b in re.findall(pattern, REAL_COUNTS)}
    trainval, test = sets["trainval"].n_positives(), sets["test"].n_positives()
    assert {name: (trainval[name], test[name]) for name in trainval} == expected
    assert len(expected) == 20
    assert sorted([*sets["train"].images.ids, *sets["val"].images.ids]) == sorted(sets["trainval"].images.ids)
    assert sets["test"].images[0].mode == "RGB"


def test_real_labels_agree_with_the_boxes(shared_data):
    """A class is present, difficult only, or absent as its objects in the XML say, read here by pattern."""
    root = shared_data("VOC2007")
    voc = open_voc(root, "test")
    boxed = ("bus", "car", "cat", "train", "person")  # the classes whose boxes came with the subset
    for image_id, labels in zip(voc.images.ids, voc.labels, strict=True):
        text = (root / "Annotations" / f"{image_id}.xml").read_text()
        objects = re.findall(r"<object>\s*<name>(\w+)</name>.*?<difficult>(\d)</difficult>", text, re.DOTALL)
        for name in boxed:
            easy = {difficult == "0" for found, difficult in objects if found == name}
            expected = -1 if not easy else int(True in easy)
            assert labels[voc.classes.index(name)] == expected, (image_id, name)


def test_what_macos_writes_beside_the_lists_is_passed_over(root):
    lists = root / "ImageSets" / "Main"
    splits = {path.stem for path in lists.glob("*.txt") if "_" not in path.stem}
    split = sorted(splits)[0]
    before = open_voc(root, split)
    for path in list(lists.glob("*.txt")):
        (lists / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\xa3\xb0")
    after = open_voc(root, split)
    assert after.classes == before.classes
    assert np.array_equal(after.labels, before.labels)
    with pytest.raises(ValueError, match=f"it has {', '.join(sorted(splits))}$"):
        open_voc(root, "nowhere")
