"""What files hold: another picture of the same name and size makes another set; a copied folder does not."""

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_images import write_pictures

from dclib.config import DataConfig
from dclib.data import contents
from dclib.data.contents import content_hash
from dclib.data.images import ImageSet
from dclib.data.layouts import open_images
from dclib.data.pixels import Pixels, load_pixels

SIDE = 36


def bitmaps(folder: Path, n: int = 6) -> Path:
    """Pictures without compression: all files have the same number of bytes."""
    folder.mkdir(parents=True)
    for i in range(n):
        bitmap(folder / f"{i}.bmp", seed=i)
    return folder


def bitmap(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def as_folder(made: Path, root: Path) -> Path:
    shutil.copytree(made, root, dirs_exist_ok=True)
    return root


def as_list(made: Path, root: Path) -> Path:
    as_folder(made, root / "files")
    (root / "images.txt").write_text("".join(f"files/{p.name}\n" for p in sorted(made.iterdir())))
    return root / "images.txt"


def as_tar(made: Path, root: Path) -> Path:
    root.mkdir(exist_ok=True)
    with tarfile.open(root / "images.tar", "w") as file:
        for path in sorted(made.iterdir()):
            file.add(path, path.name)
    return root / "images.tar"


def as_zips(made: Path, root: Path) -> Path:
    (root / "00").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "00" / "000.zip", "w") as file:
        for i, path in enumerate(sorted(made.iterdir())):
            file.write(path, f"{i:03d}.jpg")
    return root


def load(images: ImageSet, cache: Path, *, keep: bool = True) -> Pixels:
    return load_pixels(images, DataConfig(resize=SIDE, memory_gb=float(keep)), 32, cache, scan=not keep)


@pytest.mark.parametrize("store", [as_folder, as_list, as_tar, as_zips])
@pytest.mark.parametrize("keep", [True, False])
def test_a_picture_overwritten_by_as_many_bytes_is_seen(tmp_path, store, keep):
    made, cache = bitmaps(tmp_path / "made"), tmp_path / "cache"
    place = store(made, tmp_path / "disk")
    before = load(open_images(place), cache, keep=keep)
    bitmap(made / "3.bmp", seed=99)
    store(made, tmp_path / "disk")
    images = open_images(place)
    assert images.fingerprint == before.images.fingerprint  # by names and sizes nothing happened
    after = load(images, cache, keep=keep)
    assert after.identity != before.identity
    assert after.data_hash != before.data_hash
    if keep:
        drawn = np.asarray(Image.open(made / "3.bmp")).transpose(2, 0, 1)
        np.testing.assert_array_equal(after.decoded[3], drawn)
        np.testing.assert_array_equal(after.decoded[2], before.decoded[2])


def test_a_copy_with_other_times_is_the_same_set(tmp_path):
    here, cache = bitmaps(tmp_path / "here"), tmp_path / "cache"
    there = as_folder(here, tmp_path / "there")
    for path in there.iterdir():
        os.utime(path, (1, 1))
    assert load(open_images(here), cache).identity == load(open_images(there), cache).identity
    assert content_hash(open_images(here)) == content_hash(open_images(there), tmp_path / "elsewhere")


def test_files_are_read_again_only_when_written_to(tmp_path, monkeypatch):
    here, cache = bitmaps(tmp_path / "here"), tmp_path / "cache"
    first, read = content_hash(open_images(here), cache), []
    monkeypatch.setattr(contents, "_digests", lambda images, start: read.append(start) or b"x")
    assert content_hash(open_images(here), cache) == first
    assert not read
    # with the time of its content as it was: the time of the entry is another all the same
    status = (here / "1.bmp").stat()
    bitmap(here / "1.bmp", seed=77)
    os.utime(here / "1.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
    content_hash(open_images(here), cache)
    assert read == [0]


def test_a_cut_answer_is_not_believed(tmp_path):
    images, cache = open_images(bitmaps(tmp_path / "here")), tmp_path / "cache"
    first = content_hash(images, cache)
    (kept,) = cache.iterdir()
    for cut in ("", first[:7], f"{first}{first}"):
        kept.write_text(cut)
        assert content_hash(images, cache) == first


def test_order_and_unreadable_files_count(tmp_path):
    images = open_images(write_pictures(tmp_path / "here", 8))
    hashes = {content_hash(images), content_hash(images[::-1]), content_hash(images[:7])}
    images.reader.path(images.ids[2]).unlink()
    hashes.add(content_hash(images))
    images.reader.path(images.ids[2]).mkdir()  # opens as no file
    assert len(hashes) == 4
    assert content_hash(images) in hashes


def test_more_images_than_are_read_at_once_keep_their_order(tmp_path, monkeypatch):
    images = open_images(write_pictures(tmp_path / "here", 11))
    whole = content_hash(images)
    monkeypatch.setattr(contents, "AT_ONCE", 3)
    assert content_hash(images) == whole


def test_images_in_no_files_have_no_hash_of_content():
    class Memory:
        def read(self, image_id):
            return b""

        def sizes(self, image_ids):
            return np.zeros(len(image_ids), dtype=np.int64)

    assert content_hash(ImageSet("memory", ["a"], Memory())) == ""
