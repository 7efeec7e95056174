"""Benchmarks run by one command and record what they say they do; their figures are not looked at here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dclib.records import Record, read_records, select

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "growth": "--share 0.01 --repeats 1",
    "kmeans": "--n 600 --d 128 --k 10 --iterations 2 --loop-points 600 --repeats 2",
    "neighbours": "--seconds 0.05 --repeats 1 --works k-means --waits asleep --threads 1",
    "pipeline": "--archives 2 --per-archive 3 --pictures 2 --reads 4 --batch 2 --repeats 2",
    "probes": "--width 0.03125 --size 32 --classes 3 --batch 4 --steps 1 --repeats 1",
    "training_step": "--width 0.03125 --side 32 --batch 16 --n-sub 5 --repeats 2",
    "whitening_memory": "--sizes 300 --width 64",
}
SIDE_BY_SIDE = {  # program -> the ways it compares, ours first
    "kmeans": [
        "auto",
        "FAISS",
        "FAISS, SuperKMeans",
        "scikit-learn",
        "loop over clusters",
        "batches of 48",
        "torch",
        "faiss",
    ],
    "pipeline": ["ours", "an archive opened per image, torchvision", "the index, torchvision"],
    "probes": ["13 in one pass", "conv13 alone", "13 runs"],
    "training_step": ["bfloat16", "float32", "plain float32"],
    "whitening_memory": ["stored, a block at a time", "all in memory"],
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, list[Record]]:
    """What each program records in its smallest form."""
    folders = {name: tmp_path_factory.mktemp(name) for name in SMALL}
    programs = [
        [str(ROOT / "benchmarks" / f"{name}.py"), *SMALL[name].split(), "--output", str(folder / "out.json")]
        for name, folder in folders.items()
    ]
    command = [sys.executable, str(ROOT / "tests" / "forked_programs.py"), json.dumps(programs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return {name: read_records(folder) for name, folder in folders.items()}


@pytest.mark.parametrize("name", SMALL)
def test_a_program_says_where_and_by_what_it_measured(name, records):
    (card,) = {record.card.created: record.card for record in records[name]}.values()
    assert (card.stage, card.preset) == ("benchmark", "benchmarks")
    assert card.config
    assert {"cores", "load", "machine"} <= card.notes.keys()


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_ways_are_compared_side_by_side(name, records):
    ours, *others = SIDE_BY_SIDE[name]
    medians = select(records[name], "side_by_side", statistic="median")
    works = {record.keys["work"] for record in medians}
    assert {record.keys["benchmark"] for record in medians} == {name}
    for work in works:
        here = {
            w: {r.keys["statistic"]: r for r in select(records[name], "side_by_side", work=work, way=w)}
            for w in {r.keys["way"] for r in medians if r.keys["work"] == work}
        }
        assert {ours, *others} <= here.keys()
        own = here[ours]
        for way in others:
            other = here[way]
            times = select(records[name], "times_as_good", work=work, way=way, statistic="median")[0].value
            # of pairs of turns, so within what the extremes allow; rates the other way round
            bounds = [other["lowest"].value / own["highest"].value, other["highest"].value / own["lowest"].value]
            if own["median"].unit == "images/s":
                bounds = [1 / bound for bound in reversed(bounds)]
            assert bounds[0] * (1 - 1e-9) <= times <= bounds[1] * (1 + 1e-9)
        assert not select(records[name], "times_as_good", work=work, way=ours)


def test_stages_of_the_pipeline_are_its_time(records):
    for photo in ("500 x 375", "1600 x 1200"):
        stages = select(records["pipeline"], "pipeline_stage_time", photo=photo, statistic="median")
        assert len(stages) == 5
        work = f"photographs of {photo} pixels to crops of 224"
        (ours,) = select(records["pipeline"], "side_by_side", work=work, way="ours", statistic="median")
        # stages, as medians of two repeats each, and the whole: the last stage is what is left over
        assert sum(r.value for r in stages) >= 0.5 * 1000 / ours.value


def test_kmeans_says_what_every_way_found_and_what_auto_took(records):
    inertia = {r.keys["way"]: r.value for r in select(records["kmeans"], "inertia_beside_torch")}
    assert set(SIDE_BY_SIDE["kmeans"]) <= inertia.keys()
    # the last starts from centroids of its own and, of 600 points in ten clusters, ends within a third of the others
    assert all(abs(value) < (0.3 if "Super" in way else 1e-3) for way, value in inertia.items())
    notes = records["kmeans"][0].card.notes
    assert set(notes["auto_took"].values()) == {"torch"}  # ten clusters are few
    assert any("blas" in library for library in notes["libraries"])
    assert notes["torch_capability"]


def test_a_step_is_a_share_of_what_products_reach(records):
    rates = {(r.keys["work"], r.keys["way"]): r.value for r in select(records["training_step"], "rate")}
    assert {("training step", "plain float32"), ("features", "bfloat16"), ("matrix product", "float32")} <= rates.keys()
    loss = {r.keys["way"]: r.value for r in select(records["training_step"], "loss")}
    # the same step: sums in another order, and for bfloat16 roundings of 2^-9
    assert loss["float32"] == pytest.approx(loss["plain float32"], rel=1e-5)
    assert loss["bfloat16"] == pytest.approx(loss["plain float32"], rel=0.01)


def test_probes_measure_memory_too(records):
    assert len(select(records["probes"], "probe_memory")) == 2


def test_whitening_is_measured_at_every_size_and_with_the_largest_files(records):
    for name in ("whitening_peak_memory", "whitening_memory_before", "whitening_seconds"):
        found = select(records["whitening_memory"], name, way="stored, a block at a time")
        assert [(r.n, r.keys["rows_per_file"]) for r in found] == [(300, 256), (8_192, 4_096)]


def test_growth_is_timed_against_every_size(records):
    medians = select(records["growth"], "growth_seconds", statistic="median")
    series = {(r.keys["work"], r.keys["against"]) for r in medians}
    assert series == {
        ("features", "images"),
        ("probes", "images"),
        *(("k-means", size) for size in ("points", "clusters", "dimensions")),
    }
    assert all(r.value > 0 for r in medians)


def test_make_runs_every_program_that_needs_no_gpu():
    listed = re.search(r"^BENCHMARKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    programs = {p.stem for p in (ROOT / "benchmarks").glob("*.py") if "def main()" in p.read_text()}
    assert sorted(listed) == sorted(programs - {"gpu"})
    assert listed.index("phases") < listed.index("plan_accuracy")  # which plans by what the first has measured
