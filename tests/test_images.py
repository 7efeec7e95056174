"""Image sets: decoding to RGB, errors, slices, fingerprints, balanced subsets."""

import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dclib.data.images import ImageSet, NumberedIds, UnreadableImageError, balanced_subset, labels_from_names


class MemoryReader:
    """Images from a dict: what the tests read from."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents

    def read(self, image_id: str) -> bytes:
        return self.contents[image_id]

    def sizes(self, image_ids):
        return np.array([len(self.contents[i]) for i in image_ids], dtype=np.int64)


def encode(image: Image.Image, suffix: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def set_of(*contents: bytes, labels=None, classes=()) -> ImageSet:
    ids = [f"{i}.img" for i in range(len(contents))]
    labels = None if labels is None else np.array(labels)
    return ImageSet("tiny", ids, MemoryReader(dict(zip(ids, contents, strict=True))), labels, classes)


def decode(content: bytes) -> np.ndarray:
    image = set_of(content)[0]
    assert image.mode == "RGB"
    return np.asarray(image)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- decoding


def test_grey_becomes_three_equal_channels():
    grey = noise(5, 7)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(grey), "png")), np.stack([grey] * 3, axis=-1))


def test_palette_is_looked_up():
    palette = noise(256, 3)
    numbers = noise(5, 7, seed=1)
    image = Image.fromarray(numbers).copy()
    image.putpalette(palette.tobytes())
    np.testing.assert_array_equal(decode(encode(image, "png")), palette[numbers])


def test_palette_with_transparency_by_colour_keeps_its_colours_without_a_warning():
    palette, numbers = noise(256, 3), noise(5, 7, seed=1)
    image = Image.fromarray(numbers).copy()
    image.putpalette(palette.tobytes())
    content = encode(image, "png", transparency=bytes(range(256)))
    with pytest.warns(UserWarning, match="Transparency"):  # Pillow by itself
        Image.open(io.BytesIO(content)).convert("RGB")
    np.testing.assert_array_equal(decode(content), palette[numbers])


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2)])
def test_transparency_is_dropped(mode, channels):
    pixels = noise(5, 7, channels)
    expected = pixels[..., :3] if mode == "RGBA" else np.repeat(pixels[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(pixels), "png")), expected)


def test_cmyk_is_converted_by_the_simple_formula():
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    image = Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(inks[..., c])) for c in range(4)])
    # no ink is white, cyan has no red, magenta and yellow make red, key is black
    expected = [[[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0]]]
    np.testing.assert_array_equal(decode(encode(image, "tiff")), expected)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_keep_their_high_byte(suffix):
    deep = np.random.default_rng(0).integers(0, 2**16, (5, 7), dtype=np.uint16)
    expected = np.stack([deep // 256] * 3, axis=-1)
    np.testing.assert_array_equal(decode(encode(Image.fromarray(deep), suffix)), expected)


def test_first_image_of_an_animation_is_taken():
    first, second = Image.new("L", (4, 4), 10), Image.new("L", (4, 4), 200)
    content = encode(first, "gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(content), np.full((4, 4, 3), 10))


def test_orientation_tag_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise"
    assert decode(encode(Image.new("RGB", (8, 4)), "jpeg", exif=exif)).shape == (4, 8, 3)


def test_broken_metadata_is_no_matter():
    cut_short = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # five entries are promised, none follows
    content = encode(Image.new("RGB", (8, 4), "red"), "jpeg", exif=cut_short)
    with pytest.warns(UserWarning, match="EXIF"):  # Pillow by itself
        Image.open(io.BytesIO(content))
    assert decode(content).shape == (4, 8, 3)  # warnings are errors in these tests


@pytest.mark.parametrize("draft", [0, 20, 32, 60])
def test_draft_never_falls_below_the_side_asked_for(draft):
    content = encode(Image.new("RGB", (200, 128)), "jpeg")
    width, height = set_of(content).open(0, draft=draft).size
    assert height >= draft
    assert (width, height) == {0: (200, 128), 20: (50, 32), 32: (50, 32), 60: (100, 64)}[draft]


def test_draft_changes_nothing_but_jpeg():
    assert set_of(encode(Image.new("RGB", (200, 128)), "png")).open(0, draft=16).size == (200, 128)


# --- errors


@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "tiff"])
def test_truncated_image_is_named(suffix):
    content = encode(Image.fromarray(noise(64, 64, 3)), suffix)
    images = set_of(content, content[: len(content) // 2])
    assert images[0].size == (64, 64)
    with pytest.raises(UnreadableImageError, match=r"1\.img.*of tiny cannot be read: \S"):
        images[1]


@pytest.mark.parametrize("content", [b"", b"<html>302 Found</html>", b"\xff\xd8\xff", b"GIF89a"])
def test_what_is_no_image_is_named(content):
    with pytest.raises(UnreadableImageError, match=r"0\.img"):
        set_of(content)[0]


@pytest.mark.parametrize("suffix", ["jpeg", "png", "gif", "bmp", "ppm", "webp", "tiff"])
def test_damaged_bytes_give_an_image_or_the_one_error(suffix):
    rng = np.random.default_rng(0)
    content = encode(Image.fromarray(noise(16, 16, 3)), suffix)
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 200), 4):
            damaged[place] = rng.integers(256)
        try:
            outcomes.add(set_of(bytes(damaged))[0].mode)
        except UnreadableImageError:
            outcomes.add("unreadable")
    assert outcomes <= {"RGB", "unreadable"}
    assert "unreadable" in outcomes


def test_error_survives_a_worker_process():
    with pytest.raises(UnreadableImageError) as caught:
        set_of(b"")[0]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_running_out_of_memory_is_not_blamed_on_the_image():
    class Full(MemoryReader):
        def read(self, image_id):
            raise MemoryError

    with pytest.raises(MemoryError):
        replace(set_of(b""), reader=Full({}))[0]


@pytest.mark.parametrize(("labels", "classes"), [([0, 1], ("a", "b")), ([0, 1, 2], ("a", "b")), ([0, -1, 0], ("a",))])
def test_labels_must_fit_images_and_classes(labels, classes):
    with pytest.raises(ValueError, match="label"):
        set_of(b"", b"", b"", labels=labels, classes=classes)


# --- subsets and fingerprints


def grey_levels(images: ImageSet) -> list[int]:
    return [images[i].getpixel((0, 0))[0] for i in range(len(images))]


@pytest.fixture
def six() -> ImageSet:
    contents = [encode(Image.new("L", (2, 2), 10 * i), "png") for i in range(6)]
    return set_of(*contents, labels=[0, 1, 0, 1, 0, 2], classes=("a", "b", "c"))


def test_subset_and_slice_keep_images_and_labels_together(six):
    chosen = six.subset(np.array([5, 0, 0]), name="three")
    assert (chosen.name, grey_levels(chosen), chosen.labels.tolist()) == ("three", [50, 0, 0], [2, 0, 0])
    sliced = six[4:0:-2]
    assert (sliced.name, grey_levels(sliced), sliced.labels.tolist()) == ("tiny", [40, 20], [0, 0])
    assert len(six.subset([])) == 0
    assert grey_levels(six.subset([-1])) == [50]


def test_subset_refuses_masks_and_numbers_outside(six):
    with pytest.raises(ValueError, match="flatnonzero"):
        six.subset(six.labels == 0)
    with pytest.raises(IndexError):
        six.subset([6])
    with pytest.raises(IndexError):
        six[6]


def test_iteration_ends(six):
    assert [image.getpixel((0, 0))[0] for image in six] == [0, 10, 20, 30, 40, 50]


def test_fingerprint_tells_order_size_name_and_label_apart(six):
    same = set_of(*six.reader.contents.values(), labels=six.labels, classes=six.classes)
    assert same.fingerprint == six.fingerprint == replace(six, name="other").fingerprint
    assert len(six.fingerprint) == 12
    larger = {**six.reader.contents, "3.img": six.reader.contents["3.img"] + b"\0"}
    others = [
        six.subset([1, 0, 2, 3, 4, 5]),
        six[:5],
        replace(six, reader=MemoryReader(larger)),
        replace(six, labels=np.array([0, 1, 0, 1, 0, 1])),
        replace(six, labels=None),
        replace(six, classes=("a", "b", "d")),
    ]
    assert len({images.fingerprint for images in [six, *others]}) == 7


def test_fingerprint_does_not_run_names_together():
    one = ImageSet("x", ["ab", "c"], MemoryReader({"ab": b"1", "c": b"1"}))
    two = ImageSet("x", ["a", "bc"], MemoryReader({"a": b"1", "bc": b"1"}))
    assert one.fingerprint != two.fingerprint


def test_numbered_ids_are_the_texts_they_stand_for():
    numbers = np.array([0, 7, 99_999_999, 12_345_678])
    ids = NumberedIds(numbers, 8)
    texts = ["00000000", "00000007", "99999999", "12345678"]
    assert list(ids) == texts == [ids[i] for i in range(4)]
    assert ids[-1] == "12345678"
    assert ids == texts
    assert ids != texts[::-1]
    assert ids[1:3] == texts[1:3]
    assert ids[1:3].numbers.nbytes == 8
    assert pickle.loads(pickle.dumps(ids)) == texts
    with pytest.raises(IndexError):
        ids[4]
    with pytest.raises(ValueError, match="8 digits"):
        NumberedIds(np.array([100_000_000]), 8)


def test_labels_from_names_are_alphabetical():
    labels, classes = labels_from_names(["cat", "ant", "cat", "bee"])
    assert (labels.tolist(), classes) == ([2, 0, 2, 1], ("ant", "bee", "cat"))


def classes_of(sizes: list[int]) -> ImageSet:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(0).shuffle(labels)
    ids = [str(i) for i in range(len(labels))]
    return ImageSet("made", ids, MemoryReader({}), labels, tuple("abcdefgh"[: len(sizes)]))


@pytest.mark.parametrize("count", [1, 3, 7, 12, 29])
def test_balanced_subset_gives_classes_equal_shares_as_far_as_they_last(count):
    images = classes_of([20, 2, 9])
    chosen = balanced_subset(images, count, seed=0)
    counts = np.bincount(chosen.labels, minlength=3)
    assert counts.sum() == count == len(set(chosen.ids))
    # an exhausted class may have less; nobody else is more than one below the largest share
    lasting = counts < np.array([20, 2, 9])
    assert all(counts[lasting] >= counts.max() - 1)
    assert [int(i) for i in chosen.ids] == sorted(int(i) for i in chosen.ids)
    np.testing.assert_array_equal(chosen.labels, images.labels[[int(i) for i in chosen.ids]])


def test_balanced_subset_depends_on_the_seed_alone():
    images = classes_of([20, 20])
    assert balanced_subset(images, 10, seed=3).ids == balanced_subset(images, 10, seed=3).ids
    assert len({tuple(balanced_subset(images, 10, seed=s).ids) for s in range(5)}) == 5


@pytest.mark.parametrize("count", [0, 5, 99])
def test_balanced_subset_of_all_is_the_set(count):
    images = classes_of([3, 2])
    assert balanced_subset(images, count, seed=0) is images


def test_nothing_to_tell_apart_is_refused():
    with pytest.raises(ValueError, match="at least two classes.*tiny has no labels.*sub-folder per class"):
        balanced_subset(set_of(b"", b""), 0, seed=0)
    with pytest.raises(ValueError, match="tiny has one class"):
        balanced_subset(set_of(b"", b"", labels=[1, 1], classes=("a", "b")), 0, seed=0)
    with pytest.raises(ValueError, match="count >= 0.*-1"):
        balanced_subset(classes_of([3, 2]), -1, seed=0)
