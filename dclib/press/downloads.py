"""What a reader can take home: each page as the notebook that ran, its tables, and the records behind its numbers.

Records are one JSON and one CSV for each stage, and for each page about one network. Both say of each run whose it is:
this machine's own, or published.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from dclib.presets import project_root
from dclib.press.stages import MEASURED
from dclib.press.titles import default_parameters
from dclib.records import Record, read_records, write_atomically
from dclib.report.provenance import DATA_FOLDER, WHOSE
from dclib.report.series import plural

CARD_COLUMNS = (
    "preset",
    "method",
    "seed",
    "device",
    "seconds",
    "created",
    "config_hash",
    "data_hash",
    "code_hash",
    "commit",
    "protocol",
)


SOURCES = "_sources"  # where the theme's own button finds the notebook of a page
TABLES, NETWORKS = "tables", "networks"  # folders of a book's data
STAGE_LINK = re.compile(rf'href="\.\./{DATA_FOLDER}/([\w/]+)\.csv"')  # by which a page names what it shows
KINDS = ("csv", "json")

Rows = Sequence[tuple[str, Record]]  # whose it is, and a record
Line = list[str]


def write_downloads(own: Sequence[Record], published: Sequence[Record], folder: Path) -> list[Path]:
    """Write ``<stage>.json`` and ``<stage>.csv`` for every stage that has records; returns the files."""
    stages: dict[str, list[tuple[str, Record]]] = {}
    for whose, record in _rows(own, published):
        stages.setdefault(record.card.stage if record.card else "", []).append((whose, record))
    return [path for stage, rows in sorted(stages.items()) for path in _write(rows, folder, stage)]


def write_page_files(
    pages: Mapping[str, Mapping[str, Any]], folder: str, site: Path, own: Sequence[Record], published: Sequence[Record]
) -> None:
    """Put what pages are downloaded with into a built book: notebooks as they ran, tables, records of one network.

    Args:
        pages: Name of a page -> its executed notebook, which takes the place of the one the book was made of: that
            one has the form and the notices in it.
        folder: Of the pages in the book.
        own, published: Records of the runs that these pages show.
    """
    rows, data = _rows(own, published), site / DATA_FOLDER
    for page, notebook in pages.items():
        if (kept := site / SOURCES / folder / f"{page}.ipynb").parent.is_dir():
            write_atomically(kept, json.dumps(notebook, indent=1, ensure_ascii=False).encode())
        for number, (_, lines) in enumerate(tables_of(notebook), 1):
            write_atomically(data / TABLES / folder / f"{page}-{number}.csv", _csv(lines).encode())
        if method := _method(notebook):
            found = [row for row in rows if row[1].card and row[1].card.method == method]
            _write(found, data / NETWORKS / folder, page)


def write_measured(pages: Iterable[str], data: Path) -> None:
    """What some pages show was not measured in a run, but of machines, or of judging."""
    for name in sorted({MEASURED[page] for page in pages if page in MEASURED}):
        _write(_rows([], read_records(project_root() / "results" / name)), data, name)


def downloads_html(notebook: Mapping[str, Any], page: str, folder: str) -> str:
    """The fold of a page that leads to what :func:`write_page_files` writes, and to the records of its stages."""
    tables, stages = tables_of(notebook), dict.fromkeys(STAGE_LINK.findall(_shown(notebook)))
    records = [f"../{DATA_FOLDER}/{stage}" for stage in stages]
    if _method(notebook):
        records = [f"../{DATA_FOLDER}/{NETWORKS}/{folder}/{page}"]
    elif page in MEASURED:
        records = [f"../{DATA_FOLDER}/{MEASURED[page]}"]
    items = [_link(f"../{SOURCES}/{folder}/{page}.ipynb", "this page as a notebook, as it was executed")]
    for number, (caption, _) in enumerate(tables, 1):
        place = f"../{DATA_FOLDER}/{TABLES}/{folder}/{page}-{number}.csv"
        items.append(f"table, as it is shown: {_link(place, caption or f'table {number}')} (CSV)")
    if records:
        links = " ".join(_link(f"{place}.{kind}", f"{Path(place).name}.{kind}") for place in records for kind in KINDS)
        items.append(f"the records that tables and figures are made of: {links}")
    named = ["the notebook", *([plural(len(tables), "table")] if tables else []), *(["records"] if records else [])]
    listed = "".join(f"<li>{item}</li>" for item in items)
    summary = f"<summary>Download {', '.join(named)}</summary>"
    return f'<details class="dclib-downloads">{summary}<ul>{listed}</ul></details>'


def _link(place: str, words: str) -> str:
    return f'<a href="{escape(place)}" download>{escape(words)}</a>'


def _method(notebook: Mapping[str, Any]) -> str:
    """The network that a page is about; empty where it is about several."""
    given = notebook.get("metadata", {}).get("papermill", {}).get("parameters", {})
    return str(given.get("method", "")) if "method" in {**default_parameters(notebook), **given} else ""


def _shown(notebook: Mapping[str, Any]) -> str:
    """The HTML that a page shows."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    return "\n".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)


def tables_of(notebook: Mapping[str, Any]) -> list[tuple[str, list[Line]]]:
    """Caption and lines of each table on a page, the heading first; groups of rows are named in a first column."""
    reader = _Tables()
    reader.feed(_shown(notebook))
    return [(caption, lines) for caption, lines in reader.tables if lines]


class _Tables(HTMLParser):
    """The words in the cells of all tables."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[tuple[str, list[Line]]] = []
        self.words: list[str] | None = None  # of the cell or caption that is open
        self.line: Line = []
        self.group = ""  # heading of the rows that follow
        self.names_group = False
        self.inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append(("", []))
            self.group, self.inside = "", True
        elif tag == "tr":
            self.line, self.names_group = [], "group" in (dict(attributes).get("class") or "").split()
        elif tag in ("th", "td", "caption") and self.inside:
            self.words = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.inside = False
            caption, lines = self.tables[-1]
            if not any(line[0] for line in lines[1:]):
                lines[:] = [line[1:] for line in lines]
        elif tag in ("th", "td", "caption") and self.words is not None:
            said, self.words = " ".join(" ".join(self.words).split()), None
            if tag == "caption":
                self.tables[-1] = said, self.tables[-1][1]
            else:
                self.line.append(re.sub(r"−(?=\d)", "-", said))  # a number for programs too
        elif tag == "tr" and self.inside:
            lines = self.tables[-1][1]
            if self.names_group:
                self.group = " ".join(self.line)
            else:
                lines.append(["group" if not lines else self.group, *self.line])

    def handle_data(self, data: str) -> None:
        if self.words is not None:
            self.words.append(data)


def _rows(own: Sequence[Record], published: Sequence[Record]) -> list[tuple[str, Record]]:
    """Records of runs, each with whose it is."""
    both = ((WHOSE[False], own), (WHOSE[True], published))
    return [(whose, record) for whose, records in both for record in records if record.card is not None]


def _write(rows: Rows, folder: Path, name: str) -> list[Path]:
    written = []
    for suffix, content in (("json", as_json(rows)), ("csv", as_csv(rows))):
        write_atomically(path := folder / f"{name}.{suffix}", content.encode())
        written.append(path)
    return written


def _csv(lines: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def as_json(rows: Rows) -> str:
    """Runs, each with whose it is, its card and its records, as in the files of a run."""
    runs: dict[int, list[tuple[str, Record]]] = {}
    for whose, record in rows:
        runs.setdefault(id(record.card), []).append((whose, record))
    content = [
        {
            "whose": found[0][0],
            "card": asdict(found[0][1].card) if found[0][1].card else None,
            "records": [{k: v for k, v in asdict(r).items() if k != "card"} for _, r in found],
        }
        for found in runs.values()
    ]
    return json.dumps(content, indent=1, allow_nan=False)


def as_csv(rows: Rows) -> str:
    """A line for each record: name, value, unit, n, the keys that any record has, whose it is, and its run."""
    keys = list(dict.fromkeys(key for _, record in rows for key in record.keys))
    lines: list[Sequence[object]] = [["name", "value", "unit", "n", *keys, "whose", *CARD_COLUMNS]]
    for whose, record in rows:
        own = [record.keys.get(key, "") for key in keys]
        run = [getattr(record.card, column, "") for column in CARD_COLUMNS]
        lines.append([record.name, record.value, record.unit, record.n, *own, whose, *run])
    return _csv(lines)
