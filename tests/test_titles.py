"""Titles from parameters, and the sentence that introduces a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dclib.config import RECIPES
from dclib.presets import parse_preset
from dclib.press.titles import default_parameters, fill_titles
from dclib.report.methods import describe_method

ROOT = Path(__file__).parent.parent


def make_notebook(template: str = "# Pre-training: {method_title}") -> Any:
    parameters = new_code_cell(
        'preset: str = "smoke"  # a preset\nmethod: str = "deepercluster"  # a method',
        metadata={"tags": ["parameters"]},
    )
    title = new_markdown_cell("# Pre-training: one method", metadata={"tags": ["title"], "dclib": {"title": template}})
    return new_notebook(cells=[title, parameters, new_markdown_cell("# left {alone}")])


def test_a_title_follows_its_method() -> None:
    notebook = fill_titles(make_notebook(), {"method": "deepercluster_hierarchy"})
    assert notebook.cells[0].source == "# Pre-training: DeeperCluster, hierarchy"
    assert notebook.cells[2].source == "# left {alone}"
    nbformat.validate(notebook)


def test_a_parameter_left_out_has_the_notebooks_default() -> None:
    assert default_parameters(make_notebook()) == {"preset": "smoke", "method": "deepercluster"}
    assert fill_titles(make_notebook(), {}).cells[0].source == "# Pre-training: DeeperCluster"
    assert fill_titles(make_notebook("# {preset}"), {"preset": "pocket"}).cells[0].source == "# pocket"


def test_filling_twice_changes_nothing() -> None:
    once = fill_titles(make_notebook(), {"method": "rotnet"}).cells[0].source
    assert fill_titles(fill_titles(make_notebook(), {"method": "rotnet"}), {"method": "rotnet"}).cells[0].source == once


def test_a_template_that_names_no_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="names 'metod', no parameter"):
        fill_titles(make_notebook("# {metod}"), {})


def test_the_pretraining_notebook_gets_a_title_of_its_own_per_method() -> None:
    path = ROOT / "notebooks" / "02_pretraining.ipynb"
    titles = [
        fill_titles(nbformat.read(path, as_version=4), {"method": method}).cells[0].source
        for method in ("rotnet", "deepcluster", "random")
    ]
    assert titles == ["# Pre-training: RotNet", "# Pre-training: DeepCluster", "# Pre-training: Random"]


def test_a_method_is_introduced_with_its_settings() -> None:
    said = describe_method("deepercluster", RECIPES["deepercluster_yfcc100m"])
    for part in ("DeeperCluster.", "Sobel", "batches of 3072", "320,000 clusters (4 x 80,000)", "every 3 epochs"):
        assert part in said
    assert "RGB" in describe_method("rotnet", RECIPES["rotnet_yfcc100m"])


def test_a_method_that_starts_from_another_says_so() -> None:
    methods = {"rotnet": None, "deepercluster_two": {"method": "deepercluster", "init": "rotnet"}}
    preset = parse_preset("p", {"methods": methods})
    assert "starts from RotNet of the same seed" in describe_method(
        "deepercluster_two", preset.method("deepercluster_two")
    )
