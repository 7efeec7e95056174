"""Scoring of saved descriptors, against the same by hand, and what is refused."""

import re

import numpy as np
import pytest

from dclib.__main__ import main
from dclib.evaluate.descriptor_files import score_files


@pytest.fixture
def saved(tmp_path):
    """Two places with two images each; queries are the first of each place."""
    truth = tmp_path / "truth"
    truth.mkdir()
    for place, (query, other) in {"inn": ("a", "b"), "mill": ("c", "d")}.items():
        (truth / f"{place}_1_query.txt").write_text(f"{query} 0 0 10 10")
        (truth / f"{place}_1_good.txt").write_text(f"{query}\n{other}\n")
        (truth / f"{place}_1_ok.txt").write_text("")
        (truth / f"{place}_1_junk.txt").write_text("")
    return truth


def test_given_descriptors_rank_by_hand(saved, tmp_path):
    images = np.array([[1, 0], [0.6, 0.8], [0, 1], [0.8, 0.6]], dtype=np.float32)  # a, b, c, d
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "queries.npy", images[[0, 2]])
    inn, mill = score_files(saved, tmp_path / "queries.npy", tmp_path / "images.npy")
    assert inn.names == ("a", "d", "b", "c")
    assert mill.names == ("c", "b", "d", "a")
    # by trapezoids: the first positive at rank 1 adds 1/2; the second at rank 3 adds (1/2 + 2/3) / 2 / 2
    for one in (inn, mill):
        assert one.average_precision == pytest.approx(0.5 + (1 / 2 + 2 / 3) / 4, abs=1e-12)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 2)), "each of 2 queries"),
        (np.zeros(4), r"\(rows, d\)"),
        (np.array([[np.nan, 1], [1, 1]]), "finite"),
    ],
)
def test_bad_files_are_refused(saved, tmp_path, rows, message):
    np.save(tmp_path / "queries.npy", rows)
    with pytest.raises(ValueError, match=message):
        score_files(saved, tmp_path / "queries.npy")


def test_a_missing_file_is_one_sentence(saved, capsys):
    assert main(["score", str(saved), "nowhere.npy"]) == 2
    said = capsys.readouterr().err
    assert re.match(r"dclib: need a matrix of descriptors saved by NumPy at nowhere\.npy: .+\n$", said)


def test_real_query_features_by_the_command(shared_data, capsys):
    folder = shared_data("oxford5k")
    file = folder / "query_features" / "oxford5k_resnet_glob_queries.npy"
    assert main(["score", str(folder / "gnd_oxford5k.pkl"), str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    precisions = [float(line.split()[-2]) for line in lines[:-1]]
    assert len(precisions) == 55
    mean = float(re.search(r"([\d.]+) % over 55 queries", lines[-1]).group(1))
    assert mean == pytest.approx(np.mean(precisions), abs=0.1)  # printed to a tenth
