"""Killed at random moments and started again, a run ends as one that was left in peace; what kills leave is cleared."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_images import (
    CLASSES,
    Interruption,
    interrupt_at,
    labelled,
    method_config,
    picture_tensor,
    silent,
    write_pictures,
)

from dclib.config import DataConfig
from dclib.data.layouts import open_images
from dclib.data.pixels import Pixels, load_pixels
from dclib.records import read_records, replacing, select, write_atomically
from dclib.train import pretrain as loop
from dclib.train.pretrain import pretrain
from dclib.train.tasks import classes

ROOT = Path(__file__).resolve().parent.parent
AIMS = ("training", "k-means, level 2", "checkpoint writing", "evaluation")
LEAVES_A_FILE = """
import os, signal, sys
from pathlib import Path
from dclib.records import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.mark.slow
def test_killed_run_ends_with_the_same_bits_and_files(tmp_path):
    """The kill test, short; as a whole it is ``benchmarks/kill_test.py`` by itself."""
    sets = {"pool": 300, "objects/train": 32, "objects/val": 16, "scenes/train": 32, "scenes/val": 16}
    for name, count in sets.items():
        write_pictures(tmp_path / "images" / name, count)
    script = str(ROOT / "benchmarks" / "kill_test.py")
    written = tmp_path / "records" / "kill_test.json"
    options = {"each": 0, "epochs": 2, "images": tmp_path / "images", "folder": tmp_path, "output": written}
    done = run(script, *(f"--{key}={value}" for key, value in options.items()), "--aims", *AIMS)
    assert done.returncode == 0, done.stdout + done.stderr
    records = read_records(written.parent)
    assert sum(r.value for r in select(records, "kills")) == len(AIMS)
    assert all(r.value > 0 for r in select(records, "compared"))


# --- what a kill leaves


def test_leftover_of_a_killed_writer_goes_with_the_next_write(tmp_path):
    path = tmp_path / "a.json"
    for _ in range(2):
        assert run("-c", LEAVES_A_FILE, str(path)).returncode == -9
    (leftover,) = tmp_path.iterdir()  # the second writer has deleted the first one's, and left its own
    assert leftover.read_bytes() == b"half"
    write_atomically(path, b"whole")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"whole"


def test_writers_that_live_and_files_of_others_are_left_alone(tmp_path):
    others = [tmp_path / name for name in (".a.json.swp", ".ab.json.x.partial", "a.json.x.partial")]
    for other in others:
        other.write_bytes(b"mine")
    with replacing(tmp_path / "a.json") as slow:
        slow.write(b"slow")
        write_atomically(tmp_path / "a.json", b"quick")
        assert (tmp_path / "a.json").read_bytes() == b"quick"
    assert (tmp_path / "a.json").read_bytes() == b"slow"
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "a.json"])


def test_leftover_of_a_killed_decoding_goes_with_the_next(tmp_path):
    """As large as all decoded images: a few of them fill a disk."""
    images = open_images(write_pictures(tmp_path / "images", 4))
    load_pixels(images, DataConfig(resize=36), 32, tmp_path / "cache")
    whole = listing(tmp_path / "cache")
    (decoded,) = (tmp_path / "cache").glob("*.u8")
    for path in (tmp_path / "cache").iterdir():
        path.unlink()
    assert run("-c", LEAVES_A_FILE, str(decoded)).returncode == -9
    assert len(listing(tmp_path / "cache")) == 1
    load_pixels(images, DataConfig(resize=36), 32, tmp_path / "cache")
    assert listing(tmp_path / "cache") == whole


@pytest.fixture
def pixels() -> Pixels:
    kinds = [CLASSES[i % 4] for i in range(24)]
    return labelled(picture_tensor(kinds), [CLASSES.index(k) for k in kinds], 32)


@pytest.mark.parametrize("clustering", [1, 2])  # the one after which the kill comes
def test_features_left_behind_a_checkpoint_are_removed_by_a_restart(pixels, tmp_path, monkeypatch, clustering):
    """Nothing else would ever: the next clustering has a folder of its own."""
    config = method_config("deepercluster", cluster={"n_super": 2})
    with monkeypatch.context() as patch:
        patch.setattr(loop, "remove_stored", interrupt_at(clustering, loop.remove_stored))  # one call at the start
        with pytest.raises(Interruption):
            pretrain(pixels, config, folder=tmp_path, report=silent)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]
    assert saved["clusterings"] == clustering
    assert len(list(tmp_path.glob("clustering-*"))) == 1
    seen = []
    monkeypatch.setattr(
        classes,
        "plan_epoch",
        lambda *a, plan=classes.plan_epoch, **k: (seen.append(listing(tmp_path)), plan(*a, **k))[1],
    )
    pretrain(pixels, config, folder=tmp_path, report=silent)
    assert seen[0] == ["checkpoint.pt", "clusterings"]  # at once, not at the end
    assert listing(tmp_path) == ["checkpoint.pt", "clusterings"]


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
