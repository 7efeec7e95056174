"""Two trained networks for a page that runs them: RotNet's and DeeperCluster's, with what the second one clustered.

All that the page computes is a chain of layers, out = W in + b, convolutions and matrices alike: batch normalisation
is folded into the convolutions, whitening is a matrix, and so is the search for the nearest centroid or picture.
Weights are integers of 16 bits and one scale for each output: as large as half precision, and more exact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from dclib.cluster.whitening import usable_pca_dim
from dclib.config import Preset
from dclib.data.folders import named_path
from dclib.data.images import ImageSet
from dclib.explore.found import CHECKPOINT, Run, load_network, read_run
from dclib.explore.space import Space, space_of
from dclib.models.vgg import Trunk
from dclib.pocket.outline import PoolDrawer
from dclib.presets import runs_folder
from dclib.records import replacing_folder
from dclib.train.features import extract_features
from dclib.train.runs import kept_pixels, prepare_data

FOLDER, ABOUT, POOL = "network", "network.json", "pool.jpg"
METHODS = ("deepercluster", "rotnet")  # the first one clusters
SHOWN, MIDDLE = 600, 9  # pictures of the pool that are kept, and how many of them from the middle of each cluster
EXAMPLES = 12  # pictures that no network has learned from
THUMB, ACROSS = 48, 25  # pixels of a picture of the pool, and pictures in a row of its sheet
QUALITY = 70  # of the sheet, a JPEG
TRIED = 256  # images on which the rounded network is compared with the one it is of
CLOSE = 1e-3  # largest difference of an image's features by their length
TURNS = 4
CARD = ("config_hash", "data_hash", "code_hash", "commit", "created", "device", "protocol")


@dataclass(frozen=True)
class Layer:
    """``weight`` (out, in, k, k), or (out, in), and ``bias`` (out,)."""

    name: str
    weight: Tensor
    bias: Tensor

    def rounded(self) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Weights as integers (out, ...), and what each output's are to be multiplied by, (out,)."""
        rows = self.weight.double().flatten(1)
        scale = (rows.abs().amax(dim=1) / 32767).clamp(min=1e-30).float()
        return (rows / scale.double()[:, None]).round().numpy().astype(np.int16), scale.numpy()

    def as_rounded(self) -> Layer:
        """The layer that a page computes."""
        whole, scale = self.rounded()
        weight = torch.from_numpy(whole.astype(np.float64) * scale.astype(np.float64)[:, None])
        return replace(self, weight=weight.float().view_as(self.weight))


def write_page_network(preset: Preset, out: str | Path = "", report: Callable[[str], None] = print) -> Path:
    """Write the first seed's networks of a preset's runs, for ``dclib.press.network``; returns their folder.

    It holds ``network.json``, a ``.bin`` of layers for each network, a sheet of pictures of the pool, and examples. A
    layer is scales (out,) and biases (out,), float32, and weights (out, in * k * k), int16, padded to four bytes.

    Args:
        out: ``network`` beside the preset's runs if empty.

    Raises:
        ValueError: images are not drawn, a network is not trained or of another kind, or its rounding shows.
        OSError: it cannot be written; what was there is untouched.
    """
    if not preset.data.is_drawn:
        raise ValueError(f"need a preset of drawn images: those of {preset.name!r} may not be put into a page")
    seed = preset.seeds[0]
    runs = {method: find_run(preset, method, seed) for method in METHODS}
    trunks = {method: load_network(run.folder).eval() for method, run in runs.items()}
    data = prepare_data(preset)
    pixels = kept_pixels(preset, METHODS[0], data.pool)
    features = extract_features(trunks[METHODS[0]], pixels).values
    clusters = _clusters(preset, METHODS[0], seed, len(features))
    assert preset.common_clustering is not None
    dim = usable_pca_dim(preset.common_clustering.cluster.pca_dim, *features.shape)
    space = space_of(features, clusters, dim)
    points = space.points(features)
    rows = shown_rows(points, space.centroids, clusters)
    more = {METHODS[0]: space_layers(space, points[rows])}
    target = named_path(out) if out else runs_folder() / preset.name / FOLDER
    images = next(iter(pixels.centre_batches(TRIED))).float() / 255
    with replacing_folder(target) as folder:
        about: dict[str, Any] = {"preset": preset.name, "seed": seed, "licence": "MIT", "networks": {}}
        for method, run in runs.items():
            layers = [*trunk_layers(trunks[method]), turn_head(run), *more.get(method, ())]
            difference = check_rounding(trunks[method], layers, images)
            weights = b"".join(packed(layers))
            (folder / f"{method}.bin").write_bytes(weights)
            known = geometry(trunks[method], layers, pixels.resize)
            about["networks"][method] = describe(run, weights, difference) | known
            report(
                f"{method}: {len(weights) / 1e6:.2f} MB, rounding moves features by {difference:.1e} of their length"
            )
        about["clusters"] = torch.bincount(clusters, minlength=len(space.centroids)).tolist()
        about["pool"] = _write_pool(folder, preset, data.pool, rows, clusters)
        about["examples"] = _write_examples(folder, data.objects_test)
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
        (folder / ABOUT).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    report(f"the networks of a page: {target}")
    return target


def find_run(preset: Preset, method: str, seed: int) -> Run:
    """The finished run that a preset's records are of. Raises ValueError where there is none."""
    folders = sorted((runs_folder() / preset.name / "runs").glob(f"{method}-s{seed}-*"))
    found = [run for run in map(read_run, folders) if not run.fault and run.saved and run.card]
    if not found:
        raise ValueError(
            f"need a finished run of {method}, seed {seed}, among the runs of preset {preset.name!r}; make it with: "
            f"python -m dclib pretrain --preset {preset.name} --method {method} --seed {seed}"
        )
    return max(found, key=lambda run: run.changed)


@torch.no_grad()
def trunk_layers(trunk: Trunk) -> list[Layer]:
    """Thirteen convolutions, each with its batch normalisation inside, and the two matrices behind them, in float64."""
    if trunk.config.stem != "sobel":
        raise ValueError(f"need a network behind Sobel for a page; this one has stem {trunk.config.stem!r}")
    layers: list[Layer] = []
    for module in trunk.features:
        if isinstance(module, nn.Conv2d):
            bias = module.bias if module.bias is not None else module.weight.new_zeros(len(module.weight))
            layers.append(Layer(f"conv{len(layers) + 1}", module.weight.double(), bias.double()))
        elif isinstance(module, nn.BatchNorm2d):
            last = layers[-1]
            assert module.running_mean is not None
            assert module.running_var is not None
            gain = module.weight.double() / (module.running_var.double() + module.eps).sqrt()
            bias = module.bias.double() + (last.bias - module.running_mean.double()) * gain
            layers[-1] = replace(last, weight=last.weight * gain.view(-1, 1, 1, 1), bias=bias)
    linear = [module for module in trunk.classifier if isinstance(module, nn.Linear)]
    named = zip(("hidden", "features"), linear, strict=True)
    return [*layers, *(Layer(name, one.weight.double(), one.bias.double()) for name, one in named)]


def turn_head(run: Run) -> Layer:
    """The super-class head, from features behind a ReLU; class s is quarter turn s modulo four."""
    head = run.saved["task"]["head"]
    if len(head["super_weight"]) % TURNS:
        raise ValueError(f"need a network that was asked for turns; {run.name} was not")
    return Layer("turns", head["super_weight"].double(), head["super_bias"].double())


def space_layers(space: Space, pool: Tensor) -> list[Layer]:
    """Features to a point; and from a point of unit length to how near it is to each centroid and picture.

    Nearness to a centroid is p c - c c / 2, the largest where the distance is least; to a picture it is the cosine. A
    centroid of no images is nowhere near.
    """
    projection, mean = space.projection.double(), space.mean.double()
    empty = space.centroids.isnan().any(dim=1)
    centroids = space.centroids.double().nan_to_num(0.0)
    offset = torch.where(empty, -1e3, -centroids.square().sum(dim=1) / 2)
    return [
        Layer("points", projection.T.contiguous(), -(mean @ projection)),
        Layer("clusters", centroids, offset),
        Layer("pool", pool.double(), torch.zeros(len(pool), dtype=torch.float64)),
    ]


def packed(layers: Sequence[Layer]) -> Iterator[bytes]:
    """The bytes of some layers, one after the other, little-endian."""
    for layer in layers:
        whole, scale = layer.rounded()
        weights = whole.astype("<i2").tobytes()
        yield scale.astype("<f4").tobytes() + layer.bias.numpy().astype("<f4").tobytes() + weights
        yield b"\0" * (-len(weights) % 4)


@torch.no_grad()
def check_rounding(trunk: Trunk, layers: Sequence[Layer], images: Tensor) -> float:
    """Largest difference of features (by their length) that 16 bits make. Raises ValueError where it shows."""
    if not all(layer.weight.isfinite().all() and layer.bias.isfinite().all() for layer in layers):
        raise ValueError("need weights that are numbers, and some are not finite: has training diverged?")
    by_name = {layer.name: layer.as_rounded() for layer in layers}
    maps = trunk.stem(images)
    convolutions = iter(layer for name, layer in by_name.items() if name.startswith("conv"))
    for module in trunk.features:
        if isinstance(module, nn.Conv2d):
            layer = next(convolutions)
            maps = F.relu(F.conv2d(maps, layer.weight, layer.bias.float(), padding=1))
        elif isinstance(module, nn.MaxPool2d):
            maps = module(maps)
    hidden, last = by_name["hidden"], by_name["features"]
    hidden_values = F.relu(F.linear(maps.flatten(1), hidden.weight, hidden.bias.float()))
    features, own = F.linear(hidden_values, last.weight, last.bias.float()), trunk(images)
    worst = float(((features - own).norm(dim=1) / own.norm(dim=1).clamp(min=1e-12)).max())
    if worst > CLOSE:
        raise ValueError(
            f"need features that weights of 16 bits move by at most {CLOSE:g} of their length, and these move by "
            f"{worst:.1e}: train the network anew, with a smaller learning rate"
        )
    return worst


def describe(run: Run, weights: bytes, difference: float) -> dict[str, Any]:
    """Where a network comes from."""
    return {
        "run": run.name,
        "card": {key: run.card.get(key, "") for key in CARD} | {"versions": run.card.get("versions", {})},
        "images": run.n_images,
        "epochs": run.epoch,
        "checkpoint_sha256": hashlib.sha256((run.folder / CHECKPOINT).read_bytes()).hexdigest(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "rounding": float(f"{difference:.2g}"),
    }


def geometry(trunk: Trunk, layers: Sequence[Layer], resize: int) -> dict[str, Any]:
    """What a page must know to run a network: sizes in pixels, behind which convolutions is a pooling, and shapes."""
    return {
        "image_size": trunk.config.image_size,
        "resize": resize,
        "padding": trunk.stem.padding,
        "pooled": [i for i, module in enumerate(_pooling(trunk)) if module],
        "layers": {layer.name: list(layer.weight.shape) for layer in layers},
    }


def _pooling(trunk: Trunk) -> list[bool]:
    """For each convolution whether a pooling comes behind it."""
    kept = [module for module in trunk.features if isinstance(module, nn.Conv2d | nn.MaxPool2d)]
    return [
        isinstance(after, nn.MaxPool2d)
        for module, after in zip(kept, [*kept[1:], None], strict=True)
        if isinstance(module, nn.Conv2d)
    ]


def shown_rows(points: Tensor, centroids: Tensor, clusters: Tensor, most: int = SHOWN) -> NDArray[np.int64]:
    """Which images are kept: the middle of each cluster, from the nearest on, and others at random.

    Args:
        points: (n, p) of unit length.
        centroids: (k, p).
        clusters: (n,) of each image.
    """
    distance = (points - centroids[clusters]).norm(dim=1)
    order = np.lexsort((distance.numpy(), clusters.numpy()))
    first = np.searchsorted(clusters.numpy()[order], np.arange(len(centroids) + 1))
    middle = [row for a, b in zip(first, first[1:], strict=False) for row in order[a:b][:MIDDLE]]
    others = np.setdiff1d(np.random.default_rng(0).permutation(len(points)), middle, assume_unique=True)
    return np.array([*middle, *others[: max(0, most - len(middle))]], np.int64)


def _clusters(preset: Preset, method: str, seed: int, n: int) -> Tensor:
    """(n,) the cluster of every image of the pool by the finished network, as the run has kept it."""
    path = runs_folder() / preset.name / "pictures" / f"assignments-{method}-s{seed}.npy"
    found = torch.from_numpy(np.load(path).astype(np.int64)) if path.is_file() else torch.empty(0)
    if len(found) != n:
        raise ValueError(f"need the clusters of {n} images at {path}; got {len(found)}: run the preset again")
    return found


def _write_pool(
    folder: Path, preset: Preset, pool: ImageSet, rows: NDArray[np.int64], clusters: Tensor
) -> dict[str, Any]:
    """Write the sheet; returns what was drawn, and the cluster, of each picture on it."""
    drawer = PoolDrawer(Path(), preset.data.pocket_images, preset.data.pocket_seed)
    sheet = Image.new("RGB", (ACROSS * THUMB, -(-len(rows) // ACROSS) * THUMB))
    for place, row in enumerate(rows):
        down, across = divmod(place, ACROSS)
        sheet.paste(pool.open(int(row)).resize((THUMB, THUMB), Image.Resampling.BOX), (across * THUMB, down * THUMB))
    sheet.save(folder / POOL, quality=QUALITY)
    names = [drawer.photos[int(pool.ids[row])].class_name for row in rows]
    return {"thumb": THUMB, "across": ACROSS, "names": names, "cluster": clusters[rows].tolist()}


def _write_examples(folder: Path, images: ImageSet | None) -> list[dict[str, str]]:
    """Write some labelled test images, of different classes, as they are; returns their files and names."""
    if images is None or images.labels is None:
        raise ValueError("need labelled test images for examples, and the preset has none")
    order = np.random.default_rng(0).permutation(len(images))
    _, first = np.unique(images.labels[order], return_index=True)
    found = []
    for number, row in enumerate(order[np.sort(first)][:EXAMPLES]):
        file = f"example-{number}.jpg"
        (folder / file).write_bytes(images.read(int(row), bytes))
        found.append({"file": file, "name": images.classes[images.labels[row]]})
    return found
