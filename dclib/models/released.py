"""Weight files: those of DeeperCluster and RotNet, of DeepCluster before them, of torchvision, and one's own.

The authors' files are under CC BY-NC 4.0; none comes with this project. What is read is told by names and shapes of the
tensors inside, never by the path.

Source: key layouts of the released code, src/model_factory.py and src/utils.py, and of DeepCluster's models/vgg16.py.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dclib.config import ModelConfig
from dclib.models.sobel import SOBEL_KERNELS
from dclib.models.vgg import Trunk, scaled_channels
from dclib.presets import build

LICENCE = "CC BY-NC 4.0, of their authors: no commercial use"
OWN_LICENCE = "your own: this library trained it"
UNKNOWN_LICENCE = "not told by the file: ask who gave it to you"
# heads of the tasks a network was trained on, and the fixed filter, which is part of our stem
LEFT_OUT = ("sobel.", "pred_layer.", "top_layer.", "classifier.6.")
WRAPPERS = ("module", "_orig_mod")  # what data parallelism and compilation put into names
NUMPY_NUMBERS: list[Any] = [  # plain numbers beside the weights: a best accuracy, say
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(np.dtype, *(type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8"))),
]
CONFIG = "dclib"  # key of the metadata of a file of safetensors that says what network it is of
KNOWN_FILES: Mapping[str, str] = {
    "ours.pth": "DeeperCluster on YFCC100M",
    "deepcluster_flickr.pth": "DeepCluster on 1.3 million images of YFCC100M",
    "rotnet_flickr.pth": "RotNet on YFCC100M",
    "rotnet_imagenet.pth": "RotNet on ImageNet",
    "checkpoint.pth.tar": "a training checkpoint; DeepCluster on ImageNet where it comes from that project",
}  # names under which the files were published; told on the card, and nothing else depends on them
Layout = Literal["own", "DeeperCluster", "DeepCluster-v1", "torchvision", "plain"]
SHOWN_KEYS = 30  # lines of the table of what did not match


@dataclass(frozen=True)
class Released:
    """A network read from a published file.

    Attributes:
        trunk: In evaluation mode, on the CPU.
        layout: Whose keys the file has.
        n_weights: Numbers read into the trunk.
        left_out: Keys of the file that belong to no part of the trunk: heads, the fixed Sobel filter.
        mismatches: A line for each key that did not fit; empty unless a partial load was asked for.
        digest: Hash of the file.
        name: The file's name.
    """

    trunk: Trunk
    layout: Layout
    n_weights: int
    left_out: tuple[str, ...]
    mismatches: tuple[str, ...]
    digest: str
    name: str


def load_released(path: str | Path, *, allow_partial: bool = False) -> Released:
    """Read a file of VGG-16 with batch normalisation, without running any code it may hold.

    A checkpoint of this library says what network it is of. Of others, ``state_dict`` or ``model`` is taken where
    there is one; ``module.`` and ``_orig_mod.`` are dropped wherever they stand and ``body.`` in front. The stem is
    told by the channels of the first convolution (2: Sobel, 3: colour). The grid is that of 224 for DeepCluster-v1,
    known by its ``top_layer`` or by a padded Sobel layout, and for torchvision, known by its third fully connected
    layer, else that of 226. Width and sizes follow from the shapes.

    Args:
        allow_partial: Load what fits and keep the rest as it was drawn; else anything missing is refused.

    Raises:
        ValueError: there is no such file, it is damaged or asks to run code, it holds another architecture, its
            Sobel filter is another, or, with one line for each, keys that do not fit.
    """
    path = Path(path)
    weights, left_out, layout, config = _read(path)
    trunk = Trunk(config, torch.Generator().manual_seed(0)).eval()
    wanted = trunk.state_dict()
    mismatches = compare_keys(weights, wanted)
    if mismatches and not allow_partial:
        raise ValueError(
            f"{path} does not fit VGG-16 with batch normalisation:\n{key_table(mismatches)}\n"
            "It is of another architecture or damaged; nothing was loaded (--allow-partial, or the method's setting "
            "allow_partial: true, loads what fits)"
        )
    fitting = {key: weights[key] for key in wanted if key in weights and weights[key].shape == wanted[key].shape}
    trunk.load_state_dict({**wanted, **fitting})
    return Released(
        trunk=trunk,
        layout=layout,
        n_weights=sum(tensor.numel() for tensor in fitting.values()),
        left_out=left_out,
        mismatches=tuple(mismatches),
        digest=file_digest(path),
        name=path.name,
    )


def describe(released: Released) -> str:
    """A card for people: what the file is, what was recognised, under which licence."""
    config = released.trunk.config
    stem = "Sobel gradients, 2 channels" if config.stem == "sobel" else "colour, 3 channels"
    lines = [
        ("file", f"{released.name} (sha256 {released.digest})"),
        ("published as", _published_as(released)),
        ("layout", released.layout),
        ("network", f"VGG-16 with batch normalisation, width {config.width:g}, {released.n_weights:,} numbers"),
        ("input", f"{config.image_size} pixels, {stem}, grid of {config.grid}"),
        ("features", f"{config.feature_dim}, behind {config.hidden_dim}"),
        ("left out", ", ".join(released.left_out) or "nothing"),
        ("not matching", f"{len(released.mismatches)} keys" if released.mismatches else "nothing"),
        ("licence", _licence(released)),
    ]
    return "\n".join(f"{name:13} {text}" for name, text in lines)


def _published_as(released: Released) -> str:
    if released.layout == "own":
        return "a checkpoint of this library"
    return KNOWN_FILES.get(released.name, "not a name that was published; ask who gave it to you")


def _licence(released: Released) -> str:
    if released.layout == "own":
        return OWN_LICENCE
    theirs = released.layout in ("DeeperCluster", "DeepCluster-v1") or released.name in KNOWN_FILES
    return LICENCE if theirs else UNKNOWN_LICENCE


def file_digest(path: str | Path) -> str:
    """Twelve digits that change with the file's content. Raises ValueError where it is not there."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise ValueError(f"need a file of weights at {path}: {error.strerror or error}") from None


def infer_config(weights: Mapping[str, Tensor], *, grid: Literal[226, 224], path: Path) -> ModelConfig:
    """The sizes of the network that a file holds, from the shapes of its tensors.

    Raises:
        ValueError: the tensors are of another architecture; the message says by what it is known.
    """
    first = weights.get("features.0.weight")
    if first is None or first.ndim != 4:
        raise ValueError(f"{path} holds no VGG: need a tensor features.0.weight; it has {_some(weights)}")
    is_folded = first.shape[1:] == (3, 5, 5)  # Sobel is inside it
    if first.shape[2:] != (3, 3) and not is_folded:
        kernel = "x".join(str(side) for side in first.shape[2:])
        raise ValueError(f"{path} begins with a {kernel} convolution: need VGG-16's 3x3, this may be an AlexNet")
    if "features.1.running_mean" not in weights:
        raise ValueError(f"{path} has no batch normalisation behind its first convolution: need VGG-16 with it")
    if first.shape[1] not in (2, 3):
        raise ValueError(f"{path} has {first.shape[1]} input channels: need 2 (Sobel) or 3 (colour)")
    fc6, fc7 = (weights.get(f"classifier.{i}.weight") for i in (0, 3))
    if fc6 is None or fc7 is None or fc6.ndim != 2 or fc7.ndim != 2:
        raise ValueError(f"{path} lacks the fully connected layers classifier.0 and classifier.3: need both")
    width = first.shape[0] / 64
    side = round((fc6.shape[1] / scaled_channels(512, width)) ** 0.5)
    return ModelConfig(
        image_size=max(30, 32 * side),
        width=width,
        stem="folded" if is_folded else "sobel" if first.shape[1] == 2 else "rgb",
        grid=grid,
        hidden_dim=fc6.shape[0],
        feature_dim=fc7.shape[0],
        dropout=0.5,
    )


def compare_keys(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """A line for each key that is missing, left over or of another shape; counters of batches may be missing."""
    lines = []
    for key in sorted({*weights, *wanted}, key=_place):
        if key.endswith("num_batches_tracked"):
            continue
        have = _shape(weights[key]) if key in weights else "not in the file"
        need = _shape(wanted[key]) if key in wanted else "not in the network"
        if have != need:
            lines.append(f"{key:34} {have:22} {need}")
    return lines


def key_table(lines: list[str]) -> str:
    """The lines under a heading, the first of them if they are many."""
    more = [f"... and {len(lines) - SHOWN_KEYS} more"] if len(lines) > SHOWN_KEYS else []
    return "\n".join([f"{'key':34} {'file':22} network", *lines[:SHOWN_KEYS], *more])


def _read(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...], Layout, ModelConfig]:
    """Tensors of the trunk by our names, the keys left out, the layout, and the network they are of."""
    file_digest(path)  # a missing file in one sentence
    told = None
    content: Any
    if _is_safetensors(path):
        content, told = _read_safetensors(path)
    else:
        content = _unpickle(path)
    if told:
        return content, (), "own", told
    if isinstance(content, dict) and content.keys() == {"identity", "state"}:
        weights, model = content["state"]["trunk"], content["state"].get("model")
        return weights, (), "own", ModelConfig(**model) if model else infer_config(weights, grid=226, path=path)
    state = content
    for name in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            state = content[name]
            break
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no tensors by name: need a state_dict, or a file with one in it")
    renamed = {_rename(str(key)): value for key, value in state.items() if isinstance(value, Tensor)}
    left_out = tuple(sorted(key for key in renamed if key.startswith(LEFT_OUT)))
    weights = {key: value for key, value in renamed.items() if key not in left_out}
    _check_sobel(renamed, path)
    if any(key.startswith("top_layer.") for key in renamed) or any("features.module." in str(key) for key in state):
        layout: Layout = "DeepCluster-v1"
    elif any("body." in str(key) for key in state):
        layout = "DeeperCluster"
    else:
        layout = "torchvision" if "classifier.6.weight" in renamed else "plain"
    grid: Literal[226, 224] = 224 if layout in ("DeepCluster-v1", "torchvision") else 226
    return weights, left_out, layout, infer_config(weights, grid=grid, path=path)


def _is_safetensors(path: Path) -> bool:
    """Eight bytes of length, then a table in JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], ModelConfig | None]:
    """The tensors, and the network that they are of where the file says so."""
    try:
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get(CONFIG)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        model = json.loads(told)["model"] if told else None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} is a damaged file of safetensors: {error}; fetch it again") from None
    return tensors, None if model is None else build(ModelConfig, model, f"{path}: model")


def _unpickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(NUMPY_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not read: it is no file of weights, or would have to run code to be opened ({reason}); save "
            "its state_dict alone, by torch.save or as safetensors"
        ) from None
    except Exception as error:  # broken bytes raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is damaged or no file of weights: {reason}; fetch it again") from None


def _rename(key: str) -> str:
    """Without wrappers anywhere and without ``body.`` in front."""
    parts = [part for part in key.split(".") if part not in WRAPPERS]
    return ".".join(parts[1:] if parts[:1] == ["body"] else parts)


def _check_sobel(weights: Mapping[str, Tensor], path: Path) -> None:
    """ValueError where the file's fixed filter is not the one of our stem."""
    grey, sobel = weights.get("sobel.0.weight"), weights.get("sobel.1.weight")
    if grey is not None and not torch.allclose(grey.flatten(), torch.full((grey.numel(),), 1 / 3), atol=1e-4):
        raise ValueError(f"{path} makes grey of colours in another way than by their mean: {grey.flatten().tolist()}")
    if sobel is not None and not torch.equal(sobel.squeeze(), torch.tensor(SOBEL_KERNELS)):
        raise ValueError(f"{path} holds another Sobel filter than the published one: {sobel.flatten().tolist()}")


def _place(key: str) -> tuple[str, int, str]:
    part = key.split(".")
    return part[0], int(part[1]) if len(part) > 1 and part[1].isdecimal() else -1, key


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def _some(weights: Mapping[str, Tensor]) -> str:
    names = list(weights)
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "") if names else "none"
