"""The notebook of one's own photographs: what the command does, and some of it shown."""

from pathlib import Path

import numpy as np
import pytest
from notebook_cells import run_notebook
from PIL import Image

from dclib.explore import explore as exploring
from dclib.explore.answering import Explored
from dclib.explore.answers import NONE, Answers, Grouping
from dclib.explore.shown import by_coherence, cluster_sheet, cluster_table, duplicates_table, photographs_folder, told
from dclib.planner.hardware import CPU
from dclib.pocket.outline import PoolDrawer
from dclib.presets import load_preset


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(exploring, "this_machine", lambda *_, **__: CPU)


def test_the_notebook_runs_as_it_is_on_the_images_of_its_preset(tmp_path):
    shown = run_notebook("21_own_photographs", minutes=1.0, settings={"data.pocket_images": 100})
    assert "100 photographs were looked at." in shown
    assert "not learned: there are" in shown
    assert "Nothing was clustered." in shown
    (folder,) = (tmp_path / "runs" / "explored").iterdir()
    assert (folder / "explorer" / "index.html").is_file()
    assert "21_own_photographs.ipynb" in shown
    assert "data.pocket_images" in shown


def test_the_drawn_images_are_those_of_the_pool(tmp_path):
    preset = load_preset("smoke", {"data.pocket_images": 100})
    folder = photographs_folder("", preset)
    files = sorted(folder.iterdir())
    assert len(files) == 100
    drawer = PoolDrawer(folder, 100, preset.data.pocket_seed)
    assert files[7].read_bytes() == drawer.read(files[7].stem)
    before = files[0].stat().st_mtime_ns
    assert photographs_folder("", preset) == folder
    assert files[0].stat().st_mtime_ns == before
    assert photographs_folder(str(tmp_path), preset) == tmp_path


def test_a_pool_that_is_an_archive_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "train.tar").write_bytes(b"")
    preset = load_preset("folder", {"data.root": str(tmp_path)})
    with pytest.raises(ValueError, match=r"need a folder of photographs; .*train\.tar: name a folder"):
        photographs_folder("", preset)


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """Three clusters of six: a steady one, an empty one, one between two; the first two photographs are the same."""
    root = tmp_path / "six"
    root.mkdir()
    for i in range(6):
        Image.new("RGB", (20, 20), (40 * i, 0, 0)).save(root / f"<{i}>.png")
    cluster = np.array([2, 2, 2, 0, 0, 0], np.int32)
    distance = np.array([3, 1, 2, 3, 2, 1], np.float32)
    sharpness = np.array([0.5, 0.9, 0.7, 0.1, 0.2, 0.3], np.float32)
    none, zeros = np.full((6, 1), NONE, np.int32), np.zeros((6, 2), np.float32)
    grouping = Grouping("x", cluster, distance, none[:, 0], sharpness, zeros, none, zeros[:, :1])
    duplicate = np.array([0, 0, NONE, NONE, NONE, NONE], np.int32)
    size = np.array([[20, 20], [40, 40], *[[20, 20]] * 4], np.int32)
    kinds = ["near", "near", "", "", "", ""]
    paths = [f"<{i}>.png" for i in range(6)]
    return Answers(str(root), paths, size, [""] * 6, np.ones(6, np.int64), duplicate, kinds, (grouping,))


def test_clusters_are_shown_by_coherence_and_from_their_middle(answers):
    assert [(n, pytest.approx(c, abs=1e-6), rows) for n, c, rows in by_coherence(answers)] == [
        (2, 0.7, [1, 2, 0]),
        (0, 0.2, [5, 4, 3]),
    ]
    table = cluster_table(answers, most=1)
    assert [row.label for group in table.groups for row in group.rows] == ["2"]
    assert any("1 other cluster" in note for note in table.notes)
    assert "&lt;1&gt;.png" in table._repr_html_()
    (Path(answers.root) / "<5>.png").unlink()
    sheet = cluster_sheet(answers)
    assert "5 images of 5" in sheet.text
    assert "cluster 2, cluster 0" in sheet.text


def test_duplicates_begin_with_the_largest(answers):
    table = duplicates_table(answers)
    (row,) = table.groups[0].rows
    assert (row.label, row.cells[0].text, row.cells[1].text) == ("<1>.png", "<0>.png", "near")
    assert "1 photograph too many" in table.notes[0]


def test_what_was_told_is_shown_with_a_link(answers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = told(Explored(tmp_path / "out & in", answers, ["It has learned.", "open somewhere"]))
    assert 'href="out &amp; in/explorer/index.html"' in shown.html
    assert "It has learned." in shown.text
    assert "open somewhere" not in shown.text
