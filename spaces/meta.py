"""Running a network on the meta device, where nothing is computed, without torch's own meta kernels where those are slow.

They are Python: a batch normalisation takes as long as forty convolutions. What changes no shape is told at once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Operators of one tensor, and numbers, whose result has its shape and dtype.
_ALIKE = [
    "relu",
    "elu",
    "gelu",
    "silu",
    "mish",
    "leaky_relu",
    "hardtanh",
    "hardsigmoid",
    "hardswish",
    "sigmoid",
    "tanh",
]
_NEW, _IN_PLACE = frozenset(_ALIKE), frozenset(f"{name}_" for name in _ALIKE)


class ShapesOnly(TorchDispatchMode):
    """Within it, tensors of the meta device get their shapes fast; without gradients, and for networks in eval mode."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        x = args[0] if args else None
        if isinstance(x, Tensor) and x.is_meta:
            name = func.overloadpacket.__name__
            if name in _IN_PLACE:
                return x
            if name in _NEW:
                return torch.empty_like(x)
            if name == "native_batch_norm" and not args[5]:
                return torch.empty_like(x), x.new_empty(0), x.new_empty(0)
        return func(*args, **(kwargs or {}))
