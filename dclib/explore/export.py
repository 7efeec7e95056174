"""A trained network as a folder that others can use: safetensors, torchvision's shape, ONNX, and a card in words."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from dclib import __version__
from dclib.data.folders import in_one_line, named_path
from dclib.data.images import name_some, printable
from dclib.explore.found import CHECKPOINT, NETWORK, WEIGHTS, Run, load_network, read_run
from dclib.explore.model_card import write_card
from dclib.models.folding import fold_sobel
from dclib.models.released import CONFIG
from dclib.models.sobel import IMAGENET_MEAN, IMAGENET_STD
from dclib.models.vgg import LAYERS, Trunk, scaled_channels
from dclib.records import replacing_folder
from dclib.train.features import PAPER_RESIZE

PLAIN, ONNX, SETTINGS = "vgg16_bn.safetensors", "model.onnx", "config.json"
CARD, MADE_BY = "README.md", "dclib "
FILES = (WEIGHTS, PLAIN, ONNX, SETTINGS, CARD)
EXPORT = "export"  # folder that an export goes to by default
TRIED = 8  # images on which an export is compared with the network it is of
CLOSE = 1e-5  # relative difference that makes an export a wrong one: rounding through 15 layers is a tenth of it


def export_run(path: str | Path, out: str | Path = "", report: Callable[[str], None] = print) -> Path:
    """Write the network of a run, an exploration or a checkpoint as a folder laid out as the Hub has them.

    ``model.safetensors`` is the trunk as it was trained, ``vgg16_bn.safetensors`` the same in torchvision's names, for
    colour, ``model.onnx`` a graph of it where the package onnx is installed, ``config.json`` their settings, and
    ``README.md`` says in words and code what it is and how it is loaded.

    Raises:
        ValueError: there is no trained network, or ``out`` holds something else than an export.
        OSError: it cannot be written; what was there before is untouched.
    """
    path = named_path(path)
    source = path.parent if path.is_file() else path
    if path.is_file() and path.suffix != ".safetensors" and path.name != CHECKPOINT:
        raise ValueError(f"need the folder of a run or its {CHECKPOINT} to export; got {path}")
    if path.suffix == ".safetensors" or not any((f / CHECKPOINT).is_file() for f in (source, source / NETWORK)):
        load_network(path)  # says what was looked for, where there is nothing
        raise ValueError(f"need a run to export, got {path}: that is a file of weights already, which dclib.load reads")
    run = read_run(source)
    if run.fault:
        raise ValueError(run.fault)
    trunk = load_network(run.folder / CHECKPOINT)
    target = named_path(out) if out else source / EXPORT
    _check_target(target)
    settings = describe(trunk, run)
    with replacing_folder(target) as folder:
        weights = {name: tensor.contiguous() for name, tensor in trunk.state_dict().items()}
        _save(weights, folder / WEIGHTS, {CONFIG: json.dumps(settings)})
        images = torch.rand(TRIED, 3, *[trunk.config.image_size] * 2, generator=torch.Generator().manual_seed(0))
        settings["difference"] = {}
        if can_be_plain(trunk):
            _save(plain_weights(trunk), folder / PLAIN)
            plain = plain_network(settings)
            plain.load_state_dict(plain_weights(trunk))
            settings["difference"][PLAIN] = _difference(trunk, plain.eval()(_normalised(images)), images)
        else:
            report(f"{PLAIN} is left out: on a grid of 224, Sobel's edge is not that of one 5x5 convolution")
        _write_onnx(trunk, settings, folder, images, report)
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        for written in folder.iterdir():
            written.chmod(0o644)  # safetensors are written for their owner alone
        (folder / CARD).write_text(write_card(settings), encoding="utf-8")
    report(f"exported to {target}: {', '.join(sorted(entry.name for entry in target.iterdir()))}")
    return target


def _save(weights: Mapping[str, Tensor], path: Path, more: Mapping[str, str] | None = None) -> None:
    try:
        save_file(dict(weights), path, {"format": "pt", **(more or {})})
    except SafetensorError as error:  # how it tells of a full disk
        raise OSError(str(error)) from error


def describe(trunk: Trunk, run: Run) -> dict[str, Any]:
    """The table of ``config.json``: what the network is, what it wants to see, where it comes from."""
    config = trunk.config
    n_images = run.n_images or int(run.summary.get("photographs") or 0)
    last = next((row for row in reversed(run.history) if "loss" in row), {})
    return {
        "architecture": "vgg16_bn",
        "model": asdict(config),
        "channels": [c if isinstance(c, str) else scaled_channels(c, config.width) for c in LAYERS],
        "first": {"kernel": 3 if config.stem == "rgb" else 5, "padding": trunk.stem.padding + 1},
        "side": trunk.side,
        "input": {
            "size": config.image_size,
            "resize": round(config.image_size * PAPER_RESIZE),
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        },
        "run": {
            "name": run.name,
            "method": str(run.settings.get("method") or run.method),
            "seed": run.seed,
            "images": n_images,
            "epochs": run.epoch,
            "state": run.state,
            "health": run.health,
            "last_epoch": {key: round(float(value), 4) for key, value in last.items()},
            "nmi_previous": run.nmi,
            "best_layer": run.best_layer,
            "settings": run.settings,
            "data_hash": run.card.get("data_hash", ""),
            "device": run.card.get("device", ""),
            "versions": run.card.get("versions", {}),
        },
        "made_by": f"{MADE_BY}{__version__}",
    }


def can_be_plain(trunk: Trunk) -> bool:
    """Whether the network is one of plain layers exactly: on the grid of 224 Sobel's edge is not."""
    return trunk.config.stem != "sobel" or trunk.config.grid == 226


def plain_weights(trunk: Trunk) -> dict[str, Tensor]:
    """The network's weights by torchvision's names, with Sobel inside a first 5x5 convolution of normalised colour."""
    if trunk.config.stem == "sobel":
        trunk = fold_sobel(copy.deepcopy(trunk).double())  # float64, so that a weight is rounded once
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in trunk.state_dict().items()
    }


def plain_network(settings: Mapping[str, Any]) -> nn.Sequential:
    """The network of :func:`plain_weights` in PyTorch's own layers, of colours minus their mean by their deviation."""
    layers: list[nn.Module] = []
    channels = 3
    for c in settings["channels"]:
        if c == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU()]
            channels = c
    first, model = settings["first"], settings["model"]
    layers[0] = nn.Conv2d(3, settings["channels"][0], first["kernel"], padding=first["padding"])
    hidden = model["hidden_dim"]
    head = [
        nn.Linear(channels * settings["side"] ** 2, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, model["feature_dim"]),
    ]
    whole = nn.Sequential()
    whole.add_module("features", nn.Sequential(*layers))
    whole.add_module("pool", nn.AdaptiveAvgPool2d(settings["side"]))
    whole.add_module("flat", nn.Flatten())
    whole.add_module("classifier", nn.Sequential(*head))
    return whole


@torch.no_grad()
def _difference(trunk: Trunk, features: Tensor, images: Tensor) -> float:
    """Largest difference of an image's features by their length. Raises ValueError where that is no rounding."""
    own = trunk(images)
    worst = float(((features - own).norm(dim=1) / own.norm(dim=1).clamp(min=1e-12)).max())
    if not worst <= CLOSE:  # also where it is not a number
        raise ValueError(
            f"the exported network's features differ from its own by {worst:.1e} of their length, which is "
            "no rounding: has its training diverged? nothing was written"
        )
    return worst


def _normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def _write_onnx(
    trunk: Trunk, settings: dict[str, Any], folder: Path, images: Tensor, report: Callable[[str], None]
) -> None:
    try:
        import onnx  # noqa: F401

        from dclib.explore.onnx_file import run_onnx, write_onnx
    except ImportError as error:
        report(f"{ONNX} is left out, for {error.name} is not installed; install with: pip install '.[export]'")
        return
    write_onnx(trunk, plain_weights(trunk) if can_be_plain(trunk) else trunk.state_dict(), folder / ONNX)
    settings["difference"][ONNX] = None
    features = run_onnx(folder / ONNX, images.numpy())
    if features is None:
        report(f"{ONNX} was written and not tried, for onnxruntime is not installed")
        return
    settings["difference"][ONNX] = _difference(trunk, torch.from_numpy(features), images)


def _check_target(target: Path) -> None:
    """ValueError unless an export may take the place of what is at ``target``: nothing, or an earlier export."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    try:
        made_by = str(json.loads((target / SETTINGS).read_text(encoding="utf-8"))["made_by"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        made_by = ""
    if not made_by.startswith(MADE_BY):
        raise ValueError(
            f"{target} is there and is no earlier export, so it is left as it is; give another folder with --out"
        )
    if others := sorted(printable(entry.name) for entry in target.iterdir() if entry.name not in FILES):
        raise ValueError(
            f"{target} holds {in_one_line(name_some(others))} beside an earlier export, so it is left as it is; "
            "move that away, or give another folder with --out"
        )
