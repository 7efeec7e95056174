"""The ledger of deviations against the settings: what differs from the paper is listed, and nothing else is."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from dclib.config import RECIPES, MethodConfig, Preset
from dclib.planner.supplement import PRESETS as SUPPLEMENT
from dclib.presets import SECTIONS, STAGES, load_preset, preset_folder, project_root

NEAREST = {"rotnet": "rotnet_yfcc100m"}  # recipe that a method is measured against; the others by this one:
NEAREST_OF_OTHERS = "deepercluster_yfcc1m"
# smoke is smaller in everything
SMALL = ("pocket", "cifar10", "cifar10_gpu", "folder", "imagenette", "imagenette112_gpu", "photographs", "stl10")
PLACES = {field.name for field in dataclasses.fields(STAGES["data"]) if field.type == "str"}  # whose images: D15
Difference = tuple[str, Any]  # a dotted setting, and its value in the preset

# the paper's sizes that stages have as defaults, read from the supplement (sections 3 to 5) and, where it is silent,
# from the released code's commands: linear_classif_layers.sh, and README and defaults of eval_voc_classif.py
PAPER: dict[str, dict[str, Any]] = {
    "data": {"resize": 256},
    "probe": {"epochs": 100, "batch_size": 256, "momentum": 0.9, "weight_decay": 0.00001, "augment": True},
    "finetune": {"epochs": 100, "batch_size": 256, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0001, "dropout": 0.5},
    "voc": {
        "iterations": 150_000,
        "validation_iterations": 150_000,
        "batch_size": 16,
        "lr": 0.003,
        "momentum": 0.9,
        "weight_decay_fc68": 0.00001,
        "weight_decay_all": 0.0001,
        "dropout": 0.5,
        "clip_norm": 10,
        "test_crops": 10,
    },
    "retrieval": {"longest_side": 1024, "levels": 3},
    "analysis": {"clusters": 0, "drawn_clusters": 3000},
}
CROP_AREA = 0.08  # torchvision's default, which the released code takes everywhere


@cache
def ledger() -> str:
    return (project_root() / "book" / "deviations.md").read_text(encoding="utf-8")


def listed() -> list[Difference]:
    """The settings in the table of the pocket preset, and the one in D35."""
    rows = re.findall(r"^\| \[\*\*D\d+\*\*\].*\|$", ledger(), re.MULTILINE)
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row)]
    apart = (re.search(r"\(`(train\.precision: \w+)`\)", ledger()) or pytest.fail("D35 names no setting"))[1]
    return [(key, value) for span in [*spans, apart] for key, value in yaml.safe_load(span).items()]


def departures(preset: Preset) -> Iterator[Difference]:
    """Where a preset is not the supplement: networks against the nearest recipe, stages against their defaults."""
    for section, kind in STAGES.items():
        yield from changed(section, getattr(preset, section), kind())
    for name, config in preset.methods.items():
        recipe = RECIPES[NEAREST.get(config.method, NEAREST_OF_OTHERS)]
        if config.init:
            yield "init", config.init
        for section in SECTIONS:
            if section != "cluster" or config.clusters:
                ours, theirs = getattr(config, section), getattr(recipe, section)
                yield from changed(section, ours, of_column(name, theirs) if section == "model" else theirs)


def of_column(name: str, model: Any) -> Any:
    """The recipe's network as Table 4 wants it: its RGB column sees colour."""
    return dataclasses.replace(model, stem="rgb") if name.endswith("_rgb") else model


def changed(section: str, ours: Any, theirs: Any) -> Iterator[Difference]:
    for field in dataclasses.fields(ours):
        value = getattr(ours, field.name)
        if value != getattr(theirs, field.name) and not (section == "data" and field.name in PLACES):
            yield f"{section}.{field.name}", list(value) if isinstance(value, tuple) else value


def test_every_difference_of_the_pocket_preset_is_in_the_ledger_and_no_other() -> None:
    found = {str(one) for one in departures(load_preset("pocket"))}
    assert found - {str(one) for one in listed()} == set(), "not in the table of book/deviations.md"
    assert {str(one) for one in listed()} - found == set(), "in the table, but not in notebooks/presets/pocket.yaml"


@pytest.mark.parametrize("name", SMALL)
def test_the_other_small_presets_differ_in_listed_settings_alone(name: str) -> None:
    found = {key for key, _ in departures(load_preset(name))}
    found = {key for key in found if not key.startswith("low_shot.")}  # the supplement measures nothing of the kind
    found = {key for key in found if f"(`{key}`)" not in ledger()}  # which others may ask for, as an entry says
    assert found <= {key for key, _ in listed()}
    assert f"`{name}`" in ledger()


def test_every_preset_is_small_or_a_recipe_or_the_smoke_test() -> None:
    known = {*SMALL, *RECIPES, *SUPPLEMENT, "smoke"}
    assert {path.stem for path in preset_folder().glob("*.yaml")} == known


def of_large(preset: Preset) -> set[Difference]:
    """Where stages of a large preset are not the defaults; that other processes decode for each changes no number."""
    found = {one for section, kind in STAGES.items() for one in changed(section, getattr(preset, section), kind())}
    return found - {("data.workers", 10)}


@pytest.mark.parametrize("name", RECIPES)
def test_a_preset_of_a_recipe_departs_in_nothing_but_its_rule_for_stopping(name: str) -> None:
    preset = load_preset(name)
    stopping = {("train.patience", 5)}
    if not name.endswith("_yfcc100m"):  # D13: an epoch is short
        stopping = {("train.patience", 3), ("train.validate_every", 10)}
    for method, config in preset.methods.items():
        recipe = MethodConfig(method="random") if method == "random" else RECIPES[name]
        found = {one for part in SECTIONS for one in changed(part, getattr(config, part), getattr(recipe, part))}
        assert found == stopping
    assert of_large(preset) == ({("data.pool_images", 1_300_000)} if name.endswith("_yfcc1m") else set())


@pytest.mark.parametrize("name", SUPPLEMENT)
def test_the_presets_of_the_tables_take_the_papers_stages(name: str) -> None:
    images = {"deepcluster_yfcc1m": 1_300_000, "table4_rotnet": 1_000_000, "table4_deepercluster": 20_000_000}
    assert of_large(load_preset(name)) == ({("data.pool_images", images[name])} if name in images else set())


@pytest.mark.parametrize("section", PAPER)
def test_defaults_are_the_papers_sizes(section: str) -> None:
    made = STAGES[section]()
    assert {key: getattr(made, key) for key in PAPER[section]} == PAPER[section]
    assert getattr(made, "crop_area", CROP_AREA) == CROP_AREA


def test_recipes_train_as_the_released_code_where_the_supplement_is_silent() -> None:
    for recipe in RECIPES.values():
        assert recipe.train.crop_area == CROP_AREA
        assert (recipe.train.decay_from, recipe.train.final_lr != 0) == (1.0, True)  # a rate that never falls
        assert (recipe.cluster.n_iter, recipe.cluster.reassign_until) == (10, 1.0)
        assert recipe.train.precision == "float32"


def test_half_precision_on_disk_is_declared_for_the_recipe_that_has_it() -> None:
    assert [name for name, r in RECIPES.items() if r.cluster.precision != "float32"] == ["deepercluster_yfcc100m"]
    assert "`cluster.precision`" in ledger()


def test_the_two_readings_of_the_1_3_million_images_differ_in_turns_alone() -> None:
    one, other = RECIPES["deepercluster_yfcc1m"], RECIPES["deepcluster_yfcc1m"]
    assert other == dataclasses.replace(one, method="deepcluster")
    assert (one.n_turns, other.n_turns) == (4, 1)


def test_the_heading_counts_the_faults_of_the_released_code() -> None:
    (count,) = re.findall(r"^## (\d+) faults of the released code", ledger(), re.MULTILINE)
    assert [int(n) for n in re.findall(r"^\| (\d+) \|", ledger(), re.MULTILINE)] == list(range(1, int(count) + 1))
