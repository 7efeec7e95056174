"""For processes that tests start: PyTorch's compiler is loaded when it is used, not when the first optimiser is made.

An optimiser asks the compiler to leave its methods alone, and for that loads all of it, which takes twice as long as
torch does. Nothing here is compiled, so that this can be answered without it; whatever else is asked of the
compiler, the real one answers.
"""

import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

NAME = "torch._dynamo"


class Absent(ModuleType):
    """Stands in the place of the compiler until something is asked of it that an optimiser does not ask."""

    def disable(self, function: Any, *_: object, **__: object) -> Any:
        return function

    def graph_break(self) -> None: ...

    trace_rules = SimpleNamespace(clear_lru_cache=lambda: None)  # when processes meet

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # which an import of one of its modules asks for
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


sys.modules[NAME] = Absent(NAME)
