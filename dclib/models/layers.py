"""PyTorch's layers with weights that nobody has drawn yet: what makes one draws them, from a generator of its own.

``torch.nn.utils.skip_init`` does the same, and loads SymPy for it, which takes as long as PyTorch itself.
"""

from torch import nn


class Linear(nn.Linear):
    def reset_parameters(self) -> None: ...


class Conv2d(nn.Conv2d):
    def reset_parameters(self) -> None: ...
