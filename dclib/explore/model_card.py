"""The README of an exported network: what it is, what it learned from, how well it is, and code that loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dclib.train.chance import TASKS

FRONT = """---
license: other
license_name: chosen-by-its-owner
library_name: pytorch
pipeline_tag: image-feature-extraction
tags: [vgg16_bn, self-supervised, DeeperCluster]
---
"""
READ = '''
```python
import numpy as np
from PIL import Image, ImageOps


def read(path):
    """The middle {size} pixels of a photograph, upright, its short side at {resize}: (3, {size}, {size}) in [0, 1]."""
    image = Image.open(path)
    image.draft("RGB", ({resize}, {resize}))  # a JPEG is decoded at the smallest size that has this
    image = ImageOps.exif_transpose(image).convert("RGB")
    w, h = image.size
    w, h = [int({resize} * side / min(w, h)) for side in (w, h)]
    left, top = round((w - {resize}) / 2), round((h - {resize}) / 2)
    square = image.resize((w, h), Image.Resampling.BILINEAR).crop((left, top, left + {resize}, top + {resize}))
    edge = round(({resize} - {size}) / 2)
    return np.asarray(square, dtype=np.float32).transpose(2, 0, 1)[:, edge : edge + {size}, edge : edge + {size}] / 255


images = np.stack([read("photo.jpg")])
```
'''
TORCH = """
```python
import torch
from safetensors.torch import load_file
from torch import nn

layers, n = [], 3
for c in {channels}:
    layers += [nn.MaxPool2d(2)] if c == "M" else [nn.Conv2d(n, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU()]
    n = n if c == "M" else c
layers[0] = nn.Conv2d(3, {c0}, {kernel}, padding={padding})
network = nn.Sequential()
network.add_module("features", nn.Sequential(*layers))
network.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d({side}), nn.Flatten()))
head = [nn.Linear({flat}, {hidden}), nn.ReLU(), nn.Dropout(), nn.Linear({hidden}, {d})]
network.add_module("classifier", nn.Sequential(*head))
network.load_state_dict(load_file("vgg16_bn.safetensors"))
mean, std = torch.tensor({mean}).view(3, 1, 1), torch.tensor({std}).view(3, 1, 1)
with torch.no_grad():
    features = network.eval()((torch.from_numpy(images) - mean) / std)  # (n, {d})
```
"""
TORCHVISION = """
```python
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models.vgg import VGG, make_layers

network = VGG(make_layers({channels}, batch_norm=True), init_weights=False)
network.features[0] = nn.Conv2d(3, {c0}, {kernel}, padding={padding})
network.avgpool = nn.AdaptiveAvgPool2d({side})
network.classifier = nn.Sequential(nn.Linear({flat}, {hidden}), nn.ReLU(), nn.Dropout(), nn.Linear({hidden}, {d}))
network.load_state_dict(load_file("vgg16_bn.safetensors"))
mean, std = torch.tensor({mean}).view(3, 1, 1), torch.tensor({std}).view(3, 1, 1)
with torch.no_grad():
    features = network.eval()((torch.from_numpy(images) - mean) / std)
```
"""
TIMM = """
```python
import timm
import torch
from safetensors.torch import load_file
from torch import nn

network = timm.models.vgg.VGG({channels}, num_classes=0, norm_layer=nn.BatchNorm2d)
network.features[0] = nn.Conv2d(3, {c0}, {kernel}, padding={padding})
head = [nn.Linear({flat}, {hidden}), nn.ReLU(), nn.Dropout(), nn.Linear({hidden}, {d})]
network.pre_logits = nn.Sequential(nn.AdaptiveAvgPool2d({side}), nn.Flatten(), *head)
network.head = nn.Identity()
names = {{"classifier.0": "pre_logits.2", "classifier.3": "pre_logits.5"}}
weights = load_file("vgg16_bn.safetensors")
network.load_state_dict({{names.get(k[:12], k[:12]) + k[12:]: v for k, v in weights.items()}})
mean, std = torch.tensor({mean}).view(3, 1, 1), torch.tensor({std}).view(3, 1, 1)
with torch.no_grad():
    features = network.eval()((torch.from_numpy(images) - mean) / std)
```
"""
RUNTIME = """
```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(features,) = session.run(None, {{"images": images}})  # colours in [0, 1]; what they are normalised by is inside
```
"""
SHOWN_DEPTH = 2  # tables in a table of settings


def write_card(settings: Mapping[str, Any]) -> str:
    """The card of a network that ``config.json`` describes; ``difference`` says which files there are."""
    model, seen, first, run = (settings[key] for key in ("model", "input", "first", "run"))
    flat = [c for c in settings["channels"] if c != "M"][-1] * settings["side"] ** 2
    words = {**seen, **first, "side": settings["side"], "flat": flat, "c0": settings["channels"][0]}
    words |= {"channels": settings["channels"], "hidden": model["hidden_dim"], "d": model["feature_dim"]}
    words |= {key: list(seen[key]) for key in ("mean", "std")}
    files = settings["difference"]
    parts = [f"{FRONT}\n# {_plain(run['name'])}", *_what(settings), "## How to load it"]
    parts += ["Every block goes on from this one, in the folder of these files:", READ.strip().format(**words)]
    if "vgg16_bn.safetensors" in files:
        sobel = ", with the Sobel filter it was trained behind inside" if model["stem"] == "sobel" else ""
        blocks = (("PyTorch alone", TORCH), ("torchvision", TORCHVISION), ("timm", TIMM))
        parts += [
            "`vgg16_bn.safetensors` has torchvision's names. Its first convolution, in place of the usual one, is "
            f"{first['kernel']}x{first['kernel']} of colours{sobel}. Features are what the second fully connected "
            f"layer gives, before any non-linearity. {_told(files['vgg16_bn.safetensors'])}",
            *(f"{name}:\n{code.format(**words).rstrip()}" for name, code in blocks),
        ]
    if "model.onnx" in files:
        told = f"onnxruntime: the graph takes any number of images. {_told(files['model.onnx'])}"
        parts.append(f"{told}\n{RUNTIME.format(**words).rstrip()}")
    parts.append(
        "With the library that trained it, `dclib.load` reads `model.safetensors`, the weights as they were trained."
    )
    return "\n\n".join(parts) + "\n"


def _what(settings: Mapping[str, Any]) -> list[str]:
    model, run = settings["model"], settings["run"]
    n = f"{run['images']:,} images" if run["images"] else "images, of which nothing here says how many"
    last = run["last_epoch"]
    asked = [
        f"{words} {last[f'{task}_accuracy']:.1f} % (a guess: {last[f'{task}_chance']:.1f} %)"
        for task, words in TASKS.items()
        if f"{task}_accuracy" in last
    ]
    health = [
        f"in a word: {run['health']}" if run["health"] else "",
        f"last epoch's loss {last['loss']:.3f}, at chance {last['chance_loss']:.3f}" if "chance_loss" in last else "",
        *asked,
        f"NMI of the last two clusterings {run['nmi_previous']:.3f}" if run["nmi_previous"] is not None else "",
        f"best layer of linear classifiers: conv{run['best_layer']}" if run["best_layer"] else "",
    ]
    size, width, d = model["image_size"], model["width"], model["feature_dim"]
    rows = [f"| {_plain(key)} | {_plain(value)} |" for key, value in _flat(run["settings"])]
    return [
        f"A VGG-16 with batch normalisation, {width:g} times as wide, that makes {d} features of an image of {size} "
        f"pixels. It was trained by `{_word(run['method'])}` for {run['epochs']} epochs on {n}. Its run is "
        f"{run['state']}.",
        "\n".join(["## How well it is", "", *(f"- {_plain(line)}" for line in health if line)]),
        "## Licence\n\nThe weights are their trainer's, and so is the choice: write it into `license` above. "
        "Photographs may have owners who have a say.",
        "\n".join(["## Settings", "", "| Setting | Value |", "|---|---|", *rows]),
    ]


def _flat(settings: Mapping[str, Any], above: str = "", depth: int = 0) -> list[tuple[str, Any]]:
    """``section.key`` and value of settings in settings."""
    rows: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value and depth < SHOWN_DEPTH:
            rows += _flat(value, f"{above}{key}.", depth + 1)
        elif not isinstance(value, Mapping):
            rows.append((f"{above}{key}", value))
    return rows


def _told(difference: float | None) -> str:
    if difference is None:
        return "It was not tried where it was made."
    return f"On noise they differ from the trained network's own by at most {difference:.1e} of their length."


def _plain(text: object) -> str:
    """Words that cannot be taken for markup, on one line."""
    line = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in line)


def _word(text: object) -> str:
    """A name that can stand between two backquotes."""
    return " ".join(str(text).replace("`", "'").split())
