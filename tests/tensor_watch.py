"""Watch which tensors a piece of code makes: how a test sees that only a block is ever held."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class MadeTensors(TorchDispatchMode):
    """Collects the size and dtype of every tensor that is computed inside the ``with``; views are passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[int, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, torch.Tensor)}
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in given:
                self.made.append((x.numel(), x.dtype))
        return result

    def largest(self, *dtypes: torch.dtype) -> int:
        """Elements of the largest one, of the given types or of any."""
        return max((numel for numel, dtype in self.made if not dtypes or dtype in dtypes), default=0)
