"""Which methods a preset's images are enough for. No torch here: the plan of a book asks too."""

from __future__ import annotations

from dclib.config import Preset
from dclib.data.images import find_split
from dclib.presets import data_root


def runnable_methods(preset: Preset) -> tuple[str, ...]:
    """The preset's methods without those that need labelled images, or start from one that does, where none are there.

    Raises:
        ValueError: the labelled images are named and not there.
    """
    data = preset.data
    labelled_only = [name for name in preset.methods if _needs_labelled(preset, name)]
    if not labelled_only or not data.root:  # the pocket world has labelled images
        return tuple(preset.methods)
    if find_split(data_root(data), data.objects_train, name="objects_train") is not None:
        return tuple(preset.methods)
    return tuple(name for name in preset.methods if name not in labelled_only)


def _needs_labelled(preset: Preset, method: str) -> bool:
    """Whether a method, or one it starts from, learns from the labelled objects."""
    config = preset.method(method)
    own = config.method == "supervised" or config.images == "objects"
    return own or bool(config.init and _needs_labelled(preset, config.init))
