"""Tables: every number in its cell, nothing unescaped, nothing missing without a word."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from bs4 import BeautifulSoup
from synthetic_records import make_curve, make_probes, make_training

from dclib import paper
from dclib.data.images import ImageSet
from dclib.presets import parse_preset
from dclib.report import tables
from dclib.report.tables import Cell, Group, Row, Table

RISING = [50.0 + i for i in range(13)]
FALLING = [60.0 - i for i in range(13)]


def rows_of(table: Table, group: int = 0) -> dict[str, list[str]]:
    return {row.label: [cell.text for cell in row.cells] for row in table.groups[group].rows}


def test_the_papers_row_stands_right_under_ours() -> None:
    table = tables.probe_table(make_probes({"rotnet": FALLING, "deepercluster": RISING, "random": [40.0] * 13}))
    labels = [row.label for row in table.groups[0].rows]
    assert labels == [
        "DeeperCluster",
        "DeeperCluster, paper",
        "RotNet",
        "RotNet, paper",
        "Random",
    ]
    assert rows_of(table)["RotNet, paper"] == [str(v) for v in paper.TABLE1["ImageNet"]["RotNet"]]


def test_the_papers_row_is_not_under_a_variant() -> None:
    variants = {"deepercluster_rgb": RISING, "deepercluster_hierarchy": RISING}
    table = tables.probe_table(make_probes({**variants, "deepercluster": RISING, "rotnet": FALLING}))
    assert [row.label for row in table.groups[0].rows] == [
        "DeeperCluster",
        "DeeperCluster, paper",
        "DeeperCluster, hierarchy",
        "DeeperCluster, RGB",
        "RotNet",
        "RotNet, paper",
    ]
    alone = [row.label for row in tables.probe_table(make_probes(variants)).groups[0].rows]
    assert alone == ["DeeperCluster, hierarchy", "DeeperCluster, paper", "DeeperCluster, RGB"]


def test_cells_are_mean_and_spread_over_seeds() -> None:
    records = [r for seed, v in enumerate((10.0, 20.0, 60.0)) for r in make_curve("rotnet", seed, [v] * 13)]
    cell = tables.probe_table(records).groups[0].rows[0].cells[4]
    assert cell.text == "30.0"
    # sqrt(((10-30)^2 + (20-30)^2 + (60-30)^2) / 2) = sqrt(700)
    assert cell.small == "± 26.5"


def test_one_seed_has_no_spread() -> None:
    group = tables.probe_table(make_curve("rotnet", 0, RISING)).groups[0]
    assert group.title == "Objects, 1 seed (paper: ImageNet)"
    row = group.rows[0]
    assert row.label == "RotNet"
    assert {cell.small for cell in row.cells} == {""}


def test_rows_say_their_seeds_where_they_differ() -> None:
    group = tables.probe_table(make_probes({"rotnet": RISING}) + make_curve("random", 0, RISING)).groups[0]
    assert group.title == "Objects (paper: ImageNet)"
    assert [row.label for row in group.rows if not row.paper] == ["RotNet (3 seeds)", "Random (1 seed)"]


def test_the_best_of_each_column_is_emphasised_among_ours_only() -> None:
    low = dict.fromkeys(("rotnet", "deepercluster"), [1.0] * 13)
    low["rotnet"] = [2.0, *[0.5] * 12]
    groups = tables.probe_table(make_probes({**low, "supervised": [3.0] * 13})).groups
    rows = {row.label: row for row in groups[0].rows}
    assert all(cell.bold for cell in rows["Supervised"].cells)
    assert not any(cell.underlined for cell in rows["Supervised"].cells)
    assert [cell.underlined for cell in rows["RotNet"].cells] == [True, *[False] * 12]
    assert [cell.underlined for cell in rows["DeeperCluster"].cells] == [False, *[True] * 12]
    assert not any(cell.bold or cell.underlined for row in groups[0].rows if row.paper for cell in row.cells)


def test_values_that_read_alike_are_emphasised_alike() -> None:
    table = tables.probe_table(make_curve("rotnet", 0, [50.01] * 13) + make_curve("random", 0, [50.04] * 13))
    assert all(cell.bold for row in table.groups[0].rows if not row.paper for cell in row.cells)


def test_a_missing_half_says_so() -> None:
    table = tables.probe_table(make_probes({"rotnet": RISING}))
    assert table.groups[1].rows == ()
    for text in (table._repr_html_(), table._repr_markdown_()):
        assert "No scenes half: this preset has no labelled scenes" in text
        assert "No objects half" not in text


def test_both_halves_carry_their_own_numbers() -> None:
    records = make_probes({"rotnet": RISING}) + make_probes({"rotnet": FALLING}, dataset="scenes")
    table = tables.probe_table(records)
    assert rows_of(table, 0)["RotNet"][0] == "50.0"
    assert rows_of(table, 1)["RotNet"][0] == "60.0"
    assert rows_of(table, 1)["RotNet, paper"][0] == str(paper.TABLE1["Places205"]["RotNet"][0])


def test_html_holds_every_cell_in_order() -> None:
    table = tables.probe_table(make_probes({"rotnet": FALLING, "deepercluster": RISING}))
    soup = BeautifulSoup(table._repr_html_(), "html.parser")
    found = {
        row.find("th").text: [cell.contents[0].text for cell in row.find_all("td")]
        for row in soup.select("tbody tr:not(.group)")
    }
    assert found == rows_of(table)
    assert [cell.text for cell in soup.select("thead th")] == ["Method", *paper.LAYERS]
    assert len(soup.select("tr.paper")) == 2


def test_html_scrolls_inside_itself_with_its_first_column_in_place() -> None:
    html = tables.probe_table(make_probes({"rotnet": RISING}))._repr_html_()
    style = re.sub(r"\s", "", html)
    assert ".dclib-table{overflow-x:auto;max-width:100%" in style
    assert re.search(r"th:first-child\{position:sticky;left:0[^}]*background:", style)
    assert "anywhere" not in style  # by which a column would be narrower than the longest of its words


class BalanceChecker(HTMLParser):
    """Fails where a tag is closed that is not the last one open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


HOSTILE = "<b>&\"'|*_`[x](y) \n # 1"


def test_text_is_escaped_in_html_and_in_markdown() -> None:
    rows = (Row(HOSTILE, (Cell(HOSTILE, HOSTILE, bold=True, underlined=True), Cell("2"))),)
    table = Table(HOSTILE, ("Method", HOSTILE, "c"), (Group(HOSTILE, rows, HOSTILE),), (HOSTILE,))
    checker = BalanceChecker()
    checker.feed(table._repr_html_())
    assert checker.open == []
    assert "<b>" not in table._repr_html_()
    soup = BeautifulSoup(table._repr_html_(), "html.parser")
    assert soup.select_one("tbody tr:not(.group) th").text == HOSTILE
    assert soup.select_one("td strong u").text == HOSTILE
    lines = [line for line in table._repr_markdown_().splitlines() if line.startswith("|")]
    assert len(lines) == 4
    # every line of a markdown table needs the same number of unescaped bars
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {4}
    assert "<b>" not in table._repr_markdown_()


def test_the_text_fallback_holds_the_same_numbers() -> None:
    table = tables.probe_table(make_probes({"rotnet": RISING}))
    line = next(x for x in repr(table).splitlines() if x.startswith("| RotNet |"))
    assert "**<u>50.0</u>** ± 0.0" in line
    assert len(re.findall(r"\d\d\.\d", line)) == 13


def test_clustering_health_is_of_the_last_clustering() -> None:
    records = make_training("deepercluster", 0, (0.2, 0.3, 0.5)) + make_training("deepercluster", 1, (0.3, 0.4, 0.7))
    assert rows_of(tables.clustering_table(records)) == {
        "DeeperCluster": ["3", "0", "12", "300", "920", "0.42", "0.25 to 0.60"]
    }


def test_a_method_without_clusters_has_no_row_but_a_word() -> None:
    table = tables.clustering_table(make_training("rotnet", 0))
    assert table.groups[0].rows == ()
    assert "None of these methods clusters anything" in table._repr_html_()
    assert "<table>" not in table._repr_html_()


def test_run_summary_counts_seeds_epochs_and_time() -> None:
    records = make_training("rotnet", 0, losses=(1.3, 1.0)) + make_training("rotnet", 2, losses=(1.3, 0.8))
    records += make_curve("rotnet", 0, [50.0] * 13, device="another, which probed it")
    row = tables.run_table(records).groups[0].rows[0]
    assert [cell.text for cell in row.cells] == ["0, 2", "2", "0.90", "1,500", "61", "cpu (2 threads)"]
    assert row.cells[2].small == "± 0.14"  # sqrt(2) * 0.1


def test_methods_come_in_the_books_order_whatever_the_files_order() -> None:
    curves = {"random": RISING, "my_method": RISING, "supervised": RISING, "deepercluster": RISING}
    forwards = tables.probe_table(make_probes(curves))
    backwards = tables.probe_table(list(reversed(make_probes(curves))))
    assert forwards._repr_html_() == backwards._repr_html_()
    ours = [row.label for row in forwards.groups[0].rows if not row.paper]
    assert [label.split(" (")[0] for label in ours] == ["Supervised", "DeeperCluster", "Random", "my_method"]


class NoFiles:
    def read(self, image_id: str) -> bytes:
        raise AssertionError("a table of the data must not decode an image")

    def sizes(self, image_ids: list[str]) -> np.ndarray:
        return np.ones(len(image_ids), dtype=np.int64)


def test_the_data_table_says_which_set_is_missing() -> None:
    preset = parse_preset("mine", {"methods": {"rotnet": None}})
    pool = ImageSet("pool", [f"{i}" for i in range(1200)], NoFiles())
    objects = ImageSet("objects", ["a", "b"], NoFiles(), np.array([0, 1]), ("cat", "dog"))
    found = rows_of(tables.data_table(preset, [("pool", pool), ("objects", objects), ("scenes", None)]))
    assert found["pool"] == ["pool", "1,200", "no labels", pool.fingerprint]
    assert found["objects"][2] == "2"
    assert found["scenes"][0] == "not in this preset"


def test_a_table_of_nothing_is_a_sentence() -> None:
    assert "Nothing has run yet." in tables.run_table([])._repr_html_()
    html = tables.probe_table([])._repr_html_()
    assert "No objects half" in html
    assert "No scenes half" in html


@pytest.mark.parametrize("half", paper.HALVES)
def test_every_published_number_of_a_measured_half_is_shown(half: paper.Half) -> None:
    records = make_probes(paper.table1(half), seeds=(0,), dataset=half)
    group = tables.probe_table(records).groups[paper.HALVES.index(half)]
    shown = {row.label: [float(cell.text) for cell in row.cells] for row in group.rows if row.paper}
    expected = {f"{name}, paper": list(curve) for name, curve in paper.TABLE1[paper.DATASETS[half]].items()}
    assert shown == expected


def test_leads_are_of_seeds_that_have_both() -> None:
    flat = {"deepercluster": [0.0] * 10 + [51.0, 52.5, 53.0], "rotnet": [0.0] * 10 + [50.0, 53.0, 53.0]}
    records = [*make_probes(flat, seeds=(0, 1)), *make_curve("deepercluster", 2, flat["deepercluster"])]
    (group,) = tables.layer_lead_table(records, "deepercluster", "rotnet", (11, 12, 13)).groups  # there are no scenes
    assert (group.title, [row.label for row in group.rows]) == ("Objects", ["seed 0", "seed 1", "mean"])
    assert [[cell.text for cell in row.cells] for row in group.rows[:2]] == [["+1.0", "−0.5", "+0.0"]] * 2
    assert [(cell.text, cell.small) for cell in group.rows[2].cells][0] == ("+1.0", "± 0.0")
    assert tables.layer_lead_table(records, "deepercluster", "random", (13,)).groups == ()
