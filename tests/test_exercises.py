"""The exercises: every solution runs, says what came out, and says otherwise when it did not."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from notebook_cells import NOTEBOOKS, run_notebook

from dclib.cluster import pseudo_labels
from dclib.press.notebooks import read_notebook
from dclib.press.site import toc_pages
from dclib.report import exercises

ALL = sorted(path.stem for path in NOTEBOOKS.glob("*_exercises_*.ipynb"))
SEEN, NOT = "✓ To be seen.", "✗ Not on this run."


def cells(name: str, tag: str) -> list[str]:
    return [
        cell.source for cell in read_notebook(NOTEBOOKS / f"{name}.ipynb").cells if tag in cell.metadata.get("tags", [])
    ]


def test_each_part_of_the_book_ends_with_three_exercises() -> None:
    listed = [page for page in toc_pages(NOTEBOOKS.parent / "book" / "_toc.yml") if "exercises_" in page]
    assert {page.removeprefix("stages/") for page in listed} == {name.partition("_")[2] for name in ALL}
    for name in ALL:
        notebook = read_notebook(NOTEBOOKS / f"{name}.ipynb")
        tasks = [cell for cell in notebook.cells if cell.id.startswith("exercise-")]
        folded = [cell for cell in notebook.cells if "solution" in cell.metadata.get("tags", [])]
        assert len(tasks) == len(folded) == 3, name
        for cell in folded:
            assert "hide-cell" in cell.metadata["tags"], "a solution is folded, with what it shows"
            assert "outcome(" in cell.source, "a solution says what was to be seen"


@pytest.mark.parametrize("name", ALL)
def test_every_solution_comes_out_at_the_smallest_size(name: str, tmp_path, monkeypatch) -> None:
    """Also the sentence for the other case is asked for by the code, so none can be told whatever came out."""
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path))  # nothing was trained here
    shown = run_notebook(name)
    said = re.findall(f"({SEEN}|{NOT}) (.+)", shown)
    assert len(said) == 3
    assert [words for mark, words in said if mark == NOT] == []
    assert all(re.search(r"\d", words) for _, words in said), "each names a number that it found"


def test_a_solution_says_so_when_it_did_not_come_out(monkeypatch) -> None:
    whiten = pseudo_labels.whiten

    def only_centred(features: torch.Tensor, dim: int, work: None = None) -> tuple[torch.Tensor, object]:
        return features - features.mean(dim=0), whiten(features, dim)[1]

    monkeypatch.setattr(pseudo_labels, "whiten", only_centred)
    shown = run_notebook("22_exercises_idea", images=96)
    assert re.findall(f"{NOT} (.+)", shown)[0].endswith("whitening has not freed the clusters of it.")


def test_the_drawn_sample_is_the_same_each_time_and_has_every_class() -> None:
    (one, labels), (other, _) = exercises.drawn_sample(32, 32), exercises.drawn_sample(32, 32)
    assert np.array_equal(one, other)
    assert np.bincount(labels).tolist() == [2] * 16
    assert torch.from_numpy(one).shape == (32, 3, 32, 32)
    assert exercises.picture_of(one[0]).size == (32, 32)
