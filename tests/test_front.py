"""The front page's result: from records and from figures of pages that ran, and true before there are any."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from synthetic_records import make_curve, make_probes, make_training

from dclib.paper import CLAIMS
from dclib.presets import load_preset
from dclib.press.front import NOTHING, figure_of, front_html, took
from dclib.report import exhibits

FIGURE = '<figure id="{name}"><img alt="x"><figcaption><a href="../deviations.html#d1">D1</a></figcaption></figure>'


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Executed pages with the figures that the front page takes, between others."""

    def write(page: str, *names: str) -> None:
        outputs = [{"data": {"text/html": ["<figure><b>no</b></figure>", FIGURE.format(name=name)]}} for name in names]
        cells = [{"cell_type": "markdown", "source": ""}, {"cell_type": "code", "outputs": outputs}]
        (tmp_path / f"{page}.ipynb").write_text(json.dumps({"cells": cells}))

    write("linear_probes", "accuracy-objects", "accuracy-scenes")
    write("colour", "uniform-deepercluster_rgb", "uniform-deepercluster")
    return tmp_path


def test_a_figure_is_taken_whole_from_the_page_that_has_it(pages: Path) -> None:
    assert figure_of(pages, "linear_probes", "accuracy-scenes") == FIGURE.format(name="accuracy-scenes")
    assert figure_of(pages, "linear_probes", "accuracy") == ""
    assert figure_of(pages, "voc", "accuracy-objects") == ""


def test_before_anything_has_run_the_front_page_says_so(tmp_path: Path) -> None:
    soup = BeautifulSoup(front_html(load_preset("smoke"), [], [], tmp_path), "html.parser")
    assert NOTHING in soup.text
    assert "drawn by rules" in soup.text
    assert not soup.select("ol a, figure")
    assert "To cite" in soup.text


def test_the_front_page_shows_verdicts_figures_and_what_it_took(pages: Path) -> None:
    run = make_probes({m: [60.0 - 10 * i] * 13 for i, m in enumerate(("supervised", "deepercluster", "rotnet"))}, (0,))
    kept = [r for seed in (0, 1, 2) for r in make_curve("rotnet", seed, [40.0] * 13)]
    soup = BeautifulSoup(front_html(load_preset("smoke"), run, kept, pages), "html.parser")
    papers = [claim.id for claim in CLAIMS if claim.is_the_papers]
    marks = soup.select("ol a")
    assert [a.text for a in marks] == papers * 2  # this run, and the published seeds
    assert [a["href"] for a in marks[: len(papers)]] == [f"stages/scorecard.html#claim-{i}" for i in papers]
    assert f"this run: of {len(papers)} claims" in soup.text.lower()
    named = ["accuracy-objects", "uniform-deepercluster_rgb", "uniform-deepercluster"]
    assert [figure["id"] for figure in soup.select("figure")] == named
    assert not [a["href"] for a in soup.find_all("a", href=True) if a["href"].startswith("..")]


def test_what_a_run_took_is_the_sum_of_its_cards() -> None:
    trained = [r for seed in (0, 1, 2, 3, 4) for r in make_training("rotnet", seed)]  # 30 s each
    slow = make_curve("rotnet", 0, [1.0] * 13, seconds=600.0, device="a card")
    assert took(trained).startswith("2 min for 5 pre-trainings, one after the other, on cpu (2 threads) (python 3.12.0")
    assert took(trained).endswith("2026-01-02")
    said = took([*trained, *slow, *(replace(r, name="other") for r in slow)])
    assert "2 min for 5 pre-trainings and 10 min for 1 evaluation" in said
    assert "on a card and cpu (2 threads)" in said
    assert took([]) == ""


def test_a_figure_of_the_front_page_says_whose_numbers_it_shows(tmp_path: Path) -> None:
    shown = exhibits.accuracy_against_depth(make_probes({"rotnet": [40.0] * 13}), "objects")
    cell = {"cell_type": "code", "outputs": [{"data": {"text/html": [shown.html]}}]}
    (tmp_path / "linear_probes.ipynb").write_text(json.dumps({"cells": [cell]}))
    front = front_html(load_preset("smoke"), [], [], tmp_path)
    assert "yours: seeds 0, 1, 2, cpu (2 threads), 2026-01-02, code code" in front
    assert 'href="data/linear_probe.csv"' in front
