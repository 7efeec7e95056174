"""Benchmarks run by one command and record what they say they do; their figures are not looked at here."""

import subprocess
import sys
from pathlib import Path

import pytest

from dclib.records import Record, read_records, select

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "pipeline": "--archives 2 --per-archive 3 --pictures 2 --reads 4 --batch 2 --repeats 2",
    "probes": "--width 0.03125 --size 32 --classes 3 --batch 4 --steps 1 --repeats 1",
    "whitening_memory": "--sizes 300 --width 64",
}


def run(name: str, folder: Path) -> list[Record]:
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *SMALL[name].split(), "--out", folder / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    records = read_records(folder)
    assert {(r.card.stage, r.card.preset) for r in records} == {("benchmark", "benchmarks")}
    return records


def test_the_pipeline_is_measured_beside_the_usual_one(tmp_path):
    records = run("pipeline", tmp_path)
    for photo in ("500 x 375", "1600 x 1200"):
        rates = select(records, "pipeline_images_per_second", photo=photo, statistic="median")
        assert len({r.keys["way"] for r in rates}) == 3
        ratios = select(records, "pipeline_speedup", photo=photo, statistic="median")
        assert len(ratios) == 2
        stages = select(records, "pipeline_stage_time", photo=photo, statistic="median")
        assert len(stages) == 5
        ours = next(r.value for r in rates if r.keys["way"] == "ours")
        # stages, as medians of two repeats each, and the whole: the last stage is what is left over
        assert sum(r.value for r in stages) >= 0.5 * 1000 / ours


def test_probes_are_measured_in_one_pass_and_apart(tmp_path):
    records = run("probes", tmp_path)
    seconds = {r.keys["way"]: r.value for r in select(records, "probe_seconds", statistic="median")}
    assert set(seconds) == {"13 in one pass", "conv13 alone", "13 runs"}
    ratios = {r.keys["over"]: r.value for r in select(records, "probe_time_ratio", statistic="median")}
    assert ratios["conv13 alone"] == pytest.approx(seconds["13 in one pass"] / seconds["conv13 alone"])
    assert len(select(records, "probe_memory")) == 2


def test_whitening_is_measured_at_every_size_and_with_the_largest_files(tmp_path):
    records = run("whitening_memory", tmp_path)
    for name in ("whitening_peak_memory", "whitening_memory_before", "whitening_seconds"):
        assert [(r.n, r.keys["rows_per_file"]) for r in select(records, name)] == [(300, 256), (8_192, 4_096)]
