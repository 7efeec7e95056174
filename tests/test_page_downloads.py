"""What a page can be downloaded with: the notebook that ran, its tables as shown, and the records behind them."""

import csv
import io
import json
import re

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from synthetic_records import make_card, make_probes, make_training
from test_site import machine_paths

from dclib.press import downloads
from dclib.press.downloads import downloads_html, tables_of, write_downloads, write_measured, write_page_files
from dclib.records import Record, write_records
from dclib.report.provenance import strip
from dclib.report.series import signed
from dclib.report.tables import Cell, Group, Row, Table, probe_table

CURVES = {"rotnet": [40.0 + n for n in range(13)], "random": [38.0] * 13}


def executed(*shown, **parameters):
    """A page as papermill leaves it."""
    outputs = [
        new_output("execute_result", {"text/html": html, "text/plain": "."}, execution_count=1) for html in shown
    ]
    cells = [new_markdown_cell("# Title"), *(new_code_cell("shown", outputs=[one]) for one in outputs)]
    return new_notebook(cells=cells, metadata={"papermill": {"parameters": parameters}})


def by_soup(html):
    """The words of each table's rows, read another way."""
    return [
        [[" ".join(cell.get_text(" ").split()) for cell in row.find_all(["th", "td"])] for row in table.find_all("tr")]
        for table in BeautifulSoup(html, "html.parser").find_all("table")
    ]


def test_tables_are_taken_as_they_are_shown():
    records = make_probes(CURVES)
    html = probe_table(records)._repr_html_()
    ((caption, lines),) = tables_of(executed(html))
    assert caption.startswith("Accuracy of linear classifiers")
    (rows,) = by_soup(html)
    headings = [row[0] for row in rows if len(row) == 1]
    assert headings
    assert lines[0] == ["group", *rows[0]]
    assert [line[1:] for line in lines[1:]] == [row for row in rows[1:] if len(row) > 1]
    assert list(dict.fromkeys(line[0] for line in lines[1:])) == headings
    assert {len(line) for line in lines} == {15}


def test_a_table_without_groups_has_no_column_for_them():
    cells = (Cell('1, "2" & <3>', small="± 4"), Cell(""))
    table = Table(caption="A & B", columns=("x", "y", "z"), groups=(Group("", (Row("one", cells),)),))
    other = "<table><tr><td>a</td></tr></table>"
    assert tables_of(executed(table._repr_html_() + "<p>no</p>", other, "<p>none</p>")) == [
        ("A & B", [["x", "y", "z"], ["one", '1, "2" & <3> ± 4', ""]]),
        ("", [["a"]]),
    ]


def test_a_minus_is_one_on_the_page_and_a_hyphen_in_the_file():
    row = Row("less", (Cell("-0.5", small="± 4"), Cell("2026-01-02"), Cell(signed(-1)), Cell("1e-05, -3", words=True)))
    table = Table(caption="A", columns=("x", "a - 1", "b−c", "d", "e"), groups=(Group("", (row,)),))
    html = table._repr_html_()
    assert by_soup(html)[0][1] == ["less", "−0.5 ± 4", "2026-01-02", "−1.0", "1e-05, -3"]
    ((_, lines),) = tables_of(executed(html))
    assert lines == [["x", "a - 1", "b−c", "d", "e"], ["less", "-0.5 ± 4", "2026-01-02", "-1.0", "1e-05, -3"]]


@pytest.fixture
def site(tmp_path):
    """A built book with two pages of the same stage, one of them about a network."""
    records = make_probes(CURVES)
    table = probe_table(records)._repr_html_()
    pages = {
        "linear_probes": executed(table, strip(records).html, preset="smoke"),
        "pretraining_rotnet": executed(strip(records).html, preset="smoke", method="rotnet"),
        "planner": executed("<p>words</p>", preset="smoke"),
        "sobel": executed("<p>a picture</p>", preset="smoke"),
    }
    (tmp_path / "_sources" / "stages").mkdir(parents=True)
    for page in pages:
        (tmp_path / "_sources" / "stages" / f"{page}.ipynb").write_text("the one with the form")
    return tmp_path, pages, [*records, *make_training("rotnet", 0)]


def test_every_link_of_a_page_leads_to_what_is_written(site, monkeypatch):
    folder, pages, records = site
    project = folder / "project"
    measured = Record(name="conv_flops", value=1e9, unit="FLOP/s", n=1, keys={"hardware": "cpu"})
    write_records(
        project / "results" / "benchmarks" / "phases" / "cpu.json", make_card("phases", 0, "phases"), [measured]
    )
    monkeypatch.setattr(downloads, "project_root", lambda: project)
    data = folder / "data"
    write_downloads(records, [], data)
    write_page_files(pages, "stages", folder, records, [])
    write_measured(pages, data)
    for page, notebook in pages.items():
        html = downloads_html(notebook, page, "stages")
        links = [a["href"] for a in BeautifulSoup(html, "html.parser").find_all("a")]
        assert [link for link in links if not (folder / "stages" / link).resolve().is_file()] == []
        assert len(links) == {"linear_probes": 4, "pretraining_rotnet": 3, "planner": 3, "sobel": 1}[page]
        kept = folder / "_sources" / "stages" / f"{page}.ipynb"
        assert json.loads(kept.read_text()) == notebook  # as it ran: without the form and the notices
    for path in [*data.rglob("*.*"), *folder.rglob("*.ipynb")]:
        assert list(machine_paths(path.read_text())) == []
    ((head, *_),) = [list(csv.reader(io.StringIO((data / "tables" / "stages" / "linear_probes-1.csv").read_text())))]
    assert head == tables_of(pages["linear_probes"])[0][1][0]
    (row,) = csv.DictReader(io.StringIO((data / "benchmarks.csv").read_text()))
    assert (row["name"], float(row["value"])) == ("conv_flops", 1e9)


def test_a_page_about_a_network_has_its_records_of_every_stage_and_no_other(site):
    folder, pages, records = site
    write_page_files(pages, "stages", folder, records[:3], records[3:])
    path = folder / "data" / "networks" / "stages" / "pretraining_rotnet.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    own = [r for r in records if r.card.method == "rotnet"]
    assert {row["method"] for row in rows} == {"rotnet"}
    assert sorted((row["name"], float(row["value"])) for row in rows) == sorted((r.name, r.value) for r in own)
    assert {row["whose"] for row in rows} == {"own", "published"}
    runs = json.loads(path.with_suffix(".json").read_text())
    assert {run["card"]["stage"] for run in runs} == {"linear_probe", "pretrain"}
    assert [p.name for p in path.parent.iterdir() if "rotnet" not in p.name] == []


def test_what_is_offered_is_said(site):
    _, pages, _ = site
    said = {
        page: re.search(r"<summary>(.*?)</summary>", downloads_html(nb, page, "stages"))[1]
        for page, nb in pages.items()
    }
    assert said == {
        "linear_probes": "Download the notebook, 1 table, records",
        "pretraining_rotnet": "Download the notebook, records",
        "planner": "Download the notebook, records",
        "sobel": "Download the notebook",
    }
