"""benchmarks/gpu.py at toy size on the CPU: it runs, resumes, refuses, and sees a kernel that is wrong."""

import importlib
import json
import shutil
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny_images import write_pictures

from dclib.data.layouts import open_images
from dclib.machine import cpu_name
from dclib.records import read_records, select

ROOT = Path(__file__).resolve().parent.parent
METHODS = {"random", "rotnet", "deepercluster", "deepercluster_rgb", "deepcluster", "supervised"}
PARTS = {"gpu-correctness.json", "gpu-kmeans.json", "gpu-training.json", "gpu-extraction.json"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def module(monkeypatch):
    """A module of the benchmark by name, imported as the script imports it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project whose results are not this one's, with this one's presets."""
    shutil.copytree(ROOT / "notebooks" / "presets", tmp_path / "project" / "notebooks" / "presets")
    (tmp_path / "project" / "README.md").write_text("")
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path / "project"))
    monkeypatch.setenv("DCLIB_RUNS", "")  # run sets it; so it is put back
    return tmp_path / "project"


@pytest.fixture
def packed(module: ModuleType, tmp_path) -> Path:
    """A set called cifar10, which has a preset: training pictures in a tar, test pictures in a folder."""
    source = tmp_path / "cifar10"
    write_pictures(tmp_path / "train", 48)
    source.mkdir()
    with tarfile.open(source / "train.tar", "w") as archive:
        archive.add(tmp_path / "train", "train")
    write_pictures(source / "test", 24, seed=1)
    assert module("gpu").main(["pack", str(source), str(tmp_path / "packed.tar.gz")]) == 0
    return tmp_path / "packed.tar.gz"


@pytest.mark.slow
def test_everything_runs_is_recorded_and_published_once(module, project, packed, tmp_path, capsys):
    call = ["run", "--images", str(packed), "--work", str(tmp_path / "work"), "--device", "cpu"]
    assert module("gpu").main(call) == 0
    results = project / "results"
    assert {path.name for path in (results / "benchmarks").iterdir()} == PARTS
    found = read_records(results / "benchmarks")
    assert {r.card.device for r in found} == {cpu_name(1)}
    assert all("numbers mean nothing" in r.card.notes["size"] for r in found)
    errors = select(found, "gpu_error")
    assert {r.keys["check"] for r in errors} == set(module("gpu_correctness").CHECKS)
    assert len(errors) == 2 * len(module("gpu_correctness").CHECKS)
    for step in ("training", "extraction"):
        ways = {r.keys["way"] for r in select(found, "gpu_images_per_second", step=step, statistic="median")}
        assert ways == {"plain float32", "float32", "bfloat16"}
    (seconds,) = select(found, "gpu_kmeans_seconds", statistic="median", backend="torch")
    (reached,) = select(found, "gpu_share_of_limit", limit="float32", backend="torch")
    inertia = {r.keys["backend"]: r.value for r in select(found, "gpu_inertia")}
    assert inertia["auto"] == pytest.approx(inertia["torch"], rel=1e-5)  # float32
    (limit,) = [r for r in select(found, "gpu_limit", limit="float32") if r.card.config.get("k")]
    c = seconds.card.config
    products = 2 * c["n"] * c["d"] * c["k"] * (c["iterations"] + 1)
    assert reached.value == pytest.approx(products / seconds.value / limit.value)  # the same numbers, rounded alike
    probed = read_records(results / "cifar10_gpu_toy" / "records" / "linear_probe")
    assert {r.card.method for r in probed} == METHODS
    assert {r.keys["layer"] for r in select(probed, "top1")} == set(range(1, 14))
    # again: nothing is measured anew, here or, from the archive, on another machine
    before = {path: path.read_bytes() for path in results.rglob("*.json")}
    capsys.readouterr()
    assert module("gpu").main(call) == 0
    elsewhere = ["--work", str(tmp_path / "elsewhere"), "--records", str(tmp_path / "work" / "records.tar")]
    assert module("gpu").main([*call, *elsewhere]) == 0
    said = capsys.readouterr().out
    assert "==" not in said
    assert "epoch" not in said
    assert {path: path.read_bytes() for path in results.rglob("*.json")} == before
    shutil.rmtree(results)
    assert module("gpu").main(["publish", str(tmp_path / "work" / "records.tar")]) == 0
    assert {path: path.read_bytes() for path in results.rglob("*.json")} == before


def test_what_time_leaves_is_said_with_status_75(module, project, packed, tmp_path, capsys):
    call = ["run", "--images", str(packed), "--work", str(tmp_path / "work"), "--device", "cpu", "--budget", "0"]
    assert module("gpu").main(call) == 75
    said = capsys.readouterr().out
    assert "left: correctness; kmeans; training; extraction; cifar10_gpu_toy: random;" in said
    assert not (project / "results").exists()


def test_records_of_a_gpu_are_not_replaced_by_a_cpus(module, project, tmp_path, capsys):
    path = project / "results" / "benchmarks" / "gpu-kmeans.json"
    path.parent.mkdir(parents=True)
    card = {"device": "NVIDIA H100", "preset": "benchmarks", "config": {"size": "full"}}
    path.write_text(json.dumps({"card": card, "records": []}))
    assert module("gpu").main(["run", "--work", str(tmp_path / "work"), "--device", "cpu"]) == 1
    assert f"need records of a GPU and of full size to renew {path}" in capsys.readouterr().err
    assert "H100" in path.read_text()


def test_packed_images_come_out_as_they_went_in(module, packed, tmp_path):
    """The fingerprint is of names, sizes and labels; the bytes are compared themselves."""
    root = module("gpu_images").unpack(packed, tmp_path / "out")
    assert root == tmp_path / "out" / "cifar10"
    for split, source in (("train", "train.tar"), ("test", "test")):
        ours, theirs = open_images(root / f"{split}.tar"), open_images(tmp_path / "cifar10" / source)
        assert ours.fingerprint == theirs.fingerprint
        assert all(ours.reader.read(i) == theirs.reader.read(i) for i in theirs.ids)


def test_packing_keeps_some_of_each_class_and_refuses_a_large_file(module, packed, tmp_path):
    images = module("gpu_images")
    images.pack(tmp_path / "cifar10", tmp_path / "few.tar.gz", images=8)
    root = images.unpack(tmp_path / "few.tar.gz", tmp_path / "few")
    assert np.bincount(open_images(root / "train.tar").labels).tolist() == [2, 2, 2, 2]
    with pytest.raises(ValueError, match=r"need at most 0.01 MiB, got .*; keep fewer images"):
        images.pack(tmp_path / "cifar10", tmp_path / "large.tar.gz", most_mib=0.01)
    assert not (tmp_path / "large.tar.gz").exists()
    with pytest.raises(ValueError, match="need train and test or val in"):
        images.pack(tmp_path / "train", tmp_path / "none.tar.gz")
    with pytest.raises(ValueError, match="need a file made by 'gpu.py pack'"):
        images.unpack(tmp_path / "cifar10" / "train.tar", tmp_path / "out")


def test_a_device_that_computes_something_else_is_told(module, tmp_path, monkeypatch):
    """An M step that loses one point of each cluster on the device alone."""
    checks = module("gpu_correctness")
    right, calls = checks.update_centroids, []

    def wrong(points, owners, middles):
        calls.append(points.dtype)
        return right(points[1:], owners[1:], middles) if len(calls) == 3 else right(points, owners, middles)

    monkeypatch.setattr(checks, "update_centroids", wrong)
    setting = module("gpu_records").Setting(torch.device("cpu"), "toy", tmp_path)
    records, _, _ = checks.measure(setting)
    assert [line.split(":")[0] for line in checks.failures(records)] == ["k-means, M step on device"]
    assert calls == [torch.float64, torch.float32, torch.float32]


def test_missing_packages_are_named_in_a_sentence(module, monkeypatch, capsys):
    gpu = module("gpu")
    monkeypatch.setitem(gpu.NEEDED, "no_such_module", "no-such-wheel")
    assert gpu.main(["run"]) == 2
    assert "need no-such-wheel, and this Python has none: bring the wheels" in capsys.readouterr().err
