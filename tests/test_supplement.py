"""The whole supplement: a network for every cell of Tables 1 to 4, its settings as stated, its images, its price."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tiny_images import write_pictures
from zip_archives import write_archives

from dclib.__main__ import MISUSED, _parser, main
from dclib.config import MethodConfig, Preset
from dclib.evaluate.finetune import scaled_epochs
from dclib.paper import published_numbers
from dclib.planner.hardware import GPUS, hardware_named
from dclib.planner.pages import table_seconds
from dclib.planner.plan import make_plan
from dclib.planner.supplement import IMAGES, PRESETS, Supplement, needed_networks, price_supplement
from dclib.presets import load_preset, project_root
from dclib.report import planner as report_planner
from dclib.report import recipes
from dclib.train.runnable import look_ahead

OTHERS = {
    (2, "Supervised (PyTorch documentation)"),  # torchvision's
    (3, "Doersch et al., ImageNet"),
    (3, "Wang et al., Youtube 9M"),
}  # rows whose networks are not of this paper
YFCC, IMAGENET = 95_920_149, 1_281_167
H100 = GPUS["h100"]

# section 5, and what the ledger says where it is silent (D40 to D42), read by hand. Images; then batch, learning rate,
# weight decay, dropout, input, turns; then clusters in all, super-clusters, PCA dimension, epochs between clusterings
ROTNET = (512, 0.05, 0.00001, 0.3)
LARGE = (3072, 0.1, 0.00001, 0.5, "sobel", 4, 320_000, 4, 4096, 3)
ONE_LEVEL = (256, 0.05, 0.00001, 0.5, "sobel", 1, 10_000, 1, 256, 2)
STATED: dict[tuple[str, str], tuple[Any, ...]] = {
    ("tables1to3", "supervised"): (IMAGENET, 256, 0.1, 0.0001, 0.5, "sobel", 1),
    ("tables1to3", "rotnet"): (YFCC, *ROTNET, "rgb", 4),
    ("tables1to3", "deepercluster"): (YFCC, *LARGE),
    ("tables1to3", "rotnet_curated"): (IMAGENET, *ROTNET, "rgb", 4),
    ("tables1to3", "deepcluster_curated"): (IMAGENET, *ONE_LEVEL),
    ("deepcluster_yfcc1m", "deepcluster"): (1_300_000, *ONE_LEVEL),
    ("table4_rotnet", "rotnet"): (1_000_000, *ROTNET, "sobel", 4),
    ("table4_rotnet", "rotnet_rgb"): (1_000_000, *ROTNET, "rgb", 4),
    ("table4_deepercluster", "deepercluster"): (20_000_000, *LARGE),
    ("table4_deepercluster", "deepercluster_rgb"): (20_000_000, *LARGE[:4], "rgb", *LARGE[5:]),
}


def settings_of(config: MethodConfig) -> tuple[Any, ...]:
    train, model, cluster = config.train, config.model, config.cluster
    own = (train.batch_size, train.lr, train.weight_decay, model.dropout, model.stem, config.n_turns)
    clusters = (cluster.n_clusters, cluster.n_super, cluster.pca_dim, cluster.reassign_every)
    return (*own, *clusters) if config.clusters else own


@pytest.fixture(scope="module")
def prices() -> Supplement:
    return price_supplement(H100, processes=8)


# who needs which


def test_every_cell_of_the_tables_has_a_network_or_is_somebody_elses() -> None:
    needed = needed_networks()
    for number in published_numbers():
        found = [
            need
            for need in needed
            if (need.table, need.row) == (number.table, number.row) and need.column in ("", number.column)
        ]
        assert len(found) == 1, number
        assert (not found[0].preset) == ((number.table, number.row) in OTHERS), number
    for need in needed:
        assert not need.preset or need.method in load_preset(need.preset).methods


def test_the_presets_hold_no_network_that_no_table_needs() -> None:
    held = {(name, method) for name in PRESETS for method in load_preset(name).methods}
    needed = {(need.preset, need.method) for need in needed_networks() if need.preset}
    assert held - needed == {("deepcluster_yfcc1m", "random")}  # as in the presets of all recipes


def test_settings_and_images_are_those_stated(prices: Supplement) -> None:
    found = {(p.preset, p.method): p.plan.work for p in prices.prices if p.plan}
    assert found.keys() == STATED.keys()
    for key, work in found.items():
        assert (work.n_images, *settings_of(work.config)) == STATED[key], key
        assert (work.config.init, work.config.model.grid, work.config.train.momentum) == ("", 226, 0.9)
        assert work.config.train.epochs == 100
        assert (work.config.train.patience > 0) == (work.config.method != "supervised")
    supervised = found["tables1to3", "supervised"].config.train
    assert (supervised.decay_from, supervised.final_lr) == (0.0, pytest.approx(0.2**4))  # a fifth, four times in 100


def test_tables_ask_for_the_networks_in_their_captions() -> None:
    rows = {(n.table, n.row, n.column): (n.preset, n.method) for n in needed_networks()}
    assert rows[3, "DeepCluster, YFCC100M", ""] == ("deepcluster_yfcc1m", "deepcluster")
    assert rows[3, "DeepCluster, ImageNet", ""] == ("tables1to3", "deepcluster_curated")
    assert rows[1, "Places205, RotNet", ""] == ("tables1to3", "rotnet")
    assert rows[4, "RotNet, YFCC 1M", "Sobel"] == ("table4_rotnet", "rotnet")
    assert rows[4, "DeeperCluster, YFCC 20M", "RGB"] == ("table4_deepercluster", "deepercluster_rgb")


# where the images lie


def tiny(name: str, root: Path) -> Preset:
    settings = {"data.pool_images": 0, "cluster.n_super": 1, "cluster.n_sub": 2, "train.patience": 0}
    return load_preset(name, {"data.root": str(root), **settings})


@pytest.mark.parametrize("name", [*PRESETS, "deepercluster_yfcc100m", "rotnet_imagenet"])
def test_one_folder_holds_the_images_of_all(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    root = tmp_path / "supplement"
    write_archives(root / "yfcc100m", range(25))
    for split, n in (("train", 12), ("val", 8)):
        write_pictures(root / "imagenet" / split, n)
        write_pictures(root / "places205" / split, n // 2)
    found = look_ahead(tiny(name, root)).counts
    assert found["pool"] == (12 if name == "rotnet_imagenet" else 25)
    assert found.get("objects_train", 0) == (0 if name.startswith("table4") else 12)
    assert found.get("scenes_test", 0) == (4 if name == "tables1to3" else 0)


# prices


def test_a_network_is_priced_once_and_the_whole_is_the_sum(prices: Supplement) -> None:
    assert prices.refusal == ""
    keys = [(price.preset, price.method) for price in prices.prices]
    assert sorted(keys) == sorted({*STATED, ("tables1to3", "random")})
    networks = {
        key: 8
        * (price.plan.seconds - price.plan.phases[-1].total_seconds * (price.plan.phases[-1].name == "evaluation"))
        + 8 * price.validating
        for key, price in zip(keys, prices.prices, strict=True)
        if price.plan
    }
    tests = 0.0
    for table in (1, 2, 3, 4):
        needed = {(need.preset, need.method) for need in needed_networks() if need.table == table and need.preset}
        assert prices.training_of(table) == pytest.approx(sum(networks.get(key, 0.0) for key in needed))
        assert prices.testing_of(table) > 0
        tests += prices.testing_of(table)
    assert prices.spent == pytest.approx(sum(networks.values()) + tests)
    assert prices.spent < sum(
        prices.training_of(table) for table in (1, 2, 3, 4)
    )  # three tables need the two large ones


def test_validations_are_as_many_as_a_run_has(prices: Supplement) -> None:
    one = next(price.testing[4] for price in prices.prices if 4 in price.testing)
    for price in prices.prices:
        name = price.method
        few = price.preset in ("deepcluster_yfcc1m", "table4_rotnet") or name.endswith("_curated")
        times = 0 if name in ("random", "supervised") else 10 if few else 100
        assert price.validating == pytest.approx(times * one, rel=0.01)  # stems differ by a thousandth


def test_fine_tuning_waits_for_photographs_to_be_decoded() -> None:
    slow = load_preset("tables1to3", {"data.workers": 1})
    epochs = sum(scaled_epochs(recipe, 100) for recipe in ("ours", "pytorch_doc"))
    decoded = epochs * (IMAGENET + 50_000) / H100.decode_rate
    assert table_seconds(slow, "rotnet", 2, H100, IMAGES) == pytest.approx(decoded, rel=0.01)
    fast = load_preset("tables1to3", {"data.workers": 1000})
    assert table_seconds(fast, "rotnet", 2, H100, IMAGES) < decoded / 3


def test_what_learns_from_objects_is_planned_with_as_many_as_there_are() -> None:
    preset = load_preset("tables1to3")
    found = {name: make_plan(preset, name, H100, processes=8, n_images=YFCC) for name in preset.methods}
    assert {name: plan.work.n_images for name, plan in found.items() if name != "random"} == {
        name: images for (of, name), (images, *_) in STATED.items() if of == "tables1to3"
    }
    few = make_plan(preset, "rotnet_curated", H100, processes=8, n_images=5000)
    assert few.work.n_images == 5000
    counted = make_plan(preset, "supervised", H100, processes=8, n_images=YFCC, labelled=(700, 70, 7))
    assert counted.work.n_images == 700


# commands and pages


def test_the_command_prints_all_prices_or_one_sentence(prices: Supplement, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--supplement", "--gpu", "h100", "--gpus", "8"]) == 0
    printed = capsys.readouterr().out.splitlines()
    for price in prices.prices:
        (line,) = [line for line in printed if line.split()[:2] == [price.preset, price.method]]
        assert line.endswith(f" {price.spent / 3600:,.0f}")
    assert any(f"{prices.spent / 3600:,.0f} GPU-hours in all" in line for line in printed)
    for wrong, said in (
        (["--gpu", "v100-16gb"], "tables1to3, supervised: this run does not fit"),
        (["--method", "rotnet"], "leave out --method, --images and --data"),
        (["--set", "train.nothing=1"], "unknown key 'nothing'"),
    ):
        assert main(["plan", "--supplement", "--gpu", "h100", *wrong]) == MISUSED
        captured = capsys.readouterr()
        assert captured.out == ""
        assert said in captured.err
        assert captured.err.count("\n") == 1


def test_a_plan_of_several_networks_ends_with_their_total(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "--preset", "tables1to3", "--images", str(YFCC), "--gpu", "h100", "--gpus", "8"]
    assert main(asked) == 0
    preset = load_preset("tables1to3")
    plans = [
        make_plan(preset, name, hardware_named("h100"), processes=8, n_images=YFCC)
        for name in preset.methods
        if name != "random"
    ]
    hours = (
        sum(phase.total_seconds * (1 if phase.name == "evaluation" else 8) for p in plans for phase in p.phases) / 3600
    )
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("In all 5 pre-trainings with their linear classifiers, one after the other")
    assert f" {hours:,.0f} GPU-hours" in last
    assert main([*asked, "--method", "rotnet"]) == 0
    assert "In all" not in capsys.readouterr().out


def test_one_command_each_trains_the_networks(prices: Supplement) -> None:
    page = (project_root() / "book" / "many_machines.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\$pretrain --preset (\S+) --method (\S+)", page, re.MULTILINE)
    assert len(listed) == len(STATED)
    assert set(listed) == STATED.keys()
    for price in prices.prices:
        if price.plan:
            options = _parser().parse_args(shlex.split(price.command)[3:])
            assert (options.preset, options.method, options.processes) == (price.preset, price.method, 8)
        else:
            assert price.command == ""


def test_pages_show_every_row_and_every_price(monkeypatch: pytest.MonkeyPatch, prices: Supplement) -> None:
    rows = [row for group in recipes.needed_table().groups for row in group.rows]
    labels = [label for row in rows for label in row.label.removesuffix(", paper").split("; ")]
    assert sorted(labels) == sorted(f"{n.row}, {n.column}" if n.column else n.row for n in needed_networks())
    others = [
        row.label.removesuffix(", paper").split("; ") for row in rows if "not of this paper" in row.cells[-1].text
    ]
    assert sorted(sum(others, [])) == sorted(row for _, row in OTHERS)
    shown = {(row.cells[0].text, row.cells[1].text): row.cells[2].text for row in rows}
    assert shown["tables1to3", "rotnet_curated"] == "rotnet_imagenet; images: objects"
    assert shown["table4_rotnet", "rotnet"] == "rotnet_yfcc100m; model.stem: sobel"
    assert "train.batch_size: 256; train.lr: 0.1" in shown["tables1to3", "supervised"]
    table = report_planner.table_prices([prices, prices])
    (group,) = table.groups
    assert [row.label for row in group.rows] == [*(f"Table {n}" for n in (1, 2, 3, 4)), "All, each network once"]
    assert f"{prices.spent / 3600:,.0f} on 8 x h100" in table._repr_html_()
    groups = report_planner.network_prices(prices).groups
    named = {(group.title.removeprefix("Preset "), row.label) for group in groups for row in group.rows}
    assert named == {(price.preset, price.method) for price in prices.prices}
    monkeypatch.setattr(report_planner, "PRICED_ON", (("v100-16gb", 1),))
    (small,) = report_planner.supplement_prices()
    assert "this run does not fit: training needs" in report_planner.network_prices(small)._repr_html_()
