"""Which maps of a backbone a head may read: the last of every resolution, the last of all, and one inside of a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from timm.layers import freeze_batch_norm_2d
from torch import fx

from spaces.backbone import describe_backbone, record_backbone
from spaces.backbones import zoo
from spaces.backbones.structure import expansion
from spaces.backbones.trace import Call
from spaces.errors import UsageError, shortened
from spaces.heads.dilation import dilate
from spaces.heads.extractor import INSIDE, NoMaps, extract


@dataclass(frozen=True)
class Level:
    """A map of a backbone: ``tap`` names it for ``extract``; ``stride`` is in pixels of the input per pixel of the map."""

    tap: str
    channels: int
    stride: int


@cache
def find_levels(backbone: str) -> tuple[Level, ...]:
    """The last block's map of every resolution, from fine to coarse.

    Raises UsageError for an unknown backbone, and for one whose stages are not one chain from fine to coarse.
    """
    stages = describe_backbone(backbone).stages
    found = {stage.stride: Level(stage.blocks[-1], stage.channels, stage.stride) for stage in stages}
    strides = [stage.stride for stage in stages]
    if strides != sorted(strides):
        raise UsageError(
            f"backbone {shortened(backbone)} has branches of several resolutions side by side; valid for dense tasks: a "
            "backbone whose stages are one chain from fine to coarse"
        )
    return tuple(found.values())


@cache
def last_level(backbone: str) -> Level:
    """The map that the backbone's own classifier pools: of its last convolution, behind the last block where there is one."""
    last = find_levels(backbone)[-1]
    calls = record_backbone(backbone).calls
    block = next(call for call in reversed(calls) if call.path == last.tap)
    behind = [
        call
        for call in calls
        if call.path and call.start >= block.end and call.output >= 0 and call.shape[2:] == block.shape[2:]
    ]
    if not behind:
        return last
    end = max(behind, key=lambda call: (call.end, -call.path.count(".")))
    return Level(end.path, end.shape[1], last.stride)


@cache
def stem_level(backbone: str) -> Level | None:
    """The last map of half the input's resolution before the first block; None where there is none."""
    trace = record_backbone(backbone)
    stages = describe_backbone(backbone).stages
    first = next(call for call in trace.calls if call.path == stages[0].blocks[0])
    height = trace.shapes[0][-2]
    found: list[Call] = [
        call
        for call in trace.calls
        if call.path and call.end <= first.start and len(call.shape) == 4 and round(height / call.shape[-2]) == 2
    ]
    if not found or stages[0].stride <= 2:
        return None
    end = max(found, key=lambda call: (call.end, -call.path.count(".")))
    return Level(end.path, end.shape[1], 2)


@cache
def expanded_level(backbone: str) -> Level:
    """What the first block of the coarsest resolution expands its input to, before it lowers the resolution.

    Where that block is no inverted residual: the last map of the resolution before it.
    """
    levels = find_levels(backbone)
    stage = next(stage for stage in describe_backbone(backbone).stages if stage.stride == levels[-1].stride)
    trace = record_backbone(backbone)
    block = next(call for call in trace.calls if call.path == stage.blocks[0])
    found = expansion(trace, block)
    if found is None:
        return levels[-2] if len(levels) > 1 else levels[-1]
    inner = found.path.removeprefix(f"{block.path}.")
    return Level(f"{block.path}{INSIDE}{inner}", found.shape[1], levels[-2].stride)


def level_at(backbone: str, stride: int) -> Level:
    """The map of a backbone at this stride. Raises UsageError where it has none."""
    levels = {level.stride: level for level in find_levels(backbone)}
    if stride not in levels:
        raise UsageError(
            f"backbone {shortened(backbone)} has no stage of stride {stride}; its strides: {', '.join(map(str, levels))}"
        )
    return levels[stride]


def make_backbone(
    backbone: str,
    levels: Sequence[Level],
    in_chans: int,
    *,
    pretrained: bool,
    output_stride: int | None = None,
    frozen_norm: bool = False,
) -> fx.GraphModule:
    """A backbone that gives the maps of these levels: (B, C, H, W) -> tuple of maps.

    ``output_stride``: stages behind it dilate their convolutions instead of lowering the resolution further.
    ``frozen_norm``: BatchNorms are constants, with the statistics and weights that they have.
    """
    model = zoo.create_plain(backbone, 10, in_chans, pretrained)
    if frozen_norm:
        model = freeze_batch_norm_2d(model)
    if output_stride is not None:
        dilate(model, backbone, output_stride, [level.tap for level in levels])
    try:
        return extract(model, *taken(backbone, levels))
    except NoMaps as error:
        raise UsageError(f"backbone {shortened(backbone)}: {error}") from error


def taken(backbone: str, levels: Sequence[Level]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """What ``extract`` wants to know besides the network: its blocks, the taps, and the sites inside of tapped blocks."""
    stages = describe_backbone(backbone).stages
    opened = tuple(f"{level.tap.partition(INSIDE)[0]}." for level in levels if INSIDE in level.tap)
    sites = (site.host or site.path for stage in stages for kind in stage.sites.values() for site in kind)
    below = dict.fromkeys(site for site in sites if opened and site.startswith(opened))
    return tuple(path for stage in stages for path in stage.blocks), tuple(level.tap for level in levels), tuple(below)
