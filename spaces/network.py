"""What surrounds an architecture: the input it gets, the head it ends in, and how its network is built.

A ``NetworkSpec`` and an ``Architecture`` together are a network. Everything that needs one (costs, latency, memory, training,
export) takes these two values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from spaces.attention import create_attention
from spaces.backbone import describe_backbone, is_small, site_shapes
from spaces.backbones import zoo
from spaces.backbones.insertion import attach, clear, never_called, shrink_stem
from spaces.backbones.sites import PREFIX, Site, Stage
from spaces.backbones.structure import open_slots
from spaces.backbones.trace import record
from spaces.backbones.weights import load_weights
from spaces.deprecated import renamed
from spaces.errors import UsageError, cut, shortened, unknown
from spaces.heads.base import DenseHead, Head, dense_stages, head_from_dict
from spaces.placement import Architecture, Placement, canonical

__all__ = [
    "NATIVE",
    "STEM",
    "ClassifierHead",
    "Head",
    "Native",
    "NetworkSpec",
    "Stem",
    "build_model",
    "insert_attention",
]

Native = Literal["keep", "replace", "remove"]
NATIVE: tuple[Native, ...] = get_args(Native)
Stem = Literal["auto", "keep"]
STEM: tuple[Stem, ...] = get_args(Stem)


@dataclass(frozen=True)
class ClassifierHead:
    """The backbone's own classifier: logits (B, K) for ``classes`` = K."""

    classes: int

    def plain(self, backbone: str, in_chans: int, *, pretrained: bool) -> nn.Module:
        return zoo.create_plain(backbone, self.classes, in_chans, pretrained)


@dataclass(frozen=True)
class NetworkSpec:
    """What surrounds an architecture, as one value.

    ``in_chans``: channels of the input. ``size``: its (H, W), or (T, H, W) for clips. ``head``: what it puts out.
    ``native``: the built-in attention of a backbone is kept (slot attention comes after it), replaced where a stage has a
    slot placement, or removed everywhere. ``identity_start``: every inserted attention starts as x + g (f(x) - x) with a
    learnable g = 0. ``stem``: ``auto`` rewrites the stem for images of at most 64 pixels, so that it keeps their resolution;
    ``keep`` leaves it as it is.
    Raises UsageError for an unknown ``native`` or ``stem`` and for a size that is none.
    """

    in_chans: int
    size: tuple[int, ...]
    head: Head
    native: Native = "keep"
    identity_start: bool = False
    stem: Stem = "auto"

    def __post_init__(self) -> None:
        if self.native not in NATIVE:
            raise unknown("native", self.native, NATIVE)
        if self.stem not in STEM:
            raise unknown("stem", self.stem, STEM)
        if len(self.size) not in (2, 3) or min(self.size) < 1:
            raise UsageError(
                f"input size {shortened(self.size)}: valid is (H, W) or (T, H, W) in pixels, each at least 1"
            )
        if self.in_chans < 1:
            raise UsageError(f"{self.in_chans} input channels; valid: 1 or more")

    @classmethod
    def classifier(
        cls,
        image_size: int | Sequence[int],
        num_classes: int,
        in_chans: int = 3,
        native: Native = "keep",
        identity_start: bool = False,
        stem: Stem = "auto",
    ) -> NetworkSpec:
        """A classifier; ``image_size``: the side of a square, (H, W), or (T, H, W) of clips."""
        return cls(in_chans, pixels(image_size, clips=True), ClassifierHead(num_classes), native, identity_start, stem)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) or (C, T, H, W) of one input."""
        return (self.in_chans, *self.size)

    @property
    def rewrites_stem(self) -> bool:
        """Whether the input is so small that the backbone's stem is rewritten to keep its resolution."""
        return self.stem == "auto" and is_small(self.size)

    def describe_stem(self, backbone: str) -> str:
        """What becomes of a backbone's stem at this input size, as a sentence."""
        stem = describe_backbone(backbone).stem
        if not is_small(self.size) or not stem:
            return "the stem is the backbone's own"
        names = ", ".join(stem)
        if self.stem == "keep":
            return f"the stem is the backbone's own (stem: keep); without, {names} would keep the resolution"
        return f"the stem is rewritten to keep the resolution of small images ({names}); `stem: keep` leaves it"

    def stages(self, backbone: str) -> tuple[Stage, ...]:
        """The stages that attention may go into: those of the backbone, then those of the head, as they lie in the network.

        Raises UsageError for an unknown backbone, and for one that the head cannot be put on.
        """
        return stages_of(self.head, backbone)

    def placed(self, arch: Architecture) -> list[tuple[Stage, Placement]]:
        """Every stage of an architecture's network and what it gets; see ``place``."""
        return place(arch, self.stages(arch.backbone))

    def site_shapes(self, backbone: str) -> dict[Site, tuple[int, ...]]:
        """(C, H, W) of the map at every site. Raises UsageError where a backbone cannot take inputs of this size."""
        if isinstance(self.head, DenseHead):
            return _dense_shapes(backbone, self.head, self.in_chans, self.size, self.rewrites_stem)
        return site_shapes(backbone, size=self.size, in_chans=self.in_chans, rewrite=self.rewrites_stem)

    def check(self, backbone: str) -> None:
        """Raise UsageError where a backbone cannot take inputs of this size."""
        self.site_shapes(backbone)

    def build(self, arch: Architecture, *, pretrained: bool | str | Path = False) -> nn.Module:
        """The network of an architecture, in training mode: (B, C, H, W) -> what the head puts out.

        Every key of the plain backbone's state_dict keeps its name; those of inserted attention contain ``.attune.``.
        ``pretrained``: True fetches the library's weights; a path loads a checkpoint of the plain network.
        """
        size = self.size if self.rewrites_stem else None
        return build_network(
            arch, self.head, self.in_chans, size, self.native, self.identity_start, pretrained=pretrained
        )

    def insert(self, model: nn.Module, arch: Architecture) -> None:
        """Put the placements of an architecture into its plain network, in place, whatever weights that holds."""
        insert_placed(
            model,
            arch.backbone,
            self.placed(arch),
            [self.shape],
            identity_start=self.identity_start,
            native=self.native,
        )

    def example(self, batch: int = 1, *, seed: int | None = None) -> tuple[Tensor, ...]:
        """Inputs of the network, each (batch, C, H, W), on torch's default device.

        Without a seed their content is arbitrary, which is all that counting on the meta device needs. With one they are
        standard normal numbers, the same every time.
        """
        if seed is None:
            return (torch.empty(batch, *self.shape),)
        return (torch.randn(batch, *self.shape, generator=torch.Generator().manual_seed(seed)),)

    def to_dict(self) -> dict[str, Any]:
        """As JSON, flat: ``image_size`` is a number for a square. A dense head adds its own form under ``head``.

        Raises UsageError for a head of another sort.
        """
        kept = {"stem": self.stem} if self.stem != "auto" else {}
        return {**describe_input(self), "identity_start": self.identity_start, "native": self.native, **kept}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetworkSpec:
        """Read ``to_dict``'s form; other keys are left alone. All but sizes and classes may be missing.

        Raises UsageError for a number that is none.
        """
        for name in ("num_classes", "in_chans"):
            if type(data[name]) is not int or data[name] < 1:
                raise UsageError(f"{name} = {shortened(data[name])}; valid: a number from 1")
        head = data.get("head")
        if head is not None and not isinstance(head, Mapping):
            raise UsageError(f"head = {shortened(head)}; valid: an object with a name, classes and options")
        return cls(
            data["in_chans"],
            pixels(data["image_size"], clips=True),
            ClassifierHead(data["num_classes"]) if head is None else head_from_dict(head),
            data.get("native", "keep"),
            data.get("identity_start", False),
            data.get("stem", "auto"),
        )


def describe_input(network: NetworkSpec) -> dict[str, Any]:
    """Input and head as JSON: ``num_classes``, ``in_chans``, ``image_size``, and ``head`` where it is no classifier."""
    if not isinstance(network.head, (ClassifierHead, DenseHead)):
        raise UsageError(f"a network with {network.head!r} has no description as JSON")
    square = len(network.size) == 2 and network.size[0] == network.size[1]
    size: Any = network.size[0] if square else list(network.size)
    described = {"num_classes": network.head.classes, "in_chans": network.in_chans, "image_size": size}
    return described | ({"head": network.head.to_dict()} if isinstance(network.head, DenseHead) else {})


def stages_of(head: Head, backbone: str) -> tuple[Stage, ...]:
    """As ``NetworkSpec.stages``, of which the input's size and channels are no matter."""
    return dense_stages(head, backbone) if isinstance(head, DenseHead) else describe_backbone(backbone).stages


def place(arch: Architecture, stages: Sequence[Stage]) -> list[tuple[Stage, Placement]]:
    """Every stage of a network and what an architecture gives it, canonical; stages that it leaves out get nothing.

    Raises UsageError for more placements than there are stages, and for one that does not fit its stage.
    """
    return list(zip(stages, canonical(arch, stages), strict=True))


def pixels(image_size: int | Sequence[int], *, clips: bool = False) -> tuple[int, ...]:
    """(H, W) of a side or of two, with ``clips`` also (T, H, W) of three; raises UsageError for anything else."""
    sides: list[Any] = list(image_size) if isinstance(image_size, (list, tuple)) else [image_size, image_size]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in sides)
    if not (len(sides) == 2 or (clips and len(sides) == 3)) or not whole:
        also = "; of clips [T, H, W]" if clips else ""
        raise UsageError(f"image size {shortened(image_size)}; valid: a number of pixels, or [H, W]{also}")
    return tuple(sides)


def build_model(
    arch: Architecture,
    num_classes: int,
    in_chans: int = 3,
    pretrained: bool | str | Path = False,
    *,
    image_size: int | Sequence[int] | None = None,
    identity_start: bool = False,
    native: Native = "keep",
    identity_init: bool | None = None,
) -> nn.Module:
    """The image classifier of an architecture: (B, in_chans, H, W) -> logits (B, num_classes).

    Every key of the plain backbone's state_dict keeps its name; those of inserted attention contain ``.attune.``.
    ``pretrained``: True fetches the library's weights; a path loads a checkpoint of the plain network.
    ``image_size``: the stem of small images keeps the resolution (see ``is_small``); None keeps the network's own stem.
    ``identity_start``, ``native``: as in ``NetworkSpec``. ``identity_init`` is the former name of ``identity_start``.
    Raises UsageError for an unknown ``native``.
    """
    identity_start = renamed("identity_init", identity_init, "identity_start", identity_start)
    size = None if image_size is None else pixels(image_size, clips=True)
    head = ClassifierHead(num_classes)
    return build_network(arch, head, in_chans, size, native, identity_start, pretrained=pretrained)


def build_network(
    arch: Architecture,
    head: Head,
    in_chans: int,
    size: tuple[int, ...] | None,
    native: Native,
    identity_start: bool,
    *,
    pretrained: bool | str | Path,
) -> nn.Module:
    """What ``NetworkSpec.build`` and ``build_model`` share; ``size`` None keeps the network's own stem."""
    placed = place(arch, stages_of(head, arch.backbone))
    model = head.plain(arch.backbone, in_chans, pretrained=pretrained is True)
    if size is not None and is_small(size):
        shrink_stem(model, stem_of(head, arch.backbone), rescale=not pretrained)
    _check_built(arch.backbone, head, in_chans)
    _insert(model, placed, identity_start=identity_start, native=native)
    if not isinstance(pretrained, bool):
        load_weights(model, pretrained)
    return model


def stem_of(head: Head, backbone: str) -> tuple[str, ...]:
    """The modules of a network that lower the resolution before the first block."""
    stem = describe_backbone(backbone).stem
    return tuple(f"{PREFIX}{path}" for path in stem) if isinstance(head, DenseHead) else stem


@lru_cache(maxsize=32)
def _dense_shapes(
    backbone: str, head: DenseHead, in_chans: int, size: tuple[int, ...], rewrite: bool
) -> dict[Site, tuple[int, ...]]:
    """(C, H, W) of the map at every site of a dense network, for inputs of ``size``."""
    stages = stages_of(head, backbone)
    try:
        with torch.device("meta"):
            model = head.plain(backbone, in_chans, pretrained=False)
            if rewrite:
                shrink_stem(model, stem_of(head, backbone), rescale=False)
            open_slots(model)
            trace = record(model, torch.empty(1, in_chans, *size))
    except Exception as error:  # of torch, timm and users' networks
        reason = cut(str(error), 300) or type(error).__name__
        raise UsageError(
            f"{backbone} with the head {head.name} cannot take images of {' x '.join(map(str, size))} pixels: {reason}"
        ) from error
    shapes = {call.path: trace.shapes[call.outputs[0]] for call in trace.calls if call.outputs}
    sites = (site for stage in stages for kind in stage.sites.values() for site in kind)
    return {site: shapes[site.path][1:] for site in sites}


def insert_attention(
    model: nn.Module,
    arch: Architecture,
    *,
    identity_start: bool = False,
    native: Native = "keep",
    inputs: tuple[int, ...] | None = None,
) -> None:
    """Put the placements of an architecture into its plain network, in place, whatever weights that holds.

    ``identity_start`` and ``native`` as in ``NetworkSpec``. ``inputs``: (C, H, W) of what the network takes; None: what its
    backbone does. Raises UsageError for an unknown ``native``, and for a network that lacks a place of the architecture or
    never calls the attention there, before it is changed.
    """
    size = inputs[1:] if inputs else describe_backbone(arch.backbone).size
    channels = [inputs[0]] if inputs else likely_channels(model)
    shapes = [(count, *size) for count in channels]
    placed = place(arch, describe_backbone(arch.backbone).stages)
    insert_placed(model, arch.backbone, placed, shapes, identity_start=identity_start, native=native)


def insert_placed(
    model: nn.Module,
    backbone: str,
    placed: Sequence[tuple[Stage, Placement]],
    shapes: Sequence[tuple[int, ...]],
    *,
    identity_start: bool,
    native: Native,
) -> None:
    """Insert where every place is there and is called, or raise UsageError; shapes: (C, H, W) of an input, tried in turn."""
    sites = [site for stage, placement in placed for site in stage.at(placement.site)]
    for site in sites:
        path = site.path.rpartition(".")[0] if site.empty else site.path
        try:
            model.get_submodule(path)
        except AttributeError:
            raise UsageError(
                f"this {type(model).__name__} has no module {path!r}, so it is not the backbone {backbone!r}"
            ) from None
    uncalled = never_called(model, sites, shapes)
    if uncalled:
        raise UsageError(
            f"this {type(model).__name__} never calls attention at {len(uncalled)} of {len(sites)} sites of "
            f"{backbone!r}, first {uncalled[0]!r}; valid: the network that the architecture names, or "
            "a backbone of your own (module:package.file:function) that makes this one"
        )
    _insert(model, placed, identity_start=identity_start, native=native)


def likely_channels(model: nn.Module) -> list[int]:
    """How many channels a network may take, the likeliest first: those of its first convolution, unless a stem rearranges."""
    first = next((one.in_channels for one in model.modules() if isinstance(one, (nn.Conv2d, nn.Conv3d))), 3)
    return list(dict.fromkeys([first, 3, 1]))


@lru_cache(maxsize=64)  # the answer is the same for all architectures, and a search builds thousands
def _check_built(backbone: str, head: Head, in_chans: int) -> None:
    """Raise UsageError where a plain network has sites that it never calls; all kinds of site are looked at once."""
    with torch.device("meta"):
        model = head.plain(backbone, in_chans, pretrained=False)
    sites = {
        site.attention: site for stage in stages_of(head, backbone) for kind in stage.sites.values() for site in kind
    }
    size = (head.side, head.side) if isinstance(head, DenseHead) else describe_backbone(backbone).size
    uncalled = never_called(model, list(sites.values()), [(in_chans, *size)])
    if uncalled:
        raise UsageError(
            f"backbone {backbone!r} with {head!r} never calls attention at {len(uncalled)} of its {len(sites)} sites, "
            f"first {uncalled[0]!r}"
        )


def _insert(
    model: nn.Module, placed: Sequence[tuple[Stage, Placement]], *, identity_start: bool, native: Native
) -> None:
    if native not in NATIVE:
        raise unknown("native", native, NATIVE)
    for stage, placement in placed:
        for slot in stage.sites.get("slot", ()):
            if takes_native_out(native, slot, placement):
                clear(model, slot.path)
        if not placement.is_none:
            for site in stage.at(placement.site):
                attention = create_attention(
                    placement.type, site.channels, **placement.genes, dims=site.dims, identity_start=identity_start
                )
                attach(model, site, attention)


def takes_native_out(native: Native, slot: Site, placement: Placement) -> bool:
    """Whether the built-in attention of a slot leaves the network when its stage gets ``placement``."""
    return slot.native and (native == "remove" or (native == "replace" and placement.site == "slot"))
