"""The page on which two trained networks run in the reader's browser: their files, and what it shows without a script.

The networks come from ``python -m dclib network``, of this machine's runs or published. Below a book they are scripts,
for a page opened from a folder may load nothing else. No torch here: the pictures that stand on the page until a reader
loads the networks are computed from the same files, by NumPy.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dclib.config import Preset
from dclib.presets import project_root, runs_folder
from dclib.records import write_atomically

PAGE, FOLDER = "network", "network"  # the page, and the folder of a book and of results that has its files
ABOUT, POOL = "network.json", "pool.jpg"
PUBLISHED = "pocket"  # preset whose networks come with the project
CLUSTERING = "deepercluster"
NAMED = {CLUSTERING: "DeeperCluster", "rotnet": "RotNet"}  # the networks, as the page calls them
STATIC = ("style.css", "picture.js", "layers.js", "page.js")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as in dclib.models.sobel, which needs torch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What an image makes in a network.

    Attributes:
        sobel: (2, s, s).
        maps: Of each convolution behind its ReLU, (c, s, s).
        features: (d,).
        turns: (4,) probabilities.
    """

    sobel: Array
    maps: list[Array]
    features: Array
    turns: Array


@dataclass(frozen=True)
class PageNetworks:
    """A folder that ``python -m dclib network`` has written."""

    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """What ``network.json`` says."""
        found: dict[str, Any] = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        return found

    @cached_property
    def layers(self) -> dict[str, dict[str, tuple[Array, Array]]]:
        """Weights (out, ...) and biases (out,) by the names of network and layer."""
        found: dict[str, dict[str, tuple[Array, Array]]] = {}
        for name, one in self.about["networks"].items():
            content, at = (self.folder / f"{name}.bin").read_bytes(), 0
            found[name] = {}
            for layer, shape in one["layers"].items():
                n, size = shape[0], int(np.prod(shape))
                scale, bias = np.frombuffer(content, "<f4", 2 * n, at).astype(np.float64).reshape(2, n)
                whole = np.frombuffer(content, "<i2", size, at + 8 * n).astype(np.float64).reshape(n, -1)
                found[name][layer] = ((whole * scale[:, None]).reshape(shape), bias)
                at += 8 * n + 2 * size + (-2 * size) % 4
        return found

    def see(self, name: str, pixels: NDArray[np.uint8]) -> Seen:
        """What an image (3, s, s) makes in a network."""
        about, layers = self.about["networks"][name], self.layers[name]
        mean, std = (np.reshape(values, (3, 1, 1)) for values in (MEAN, STD))
        grey = np.pad(((pixels / 255 - mean) / std).mean(axis=0), about["padding"])
        windows = np.lib.stride_tricks.sliding_window_view(grey, (3, 3))
        kernel = np.outer((1, 2, 1), (1, 0, -1))
        stem = maps = np.stack([np.einsum("yxvu,vu->yx", windows, k) for k in (kernel, kernel.T)])
        seen = []
        for i in range(sum(layer.startswith("conv") for layer in layers)):
            weight, bias = layers[f"conv{i + 1}"]
            windows = np.lib.stride_tricks.sliding_window_view(np.pad(maps, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))
            maps = np.maximum(np.tensordot(weight, windows, ((1, 2, 3), (0, 3, 4))) + bias[:, None, None], 0)
            seen.append(maps)
            if i in about["pooled"]:
                c, half = len(maps), maps.shape[1] // 2
                maps = maps[:, : 2 * half, : 2 * half].reshape(c, half, 2, half, 2).max(axis=(2, 4))
        features = _apply(layers["features"], np.maximum(_apply(layers["hidden"], maps.ravel()), 0))
        weights = np.exp(_apply(layers["turns"], np.maximum(features, 0)))
        return Seen(stem, seen, features, weights.reshape(-1, 4).sum(axis=0) / weights.sum())

    def place(self, features: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Clusters and pictures of the pool, each from the nearest on, and the pictures' cosines in their own order."""
        layers = self.layers[CLUSTERING]
        point = _apply(layers["points"], features)
        point /= max(float(np.linalg.norm(point)), 1e-12)
        cosines = _apply(layers["pool"], point)
        return np.argsort(-_apply(layers["clusters"], point)), np.argsort(-cosines), cosines

    def example(self, number: int) -> NDArray[np.uint8]:
        """An example as the networks see it, (3, s, s)."""
        about = self.about["networks"][CLUSTERING]
        resize, size = about["resize"], about["image_size"]
        image = Image.open(self.folder / self.about["examples"][number]["file"])
        image.draft("RGB", (resize, resize))
        small = image.convert("RGB").resize((resize, resize), Image.Resampling.BILINEAR)  # examples are square
        edge = round((resize - size) / 2)
        return np.asarray(small.crop((edge, edge, edge + size, edge + size))).transpose(2, 0, 1)


def page_networks(preset: str, runs: bool = True) -> PageNetworks:
    """Those of this machine's ``runs`` of a preset, else its published ones, else those that come with the project.

    Raises:
        ValueError: there are none.
    """
    places = [runs_folder() / preset / FOLDER] if runs else []
    places += [project_root() / "results" / name / FOLDER for name in (preset, PUBLISHED)]
    found = next((place for place in places if (place / ABOUT).is_file()), None)
    if found is None:
        raise ValueError(
            f"need the networks of a page in {places[-1]}; make them with: python -m dclib network --preset {PUBLISHED}"
        )
    return PageNetworks(found)


def needs_networks(preset: Preset) -> bool:
    """Whether both networks were trained here, and those that were last put into files are others."""
    if not preset.data.is_drawn:
        return False
    own, made = runs_folder() / preset.name, ""
    if (own / FOLDER / ABOUT).is_file():
        made = str({name: one["card"]["created"] for name, one in PageNetworks(own / FOLDER).about["networks"].items()})
    records = {name: own / "records" / "pretrain" / f"{name}-s{preset.seeds[0]}.json" for name in NAMED}
    if not all(path.is_file() for path in records.values()):
        return False
    cards = {name: json.loads(path.read_text(encoding="utf-8"))["card"] for name, path in records.items()}
    return made != str({name: card["created"] for name, card in cards.items()})


def write_scripts(networks: PageNetworks, html: Path) -> None:
    """Put the networks, their pictures and what runs them into a book."""
    folder = html / FOLDER
    for name in networks.about["networks"]:
        text = base64.b64encode((networks.folder / f"{name}.bin").read_bytes()).decode("ascii")
        write_atomically(folder / f"{name}.js", f'dclibNetwork.take("{name}","{text}");\n'.encode())
    about = json.dumps(told(networks), separators=(",", ":"))
    write_atomically(folder / "about.js", f"dclibNetwork.about={about};\n".encode())
    for name in STATIC:
        source = resources.files("dclib.press") / "page" / name
        write_atomically(folder / name, source.read_bytes())
    shutil.copyfile(networks.folder / POOL, folder / POOL)


def told(networks: PageNetworks) -> dict[str, Any]:
    """What the page's script must know."""
    about = networks.about
    wanted = ("layers", "image_size", "resize", "padding", "pooled")
    own = {name: {key: one[key] for key in wanted} for name, one in about["networks"].items()}
    return {"networks": own, "clusters": about["clusters"], "pool": about["pool"]}


def megabytes(networks: PageNetworks) -> float:
    """Of the scripts that hold the weights."""
    return sum((networks.folder / f"{name}.bin").stat().st_size for name in networks.about["networks"]) * 4 / 3 / 1e6


def as_data(picture: NDArray[np.uint8]) -> str:
    """A picture (h, w) or (h, w, 3) as an address that holds it whole."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _apply(layer: tuple[Array, Array], vector: Array) -> Array:
    values: Array = layer[0] @ vector + layer[1]
    return values
