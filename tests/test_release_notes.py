"""Release notes: what two sets of records say otherwise, counted here from the numbers that were put in."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

import pytest
from synthetic_records import make_curve

from dclib import __version__
from dclib.press.publish import SHOWN_LAYERS
from dclib.press.release_notes import SAME, notes_since, release_notes
from dclib.records import write_records

SHIFTS = (0.0, 0.1, 0.3)  # between seeds
LOW, HIGH = [30.0] * 13, [60.0] * 13
BEFORE = {"deepercluster": LOW, "rotnet": HIGH, "supervised": [90.0] * 13}
AFTER = {"deepercluster": HIGH, "rotnet": LOW, "supervised": [90.0] * 13}


def put(root: Path, curves: Mapping[str, Sequence[float]], pages: Sequence[str]) -> Path:
    """A project with the probes of some networks, and a table of contents."""
    for method, curve in curves.items():
        for seed, shift in enumerate(SHIFTS):
            made = make_curve(method, seed, [value + shift for value in curve])
            assert made[0].card
            path = root / "results" / "pocket" / "records" / "linear_probe" / f"{method}-s{seed}.json"
            write_records(path, made[0].card, made)
    (root / "book").mkdir(parents=True, exist_ok=True)
    chapters = "".join(f"  - file: {page}\n" for page in pages)
    (root / "book" / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{chapters}")
    return root


def cell(value: float) -> str:
    values = [value + shift for shift in SHIFTS]
    return f"{mean(values):.1f} ± {stdev(values):.1f}"


def rows_of(notes: str) -> dict[str, list[str]]:
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in notes.splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows}


def test_changed_verdicts_figures_and_pages_are_told(tmp_path: Path) -> None:
    old = put(tmp_path / "old", BEFORE, ["method", "stages/voc"])
    new = put(tmp_path / "new", AFTER, ["method", "stages/sobel"])
    notes = release_notes(old, new, since="v0")
    assert notes.startswith(f"# The book of DeeperCluster {__version__}\n\nChanges since v0")
    rows = rows_of(notes)
    assert "Supervised" not in rows  # its numbers are as they were
    for name, then, now in (("DeeperCluster", 30.0, 60.0), ("RotNet", 60.0, 30.0)):
        assert rows[name][: len(SHOWN_LAYERS)] == [f"{cell(then)} → {cell(now)}"] * len(SHOWN_LAYERS)
    turned = {name: row[1:] for name, row in rows.items() if re.fullmatch(r"C\d+", name)}
    # both say that DeeperCluster is ahead of RotNet on objects; there are no others to make them hold as a whole
    assert turned == dict.fromkeys(("C1", "C24"), ["does not hold", "leans"])
    assert "2 verdicts changed. Now: of " in notes
    assert "* linear_probe: 9 runs, 117 values, code code, until 2026-01-02" in notes
    assert "New: `stages/sobel`." in notes
    assert "Gone: `stages/voc`." in notes


def test_the_same_twice_has_no_news(tmp_path: Path) -> None:
    old, new = (put(tmp_path / name, BEFORE, ["method"]) for name in ("old", "new"))
    notes = release_notes(old, new, since="v0")
    assert notes.count(SAME) == 1
    assert "2 pages, as before." in notes
    assert "|" not in notes


def test_a_network_that_came_and_one_that_went(tmp_path: Path) -> None:
    old = put(tmp_path / "old", {"rotnet": HIGH, "random": LOW}, ["method"])
    new = put(tmp_path / "new", {"rotnet": HIGH, "supervised": HIGH}, ["method"])
    notes = release_notes(old, new, since="v0")
    assert rows_of(notes)["Supervised"][0] == f"– → {cell(60.0)}"
    assert "No longer measured: Random." in notes
    assert "* linear_probe: 6 runs, 78 values" in notes  # as many as before, but of others
    assert "The first release" in release_notes(None, new)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two commits, the first of them tagged."""
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init", "--quiet")
    put(tmp_path, BEFORE, ["method"])
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    git("tag", "v0.0.1")
    put(tmp_path, AFTER, ["method", "glossary"])
    git("add", ".")
    git("commit", "--quiet", "-m", "second")
    return tmp_path


def test_the_last_tag_is_what_is_compared_with(history: Path) -> None:
    notes = notes_since()
    assert "Changes since v0.0.1" in notes
    assert rows_of(notes)["RotNet"][0] == f"{cell(60.0)} → {cell(30.0)}"
    assert "New: `glossary`." in notes
    assert notes_since("HEAD").count(SAME) == 1
    with pytest.raises(ValueError, match="need a tag or commit of this project's history"):
        notes_since("v9")
