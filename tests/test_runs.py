"""From a preset to records: every method once on tiny pictures, what is written, and what is not done twice."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from tiny_images import Interruption, draw_shape, interrupt_at, write_pictures

from dclib.cluster.pseudo_labels import cluster_features
from dclib.config import Preset, TrainConfig, config_hash
from dclib.data.contents import content_hash
from dclib.data.layouts import open_images
from dclib.data.samplers import images_shown, plan_epoch
from dclib.evaluate import runs as probe_runs
from dclib.evaluate.runs import probe_method
from dclib.machine import cpu_model
from dclib.models.vgg import Trunk
from dclib.presets import parse_preset
from dclib.randomness import generator
from dclib.records import Record, read_records, select
from dclib.train import pretrain as loop
from dclib.train import runs as train_runs
from dclib.train.features import extract_features
from dclib.train.runs import prepare_data, pretrain_method

METHODS = ("random", "rotnet", "deepcluster", "deepercluster", "supervised", "deepercluster_hierarchy")
TASKS = {method: method.split("_")[0] for method in METHODS}
N_POOL, N_TRAIN, N_TEST = 40, 32, 16
SIZES = {"smallest_cluster", "median_cluster", "largest_cluster"}
AGREEMENTS = {"nmi_labels", "ami_labels"}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_pictures(root / "pool", N_POOL, seed=0)
    write_pictures(root / "objects" / "train", N_TRAIN, seed=1)
    write_pictures(root / "objects" / "val", N_TEST, seed=2)
    return root


def tiny_preset(root: Path, **changes: object) -> Preset:
    """Two epochs of two batches for every method; ``changes`` are whole sections or dotted keys."""
    raw: dict[str, object] = {
        "seeds": [0],
        "data": {"root": str(root), "scenes_train": "", "scenes_test": "", "resize": 36},
        "model": {"image_size": 32, "width": 1 / 16, "hidden_dim": 16, "feature_dim": 16, "dropout": 0.0},
        "cluster": {"n_sub": 4, "pca_dim": 8, "n_iter": 2},
        "train": {"epochs": 2, "epoch_images": 32, "batch_size": 16, "lr": 0.05, "crop_area": 0.5},
        "probe": {"epochs": 2, "batch_size": 16, "augment": False},
        "methods": {
            **dict.fromkeys(METHODS[:5], None),
            METHODS[5]: {"method": "deepercluster", "init": "rotnet", "cluster": {"n_super": 2, "n_sub": 2}},
        },
    }
    for key, value in changes.items():
        section, _, leaf = key.partition("__")
        raw[section] = {**raw[section], leaf: value} if leaf else value
    return parse_preset("tiny", raw)


@pytest.fixture(scope="module")
def done(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder in which everything has been trained and probed."""
    folder = tmp_path_factory.mktemp("runs")
    preset = tiny_preset(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCLIB_RUNS", str(folder))
        for method in reversed(METHODS):  # the hierarchy first, so that it has to ask for its RotNet
            probe_method(preset, method, 0)
    return folder


@pytest.fixture
def runs(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, to be changed."""
    shutil.copytree(done, tmp_path / "runs")
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder with nothing in it."""
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "fresh"))
    return tmp_path / "fresh"


def files(folder: Path) -> dict[str, tuple[int, int]]:
    found = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_ino) for p in found}


def records_of(folder: Path, method: str, stage: str) -> list[Record]:
    return [r for r in read_records(folder / "tiny" / "records") if (r.card.method, r.card.stage) == (method, stage)]


def values_of(records: list[Record]) -> dict[tuple[object, ...], float]:
    """Values by name and keys, readings of the clock aside."""
    timings = ("images_per_second", "data_wait", "pretrain_seconds")
    return {(r.name, *sorted(r.keys.items())): r.value for r in records if r.name not in timings}


def forbid_work(monkeypatch) -> None:
    monkeypatch.setattr(loop, "train_step", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(probe_runs, "linear_probe", lambda *_, **__: pytest.fail("probed again"))


# --- what is written


def test_one_file_for_each_method_and_stage(done):
    names = sorted(str(p.relative_to(done / "tiny" / "records")) for p in (done / "tiny" / "records").rglob("*.json"))
    expected = [f"linear_probe/{m}-objects-s0.json" for m in METHODS] + [f"pretrain/{m}-s0.json" for m in METHODS]
    assert names == sorted(expected)


@pytest.mark.parametrize("method", METHODS)
def test_pretraining_records_are_those_of_the_method(done, method):
    records, task = records_of(done, method, "pretrain"), TASKS[method]
    asked = {
        "random": set(),
        "rotnet": {"turn"},
        "deepcluster": {"sub"},
        "deepercluster": {"turn", "sub"},
        "supervised": {"train"},
    }[task]
    per_epoch = set() if task == "random" else {"loss", "chance_loss", "lr", "images_per_second", "data_wait"}
    asked |= {"super"} if method == "deepercluster_hierarchy" else set()  # more than one super-cluster
    per_epoch |= {f"{name}_{what}" for name in asked for what in ("accuracy", "chance")}
    per_clustering = set()
    if "cluster" in task:
        per_clustering = {"empty_clusters", "inertia", "explained_variance", "effective_rank"} | SIZES | AGREEMENTS
    found = {(r.name, *sorted(r.keys.items())) for r in records}
    expected = {(name, ("epoch", e)) for name in per_epoch for e in (1, 2)}
    expected |= {(name, ("assignment", a), ("epoch", a)) for name in per_clustering for a in (0, 1)}
    expected |= {("nmi_previous", ("assignment", 1), ("epoch", 1))} if per_clustering else set()
    expected |= {("final_nmi_labels",), ("final_ami_labels",), ("pretrain_seconds",)}
    assert found == expected
    assert len(records) == len(found)


def test_units_are_the_fields(done):
    units = {r.name: r.unit for r in read_records(done / "tiny" / "records")}
    assert units == {
        **dict.fromkeys(("loss", "chance_loss"), "nats"),
        **{f"{task}_{what}": "%" for task in ("turn", "super", "sub", "train") for what in ("accuracy", "chance")},
        **dict.fromkeys(("top1", "train_top1"), "%"),
        **dict.fromkeys(("nmi_previous", "final_nmi_labels", "final_ami_labels", *AGREEMENTS), "1"),
        **dict.fromkeys(("lr", "inertia", "explained_variance", "effective_rank"), "1"),
        **dict.fromkeys(SIZES, "images"),
        "empty_clusters": "clusters",
        "images_per_second": "images/s",
        **dict.fromkeys(("data_wait", "pretrain_seconds"), "s"),
    }


@pytest.mark.parametrize("method", METHODS)
def test_probe_records_are_thirteen_layers_on_the_sets_there_are(done, method):
    records = records_of(done, method, "linear_probe")
    expected = {
        (name, ("dataset", "objects"), ("layer", layer)) for name in ("top1", "train_top1") for layer in range(1, 14)
    }
    assert {(r.name, *sorted(r.keys.items())) for r in records} == expected
    assert len(records) == len(expected)
    assert {r.name: r.n for r in records} == {"top1": N_TEST, "train_top1": N_TRAIN}
    assert all(0 <= r.value <= 100 for r in records)
    # a share of whole images
    for r in records:
        assert r.value * r.n / 100 == pytest.approx(round(r.value * r.n / 100), abs=1e-3)


@pytest.mark.parametrize("stage", ["pretrain", "linear_probe"])
def test_run_card_tells_where_the_numbers_come_from(done, world, stage):
    for method in METHODS:
        card = records_of(done, method, stage)[0].card
        assert (card.preset, card.method, card.seed) == ("tiny", method, 0)
        assert card.device == f"{cpu_model()} (1 thread, float32)"
        assert card.config["method"] == TASKS[method]
        assert card.seconds >= 0
        assert card.notes["unreadable"] == 0
        if stage == "pretrain":
            supervised = method == "supervised"
            assert card.notes["images"] == (N_TRAIN if supervised else N_POOL)
            pictures = world / ("objects/train" if supervised else "pool")
            images = open_images(pictures)
            assert card.data_hash == config_hash(images.fingerprint, content_hash(images))
            assert ("kmeans_backend" in card.notes) == ("cluster" in method)
    hashes = [records_of(done, method, stage)[0].card.config_hash for method in METHODS]
    assert len(set(hashes)) == len(METHODS)


def test_history_is_what_the_records_say(done):
    checkpoint = next((done / "tiny" / "runs").glob("deepcluster-s0-*/checkpoint.pt"))
    history = torch.load(checkpoint, weights_only=True)["state"]["history"]
    records = records_of(done, "deepcluster", "pretrain")
    for row in history:
        where = {key: row[key] for key in ("epoch", "assignment") if key in row}
        for name in row.keys() - where.keys():
            (record,) = [r for r in select(records, name) if r.keys == where]
            assert record.value == row[name]


def test_final_agreement_is_that_of_one_clustering_for_all_methods(runs, world, monkeypatch):
    """n_sub = 4 at one level: that of the method with the fewest super-clusters, also for the one with two levels."""
    preset = tiny_preset(world)
    forbid_work(monkeypatch)
    cluster = preset.methods["deepcluster"].cluster
    for method in ("random", "deepercluster_hierarchy", "supervised"):
        trunk = pretrain_method(preset, method, 0)
        pool = prepare_data(preset).pool
        pixels = train_runs.load_pixels(pool, preset.data, 32)
        clustering = cluster_features(extract_features(trunk, pixels).values, cluster, generator(0, "final clustering"))
        expected = normalized_mutual_info_score(pool.labels, clustering.labels.clusters)
        (record,) = select(records_of(runs, method, "pretrain"), "final_nmi_labels")
        assert (record.value, record.n) == (pytest.approx(expected), N_POOL)
        kept = np.load(runs / "tiny" / "pictures" / f"assignments-{method}-s0.npy")
        assert kept.dtype == np.int16
        assert kept.tolist() == clustering.labels.clusters.tolist()


def test_clusters_are_pictured_by_members(done, world):
    pool = open_images(world / "pool")
    folder = done / "tiny" / "pictures"
    assert sorted(p.name for p in folder.glob("clusters-*")) == sorted(
        f"clusters-{m}-s0.json" for m in METHODS if "cluster" in m
    )
    for method in ("deepcluster", "deepercluster_hierarchy"):
        checkpoint = next((done / "tiny" / "runs").glob(f"{method}-s0-*/checkpoint.pt"))
        labels = torch.load(checkpoint, weights_only=True)["state"]["task"]
        n_sub = 4 if method == "deepcluster" else 2
        cluster_of = dict(zip(pool.ids, (labels["super_cluster"] * n_sub + labels["sub_class"]).tolist(), strict=True))
        sizes = np.bincount(list(cluster_of.values()))
        pictured = json.loads((folder / f"clusters-{method}-s0.json").read_text())["clusters"]
        assert {c["cluster"] for c in pictured} == {c for c, size in enumerate(sizes) if size >= 9}
        for entry in pictured:
            assert entry["size"] == sizes[entry["cluster"]]
            assert len(set(entry["images"])) == 9
            assert {cluster_of[i] for i in entry["images"]} == {entry["cluster"]}


def test_a_part_of_the_pool_is_drawn_once(runs, world):
    whole = prepare_data(tiny_preset(world)).pool
    parts = [prepare_data(tiny_preset(world, data__pool_images=11)).pool for _ in range(2)]
    assert list(parts[0].ids) == list(parts[1].ids)
    assert len(set(parts[0].ids)) == 11
    places = [list(whole.ids).index(name) for name in parts[0].ids]
    assert places == sorted(places)
    assert places != list(range(11))
    assert len(prepare_data(tiny_preset(world, data__pool_images=10**6)).pool) == len(whole)


# --- where the weights come from


def test_random_is_the_network_as_it_was_drawn(runs, world):
    preset = tiny_preset(world)
    trunk = pretrain_method(preset, "random", 0)
    drawn = Trunk(preset.methods["random"].model, generator(0, "trunk")).state_dict()
    assert all(torch.equal(tensor, drawn[name]) for name, tensor in trunk.state_dict().items())
    assert not trunk.training
    assert not list((runs / "tiny" / "runs").glob("random-*"))  # nothing to go on from


def test_method_with_init_starts_from_that_methods_weights(fresh, world, monkeypatch):
    preset, given = tiny_preset(world), {}
    pretrain = train_runs.pretrain

    def watched(pixels, config, *, initial, **options):
        given[config.cluster.n_super, config.method] = initial
        return pretrain(pixels, config, initial=initial, **options)

    monkeypatch.setattr(train_runs, "pretrain", watched)
    pretrain_method(preset, "deepercluster_hierarchy", 0)
    assert list(given) == [(1, "rotnet"), (2, "deepercluster")]
    assert given[1, "rotnet"] is None
    assert records_of(fresh, "rotnet", "pretrain")  # it has records of its own
    rotnet = pretrain_method(preset, "rotnet", 0).state_dict()
    start = given[2, "deepercluster"].state_dict()
    assert all(torch.equal(tensor, rotnet[name]) for name, tensor in start.items())


# --- nothing is done twice, and nothing stale is kept


def test_second_call_does_and_writes_nothing(runs, world, monkeypatch):
    before = files(runs)
    forbid_work(monkeypatch)
    for method in METHODS:
        pretrain_method(tiny_preset(world), method, 0)
        probe_method(tiny_preset(world), method, 0)
    assert files(runs) == before


def test_seeds_have_files_and_numbers_of_their_own(runs, world):
    before = files(runs)
    pretrain_method(tiny_preset(world), "rotnet", 1)
    after = files(runs)
    assert {name: after[name] for name in before} == before
    assert any("rotnet-s1" in name for name in after)
    records = select(records_of(runs, "rotnet", "pretrain"), "loss", epoch=1)
    assert len({r.value for r in records}) == len(records) == 2


def test_killed_run_ends_with_the_same_records(fresh, done, world, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupt_at(3, loop.train_step))
        with pytest.raises(Interruption):
            pretrain_method(tiny_preset(world), "deepercluster", 0)
    assert not (fresh / "tiny" / "records").exists()
    pretrain_method(tiny_preset(world), "deepercluster", 0)
    expected = values_of(records_of(done, "deepercluster", "pretrain"))
    assert values_of(records_of(fresh, "deepercluster", "pretrain")) == expected


def test_lost_records_are_written_again_from_the_finished_run(runs, world, monkeypatch):
    path = runs / "tiny" / "records" / "pretrain" / "deepcluster-s0.json"
    before = values_of(records_of(runs, "deepcluster", "pretrain"))
    path.unlink()
    forbid_work(monkeypatch)
    pretrain_method(tiny_preset(world), "deepcluster", 0)
    assert values_of(records_of(runs, "deepcluster", "pretrain")) == before


@pytest.mark.parametrize(
    "change",
    [
        {"train__lr": 0.06},
        {"model__dropout": 0.1},
        {"data__resize": 40},  # other pixels
        {"data__memory_gb": 0.0},  # crops cut from the full images instead of the kept ones
    ],
)
def test_what_changes_the_numbers_changes_the_records(runs, world, change):
    """Trained anew in a folder of its own, and what was recorded of the other settings is replaced."""
    before = values_of(records_of(runs, "rotnet", "pretrain"))
    pretrain_method(tiny_preset(world, **change), "rotnet", 0)
    assert len(list((runs / "tiny" / "runs").glob("rotnet-s0-*"))) == 2
    after = values_of(records_of(runs, "rotnet", "pretrain"))
    assert after["loss", ("epoch", 2)] != before["loss", ("epoch", 2)]


def test_final_agreement_follows_the_clustering_it_is_made_with(runs, world):
    """RotNet has no clusters of its own: six clusters instead of four come from the other methods' settings."""
    methods = {"rotnet": None, "deepcluster": {"cluster": {"n_sub": 6}}}
    before = records_of(runs, "rotnet", "pretrain")
    pretrain_method(tiny_preset(world, methods=methods), "rotnet", 0)
    after = records_of(runs, "rotnet", "pretrain")
    name = "final_nmi_labels"
    assert select(after, name)[0].value != select(before, name)[0].value
    assert select(after, "loss", epoch=2)[0].value == select(before, "loss", epoch=2)[0].value


def test_final_agreement_follows_the_pool(runs, world, tmp_path):
    """The supervised reference trains on the objects, and its features are clustered on the pool."""
    shutil.copytree(world, tmp_path / "world")
    shutil.rmtree(tmp_path / "world" / "pool" / "disc")
    pretrain_method(tiny_preset(tmp_path / "world"), "supervised", 0)
    (record,) = select(records_of(runs, "supervised", "pretrain"), "final_nmi_labels")
    assert record.n == 3 * N_POOL // 4


@pytest.mark.parametrize("change", [{"probe__epochs": 3}, {"probe__train_images": 16}])
def test_probe_settings_renew_the_probes_alone(runs, world, monkeypatch, change):
    monkeypatch.setattr(loop, "train_step", lambda *_: pytest.fail("trained again"))
    before = files(runs / "tiny")
    probe_method(tiny_preset(world, **change), "rotnet", 0)
    after = files(runs / "tiny")
    assert [n for n in after if after[n] != before.get(n)] == ["records/linear_probe/rotnet-objects-s0.json"]
    records = select(records_of(runs, "rotnet", "linear_probe"), "train_top1")
    assert {r.n for r in records} == {change.get("probe__train_images", N_TRAIN)}


def test_probes_follow_the_pixels_they_are_made_on(runs, world):
    before = records_of(runs, "random", "linear_probe")[0].card
    probe_method(tiny_preset(world, data__resize=44), "random", 0)
    after = records_of(runs, "random", "linear_probe")[0].card
    assert after.config_hash != before.config_hash
    assert after.created >= before.created


def test_both_halves_are_probed_where_both_are_there(fresh, world, tmp_path):
    """The scenes have two classes; learning rates differ between the halves."""
    shutil.copytree(world, tmp_path / "world")
    write_pictures(tmp_path / "world" / "scenes" / "train", 20, classes=("cross", "fence"), seed=3)
    write_pictures(tmp_path / "world" / "scenes" / "val", 12, classes=("cross", "fence"), seed=4)
    preset = tiny_preset(tmp_path / "world", data__scenes_train="scenes/train", data__scenes_test="scenes/val")
    rates = []
    with pytest.MonkeyPatch.context() as patch:
        linear_probe = probe_runs.linear_probe
        patch.setattr(
            probe_runs, "linear_probe", lambda *a, **o: (rates.append(o["learning_rates"]), linear_probe(*a, **o))[1]
        )
        probe_method(preset, "random", 0)
    records = records_of(fresh, "random", "linear_probe")
    n = {(r.name, r.keys["dataset"]): r.n for r in records}
    assert n == {
        ("top1", "objects"): N_TEST,
        ("train_top1", "objects"): N_TRAIN,
        ("top1", "scenes"): 12,
        ("train_top1", "scenes"): 20,
    }
    assert len({r.card.config_hash for r in records}) == 1  # one network and one way to probe it
    assert len({r.card.data_hash for r in records}) == 2
    assert [(r[0], r[2], r[9]) for r in rates] == [(0.005, 0.03, 0.03), (0.003, 0.01, 0.03)]


def test_pool_without_labels_has_no_agreement_with_them(fresh, tmp_path):
    write_pictures(tmp_path / "world" / "pool", 24, flat=True)
    preset = tiny_preset(tmp_path / "world", data__objects_train="", data__objects_test="")
    for method in ("random", "deepcluster"):
        probe_method(preset, method, 0)  # nothing to probe: neither half is there
        pretrain_method(preset, method, 0)
    assert not (fresh / "tiny" / "records" / "linear_probe").exists()
    names = {r.name for r in read_records(fresh / "tiny" / "records")}
    assert not {name for name in names if name.endswith("_labels")}
    assert {"loss", "inertia", "nmi_previous", "pretrain_seconds"} <= names


# --- what is refused


def test_a_training_that_begins_anew_says_why_and_how_long_it_took(fresh, tmp_path, capsys):
    """One photograph deleted, then probed: the network is another, and that is said before it is trained."""
    for part in ("pool", "objects/train", "objects/val"):
        write_pictures(tmp_path / part, 16)
    preset = tiny_preset(tmp_path)
    pretrain_method(preset, "rotnet", 0)
    assert "anew" not in capsys.readouterr().out
    pretrain_method(preset, "rotnet", 0)
    assert "anew" not in capsys.readouterr().out
    (record,) = tmp_path.rglob("records/pretrain/rotnet-s0.json")
    content = json.loads(record.read_text())
    content["card"]["seconds"] = 34.0  # so small a network may take none
    record.write_text(json.dumps(content))
    (tmp_path / "pool" / "disc" / "001.png").unlink()
    probe_method(preset, "rotnet", 0)
    said = capsys.readouterr().out.splitlines()
    (line,) = (line for line in said if "anew" in line)
    assert (
        "rotnet, seed 0: trains anew from the start, for the images are not those of the last run (16 then, 15 now)"
        in line
    )
    assert re.search(r"; it took 34 s then\. What was trained before is kept in .*rotnet-s0-", line)
    assert said.index(line) < min(i for i, text in enumerate(said) if "epoch" in text)
    picture = sorted((tmp_path / "pool" / "disc").glob("*.png"))[0]
    content = picture.read_bytes()
    draw_shape("wedge", np.random.default_rng(9)).resize((8, 8)).save(picture)  # smaller, so it can be filled up
    picture.write_bytes(picture.read_bytes().ljust(len(content), b"\0"))
    assert len(picture.read_bytes()) == len(content)
    pretrain_method(preset, "rotnet", 0)
    assert "for the images are not those of the last run, though as many" in capsys.readouterr().out


@pytest.mark.parametrize("call", [pretrain_method, probe_method])
def test_unknown_method_is_refused_before_the_data_are_made(fresh, monkeypatch, call):
    monkeypatch.setattr(train_runs, "draw_pocket_world", lambda *_, **__: pytest.fail("drew the pocket world"))
    with pytest.raises(ValueError, match="unknown method 'rotnett' in preset 'tiny'; it has random, rotnet, deepc"):
        call(tiny_preset(Path("."), data={}), "rotnett", 0)
    assert not fresh.exists()


def test_supervised_reference_without_labelled_images_is_refused(fresh, world):
    preset = tiny_preset(world, data__objects_train="", data__objects_test="")
    said = "'supervised' cannot be trained: there are no images for data.objects_train.*leave the method out"
    with pytest.raises(ValueError, match=said):
        pretrain_method(preset, "supervised", 0)


@pytest.mark.parametrize("leaf", ["pool", "objects_train"])
def test_missing_set_is_named_with_its_setting(fresh, world, leaf):
    with pytest.raises(ValueError, match=f"data.{leaf}: looked in .* for nowhere, nowhere.tar"):
        pretrain_method(tiny_preset(world, **{f"data__{leaf}": "nowhere"}), "rotnet", 0)


def test_probe_of_a_set_without_classes_is_left_out_before_training(fresh, world, tmp_path, monkeypatch, capsys):
    shutil.copytree(world, tmp_path / "world")
    shutil.rmtree(tmp_path / "world" / "objects" / "val")
    write_pictures(tmp_path / "world" / "objects" / "val", 8, flat=True)
    forbid_work(monkeypatch)
    probe_method(tiny_preset(tmp_path / "world"), "rotnet", 0)
    assert "no probes on objects: val has no class folders: give one sub-folder" in capsys.readouterr().out
    assert not list(fresh.rglob("linear_probe/*"))


def test_too_many_clusters_are_found_before_the_network_to_start_from_is_trained(fresh, world, monkeypatch):
    forbid_work(monkeypatch)
    methods = {
        "rotnet": None,
        "two": {"method": "deepercluster", "init": "rotnet", "cluster": {"n_super": 2, "n_sub": 21}},
    }
    with pytest.raises(ValueError, match="2 x 21 = 42 clusters for 40 images"):
        pretrain_method(tiny_preset(world, methods=methods), "two", 0)


def test_methods_that_start_from_each_other_are_refused(world):
    methods = {"rotnet": {"init": "deepcluster"}, "deepcluster": {"init": "rotnet"}}
    with pytest.raises(ValueError, match="init"):
        tiny_preset(world, methods=methods)


def test_start_from_another_network_is_found_before_it_is_trained(fresh, world, monkeypatch):
    forbid_work(monkeypatch)
    methods = {"rotnet": {"model": {"stem": "rgb"}}, "deepercluster": {"init": "rotnet"}}
    with pytest.raises(ValueError, match="model"):
        pretrain_method(tiny_preset(world, methods=methods), "deepercluster", 0)


@pytest.mark.parametrize(("epoch_images", "batch_size", "n"), [(0, 8, 40), (100, 16, 40), (3, 16, 40), (0, 64, 1000)])
def test_an_epochs_records_count_the_images_it_showed(epoch_images, batch_size, n):
    train = TrainConfig(epoch_images=epoch_images, batch_size=batch_size)
    zeros = torch.zeros(n, dtype=torch.int64)
    plan = plan_epoch(
        zeros, zeros, n_super=1, n_turns=4, epoch_images=epoch_images or n, batch_size=batch_size, seed=0, epoch=0
    )
    assert images_shown(train.epoch_images or n, train.batch_size) == len(plan.index)
