"""Passes of images through a network: which ones a run is made of, and rates fitted to some that were measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dclib.config import ModelConfig, Preset
from dclib.planner.hardware import Hardware
from dclib.planner.network import network_size

FEATURE_BATCH = 256  # images of a forward pass without gradients: train.features and evaluate.linear_probe
MAP_PASSES, TRAINING_MAP_PASSES = 4, 16  # times that element-wise layers read or write a map, forward and in training
FITTED = ((1 / 8, 32, 16), (1 / 8, 32, 64), (1 / 2, 32, 16))  # width, side, batch


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A batch that goes through the trunk, and back where it trains; without the update."""

    model: ModelConfig
    batch: int
    precision: str  # of products, as in train.precision
    trains: bool

    @property
    def name(self) -> str:
        """What its seconds are kept under."""
        m = self.model
        size = f"width {m.width:g}, {m.image_size} pixels, {m.stem}, {m.hidden_dim} and {m.feature_dim}"
        return f"{'step' if self.trains else 'forward'}: {size}, batch {self.batch}, {self.precision}"

    @property
    def flops(self) -> float:
        """Of the whole batch."""
        size = network_size(self.model)
        return float(self.batch * (size.training_flops if self.trains else size.forward_flops))

    @property
    def moved(self) -> float:
        """Bytes that element-wise layers read and write in float32."""
        times = TRAINING_MAP_PASSES if self.trains else MAP_PASSES
        return float(self.batch * times * network_size(self.model).maps_bytes)

    def seconds(self, machine: Hardware) -> float:
        """Of the whole batch: as it was measured itself, or by the machine's rates."""
        if taken := machine.passes.get(self.name):
            return taken
        low = self.precision == "bfloat16" or (self.precision == "auto" and machine.bfloat16_gain > 1)
        size = network_size(self.model, "bfloat16" if low else "float32")
        conv_flops, linear_flops = machine.product_rates("bfloat16" if low else "float32")
        ways = 3 if self.trains else 1
        linear = ways * size.linear_flops
        conv = (size.training_flops if self.trains else size.forward_flops) - linear
        moved = (TRAINING_MAP_PASSES if self.trains else MAP_PASSES) * size.maps_bytes / machine.memory_rate
        return self.batch * (conv / conv_flops + linear / linear_flops + moved)

    def asked(self) -> dict[str, Any]:
        """As :mod:`dclib.train.speed` is asked to measure it."""
        return {**asdict(self), "name": self.name, "flops": self.flops}


def fitted_passes(sizes: Sequence[tuple[float, int, int]] = FITTED) -> list[Pass]:
    """Passes of several sizes in float32, from which the rates of any other are taken."""
    return [
        Pass(
            model=ModelConfig(image_size=side, width=width, hidden_dim=64, feature_dim=64, dropout=0.0),
            batch=batch,
            precision="float32",
            trains=trains,
        )
        for width, side, batch in sizes
        for trains in (True, False)
    ]


def passes_of(preset: Preset) -> list[Pass]:
    """The passes that a preset's runs consist of, each once, those that take most of their time first."""
    trained = [config for config in preset.methods.values() if config.trains]
    found: list[Pass] = []
    for config in trained:
        chosen, batch = config.train.precision, -(-config.train.batch_size // config.train.accumulate)
        found.append(Pass(model=config.model, batch=batch, precision=chosen, trains=True))
        if config.clusters:
            found.append(Pass(model=config.model, batch=FEATURE_BATCH, precision=chosen, trains=False))
    for model in dict.fromkeys(config.model for config in preset.methods.values()):
        colour = replace(model, stem="folded" if model.stem == "sobel" else model.stem)
        for at, batch, trains in (
            (model, FEATURE_BATCH, False),
            (model, preset.voc.batch_size, False),
            (colour, preset.finetune.batch_size, True),
            (model, preset.voc.batch_size, True),
        ):
            found.append(Pass(model=at, batch=batch, precision="float32", trains=trains))
    return list(dict.fromkeys(found))


def fit_rates(passes: Iterable[Pass], seconds: Mapping[str, float]) -> dict[str, float]:
    """Rates of convolutions and of element-wise work, and the overhead of a pass, by least squares.

    Args:
        seconds: Of a whole batch, by the passes' names.
    """
    passes = list(passes)
    rows = np.array([(one.flops, one.moved, 1.0) for one in passes])
    flop, byte, overhead = map(float, non_negative(rows, np.array([seconds[one.name] for one in passes])))
    return {"conv_flops": 1 / flop, "memory_rate": 1 / byte, "overhead": overhead}


def non_negative(rows: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients >= 0 with the least squared relative error of ``rows @ coefficients`` against ``times``.

    A cost that the times show nothing of comes out tiny instead of zero, for rates are its inverse.
    """
    scaled = rows / times[:, None]
    best, least = np.zeros(rows.shape[1]), np.inf
    for kept in itertools.chain.from_iterable(itertools.combinations(range(3), size) for size in (1, 2, 3)):
        found, *_ = np.linalg.lstsq(scaled[:, kept], np.ones(len(times)), rcond=None)
        error = float(np.square(scaled[:, kept] @ found - 1).sum())
        if error < least and (found >= 0).all():
            best, least = np.zeros(rows.shape[1]), error
            best[list(kept)] = found
    floor = 1e-4 * times.mean() / rows.mean(axis=0)
    return np.asarray(np.maximum(best, floor), dtype=np.float64)
