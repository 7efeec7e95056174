"""The scorecard's picture: marks where the margins are, a shape for each verdict, words for all of it."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup, Tag
from synthetic_records import make_card
from test_scorecard import SEEDS, finetuned, verdict

from dclib.paper import CLAIMS, TABLE4, claim
from dclib.records import Record
from dclib.report.evidence import EVIDENCE
from dclib.report.finder import Finder
from dclib.report.findings import RANGES
from dclib.report.verdict_figure import SHAPES, Lane, lanes_of, place_of, verdict_picture, verdict_strip


def classified(gains: dict[int, float]) -> list[Record]:
    """DeeperCluster gains that much from gradients in each seed, RotNet nothing."""
    return [
        Record(
            name="voc_map",
            value=value,
            unit="%",
            n=9,
            keys={"setting": "fc68", "split": split},
            card=make_card(method, seed, "voc"),
        )
        for seed, gain in gains.items()
        for method, value in {
            "deepercluster_rgb": 50.0,
            "deepercluster": 50.0 + gain,
            "rotnet_rgb": 40.0,
            "rotnet": 40.0,
        }.items()
        for split in ("test", "val")
    ]


def places(track: Tag, kind: str) -> list[float]:
    """Where the marks of a verdict stand on a strip, %."""
    return [float(mark["x"].rstrip("%")) for mark in track.select(f"g.{kind} > svg")]


def test_the_scale_is_of_square_roots_and_symmetric() -> None:
    assert place_of(0.0, "points") == 50
    assert place_of(4.0, "points") - 50 == pytest.approx(2 * (place_of(1.0, "points") - 50))
    assert place_of(-9.0, "points") + place_of(9.0, "points") == pytest.approx(100)
    assert place_of(0.09, "") == pytest.approx(place_of(9.0, "points"))  # of a range of one
    assert place_of(25.5, "levels") == pytest.approx(place_of(10.0, "points"))  # of a range of 255
    assert 0 < place_of(-500.0, "points") < place_of(500.0, "points") < 100


def test_every_check_there_is_has_a_place_on_it() -> None:
    units = {check.unit for make in EVIDENCE.values() for check in make(Finder([])).checks}
    assert units <= RANGES.keys()


def test_a_row_has_both_sets_of_seeds_and_the_papers_mark() -> None:
    lanes = lanes_of(classified({0: -4.0}), classified({0: 9.0, 1: 10.0, 2: 11.0}), [claim("C9")])
    soup = BeautifulSoup(verdict_picture(lanes).html, "html.parser")
    (row,) = soup.select(".claim-row[id]")
    assert row["id"] == "claim-C9"
    run, kept = row.select("svg.claim-track")
    assert places(run, "does-not-hold") == [pytest.approx(place_of(-4.0, "points"), abs=0.06)]
    assert places(kept, "holds") == [pytest.approx(place_of(m, "points"), abs=0.06) for m in (9.0, 10.0, 11.0)]
    gain = TABLE4["DeeperCluster", "YFCC 20M"][1] - TABLE4["DeeperCluster", "YFCC 20M"][0]
    (diamond,) = run.find_all("svg", recursive=False)
    assert float(diamond["x"].rstrip("%")) == pytest.approx(place_of(gain, "points"), abs=0.06)
    for words in (run["aria-label"], row.text):
        assert "does not hold" in words
        assert "−4.0 points" in words
        assert f"paper {gain:+.1f}" in words
    assert "3 published seeds" in row.text


def test_another_edition_has_a_column_of_its_own_with_its_own_records() -> None:
    """Drawings, photographs and the paper: of a claim that one of them cannot decide the column says why."""
    drawn, photographed = classified({0: 9.0, 1: 10.0, 2: 11.0}), classified({0: -4.0, 1: -4.5})
    claims = [claim("C9"), claim("C1")]
    lanes = lanes_of(drawn, [], claims, {"photographs": photographed})
    assert [lane.title for lane in lanes] == [
        "Drawings, this run (seeds 0, 1 and 2)",
        "Photographs, 2 published seeds (seeds 0 and 1)",
    ]
    soup = BeautifulSoup(verdict_picture(lanes).html, "html.parser")
    decided, undecided = soup.select(".claim-row[id]")
    ours, theirs = decided.select("svg.claim-track")
    assert places(ours, "holds") == [pytest.approx(place_of(m, "points"), abs=0.06) for m in (9.0, 10.0, 11.0)]
    assert places(theirs, "does-not-hold") == [pytest.approx(place_of(m, "points"), abs=0.06) for m in (-4.0, -4.5)]
    assert (
        len(ours.find_all("svg", recursive=False)) == len(theirs.find_all("svg", recursive=False)) == 1
    )  # the paper's
    assert [lane.text.count("no records of it in this preset") for lane in undecided.select(".claim-lane")] == [1, 1]
    assert [lane.select_one("svg.claim-mark path")["d"] for lane in undecided.select(".claim-lane")] == ["M-6 0H6"] * 2
    assert [lane.title for lane in lanes_of(drawn, [], claims)] == ["This run (seeds 0, 1 and 2)"]


def test_a_verdict_is_told_by_shape_as_well_as_by_colour() -> None:
    assert len(set(SHAPES.values())) == len(SHAPES) == 4
    strip = BeautifulSoup(verdict_strip(lanes_of([], [], CLAIMS)).html, "html.parser")
    assert {a["class"][0] for a in strip.select("a")} == {"not-measured"}
    assert all("not measured" in a["aria-label"] for a in strip.select("a"))


def test_every_mark_of_the_strip_leads_to_a_row_of_the_picture() -> None:
    lanes = lanes_of(classified({0: 1.0}), classified({0: 9.0, 1: 10.0}), CLAIMS)
    rows = BeautifulSoup(verdict_picture(lanes).html, "html.parser").select(".claim-row[id]")
    links = BeautifulSoup(verdict_strip(lanes).html, "html.parser").select("ol a")
    assert [row["id"] for row in rows] * 2 == [a["href"].split("#")[1] for a in links]


def test_what_was_not_measured_has_words_and_no_marks() -> None:
    soup = BeautifulSoup(verdict_picture(lanes_of([], [], [claim("C1")])).html, "html.parser")
    assert not soup.select("svg.claim-track")
    assert "no records" in soup.select_one(".claim-lane").text


def test_a_claim_that_is_not_judged_says_why_and_shows_no_margin() -> None:
    """Scratch ends lower by the second recipe, so no lead can be followed to convergence; its change is not shown."""
    ends = {"pytorch_doc": {"random": 60.0, "deepercluster": 65.0}, "ours": {"random": 50.0, "deepercluster": 52.0}}
    found = verdict([r for seed in SEEDS for r in finetuned(ends, seed)], "C14")
    assert found.outcome == "not measured"
    assert found.found.measured
    html = verdict_picture([Lane("this run", "seeds 0, 1 and 2", [found])]).html
    assert "what it presupposes is not so here: scratch ends higher by the second recipe" in html
    assert "claim-track" not in html.split("</style>")[-1]
