"""A published file in place of a trained network: every page that looks at one, by one parameter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from notebook_cells import NOTEBOOKS, run_notebook
from test_released import deepcluster_v1, network, rotnet_colour, save

from dclib.records import read_records

pytestmark = pytest.mark.usefixtures("one_thread")

STAGES = {
    "03_linear_probes": "linear_probe",
    "04_finetuning": "finetune",
    "05_retrieval": "retrieval",
    "06_voc": "voc",
    "08_colour": "colour",
    "11_metadata": "metadata",
    "16_few_labels": "low_shot",
}  # notebook, and what it records
PICTURES = {
    "05_retrieval": "what Released weights (seed 0) ranks first",
    "08_colour": "The most uniform clusters of Released weights, seed 0",
    "11_metadata": "Released weights, seed 0: clusters in which one",
}  # and says of its pictures
SETTINGS: dict[str, Any] = {
    "data.pocket_images": 100,
    "data.resize": 32,
    "model.image_size": 32,
    "probe.epochs": 1,
    "probe.train_images": 32,
    "probe.test_images": 16,
    "finetune.train_images": 16,
    "finetune.test_images": 16,
    "voc.iterations": 2,
    "voc.test_crops": 1,
    "retrieval.longest_side": 72,
    "analysis.clusters": 4,
    "low_shot.shares": [0.5, 1.0],
    "low_shot.neighbours": 2,
    "low_shot.centroids": [],
    "cluster.pca_dim": 8,
}


@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder of runs for the module, so that the pocket world is drawn once."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCLIB_RUNS", str(folder))
        yield folder


@pytest.mark.parametrize("notebook", STAGES)
def test_a_page_is_made_from_a_file_and_shows_its_card(notebook: str, runs: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoint.pth.tar", deepcluster_v1(network("sobel", 224).state_dict()))
    text = run_notebook(notebook, preset="smoke", settings=SETTINGS, weights=str(path))
    assert "layout        DeepCluster-v1" in text
    assert "CC BY-NC 4.0" in text
    records = [r for r in read_records(runs / "smoke" / "records") if r.card and r.card.method == "released"]
    assert [r for r in records if r.card and r.card.stage == STAGES[notebook]]
    if notebook in PICTURES:
        assert PICTURES[notebook] in text


@pytest.mark.parametrize("build", [deepcluster_v1, rotnet_colour])
def test_figure_4_is_made_of_a_file_behind_sobel_and_skipped_for_one_of_colour(build, tmp_path: Path) -> None:
    sobel = build is deepcluster_v1
    path = save(tmp_path / "file.pth", build(network("sobel" if sobel else "rgb").state_dict()))
    text = run_notebook("09_sobel", preset="smoke", settings=SETTINGS, weights=str(path))
    assert ("Filters of Released weights" in text) == sobel
    assert ("No network here is behind a Sobel filter" in text) != sobel
    assert ("3 channels" in text) != sobel


def test_every_notebook_with_the_parameter_is_among_these() -> None:
    found = {path.stem for path in NOTEBOOKS.glob("*.ipynb") if "weights: str" in path.read_text(encoding="utf-8")}
    assert found == {*STAGES, "09_sobel"}
