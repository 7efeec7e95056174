"""Folders, tars and lists, made by hand and real ones."""

import hashlib
import io
import multiprocessing
import os
import pickle
import tarfile
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dclib.data.folders import (
    HEIF_SUFFIXES,
    OpenFile,
    TarReader,
    _unread_suffixes,
    labels_from_folders,
    open_folder,
    open_list,
    open_tar,
    sort_out,
)
from dclib.data.images import UnreadableImageError
from dclib.data.layouts import open_images


def write_images(root: Path, *names: str) -> None:
    """Images of different grey, 10 more for each name."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        suffix = Path(name).suffix.lower()
        Image.new("L", (4, 3), 10 * i).save(root / name, {".jpg": "jpeg", ".jpeg": "jpeg"}.get(suffix, "png"))


def pack(root: Path, path: Path, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for file in sorted(root.rglob("*"), reverse=True):
            archive.add(file, file.relative_to(root), recursive=False)
    return path


def digest(images, index: int) -> str:
    return hashlib.sha256(images[index].tobytes()).hexdigest()


CLASSES = ("cat/1.png", "cat/2.JPEG", "dog/1.jpg", "eel/deep/3.png")


# --- folders


def test_folder_has_its_images_in_order_and_its_sub_folders_as_classes(tmp_path):
    write_images(tmp_path / "set", *reversed(CLASSES))
    (tmp_path / "set" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "set" / "cat" / "._1.png").write_text("left by another system")
    write_images(tmp_path / "set" / ".cache", "cat/9.png")
    images = open_folder(tmp_path / "set")
    assert (images.name, images.ids) == ("set", list(CLASSES))
    assert (images.labels.tolist(), images.classes) == ([0, 0, 1, 2], ("cat", "dog", "eel"))
    assert [images[i].getpixel((0, 0))[0] for i in range(4)] == [30, 20, 10, 0]
    assert images.reader.sizes(images.ids).tolist() == [(tmp_path / "set" / i).stat().st_size for i in images.ids]


def test_folder_without_sub_folders_has_no_labels(tmp_path):
    write_images(tmp_path, "b.png", "a.png")
    images = open_folder(tmp_path)
    assert (images.ids, images.labels, images.classes) == (["a.png", "b.png"], None, ())


def test_links_to_class_folders_are_followed_and_loops_are_not(tmp_path):
    write_images(tmp_path / "store", "cat/1.png", "dog/2.png")
    (tmp_path / "set").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "store" / "dog" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "store" / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert open_folder(tmp_path / "set").ids == ["cat/1.png", "dog/2.png"]


def test_empty_folder_is_refused_with_what_was_looked_for(tmp_path):
    (tmp_path / "set" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no images in .*set: need files ending in \.jpg, \.jpeg"):
        open_images(tmp_path / "set")


def test_folder_of_tars_says_to_give_one(tmp_path):
    (tmp_path / "train.tar").touch()
    with pytest.raises(ValueError, match=r"it holds train\.tar: give one of them"):
        open_images(tmp_path)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="need a folder of images; .*nowhere is not there"):
        open_folder(tmp_path / "nowhere")


def test_image_that_went_away_has_no_size(tmp_path):
    write_images(tmp_path, "a.png", "b.png")
    images = open_folder(tmp_path)
    before = images[:].fingerprint
    (tmp_path / "a.png").unlink()
    assert images.reader.sizes(images.ids)[0] == -1
    assert images.fingerprint != before


# --- what people's folders hold besides


def note_about(images, word: str) -> str:
    (note,) = (note for note in images.notes if word in note)
    return note


@pytest.mark.parametrize("as_tar", [False, True])
def test_folders_of_systems_are_no_classes(tmp_path, as_tar):
    litter = ("#recycle/old.jpg", "cat/@eaDir/1.png/THUMB.jpg", "__MACOSX/cat/1.png", "lost+found/9.png")
    write_images(tmp_path / "set", *CLASSES, *litter)
    images = open_images(pack(tmp_path / "set", tmp_path / "set.tar") if as_tar else tmp_path / "set")
    assert (images.ids, images.classes) == (list(CLASSES), ("cat", "dog", "eel"))
    assert note_about(images, "system").startswith("passed over folders that a system keeps for itself (4): ")
    assert all(name in note_about(images, "system") for name in ("#recycle", "cat/@eaDir", "__MACOSX", "lost+found"))
    assert open_folder(tmp_path / "set" / "#recycle").ids == ["old.jpg"]  # who asks for it gets it


@pytest.mark.parametrize(
    ("loose", "inside"),
    [(["cover.png"], ""), (["cover.png"], "train/"), (["b.png", "a.png"], "")],
)
def test_a_loose_picture_costs_no_labels(tmp_path, loose, inside):
    classes = [f"{inside}{kind}/{i}.png" for kind in ("ant", "bee") for i in range(12)]
    write_images(tmp_path / "set", *classes, *(inside + name for name in loose))
    images = open_images(tmp_path / "set")
    assert (images.ids, images.classes) == (sorted(classes), ("ant", "bee"))
    assert note_about(images, "beside the class folders").endswith(", ".join(sorted(inside + name for name in loose)))


def test_a_folder_that_is_mostly_unsorted_keeps_every_picture(tmp_path):
    write_images(tmp_path / "set", *(f"{i}.png" for i in range(8)), "best/1.png", "more/2.png")
    images = open_images(tmp_path / "set")
    assert (len(images), images.labels) == (10, None)
    assert "8 of 10 images are in no folder" in note_about(images, "no labels")


VOC_FILES = ("VOC2007/JPEGImages/1.jpg", "VOC2007/ImageSets/Main/test.txt")
LANDMARK_FILES = (
    ("oxford5k/jpg/1.jpg", "oxford5k/gt/hall_1_query.txt"),
    ("oxford5k/1.jpg", "oxford5k/hall_1_query.txt"),
    ("sets/paris6k/paris/defense/1.jpg", "sets/paris6k/gt/hall_1_query.txt"),
    ("oxford5k/jpg/1.jpg", "oxford5k/gnd_oxford5k.pkl"),
    ("oxford5k/jpg/1.jpg", "oxford5k/truth/of/gnd_oxford5k.pkl"),
    ("oxford5k/jpg/hall_000001.jpg", "oxford5k/truth/of/hall_1_query.txt"),
)


@pytest.mark.parametrize(
    "files", [VOC_FILES, *LANDMARK_FILES, ("kit/VOC/JPEGImages/1.jpg", "kit/VOC/Annotations/1.xml")]
)
@pytest.mark.parametrize("as_tar", [False, True])
def test_evaluation_sets_are_no_part_of_a_collection(tmp_path, files, as_tar):
    write_images(tmp_path / "set", "a.png", "sets/b.png", files[0])
    (tmp_path / "set" / files[1]).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "set" / files[1]).write_text("")
    images = open_images(pack(tmp_path / "set", tmp_path / "set.tar") if as_tar else tmp_path / "set")
    assert images.ids == ["a.png", "sets/b.png"]
    layout = next(part for part in ("VOC2007", "oxford5k", "sets/paris6k", "kit/VOC") if files[0].startswith(part))
    assert note_about(images, "evaluation").endswith(f": {layout}")
    assert len(open_folder(tmp_path / "set" / layout)) == 1  # who asks for it gets it
    assert len(open_folder(tmp_path / "set", whole=True)) == 3


@pytest.mark.parametrize("inside", ["", "sets/"])
def test_landmarks_beside_their_ground_truth_are_told_from_other_folders_by_their_names(tmp_path, inside):
    """As the downloads unpack: images in one folder, text in another, and people's own pictures beside both."""
    own = [f"{inside}{name}.png" for name in ("hall/1", "hall/a_small_hall", "me/hallway_000001")]
    paris = ("paris_1/gate/paris_gate_000001.png", "paris_1/gate/paris_gate_000002.png")
    write_images(tmp_path / "set", *own, *(f"{inside}{name}" for name in ("oxbuild/hall_000001.png", *paris)))
    for name in ("gt/hall_1_query.txt", "gt/hall_1_good.txt", "paris_gt/gate_2_query.txt"):
        (tmp_path / "set" / inside / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / inside / name).write_text("")
    images = open_images(tmp_path / "set")
    assert images.ids == sorted(own)
    assert note_about(images, "evaluation").endswith(f"(2): {inside}oxbuild, {inside}paris_1")


def test_a_name_that_is_not_utf8_is_read_under_an_escaped_one(tmp_path):
    write_images(tmp_path / "set", "a.png", "b.png")
    os.rename(tmp_path / "set" / "b.png", os.fsencode(tmp_path / "set") + b"/caf\xe9.png")
    for images in (open_images(tmp_path / "set"), open_images(pack(tmp_path / "set", tmp_path / "set.tar"))):
        assert images.ids == ["a.png", r"caf\xe9.png"]
        assert images[1].getpixel((0, 0)) == (10, 10, 10)
        assert images.reader.sizes(images.ids).min() > 0
        assert note_about(images, "UTF-8").endswith(r": caf\xe9.png")
        assert pickle.loads(pickle.dumps(images))[1].size == (4, 3)
    fingerprints = {open_images(tmp_path / name).fingerprint for name in ("set", "set.tar")}
    assert len(fingerprints) == 1


# --- labels


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (["train/cat/1", "train/dog/1"], ["cat", "dog"]),
        (["train/cat/1", "val/dog/1", "test/cat/2"], ["cat", "dog", "cat"]),
        (["all/train/cat/1", "all/val/cat/2"], ["cat", "cat"]),
        (["cat/1", "cat/2"], ["cat", "cat"]),
        (["cat/black/1", "cat/white/2", "dog/black/3"], ["cat", "cat", "dog"]),
        (["train/1", "val/2"], ["train", "val"]),
        (["./cat/1", "dog/2"], ["cat", "dog"]),
        (["a/abbey/1", "a/arch/2", "b/bar/3"], ["abbey", "arch", "bar"]),
        (["a/abbey/1", "a/apartment/outdoor/2", "a/apartment/indoor/3"], None),
        (["a/abbey/1", "a/arch/2"], ["abbey", "arch"]),
        (["val/a/abbey/1", "val/a/arch/in/2", "val/b/bar/3"], ["abbey", "arch/in", "bar"]),
        (["a/x/1", "b/y/2"], ["a", "b"]),
        (["a/1", "b/2"], ["a", "b"]),
    ],
)
def test_class_is_the_first_folder_that_differs(ids, names):
    names = ["abbey", "apartment/outdoor", "apartment/indoor"] if names is None else names
    labels, classes = labels_from_folders(ids)
    assert [classes[label] for label in labels] == names
    assert list(classes) == sorted(set(names))


@pytest.mark.parametrize("ids", [["1", "2"], ["cat/1", "2"], []])
def test_image_outside_class_folders_means_no_labels(ids):
    assert labels_from_folders(ids) == (None, ())


# --- tars


def test_tar_equals_the_folder_it_was_packed_from(tmp_path):
    write_images(tmp_path / "set", *CLASSES, "cat/._1.png")
    folder = open_folder(tmp_path / "set")
    images = open_images(pack(tmp_path / "set", tmp_path / "set.tar"))
    assert (images.name, images.ids, images.classes) == ("set", folder.ids, folder.classes)
    assert images.labels.tolist() == folder.labels.tolist()
    assert images.fingerprint == folder.fingerprint
    assert [digest(images, i) for i in (2, 0, 3, 1)] == [digest(folder, i) for i in (2, 0, 3, 1)]


def test_hard_links_in_a_tar_are_images_too(tmp_path):
    write_images(tmp_path / "set", "cat/1.png")
    (tmp_path / "set" / "dog").mkdir()
    os.link(tmp_path / "set" / "cat" / "1.png", tmp_path / "set" / "dog" / "2.png")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(tmp_path / "set", "set")
        assert any(member.islnk() for member in archive.getmembers())
    images = open_tar(tmp_path / "set.tar")
    assert images.ids == ["set/cat/1.png", "set/dog/2.png"]
    assert digest(images, 0) == digest(images, 1)


def test_a_tar_is_looked_through_once_and_again_when_it_was_written(tmp_path):
    write_images(tmp_path / "set", "cat/1.png")
    path = pack(tmp_path / "set", tmp_path / "set.tar")
    first = open_tar(path).reader.members
    assert open_tar(path).reader.members is first
    os.utime(path, ns=(1, 1))  # as a copy may: the entry itself is newer
    assert open_tar(path).reader.members is not first
    write_images(tmp_path / "set", "cat/2.png")
    assert len(open_tar(pack(tmp_path / "set", path))) == 2


def test_compressed_tar_is_refused(tmp_path):
    write_images(tmp_path / "set", *CLASSES)
    path = pack(tmp_path / "set", tmp_path / "set.tar", "w:gz")
    with pytest.raises(ValueError, match="need an uncompressed, complete tar .*unpack it and give the folder"):
        open_images(path)


def test_tar_cut_short_is_refused(tmp_path):
    write_images(tmp_path / "set", *CLASSES)
    path = pack(tmp_path / "set", tmp_path / "set.tar")
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
        assert last.isdir()
        cut = next(m for m in reversed(archive.getmembers()) if m.isreg())
    path.write_bytes(path.read_bytes()[: cut.offset_data + 10])
    with pytest.raises(ValueError, match="need an uncompressed, complete tar .*fetch it again"):
        open_tar(path)


@pytest.mark.parametrize("spoil", ["cut", "damage", "append"])
def test_a_tar_that_would_pass_for_a_smaller_one_is_refused(tmp_path, spoil):
    """Between two members Python's own reader takes any of these for the archive's end."""
    write_images(tmp_path / "set", "a/1.png", "b/2.png")
    path = pack(tmp_path / "set", tmp_path / "set.tar")
    with tarfile.open(path) as archive:
        last = max(member.offset for member in archive)
    content = path.read_bytes()
    spoilt = {
        "cut": content[:last],
        "damage": content[:last] + b"x" * tarfile.BLOCKSIZE + content[last + tarfile.BLOCKSIZE :],
        "append": content + content,
    }
    path.write_bytes(spoilt[spoil])
    with tarfile.open(path, "r:") as archive:
        assert len(archive.getnames()) == len(set(archive.getnames()))  # and it says nothing
    with pytest.raises(ValueError, match=r"complete tar of images, got .*set\.tar: .* at byte [0-9,]+"):
        open_tar(path)


def test_tar_without_images_and_missing_tar_are_refused(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "readme.txt").write_text("none")
    with pytest.raises(ValueError, match=r"no images in .*set\.tar: need members ending in"):
        open_tar(pack(tmp_path / "set", tmp_path / "set.tar"))
    with pytest.raises(ValueError, match=r"gone\.tar is not there"):
        open_tar(tmp_path / "gone.tar")


def test_tar_that_shrank_after_opening_names_the_image(tmp_path):
    write_images(tmp_path / "set", *CLASSES)
    images = open_tar(pack(tmp_path / "set", tmp_path / "set.tar"))
    os.truncate(tmp_path / "set.tar", 600)
    with pytest.raises(ValueError, match=r"eel/deep/3\.png|cut short"):
        [images[i] for i in range(4)]


def test_open_file_gives_whole_ranges_or_an_error(tmp_path):
    (tmp_path / "x").write_bytes(bytes(range(100)))
    file = OpenFile(tmp_path / "x")
    assert file.read_at(90, 10) == bytes(range(90, 100))
    assert file.read_at(3, 0) == b""
    with pytest.raises(OSError, match="cut short: need 11 bytes at 90, got 10"):
        file.read_at(90, 11)
    with pytest.raises(FileNotFoundError):
        OpenFile(tmp_path / "gone")


# --- lists


def test_list_gives_its_own_order(tmp_path):
    write_images(tmp_path, "b.png", "sub/a.png", "with space.png")
    (tmp_path / "list.txt").write_text("sub/a.png\nb.png\n\nwith space.png\n")
    images = open_images(tmp_path / "list.txt")
    assert (images.ids, images.labels) == (["sub/a.png", "b.png", "with space.png"], None)
    assert images[0].getpixel((0, 0)) == (10, 10, 10)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.tsv", "b.png\tcat\nsub/a, b.png\tant\n"),
        ("list.txt", "\ufeffb.png\tcat\r\nsub/a, b.png\tant\r\n"),
        ("list.csv", 'b.png,cat\n"sub/a, b.png",ant\n'),
        ("places.csv", "b.png cat\nsub/c.png ant\n"),
        ("caffe.txt", "b.png cat\nsub/a, b.png ant\n"),
    ],
)
def test_list_gives_classes_after_a_tab_a_comma_or_a_space(tmp_path, name, text):
    write_images(tmp_path, "b.png", "sub/a, b.png", "sub/c.png")
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    images = open_list(tmp_path / name)
    assert images.ids[0] == "b.png"
    assert (images.labels.tolist(), images.classes) == ([1, 0], ("ant", "cat"))


def test_list_with_a_missing_file_counts_and_names_it(tmp_path):
    write_images(tmp_path, "a.png")
    (tmp_path / "list.txt").write_text("a.png\ngone.png\nlost.png\n")
    with pytest.raises(ValueError, match=r"lists 3 images and 2 of them are not there, first 'gone\.png'"):
        open_images(tmp_path / "list.txt")


def test_list_with_classes_for_some_is_refused(tmp_path):
    write_images(tmp_path, "a.png", "b.png")
    (tmp_path / "list.txt").write_text("a.png\tcat\nb.png\t\n")
    with pytest.raises(ValueError, match="gives a class for 1 of 2 images"):
        open_images(tmp_path / "list.txt")


def test_empty_list_and_list_that_is_no_text_are_refused(tmp_path):
    (tmp_path / "list.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="no images in .*: need one path per line"):
        open_images(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="need a text file in UTF-8"):
        open_images(tmp_path / "list.txt")


# --- processes


@pytest.mark.parametrize("packed", [False, True])
def test_set_survives_pickling_after_use(tmp_path, packed):
    write_images(tmp_path / "set", *CLASSES)
    images = open_tar(pack(tmp_path / "set", tmp_path / "s.tar")) if packed else open_folder(tmp_path / "set")
    first = digest(images, 0)
    copy = pickle.loads(pickle.dumps(images))
    assert digest(copy, 0) == first
    assert copy.fingerprint == images.fingerprint


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_read_one_tar(tmp_path, start):
    write_images(tmp_path / "set", *[f"{i}.png" for i in range(20)])
    images = open_tar(pack(tmp_path / "set", tmp_path / "set.tar"))
    expected = [digest(images, i) for i in range(20)]  # the parent's handle is open before the workers start
    assert len(set(expected)) == 20
    with multiprocessing.get_context(start).Pool(2) as pool:
        found = pool.map(partial(digest, images), list(range(20)) * 5, chunksize=5)
    assert found == expected * 5


def test_reader_closes_what_it_opened(tmp_path):
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("needs /proc to see which files are open")
    write_images(tmp_path / "set", *CLASSES)
    images = open_tar(pack(tmp_path / "set", tmp_path / "set.tar"))

    def count() -> int:
        links = [os.readlink(p) for p in open_files.iterdir() if p.is_symlink() and p.exists()]
        return sum(link.endswith("set.tar") for link in links)

    assert count() == 0
    _ = images[0]
    assert count() == 1
    file = images.reader._file
    _ = images[1]
    assert images.reader._file is file
    del file
    del images
    assert count() == 0


# --- real sets


def test_cifar10(shared_data):
    images = open_images(shared_data("cifar10/test.tar"))
    assert len(images) == 10_000
    assert list(images.classes) == shared_data("cifar10/classes.txt").read_text().split()
    assert np.bincount(images.labels).tolist() == [1000] * 10
    assert images[9_999].size == (32, 32)


def test_imagenette(shared_data):
    images = open_images(shared_data("imagenette112/val.tar"))
    rows = shared_data("imagenette112/classes.tsv").read_text().splitlines()[1:]
    assert (len(images), len(images.classes)) == (3925, 10)
    assert list(images.classes) == [row.split("\t")[0] for row in rows]
    assert images[3924].size == (112, 112)


def test_scene15(shared_data):
    images = open_images(shared_data("scene15/test.tar"))
    assert len(images) == 2540
    assert list(images.classes) == shared_data("scene15/classes.txt").read_text().split()
    assert (images[0].mode, images[0].size) == ("RGB", (128, 128))
    counts = np.bincount(images.labels)
    assert (counts.min(), counts.max()) == (94, 264)


def test_imagenet_samples_have_no_class_folders(shared_data):
    images = open_images(shared_data("imagenet_samples160/images.tar"))
    assert (len(images), images.labels, images.classes) == (1000, None, ())
    assert min(images[7].size) <= 160


def test_real_tar_member_by_member(shared_data):
    path = shared_data("imagenette112/val.tar")
    images = open_tar(path)
    assert isinstance(images.reader, TarReader)
    with tarfile.open(path) as archive:
        members = [m for m in archive if m.isfile()]
        by_folder = Counter(m.name.split("/")[1] for m in members)
        for member in members[::197]:
            content = archive.extractfile(member).read()
            assert images.reader.read(member.name) == content
            index = images.ids.index(member.name)
            assert images.classes[images.labels[index]] == member.name.split("/")[1]
            with Image.open(io.BytesIO(content)) as image:
                assert images[index].tobytes() == image.convert("RGB").tobytes()
    assert {c: int((images.labels == i).sum()) for i, c in enumerate(images.classes)} == by_folder


def test_a_folder_that_may_not_be_read_is_passed_over_and_named(tmp_path, monkeypatch):
    """The tests may run as root, whom nothing is closed to."""
    write_images(tmp_path, "a/1.png", "b/2.png", "private/3.png")
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("private"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    images = open_folder(tmp_path)
    assert list(images.ids) == ["a/1.png", "b/2.png"]
    assert note_about(images, "may not be read") == "passed over folders that may not be read (1): private"
    with pytest.raises(ValueError, match=r"no images in .*folders that may not be read \(1\): .*; give this user"):
        open_folder(tmp_path / "private")


def test_pictures_of_kinds_that_are_not_read_are_counted_and_named(tmp_path):
    write_images(tmp_path, "a/1.png", "b/2.png")
    for name in ("a/3.HEIC", "b/4.cr2", "notes.txt"):
        (tmp_path / name).write_bytes(b"something")
    images = open_folder(tmp_path)
    assert len(images) == 2
    assert "(2): a/3.HEIC, b/4.cr2" in note_about(images, "kinds that are not read")


@pytest.mark.parametrize("suffix", HEIF_SUFFIXES)
def test_pictures_of_phones_are_told_whether_or_not_their_plugin_is_loaded(suffix, monkeypatch):
    monkeypatch.setattr(Image, "registered_extensions", dict)
    _unread_suffixes.cache_clear()
    assert f"a/1{suffix}" in sort_out([f"a/1{suffix}"]).notes[0]
    _unread_suffixes.cache_clear()


def test_no_picture_that_pillow_opens_is_passed_over_without_a_word():
    Image.init()
    for suffix in (suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN):
        found = sort_out([f"a/1{suffix}"])
        assert found.paths or "1" + suffix in found.notes[0]


def test_files_of_a_folder_that_may_be_listed_and_not_entered_have_no_size(tmp_path, monkeypatch):
    """The tests may run as root, whom nothing is closed to."""
    write_images(tmp_path, "a/1.png", "shut/2.png")
    images, stat = open_folder(tmp_path), Path.stat

    def refuse(path, **options):
        if path.parent.name == "shut":
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    assert images.reader.sizes(images.ids)[1] == -1
    assert images.fingerprint
    with pytest.raises(UnreadableImageError, match=r"shut/2\.png.*Permission denied"):
        images[1]


@pytest.mark.parametrize("content", ['""\n', '""\n" "\n'])
def test_a_list_of_empty_quotation_marks_holds_no_images(tmp_path, content):
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises(ValueError, match=r"no images in .*list\.txt: need one path per line"):
        open_list(tmp_path / "list.txt")
