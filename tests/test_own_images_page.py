"""The figures that the page about one's own photographs states are those of the records."""

from __future__ import annotations

import re
from collections import defaultdict
from statistics import mean

import pytest

from dclib.presets import project_root
from dclib.records import Record, read_records

PAGE = (project_root() / "book" / "own_images.md").read_text(encoding="utf-8")
SETS = {
    "Pascal VOC 2007": "data/VOC2007",
    "Imagenette": "imagenette112/train.tar",
    "ImageNet": "imagenet_samples160/images.tar",
}
CROWD = ", all"  # ends the name of a set whose every picture is looked through at once
CROWDS = "imagenette112/train.tar", "cifar10/train.tar"
COLUMNS = ("explored", "pixels", "colour histograms", "network that was only drawn")


def records(name: str) -> list[Record]:
    wanted = project_root() / "results" / "benchmarks"
    return [r for r in read_records(wanted) if r.card and r.name.startswith(f"{name}_")]


def rows(first: str) -> dict[str, list[str]]:
    """Cells of the rows of the table whose head begins so."""
    table = re.search(rf"^\| {first} .*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    assert table is not None
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]
    return {cells[0]: cells[1:] for cells in lines}


@pytest.mark.parametrize("name", SETS)
def test_explored_sets_are_as_recorded(name: str) -> None:
    own = [r for r in records("explore") if r.keys["set"] == SETS[name]]
    values = {(r.name, r.keys.get("clusters")): r for r in own}
    assert {r.keys["verdict"] for r in own} == {"learned"}
    found = [(title, cells) for title, cells in rows("Photographs").items() if title.startswith(f"{name}, ")]
    (title, cells), *more = found
    assert not more
    assert title == f"{name}, {values['explore_minutes', None].n:,}"
    known = [values.get(("explore_purity", column)) for column in COLUMNS]  # none where no two are of a class
    purity = [f"{share.value:.1f}\N{NO-BREAK SPACE}%" if share else "\N{EN DASH}" for share in known]
    minutes, memory = (values[f"explore_{what}", None].value for what in ("minutes", "memory"))
    assert cells == [f"{minutes:.0f}", f"{memory:.1f} GB", *purity]


def test_duplicates_found_in_a_crowd_are_as_recorded() -> None:
    text, stated = PAGE.replace("\n", " "), rows("Done to a copy in a crowd")
    for column, name in enumerate(CROWDS):
        crowd = [r for r in records("duplicates") if r.keys["set"] == f"{name}{CROWD}"]
        found = {str(r.keys["way"]): r for r in crowd if r.name == "duplicates_recall"}
        told = {way: cells[column] for way, cells in stated.items()}
        assert told == {way: f"{100 * r.value:.1f} % of {r.n:,}" for way, r in found.items()}
        seconds, memory, pure = (
            next(r for r in crowd if r.name == f"duplicates_{what}")
            for what in ("cpu_seconds", "memory", "pure_groups")
        )
        assert seconds.card is not None
        assert seconds.card.device.startswith("AMD EPYC")
        took = f"{seconds.n:,} pictures took {seconds.value / 60:.1f} minutes of one thread of an AMD EPYC"
        assert took in text
        assert f"and {memory.value:.0f} MB" in text[text.index(took) :]
        assert f"of {pure.n:,} groups {100 * pure.value:.1f} % hold one image" in text


def test_duplicates_found_are_as_recorded() -> None:
    found: dict[str, list[Record]] = defaultdict(list)
    planted = [record for record in records("duplicates") if not str(record.keys["set"]).endswith(CROWD)]
    for record in planted:
        if record.name == "duplicates_recall":
            found[str(record.keys["way"])].append(record)
    stated = rows("What was done to the copy")
    assert set(stated) == set(found)
    for way, own in found.items():
        right, n = sum(round(r.value * r.n) for r in own), sum(r.n for r in own)
        fewest = min(r.value for r in own)
        assert stated[way] == [f"{right} of {n}", f"{100 * fewest:.0f} %"], (way, mean(r.value for r in own))
    pure = [record for record in planted if record.name == "duplicates_pure_groups"]
    (said,) = re.findall(r"Of the ([\d,]+) groups that were found, ([\d,]+) holds?", PAGE)
    groups, mixed = (int(n.replace(",", "")) for n in said)
    assert groups == sum(r.n for r in pure)
    assert mixed == sum(round((1 - r.value) * r.n) for r in pure)
