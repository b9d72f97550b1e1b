"""Counting a network with fvcore under one convention, so that how a module is written never decides what it costs.

Unit: fvcore's, one fused multiply-add = 1 FLOP; eval mode, batch 1. Beyond fvcore's own rules:
- every reduction over pixels or channels (mean, max, adaptive and windowed pooling, variance ...) is one FLOP per element
  read, in whatever way it is written;
- ``scaled_dot_product_attention`` counts its two matrix products, ``einsum`` the product of all its dimensions;
- element-wise operators, softmax and indexing are free, by name: an operator in no list is reported as uncounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from fvcore.nn.jit_analysis import JitModelAnalysis
from fvcore.nn.jit_handles import get_shape
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from spaces.meta import ShapesOnly

METRICS = ("params", "macs", "flops", "activations")

_REDUCTION_NAMES = """
    mean sum max amax min amin std var var_mean norm linalg_vector_norm logsumexp
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d max_pool2d_with_indices lp_pool2d
"""

_FREE_NAMES = """
    add add_ sub sub_ rsub mul mul_ div div_ neg abs square sqrt rsqrt pow reciprocal exp log log1p ceil
    relu relu_ relu6 relu6_ leaky_relu leaky_relu_ elu elu_ gelu gelu_ silu silu_ mish mish_ prelu sigmoid sigmoid_ tanh tanh_
    hardswish hardswish_ hardsigmoid hardsigmoid_ hardtanh hardtanh_ softplus softmax log_softmax clamp clamp_ clamp_min
    clamp_min_ clamp_max_ maximum minimum erf cos sin floor floor_divide round sign
    dropout dropout_ feature_dropout bernoulli_ pixel_shuffle pixel_unshuffle channel_shuffle
    linspace repeat repeat_interleave tile flip index index_select gather scatter_ masked_fill masked_fill_ where roll pad
    constant_pad_nd reflection_pad2d replication_pad2d expand_as reshape_as view_as unflatten movedim moveaxis swapaxes
    one_hot eye tril triu meshgrid numpy_T unfold im2col copy_ fill_ zero_ narrow
    eq ne lt le gt ge logical_not logical_and bitwise_not ones_like rand rand_like randn new_ones alias resolve_conj
    concat hstack vstack adjoint mT swapdims nan_to_num addcmul numel
"""


def _shape(value: Any) -> list[int]:
    shape = get_shape(value)
    if shape is None:
        raise ValueError(f"operator {value.node().kind()} has an operand without a shape")
    return shape


def _reduction_flops(inputs: list[Any], outputs: list[Any]) -> int:
    if len(inputs) > 1 and get_shape(inputs[1]) is not None:
        return 0  # max(x, y) of two maps is element-wise
    return prod(_shape(inputs[0]))


def _attention_sizes(inputs: list[Any]) -> tuple[int, int, int]:
    """Scores, and multiply-adds per score, of softmax(q k) v: (..., L, E), (..., S, E), (..., S, V)."""
    q, k, v = (_shape(value) for value in inputs[:3])
    return prod(q[:-1]) * k[-2], q[-1] + v[-1], prod(q[:-1]) * v[-1]


def _sdpa_flops(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    scores, each, _ = _attention_sizes(inputs)
    return Counter({"sdpa": scores * each})


def _sdpa_activations(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    scores, _, mixed = _attention_sizes(inputs)
    return Counter({"sdpa": scores + mixed})


def _einsum_flops(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Exact for any number of operands contracted at once; fvcore rounds to four digits."""
    terms = inputs[0].toIValue().replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, inputs[1].node().inputs(), strict=True):
        sizes |= dict(zip(term, _shape(operand), strict=True))
    return Counter({"einsum": prod(sizes.values())})


def _affine_grid_flops(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """theta (B, 2, 3) times homogeneous coordinates (3, HW)."""
    return Counter({"matmul": 3 * prod(_shape(outputs[0]))})


def _region_flops(inputs: list[Any], outputs: list[Any]) -> int:
    """Every sample of a region is a bilinear one, at four FLOPs as in up-sampling; a bin is the mean of a square of them."""
    samples = max(1, inputs[5].toIValue())
    return 4 * samples**2 * prod(_shape(outputs[0]))


def _elements(inputs: list[Any], outputs: list[Any]) -> int:
    return prod(_shape(outputs[0]))


_PRODUCTS = frozenset({"conv", "linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "einsum", "sdpa"})

Handle = Callable[[list[Any], list[Any]], Any]


def _handles() -> tuple[dict[str, Handle], dict[str, Handle]]:
    """fvcore's own handles with ours on top: of FLOPs and of activations, by operator."""
    nothing = nn.Identity()
    flops = dict(FlopCountAnalysis(nothing, ())._op_handles)
    activations = dict(ActivationCountAnalysis(nothing, ())._op_handles)
    flops |= {f"aten::{name}": _reduction_flops for name in _REDUCTION_NAMES.split()}
    flops |= {
        "aten::einsum": _einsum_flops,
        "aten::scaled_dot_product_attention": _sdpa_flops,
        "aten::affine_grid_generator": _affine_grid_flops,
        "aten::baddbmm": lambda inputs, outputs: prod(_shape(inputs[1])) * _shape(inputs[2])[-1],
        "aten::upsample_linear1d": lambda inputs, outputs: 2 * prod(_shape(outputs[0])),
        "torchvision::roi_align": _region_flops,
        "aten::upsample_bicubic2d": lambda inputs, outputs: 16 * prod(_shape(outputs[0])),
        # Of clips as fvcore counts maps: one for each number that an element is made of.
        "aten::upsample_nearest3d": lambda inputs, outputs: prod(_shape(outputs[0])),
        "aten::upsample_trilinear3d": lambda inputs, outputs: 8 * prod(_shape(outputs[0])),
        "aten::grid_sampler": lambda inputs, outputs: 2 ** (len(_shape(inputs[0])) - 2) * prod(_shape(outputs[0])),
    }
    activations |= {
        "aten::scaled_dot_product_attention": _sdpa_activations,
        "aten::mm": _elements,
        "aten::baddbmm": _elements,
    }
    return flops, activations


class _Analysis(JitModelAnalysis):
    """FLOPs and activations from one trace: counters are named ``flops:OPERATOR`` and ``activations:OPERATOR``."""

    def __init__(self, model: nn.Module, x_BCHW: Tensor) -> None:
        super().__init__(model, x_BCHW)
        flops, activations = _handles()
        for name in flops.keys() | activations.keys():
            self.set_op_handle(name, self._both(name, flops.get(name), activations.get(name)))
        self.set_op_handle(**{f"aten::{name}": None for name in _FREE_NAMES.split()})
        self.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")

    def _both(self, operator: str, flops: Handle | None, activations: Handle | None) -> Handle:
        def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
            found: Counter[str] = Counter()
            for unit, count in (("flops", flops), ("activations", activations)):
                counted = count(inputs, outputs) if count else {}
                if not isinstance(counted, Mapping):
                    counted = {self._simplify_op_name(operator): counted}
                for name, value in counted.items():
                    found[f"{unit}:{name}"] = int(value)
            return found

        return handle


# --- tracing without computing ----------------------------------------------------------------------------------------
# fvcore reads a torch.jit trace. On meta tensors that trace costs neither time nor memory (a non-local block on a
# 112 x 112 map would need gigabytes), but torch's own meta kernels are Python code that breaks while a trace is on: shapes
# are then tensors. So the trace is suspended for as long as a kernel runs.

_C: Any = torch._C  # some of what a trace needs is missing in the stubs
_TRACER = _C._parse_dispatch_key("Tracer")


class _OutsideTheTrace(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._convolution.default:
            func, args = torch.ops.aten.convolution.default, args[:9]  # the same without the flags of cuDNN
        included = _C._dispatch_tls_local_include_set().remove(_TRACER)
        excluded = _C._dispatch_tls_local_exclude_set().remove(_TRACER)
        with _C._ForceDispatchKeyGuard(included, excluded):
            trace = _C._get_tracing_state()
            _C._set_tracing_state(None)
            try:
                return func(*args, **(kwargs or {}))
            finally:
                _C._set_tracing_state(trace)


class _ConvolutionsByName(TorchFunctionMode):
    """Calls ``_convolution``, the operator that fvcore counts, at once.

    A dispatch mode sees ``convolution`` before it, and a trace of padding by name another operator.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _CONVOLUTIONS:
            return _convolution(_CONVOLUTIONS[func], *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


_CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


def _convolution(
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    def each(value: Any) -> list[int]:
        values = list(value) if isinstance(value, (tuple, list)) else [value]
        return values * dims if len(values) == 1 else values

    if isinstance(padding, str):
        reach = [d * (int(k) - 1) for d, k in zip(each(dilation), weight.shape[2:], strict=True)]
        if padding == "same" and any(r % 2 for r in reach):
            input = nn.functional.pad(input, [side for r in reversed(reach) for side in (0, r % 2)])
        padding = [r // 2 if padding == "same" else 0 for r in reach]
    off = False, [0] * dims, groups, False, False, True, True
    return torch._convolution(input, weight, bias, each(stride), each(padding), each(dilation), *off)


@dataclass(frozen=True)
class Counts:
    """``total`` and ``by_module``: int64 vectors in the order of METRICS; ``uncounted``: operators in no list."""

    total: np.ndarray
    by_module: dict[str, np.ndarray]
    uncounted: tuple[str, ...]


def count_module(model: nn.Module, x_BCHW: Tensor) -> Counts:
    """Count one forward pass of ``model`` with fvcore, in eval mode; the model keeps its own mode.

    On meta tensors nothing is computed.
    """
    training = {module: module.training for module in model.modules()}
    try:
        analysis = _Analysis(model.eval(), x_BCHW)
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if x_BCHW.is_meta:
                stack.enter_context(ShapesOnly())
                stack.enter_context(_OutsideTheTrace())
            stack.enter_context(_ConvolutionsByName())
            counted = analysis.by_module_and_operator()
    finally:
        for module, mode in training.items():
            module.training = mode
    modules = dict(model.named_modules())
    by_module = {name: _vector(modules[name], counted[name]) for name in modules if name in counted}
    return Counts(by_module[""], by_module, tuple(sorted(analysis.unsupported_ops())))


def _vector(module: nn.Module, counted: Mapping[str, int]) -> np.ndarray:
    params = sum(parameter.numel() for parameter in module.parameters())
    units = {name: name.partition(":") for name in counted}
    flops = sum(count for name, count in counted.items() if units[name][0] == "flops")
    macs = sum(n for name, n in counted.items() if units[name][0] == "flops" and units[name][2] in _PRODUCTS)
    activations = sum(count for name, count in counted.items() if units[name][0] == "activations")
    return np.array([params, macs, flops, activations], dtype=np.int64)
