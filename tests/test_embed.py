"""Photographs that a network has not seen: what is written of them, after a kill too."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_images import decoded_pixels, method_config, silent, write_pictures

import dclib
from dclib.data.layouts import open_images
from dclib.data.photographs import open_photographs
from dclib.explore import embed as module
from dclib.explore.embed import embed
from dclib.explore.nearest_rows import nearest_rows
from dclib.explore.space import Space, space_of
from dclib.train.features import extract_features
from dclib.train.pretrain import pretrain
from dclib.train.start import weights_hash

ROUNDING = 1e-5  # float32 products in another order

KILLED = """
import os, signal, sys
from dclib.explore import embed as module
module.LARGEST_CHUNK = 16
write, calls = module.Matrix.write, [0]
def killing(self, start, rows):
    write(self, start, rows)
    calls[0] += 1
    if calls[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
module.Matrix.write = killing
module.embed(*sys.argv[1:])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    pool = open_images(write_pictures(root / "pool", 48))
    pretrain(decoded_pixels(pool), method_config("deepercluster"), folder=root / "run", report=silent)
    return root / "run"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = write_pictures(tmp_path / "photos", 40, seed=5, flat=True)
    (folder / "007.jpg").write_bytes(b"no picture")
    (folder / 'line\nbreak, and "comma" =1.png').write_bytes((folder / "000.png").read_bytes())
    return folder


def rows_of(out: Path, name: str = "photos.csv") -> list[dict[str, str]]:
    with (out / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_written_is_what_the_network_makes_of_them(run: Path, photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    said: list[str] = []
    out = embed(tmp_path / "run", photographs, tmp_path / "out", pool=str(run.parent / "pool"), report=said.append)
    (photographs / "007.jpg").unlink()
    own, used = extract_features(dclib.load(run), open_images(photographs), report=silent)
    table, features = rows_of(out), np.load(out / "features.npy")
    assert [row["path"] for row in table] == list(used.ids)
    assert 'line\nbreak, and "comma" =1.png' in used.ids
    np.testing.assert_allclose(features, own.numpy(), rtol=0, atol=ROUNDING)
    assert any("1 of 41 photographs cannot be read, left out: 007.jpg" in line for line in said)
    # clusters, by distances written out one by one
    with np.load(tmp_path / "run" / "centroids.npz") as kept:
        points = (features - kept["mean"]) @ kept["projection"]
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        apart = np.linalg.norm(points[:, None] - kept["centroids"][None], axis=2)
    apart[np.isnan(apart)] = np.inf
    assert [int(row["cluster"]) for row in table] == apart.argmin(axis=1).tolist()
    np.testing.assert_allclose([float(row["distance"]) for row in table], apart.min(axis=1), atol=1e-4)
    # neighbours
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    found = np.load(out / "neighbours.npy")
    assert found.shape == (40, 10)
    best = -np.sort(-cosines, axis=1)[:, :10]
    np.testing.assert_allclose(np.take_along_axis(cosines, found, axis=1), best, atol=ROUNDING)
    assert table[3]["nearest"] == used.ids[found[3, 0]]
    copy = list(used.ids).index('line\nbreak, and "comma" =1.png')
    assert table[copy]["nearest"] == "000.png"


def test_a_killed_call_goes_on_and_ends_with_the_same_bytes(
    run: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [str(run), str(photographs), str(tmp_path / "killed")]
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=root, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "killed" / "features.npy").exists()
    monkeypatch.setattr(module, "LARGEST_CHUNK", 16)
    calls, make = [], module.chunk_features
    monkeypatch.setattr(module, "chunk_features", lambda *given: calls.append(len(given[1])) or make(*given))
    embed(*arguments, report=silent)
    assert calls == [16, 9]  # the first chunk was safe; the second was written, and not yet known to be
    embed(run, photographs, tmp_path / "whole", report=silent)
    for name in ("features.npy", "photos.csv", "neighbours.npy"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    said: list[str] = []
    embed(run, photographs, tmp_path / "whole", report=said.append)
    assert "embedded in" in said[-1]
    assert "already" in said[-1]
    assert not [p for p in os.listdir(tmp_path / "whole") if "partial" in p]


def test_an_explorations_photographs_and_clusters_are_those_named(run: Path, photographs: Path, tmp_path: Path) -> None:
    explored = tmp_path / "explored"
    shutil.copytree(run, explored / "network")
    used = open_photographs(run.parent / "pool").images
    features = torch.from_numpy(module.chunk_features(module.describer_of(explored, dclib.load(run)), used)[0])
    np.save(explored / "features.npy", features.numpy())
    (explored / "photos.csv").write_text("path,cluster\n" + "".join(f"{i},0\n" for i in used.ids))
    space = space_of(features, torch.arange(len(features)) % 4, 8)
    np.savez(explored / "centroids.npz", **{name: value.numpy() for name, value in vars(space).items()}, paths=used.ids)
    out = embed(explored, photographs, report=silent)
    assert out == explored / "embedded" / "photos"
    own = torch.from_numpy(np.load(out / "features.npy"))
    table = rows_of(out)
    assert [int(row["cluster"]) for row in table] == space.place(own)["cluster"].tolist()
    near = np.load(out / "explored_neighbours.npy")
    assert near.max() < 48
    assert [row["nearest_explored"] for row in table] == [used.ids[i] for i in near[:, 0]]


@pytest.fixture
def explored(run: Path, tmp_path: Path) -> Path:
    """An exploration's folder with answers by the network of the run."""
    folder = tmp_path / "explored"
    shutil.copytree(run, folder / "network")
    answer(folder, run)
    return folder


def answer(folder: Path, run: Path, part: slice = slice(None)) -> None:
    """Answers on some of what the run has learned from, as an exploration writes them."""
    trunk = dclib.load(run)
    used = open_photographs(run.parent / "pool").images[part]
    features = torch.from_numpy(module.chunk_features(module.describer_of(folder, trunk), used)[0])
    np.save(folder / "features.npy", features.numpy())
    (folder / "photos.csv").write_text("path,cluster\n" + "".join(f"{i},0\n" for i in used.ids))
    space_of(features, torch.arange(len(features)) % 4, 8).save(folder / "centroids.npz")
    (folder / "summary.json").write_text(json.dumps({"network": weights_hash(trunk)}))


def test_answers_that_have_changed_since_are_named_as_they_are(
    run: Path, explored: Path, photographs: Path, tmp_path: Path
) -> None:
    out = embed(explored, photographs, tmp_path / "out", report=silent)
    answer(explored, run, slice(5, None))
    said: list[str] = []
    embed(explored, photographs, out, report=said.append)
    names = [row["path"] for row in rows_of(explored)]
    near = np.load(out / "explored_neighbours.npy")
    assert near.max() < 43
    assert [row["nearest_explored"] for row in rows_of(out)] == [names[i] for i in near[:, 0]]
    assert not any("photographs, " in line and "/s" in line for line in said)  # features are not made anew
    embed(explored, photographs, out, report=said.append)
    assert "already" in said[-1]


@pytest.mark.parametrize("how", ["without", "another"])
def test_answers_that_are_not_by_the_network_of_now_name_nothing(
    explored: Path, photographs: Path, tmp_path: Path, how: str
) -> None:
    out = embed(explored, photographs, tmp_path / "out", report=silent)
    if how == "without":  # too few photographs were left: colours stand for them
        np.save(explored / "features.npy", np.zeros((48, 192), dtype=np.float32))
    (explored / "summary.json").write_text(json.dumps({"network": "" if how == "without" else "0123456789ab"}))
    said: list[str] = []
    embed(explored, photographs, out, report=said.append)
    assert any("not by the network that is there now; explore its photographs again" in line for line in said)
    assert {row["cluster"] for row in rows_of(out)} == {""}
    assert not (out / "explored_neighbours.npy").exists()


def test_what_is_missing_of_an_embedding_is_made(explored: Path, run: Path, photographs: Path, tmp_path: Path) -> None:
    few = write_pictures(tmp_path / "few", 3, flat=True)
    out = embed(explored, few, tmp_path / "out", neighbours=2, report=silent)
    embed(explored, few, out, neighbours=9, report=silent)
    assert np.load(out / "explored_neighbours.npy").shape == (3, 9)
    whole = (out / "features.npy").read_bytes()
    (out / "features.npy").write_bytes(whole[:500])
    (out / "photos.csv").unlink()
    embed(explored, few, out, neighbours=9, report=silent)
    assert (out / "features.npy").read_bytes() == whole
    assert len(rows_of(out)) == 3
    said: list[str] = []
    shutil.copytree(run, tmp_path / "bare")
    (tmp_path / "bare" / "centroids.npz").unlink(missing_ok=True)
    out = embed(tmp_path / "bare", photographs, tmp_path / "other", report=said.append)
    assert any("name their folder with --pool" in line for line in said)
    embed(tmp_path / "bare", photographs, out, pool=str(run.parent / "pool"), report=silent)
    assert "" not in {row["cluster"] for row in rows_of(out)}


def test_features_have_their_room_on_the_disk_before_the_first_is_made(
    run: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_room)
        with pytest.raises(OSError, match=r"could not write .*: No space left"):
            embed(run, photographs, tmp_path / "out", report=silent)
    assert os.listdir(tmp_path / "out") == ["embedding.json"]
    embed(run, photographs, tmp_path / "out", report=silent)
    assert len(rows_of(tmp_path / "out")) == 40


def test_folders_with_dots_in_their_names_have_folders_of_their_own(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("2024.05", "2024.06"):
        out = embed(tmp_path / "run", write_pictures(tmp_path / name, 2, flat=True), report=silent)
        assert out.name == name


def test_nothing_is_written_among_the_photographs_or_over_something_else(
    run: Path, photographs: Path, tmp_path: Path
) -> None:
    before = sorted(os.listdir(photographs))
    with pytest.raises(ValueError, match="is among the photographs"):
        embed(run, photographs, photographs / "out", report=silent)
    (tmp_path / "link").symlink_to(photographs)
    with pytest.raises(ValueError, match="is among the photographs"):
        embed(run, photographs, tmp_path / "link" / "out", report=silent)
    assert sorted(os.listdir(photographs)) == before
    out = embed(run, photographs, tmp_path / "out", neighbours=0, report=silent)
    assert np.load(out / "neighbours.npy").shape == (40, 0)
    other = write_pictures(tmp_path / "others", 4, flat=True)
    with pytest.raises(ValueError, match=r"holds an embedding of .*photos; name another folder"):
        embed(run, other, out, report=silent)
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True)
    checkpoint["state"]["trunk"]["features.0.bias"] += 1
    (tmp_path / "changed").mkdir()
    torch.save(checkpoint, tmp_path / "changed" / "checkpoint.pt")
    with pytest.raises(ValueError, match="holds an embedding of another network"):
        embed(tmp_path / "changed", photographs, out, report=silent)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photos.csv").write_text("my own table")
    with pytest.raises(ValueError, match=r"holds photos\.csv of something else"):
        embed(run, photographs, tmp_path / "mine", report=silent)
    said: list[str] = []
    write_pictures(photographs / "more", 4, flat=True)
    embed(run, photographs, out, report=said.append)
    assert "all are embedded anew" in said[0]
    assert len(rows_of(out)) == 44


def test_another_photograph_of_the_same_name_and_size_is_seen(run: Path, photographs: Path, tmp_path: Path) -> None:
    out = embed(run, photographs, tmp_path / "out", neighbours=0, report=silent)
    before = (out / "features.npy").read_bytes()
    progress = json.loads((out / "embedding.json").read_text())
    assert progress.pop("written")
    (out / "embedding.json").write_text(json.dumps(progress))  # as it was written before times were kept
    said: list[str] = []
    embed(run, photographs, out, neighbours=0, report=said.append)
    assert "already" in said[-1]
    assert json.loads((out / "embedding.json").read_text())["written"]
    replaced, other = photographs / "000.png", (photographs / "001.png").read_bytes()
    size = max(replaced.stat().st_size, len(other))
    for content in (replaced.read_bytes(), other):  # a picture ends before what follows it
        replaced.write_bytes(content.ljust(size, b"\0"))
        said.clear()
        embed(run, photographs, out, neighbours=0, report=said.append)
        assert "all are embedded anew" in said[0]
    assert rows_of(out)[0]["path"] == "000.png"
    features = np.load(out / "features.npy")
    assert np.array_equal(features[0], features[1])
    assert (out / "features.npy").read_bytes() != before
    embed(run, photographs, out, neighbours=0, report=said.append)
    assert "already" in said[-1]


def test_nothing_is_written_where_all_is_there_for_the_folder_may_be_closed(
    run: Path, photographs: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    out = embed(run, photographs, tmp_path / "out", neighbours=0, report=silent)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()}
    embed(run, photographs, out, neighbours=0, report=said.append)
    assert "already" in said[-1]
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()} == before


def test_a_listed_photograph_that_was_changed_is_seen(run: Path, photographs: Path, tmp_path: Path) -> None:
    listed = tmp_path / "some.txt"
    listed.write_text("photos/000.png\nphotos/001.png\n")
    said: list[str] = []
    for wanted in ("embedded", "already", "anew"):
        if wanted == "anew":
            os.utime(photographs / "000.png", (1e9, 1e9))
        said.clear()
        embed(run, listed, tmp_path / "out", neighbours=0, report=said.append)
        assert any(wanted in line for line in said)
        assert any("already" in line for line in said) == (wanted == "already")


def test_neighbours_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dclib.explore.nearest_rows.BASE", 7)
    features = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    numbers, values = nearest_rows(features, range(10, 30), None, 9)
    assert numbers.tolist() == np.argsort(-cosines[10:30], axis=1)[:, :9].tolist()
    np.testing.assert_allclose(values, -np.sort(-cosines[10:30], axis=1)[:, :9], atol=ROUNDING)


def test_a_cluster_without_images_is_nobodys_and_one_cluster_has_no_second() -> None:
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    space = space_of(features, torch.tensor([0, 2] * 15), 3)
    assert space.centroids[1].isnan().all()
    placed = space.place(features)
    assert set(placed["cluster"].tolist()) <= {0, 2}
    alone = Space(space.mean, space.projection, space.centroids[:1]).place(features)
    assert set(alone["second"].tolist()) == {-1}
    assert torch.isfinite(alone["sharpness"]).all()
