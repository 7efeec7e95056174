"""What a page's head says of its records, against the records themselves, read and counted by plain loops."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dclib.press import linked_data
from dclib.press.citation import cited
from dclib.press.downloads import write_downloads
from dclib.press.linked_data import MAX_BYTES, Measured, as_json, page_node, values_of, write_linked_data
from dclib.records import read_records

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "results" / "pocket" / "records"
PAGE = "<html><head><title>{title} — The book</title></head><body>{links}</body></html>"
NO_CONDITIONS = ("n", "seeds", "values")  # told in the same breath, but not what values are chosen by
Row = tuple[str, Mapping[str, Any], Mapping[str, Any]]  # whose it is, its card, the record


def rows_of_folder(folder: Path) -> list[Row]:
    files = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]
    return last_epochs(("published", file["card"], record) for file in files for record in file["records"])


@cache
def rows_of_file(path: Path) -> list[Row]:
    runs = json.loads(path.read_text())
    return last_epochs((run["whose"], run["card"], record) for run in runs for record in run["records"])


def node_of(page: Path) -> dict[str, Any]:
    found = re.findall(r'<script type="application/ld\+json"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
    assert len(found) == 1, page
    assert len(found[0].encode()) <= MAX_BYTES, page
    return dict(json.loads(found[0]))


def last_epochs(rows: Iterable[Row]) -> list[Row]:
    """Of values over epochs the last one of each run, by one loop to find it and one to keep it."""
    last: dict[tuple[object, ...], int] = {}

    def place(row: Row) -> tuple[object, ...]:
        return (id(row[1]), row[2]["name"], *sorted((k, v) for k, v in row[2]["keys"].items() if k != "epoch"))

    told = [(place(row), row[2]["keys"].get("epoch", -1), row) for row in rows]
    for where, epoch, _ in told:
        last[where] = max(last.get(where, -1), epoch)
    return [row for where, epoch, row in told if epoch == last[where]]


def check_dataset(node: Mapping[str, Any], rows: Sequence[Row], method: str = "") -> int:
    """Compare every number of a set of data with the records that it says it is of; returns how many there were."""
    if "variableMeasured" not in node:  # a page without room for it
        return 0
    kept = [row for row in rows if method in ("", row[1]["method"])]
    named: dict[tuple[str, str], list[Row]] = {}
    for row in kept:
        for who in ("", row[2]["keys"].get("method", row[1]["method"])):
            named.setdefault((row[2]["name"], who), []).append(row)
    seen = 0
    for said in node["variableMeasured"]:
        conditions = dict(part.split(" ", 1) for part in said["valueReference"].split("; "))
        of = {key: value for key, value in conditions.items() if key not in NO_CONDITIONS}

        def fits(row: Row, of: Mapping[str, str] = of) -> bool:
            told = {"whose": row[0], "method": row[1]["method"], **row[2]["keys"]}
            return all(str(told.get(key)) == value for key, value in of.items())

        found = [row for row in named.get((said["name"], of.get("method", "")), []) if fits(row)]
        numbers = [row[2]["value"] for row in found]
        assert numbers, said
        assert int(conditions.get("values", 1)) == len(numbers)
        # six digits are told
        if "value" in said:
            assert said["value"] == pytest.approx(sum(numbers) / len(numbers), rel=1e-5)
        if len(numbers) > 1:
            ends = (said["minValue"], said["maxValue"])
            assert ends == pytest.approx((min(numbers), max(numbers)), rel=1e-5)
        assert {row[2]["unit"] for row in found} == {said["unitText"]}
        assert conditions["seeds"].split(",") == [str(s) for s in sorted({row[1]["seed"] for row in found})]
        counts = [row[2]["n"] for row in found]
        assert {int(n) for n in conditions["n"].split("-")} == {min(counts), max(counts)}
        seen += len(numbers)
    assert node["dateModified"] == max(row[1]["created"] for row in kept)
    assert all(row[1]["code_hash"] in node["version"] for row in kept)
    assert all(row[1]["device"] in node["description"] and row[1]["preset"] in node["description"] for row in kept)
    assert seen == len(kept)  # none is left out, and none stands in two properties
    return seen


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages that link to published records: all probes, and all about one network."""
    tmp_path = tmp_path_factory.mktemp("site")
    stages = ("linear_probe", "pretrain")
    records = [record for stage in stages for record in read_records(PUBLISHED / stage)]
    write_downloads([], records, tmp_path / "data")
    (tmp_path / "stages").mkdir()
    links = {stage: f'<a href="../data/{stage}.json">x</a>' for stage in stages}
    for name, shown in (("linear_probes", stages[:1]), ("pretraining_deepercluster", stages)):
        html = PAGE.format(title=f"About {name}", links="".join(links[stage] for stage in shown))
        (tmp_path / "stages" / f"{name}.html").write_text(html)
    (tmp_path / "index.html").write_text(PAGE.format(title="Start &lt;here&gt;", links=""))
    return tmp_path


def test_each_number_is_that_of_the_published_records(site: Path) -> None:
    pages = ["index", "stages/linear_probes", "stages/pretraining_deepercluster"]
    write_linked_data(site, pages)
    start = node_of(site / "index.html")
    assert start["headline"] == "Start <here>"
    assert "hasPart" not in start
    (probes,) = node_of(site / f"{pages[1]}.html")["hasPart"]
    assert check_dataset(probes, rows_of_folder(PUBLISHED / "linear_probe")) > 1000
    about_one = {part["name"]: part for part in node_of(site / f"{pages[2]}.html")["hasPart"]}
    assert set(about_one) == {"linear_probe", "pretrain"}
    for stage, part in about_one.items():
        assert check_dataset(part, rows_of_folder(PUBLISHED / stage), "deepercluster") > 50
    assert any("layer 13" in said["valueReference"] for said in about_one["linear_probe"]["variableMeasured"])
    for part in (probes, *about_one.values()):
        assert [(site / "stages" / file["contentUrl"]).is_file() for file in part["distribution"]] == [True, True]


def test_a_second_time_changes_nothing(site: Path) -> None:
    page = site / "stages" / "linear_probes.html"
    write_linked_data(site, ["stages/linear_probes"])
    once = page.read_text()
    write_linked_data(site, ["stages/linear_probes"])
    assert page.read_text() == once


def test_words_of_a_record_cannot_end_the_script() -> None:
    text = as_json({"name": "</script><b>"})
    assert "</" not in text
    assert json.loads(text) == {"name": "</script><b>"}


def test_where_there_is_no_room_the_last_sets_keep_their_numbers_to_their_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = {"stage": "s", "preset": "p", "seed": 0, "device": "CPU", "created": "2026", "code_hash": "c", "commit": "d"}
    records = [{"name": f"n{i}", "value": float(i), "unit": "1", "keys": {}, "n": None} for i in range(40)]
    run = {"whose": "own", "card": {**card, "method": "m"}, "records": records}
    linked = {f"data/{name}": Measured(values_of([run])) for name in ("one", "two", "three")}
    whole = len(as_json(page_node("page", "A page", linked, cited())).encode())
    monkeypatch.setattr(linked_data, "MAX_BYTES", whole - 2000)
    text = as_json(page_node("page", "A page", linked, cited()))
    assert len(text.encode()) <= whole - 2000
    assert ["variableMeasured" in part for part in json.loads(text)["hasPart"]] == [True, True, False]


def test_a_page_without_a_head_is_refused(site: Path) -> None:
    (site / "index.html").write_text("<p>nothing</p>")
    with pytest.raises(ValueError, match="need a page with a head"):
        write_linked_data(site, ["index"])


def test_the_built_book_says_what_its_files_hold() -> None:
    built = Path(os.environ.get("DCLIB_BUILT_HTML", ROOT / "_build" / "html"))
    if not (built / "index.html").is_file():
        pytest.skip("no built book in _build/html (make book builds it; DCLIB_BUILT_HTML names another folder)")
    told = 0
    for page in sorted(built.rglob("*.html")):
        if "page-records" not in page.read_text():
            continue
        stem = page.stem
        method = stem.removeprefix("pretraining_") if stem.startswith("pretraining_") else ""
        for part in node_of(page).get("hasPart", []):
            told += check_dataset(
                part, rows_of_file((page.parent / part["distribution"][0]["contentUrl"]).resolve()), method
            )
    assert told
