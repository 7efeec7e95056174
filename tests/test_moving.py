"""The exhibit of moving pictures draws what was tracked, counts it, and says why there is none."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dclib.config import Preset
from dclib.data.clips import Clips, open_clips
from dclib.data.tracks import Tracks
from dclib.pocket import clip_set
from dclib.presets import parse_preset
from dclib.report import moving


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    clip_set.write_clips(folder / "clips", 0, 0, 6)
    return folder


def preset_of(data: dict[str, object]) -> Preset:
    return parse_preset("mine", {"data": data, "methods": {"rotnet": None}})


def test_clips_are_counted_and_what_is_known_of_drawings_is_said_of_them_alone(root: Path) -> None:
    shown = moving.moving_pictures(preset_of({}), root).text
    counts = [clip_set.frame_count(0, index) for index in range(6)]
    assert f"6 clips of {min(counts)} to {max(counts)} frames, {sum(counts)} in all" in shown
    tracks = int(re.search(r"(\d+) tracks?\.", shown)[1])  # type: ignore[index]
    assert shown.count("a patch moves from") == tracks > 0
    on_it, all_of_them = map(int, re.search(r"middle of (\d+) of (\d+) patches", shown).groups())  # type: ignore[union-attr]
    assert all_of_them == tracks * moving.TRACK
    assert on_it > 0.8 * all_of_them
    real = moving.moving_pictures(preset_of({"root": str(root)}), root).text
    assert "6 clips" in real
    assert "drawings" not in real


def test_without_clips_a_sentence_says_so(tmp_path: Path) -> None:
    preset = preset_of({"root": str(tmp_path)})
    assert moving.moving_pictures(preset, tmp_path).text == "No moving pictures come with these images."
    (tmp_path / "clips").mkdir()
    assert "cannot be used: no clips in" in moving.moving_pictures(preset, tmp_path).text


def test_boxes_are_drawn_in_their_frames_and_said_in_words(root: Path) -> None:
    clips: Clips = open_clips(root / "clips").subset([0])
    boxes = np.array([[[10, 20, 40, 40], [30, 50, 40, 40]]], np.int32)
    tracks = Tracks(np.array([[0, 1]]), boxes, np.array([0]))
    plain, framed = (moving.draw_clips(clips, some).images[0].get_array() for some in (Tracks(*empty_tracks()), tracks))
    changed = (np.asarray(plain) != np.asarray(framed)).any(axis=(0, 2))
    assert changed[: 2 * (moving.TILE + 4)].any()
    assert not changed[2 * (moving.TILE + 4) + 4 :].any()
    assert "clip 0000: a patch moves from 40, 30 to 70, 50." in moving.describe_clips(clips, tracks)
    assert "nothing was followed" in moving.describe_clips(clips, Tracks(*empty_tracks()))


def empty_tracks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((0, 2), np.int64), np.zeros((0, 2, 4), np.int32), np.zeros(0, np.int64)
