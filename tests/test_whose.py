"""Whose numbers an exhibit shows: of every page that can show published seeds beside a run, by the page's own cells."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from notebook_cells import NOTEBOOKS

from dclib.presets import project_root
from dclib.press.notebooks import read_notebook
from dclib.press.stages import ON_REQUEST
from dclib.report import display, error_rates, scorecard
from dclib.report.tables import Table

PAGES = [  # of which the published preset has records
    path.stem
    for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    if "load_published" in path.read_text() and path.stem not in ON_REQUEST.values()
]
OWN = "yours: seed 0, a CPU of mine (1 thread), 2001-02-03, code "
PUBLISHED = r"published: seeds 0, 1, 2, .*\(1 thread.*\), 20\d\d-\d\d-\d\d, code "
NOT_OF_BOTH = {  # what is not made from a run, or from published records alone
    *("data_notice", "network_inputs", "rates_in_words", "published_scorecard", "say"),
}
SHOWN_OF = {"records", "published", "table", "picture", "curves", "bars"}  # names of pages for what runs have given


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of seed 0 on another machine and day than those of the published records."""
    kept = project_root() / "results" / "pocket" / "records"
    for path in kept.rglob("*-s0.json"):
        content = json.loads(path.read_text())
        content["card"] |= {"device": "a CPU of mine (1 thread)", "created": "2001-02-03T04:05:06+00:00"}
        own = tmp_path / "pocket" / "records" / path.relative_to(kept)
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(json.dumps(content))
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(display, "_uri", lambda *_: "data:,")  # no picture has to be painted to be spoken of
    return tmp_path


def exhibits_of(page: str) -> Iterator[tuple[str, Any]]:
    """What the cells of a page show of records, with the line that does: nothing is measured, no image is read."""
    names: dict[str, Any] = {"preset": "pocket", "data": "", "settings": {}, "weights": "", "method": "deepercluster"}
    for cell in read_notebook(NOTEBOOKS / f"{page}.ipynb").cells:
        if cell.cell_type != "code" or {"parameters", "hide-output"} & {*cell.metadata.get("tags", [])}:
            continue
        for statement in ast.parse(cell.source).body:
            used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            called = {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)} | used
            if {"prepare_data", "images"} & used:
                continue
            if not isinstance(statement, ast.Expr):
                exec(compile(ast.Module([statement], []), page, "exec"), names)
            elif used & SHOWN_OF and not called & NOT_OF_BOTH:
                yield ast.unparse(statement), eval(compile(ast.Expression(statement.value), page, "eval"), names)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_says_both_whose_own_and_whose_published_numbers_it_has(page: str, runs: Path) -> None:
    """Seeds, CPU, day and code of each, the own ones first, below every figure and table made of records."""
    shown = [*exhibits_of(page)]
    assert len(shown) > 2
    for line, exhibit in shown:
        if isinstance(exhibit, Table) and not any(group.rows for group in exhibit.groups):
            continue  # nothing of it is measured in this preset, and it says so
        soup = BeautifulSoup(exhibit._repr_html_(), "html.parser")
        for of_one in soup.select(".dclib-fold"):
            of_one.decompose()
        made = len(soup.select("figure:not(.dclib-verdicts), .dclib-table")) or 1
        said = [summary.text for summary in soup.select("details.dclib-provenance > summary")]
        assert len(said) >= 2 * made, f"{line}: {said}"
        for own, published in zip(said[::2], said[1::2], strict=True):
            assert own.startswith(OWN), line
            assert re.match(PUBLISHED, published), line


def test_what_is_made_of_published_records_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_rates, "all_rates", dict)
    published = error_rates.spread_records()
    for table in (error_rates.rates_table(), scorecard.published_scorecard(published)):
        (said,) = BeautifulSoup(table._repr_html_(), "html.parser").select("details.dclib-provenance > summary")
        assert re.match(PUBLISHED, said.text)
