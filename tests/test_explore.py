"""One's own photographs: a folder in, answers out, whatever the folder holds and whenever it is ended."""

import csv
import errno
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest
import torch
from PIL import Image

from dclib import preemption
from dclib.__main__ import main
from dclib.analysis.judge import verdict_of
from dclib.data.images import ImageSet
from dclib.data.photographs import open_photographs
from dclib.data.pixels import Pixels
from dclib.explore import answering
from dclib.explore import explore as exploring
from dclib.explore import learn as learning
from dclib.explore import look as looking
from dclib.explore.answering import settled_space
from dclib.explore.answers import NONE
from dclib.explore.describe import balanced, describe_images, part_sizes
from dclib.explore.explore import explore
from dclib.explore.group import clusters_for, draw_map, find_space, group, nearest
from dclib.explore.learn import Network, begin_round, shrink
from dclib.explore.look import Looked, look_at
from dclib.explore.settings import LEAST, as_preset, choose, model_for
from dclib.explore.write import _shortened, sorted_before
from dclib.models.vgg import Trunk
from dclib.planner.hardware import CPU
from dclib.planner.plan import make_plan
from dclib.train import health

ROOT = Path(__file__).resolve().parent.parent


def draw(path: Path, seed: int, size: tuple[int, int] = (48, 40)) -> None:
    """A picture of its own: a few rectangles on a ground."""
    rng = np.random.default_rng(seed)
    canvas = np.empty((size[1], size[0], 3), dtype=np.uint8)
    canvas[:] = rng.integers(0, 256, 3)
    for _ in range(6):
        x, y = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        canvas[y : y + rng.integers(6, 24), x : x + rng.integers(6, 24)] = rng.integers(0, 256, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas).save(path, quality=92)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(12):
        draw(folder / f"{i % 3}" / f"p{i:02d}.jpg", i)
    return folder


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(exploring, "this_machine", lambda *_, **__: CPU)


def quiet(line: str) -> None:
    pass


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "photos.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# what is found


def test_a_few_photographs_get_duplicates_and_neighbours_and_are_told_why_nothing_is_learned(photographs, tmp_path):
    (photographs / "copy of p00.jpg").write_bytes((photographs / "0" / "p00.jpg").read_bytes())
    before = {path: path.stat().st_mtime_ns for path in photographs.rglob("*")}
    lines: list[str] = []
    found = explore(photographs, minutes=1, report=lines.append)
    rows = rows_of(found.folder)
    assert [row["path"] for row in rows] == sorted([f"{i % 3}/p{i:02d}.jpg" for i in range(12)] + ["copy of p00.jpg"])
    assert {row["path"] for row in rows if row["duplicates"] == "0"} == {"0/p00.jpg", "copy of p00.jpg"}
    assert all(row["cluster"] == "" for row in rows)
    (grouping,) = found.answers.groupings
    assert grouping.neighbours.shape == (13, 12)
    assert any("not learned" in line and str(LEAST) in line for line in lines)
    assert (found.folder / "explorer" / "index.html").is_file()
    assert {path: path.stat().st_mtime_ns for path in photographs.rglob("*")} == before  # nothing is written there


@pytest.mark.slow
def test_a_network_is_trained_and_everything_that_was_promised_is_written(tmp_path):
    folder = tmp_path / "many"
    for i in range(LEAST + 10):
        draw(folder / f"p{i:03d}.png", i)
    (folder / "p000 again.png").write_bytes((folder / "p000.png").read_bytes())
    (folder / "film.mov").write_bytes(b"moves")
    (folder / "saved.jpg").write_bytes(b"<html>")
    fast = replace(CPU, conv_flops=1e13, linear_flops=1e13, memory_rate=1e13, crop_rate=1e12, overhead=1e-5)
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exploring, "this_machine", lambda *_, **__: fast)
        patch.setattr("dclib.explore.settings.MOST_PASSES", 8 * LEAST)
        patch.setattr("dclib.explore.settings.EPOCHS", 2)
        patch.setattr("dclib.explore.settings.WORTH_IT", 100)
        found = explore(folder, minutes=1.5, sort="link", out=tmp_path / "answers", report=lines.append)
        assert [sum(line.count(name) for line in lines) for name in ("film.mov", "saved.jpg")] == [1, 1]
        told = (found.folder / "README.txt").read_text()
        assert all(words in told for words in ("film.mov", "saved.jpg", f"dclib export {found.folder} "))
        # more photographs: they are answered first, by the network there is
        for i in range(30):
            draw(folder / "new" / f"q{i:03d}.png", 5000 + i)
        more = explore(folder, minutes=1.5, out=tmp_path / "answers", report=lines.append)
    n = LEAST + 11
    features = np.load(found.folder / "features.npy", mmap_mode="r")
    assert len(features) == n + 30
    with duckdb.connect() as database:
        kinds = database.execute(f"SELECT count(*), max(cluster) FROM '{found.folder / 'photos.parquet'}'").fetchone()
    assert kinds == (n + 30, int(more.answers.groupings[0].cluster.max()))
    linked = list((found.folder / "clusters").rglob("*.png"))
    assert len(linked) == n + 30  # sorted again by the second call, which was not told to
    assert all(path.is_symlink() and path.exists() for path in linked)
    assert {path.resolve() for path in linked} == {(folder / p).resolve() for p in more.answers.paths}
    summary = json.loads((found.folder / "summary.json").read_text())
    assert summary["different"] == n - 1 + 30
    assert summary["verdict"]["word"]
    network = Network.at(found.folder / "network")
    assert [one.start is None for one in network.rounds] == [False, True]
    assert all(one.done for one in network.rounds)
    assert any("before it goes on" in line for line in lines)
    trunk = network.trunk()
    assert trunk is not None
    assert not trunk.training


def test_clusters_stay_until_the_network_or_their_number_changes(tmp_path):
    trunk, other = (Trunk(model_for(32), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    features = torch.randn(900, sum(part_sizes(trunk)), generator=torch.Generator().manual_seed(2))
    path = tmp_path / "centroids.npz"
    first = settled_space(path, trunk, features[:800])
    for n in (800, 810, 700):  # 8 clusters, and 7 that would do as well
        assert torch.equal(settled_space(path, trunk, features[:n]).centroids, first.centroids)
    assert len(settled_space(path, trunk, features[:400]).centroids) == 4
    settled_space(path, trunk, features[:800])
    learned = settled_space(path, other, features[:801])
    assert not torch.equal(learned.centroids, first.centroids)
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(settled_space(path, other, features[:801]).centroids, learned.centroids)


def test_links_of_an_earlier_call_are_told_from_copies(tmp_path):
    place = tmp_path / "clusters" / "0"
    assert sorted_before(tmp_path) == ""
    place.mkdir(parents=True)
    assert sorted_before(tmp_path) == ""
    (place / "0001-a.jpg").symlink_to(tmp_path / "gone.jpg")
    assert sorted_before(tmp_path) == "link"
    (place / "0001-a.jpg").unlink()
    (place / "0001-a.jpg").write_bytes(b"")
    assert sorted_before(tmp_path) == "copy"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.mkdir(), "need a folder with photographs"),
        (lambda folder: draw(folder / "one.jpg", 1), ""),
        (lambda folder: [draw(folder / f"{i}.jpg", 7) for i in range(60)], ""),
        (lambda folder: (folder.mkdir(), (folder / "a.jpg").write_bytes(b"<html>")), "cannot be read"),
        (lambda folder: (draw(folder / "a.jpg", 1), (folder / "b.jpg").write_bytes(b"")), ""),
    ],
    ids=["empty", "one", "identical", "no picture", "one of two is broken"],
)
def test_odd_folders_end_in_a_result_or_a_sentence(tmp_path, make, said):
    folder = tmp_path / "odd"
    make(folder)
    if said:
        with pytest.raises(ValueError, match=said):
            explore(folder, minutes=1, report=quiet)
        return
    found = explore(folder, minutes=1, report=quiet)
    assert (found.folder / "explorer" / "index.html").is_file()
    if len(found.answers) == 60:
        assert set(found.answers.duplicate.tolist()) == {0}


def test_answers_never_go_among_the_photographs_nor_the_other_way_round(photographs, tmp_path):
    with pytest.raises(ValueError, match="nothing is written"):
        explore(photographs, out=photographs / "answers", report=quiet)
    with pytest.raises(ValueError, match="where answers would go"):
        explore(photographs, out=photographs.parent, report=quiet)
    assert not (photographs / "answers").exists()


def test_answers_replace_nobodys_files(photographs, tmp_path):
    mine = tmp_path / "mine"
    (mine / "clusters").mkdir(parents=True)
    for name in ("README.txt", "clusters/thesis.txt"):
        (mine / name).write_text("long work")
    with pytest.raises(ValueError, match=r"mine holds README\.txt, clusters, which no exploration has written"):
        explore(photographs, out=mine, minutes=1, report=quiet)
    assert {(mine / name).read_text() for name in ("README.txt", "clusters/thesis.txt")} == {"long work"}
    place = explore(photographs, out=tmp_path / "answers", minutes=1, report=quiet).folder
    explore(photographs, out=place, minutes=1, report=quiet)
    shutil.rmtree(place / "look")  # by somebody who needs the room
    explore(photographs, out=place, minutes=1, report=quiet)


def test_photographs_of_another_folder_do_not_take_the_place_of_those_explored(photographs, tmp_path):
    place = explore(photographs, out=tmp_path / "answers", minutes=1, report=quiet).folder
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    other = tmp_path / "others"
    for i in range(12):
        draw(other / f"{i % 3}" / f"p{i:02d}.jpg", 100 + i)  # of the same names
    known = (photographs / "0" / "p00.jpg").read_bytes()
    (other / "0" / "p00.jpg").write_bytes(known[:-1] + bytes([known[-1] ^ 1]))  # and one of the same size
    with pytest.raises(ValueError, match=rf"found in {photographs}, and {other} has next to none of those"):
        explore(other, out=place, minutes=1, report=quiet)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_answers_are_not_replaced_where_nothing_tells_which_photographs_they_are_of(photographs, tmp_path):
    place = explore(photographs, out=tmp_path / "answers", minutes=1, report=quiet).folder
    (place / "look" / "squares.u8").write_bytes(b"")
    other = tmp_path / "others"
    draw(other / "a.jpg", 100)
    with pytest.raises(ValueError, match=rf"found in {photographs}, and nothing there tells whether {other} has those"):
        explore(other, out=place, minutes=1, report=quiet)
    assert json.loads((place / "summary.json").read_text())["photographs"] == 12
    assert len(explore(photographs, out=place, minutes=1, report=quiet).answers) == 12


def test_a_look_that_was_ended_early_goes_on_among_photographs_of_one_size(tmp_path, monkeypatch):
    class Ended(Exception):
        pass

    def end(*_: object) -> None:
        raise Ended

    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(60):
        Image.new("RGB", (9, 9), (i, 2 * i, 0)).save(folder / f"{i:02d}.bmp")
    monkeypatch.setattr(looking, "CHUNK", 1)
    with pytest.raises(Ended):
        look_at(open_photographs(folder), tmp_path / "answers" / "look", end)
    monkeypatch.setattr(looking, "COMPARED", 1)
    assert len(explore(folder, out=tmp_path / "answers", minutes=1, report=quiet).answers) == 60


@pytest.mark.parametrize("told", [True, False], ids=["", "by a summary that names no folder"])
def test_the_photographs_that_were_explored_go_on_wherever_they_are(photographs, tmp_path, told):
    place = explore(photographs, out=tmp_path / "answers", minutes=1, report=quiet).folder
    if not told:
        summary = json.loads((place / "summary.json").read_text())
        (place / "summary.json").write_text(json.dumps({**summary, "folder": ""}))
    moved = tmp_path / "moved"
    for i, path in enumerate(sorted(photographs.rglob("*.jpg"))):  # by other names, at another time
        moved.mkdir(exist_ok=True)
        (moved / f"IMG_{i}.jpg").write_bytes(path.read_bytes())
    for i in range(100):  # among many that are new
        draw(moved / "new" / f"{i}.jpg", 500 + i)
    assert len(explore(moved, out=place, minutes=1, report=quiet).answers) == 112
    shutil.rmtree(moved / "new")
    for i, path in enumerate(sorted(moved.rglob("*.jpg"))):  # the same folder, saved by another program
        draw(path, 900 + i)
    assert len(explore(moved, out=place, minutes=1, report=quiet).answers) == 12


def test_what_is_left_out_is_said(photographs, tmp_path):
    (photographs / "broken.jpg").write_bytes(b"no picture")
    (photographs / "talk.mp4").write_bytes(b"x")
    lines: list[str] = []
    explore(photographs, minutes=1, sort="link", out=tmp_path / "answers", report=lines.append)
    assert any("1 of 13 cannot be read, left out: broken.jpg" in line for line in lines)
    assert lines[0].endswith("; passed over videos (1): talk.mp4")
    assert any("Nothing is sorted into folders" in line for line in lines)
    assert not (tmp_path / "answers" / "clusters").exists()
    broken = tmp_path / "all broken"
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"left out: a\.jpg; the first: cannot identify it as one of JPEG"):
        explore(broken, minutes=1, report=quiet)


def test_a_path_that_leads_nowhere_ends_in_a_sentence(photographs, tmp_path, capsys):
    (tmp_path / "circle").symlink_to("circle")
    circle, nobodys = str(tmp_path / "circle"), "~nobody-has-this-name/photos"
    for arguments in (
        [circle],
        [nobodys],
        [str(photographs), "--out", f"{circle}/answers"],
    ):
        assert main(["explore", *arguments, "--minutes", "1"]) == 2
        assert "dclib: " in capsys.readouterr().err
    for command in ("export", "runs"):
        assert main([command, nobodys]) == 2


def test_a_folder_whose_name_is_no_text_is_explored_and_its_answers_go_to_one_whose_name_is(tmp_path):
    folder = tmp_path / os.fsdecode(b"2003 \xe9t\xe9")
    folder.mkdir()
    draw(tmp_path / "a.jpg", 1)
    (tmp_path / "a.jpg").rename(folder / "a.jpg")
    found = explore(folder, minutes=1, report=quiet)
    assert "2003 \\xe9t\\xe9" in (found.folder / "README.txt").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="a name that is not in UTF-8"):
        explore(folder, out=tmp_path / os.fsdecode(b"r\xe9sultat"), minutes=1, report=quiet)


@pytest.mark.slow
def test_a_terminal_that_cannot_show_a_name_stops_nothing(tmp_path):
    draw(tmp_path / "写真" / "a.jpg", 1)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "dclib", "explore", str(tmp_path / "写真"), "--minutes", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\\u5199\\u771f: 1 photographs" in done.stdout


def test_names_in_clusters_folders_are_no_longer_than_a_disk_has_them():
    odd = os.fsdecode(b"\xff" * 180)
    names = ["😀" * 60, "x" * 170 + "." + "😀" * 20, odd + ".jpg"]
    assert all(len(os.fsencode(f"00001-{_shortened(name)}")) <= 255 for name in names)
    assert _shortened("a.b.jpeg") == "a.b.jpeg"


def test_a_table_that_has_no_room_is_told_in_a_sentence(photographs, tmp_path, monkeypatch):
    place = explore(photographs, out=tmp_path / "answers", minutes=1, report=quiet).folder
    before = (place / "photos.parquet").read_bytes()

    def full(*_):
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    monkeypatch.setattr("dclib.explore.write.duckdb.connect", full)
    with pytest.raises(OSError, match=r"could not write .*photos\.parquet: IO Error: .* make room"):
        explore(photographs, out=place, minutes=1, report=quiet)
    assert (place / "photos.parquet").read_bytes() == before


@pytest.mark.parametrize("minutes", [0, -1, 1e9, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(photographs, minutes):
    with pytest.raises(ValueError, match="minutes above 0 and below a million; got"):
        explore(photographs, minutes=minutes, report=quiet)


def test_no_room_is_told_before_anything_is_done(photographs, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("dclib.explore.explore.shutil.disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="make room"):
        explore(photographs, report=quiet)


def test_too_little_time_is_told_with_the_minutes_that_would_do(tmp_path):
    folder = tmp_path / "many"
    for i in range(LEAST):
        draw(folder / f"p{i:03d}.png", i)
    lines: list[str] = []
    explore(folder, minutes=0.01, report=lines.append)
    (told,) = (line for line in lines if "too little to learn" in line and "--minutes" in line)
    wanted = int(told.split("--minutes ")[1].split(",")[0])
    after = exploring.after_seconds(LEAST)
    found = choose(LEAST, model_for(40), 60 * wanted * 0.9 - after - 5, CPU)
    assert found is not None
    assert found.passes >= 0.8 * exploring.ENOUGH  # up to whole epochs and minutes


def test_a_folder_and_a_broken_file_may_have_names_that_are_no_text(photographs, tmp_path):
    named = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    photographs.rename(named)
    broken = os.fsdecode(b"br\xe9.jpg")
    (named / broken).write_bytes(b"<html>")
    found = explore(named, minutes=1, out=tmp_path / "answers", report=quiet)
    assert json.loads((found.folder / "summary.json").read_text())["unreadable"][0][0] == r"br\xe9.jpg"
    told = (found.folder / "README.txt").read_text()
    assert r"caf\xe9" in told
    assert r"br\xe9.jpg" in told
    assert "dclib export" not in told  # of what was not trained


def test_names_survive_to_the_table(tmp_path):
    folder = tmp_path / "names"
    names = ["new\nline.jpg", 'quo"te, comma.jpg', "Ünïcode ねこ.jpg", "=1+1.jpg"]
    for i, name in enumerate(names):
        draw(folder / name, i)
    found = explore(folder, minutes=1, report=quiet)
    assert sorted(row["path"] for row in rows_of(found.folder)) == sorted(names)


# looking


def test_a_look_opens_new_and_changed_photographs_alone_and_forgets_none(photographs, tmp_path):
    opened: list[str] = []

    def look() -> Looked:
        opened.clear()
        return look_at(open_photographs(photographs), tmp_path / "look", lambda done, of: opened.append(f"{done}/{of}"))

    first = look()
    assert opened[-1] == "12/12"
    assert look().squares[:].tobytes() == first.squares[:].tobytes()
    assert opened == []
    draw(photographs / "0" / "p00.jpg", 99)  # another picture under the same name
    draw(photographs / "zz.jpg", 50)
    (photographs / "1" / "p01.jpg").unlink()
    third = look()
    assert opened[-1] == "2/2"
    assert len(third) == 12
    assert third.images.ids[-1] == "zz.jpg"
    fresh = look_at(open_photographs(photographs), tmp_path / "anew", lambda done, of: None)
    assert np.array_equal(third.squares[:], fresh.squares[:])
    assert [one.content for one in third.seen] == [one.content for one in fresh.seen]


def test_a_look_that_is_killed_goes_on_to_the_same(photographs, tmp_path):
    class Killed(Exception):
        pass

    def kill(done: int, of: int) -> None:
        raise Killed

    for i in range(200):
        draw(photographs / f"more{i:03d}.jpg", 100 + i, size=(24, 24))
    given = open_photographs(photographs)
    for _ in range(2):  # each call keeps one part
        with pytest.raises(Killed):
            look_at(given, tmp_path / "look", kill)
    done: list[int] = []
    found = look_at(given, tmp_path / "look", lambda count, of: done.append(of))
    assert 0 < done[-1] < len(given)
    whole = look_at(given, tmp_path / "whole", lambda count, of: None)
    assert np.array_equal(found.squares[:], whole.squares[:])
    assert np.array_equal(found.descriptors, whole.descriptors)


@pytest.mark.parametrize("damage", ["cut", "emptied", "replaced", "squares cut"])
def test_a_look_whose_files_are_damaged_looks_again(photographs, tmp_path, damage):
    given = open_photographs(photographs)
    whole = look_at(given, tmp_path / "look", lambda done, of: None)
    squares = whole.squares[:].copy()
    del whole
    path = tmp_path / "look" / ("squares.u8" if damage == "squares cut" else "seen-000000.npz")
    content = path.read_bytes()
    path.write_bytes({"emptied": b"", "replaced": b"\x93NUMPY" + content[6:]}.get(damage, content[: len(content) // 2]))
    for _ in range(2):
        assert np.array_equal(look_at(given, tmp_path / "look", lambda done, of: None).squares[:], squares)


def test_a_disk_that_is_full_while_photographs_are_looked_at_is_told(photographs, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *given, **more: Full() if path.name == "squares.u8" else opened(path, *given, **more)
    )
    with pytest.raises(OSError, match=r"could not write .*squares\.u8: No space left on device; make room"):
        look_at(open_photographs(photographs), tmp_path / "look", lambda done, of: None)


# grouping


def test_neighbours_are_those_of_a_plain_search():
    points = torch.nn.functional.normalize(torch.randn(300, 16, generator=torch.Generator().manual_seed(0)))
    found, cosines = nearest(points, 5)
    plain = (points @ points.T).fill_diagonal_(-2).topk(5)
    assert np.array_equal(found, plain.indices.numpy())
    assert np.allclose(cosines, plain.values.numpy(), atol=1e-5)  # float32 sums in another order


def test_copies_do_not_hide_each_other_among_neighbours():
    points = torch.nn.functional.normalize(torch.ones(40, 8))
    found, _ = nearest(points, 5)
    assert all(i not in row for i, row in enumerate(found.tolist()))


def test_groups_that_are_far_apart_are_found_whatever_the_scale_of_a_part():
    g = torch.Generator().manual_seed(0)
    kind = torch.arange(240) % 3
    told = torch.nn.functional.one_hot(kind, 3).float() * 2 + 0.1 * torch.randn(240, 3, generator=g)
    noise = 1000 * torch.randn(240, 1, generator=g)
    features = torch.cat([told, noise], dim=1)
    space = find_space(features, 3, balanced(features, [3, 1]))
    grouping = group("made", features, space)
    # points by the space' own whitening, compared with what it says of itself
    points = space.points(features)
    distances = torch.cdist(points, space.centroids)
    assert np.array_equal(grouping.cluster, distances.argmin(dim=1).numpy())
    assert np.allclose(grouping.distance, distances.min(dim=1).values.numpy(), atol=1e-4)
    assert ((grouping.sharpness >= 0) & (grouping.sharpness <= 1)).all()
    assert (grouping.second != grouping.cluster).all()


def test_the_map_keeps_what_is_near_together():
    g = torch.Generator().manual_seed(0)
    kind = torch.arange(200) % 4
    points = torch.nn.functional.normalize(
        torch.nn.functional.one_hot(kind, 8).float() + 0.05 * torch.randn(200, 8, generator=g)
    )
    place, _ = draw_map(points)
    assert place.min() >= 0
    assert place.max() <= 1
    apart = np.linalg.norm(place[:, None] - place[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (kind.numpy()[apart.argmin(axis=1)] == kind.numpy()).mean() > 0.9  # a quarter by chance


@pytest.mark.parametrize(("n", "k"), [(200, 2), (10_000, 100), (1_000_000, 300)])
def test_clusters_are_of_a_size_that_somebody_looks_through(n, k):
    assert clusters_for(n) == k


def test_a_descriptor_is_the_mean_of_each_map_and_colours():
    trunk = Trunk(replace(model_for(30), width=1 / 16), torch.Generator().manual_seed(0)).eval()
    decoded = torch.randint(0, 256, (3, 3, 37, 37), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    pixels = Pixels(ImageSet("made", ["a", "b", "c"], reader=None), (), 32, 37, decoded)
    found = describe_images(trunk, pixels)
    maps: dict[int, torch.Tensor] = {}
    relus = [m for m in trunk.features if isinstance(m, torch.nn.ReLU)]
    for number in (5, 8, 11):
        relus[number - 1].register_forward_hook(lambda _, __, out, number=number: maps.__setitem__(number, out.clone()))
    views = torch.cat(list(pixels.centre_batches(3)))
    with torch.no_grad():
        trunk(views)
    expected = [maps[number].mean(dim=(2, 3)) for number in (5, 8, 11)]
    assert found.shape == (3, sum(part_sizes(trunk)))
    assert torch.allclose(found[:, :-48], torch.cat(expected, dim=1), atol=1e-6)
    corner = views[:, 0, :8, :8].float().mean(dim=(1, 2)) / 255
    assert torch.allclose(found[:, -48], corner, atol=1e-6)


# settings


@pytest.mark.parametrize("n", [LEAST, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("seconds", [20, 300, 1_500, 20_000])
def test_settings_fit_into_the_time_and_the_planner_agrees(n, seconds):
    found = choose(n, model_for(500), seconds, CPU)
    if found is None:
        return
    assert found.start is not None
    planned = sum(
        make_plan(as_preset({"a": config}, n), "a", CPU, n_images=n, labelled=(0, 0, 0)).training_seconds
        for config in (found.start, found.main)
    )
    assert planned == pytest.approx(found.seconds, rel=0.15, abs=2)  # checkpoints and last batches aside
    assert planned <= 1.25 * seconds + 2
    assert found.main.cluster.n_sub * 4 <= n


def test_more_time_is_more_passes():
    passes = [found.passes if (found := choose(5_000, model_for(500), s, CPU)) else 0 for s in (1, 100, 1_000, 10_000)]
    assert passes == sorted(passes)
    assert passes[0] == 0
    assert passes[-1] > passes[1]


def test_small_photographs_are_seen_small():
    assert model_for(32).image_size == 32
    assert model_for(3000).image_size == 64


def test_more_minutes_go_on_for_the_difference_and_new_photographs_only_where_they_are_many(tmp_path):
    decoded = torch.zeros((LEAST, 3, 37, 37), dtype=torch.uint8)
    names = [f"{i}.jpg" for i in range(LEAST)]
    pixels = Pixels(ImageSet("made", names, Sizeless()), (), 32, 37, decoded)
    contents = [f"{i:016x}" for i in range(LEAST)]
    network = Network(tmp_path / "network")
    given = {"hardware": lambda: CPU, "model": model_for(32)}
    assert begin_round(network, pixels, contents, minutes=30, seconds=1500, **given) == ""
    assert network.rounds[0].start is not None
    network.rounds[0].done = True
    assert "30 minutes" in begin_round(network, pixels, contents, minutes=30, seconds=1500, **given)
    assert begin_round(network, pixels, contents, minutes=50, seconds=2700, **given) == ""
    assert network.rounds[1].start is None
    assert network.rounds[1].seconds <= 2700 - 30 * 60 + 5
    network.rounds[1].done = True
    few, many = ([*contents[n:], *(f"{i + 10**9:016x}" for i in range(n))] for n in (5, 50))
    other = replace(pixels, images=ImageSet("made", [*names[1:], "new.jpg"], Sizeless()))
    assert "are new" in begin_round(network, other, few, minutes=50, seconds=2700, **given)
    assert begin_round(network, other, many, minutes=50, seconds=2700, **given) == ""


@pytest.fixture
def learner(tmp_path: Path) -> tuple[Network, Pixels]:
    """A network with a round to be trained, and its photographs."""
    decoded = torch.zeros((LEAST, 3, 37, 37), dtype=torch.uint8)
    pixels = Pixels(ImageSet("made", [f"{i}.jpg" for i in range(LEAST)], Sizeless()), (), 32, 37, decoded)
    network = Network(tmp_path / "network")
    contents = [f"{i:016x}" for i in range(LEAST)]
    assert begin_round(network, pixels, contents, model_for(32), 30, 1500, lambda: CPU) == ""
    return network, pixels


@pytest.mark.parametrize("quicker", [1.0, 4.0])
def test_epochs_are_settled_anew_by_how_quick_rotnet_was_in_all_its_sittings(learner, monkeypatch, quicker):
    network, pixels = learner
    planned = network.rounds[0]
    epochs = planned.main.train.epochs

    def trained(pixels, config, *, folder, **_):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint.pt").write_bytes(b"")

    monkeypatch.setattr(learning, "pretrain", trained)
    monkeypatch.setattr(learning, "load_network", lambda path: None)
    shown = planned.start.train.epochs
    spent = planned.seconds * learning.START / quicker  # by the clock of the run, which goes on with it
    monkeypatch.setattr(learning, "read_checkpoint", lambda path: {"seconds": spent, "epoch": shown})
    network.place(0, "rotnet").mkdir(parents=True)
    (network.place(0, "rotnet") / "checkpoint.pt").write_bytes(b"")  # an earlier sitting was ended here
    deadline = time.monotonic() + planned.seconds * (1 - learning.START)
    lines: list[str] = []
    learning.finish_round(network, pixels, deadline, deadline, lambda: CPU, lines.append)
    settled = network.rounds[0].main.train.epochs
    assert settled == pytest.approx(quicker * epochs, rel=0.1)  # whole epochs
    assert any(f"for {settled} epochs" in line for line in lines) == (settled != epochs)  # told where it is new
    assert Network.at(network.folder).rounds[0].main == network.rounds[0].main


@pytest.mark.parametrize(
    "line",
    [
        health.epoch_line(1, 9, {"loss": 1.4, "images_per_second": 1.0}, math.log(4), 100),
        health.clustering_line(
            {
                **dict.fromkeys(("empty_clusters", "smallest_cluster", "median_cluster", "largest_cluster"), 9.0),
                "effective_rank": 1.0,
            },
            100,
            "faiss",
        ),
    ],
    ids=["epoch", "clustering"],
)
def test_a_warning_asks_for_no_setting_that_nobody_chooses_here(learner, monkeypatch, line):
    network, pixels = learner
    monkeypatch.setattr(learning, "pretrain", lambda *_, report, **__: report(line))
    lines: list[str] = []
    learning._train(pixels, network.rounds[0].main, network.folder, None, math.inf, lines.append)
    head, _, hint = line.partition("WARNING: ")
    assert lines[0].startswith(f"{head}WARNING: {hint.split('; lower')[0]}; ")
    assert lines[0].endswith("; training goes on, and the verdict at the end tells what was learned")
    assert "lower" not in lines[0]
    assert "fewer clusters" not in lines[0]


@pytest.mark.parametrize("kind", ["nothing learned", "collapsed to colour"])
def test_a_verdict_asks_for_no_setting_that_nobody_chooses_here(monkeypatch, kind):
    measures = {"score": 0.1, "drawn": 0.1, "rise": 5.0, "colour": float("colour" in kind), "effective_rank": 9.0}
    verdict = verdict_of(measures, [], 60.0)
    assert verdict.word == kind
    monkeypatch.setattr(answering, "judge", lambda *_, **__: verdict)
    told = answering.judged(None, None, SimpleNamespace(history=list, seconds_per_epoch=float))
    assert told["sentence"] == verdict.sentence
    assert not re.search(r"train\.|model\.|fewer clusters", told["advice"])
    assert "photographs" in told["advice"]


def test_a_training_that_diverges_asks_for_no_setting_and_leaves_answers(tmp_path, monkeypatch):
    def diverge(*_: object, **__: object) -> None:
        raise FloatingPointError("the loss is nan at step 2 of epoch 1; lower train.lr and start again")

    for i in range(LEAST):
        draw(tmp_path / "photos" / f"{i}.jpg", i)
    monkeypatch.setattr(exploring, "this_machine", lambda *_, **__: CPU)
    monkeypatch.setattr(learning, "pretrain", diverge)
    lines: list[str] = []
    found = explore(tmp_path / "photos", out=tmp_path / "answers", minutes=30, report=lines.append)
    assert len(found.answers) == LEAST
    assert "not learned: the training has diverged (the loss is nan at step 2 of epoch 1)" in lines[-2]
    assert not any("train.lr" in line for line in lines)
    assert Network.at(found.folder / "network").rounds == []


def test_a_training_that_takes_longer_than_it_may_is_taken_as_far_as_it_is(learner, monkeypatch):
    network, pixels = learner
    short = {"epoch_images": 8, "batch_size": 4, "epochs": 40}
    one = network.rounds[0]
    assert one.start is not None
    one.start = replace(one.start, train=replace(one.start.train, **short))
    one.main = replace(
        one.main, cluster=replace(one.main.cluster, n_sub=2, pca_dim=2), train=replace(one.main.train, **short)
    )
    lines: list[str] = []
    clock = SimpleNamespace(monotonic=lambda: now)
    now = 0.0

    def say(line: str) -> None:
        nonlocal now
        lines.append(line)
        now = math.inf if line.startswith("epoch 2/") else 0.0 if line.startswith("time is up") else now

    monkeypatch.setattr(preemption, "time", clock)
    deadline = time.monotonic() + 600
    slow = replace(CPU, conv_flops=1.0)  # nothing else would fit: what was settled stays
    learning.finish_round(network, pixels, deadline, deadline, lambda: slow, say)
    stopped = [line for line in lines if line.startswith("time is up")]
    assert [line.rpartition(";")[2].split()[0] for line in stopped] == ["rotnet", "deepercluster"]
    assert one.done
    assert Network.at(network.folder).finished == 0
    assert [row["epoch"] for row in network.history() if "loss" in row] == [1, 2, 1, 2]
    trunk = network.trunk()
    assert trunk is not None
    start = learning.load_network(network.place(0, "rotnet"))
    assert not all(torch.equal(a, b) for a, b in zip(trunk.parameters(), start.parameters(), strict=True))
    monkeypatch.undo()
    learning.finish_round(
        network, pixels, deadline, time.monotonic(), lambda: slow, quiet
    )  # killed before its end was written
    assert all(torch.equal(a, b) for a, b in zip(trunk.parameters(), network.trunk().parameters(), strict=True))


def test_a_round_that_was_given_up_leaves_nothing_to_the_next_on_the_same_photographs(learner):
    network, pixels = learner
    left = network.place(0, "rotnet") / "checkpoint.pt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of a training with other settings")
    other = replace(pixels, images=ImageSet("made", [*pixels.images.ids[1:], "new.jpg"], Sizeless()))
    contents = [f"{i:016x}" for i in range(LEAST)]
    for shown in (other, pixels):
        assert begin_round(network, shown, contents, model_for(32), 20, 1000, lambda: CPU) == ""
    assert network.place(0, "rotnet") == left.parent
    assert not left.exists()


def test_a_list_of_what_was_learned_that_is_damaged_is_taken_for_none(learner):
    network, pixels = learner
    network.rounds[0].done = True
    (network.folder / "contents-1.npy").write_bytes(b"\x93NUM")
    other = replace(pixels, images=ImageSet("made", [*pixels.images.ids[1:], "new.jpg"], Sizeless()))
    contents = [f"{i:016x}" for i in range(LEAST)]
    assert begin_round(network, other, contents, model_for(32), 30, 1500, lambda: CPU) == ""


@pytest.mark.parametrize("content", [None, b"", b"PK no longer"])
def test_a_network_that_is_not_whole_says_what_can_be_done(learner, content):
    network, _ = learner
    network.rounds[0].done = True
    place = network.place(0, "deepercluster")
    place.mkdir(parents=True)
    if content is not None:
        (place / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"not whole .* or delete {network.folder}, and one is trained anew"):
        network.trunk()


@pytest.mark.parametrize("content", ["", "[{", "[{}]", "{}", "[1]"])
def test_rounds_that_cannot_be_read_are_not_taken_for_none(learner, content):
    network, _ = learner
    (network.folder / "rounds.json").write_text(content)
    with pytest.raises(ValueError, match=rf"cannot read .*rounds\.json .* or delete {network.folder}, and a network"):
        Network.at(network.folder)


def test_small_squares_that_were_cut_are_made_anew_if_there_is_room(tmp_path, monkeypatch):
    squares = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
    images = ImageSet("made", [f"{i}.jpg" for i in range(4)], Sizeless())
    given = squares, np.arange(4), model_for(32), images, "content", tmp_path
    made = shrink(*given).decoded.clone()
    (path,) = tmp_path.glob("squares-*.u8")
    path.write_bytes(path.read_bytes()[:1000])
    assert torch.equal(shrink(*given).decoded, made)
    path.unlink()
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space left"):
        shrink(*given)
    assert list(tmp_path.iterdir()) == []


def no_room(descriptor: int, offset: int, size: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Sizeless:
    """A reader of which nothing is read."""

    def read(self, image_id: str) -> bytes:
        raise AssertionError

    def sizes(self, image_ids):
        return np.zeros(len(image_ids), dtype=np.int64)


# ended at any moment


@pytest.mark.slow
def test_a_killed_exploration_goes_on(tmp_path):
    folder = tmp_path / "many"
    for i in range(LEAST + 20):
        draw(folder / f"p{i:03d}.png", i)
    code = (
        "import sys; import dclib.explore.settings as s; s.MOST_PASSES, s.EPOCHS, s.WORTH_IT = 1600, 2, 100\n"
        "from dclib.explore import explore as e; from dclib.planner.hardware import CPU\n"
        "e.this_machine = lambda *a, **k: CPU\n"
        f"e.explore({str(folder)!r}, out={str(tmp_path / 'out')!r}, minutes=3, report=lambda l: print(l, flush=True))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for wait_for in ("epoch",):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        assert child.stdout is not None
        for line in child.stdout:
            if wait_for in line:
                break
        time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "out")) == LEAST + 20
    assert (tmp_path / "out" / "explorer" / "index.html").is_file()
    network = Network.at(tmp_path / "out" / "network")
    assert [one.done for one in network.rounds] == [True]
    assert (np.load(tmp_path / "out" / "features.npy") != NONE).any()
