"""What runs keep of every clustering: the right clusters, through kills, whatever else changes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import procrustes
from sklearn.decomposition import PCA
from task_checks import assert_identical, outcome
from tiny_images import CLASSES, Interruption, interrupt_at, labelled, method_config, picture_tensor, silent

from dclib.data.pixels import Pixels
from dclib.methods.deepcluster_v2 import DeepClusterV2Settings
from dclib.train import checkpoints, forming
from dclib.train import pretrain as loop
from dclib.train.features import extract_features
from dclib.train.pretrain import pretrain
from dclib.train.state import State
from dclib.train.tasks import classes

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = method_config("deepercluster", cluster={"n_super": 2}, train={"epochs": 3})


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    kinds = [CLASSES[i % 4] for i in range(48)]
    return labelled(picture_tensor(kinds), [CLASSES.index(k) for k in kinds], 32)


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "clusterings").iterdir())}


@pytest.fixture(scope="module")
def left_alone(pixels: Pixels, tmp_path_factory: pytest.TempPathFactory):
    """A run that nothing happens to: what it ends with, what it keeps, and what training was told and saw."""
    folder, told, seen = tmp_path_factory.mktemp("whole"), [], []
    renew, plan = classes.Classes.renew, classes.plan_epoch

    def watched(task, run, stored, report):
        # of the network as it is before the steps that follow
        features = extract_features(run.trunk, task.pixels)
        renew(task, run, stored, report)
        seen.append((task.labels.clusters.clone(), features))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classes.Classes, "renew", watched)
        patch.setattr(classes, "plan_epoch", lambda *a, **k: (told.append(a), plan(*a, **k))[1])
        state = pretrain(pixels, CONFIG, folder=folder, report=silent)
    return outcome(state), written(folder), seen, folder


def test_every_clustering_is_kept_as_it_was_made(left_alone):
    _, files, seen, folder = left_alone
    assert list(files) == [f"{i:03d}.npz" for i in range(len(seen))]
    assert len(seen) == 3
    for number, (clusters, features) in enumerate(seen):
        (kept,) = forming.read_together(folder / "clusterings" / f"{number:03d}.npz")
        assert kept.epoch == number
        assert kept.clusters.dtype == np.uint8
        assert kept.clusters.tolist() == clusters.tolist()
        expected = PCA(2).fit_transform(features.values.double().numpy())
        # features are kept as float16 meanwhile, and places too; the scale and the signs are free
        assert procrustes(expected, kept.place)[2] < 1e-4


def test_keeping_them_changes_no_weight(pixels, left_alone, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "keep_clustering", lambda *_: None)
    assert_identical(outcome(pretrain(pixels, CONFIG, folder=tmp_path, report=silent)), left_alone[0])
    assert not (tmp_path / "clusterings").exists()


@pytest.mark.parametrize(
    ("where", "stop", "count"),
    [
        (checkpoints, "keep_clustering", 1),  # a clustering is made and not kept
        (checkpoints, "save_checkpoint", 3),  # kept, and its checkpoint is not written: it is made and kept again
        (loop, "remove_stored", 2),  # its checkpoint is written, and its features are still there
        (loop, "train_step", 4),  # inside the second epoch
    ],
)
def test_a_killed_run_keeps_the_same_files(pixels, left_alone, tmp_path, monkeypatch, where, stop, count):
    with monkeypatch.context() as patch:
        patch.setattr(where, stop, interrupt_at(count, getattr(where, stop)))
        with pytest.raises(Interruption):
            pretrain(pixels, CONFIG, folder=tmp_path, report=silent)
    assert_identical(outcome(pretrain(pixels, CONFIG, folder=tmp_path, report=silent)), left_alone[0])
    assert written(tmp_path) == left_alone[1]


def test_a_run_begun_afresh_keeps_none_of_the_one_before(pixels, tmp_path):
    (tmp_path / "clusterings").mkdir()
    (tmp_path / "clusterings" / "007.npz").write_bytes(b"of another run")
    config = replace(CONFIG, train=replace(CONFIG.train, epochs=1))
    pretrain(pixels, config, folder=tmp_path, report=silent)
    assert list(written(tmp_path)) == ["000.npz"]


def test_of_a_large_set_the_images_with_a_place_are_kept_alone(pixels, left_alone, tmp_path, monkeypatch):
    monkeypatch.setattr(forming, "KEPT_IMAGES", 40)
    monkeypatch.setattr(forming, "MAPPED", 12)
    pretrain(pixels, CONFIG, folder=tmp_path, report=silent)
    (kept,) = forming.read_together(tmp_path / "clusterings" / "001.npz")
    rows = forming.mapped_rows(48)
    assert len(set(rows.tolist())) == 12
    assert kept.n == 48
    assert kept.place.shape == (12, 2)
    assert kept.clusters.tolist() == kept.of_mapped.tolist() == left_alone[2][1][0][rows].tolist()


def test_a_hundred_million_images_are_drawn_from_without_listing_them():
    rows = forming.mapped_rows(10**8)
    assert len(set(rows.tolist())) == forming.MAPPED
    assert abs(rows.mean() / 10**8 - 0.5) < 0.03  # five times the deviation of such a mean


def test_methods_that_remember_vectors_are_placed_by_them(pixels, tmp_path, monkeypatch):
    config = method_config("deepcluster_v2", train={"epochs": 2, "batch_size": 24})
    config = replace(config, task=DeepClusterV2Settings(hidden=16, dim=8))
    seen: list[tuple[list[int], np.ndarray]] = []
    keep = checkpoints.keep_clustering

    def watched(folder: Path, identity: str, state: State) -> None:
        seen.append((state.task.clusters[0].tolist(), state.task.memory.numpy().copy()))
        keep(folder, identity, state)

    monkeypatch.setattr(checkpoints, "keep_clustering", watched)
    pretrain(pixels, config, folder=tmp_path, report=silent)
    for number, (clusters, memory) in enumerate(seen):
        (kept,) = forming.read_together(tmp_path / "clusterings" / f"{number:03d}.npz")
        assert kept.clusters.tolist() == clusters
        assert procrustes(PCA(2).fit_transform(memory), kept.place)[2] < 1e-4
    assert len(seen) == 2


def test_planes_are_turned_and_mirrored_back():
    rng = np.random.default_rng(0)
    first = rng.standard_normal((50, 2)).astype(np.float32)
    angle = 2.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mirrored = (first @ turn @ np.diag([1, -1])).astype(np.float32)
    moved = mirrored + 0.1 * rng.standard_normal((50, 2)).astype(np.float32)
    found = forming.aligned([first, mirrored, moved])
    np.testing.assert_allclose(found[1], first, atol=1e-5)  # float32
    assert np.abs(found[2] - first).max() < 0.5
    # no turn or mirror image is nearer than what was found
    for degree in range(360):
        c, s = np.cos(np.radians(degree)), np.sin(np.radians(degree))
        for other in (np.array([[c, -s], [s, c]]), np.array([[c, s], [s, -c]])):
            assert np.square(moved @ other - found[1]).sum() >= np.square(found[2] - found[1]).sum() - 1e-3


def test_the_run_at_work_last_is_read_and_others_are_not(tmp_path):
    for number, name in enumerate(("rotnet-s0-a", "rotnet-s0-b", "rotnet-s1-c", "rotnet_rgb-s0-d")):
        for clustering in range(2):
            formed = forming.Formed(3, clustering, np.array([number, 0, 300]), np.zeros((3, 2), np.float32))
            forming.keep(forming.path_of(tmp_path / name, clustering), formed)
    found = forming.formed_by(tmp_path, "rotnet", 0)
    assert [(one.epoch, one.clusters.tolist()) for one in found] == [(0, [1, 0, 300]), (1, [1, 0, 300])]
    assert forming.formed_by(tmp_path, "context", 0) == []
    (tmp_path / "rotnet-s1-c" / "clusterings" / "001.npz").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"001\.npz holds no clusterings of a run; delete it"):
        forming.formed_by(tmp_path, "rotnet", 1)
