"""Stages and sites of any convolutional network, read off one recorded forward pass.

The trunk of a network is the chain of moments at which a single tensor carries everything: nothing made earlier is needed
later. A *block* is a composite module that starts and ends at such moments and cannot be cut any further (a residual
block: the shortcut is alive inside it), or one of the same class. A *stage* is a run of blocks with one output resolution;
where dilation took the place of a stride, the stages are those that the stride would have made.

A network that returns more than one tensor, or a map, has its trunk up to the tensor behind which most blocks lie: what
branches off to heads and decoders is no part of it. Parallel branches (HRNet) are stages of their own, by resolution.

Of a network of clips (B, C, T, H, W) the resolution has time in it: lowering that alone begins a stage too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import nn

from spaces.backbones.sites import Site, Stage
from spaces.backbones.trace import Call, Trace

# Attributes that hold a block's own attention, None or an Identity where it has none: they sit before the residual
# addition (ResNet kind) or after the depthwise convolution (MobileNet kind), in all of timm's families.
NATIVE_SLOTS = ("se", "attn", "attn_last")
# What counts as attention there; other modules under these names are the block's main operator and stay.
NATIVE_CLASSES = frozenset(
    [
        "SEModule",
        "SqueezeExcite",
        "SqueezeExcitation",
        "SEWithNorm",
        "EffectiveSEModule",
        "EcaModule",
        "CecaModule",
        "GatherExcite",
        "GlobalContext",
        "CbamModule",
        "LightCbamModule",
        "BatNonLocalAttn",
        "NonLocalAttn",
    ]
)
_CONVS = (nn.Conv2d, nn.Conv3d)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_CONVOLUTIONS = ("convolution", "_convolution")
_WEIGHTED = (*_CONVOLUTIONS, "addmm", "mm", "bmm", "linear")
_ADDITIONS = ("add", "add_")


def find_stem(trace: Trace) -> tuple[str, ...]:
    """The modules before the first block that lower the resolution: strided convolutions and pooling."""
    blocks = find_blocks(trace)
    first = blocks[0].start if blocks else 0
    return tuple(
        call.path
        for call in trace.calls
        if call.end <= first
        and is_map(trace, call.shape)
        and call.inputs
        and is_map(trace, trace.shapes[call.inputs[0]])
        and call.shape[-1] < trace.shapes[call.inputs[0]][-1]
        and not any(call.module.children())
        and (isinstance(call.module, _CONVS) or call.shape[1] == trace.shapes[call.inputs[0]][1])
    )


def is_map(trace: Trace, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has as many axes as the network's input: a map (B, C, H, W) of images, (B, C, T, H, W) of clips."""
    return len(shape) == len(trace.shapes[0])


def find_stages(trace: Trace) -> tuple[Stage, ...]:
    """The stages of a recorded network; empty where no chain of blocks is found."""
    blocks = find_blocks(trace)
    runs = [part for run in _by_resolution(blocks) for part in _undilated(trace, run)]
    branches: dict[tuple[int, ...], list[Call]] = {}
    for block in _branch_blocks(trace, blocks):
        branches.setdefault(block.shape[2:], []).append(block)
    height = trace.shapes[0][-2]
    return tuple(_stage(trace, run, height) for run in (*runs, *branches.values()))


def _by_resolution(blocks: list[Call]) -> list[list[Call]]:
    """Runs of blocks of one output resolution."""
    runs: list[list[Call]] = []
    for block in blocks:
        if runs and runs[-1][-1].shape[2:] == block.shape[2:]:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def _undilated(trace: Trace, run: list[Call]) -> list[list[Call]]:
    """A run of blocks cut where the network would lower the resolution if it did not dilate its convolutions instead."""
    starts = _told_starts(trace, run) or _dilated_starts(trace, run)
    return [run[start:end] for start, end in zip([0, *starts], [*starts, len(run)], strict=True)]


def _told_starts(trace: Trace, run: list[Call]) -> list[int]:
    """Where timm's own list of feature maps, which names the last module of each stage, has two of one resolution."""
    starts: set[int] = set()
    for call in trace.calls:
        told = getattr(call.module, "feature_info", None)
        told = getattr(told, "info", told)
        if not isinstance(told, list):
            continue
        for one, following in pairwise(told):
            if one["reduction"] != following["reduction"]:
                continue
            names = (one["module"], one["module"].replace(".", "_", 1))  # `features_only` joins the first two
            ends = [f"{call.path}.{name}.".removeprefix(".") for name in names]
            inside = [i for i, block in enumerate(run) if f"{block.path}.".startswith(tuple(ends))]
            starts |= {inside[-1] + 1} if inside else set()
    return sorted(starts - {len(run)})


def _dilated_starts(trace: Trace, run: list[Call]) -> list[int]:
    """Where dilation rises: at the block itself, or the first one of its container, which keeps the dilation before it."""
    starts = [0]
    dilations = [_dilation(trace, block) for block in run]
    homes = [block.path.rpartition(".")[0] for block in run]
    for i in range(1, len(run)):
        if dilations[i] > max(dilations[:i]):
            first = i
            while first > starts[-1] and homes[first - 1] == homes[i]:
                first -= 1
            starts.append(first if first > starts[-1] else i)
    return starts[1:]


def _dilation(trace: Trace, block: Call) -> int:
    convs: list[Any] = [call.module for call in _inside(trace, block) if isinstance(call.module, _CONVS)]
    return max((max(conv.dilation) for conv in convs if max(conv.kernel_size) > 1), default=1)


def _stage(trace: Trace, blocks: list[Call], height: int) -> Stage:
    slots = [slot for block in blocks if (slot := find_slot(trace, block)) is not None]
    after = [_after(block) for block in blocks]
    times = Counter(call.path for call in trace.calls)
    if any(times[site.path] > 1 for site in (*slots, *after)):
        slots, after = ([replace(site, calls=times[site.path]) for site in sites] for sites in (slots, after))
    sites = {"slot": tuple(slots), "block": tuple(after), "stage": tuple(after[-1:])}
    return Stage(
        blocks=tuple(block.path for block in blocks),
        sites={place: found for place, found in sites.items() if found},
        channels=blocks[-1].shape[1],
        stride=round(height / blocks[-1].shape[-2]),
    )


def _after(call: Call) -> Site:
    module, host = call.module, ""
    own_loop = isinstance(module, _CONTAINERS) and type(module).forward is not nn.Sequential.forward
    if own_loop:
        host = next(f"{call.path}.{name}" for name, leaf in module.named_modules() if not any(leaf.children()))
    return Site(call.path, call.shape[1], host=host, dims=len(call.shape) - 2)


# --- blocks -----------------------------------------------------------------------------------------------------------


def find_blocks(trace: Trace) -> list[Call]:
    """The calls of the network's blocks, in the order they run."""
    root = trace.calls[0]
    if root.output >= 0 and not is_map(trace, root.shape):
        return _trunk(trace, None)
    return max((_trunk(trace, end) for end in _ends(trace)), key=len, default=[])


def _ends(trace: Trace) -> list[int]:
    """Where the trunk of a network may end: at an output, or at the last composite module of some resolution."""
    root = trace.calls[0]
    last = {
        call.shape[2:]: call.output
        for call in trace.calls[1:]
        if is_map(trace, call.shape) and any(call.module.children())
    }
    return sorted({*last.values(), *(out for out in root.outputs if is_map(trace, trace.shapes[out]))})


def _trunk(trace: Trace, end: int | None) -> list[Call]:
    """The blocks on the way to a tensor; None: to what the network puts out."""
    alive = trace.alive(end)
    behind = None if end is None else trace.behind(end)
    met: dict[str, list[Call]] = {}
    for call in trace.calls:
        if behind is None or behind.issuperset(call.outputs):
            met.setdefault(call.path, []).append(call)
    once = {path: calls[0] for path, calls in met.items() if len(calls) == 1 and path}
    weights = {path: _weighted_ops(trace, call) for path, call in once.items()}

    def cut(call: Call) -> bool:
        return alive[call.start] == 1 and alive[call.end] == 1 and is_map(trace, call.shape)

    # A composite with several weighted layers, or with one inside a shortcut.
    def inseparable(call: Call) -> bool:
        inner = [once[path] for path in once if path.startswith(call.path + ".") and weights[path]]
        return len(weights[call.path]) > 1 or any(not cut(leaf) for leaf in inner)

    composites = {
        path: call
        for path, call in once.items()
        if weights[path] and cut(call) and any(call.module.children()) and inseparable(call)
    }

    def inside(path: str) -> list[str]:
        return [other for other in composites if other.startswith(path + ".")]

    def divisible(path: str) -> bool:
        """Whether smaller blocks hold most of the module's weighted layers."""
        held = {moment for other in inside(path) for moment in weights[other]}
        return 2 * len(held) > len(weights[path])

    whole = {type(call.module) for path, call in composites.items() if not divisible(path)} - set(_CONTAINERS)

    def descend(path: str) -> Iterable[str]:
        if path and not (divisible(path) and type(once[path].module) not in whole):
            return [path]
        children = [other for other in inside(path) if path] if path else list(composites)
        top = [c for c in children if not any(c.startswith(other + ".") for other in children)]
        return [found for child in top for found in descend(child)]

    found = [composites[path] for path in descend("")]
    if not found:  # the network itself may be the long Sequential, if it is nothing but layers
        layers = [call for call in trace.calls[1:] if "." not in call.path and not any(call.module.children())]
        held = sum(len(_weighted_ops(trace, call)) for call in layers)
        if 2 * held <= len(_weighted_ops(trace, trace.calls[0])):
            return []  # its blocks are not a chain, as those of NASNet, which read the two before them
        return _without_stem_and_head(_layer_groups(trace, trace.calls[0], alive))
    return _without_stem_and_head([block for call in found for block in _plain_layers(trace, call, alive)])


def _branch_blocks(trace: Trace, known: list[Call]) -> list[Call]:
    """The blocks of branches that run side by side: of every Sequential chain of blocks in a module from maps to maps."""
    times = Counter(call.path for call in trace.calls)
    wide = [call for call in trace.calls if call.path and call.output < 0 < len(call.outputs) and len(call.inputs) > 1]
    found: list[Call] = []
    for chain in trace.calls:
        if type(chain.module) is not nn.Sequential or times[chain.path] != 1 or not is_map(trace, chain.shape):
            continue
        if not any(chain.path.startswith(call.path + ".") for call in wide):
            continue
        depth = chain.path.count(".") + 1
        links = [call for call in _inside(trace, chain) if call.path.count(".") == depth]
        whole = all(any(call.module.children()) and len(_weighted_ops(trace, call)) > 1 for call in links)
        if links and whole and not any(block.path.startswith(chain.path + ".") for block in (*known, *found)):
            found += links
    return found


def _plain_layers(trace: Trace, call: Call, alive: list[int]) -> list[Call]:
    """A long Sequential of plain layers (VGG) as one block per convolution: its last layer of the same resolution."""
    if type(call.module) is not nn.Sequential or len(_weighted_ops(trace, call)) < 4:
        return [call]
    return _layer_groups(trace, call, alive) or [call]


def _layer_groups(trace: Trace, call: Call, alive: list[int]) -> list[Call]:
    """For every convolution directly inside of a module, the last layer of the same resolution before the next one."""
    depth = call.path.count(".") + 1 if call.path else 0
    layers = [
        layer
        for layer in _inside(trace, call)
        if layer.path.count(".") == depth and alive[layer.end] == 1 and is_map(trace, layer.shape)
    ]
    groups: list[list[Call]] = []
    for layer in layers:
        if _weighted_ops(trace, layer):
            groups.append([layer])
        elif groups and layer.shape == groups[-1][0].shape:
            groups[-1].append(layer)
    return [group[-1] for group in groups]


def _weighted_ops(trace: Trace, call: Call) -> set[int]:
    return {moment for moment in range(call.start, call.end) if trace.ops[moment].name in _WEIGHTED}


def _without_stem_and_head(candidates: list[Call]) -> list[Call]:
    """Drop composites of a class that occurs once, unless they stand among repeated blocks or beside them in a container."""
    classes = Counter(type(call.module) for call in candidates)
    repeated = [i for i, call in enumerate(candidates) if classes[type(call.module)] > 1]
    if not repeated:
        return candidates
    homes = {candidates[i].path.rpartition(".")[0].partition(".")[0] for i in repeated} - {""}
    return [
        call
        for i, call in enumerate(candidates)
        if repeated[0] <= i <= repeated[-1] or call.path.rpartition(".")[0].partition(".")[0] in homes
    ]


# --- slots ------------------------------------------------------------------------------------------------------------


def find_slot(trace: Trace, block: Call) -> Site | None:
    """Where attention goes inside a block: its native slot, after the depthwise convolution of an inverted residual, or
    before the residual addition; None where the block has neither."""
    return _native_slot(trace, block) or _depthwise_slot(trace, block) or _residual_slot(trace, block)


def open_slots(model: nn.Module) -> None:
    """Fill slots that are None with an Identity, so that a recorded pass shows where in its block each of them lies."""
    for module in list(model.modules()):
        if getattr(module, "se", module) is None:
            module.se = nn.Identity()


def _native_slot(trace: Trace, block: Call) -> Site | None:
    """A slot in use or, where all of a block's slots are empty, the one that lies on the path (an Identity is called)."""
    called = {call.path: call for call in trace.calls if block.start <= call.start and call.end <= block.end}
    empty = None
    for name in NATIVE_SLOTS:
        path = f"{block.path}.{name}"
        if path in called and is_map(trace, called[path].shape):
            dims = len(called[path].shape) - 2
            if type(called[path].module).__name__ in NATIVE_CLASSES:
                return Site(path, called[path].shape[1], native=True, dims=dims)
            if isinstance(called[path].module, nn.Identity) and empty is None:
                empty = Site(path, called[path].shape[1], empty=True, dims=dims)
    return empty


def _inside(trace: Trace, block: Call) -> list[Call]:
    prefix = block.path + "." if block.path else ""
    calls = [
        call
        for call in trace.calls
        if call.path != block.path
        and call.path.startswith(prefix)
        and block.start <= call.start
        and call.end <= block.end
    ]
    counts = Counter(call.path for call in calls)
    return [call for call in calls if counts[call.path] == 1 and call.output >= 0]


def _depthwise_slot(trace: Trace, block: Call) -> Site | None:
    """After the depthwise part of pointwise, depthwise, pointwise: what the last pointwise convolution reads."""
    _, depthwise = _inverted(trace, block)
    return _after(depthwise) if depthwise else None


def expansion(trace: Trace, block: Call) -> Call | None:
    """The module that makes what the depthwise convolution of an inverted residual reads; None for other blocks."""
    return _inverted(trace, block)[0]


def _inverted(trace: Trace, block: Call) -> tuple[Call | None, Call | None]:
    """What makes the maps that the depthwise and the last pointwise convolution of an inverted residual read."""
    calls = _inside(trace, block)
    convs = [call for call in calls if isinstance(call.module, _CONVS)]
    for before, middle, after in zip(convs, convs[1:], convs[2:], strict=False):
        modules: tuple[Any, ...] = (before.module, middle.module, after.module)
        first, depthwise, last = modules
        expands = _pointwise(first) and first.out_channels > first.in_channels
        projects = _pointwise(last) and last.out_channels < last.in_channels
        if expands and projects and depthwise.groups == depthwise.in_channels > 1:
            made = [
                [call for call in calls if call.output == conv.inputs[0] and call is not conv]
                for conv in (middle, after)
            ]
            if made[1]:
                return next(iter(made[0]), None), made[1][0]
    return None, None


def _pointwise(conv: Any) -> bool:
    return max(conv.kernel_size) == 1 and conv.groups == 1


def _residual_slot(trace: Trace, block: Call) -> Site | None:
    """The module that ends the branch with most layers of the block's last addition of two maps."""
    made_by: dict[int, int] = {}
    depth: dict[int, int] = {}
    addition = None
    for moment in range(block.start, block.end):
        op = trace.ops[moment]
        below = max((depth.get(tensor, 0) for tensor in op.inputs), default=0) + (op.name in _WEIGHTED)
        if op.name in _ADDITIONS and len(op.inputs) == 2 and _same_shape(trace, *op.inputs):
            addition = (op.inputs, {tensor: depth.get(tensor, 0) for tensor in op.inputs})
        for tensor in op.outputs:
            depth[tensor] = below
            made_by[tensor] = moment
    if addition is None:
        return None
    operands, depths = addition
    branch = max(operands, key=lambda tensor: depths[tensor])
    makers = [call for call in _inside(trace, block) if call.output == branch and is_map(trace, call.shape)]
    return _after(makers[0]) if makers else None


def _same_shape(trace: Trace, first: int, second: int) -> bool:
    return trace.shapes[first] == trace.shapes[second] and is_map(trace, trace.shapes[first])
