"""The ways of pre-training there are, and what is known of each before torch is there: presets, plans and pages ask.

Each module holds ``OUTLINES``, method -> :class:`Outline`; how the method trains is the module of the same name in
``train/tasks``. A new method is one of each: nothing lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from dclib.methods.outline import NoSettings, Outline

__all__ = ["MODULES", "OUTLINES", "NoSettings", "Outline"]

_NAMES = [found.name for found in iter_modules([str(Path(__file__).parent)])]
_FOUND = [(name, import_module(f"{__package__}.{name}")) for name in _NAMES]
OUTLINES: Mapping[str, Outline] = {
    method: outline for _, module in _FOUND for method, outline in getattr(module, "OUTLINES", {}).items()
}
MODULES: Mapping[str, str] = {method: name for name, module in _FOUND for method in getattr(module, "OUTLINES", {})}
