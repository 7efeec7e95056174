"""Folders of frames and videos open as one set of images; what cannot be used is told."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dclib.data import clips as clips_module
from dclib.data.clips import Clips, natural, open_clips
from dclib.data.images import FileReader
from dclib.presets import parse_preset
from dclib.train.runnable import clips_fault, find_clips, look_ahead


def write_frames(folder: Path, names: list[str], size: tuple[int, int] = (20, 16)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", size, (number,) * 3).save(folder / name)


def write_video(path: Path, count: int, size: tuple[int, int] = (48, 32)) -> None:
    """Frames of one grey each, 8 levels apart."""
    av = pytest.importorskip("av")
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(count):
            pixels = np.full((size[1], size[0], 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def greys(clips: Clips, number: int) -> list[float]:
    return [float(np.asarray(clips.images[i]).mean()) for i in clips.frames(number)]


def test_frames_of_a_clip_follow_each_other_in_natural_order(tmp_path: Path) -> None:
    write_frames(tmp_path / "b", ["f1.png", "f2.png", "f10.png"])
    write_frames(tmp_path / "a" / "deep" / "clip", ["0002.png", "0001.png"])
    write_frames(tmp_path / "clip10", ["x.PNG", "y.png"])
    write_frames(tmp_path / "clip9", ["x.bmp", "y.png"])
    clips = open_clips(tmp_path)
    assert clips.names == ("a/deep/clip", "b", "clip9", "clip10")
    assert clips.clip.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert [clips.images.ids[i] for i in clips.frames(1)] == ["b/f1.png", "b/f2.png", "b/f10.png"]
    assert greys(clips, 0) == [1, 0]
    assert clips.notes == ()
    assert len(clips) == 4


def test_numbers_in_names_count_by_value() -> None:
    names = ["a10", "a9", "a09", "b", "10", "9", "a9b2", "a9b10"]
    assert sorted(names, key=natural) == ["9", "10", "a09", "a9", "a9b2", "a9b10", "a10", "b"]


def test_long_clips_are_thinned_evenly_and_told(tmp_path: Path) -> None:
    write_frames(tmp_path / "long", [f"{i}.png" for i in range(11)])
    clips = open_clips(tmp_path, most_frames=4)
    assert greys(clips, 0) == [0, 3, 6, 9]
    assert clips.notes == ("took at most 4 frames, evenly spread, of longer clips (1): long",)


def test_what_is_of_no_use_is_passed_over_and_told(tmp_path: Path) -> None:
    write_frames(tmp_path / "good", ["1.png", "2.png", "3.png"])
    (tmp_path / "good" / "4.png").write_bytes(b"no image")
    (tmp_path / "good" / "5.png").write_bytes(b"")
    write_frames(tmp_path / "good", ["6.png"], (30, 16))
    write_frames(tmp_path / "single", ["1.png"])
    write_frames(tmp_path, ["still.png"])
    write_frames(tmp_path / "@eaDir", ["1.png", "2.png"])
    (tmp_path / "good" / "loop").symlink_to(tmp_path)
    (tmp_path / "good" / "notes.txt").write_text("mine")
    clips = open_clips(tmp_path)
    assert clips.names == ("good",)
    assert list(clips.images.ids) == ["good/1.png", "good/2.png", "good/3.png"]
    told = "\n".join(clips.notes)
    assert "frames that cannot be read (2): good/4.png, good/5.png" in told
    assert "frames of another size than most of their clip (1): good/6.png" in told
    assert "clips of fewer than two frames (1): single" in told
    assert "of no clip (1): still.png" in told
    assert "a system keeps for itself (1): @eaDir" in told


@pytest.mark.parametrize("content", ["nothing", "one frame", "stills", "no folder"])
def test_a_folder_without_clips_is_an_error_that_says_what_is_there(tmp_path: Path, content: str) -> None:
    root = tmp_path / "clips"
    if content != "no folder":
        root.mkdir()
    if content == "one frame":
        write_frames(root / "one", ["1.png"])
    if content == "stills":
        write_frames(root, ["1.png", "2.png"])
    said = {"one frame": "fewer than two frames .1.: one", "stills": "of no clip .2.: 1.png", "no folder": "not there"}
    with pytest.raises(ValueError, match=said.get(content, "need a folder for each clip")):
        open_clips(root)
    with pytest.raises(ValueError, match="most_frames >= 2"):
        open_clips(root, most_frames=1)


def test_a_video_is_a_clip_of_its_frames(tmp_path: Path) -> None:
    """Greys are coded with loss: within 4 of 256 levels, where frames differ by 8."""
    write_frames(tmp_path / "w", ["1.png", "2.png"])
    write_video(tmp_path / "v.mp4", 20)
    write_video(tmp_path / "single.mp4", 1)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 9)
    (tmp_path / "empty.mov").write_bytes(b"")
    clips = open_clips(tmp_path, most_frames=7)
    assert clips.names == ("v.mp4", "w")
    assert list(clips.images.ids)[:7] == [f"v.mp4#{i:06d}" for i in (0, 3, 6, 9, 12, 15, 18)]
    assert greys(clips, 0) == pytest.approx([8 * i for i in (0, 3, 6, 9, 12, 15, 18)], abs=4)
    (bad,) = [note for note in clips.notes if "cannot be decoded" in note]
    assert bad.endswith("(3): broken.mp4, empty.mov, single.mp4")
    copied = pickle.loads(pickle.dumps(clips.images.reader))
    assert copied.read("v.mp4#000003") == clips.images.reader.read("v.mp4#000003")
    sizes = [len(clips.images.reader.read(i)) for i in clips.images.ids]
    assert copied.sizes(clips.images.ids).tolist() == sizes
    assert isinstance(copied, FileReader)
    assert copied.written(clips.images.ids).min() > 0


def test_videos_without_a_decoder_are_told_and_frames_still_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips_module, "find_spec", lambda name: None)
    for name in ("a.mp4", "b.MOV", "c.mpg"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=r"videos, which need a decoder \(install .*pip install av.*\(3\): a.mp4"):
        open_clips(tmp_path)
    write_frames(tmp_path / "w", ["1.png", "2.png"])
    (note,) = open_clips(tmp_path).notes
    assert "a.mp4, b.MOV, c.mpg" in note


def test_a_preset_finds_its_clips_or_says_why_not(tmp_path: Path) -> None:
    preset = parse_preset("mine", {"data": {"root": str(tmp_path)}, "methods": {"rotnet": None}})
    assert find_clips(preset, tmp_path) is None
    assert "no folder clips of moving pictures" in clips_fault(preset, tmp_path)
    (tmp_path / "clips").mkdir()
    assert "no clips in" in clips_fault(preset, tmp_path)
    write_frames(tmp_path / "clips" / "one", ["1.png", "2.png"])
    assert clips_fault(preset, tmp_path) == ""
    found = find_clips(preset, tmp_path)
    assert found is not None
    assert found.names == ("one",)


def test_frames_are_no_images_of_a_pool_around_them(tmp_path: Path) -> None:
    """And pictures that lie right in a folder called clips are."""
    settings = {"root": str(tmp_path), "pool": ".", **dict.fromkeys(("objects_train", "objects_test"), "")}
    settings |= dict.fromkeys(("scenes_train", "scenes_test"), "")
    preset = parse_preset("mine", {"data": settings, "methods": {"rotnet": None}})
    write_frames(tmp_path / "photos", [f"{i}.png" for i in range(5)])
    write_frames(tmp_path / "clips" / "one", ["1.png", "2.png"])
    outlook = look_ahead(preset)
    assert outlook.counts["pool"] == 5
    assert any("clips/" in note for note in outlook.notes)
    write_frames(tmp_path / "clips", ["1.png"])
    assert look_ahead(preset).counts["pool"] == 8
