"""The page on judging without labels: ranks against SciPy, words from what is plotted, a sentence where nothing is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from dclib.records import DATA, Record, RunCard, write_records
from dclib.report.display import Fragment
from dclib.report.judge import (
    ABSENT,
    TITLES,
    Judged,
    by_chance,
    correlation_table,
    failures,
    judged,
    measures_table,
    plot_scatter,
    rank_correlation,
    scatter_figure,
    words_table,
)
from dclib.report.tables import Table

CARD = RunCard(
    stage="benchmark",
    preset="benchmarks",
    method=DATA,
    seed=0,
    config_hash="c",
    data_hash="",
    code_hash="abc",
    device="cpu (1 thread)",
    seconds=1.0,
    created="2026-01-02T00:00:00+00:00",
)
# name -> verdict, score, accuracy: in order but for one network that is thought too much of
NETWORKS = {
    "random-s0": ("nothing learned", 0.1, 20.0),
    "rotnet-s0": ("still learning", 0.2, 30.0),
    "deepcluster-s0": ("learned", 0.3, 40.0),
    "rgb": ("collapsed to colour", 0.6, 25.0),
    "supervised-s2": ("learned", 0.5, 90.0),
}


def judgements(collection: str = "pocket") -> list[Record]:
    records = []
    for name, (word, score, accuracy) in NETWORKS.items():
        keys = {"collection": collection, "network": name, "method": name.partition("-")[0], "verdict": word}
        keys = {**keys, "seen": int(name.endswith("s0"))}
        values = {"score": score, "cropped": score} if score > 0.1 else {"score": score}
        records += [Record(name=k, value=v, unit="1", n=9, keys=keys) for k, v in values.items()]
        records += [
            Record(name="accuracy", value=value, unit="%", n=9, keys={**keys, "layer": layer})
            for layer, value in (("last", accuracy), ("conv13", 100 - accuracy))
        ]
    return records


@pytest.fixture
def networks(tmp_path: Path) -> list[Judged]:
    for collection in ("photographs", "pocket"):
        write_records(tmp_path / f"{collection}.json", CARD, judgements(collection))
    return judged(tmp_path)


def rows_of(table: Table | Fragment) -> dict[str, list[str]]:
    assert isinstance(table, Table)
    return {row.label: [cell.text for cell in row.cells] for group in table.groups for row in group.rows}


@pytest.mark.parametrize("values", [(3, 1, 2, 5, 4), (1, 1, 2, 2, 3), (5, 4, 3, 2, 1), (0.1, 0.1, 7, -2, 0.1)])
def test_rank_correlation_is_scipys(values):
    other = (2.0, 1.0, 3.0, 3.0, 9.0)
    assert rank_correlation(values, other) == pytest.approx(spearmanr(values, other).statistic, abs=1e-12)


def test_a_constant_has_no_rank_correlation():
    assert rank_correlation((1, 1, 1), (1, 2, 3)) == 0.0


def test_chance_is_that_of_a_normal_law_for_many_networks():
    """Spearman's of n independent pairs has a deviation of 1 / sqrt(n - 1), and 2,000 draws know a quantile to 0.1."""
    n = 100
    assert by_chance(n) == pytest.approx(1.645 / np.sqrt(n - 1), rel=0.1)
    assert by_chance(10) > by_chance(100)


def test_the_table_has_what_scipy_finds(networks):
    scores, accuracies = zip(*((s, a) for _, s, a in NETWORKS.values()), strict=True)
    rho = f"{spearmanr(scores, accuracies).statistic:.2f}"
    rows = rows_of(correlation_table(networks))
    assert list(rows) == [TITLES["pocket"], TITLES["photographs"], "all together"]
    assert rows[TITLES["pocket"]][:5] == ["5", rho, f"-{rho}", "2", "–"]  # two were not seen: too few to rank
    assert rows["all together"][3] == "4"


def test_networks_without_a_measure_are_left_out_of_its_line(networks):
    """The network with the lowest score has no other measure here."""
    rows = rows_of(measures_table(networks))
    own = [(s, a) for _, s, a in NETWORKS.values() if s > 0.1]
    assert rows["a cropped image stays in its cluster"][0] == f"{spearmanr(*zip(*own, strict=True)).statistic:.2f}"
    assert rows["the score"][0] != rows["a cropped image stays in its cluster"][0]


def test_verdicts_are_counted_with_their_accuracies(networks):
    table = words_table(networks)
    assert rows_of(table)["learned"] == ["2", "65.0", "40.0", "90.0", "2 of 2"]
    assert rows_of(table)["nothing learned"][-1] == "0 of 1"  # it is the best of those that were only drawn
    assert isinstance(table, Table)
    assert "only drawn: 20.0 %, the best 20.0 %" in table.groups[0].note


def test_the_network_that_the_score_is_farthest_off_for_is_named_first(networks):
    said = failures(networks).text
    assert "thinks too much of rgb (3 places, accuracy 25 %)" in said
    assert said.count("thinks too much of") == 2


def test_each_network_is_a_point_in_the_look_of_its_verdict(networks):
    own = [n for n in networks if n.collection == "pocket"]
    ax = plot_scatter(own)
    points = sorted((float(x), float(y)) for line in ax.lines for x, y in zip(*line.get_data(), strict=True))
    assert points == sorted((s, a) for _, s, a in NETWORKS.values())
    hollow = [line for line in ax.lines if line.get_fillstyle() == "none"]
    assert sum(len(line.get_xdata()) for line in hollow) == 2
    labels = [line.get_label() for line in ax.lines if not str(line.get_label()).startswith("_")]
    assert len(labels) == len(set(labels)) == 4
    assert "rank correlation" in ax.get_title()


def test_the_figure_is_told_in_words(networks):
    text = scatter_figure(networks).text
    assert "lowest score 0.10 (random-s0, 20 %)" in text
    assert "highest 0.60 (rgb, 25 %)" in text


def test_without_records_every_exhibit_says_what_measures_them(tmp_path):
    nothing = judged(tmp_path / "absent")
    assert nothing == []
    for exhibit in (scatter_figure, correlation_table, measures_table, words_table, failures):
        assert exhibit(nothing).text == ABSENT


def test_few_networks_are_shown_and_not_ranked(networks):
    few = [dataclasses.replace(n, collection="imagenette") for n in networks[:3]]
    assert rows_of(correlation_table(few))[TITLES["imagenette"]][1] == "–"
    assert "Too few" in failures(few).text
