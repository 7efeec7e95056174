"""Settings: types and ranges, precedence of presets, recipes and overrides, hashes, and the messages."""

import dataclasses
import os
import subprocess
import sys

import pytest

from dclib.config import (
    RECIPES,
    ClusterConfig,
    DataConfig,
    MethodConfig,
    ModelConfig,
    ProbeConfig,
    TrainConfig,
    config_hash,
)
from dclib.presets import load_preset, parse_preset, preset_folder, project_root, runs_folder


def write(tmp_path, text: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def parse(**sections):
    return parse_preset("mine", {"methods": {"rotnet": None}, **sections})


# --- the supplement


# section 5: batch, learning rate, weight decay, dropout, clusters in all, PCA dimension, epochs between clusterings;
# deepcluster_yfcc1m is the name in Table 3 of what section 5 calls DeeperCluster YFCC100M 1.3M images
SUPPLEMENT = {
    "rotnet_yfcc100m": (512, 0.05, 0.00001, 0.3, None, None, None),
    "rotnet_imagenet": (512, 0.05, 0.00001, 0.3, None, None, None),
    "deepercluster_yfcc1m": (256, 0.05, 0.00001, 0.5, 10_000, 256, 2),
    "deepcluster_yfcc1m": (256, 0.05, 0.00001, 0.5, 10_000, 256, 2),
    "deepercluster_yfcc100m": (3072, 0.1, 0.00001, 0.5, 320_000, 4096, 3),
    "deepercluster_imagenet": (748, 0.1, 0.00001, 0.5, 10_000, 4096, 5),
}


def test_there_are_section_5s_five_recipes_and_table_3s():
    assert set(RECIPES) == set(SUPPLEMENT)


@pytest.mark.parametrize("name", SUPPLEMENT)
def test_recipes_are_those_of_the_supplement(name):
    batch, lr, decay, dropout, clusters, pca_dim, every = SUPPLEMENT[name]
    recipe = RECIPES[name]
    assert recipe.train.batch_size == batch
    assert recipe.train.lr == lr
    assert recipe.train.weight_decay == decay
    assert recipe.train.momentum == 0.9
    assert recipe.train.decay_from == 1  # no schedule
    assert recipe.model.dropout == dropout
    assert (recipe.model.image_size, recipe.model.width) == (224, 1)
    assert (recipe.model.hidden_dim, recipe.model.feature_dim) == (4096, 4096)
    assert recipe.n_turns == (1 if name.startswith("deepcluster") else 4)
    assert recipe.clusters == (clusters is not None)
    assert recipe.model.stem == ("sobel" if recipe.clusters else "rgb")
    if recipe.clusters:
        assert recipe.cluster.n_clusters == clusters
        assert (recipe.cluster.pca_dim, recipe.cluster.reassign_every) == (pca_dim, every)


def test_the_large_recipe_has_four_clusterings_of_80000():
    cluster = RECIPES["deepercluster_yfcc100m"].cluster
    assert (cluster.n_super, cluster.n_sub) == (4, 80_000)
    assert {name: r.cluster.n_super for name, r in RECIPES.items() if r.clusters} == {
        "deepercluster_yfcc1m": 1,
        "deepcluster_yfcc1m": 1,
        "deepercluster_yfcc100m": 4,
        "deepercluster_imagenet": 1,
    }


@pytest.mark.parametrize(
    ("method", "turns", "clusters"),
    [
        ("random", 1, False),
        ("rotnet", 4, False),
        ("deepcluster", 1, True),
        ("deepercluster", 4, True),
        ("supervised", 1, False),
    ],
)
def test_methods_differ_by_turns_and_clusters(method, turns, clusters):
    config = MethodConfig(method=method)
    assert (config.n_turns, config.clusters) == (turns, clusters)


# --- keys and types


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"trian": {}}, r"unknown key 'trian' in preset 'mine'; did you mean 'train'\?"),
        ({"train": {"lrr": 0.1}}, r"unknown key 'lrr' in train; did you mean 'lr'\?"),
        ({"data": {"zzz": 1}}, r"unknown key 'zzz' in data; known: root, "),
        ({"methods": {"rotnet": {"trian": {}}}}, r"unknown key 'trian' in methods.rotnet; did you mean 'train'\?"),
        ({"methods": {"rotnet": {"train": {"lrr": 1}}}}, r"unknown key 'lrr' in methods.rotnet.train"),
        ({"methods": {"rotnett": None}}, r"methods.rotnett: unknown method 'rotnett'; use one of random, rotnet"),
        ({"methods": {"rotnet": {"recipe": "x"}}}, r"methods.rotnet.recipe must be one of rotnet_yfcc100m.*got 'x'"),
        ({"methods": {}}, "at least one entry under 'methods'"),
        ({"methods": ["rotnet"]}, "methods must be a mapping"),
        ({"methods": {"rotnet": 3}}, "methods.rotnet must be a mapping of settings; got 3"),
        ({"methods": {"rotnet": {"train": 3}}}, "methods.rotnet.train must be a mapping of settings; got 3"),
        ({"train": 3}, "train must be a mapping of settings; got 3"),
        ({"data": [1]}, r"data must be a mapping of settings; got \[1\]"),
        ({"train": {"epochs": 2.5}}, "train.epochs must be int; got 2.5"),
        ({"train": {"epochs": True}}, "train.epochs must be int; got True"),
        ({"train": {"lr": "1e-3"}}, r"train.lr must be float; got '1e-3' \(YAML reads 1e-3 as text: write 1.0e-3\)"),
        ({"probe": {"augment": 1}}, "probe.augment must be bool; got 1"),
        ({"model": {"stem": "grey"}}, "model.stem must be one of sobel, rgb, folded; got 'grey'"),
        ({"train": {"sub_head_gradient": None}}, "must be one of group_mean, global_mean; got None"),
        ({"seeds": []}, r"seeds must be a list of integers >= 0; got \[\]"),
        ({"seeds": 3}, "seeds must be a list"),
        ({"seeds": [0, -1]}, "seeds must be a list"),
        ({"seeds": [True]}, "seeds must be a list"),
    ],
)
def test_a_faulty_preset_is_refused_with_its_place(sections, message):
    with pytest.raises(ValueError, match=message):
        parse(**sections)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(image_size=29), "image_size >= 30"),
        (lambda: ModelConfig(width=0.0), "width > 0; got 0.0"),
        (lambda: ModelConfig(feature_dim=0), "feature_dim >= 1"),
        (lambda: ModelConfig(dropout=1.0), "dropout in"),
        (lambda: ClusterConfig(n_super=0), "n_super >= 1; got 0"),
        (lambda: ClusterConfig(n_sub=1), "n_sub >= 2; got 1"),
        (lambda: ClusterConfig(pca_dim=0), "pca_dim >= 1"),
        (lambda: ClusterConfig(n_iter=0), "n_iter >= 1"),
        (lambda: ClusterConfig(reassign_every=0), "reassign_every >= 1 epoch"),
        (lambda: ClusterConfig(reassign_until=0.0), "reassign_until in"),
        (lambda: TrainConfig(epochs=0), "epochs >= 1"),
        (lambda: TrainConfig(epoch_images=-1), "epoch_images >= 0"),
        (lambda: TrainConfig(batch_size=1), "batch_size >= 2"),
        (lambda: TrainConfig(lr=0.0), "lr > 0"),
        (lambda: TrainConfig(lr=float("nan")), "lr > 0"),
        (lambda: TrainConfig(lr=float("inf")), "lr > 0 and finite"),
        (lambda: TrainConfig(momentum=-0.1), "momentum in"),
        (lambda: TrainConfig(momentum=1.0), "momentum in"),
        (lambda: TrainConfig(weight_decay=-1e-5), "weight_decay >= 0"),
        (lambda: TrainConfig(weight_decay=float("nan")), "weight_decay >= 0"),
        (lambda: TrainConfig(crop_area=0.0), "crop_area in"),
        (lambda: TrainConfig(decay_from=1.1), "decay_from in"),
        (lambda: TrainConfig(final_lr=-0.1), "final_lr in"),
        (lambda: DataConfig(max_unreadable=1.0), "max_unreadable in"),
        (lambda: DataConfig(pocket_images=99), "pocket_images >= 100"),
        (lambda: DataConfig(memory_gb=-1.0), "memory_gb >= 0"),
        (lambda: DataConfig(workers=-1), "workers >= 0"),
        (lambda: ProbeConfig(epochs=0), "epochs >= 1"),
        (lambda: ProbeConfig(batch_size=0), "batch_size >= 1"),
        (lambda: ProbeConfig(lr_scale=0.0), "lr_scale > 0"),
        (lambda: ProbeConfig(train_images=-1), "train_images and test_images >= 0"),
        (lambda: MethodConfig(method="deepcluster", cluster=ClusterConfig(n_super=2)), "n_super = 1 for deepcluster"),
    ],
)
def test_values_out_of_range_are_refused_with_what_was_needed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_range_error_in_a_preset_names_its_section():
    with pytest.raises(ValueError, match="train: need epochs >= 1; got 0"):
        parse(train={"epochs": 0})
    with pytest.raises(ValueError, match=r"methods\.deepcluster: need n_super = 1"):
        parse(methods={"deepcluster": {"cluster": {"n_super": 2}}})


def test_whole_numbers_are_widened_where_a_float_is_meant():
    lr = parse(train={"lr": 1}).methods["rotnet"].train.lr
    assert lr == 1.0
    assert type(lr) is float


def test_settings_cannot_be_changed_after_they_are_made():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MethodConfig().train.lr = 1.0


# --- precedence


PRESET = """
train: {lr: 0.2, epochs: 7}
cluster: {n_sub: 50}
methods:
  rotnet:
  deepercluster:
    train: {lr: 0.3}
  large:
    recipe: deepercluster_yfcc100m
    train: {batch_size: 8}
"""


def test_a_method_wins_over_a_shared_section_over_a_recipe_over_the_defaults(tmp_path):
    methods = load_preset(write(tmp_path, PRESET)).methods
    assert [methods[m].train.lr for m in ("rotnet", "deepercluster", "large")] == [0.2, 0.3, 0.2]
    assert [methods[m].train.epochs for m in methods] == [7, 7, 7]
    assert methods["rotnet"].train.batch_size == TrainConfig().batch_size
    large = methods["large"]
    assert large.method == "deepercluster"
    assert (large.train.batch_size, large.cluster.n_sub) == (8, 50)
    assert (large.cluster.n_super, large.cluster.pca_dim) == (4, 4096)


def test_an_override_of_a_shared_section_wins_over_a_methods_own_value(tmp_path):
    methods = load_preset(write(tmp_path, PRESET), {"train.lr": 0.9}).methods
    assert [m.train.lr for m in methods.values()] == [0.9, 0.9, 0.9]
    assert methods["large"].train.batch_size == 8  # its other settings stay


def test_an_override_of_one_method_leaves_the_others(tmp_path):
    path = write(tmp_path, PRESET)
    methods = load_preset(path, {"methods.deepercluster.train.lr": 0.9, "methods.rotnet.train.epochs": 1}).methods
    assert [m.train.lr for m in methods.values()] == [0.2, 0.9, 0.2]
    assert [m.train.epochs for m in methods.values()] == [1, 7, 7]


def test_overrides_reach_data_seeds_and_sections_that_the_file_lacks(tmp_path):
    path = write(tmp_path, PRESET)
    preset = load_preset(path, {"seeds": [4, 5], "data.resize": 64, "model.image_size": 48})
    assert preset.seeds == (4, 5)
    assert preset.data.resize == 64
    assert preset.method("rotnet").model.image_size == 48
    assert load_preset(path).data == DataConfig()  # nothing was written back


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("train.lrr", "unknown key 'lrr'"),
        ("seeds.a", "override 'seeds.a': 'seeds' is not a section"),
        ("nothing", "unknown key 'nothing'"),
    ],
)
def test_a_faulty_override_is_refused(tmp_path, key, message):
    with pytest.raises(ValueError, match=message):
        load_preset(write(tmp_path, "seeds: [0]\n" + PRESET), {key: 1})


def test_an_entry_may_have_another_name_than_its_method():
    preset = parse(methods={"mine": {"method": "rotnet", "model": {"stem": "rgb"}}})
    assert (preset.method("mine").method, preset.method("mine").model.stem) == ("rotnet", "rgb")


# --- methods that start from another one


def test_init_names_another_method():
    methods = parse(methods={"rotnet": None, "deepercluster": {"init": "rotnet"}}).methods
    assert [m.init for m in methods.values()] == ["", "rotnet"]
    assert parse(methods={"rotnet": {"init": None}}).methods["rotnet"].init == ""


@pytest.mark.parametrize(
    ("inits", "message"),
    [
        ({"rotnet": "rotnet"}, "methods.rotnet.init must"),
        ({"rotnet": "nothing"}, "methods.rotnet.init must name another method of the preset; got 'nothing'"),
        ({"rotnet": "deepercluster", "deepercluster": "rotnet"}, "methods.rotnet.init must not lead back to itself"),
        ({"random": "rotnet", "rotnet": "supervised", "supervised": "rotnet"}, "init must not lead back to itself"),
    ],
)
def test_an_init_that_leads_nowhere_or_back_is_refused(inits, message):
    with pytest.raises(ValueError, match=message):
        parse(methods={method: {"init": init} for method, init in inits.items()})


# --- files


def test_an_unknown_preset_lists_those_there_are():
    with pytest.raises(ValueError, match=r"unknown preset 'nope'; there are .*smoke.* or give the path of a \.yaml"):
        load_preset("nope")


@pytest.mark.parametrize("text", ["- a\n- b\n", "train: [unclosed\n", "just text\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = write(tmp_path, text)
    for overrides in ({}, {"train.lr": 0.1}):
        with pytest.raises(ValueError, match="mapping|YAML"):
            load_preset(path, overrides)


@pytest.mark.parametrize("path", sorted(preset_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_that_come_with_the_project_load(path):
    preset = load_preset(path.stem)
    assert preset.name == path.stem
    assert preset.description
    assert preset.methods


def test_an_unknown_method_lists_those_of_the_preset():
    with pytest.raises(ValueError, match="unknown method 'x' in preset 'mine'; it has rotnet"):
        parse().method("x")


def test_folders_follow_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("DCLIB_RUNS", raising=False)
    monkeypatch.setenv("DCLIB_ROOT", str(tmp_path))
    assert project_root() == tmp_path
    assert runs_folder() == tmp_path / "runs"
    monkeypatch.setenv("DCLIB_RUNS", str(tmp_path / "elsewhere"))
    assert runs_folder() == tmp_path / "elsewhere"


# --- hashes


def test_the_hash_is_stable_and_changes_with_any_value():
    base = MethodConfig()
    assert config_hash(base) == config_hash(MethodConfig())
    assert len(config_hash(base)) == 12
    changed = [
        dataclasses.replace(base, **{part: dataclasses.replace(getattr(base, part), **change)})
        for part, change in [
            ("train", {"lr": 0.051}),
            ("train", {"sub_head_gradient": "global_mean"}),
            ("cluster", {"n_sub": 9_999}),
            ("model", {"stem": "rgb"}),
        ]
    ]
    hashes = {config_hash(c) for c in [base, MethodConfig(method="rotnet"), *changed]}
    assert len(hashes) == 6


def test_the_hash_does_not_depend_on_the_order_of_keys_but_on_that_of_values():
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
    assert config_hash(1, 2) != config_hash(2, 1)
    assert config_hash([1, 2]) != config_hash(1, 2) or config_hash([1], 2) != config_hash(1, [2])


def test_a_preset_written_in_two_ways_hashes_alike():
    a = parse(train={"lr": 1}, methods={"rotnet": None}).method("rotnet")
    b = parse(methods={"rotnet": {"train": {"lr": 1.0}}}).method("rotnet")
    assert config_hash(a) == config_hash(b)


def test_the_hash_of_a_set_is_that_of_its_members_in_any_process():
    """The order of a set of texts follows from a seed that each process draws for itself."""
    code = "from dclib.config import config_hash; print(config_hash({'names': frozenset('abcdefgh')}, {'x', 'y', 'z'}))"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(hashes) == 1
