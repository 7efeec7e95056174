"""The network that an evaluation looks at: trained here, or read from a published file."""

from __future__ import annotations

from dclib.config import Preset
from dclib.models.vgg import Trunk
from dclib.train.runs import pretrain_method


def trained_network(preset: Preset, method: str, seed: int, *, device: str = "") -> Trunk:
    """The trunk of one method and seed, in evaluation mode; it is trained first where it is not yet."""
    return pretrain_method(preset, method, seed, device=device)
