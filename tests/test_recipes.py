"""The presets of section 5's recipes, made tiny: every page of theirs on a few pictures of the pocket world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from notebook_cells import run_notebook

from dclib.__main__ import main
from dclib.config import RECIPES
from dclib.evaluate.networks import method_behind_sobel
from dclib.paper import TABLE3_METHODS
from dclib.planner.supplement import PRESETS
from dclib.presets import load_preset, parse_preset
from dclib.press.stages import ABOUT_IMAGES, MEASURED, plan_stages
from dclib.records import read_records, select
from dclib.report.series import era_of

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

TINY: dict[str, Any] = {
    "data.root": "",
    "data.pool": "pool",
    "data.objects_train": "objects/train",
    "data.objects_test": "objects/val",
    "data.resize": 32,
    "data.pocket_images": 100,
    "model.image_size": 32,
    "model.width": 1 / 16,
    "model.hidden_dim": 16,
    "model.feature_dim": 16,
    "cluster.n_sub": 4,
    "cluster.pca_dim": 8,
    "cluster.n_iter": 2,
    "train.epochs": 2,
    "train.epoch_images": 32,
    "train.batch_size": 32,
    "train.patience": 1,
    "train.validate_every": 1,
    "probe.epochs": 1,
    "probe.augment": False,
    "probe.train_images": 32,
    "probe.test_images": 16,
    "finetune.epochs": 2,
    "finetune.batch_size": 16,
    "finetune.train_images": 16,
    "finetune.test_images": 16,
    "voc.iterations": 2,
    "voc.validation_iterations": 1,
    "voc.test_crops": 1,
    "retrieval.longest_side": 72,
}
WHOLE = ("deepercluster_yfcc1m", "rotnet_yfcc100m")
# pages that are alike for the others: they take most of the time, or need no network of the recipe
ALIKE = ("finetuning", "retrieval", "voc", *ABOUT_IMAGES, *MEASURED)


@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder of runs for the module, so that the pocket world is drawn once."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCLIB_RUNS", str(folder))
        yield folder


@pytest.mark.parametrize("name", RECIPES)
def test_every_page_of_a_recipe_is_made(name: str, runs: Path) -> None:
    preset, stages = plan_stages(name, settings=TINY)
    left_out = () if name in WHOLE else ALIKE
    for stage in stages:
        if stage.page not in left_out:
            run_notebook(stage.notebook.stem, **stage.parameters)
    (method,) = preset.methods.keys() - {"random"}
    records = [r for r in read_records(runs / name / "records") if r.card and r.card.method == method]
    stages_run = {r.card.stage for r in records if r.card}
    assert stages_run >= {"pretrain", "linear_probe", "metadata"}
    assert ("colour" in stages_run) == (method != "deepcluster")  # Figure 2 compares DeeperCluster and RotNet
    assert ({"retrieval", "voc"} <= stages_run) == (name in WHOLE)
    assert select(records, "validation_map")  # the paper's rule for stopping was asked


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in RECIPES])
def test_one_command_each_trains_the_networks_of_the_tables(name: str, runs: Path) -> None:
    settings = [f"--set={key}={value!r}" for key, value in TINY.items()]
    methods = load_preset(name).methods
    for method in methods:
        assert main(["pretrain", "--preset", name, "--method", method, *settings]) == 0
    records = read_records(runs / name / "records")
    assert {record.card.method for record in records if record.card} == methods.keys()
    validated = {record.card.method for record in select(records, "validation_map") if record.card}
    assert validated == methods.keys() - {"random"}  # TINY's patience is everyone's, supervised too


def test_table_3_is_whole_with_the_network_of_another_preset(runs: Path) -> None:
    settings = [f"--set={key}={value!r}" for key, value in TINY.items()]
    assert main(["pretrain", "--preset", "deepcluster_yfcc1m", "--method", "deepcluster", *settings]) == 0
    (weights,) = runs.glob("deepcluster_yfcc1m/runs/deepcluster-*/checkpoint.pt")
    lent = {"methods.deepcluster.method": "released", "methods.deepcluster.weights": str(weights)}
    run_notebook("05_retrieval", preset="tables1to3", settings={**TINY, **lent})
    records = select(read_records(runs / "tables1to3" / "records"), "retrieval_map")
    assert {r.card.method for r in records if r.card} == {m for m in TABLE3_METHODS.values() if era_of(m) == "paper"}


# Figure 4


def test_figure_4_looks_through_the_first_trained_network_behind_sobel() -> None:
    rgb = {"model": {"stem": "rgb"}}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"random": None, "rotnet": None, "deepercluster": None}, "deepercluster"),
        ({"random": None, "rotnet": rgb, "deepcluster": None, "supervised": None}, "deepcluster"),
        ({"random": None, "rotnet": rgb}, "random"),
        ({"rotnet": rgb, "deepercluster": rgb}, ""),
    ]
    for methods, expected in cases:
        assert method_behind_sobel(parse_preset("tiny", {"methods": methods})) == expected


def test_without_a_network_behind_sobel_the_page_of_figure_4_says_so() -> None:
    text = run_notebook("09_sobel", preset="rotnet_yfcc100m", settings={**TINY, "model.stem": "rgb"})
    assert "No network here is behind a Sobel filter" in text
    assert "[Figure]" not in text
