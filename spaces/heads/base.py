"""What a head is: it makes the plain network of a backbone, and may have stages of its own that attention goes into."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from spaces.backbone import describe_backbone
from spaces.backbones.sites import PREFIX, Site, Stage
from spaces.backbones.trace import Trace, record
from spaces.errors import UsageError, shortened, unknown
from spaces.heads.levels import Level, make_backbone
from spaces.plugins import Registry

DECODER = "decoder"  # the kind of site that a head's own stages have


class Head(Hashable, Protocol):
    """What a network puts out: it makes the plain network, backbone and last layers, which attention then goes into."""

    def plain(self, backbone: str, in_chans: int, *, pretrained: bool) -> nn.Module:
        """The network without attention, as its library builds it; raises UsageError for an unknown backbone."""
        ...


class DenseNetwork(nn.Module):
    """A network whose ``backbone`` gives maps. ``decoder`` names the places beyond the backbone where attention may go.

    ``decoder``: pairs of what a stage is called, and of the path of the module after which its attention runs.
    """

    decoder: tuple[tuple[str, str], ...] = ()
    in_chans = 3  # of the input

    def get_classifier(self) -> list[nn.Module]:
        """The layers whose size depends on the number of classes: they start anew where a checkpoint has another."""
        raise NotImplementedError(f"{type(self).__name__} does not say which of its layers depend on the classes")


@dataclass(frozen=True)
class Plan:
    """How a network is put together: a backbone that gives the maps of ``levels``, and a function that makes the rest.

    ``make(maps, **arguments)``: a function at the top of its file, and arguments that Python can write, so that an exported
    file can call it. ``output_stride``, ``frozen_norm``: as in ``make_backbone``.
    """

    levels: tuple[Level, ...]
    make: Callable[..., DenseNetwork]
    arguments: Mapping[str, Any]
    output_stride: int | None = None
    frozen_norm: bool = False


@dataclass(frozen=True)
class DenseHead:
    """A head that reads maps of a backbone: its network holds the backbone under ``backbone.``, and has stages of its own.

    ``name``: what it is called in configurations and in ``to_dict``. ``side``: the image size in pixels at which its own
    stages are found. ``outputs``: what an exported network calls what it puts out. ``data_dependent``: why its network is no
    graph of fixed shapes, where it is none. Every option of a head is a number, a
    word or None, so that it is JSON as it stands.
    Raises UsageError for a number of classes that is none.
    """

    classes: int

    name: ClassVar[str] = ""
    side: ClassVar[int] = 224
    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    data_dependent: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if type(self.classes) is not int or self.classes < 1:
            raise UsageError(f"{shortened(self.classes)} classes; valid: a number from 1")

    def plan(self, backbone: str) -> Plan:
        """How the network on a backbone is put together. Raises UsageError for a backbone that has no such maps."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its network is built")

    def plain(self, backbone: str, in_chans: int, *, pretrained: bool) -> DenseNetwork:
        """The network without attention; ``pretrained`` fetches the library's weights of the backbone.

        Raises UsageError for an unknown backbone, and for one that has no such maps.
        """
        plan = self.plan(backbone)
        maps = make_backbone(
            backbone,
            plan.levels,
            in_chans,
            pretrained=pretrained,
            output_stride=plan.output_stride,
            frozen_norm=plan.frozen_norm,
        )
        network = plan.make(maps, **plan.arguments)
        network.in_chans = in_chans
        return network

    def to_dict(self) -> dict[str, Any]:
        """As JSON: the name and every option. ``head_from_dict`` reads it."""
        return {"name": self.name, **asdict(self)}


HEADS: Registry[type[DenseHead]] = Registry("head", "spaces.heads")


def head_from_dict(data: Mapping[str, Any]) -> DenseHead:
    """Read ``DenseHead.to_dict``'s form; raises UsageError for an unknown head, and for an option that it does not have."""
    options = dict(data)
    made = HEADS[str(options.pop("name", ""))]
    for option in options:
        if option not in made.__dataclass_fields__:
            raise unknown(f"option of head {made.name!r}", option, made.__dataclass_fields__)
    if "classes" not in options:
        raise UsageError(f"head {shortened(dict(data))} needs the key 'classes'")
    return made(**options)


@lru_cache(maxsize=64)  # the answer is the same for all architectures
def dense_stages(head: DenseHead, backbone: str) -> tuple[Stage, ...]:
    """The backbone's stages under their prefix, then the head's own: one site each, of the kind ``decoder``.

    Raises UsageError for a backbone that the head cannot be put on.
    """
    with torch.device("meta"):
        model = head.plain(backbone, 3, pretrained=False)
        trace = record(model, torch.empty(1, 3, head.side, head.side))
    return (*(stage.under(PREFIX) for stage in describe_backbone(backbone).stages), *_named(model, trace))


def own_stages(head: DenseHead, backbone: str) -> tuple[Stage, ...]:
    """The stages of a head's own, which follow those of the backbone."""
    return dense_stages(head, backbone)[len(describe_backbone(backbone).stages) :]


def _named(model: DenseNetwork, trace: Trace) -> tuple[Stage, ...]:
    """The stages that a network names as its own, with channels and strides as in a recorded pass."""
    shapes = {call.path: call.shape for call in trace.calls}
    height = trace.shapes[0][-2]
    return tuple(
        Stage(
            (path,), {DECODER: (Site(path, shapes[path][1]),)}, shapes[path][1], round(height / shapes[path][-2]), name
        )
        for name, path in model.decoder
    )
