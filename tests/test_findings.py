"""The lines under the exhibits: they follow from records, and every exhibit of the supplement has its claims."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from notebook_cells import NOTEBOOKS
from synthetic_records import make_card, make_curve

from dclib.paper import CLAIMS, TABLE3, TABLE3_METHODS, Claim, claim, published_numbers
from dclib.presets import parse_preset
from dclib.press.notebooks import read_notebook
from dclib.records import Record
from dclib.report import findings
from dclib.report.finder import published_records
from dclib.report.scorecard import judge, tally

PRESET = parse_preset("made-up", {"seeds": [0], "methods": {"rotnet": None}})
IN_ORDER = {"supervised": 80.0, "deepcluster": 60.0, "deepercluster": 55.0, "rotnet": 40.0, "random": 5.0}


def retrieved(values: Mapping[str, float], seeds: tuple[int, ...] = (0,)) -> list[Record]:
    """The same precision in both cities, half a point more with each seed for those above RotNet."""
    return [
        Record(
            name="retrieval_map",
            value=value + (0.5 * seed if method not in ("rotnet", "random") else 0.0),
            unit="%",
            n=9,
            keys={"dataset": city},
            card=make_card(method, seed, "retrieval"),
        )
        for seed in seeds
        for method, value in values.items()
        for city in ("oxford", "paris")
    ]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch):
    """Give a page its own records, and published ones."""

    def give(records: list[Record], published: list[Record] | None = None) -> list[Record]:
        monkeypatch.setattr(findings, "load_records", lambda preset: records)
        monkeypatch.setattr(findings, "load_published", lambda preset, here, all_methods: published or [])
        return records

    return give


def paper_margin(better: str, worse: str, city: int) -> float:
    of = {method: TABLE3[place][city] for place, method in TABLE3_METHODS.items()}
    return of[better] - of[worse]


def test_every_exhibit_of_the_results_has_a_claim() -> None:
    covered = {exhibit for c in CLAIMS for exhibit in findings.exhibits_of(c)}
    assert {*(f"Table {n}" for n in (1, 2, 3, 4)), *(f"Figure {n}" for n in (1, 2, 3))} <= covered


def test_every_claim_of_the_papers_is_told_on_a_page() -> None:
    folder = Path(__file__).parent.parent / "notebooks"
    cells = [c for path in folder.glob("*.ipynb") for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    calls = "\n".join("".join(c["source"]) for c in cells if "findings." in "".join(c["source"]))
    told = set(re.findall(r'"((?:Table|Figure|section) [\d.]+)"', calls))
    assert [c.id for c in CLAIMS if c.is_the_papers and not told & set(findings.exhibits_of(c))] == []


@pytest.mark.parametrize(
    ("where", "tables", "exhibits"),
    [
        ("section 3", (2,), ["Table 2"]),  # by its cells
        ("section 4.2; Figure 3", (), ["Figure 3"]),  # by what the text names
        ("Figure 2 of the main paper; Table 1", (1,), ["Table 1"]),  # not the supplement's Figure 2
        ("section 4", (4, 3), ["Table 3", "Table 4"]),
        ("section 4.2", (), ["section 4.2"]),  # by what makes it, where there is no exhibit
    ],
)
def test_a_claim_belongs_to_the_exhibits_of_its_cells_and_of_its_place(where, tables, exhibits) -> None:
    numbers = tuple(next(n for n in published_numbers() if n.table == table) for table in tables)
    made = Claim(id="C0", statement="x", where=where, numbers=numbers)
    assert findings.exhibits_of(made) == exhibits


def test_a_line_says_what_the_paper_found_what_came_out_and_the_verdict(given) -> None:
    ahead = given(retrieved({**IN_ORDER, "rotnet": 63.0}))  # RotNet above DeeperCluster by 8
    soup = BeautifulSoup(findings.what_came_out(PRESET, "Table 3", ahead).html, "html.parser")
    item = next(li for li in soup.select("li") if li.a.text == "C7")
    assert item.a["href"] == "../stages/scorecard.html#claim-C7"
    assert "does not hold here (this run)" in item.text
    assert claim("C7").statement in item.text
    assert "DeeperCluster over RotNet" in item.text
    assert f"paper {paper_margin('deepercluster', 'rotnet', 0):+.1f}, here −8.0 points" in item.text
    behind = given(retrieved(IN_ORDER))
    assert "C7 leans here" in findings.what_came_out(PRESET, "Table 3", behind).text  # one seed: it can at most lean


def test_before_anything_is_measured_the_line_says_so(given) -> None:
    text = findings.what_came_out(PRESET, "Table 3", given([])).text
    assert "C7 not measured: no records" in text
    assert "here" not in text.split("C7")[1].splitlines()[0]
    assert "nothing measured yet" in findings.in_short(PRESET, "Table 3", []).text


def test_no_page_shows_the_verdicts_of_an_exhibit_in_one_line_twice() -> None:
    found = {
        path.stem: re.findall(
            r"findings\.in_short\(chosen, (.+?),", "\n".join(c.source for c in read_notebook(path).cells)
        )
        for path in NOTEBOOKS.glob("*.ipynb")
    }
    assert sum(map(len, found.values())) >= 2, "there are such lines"
    assert {name: shown for name, shown in found.items() if len(shown) > len(set(shown))} == {}


def test_published_seeds_speak_first_and_the_run_beside_them(given) -> None:
    kept = retrieved({**IN_ORDER, "rotnet": 60.0}, seeds=(0, 1, 2))  # margins -5.0, -4.5, -4.0
    page = given(retrieved(IN_ORDER), kept)
    line = next(x for x in findings.what_came_out(PRESET, "Table 3", page).text.splitlines() if "C7" in x)
    assert "does not hold here (3 published seeds)" in line
    assert "here −4.5 ± 0.5 points, 3 of 3 seeds against it" in line
    assert "Margin (weakest of 8 checks: " in line
    assert "This run leans:" in line


def test_the_page_of_one_network_does_not_depend_on_what_else_has_run(given) -> None:
    def probed(method: str, value: float) -> list[Record]:
        return [r for half in ("objects", "scenes") for r in make_curve(method, 0, [value] * 13, half)]

    own = probed("rotnet", 40.0)
    alone = findings.what_came_out(PRESET, "Table 1", given(own), method="rotnet").text
    others = given([*own, *probed("deepercluster", 50.0), *probed("supervised", 60.0)])
    assert findings.what_came_out(PRESET, "Table 1", others[: len(own)], method="rotnet").text == alone
    assert "C1 not measured" in alone
    assert "C3" not in alone  # about DeeperCluster alone
    assert "No claim" in findings.what_came_out(PRESET, "Table 1", own, method="deepercluster_rgb").text


def test_the_check_that_is_shown_is_one_that_decides() -> None:
    """On noise around the paper's numbers: nothing shown contradicts the verdict it stands beside."""
    rng = np.random.default_rng(0)
    seen = set()
    for scale in (0.1, 1.0, 5.0):
        noisy = [
            Record(
                name=r.name,
                value=r.value + scale * rng.standard_normal(),
                unit=r.unit,
                n=r.n,
                keys=r.keys,
                card=make_card(r.card.method, seed, r.card.stage),
            )
            for seed in range(3)
            for r in published_records()
        ]
        for verdict in judge(noisy):
            check = findings.decisive(verdict)
            seen.add(verdict.outcome)
            if verdict.outcome == "does not hold":
                assert check is not None
                assert not check.leans
            elif verdict.outcome == "leans" and not verdict.found.missing:
                assert (check is not None, check.leans, check.is_clear) == (True, True, False)
            elif verdict.outcome == "holds":
                assert check is not None
                assert check.is_clear
    assert seen == {"holds", "leans", "does not hold", "not measured"}


def test_verdicts_are_counted_in_words() -> None:
    verdicts = judge(published_records(), [claim("C1"), claim("C10"), claim("C11")])
    assert tally(verdicts) == "of 3 claims 1 leans and 2 are not measured"
