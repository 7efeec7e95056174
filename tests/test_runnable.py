"""Which methods a folder of images is enough for, in the plan of a book and in a notebook run by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from notebook_cells import run_notebook
from test_voc_classification import voc_folder
from tiny_images import write_pictures

from dclib.presets import parse_preset
from dclib.records import read_records
from dclib.train.runnable import runnable_methods

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS: dict[str, Any] = {
    "random": None,
    "supervised": None,
    "rotnet_curated": {"method": "rotnet", "images": "objects"},
    "from_labels": {"method": "rotnet", "init": "supervised"},
    "rotnet": None,
}


def named(root: str, **data: str) -> tuple[str, ...]:
    sections = {"root": root, "pool": "train|.", "objects_train": "train|", **data}
    return runnable_methods(parse_preset("tiny", {"methods": METHODS, "data": sections}))


def test_what_learns_from_labels_is_left_out_where_there_are_none(tmp_path: Path) -> None:
    """With ``images: objects``, and by way of ``init``, too."""
    write_pictures(tmp_path / "flat", 4, flat=True)
    write_pictures(tmp_path / "sorted" / "train", 4)
    assert named(str(tmp_path / "flat")) == ("random", "rotnet")
    assert named(str(tmp_path / "sorted")) == tuple(METHODS)
    assert named("") == tuple(METHODS)  # the pocket world
    with pytest.raises(ValueError, match=r"no images for data\.objects_train: looked in"):
        named(str(tmp_path / "flat"), objects_train="train")


@pytest.mark.parametrize("notebook", ["03_linear_probes", "05_retrieval", "06_voc"])
def test_a_notebook_by_itself_takes_a_folder_without_labels(notebook: str, tmp_path: Path, monkeypatch) -> None:
    """As the README has it: preset folder, data photos."""
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    photos = write_pictures(tmp_path / "photos", 16, flat=True)
    for split in ("train", "val", "trainval", "test"):
        voc_folder(photos / "VOC2007", 12, split=split)
    for city in ("oxford5k", "paris6k"):
        write_pictures(photos / city / "jpg", 6, flat=True)
        truth = photos / city / "groundtruth"
        truth.mkdir()
        for kind, text in (("query", "000 1 1 30 30"), ("good", "000\n001"), ("ok", ""), ("junk", "002")):
            (truth / f"hall_1_{kind}.txt").write_text(text)
    settings = {
        **{"data.resize": 36, "model.image_size": 32, "model.width": 1 / 16, "model.hidden_dim": 16},
        **{"model.feature_dim": 16, "cluster.n_sub": 2, "cluster.pca_dim": 4, "train.epochs": 1},
        **{"train.epoch_images": 16, "train.batch_size": 16, "voc.iterations": 1, "voc.batch_size": 4},
        **{"voc.test_crops": 1, "retrieval.longest_side": 72},
    }
    run_notebook(notebook, preset="folder", data=str(photos), settings=settings)
    found = {r.card.method for r in read_records(tmp_path / "runs" / "folder" / "records") if r.card}
    expected = {"random", "rotnet", "deepcluster", "deepercluster", "deepercluster_hierarchy"}
    assert found == (set() if notebook == "03_linear_probes" else expected)
