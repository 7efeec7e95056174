"""The network that an evaluation looks at: trained here, or read from a published file."""

from __future__ import annotations

from dclib.config import Preset
from dclib.evaluate.validation import voc_validator
from dclib.models.vgg import Trunk
from dclib.train.runs import pretrain_method


def trained_network(preset: Preset, method: str, seed: int, *, device: str = "") -> Trunk:
    """The trunk of one method and seed, in evaluation mode; it is trained first where it is not yet.

    Where its settings have ``train.patience``, training ends when performance on VOC2007 saturates.
    """
    chain = [method]
    while init := preset.method(chain[-1]).init:
        chain.append(init)
    stops_early = any(preset.method(name).train.patience for name in chain)
    validator = voc_validator(preset, seed) if stops_early else None
    return pretrain_method(preset, method, seed, device=device, validator=validator)
