"""The network that an evaluation looks at: trained here, or read from a published file."""

from __future__ import annotations

from dclib.config import MethodConfig, Preset
from dclib.models.released import load_released
from dclib.models.vgg import Trunk
from dclib.train.runnable import runnable_methods
from dclib.train.runs import pretrain_method


def trained_network(preset: Preset, method: str, seed: int, *, device: str = "") -> Trunk:
    """The trunk of one method and seed, in evaluation mode; it is trained first where it is not yet.

    Where its settings have ``train.patience``, training ends when performance on VOC2007 saturates.
    """
    chain = [method]
    while init := preset.method(chain[-1]).init:
        chain.append(init)
    stops_early = any(preset.method(name).train.patience for name in chain)
    validator = None
    if stops_early:
        from dclib.evaluate.validation import voc_validator  # it loads scikit-learn, twice as long as torch

        validator = voc_validator(preset, seed)
    return pretrain_method(preset, method, seed, device=device, validator=validator)


def method_behind_sobel(preset: Preset) -> str:
    """The network that Figure 4 looks through; empty where all of the preset's see colour.

    DeeperCluster, as in the paper, where it sees gradients, else the first network that does; one that is not trained
    comes last.
    """
    found = [name for name in runnable_methods(preset) if _stem(preset.method(name)) == "sobel"]
    found.sort(key=lambda name: (name != "deepercluster", preset.method(name).method == "random"))
    return found[0] if found else ""


def _stem(config: MethodConfig) -> str:
    """What a network sees first; of a published one its file tells."""
    if config.method != "released":
        return config.model.stem
    return load_released(config.weights, allow_partial=config.allow_partial).trunk.config.stem
