"""Opening whatever holds images by its path, or by the name that a preset gives it."""

import pytest
from PIL import Image

from dclib.data.images import balanced_subset
from dclib.data.layouts import open_images, open_split


@pytest.fixture
def world(tmp_path):
    """Two folders of images, b with one class and a with two."""
    for path in ("a/cat/1.png", "a/dog/2.png", "b/cat/1.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / path)
    return tmp_path


def test_open_images_gives_the_name_asked_for(world):
    assert open_images(world / "a").name == "a"
    assert open_images(str(world / "a"), name="pool").name == "pool"


def test_one_class_folder_is_refused_where_classes_are_told_apart(world):
    with pytest.raises(ValueError, match="need labelled images of at least two classes.*b has one class"):
        balanced_subset(open_images(world / "b"), 0, seed=0)


def test_missing_path_says_what_is_there(world):
    with pytest.raises(ValueError, match=r"no images at .*a\.tar: it does not exist; .* holds a, b"):
        open_images(world / "a.tar")
    with pytest.raises(ValueError, match="nowhere is no folder either"):
        open_images(world / "nowhere" / "a")


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.h5"])
def test_unknown_file_is_refused(world, name):
    (world / name).touch()
    with pytest.raises(ValueError, match="need a folder, a .tar or a list file") as caught:
        open_images(world / name)
    assert ("unpack" in str(caught.value)) == (name != "a.h5")


def test_open_split_takes_the_first_choice_there_is(world):
    assert open_split(world, "c|b|a").name == "b"
    assert open_split(world, "a", name="pool").name == "pool"
    assert open_split(world, "") is None
    assert open_split(world, "c|") is None


def test_open_split_says_what_was_tried(world):
    with pytest.raises(ValueError, match=r"for data\.pool: looked in .* for c, c\.tar, d, d\.tar; .* holds a, b"):
        open_split(world, "c|d", name="pool")
