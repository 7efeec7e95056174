"""The transcription of the supplement, read again another way, and the claims' consistency with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dclib import paper

SUPPLEMENT = Path(__file__).parent.parent / "../shared/paper/supplement.txt"
NUMBER = re.compile(r"\d+\.\d+")


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """The supplement's tab-separated lines: its tables, row by row, without markup."""
    if not SUPPLEMENT.is_file():
        pytest.skip("the supplement's text is not beside the project")
    text = re.sub(r"</?i>", "", SUPPLEMENT.read_text(encoding="utf-8"))
    return [line.split("\t") for line in text.splitlines() if "\t" in line]


def numbers_of(cells: list[str]) -> tuple[float, ...]:
    return tuple(float(cell) for cell in cells if NUMBER.fullmatch(cell))


def test_table_1_is_the_supplements(rows: list[list[str]]) -> None:
    found = [(row[0], numbers_of(row[1:])) for row in rows if len(numbers_of(row[1:])) == 13]
    ours = [(name, curve) for half in paper.TABLE1.values() for name, curve in half.items()]
    assert found == ours


def test_the_halves_of_table_1_are_not_swapped(rows: list[list[str]]) -> None:
    text = SUPPLEMENT.read_text(encoding="utf-8")
    assert text.index("<i>ImageNet</i>") < text.index("7.8\t12.3") < text.index("<i>Places205</i>")
    assert paper.table1("objects")["supervised"][:2] == (7.8, 12.3)


def test_tables_2_to_4_are_the_supplements(rows: list[list[str]]) -> None:
    labels = ("Supervised", "ImageNet labels", "Random", "Doersch", "Wang", "RotNet", "Deep")
    small = [row for row in rows if row[0].startswith(labels) and 1 <= len(numbers_of(row[1:])) <= 2]
    found = sorted(numbers_of(row[1:]) for row in small)
    ours = [tuple(v for v in values if v is not None) for values in paper.TABLE2.values()]
    assert found == sorted([*ours, *paper.TABLE3.values(), *paper.TABLE4.values()])


def test_rows_of_tables_3_and_4_carry_the_supplements_labels(rows: list[list[str]]) -> None:
    of_pairs = {(re.sub(r" \[\d+\]", "", row[0]), row[1]): numbers_of(row[2:]) for row in rows if len(row) == 4}
    for label, pair in {**paper.TABLE3, **paper.TABLE4}.items():
        assert of_pairs[label] == pair


def test_every_published_number_stands_in_the_text(rows: list[list[str]]) -> None:
    cells = {cell for row in rows for cell in row}
    assert {str(number.value) for number in paper.published_numbers()} <= cells


def test_counts_of_figure_1_are_the_supplements() -> None:
    if not SUPPLEMENT.is_file():
        pytest.skip("the supplement's text is not beside the project")
    text = SUPPLEMENT.read_text(encoding="utf-8")
    assert "1300 associated images in ImageNet" in text
    assert "respectively 226 and 256, 758 images" in text
    assert paper.FIGURE1_COUNTS == {"guenon": (1300, 226), "baseball": (1300, 256_758)}


def test_published_numbers_have_one_place_each() -> None:
    numbers = paper.published_numbers()
    # 2 halves x 3 methods x 13 layers, 7 cells of Table 2, 9 x 2 of Table 3, 2 x 2 of Table 4
    assert [sum(n.table == t for n in numbers) for t in (1, 2, 3, 4)] == [78, 7, 18, 4]
    places = [(n.table, n.row, n.column) for n in numbers]
    assert len(set(places)) == len(places)
    assert all(0 < n.value < 100 and n.unit == "%" for n in numbers)


def test_table_1_has_thirteen_layers_of_the_three_methods_under_our_names() -> None:
    for half in paper.HALVES:
        assert set(paper.table1(half)) == {"supervised", "rotnet", "deepercluster"}
        assert all(len(curve) == paper.N_LAYERS for curve in paper.table1(half).values())


def test_claims_are_told_apart_and_hold_no_verdict() -> None:
    assert len({claim.id for claim in paper.CLAIMS}) == len(paper.CLAIMS)
    assert len({claim.statement for claim in paper.CLAIMS}) == len(paper.CLAIMS)
    for claim in paper.CLAIMS:
        assert claim.statement.endswith(".")
        assert claim.where
        assert bool(claim.published) != bool(claim.numbers)
        assert not hasattr(claim, "verdict")


def test_numbers_of_claims_are_cells_of_the_tables() -> None:
    for claim in paper.CLAIMS:
        assert set(claim.numbers) <= set(paper.published_numbers())
    # the three of conv13, twice; two recipes from two rows
    assert sorted(n.value for n in paper.claim("C1").numbers) == [33.0, 35.5, 42.1, 45.6, 45.9, 70.2]
    assert sorted(n.value for n in paper.claim("C14").numbers) == [73.3, 74.1, 74.3, 74.9]


def test_a_cell_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="Table 3 has no Rome"):
        paper.cells(3, ("RotNet, YFCC100M",), ("Rome",))


def test_our_names_of_rows_are_rows() -> None:
    assert paper.TABLE2_METHODS.keys() <= paper.TABLE2.keys()
    assert paper.TABLE3_METHODS.keys() <= paper.TABLE3.keys()
    assert paper.TABLE4_METHODS.keys() == paper.TABLE4.keys()


def test_an_unknown_claim_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown claim 'C0'; there are C1, C2"):
        paper.claim("C0")


@pytest.mark.parametrize(
    ("method", "task"),
    [("deepercluster_hierarchy", "deepercluster"), ("rotnet", "rotnet"), ("my_own", "my_own")],
)
def test_a_variant_belongs_to_its_method(method: str, task: str) -> None:
    assert paper.task_of(method) == task
