"""Dense maps of a backbone: late stages dilate their convolutions instead of lowering the resolution (the a trous algorithm).

A convolution of stride s that would go below the wanted resolution gets stride 1, and everything that reads its output,
through whatever comes between, samples s times as wide. At every s-th position the map is then what it was before, so
trained weights stay right (Chen et al., DeepLab, 2016, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn

from spaces.backbone import record_backbone
from spaces.backbones.trace import Call, Trace
from spaces.errors import UsageError, shortened

_SAMPLING = ("convolution", "_convolution", "max_pool2d_with_indices", "avg_pool2d", "im2col", "upsample_nearest2d")


@dataclass(frozen=True)
class Change:
    """What happens to a convolution or a pooling: its stride becomes 1 or stays, its dilation is multiplied."""

    path: str
    dense: bool
    factor: int


def dilate(model: nn.Module, backbone: str, output_stride: int, taps: Sequence[str]) -> None:
    """Keep a plain network's maps up to ``taps`` at ``output_stride`` pixels of the input per pixel, in place.

    Raises UsageError where something else than convolutions and max-pooling lowers the resolution there.
    """
    apply_changes(model, find_changes(backbone, output_stride, tuple(tap.partition(">")[0] for tap in taps)))


def apply_changes(model: nn.Module, changes: Sequence[Change]) -> None:
    """Change a plain network's convolutions and poolings in place."""
    for change in changes:
        module: Any = model.get_submodule(change.path)
        if change.dense:
            module.stride = _times(module.stride, 0, 1)
        if change.factor > 1 and max(_times(module.kernel_size, 1, 0)) > 1:
            module.dilation = _times(module.dilation, change.factor, 0)
            if not isinstance(module.padding, str):
                module.padding = _times(module.padding, change.factor, 0)
    # timm's own convolutions and poolings with "same" padding compute it from stride and dilation as they run.


def _times(value: Any, factor: int, more: int) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple) else (value, value)
    return first * factor + more, second * factor + more


@cache
def find_changes(backbone: str, output_stride: int, taps: tuple[str, ...]) -> tuple[Change, ...]:
    """What to change, found by following every map of a recorded pass: how many positions apart its samples now lie."""
    trace = record_backbone(backbone)
    end = max(call.end for call in trace.calls if call.path in taps)
    leaves = _leaves(trace)
    height = trace.shapes[0][-2]
    apart: dict[int, int] = {}  # of tensors; 1 where it is left out
    changes: dict[str, Change] = {}
    for moment, op in enumerate(trace.ops[:end]):
        reach = max((apart.get(tensor, 1) for tensor in op.inputs), default=1)
        lowered = _lowered(trace, op.inputs, op.outputs)
        stride = round(height / trace.shapes[op.outputs[0]][-2]) if lowered > 1 else 1
        owner = leaves.get(moment)
        samples = op.name in _SAMPLING
        if lowered > 1 and (stride > output_stride or reach > 1):
            if owner is None or not _can_be_dense(owner.module, lowered):
                raise _refusal(backbone, output_stride, owner, op.name)
            changes[owner.path] = Change(owner.path, True, reach)
            reach *= lowered
        elif samples and reach > 1:
            if owner is None or not _can_dilate(owner.module):
                raise _refusal(backbone, output_stride, owner, op.name)
            changes[owner.path] = Change(owner.path, False, reach)
        for tensor in op.outputs:
            shape = trace.shapes[tensor]
            apart[tensor] = reach if len(shape) == 4 and max(shape[2:]) > 1 else 1
    return tuple(changes.values())


def _leaves(trace: Trace) -> dict[int, Call]:
    """By operator, the convolution or pooling that ran it."""
    found: dict[int, Call] = {}
    for call in trace.calls:
        if isinstance(call.module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            found.update(dict.fromkeys(range(call.start, call.end), call))
    return found


def _lowered(trace: Trace, inputs: Sequence[int], outputs: Sequence[int]) -> int:
    """By how much an operator lowers the resolution of maps; 1 where it does not, or where it pools a whole map."""
    sides = [trace.shapes[tensor][-2] for tensor in inputs if len(trace.shapes[tensor]) == 4]
    out = [trace.shapes[tensor] for tensor in outputs if len(trace.shapes[tensor]) == 4]
    if not sides or not out or max(out[0][2:]) == 1:
        return 1
    return max(1, round(max(sides) / out[0][-2]))


def _can_be_dense(module: Any, lowered: int) -> bool:
    kernel = _times(module.kernel_size, 1, 0)
    same = "Same" in type(module).__name__  # of timm: pads by what it needs
    whole = same or all(2 * p == k - 1 for p, k in zip(_times(module.padding, 1, 0), kernel, strict=True))
    return whole and not isinstance(module, nn.AvgPool2d) and _times(module.stride, 1, 0) == (lowered, lowered)


def _can_dilate(module: Any) -> bool:
    return not isinstance(module, nn.AvgPool2d) or max(_times(module.kernel_size, 1, 0)) == 1


def _refusal(backbone: str, output_stride: int, owner: Call | None, operator: str) -> UsageError:
    what = f"{type(owner.module).__name__} {owner.path!r}" if owner else f"the operator {operator}"
    return UsageError(
        f"backbone {shortened(backbone)} cannot be dilated to an output stride of {output_stride}: {what} samples the map in "
        "a way that has no dilated form; valid: a backbone whose late stages lower the resolution by convolutions or "
        "max-pooling of odd kernels, or a head without an output stride (unet, fpn)"
    )
