"""benchmarks/gpu.py at toy size on the CPU: it runs, resumes, refuses, and sees a kernel that is wrong."""

import importlib
import json
import re
import shutil
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from tiny_images import write_pictures

from dclib.data.layouts import open_images, open_split
from dclib.evaluate.runs import probe_method
from dclib.machine import cpu_name
from dclib.presets import load_preset
from dclib.records import read_records, select

ROOT = Path(__file__).resolve().parent.parent
METHODS = {"random", "rotnet", "deepercluster"}  # of the preset: each is a process of its own
PARTS = {"gpu-correctness.json", "gpu-kmeans.json", "gpu-training.json", "gpu-extraction.json"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def module(monkeypatch):
    """A module of the benchmark by name, imported as the script imports it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project whose results are not this one's, with this one's presets, but for some methods."""
    presets = tmp_path / "project" / "notebooks" / "presets"
    shutil.copytree(ROOT / "notebooks" / "presets", presets)
    whole = yaml.safe_load((presets / "cifar10_gpu.yaml").read_text())
    few = {method: whole["methods"][method] for method in whole["methods"] if method in METHODS}
    (presets / "cifar10_gpu.yaml").write_text(yaml.safe_dump({**whole, "methods": few}, sort_keys=False))
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
    call = ["run", "--images", str(packed), "--work", str(tmp_path / "work"), "--device", "cpu", "--together", "2"]
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
    trained = {path: path.read_bytes() for path in tmp_path.glob("*/jobs/*.log")}
    capsys.readouterr()
    assert module("gpu").main(call) == 0
    elsewhere = ["--work", str(tmp_path / "elsewhere"), "--records", str(tmp_path / "work" / "records.tar")]
    assert module("gpu").main([*call, *elsewhere]) == 0
    said = capsys.readouterr().out
    assert "==" not in said
    assert sum(b"epoch 1/1" in log for log in trained.values()) == len(METHODS) - 1  # one is not trained
    assert {path: path.read_bytes() for path in tmp_path.glob("*/jobs/*.log")} == trained
    assert {path: path.read_bytes() for path in results.rglob("*.json")} == before
    shutil.rmtree(results)
    assert module("gpu").main(["publish", str(tmp_path / "work" / "records.tar")]) == 0
    assert {path: path.read_bytes() for path in results.rglob("*.json")} == before


def test_what_time_leaves_is_said_with_status_75(module, project, packed, tmp_path, capsys):
    call = ["run", "--images", str(packed), "--work", str(tmp_path / "work"), "--device", "cpu", "--budget", "0"]
    assert module("gpu").main(call) == 75
    said = capsys.readouterr().out
    assert "left: correctness; kmeans; training; extraction; cifar10_gpu_toy: random-s0;" in said
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


# many at once

LONG = 60  # epochs of the training that is cut off: seconds
SMALL = """
seeds: [3]
data: {root: data/cifar10, pool: train, objects_train: train, objects_test: test, scenes_train: "", scenes_test: "",
  resize: 32}
model: {image_size: 32, width: 0.0625, hidden_dim: 16, feature_dim: 16, dropout: 0.0}
cluster: {n_sub: 4, pca_dim: 8}
train: {epochs: 1, epoch_images: 32, batch_size: 16, precision: float32}
probe: {epochs: 1, batch_size: 16}
methods:
"""
CHAIN = """
  wrong: {method: rotnet, train: {lr: 1.0e+30}}
  after_wrong: {method: deepercluster, init: wrong}
  second: {method: deepercluster, init: first}
  first: {method: rotnet, train: {epochs: 60}}
"""


@pytest.fixture
def presets(tmp_path, monkeypatch) -> list[Path]:
    """A chain with a training that fails, and one training by itself."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the processes, so that their numbers are this one's
    chain, alone = tmp_path / "chain.yaml", tmp_path / "alone.yaml"
    chain.write_text(SMALL + CHAIN)
    alone.write_text(SMALL + "  supervised:\n")
    return [chain, alone]


class UntilSaid:
    """A deadline that has come when a file holds some words."""

    def __init__(self, path: Path, words: str) -> None:
        self.path, self.words = path, words

    def __gt__(self, now: float) -> bool:
        return not (self.path.exists() and self.words in self.path.read_text())


def test_the_longest_chain_begins_and_what_is_trained_is_probed_first(module, presets, tmp_path):
    together, preset = module("gpu_together"), load_preset(presets[0])
    jobs = {m: together.Job(preset, m, 3, 32, tmp_path / m, "key") for m in preset.methods}
    methods = [job.method for job in together.in_order([*jobs.values()])]
    assert methods == ["first", "wrong", "after_wrong", "second"]  # 61, 2, 1 and 1 epochs
    jobs["first"].mark("trained").write_text("key")
    jobs["after_wrong"].mark("done").write_text("of other code")
    jobs["wrong"].mark("done").write_text("key")
    methods = [job.method for job in together.in_order([*jobs.values()])]
    assert methods == ["first", "after_wrong", "second"]


@pytest.mark.slow
def test_trainings_side_by_side_go_on_after_the_deadline_and_come_home(
    module, project, packed, presets, tmp_path, monkeypatch, capsys
):
    gpu, together, parcels = module("gpu"), module("gpu_together"), module("gpu_parcels")
    work, train, limits = tmp_path / "work", module("gpu_together").train_together, []
    log = work / "jobs" / "chain-first-s3.log"
    monkeypatch.setattr(
        together, "train_together", lambda *given, **how: train(*given[:3], limits.pop() or given[3], **how)
    )
    call = ["run", "--images", str(packed), "--work", str(work), "--device", "cpu", "--size", "full", "--no-measure"]
    call += ["--together", "2", "--presets", *map(str, presets)]
    limits[:] = [UntilSaid(log, "epoch 2/")]
    assert gpu.main(call) == 75
    assert "chain: second-s3; chain: first-s3" in capsys.readouterr().out
    assert "SIGTERM; what was finished is kept" in log.read_text()
    (cut,) = work.glob("runs/chain/runs/first-s3-*/checkpoint.pt")
    parcels.pack_parcels(work, tmp_path / "early", ["chain/first-*"])
    parcels.unpack_parcels([tmp_path / "early-1.tar"], tmp_path / "early")
    assert (tmp_path / "early" / cut.relative_to(work / "runs")).read_bytes() == cut.read_bytes()  # goes on anywhere
    limits[:] = [None]
    assert gpu.main(call) == 75  # for what starts from the one that fails
    said = capsys.readouterr()
    assert "left: chain: after_wrong-s3. Start" in said.out
    assert "chain: wrong-s3 failed:" in said.err
    assert "FloatingPointError: the loss is " in said.err
    # every epoch once, and by its own job
    logs = {path.stem: re.findall(r"^epoch (\d+)/", path.read_text(), re.MULTILINE) for path in work.glob("jobs/*.log")}
    once = {"chain-first-s3": LONG, "chain-second-s3": 1, "alone-supervised-s3": 1, "chain-wrong-s3": 0}
    assert {name: [int(n) for n in found] for name, found in logs.items()} == {
        name: [*range(1, count + 1)] for name, count in once.items()
    }
    # at home: the networks are taken as trained here, and give the same numbers
    # (the one that fails may have left a checkpoint, where the deadline came between its two steps)
    wanted = ["--networks", "chain/first-*", "chain/second-*", "alone/*"]
    assert gpu.main(["parcels", str(tmp_path / "all"), "--work", str(work), *wanted]) == 0
    home = tmp_path / "home"
    assert gpu.main(["home", str(tmp_path / "all-1.tar"), "--runs", str(home)]) == 0
    assert f"{home}: 3 networks" in capsys.readouterr().out
    monkeypatch.setenv("DCLIB_RUNS", str(home))
    for path, method in ((presets[0], "second"), (presets[1], "supervised")):
        record = f"{path.stem}/records/linear_probe/{method}-objects-s3.json"
        (home / record).unlink()
        probe_method(load_preset(path, {"data.root": str(tmp_path / "cifar10")}), method, 3, device="cpu")
        ours, theirs = json.loads((home / record).read_text()), json.loads((work / "runs" / record).read_text())
        assert ours["records"] == theirs["records"]
        trained = f"{path.stem}/records/pretrain/{method}-s3.json"
        assert (home / trained).read_bytes() == (work / "runs" / trained).read_bytes()
    assert "epoch" not in capsys.readouterr().out
    lean = torch.load(home / cut.relative_to(work / "runs"), weights_only=True)
    assert not any(held["state"] for held in lean["state"]["optimisers"].values())


def test_parcels_have_a_size_and_say_what_has_no_room(module, tmp_path):
    parcels, records = module("gpu_parcels"), tmp_path / "work" / "runs" / "p" / "records" / "pretrain"
    records.mkdir(parents=True)
    sizes = (30_000, 70_000, 50_000, 40_000)  # the second alone is too large, the last one for all together
    contents = {f"{i}.json": np.random.default_rng(i).bytes(size) for i, size in enumerate(sizes)}
    for name, content in contents.items():
        (records / name).write_bytes(content)
    said = parcels.pack_parcels(tmp_path / "work", tmp_path / "parcel", [], most_mib=0.1, part_mib=0.06)
    assert [line.split(",")[0][-6:] for line in said if line.startswith("no room for")] == ["1.json", "3.json"]
    paths = sorted(tmp_path.glob("parcel-*.tar"))
    assert len(paths) == 2
    assert all(path.stat().st_size <= 0.06 * 2**20 + tarfile.RECORDSIZE for path in paths)
    parcels.unpack_parcels(paths, tmp_path / "home")
    found = {path.name: path.read_bytes() for path in (tmp_path / "home" / "p").rglob("*.json")}
    assert found == {name: content for name, content in contents.items() if name in ("0.json", "2.json")}
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("runs/../../evil"))
    with pytest.raises(ValueError, match="need files made by 'gpu.py parcels'"):
        parcels.unpack_parcels([tmp_path / "evil.tar"], tmp_path / "home")


def test_named_splits_are_packed_and_a_set_stands_beside_another(module, packed, tmp_path):
    images = module("gpu_images")
    shutil.copy(tmp_path / "cifar10" / "train.tar", tmp_path / "cifar10" / "train-part.tar")
    images.pack(tmp_path / "cifar10", tmp_path / "part.tar.gz", splits=["train-part", "test"])
    root = images.unpack(tmp_path / "part.tar.gz", tmp_path / "out")
    assert sorted(path.name for path in root.iterdir()) == ["test.tar", "train-part.tar"]
    with pytest.raises(ValueError, match="need train-whole in"):
        images.pack(tmp_path / "cifar10", tmp_path / "none.tar.gz", splits=["train-whole"])
    write_pictures(tmp_path / "scene15" / "train", 8)
    write_pictures(tmp_path / "scene15" / "test", 8)
    images.pack(tmp_path / "scene15", tmp_path / "scenes.tar.gz")
    images.unpack(tmp_path / "scenes.tar.gz", tmp_path / "out")
    preset = images.preset_among("cifar10_gpu", root.parent, "full", {"data.scenes_train": "../scene15/train"})
    assert len(open_split(preset.data.root, preset.data.scenes_train)) == 8
    assert images.preset_among("pocket", root.parent, "full", {}).data.root == ""
