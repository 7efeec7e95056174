"""Published weights: files built with exactly their keys, read back, and everything that has to be refused."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_images import method_config, write_pictures
from torch import Tensor

from dclib.__main__ import main
from dclib.config import ModelConfig
from dclib.data.layouts import open_images
from dclib.models.released import LICENCE, OWN_LICENCE, UNKNOWN_LICENCE, describe, load_released
from dclib.models.sobel import IMAGENET_MEAN, IMAGENET_STD, SOBEL_KERNELS
from dclib.models.vgg import Trunk
from dclib.presets import load_preset
from dclib.randomness import generator
from dclib.train.pretrain import pretrain

TINY = {"image_size": 32, "width": 1 / 16, "hidden_dim": 12, "feature_dim": 10}
SOBEL = {
    "sobel.0.weight": torch.full((1, 3, 1, 1), 1 / 3),
    "sobel.0.bias": torch.zeros(1),
    "sobel.1.weight": torch.tensor(SOBEL_KERNELS).unsqueeze(1),
    "sobel.1.bias": torch.zeros(2),
}
Weights = Mapping[str, Tensor]


def network(stem: str = "sobel", grid: int = 226) -> Trunk:
    trunk = Trunk(ModelConfig(**TINY, stem=stem, grid=grid), generator(1)).eval()
    for name, tensor in trunk.state_dict().items():
        if "running" in name:
            tensor.copy_(torch.rand(tensor.shape, generator=generator(2, name)) + 0.5)
    return trunk


def deepercluster(weights: Weights) -> dict[str, object]:
    """The training checkpoint of DeeperCluster: wrapped, with the fixed filter and the head."""
    state = {f"module.body.{key}": value for key, value in weights.items()}
    state |= {f"module.{key}": value for key, value in SOBEL.items()}
    state |= {"module.pred_layer.weight": torch.ones(3, 10), "module.pred_layer.bias": torch.ones(3)}
    return {"epoch": 7, "start_iter": 0, "state_dict": state, "optimizer": {"param_groups": [], "state": {}}}


def bare_state(weights: Weights) -> dict[str, object]:
    return {f"body.{key}": value for key, value in weights.items()}


def rotnet_colour(weights: Weights) -> dict[str, object]:
    return {"state_dict": {f"module.{key}": value for key, value in weights.items()}}


def deepcluster_v1(weights: Weights) -> dict[str, object]:
    """DeepCluster's own: data parallel inside the convolutions, the last layer beside them."""
    state = {key.replace("features.", "features.module.", 1): value for key, value in weights.items()}
    state |= {**SOBEL, "top_layer.weight": torch.ones(4, 10), "top_layer.bias": torch.ones(4)}
    return {"epoch": 100, "arch": "vgg16", "state_dict": state, "optimizer": {}}


def without_counters(weights: Weights) -> dict[str, object]:
    return {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}


LAYOUTS: dict[str, tuple[Callable[[Weights], dict[str, object]], str, int, str]] = {
    "deepercluster": (deepercluster, "sobel", 226, "DeeperCluster"),
    "bare": (bare_state, "sobel", 226, "DeeperCluster"),
    "rotnet colour": (rotnet_colour, "rgb", 226, "plain"),
    "deepcluster v1": (deepcluster_v1, "sobel", 224, "DeepCluster-v1"),
    "no counters": (without_counters, "rgb", 226, "plain"),
}


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_back_to_the_last_number(layout: str, tmp_path: Path) -> None:
    build, stem, grid, name = LAYOUTS[layout]
    trunk = network(stem, grid)
    found = load_released(save(tmp_path / "ours.pth", build(trunk.state_dict())))
    assert found.trunk.config == ModelConfig(**TINY, stem=stem, grid=grid, dropout=0.5)
    assert (found.layout, found.mismatches, found.trunk.training) == (name, (), False)
    images = torch.rand(2, 3, 32, 32, generator=generator(3))
    assert torch.equal(found.trunk(images), trunk(images))


def test_a_network_of_deepcluster_is_that_of_its_own_forward_pass(tmp_path: Path) -> None:
    """Sobel padded by one, 224 geometry, written out with plain functions."""
    trunk = network("sobel", 224)
    weights = trunk.state_dict()
    found = load_released(save(tmp_path / "checkpoint.pth.tar", deepcluster_v1(weights)))
    images = torch.rand(2, 3, 32, 32, generator=generator(3))
    x = (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    x = F.conv2d(F.conv2d(x, SOBEL["sobel.0.weight"]), SOBEL["sobel.1.weight"], padding=1)
    pools = {6, 13, 23, 33, 43}
    i = 0
    while i <= 43:
        if i in pools:
            x, i = F.max_pool2d(x, 2), i + 1
            continue
        own = {key: weights[f"features.{i}.{key}"] for key in ("weight", "bias")}
        norm = {key: weights[f"features.{i + 1}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        x = F.conv2d(x, own["weight"], own["bias"], padding=1)
        x = F.relu(F.batch_norm(x, norm["running_mean"], norm["running_var"], norm["weight"], norm["bias"]))
        i += 3
    x = F.relu(F.linear(x.flatten(1), weights["classifier.0.weight"], weights["classifier.0.bias"]))
    x = F.linear(x, weights["classifier.3.weight"], weights["classifier.3.bias"])
    torch.testing.assert_close(found.trunk(images), x, rtol=1e-5, atol=1e-6)  # float32, another order of sums


def test_the_card_says_what_it_is_and_under_which_licence(tmp_path: Path) -> None:
    card = describe(load_released(save(tmp_path / "ours.pth", deepercluster(network().state_dict()))))
    assert "DeeperCluster on YFCC100M" in card
    assert LICENCE in card
    assert "Sobel gradients, 2 channels, grid of 226" in card
    assert "pred_layer.weight" in card
    assert "sobel.1.weight" in card
    unknown = describe(load_released(save(tmp_path / "mine.pth", bare_state(network().state_dict()))))
    assert "not a name that was published" in unknown


def test_a_file_of_other_content_has_another_hash(tmp_path: Path) -> None:
    one = load_released(save(tmp_path / "a.pth", bare_state(network("rgb").state_dict())))
    weights = network("rgb").state_dict()
    weights["classifier.3.bias"] += 1
    other = load_released(save(tmp_path / "b.pth", bare_state(weights)))
    assert one.digest != other.digest


# what is refused


def test_missing_and_left_over_keys_come_in_one_table(tmp_path: Path) -> None:
    weights = dict(network().state_dict())
    del weights["features.7.bias"]
    weights["classifier.3.bias"] = torch.zeros(11)
    weights["extra.weight"] = torch.zeros(2, 2)
    path = save(tmp_path / "broken.pth", weights)
    with pytest.raises(ValueError, match="does not fit VGG-16") as caught:
        load_released(path)
    table = str(caught.value).splitlines()
    assert any(line.split() == ["features.7.bias", "not", "in", "the", "file", "8"] for line in table)
    assert any(line.split() == ["classifier.3.bias", "11", "10"] for line in table)
    assert any(line.split() == ["extra.weight", "2", "x", "2", "not", "in", "the", "network"] for line in table)
    partial = load_released(path, allow_partial=True)
    assert len(partial.mismatches) == 3
    assert torch.equal(partial.trunk.features[0].weight, weights["features.0.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {"features.0.weight": torch.zeros(96, 3, 11, 11)}, "11x11 convolution.*may be an AlexNet"),
        (lambda w: {k: v for k, v in w.items() if "running" not in k}, "no batch normalisation"),
        (lambda w: {**w, "features.0.weight": torch.zeros(4, 5, 3, 3)}, "5 input channels"),
        (lambda w: {k: v for k, v in w.items() if not k.startswith("classifier")}, "lacks the fully connected layers"),
        (lambda w: {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "holds no VGG"),
        (lambda w: {}, "holds no tensors by name"),
        (lambda w: {"state_dict": {}}, "holds no tensors by name"),
        (lambda w: [1, 2], "holds no tensors by name"),
        (lambda w: {**w, "sobel.1.weight": -SOBEL["sobel.1.weight"]}, "another Sobel filter"),
        (lambda w: {**w, "sobel.0.weight": torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)}, "another way"),
    ],
)
def test_another_architecture_ends_in_one_sentence(change, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "other.pth", change(dict(network().state_dict())))
    with pytest.raises(ValueError, match=message) as caught:
        load_released(path)
    assert "\n" not in str(caught.value)


class Trap:
    """Pickled, it would make a file when it is read."""

    def __init__(self, victim: Path) -> None:
        self.victim = str(victim)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.victim,)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    path = save(tmp_path / "trap.pth", {"state_dict": {"a": torch.zeros(1)}, "args": Trap(tmp_path / "sprung")})
    with pytest.raises(ValueError, match="would have to run code"):
        load_released(path)
    assert not (tmp_path / "sprung").exists()


def test_damaged_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"need a file of weights at .*nowhere"):
        load_released(tmp_path / "nowhere.pth")
    whole = save(tmp_path / "whole.pth", bare_state(network().state_dict())).read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"hello, world"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is"):
            load_released(tmp_path / name)


# what others than the authors write


def compiled(weights: Weights) -> dict[str, object]:
    return {"state_dict": {f"module._orig_mod.{key}": value for key, value in weights.items()}}


def with_a_number_of_numpy(weights: Weights) -> dict[str, object]:
    return {"model": dict(weights), "best_prec1": np.float64(51.2), "epoch": np.int64(3)}


def own_checkpoint(weights: Weights) -> dict[str, object]:
    model = {**TINY, "stem": "sobel", "grid": 224, "dropout": 0.1}  # grid and dropout are not told by shapes
    return {"identity": "0123", "state": {"trunk": dict(weights), "model": model, "epoch": 1}}


def torchvision_like(weights: Weights) -> dict[str, object]:
    return {**weights, "classifier.6.weight": torch.ones(5, 10), "classifier.6.bias": torch.ones(5)}


@pytest.mark.parametrize(
    ("build", "stem", "grid", "layout"),
    [
        (compiled, "sobel", 226, "plain"),
        (with_a_number_of_numpy, "sobel", 226, "plain"),
        (own_checkpoint, "sobel", 224, "own"),
        (torchvision_like, "rgb", 224, "torchvision"),
    ],
)
def test_files_of_others_and_ones_own_are_read_and_not_called_the_authors(build, stem, grid, layout, tmp_path) -> None:
    trunk = network(stem, grid)
    found = load_released(save(tmp_path / "checkpoint.pt", build(trunk.state_dict())))
    assert (found.layout, found.mismatches, found.trunk.config.grid) == (layout, (), grid)
    images = torch.rand(2, 3, 32, 32, generator=generator(3))
    assert torch.equal(found.trunk(images), trunk(images))
    assert "CC BY-NC" not in describe(found)
    assert (OWN_LICENCE if layout == "own" else UNKNOWN_LICENCE) in describe(found)


def test_the_checkpoint_of_a_run_is_read_as_the_network_it_is(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pool", 8)
    config = method_config("rotnet", train={"epochs": 1})
    state = pretrain(open_images(tmp_path / "pool"), config, folder=tmp_path / "run", report=lambda line: None)
    found = load_released(tmp_path / "run" / "checkpoint.pt")
    assert (found.layout, found.trunk.config) == ("own", config.model)
    for mine, theirs in zip(state.trunk.state_dict().values(), found.trunk.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_safetensors_are_read_and_damaged_ones_told(tmp_path: Path) -> None:
    """Written here by the format's own description: a length, a table, the bytes."""
    weights, table, data = network().state_dict(), {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in weights.items():
        kind, content = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype], tensor.numpy().tobytes()
        offsets = [len(data), len(data) + len(content)]
        table[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": offsets}
        data += content
    head = json.dumps(table).encode()
    whole = struct.pack("<Q", len(head)) + head + data
    (tmp_path / "model.safetensors").write_bytes(whole)
    found = load_released(tmp_path / "model.safetensors")
    assert all(torch.equal(weights[key], value) for key, value in found.trunk.state_dict().items())
    (tmp_path / "cut.safetensors").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="damaged file of safetensors.*fetch it again"):
        load_released(tmp_path / "cut.safetensors")


def test_what_fits_can_be_asked_for_from_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = dict(network().state_dict())
    del weights["features.7.bias"]
    path = save(tmp_path / "broken.pth", weights)
    assert main(["released", str(path)]) == 2
    assert "--allow-partial" in capsys.readouterr().err
    assert main(["released", str(path), "--allow-partial"]) == 0
    assert "1 keys" in capsys.readouterr().out
    preset = load_preset("smoke", {"methods.released.allow_partial": True}, weights=str(path))
    assert preset.method("released").allow_partial
