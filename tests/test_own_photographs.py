"""A folder of somebody's own photographs: shown upright, each once, and all else counted."""

import io
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dclib.config import DataConfig
from dclib.data import decoding, photographs
from dclib.data.decoding import decode_rgb
from dclib.data.folders import open_folder
from dclib.data.photo_crops import crop_photo
from dclib.data.photographs import open_photographs, read_head
from dclib.data.pixels import load_pixels
from dclib.randomness import generator

# what a viewer does with an array for each value of EXIF's orientation, by the standard's own words: where row 0 and
# column 0 of what is stored belong
UPRIGHT = {
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.swapaxes(0, 1),  # left, top
    6: lambda a: a[::-1].swapaxes(0, 1),  # right, top
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda a: a[:, ::-1].swapaxes(0, 1),  # left, bottom
}
FORMATS = ("JPEG", "MPO", "WEBP", "AVIF", "TIFF", "PNG", "HEIF")


def quarters(height: int = 32, width: int = 64) -> np.ndarray:
    """Four colours, so that no turn or mirror image looks like another."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (250, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 250, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 250)
    pixels[height // 2 :, width // 2 :] = (240, 240, 240)
    return pixels


def encoded(kind: str = "JPEG", orientation: int = 1, taken: str = "", pixels: np.ndarray | None = None) -> bytes:
    image = Image.fromarray(quarters() if pixels is None else pixels)
    exif = Image.Exif()
    exif[274] = orientation
    if taken:
        exif.get_ifd(0x8769)[36867] = taken
    more = {"save_all": True, "append_images": [image]} if kind == "MPO" else {}
    file = io.BytesIO()
    image.save(file, kind, exif=exif.tobytes(), **more)
    return file.getvalue()


def write(root: Path, **files: bytes) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def note(opened: photographs.Photographs, about: str) -> str:
    (found,) = [n for n in opened.images.notes if about in n]
    return found


@pytest.fixture(params=FORMATS)
def kind(request) -> str:
    if request.param == "HEIF" and not decoding.reads_heif():
        pytest.skip("pillow-heif is not installed")
    return str(request.param)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_photographs_are_upright_in_every_format(kind, orientation):
    stored = quarters()
    content, wanted = encoded(kind, orientation), UPRIGHT[orientation](stored)
    seen = np.asarray(decode_rgb(content, upright=True)).astype(int)
    assert seen.shape == wanted.shape
    assert np.abs(seen - wanted)[4::8, 4::8].max() < 40  # inside the quarters: what compression leaves
    assert read_head(content)[:2] == (wanted.shape[1], wanted.shape[0])


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind_", ["JPEG", "MPO"])
def test_drafts_and_crops_are_those_of_the_upright_picture(kind_, orientation):
    stored = quarters(256, 512)
    turned = encoded(kind_, orientation, pixels=stored)
    upright = encoded("PNG", pixels=np.ascontiguousarray(UPRIGHT[orientation](stored)))
    small = decode_rgb(turned, draft=32, upright=True)
    assert min(small.size) < 256  # the draft took hold
    assert small.size == ((64, 32) if orientation < 5 else (32, 64))
    for seed in range(4):
        crops = [crop_photo(c, 0.3, 16, generator(seed), upright=True).float() for c in (turned, upright)]
        assert (crops[0] - crops[1]).abs().mean() < 6  # of 255: another turn is off by more than 50


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_batches_are_upright_kept_or_streamed_and_the_papers_sets_are_not_turned(tmp_path, memory_gb):
    write(tmp_path, **{"a.jpg": encoded("JPEG", 6), "b.jpg": encoded("JPEG", 6)})
    own, paper = open_photographs(tmp_path).images, open_folder(tmp_path)
    assert own.fingerprint != paper.fingerprint
    data = DataConfig(resize=32, memory_gb=memory_gb)
    corners = {}
    for name, images in (("own", own), ("paper", paper)):
        pixels = load_pixels(images, data, 16)
        assert (pixels.decoded is None) == (memory_gb == 0)
        (batch,) = pixels.centre_batches(2)
        (crops,) = pixels.crop_batches([torch.arange(2)], 1.0, [0])
        assert len(crops) == 2
        corners[name] = [int(batch[0, :, y, x].argmax()) for y, x in ((2, 2), (2, 13))]
    # stored: red and green above blue and white; turned clockwise the left column is on top
    assert corners["own"] == [2, 0]
    assert corners["paper"] == [0, 1]


def test_broken_metadata_costs_no_photograph():
    content = encoded("JPEG", 6, "2020:02:03 04:05:06")
    start = content.index(b"Exif\0\0") + 6
    for end in (start + 4, start + 12, start + 30):
        broken = content[:end] + b"\xff" * 20 + content[end + 20 :]
        assert read_head(broken).width in (32, 64)
        assert decode_rgb(broken, upright=True).size in ((32, 64), (64, 32))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2019:08:07 06:05:04", "2019-08-07T06:05:04"),
        ("0000:00:00 00:00:00", ""),
        ("2019:13:07 06:05:04", ""),
        ("    :  :     :  :  ", ""),
        ("2019-08-07 06:05:04", "2019-08-07T06:05:04"),
    ],
)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_time_is_that_of_the_camera_or_none(format_, written, read):
    assert read_head(encoded(format_, 6, written)) == (32, 64, read)


def test_what_is_no_photograph_is_counted_by_kind(tmp_path):
    jpeg = encoded()
    names = ("a/1.mp4", "a/b/IMG_1.MOV", "a/1.xmp", "2.json", "Thumbs.db", "3.CR2", "a/one.dng", "4.psd", "5.zip")
    write(tmp_path, **dict.fromkeys(("a/b/IMG_1.jpg", "a/one.JPG", "no suffix", "x.jpg_large"), jpeg))
    write(tmp_path, **dict.fromkeys((*names, "notes.txt", ".hidden.jpg", "@eaDir/t.jpg"), b"something"))
    write(tmp_path, **{"empty.jpg": b"", "page.jpg": b"<!DOCTYPE html><html>"})
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path has at most 107 bytes
        try:
            unix.bind("socket.jpg")
        finally:
            os.chdir(here)
        opened = open_photographs(tmp_path)
    assert opened.images.ids == ["a/b/IMG_1.jpg", "a/one.JPG", "no suffix", "page.jpg", "x.jpg_large"]
    assert note(opened, "passed over videos") == "passed over videos (1): a/1.mp4"
    assert note(opened, "moving parts").endswith("(1): a/b/IMG_1.MOV")
    assert note(opened, "belong to photographs").endswith("(3): 2.json, Thumbs.db, a/1.xmp")
    assert note(opened, "program) (").endswith("(1): 3.CR2")
    assert note(opened, "beside their JPEG").endswith("(1): a/one.dng")
    assert note(opened, "archives").endswith("(1): 5.zip")
    assert note(opened, "kinds that are not read").endswith("(1): 4.psd")
    assert note(opened, "other files").endswith("(1): notes.txt")
    assert note(opened, "hidden").endswith("(1): .hidden.jpg")
    assert note(opened, "a system keeps").endswith("(1): @eaDir")
    assert note(opened, "pipes").endswith("(2): pipe.jpg, socket.jpg")
    assert note(opened, "empty files").endswith("(1): empty.jpg")
    with pytest.raises(Exception, match=r"it begins with b'<!DOCTYPE ht'"):
        read_head((tmp_path / "page.jpg").read_bytes())


def test_links_add_what_is_elsewhere_and_nothing_twice(tmp_path):
    write(tmp_path / "store", **{"c/3.jpg": encoded(), "4.jpg": encoded()})
    root = tmp_path / "set"
    write(root, **{"a/1.jpg": encoded(), "2.jpg": encoded()})
    for link, target in {
        "again.jpg": root / "2.jpg",
        "album": root / "a",
        "a/up": root,
        "out": tmp_path / "store" / "c",
        "also out": tmp_path / "store" / "c",
        "four.jpg": tmp_path / "store" / "4.jpg",
        "gone.jpg": tmp_path / "nowhere.jpg",
        "self.jpg": root / "self.jpg",
    }.items():
        (root / link).symlink_to(target)
    (tmp_path / "store" / "c" / "back").symlink_to(root)
    opened = open_photographs(root)
    outside = [i for i in opened.images.ids if i.endswith("/3.jpg")]
    assert len(outside) == 1
    assert sorted({*opened.images.ids} - {*outside}) == ["2.jpg", "a/1.jpg", "four.jpg"]
    assert note(opened, "links to photographs").endswith("(1): again.jpg")
    assert "album" in note(opened, "links to folders")
    assert note(opened, "lead nowhere").endswith("(2): gone.jpg, self.jpg")
    assert np.array_equal(opened.size, [(root / i).stat().st_size for i in opened.images.ids])
    assert np.array_equal(opened.written, [(root / i).stat().st_mtime_ns for i in opened.images.ids])


def test_names_of_any_signs_are_read_and_told_in_one_line(tmp_path):
    names = [b"caf\xe9.jpg", b"two\nlines.jpg", "e\u0301.jpg".encode(), "\u00e9.jpg".encode(), rb"caf\xe9.jpg"]
    for name in [*names, b"odd\n.mp4"]:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(encoded())
    opened = open_photographs(tmp_path)
    assert len(opened) == len(set(opened.images.ids)) == 5
    assert all(opened.images[i].size == (64, 32) for i in range(5))
    assert not any("\n" in n for n in opened.images.notes)
    assert {"two\nlines.jpg", "e\u0301.jpg", "\u00e9.jpg", r"caf\xe9.jpg"} < set(opened.images.ids)


def test_what_may_not_be_read_or_goes_away_is_named(tmp_path, monkeypatch):
    """The tests may run as root, whom nothing is closed to."""
    write(tmp_path, **dict.fromkeys(("a/1.jpg", "private/2.jpg", "shut.jpg", "went/3.jpg"), encoded()))
    scandir, access = os.scandir, os.access

    def refuse(folder):
        if str(folder).endswith("private"):
            raise PermissionError(13, "Permission denied")
        if str(folder).endswith("went"):
            raise FileNotFoundError(2, "No such file")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("shut.jpg") and access(path, mode))
    opened = open_photographs(tmp_path)
    assert opened.images.ids == ["a/1.jpg"]
    assert note(opened, "folders that may not").endswith("(1): private")
    assert note(opened, "files that may not").endswith("(1): shut.jpg")
    assert note(opened, "went away").endswith("(1): went")


def test_heif_without_its_decoder_is_counted_with_what_to_install(tmp_path, monkeypatch):
    write(tmp_path, **{"1.jpg": encoded(), "2.HEIC": b"\0\0\0\x18ftypheic\0\0\0\0"})
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    decoding.reads_heif.cache_clear()
    decoding._formats.cache_clear()
    try:
        opened = open_photographs(tmp_path)
        with pytest.raises(Exception, match="it is HEIF; `pip install pillow-heif`"):
            read_head((tmp_path / "2.HEIC").read_bytes())
    finally:
        decoding.reads_heif.cache_clear()
        decoding._formats.cache_clear()
    assert opened.images.ids == ["1.jpg"]
    assert "pip install pillow-heif" in note(opened, "HEIC")
    assert note(opened, "HEIC").endswith("(1): 2.HEIC")


def test_folders_without_photographs_are_refused_in_a_sentence(tmp_path):
    write(tmp_path, **{"films/1.mp4": b"film", "a.jpg": encoded()})
    (tmp_path / "empty").mkdir()
    for place, said in {
        "films": r"need a folder with photographs.*videos \(1\): 1\.mp4",
        "empty": "there is nothing in it",
        "a.jpg": "is a file",
        "gone": "is not there",
    }.items():
        with pytest.raises(ValueError, match=said):
            open_photographs(tmp_path / place)


def test_the_folder_of_answers_is_left(tmp_path):
    write(tmp_path, **dict.fromkeys(("a.jpg", "out/b.jpg"), encoded()))
    assert open_photographs(tmp_path, leave=[tmp_path / "out"]).images.ids == ["a.jpg"]
