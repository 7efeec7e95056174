"""What an exported network gives where this library is not, and what stands on its card."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tiny_images import decoded_pixels, draw_shape, method_config, silent, write_pictures

import dclib
from dclib.data.layouts import open_images
from dclib.explore import onnx_file
from dclib.explore.export import describe, export_run, plain_network, plain_weights
from dclib.explore.found import read_run
from dclib.models.released import load_released
from dclib.models.vgg import Trunk
from dclib.train.features import extract_features
from dclib.train.pretrain import pretrain

SIX_DIGITS = 1e-6  # of the length of an image's features, in float64: weights are rounded once, to 6e-8 each
RUNTIMES = 1e-5  # float32 sums of another order through 15 layers
ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training, whose network no longer is the one that was drawn."""
    root = tmp_path_factory.mktemp("trained")
    images = open_images(write_pictures(root / "photos", 32))
    folder = root / "run`|<b> #1"
    pretrain(decoded_pixels(images), method_config("deepercluster"), folder=folder, report=silent)
    return folder


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    folder = export_run(run, report=silent)
    large = draw_shape("wedge", np.random.default_rng(0)).resize((300, 200))  # decoded at a smaller size
    large.save(folder / "photo.jpg")
    return folder


def blocks_of(card: Path) -> dict[str, str]:
    """Code blocks by what they import."""
    found = re.findall(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    names = ("onnxruntime", "timm", "torchvision", "torch", "PIL")
    return {next(name for name in names if re.search(rf"^(import|from) {name}\b", code, re.M)): code for code in found}


def wide_trunk(run: Path, stem: str = "sobel", grid: int = 226) -> Trunk:
    config = dclib.load(run).config
    trunk = Trunk(type(config)(**{**vars(config), "stem": stem, "grid": grid, "image_size": 64}), torch.Generator())
    draws = torch.Generator().manual_seed(3)
    for name, tensor in trunk.state_dict().items():
        if "running_var" in name or tensor.ndim == 1 and name.endswith("weight"):
            tensor.copy_(torch.rand(tensor.shape, generator=draws) + 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=draws) * 0.2)
    return trunk.eval().requires_grad_(False)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(((one - other).norm(dim=1) / other.norm(dim=1)).max())


@pytest.mark.parametrize("stem", ["sobel", "rgb", "folded"])
def test_plain_layers_compute_what_the_trunk_does(run: Path, stem: str) -> None:
    trunk = wide_trunk(run, stem)
    plain = plain_network(describe(trunk, read_run(run)))
    plain.load_state_dict(plain_weights(trunk))
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    normalised = (images - trunk.stem.mean.double()) / trunk.stem.std.double()
    assert difference(plain.double().eval()(normalised).detach(), trunk.double()(images)) < SIX_DIGITS


@pytest.mark.parametrize(("stem", "grid"), [("sobel", 226), ("sobel", 224), ("rgb", 224)])
def test_the_graph_computes_what_the_trunk_does_for_any_number_of_images(run: Path, tmp_path: Path, stem, grid) -> None:
    trunk = wide_trunk(run, stem, grid)
    weights = trunk.state_dict() if grid == 224 else plain_weights(trunk)
    onnx_file.write_onnx(trunk, weights, tmp_path / "model.onnx")
    for n in (1, 5):
        images = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(n))
        features = onnx_file.run_onnx(tmp_path / "model.onnx", images.numpy())
        assert features is not None
        assert difference(torch.from_numpy(features), trunk(images)) < RUNTIMES
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("torch", {"dclib", "torchvision", "timm", "onnxruntime"}),
        ("onnxruntime", {"dclib", "torch", "torchvision", "safetensors", "onnx"}),
    ],
)
def test_the_code_on_the_card_gives_the_same_features_without_this_library(exported: Path, name, absent) -> None:
    blocks = blocks_of(exported / "README.md")
    code = f"{ALONE.format(absent=absent)}{blocks['PIL']}{blocks[name]}\nnp.save('{name}.npy', np.asarray(features))"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=exported, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    own = extract_features(dclib.load(exported), open_images(exported), report=silent).values
    assert difference(torch.from_numpy(np.load(exported / f"{name}.npy")), own) < RUNTIMES


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_the_code_for_libraries_of_networks_gives_them_too(exported: Path, name: str, monkeypatch) -> None:
    pytest.importorskip(name)
    monkeypatch.chdir(exported)
    blocks, names = blocks_of(exported / "README.md"), {}
    exec(blocks["PIL"] + blocks[name], names)
    own = extract_features(dclib.load(exported), open_images(exported), report=silent).values
    assert difference(names["features"], own) < RUNTIMES


def test_a_network_comes_back_from_wherever_it_is_kept(run: Path, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "explored").mkdir()
    (tmp_path / "explored" / "network").symlink_to(run)
    own = torch.load(run / "checkpoint.pt", weights_only=True)["state"]["trunk"]
    for path in (run, run / "checkpoint.pt", exported, exported / "model.safetensors", tmp_path / "explored"):
        trunk = dclib.load(path)
        assert not trunk.training
        assert all(torch.equal(own[name], tensor) for name, tensor in trunk.state_dict().items())
        assert trunk.config == method_config("deepercluster").model
    folded = load_released(exported / "vgg16_bn.safetensors").trunk
    images = torch.rand(2, 3, 32, 32)
    assert difference(folded(images).detach(), dclib.load(run)(images).detach()) < RUNTIMES
    with pytest.raises(ValueError, match=r"looked for .*model\.safetensors.*checkpoint\.pt.*network"):
        dclib.load(tmp_path)
    with pytest.raises(ValueError, match="which is not there"):
        dclib.load(tmp_path / "nowhere")


def test_importing_the_library_needs_no_torch() -> None:
    code = f"{ALONE.format(absent={'torch'})}import dclib; assert callable(dclib.load)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0


def test_the_card_says_what_is_known_and_its_names_are_no_markup(run: Path, exported: Path) -> None:
    card, settings = (exported / "README.md").read_text(), json.loads((exported / "config.json").read_text())
    assert card.startswith("---\nlicense: ")
    assert "run\\`\\|\\<b\\> \\#1" in card
    assert "32 images" in card
    assert max(settings["difference"].values()) < RUNTIMES
    assert {"features.0.weight", "classifier.3.bias"} <= load_file(exported / "vgg16_bn.safetensors").keys()


def test_without_onnx_the_rest_is_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    said: list[str] = []
    folder = export_run(run, tmp_path / "out", said.append)
    assert sorted(p.name for p in folder.iterdir()) == [
        *("README.md", "config.json", "model.safetensors", "vgg16_bn.safetensors")
    ]
    assert "pip install '.[export]'" in said[0]
    assert "onnxruntime" not in blocks_of(folder / "README.md")


def test_nothing_else_is_replaced_and_nothing_is_exported_twice(run: Path, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("long work")
    with pytest.raises(ValueError, match="left as it is"):
        export_run(run, tmp_path, silent)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    other = tmp_path / "timm"
    other.mkdir()
    (other / "config.json").write_text('{"architecture": "vgg16_bn", "num_classes": 1000}')
    with pytest.raises(ValueError, match="is no earlier export, so it is left"):
        export_run(run, other, silent)
    with pytest.raises(ValueError, match="file of weights already"):
        export_run(exported / "model.safetensors", report=silent)
    assert export_run(run, exported.with_name("again"), silent) == export_run(run, exported.with_name("again"), silent)


def test_what_was_put_beside_an_export_is_not_replaced(run: Path, tmp_path: Path) -> None:
    out = export_run(run, tmp_path / "out", silent)
    (out / ".git").mkdir()
    (out / "examples.md").write_text("my own")
    with pytest.raises(ValueError, match=r"out holds \.git, examples\.md beside an earlier export"):
        export_run(run, out, silent)
    assert (out / "examples.md").read_text() == "my own"


def test_weights_that_have_no_room_are_told_in_a_sentence_and_nothing_is_left(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("dclib.explore.export.save_file", full)
    with pytest.raises(OSError, match=r"could not write .*out: I/O error: No space left"):
        export_run(run, tmp_path / "out", silent)
    assert list(tmp_path.iterdir()) == []


def test_a_file_beside_a_checkpoint_is_not_exported_as_if_it_were_one(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "checkpoint.pt").rename(folder / "older.pt")
    shutil.copy(run / "checkpoint.pt", folder)
    with pytest.raises(ValueError, match=r"its checkpoint\.pt to export; got .*older\.pt"):
        export_run(folder / "older.pt", tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()
