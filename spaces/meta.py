"""Running a network on the meta device, where nothing is computed, without torch's own meta kernels where those are slow.

They are Python: a batch normalisation takes as long as forty convolutions, a sum of two maps as long as five.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
_POINTWISE = ["add", "sub", "mul", "div"]
# Backward passes whose first two tensors, the gradient and what was kept, broadcast as those of a sum do.
_BACKWARD = [
    "threshold_backward",
    "sigmoid_backward",
    "tanh_backward",
    "hardsigmoid_backward",
    "hardswish_backward",
    "hardtanh_backward",
    "silu_backward",
    "gelu_backward",
]


def _alike(x: Tensor, *numbers: Any, **options: Any) -> Any:
    return torch.empty_like(x)


def _itself(x: Tensor, *others: Any, **options: Any) -> Any:
    return x


def _pointwise(x: Tensor, y: Any, *numbers: Any, **options: Any) -> Any:
    if not x.is_floating_point() or isinstance(y, complex):
        return NotImplemented
    if not isinstance(y, Tensor):
        return torch.empty_like(x)
    if not y.is_meta or y.dtype != x.dtype:
        return NotImplemented
    shape = torch.broadcast_shapes(x.shape, y.shape)
    for one in (x, y):
        if one.shape == shape:
            return torch.empty_like(one)
    return x.new_empty(shape)


def _batch_norm(x: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *numbers: Any) -> Any:
    channels = x.shape[1] if training else 0
    return torch.empty_like(x), x.new_empty(channels), x.new_empty(channels)


def _batch_norm_backward(gradient: Tensor, x: Tensor, *others: Any) -> Any:
    wanted: Sequence[bool] = others[-1]
    channels = x.shape[1]
    made = (torch.empty_like(x) if wanted[0] else None, *(x.new_empty(channels) if one else None for one in wanted[1:]))
    return made if x.is_floating_point() else NotImplemented


_SHAPES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_ALIKE, _alike),
    **dict.fromkeys(_POINTWISE + _BACKWARD, _pointwise),
    **{f"{name}_": _itself for name in _ALIKE + _POINTWISE},
    "native_batch_norm": _batch_norm,
    "native_batch_norm_backward": _batch_norm_backward,
}


def shapes_of(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What an operator returns for tensors of the meta device, or NotImplemented where torch itself has to tell.

    ``func``: of ``torch.ops.aten``, with its ``args`` and ``kwargs`` as a ``TorchDispatchMode`` is given them.
    """
    first = args[0] if args else None
    if isinstance(first, Tensor) and first.is_meta and not kwargs.keys() - {"alpha", "approximate"}:
        told = _SHAPES.get(func.overloadpacket.__name__)
        if told is not None and func._overloadname != "out":
            return told(*args, **kwargs)
    return NotImplemented


class ShapesOnly(TorchDispatchMode):
    """Within it, tensors of the meta device get their shapes fast."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        told = shapes_of(func, args, kwargs or {})
        return func(*args, **(kwargs or {})) if told is NotImplemented else told
