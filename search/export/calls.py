"""The calls that build a network: what is recorded while Attune builds it, as lines of Python that need no genes.

So the file says `SqueezeExcite(channels=64, hidden=4)` and `attach(model, Site("layer1.0.bn2", 64), ...)`.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import wraps
from itertools import groupby
from typing import Any

import timm
import torch
from torch import nn

from search.export.copying import HOME, Sources
from search.export.subject import Subject
from spaces import Architecture, Placement
from spaces.attention import attention_type, create_attention
from spaces.backbones import insertion, structure, zoo
from spaces.errors import UsageError, shortened
from spaces.heads import dilation, extractor
from spaces.heads.base import DenseHead
from spaces.heads.dilation import find_changes
from spaces.heads.levels import taken
from spaces.heads.whole import WholeHead, class_layers
from spaces.network import stem_of, takes_native_out
from spaces.plugins import is_brought

WIDTH = 100
LIBRARIES = ("torch", "timm")  # which the file needs anyway
PLAIN = (type(None), bool, int, float, str)


def build_lines(subject: Subject, sources: Sources) -> list[str]:
    """The body of `create`: the plain network, then every change that `build_model` makes to it."""
    arch = subject.arch
    sources.add(insertion, "Whole")
    plain = _create_plain(arch.backbone, sources)
    lines = [
        f"network: nn.Module = {plain}",
        "model = network",
        'if kwargs.get("features_only"):  # timm then renames and leaves out modules',
        "    whole = {key: value for key, value in kwargs.items() if key not in FEATURES}",
        '    with torch.device("meta"):',
        f"        names = dict({plain.replace('**kwargs', '**whole')}.named_modules())",
        "    model = Whole(network, names)",
    ]
    sources.need("torch")
    return [*lines, *_change_lines(subject, sources)]


def build_dense_lines(subject: Subject, sources: Sources) -> list[str]:
    """The body of `create` of a segmenter or a detector: its backbone's maps, what reads them, and every change."""
    head, name = subject.network.head, subject.arch.backbone
    assert isinstance(head, DenseHead)
    if isinstance(head, WholeHead):
        sources.add(sys.modules[WholeHead.__module__], "WholeNetwork")
        plain = _create_plain(name, sources).replace("num_classes=num_classes", f"num_classes={head.classes}")
        layers = class_layers(name, head.classes, subject.network.in_chans, head.side)
        lines = [f"model: nn.Module = WholeNetwork({plain}, {literal(layers)})", "model.in_chans = in_chans"]
        return [*lines, *_change_lines(subject, sources)]
    plan = head.plan(name)
    lines = [f"plain: nn.Module = {_create_plain(name, sources).replace('num_classes=num_classes', 'num_classes=10')}"]
    if plan.frozen_norm:
        sources.need("timm.layers", "freeze_batch_norm_2d")
        lines.append("plain = freeze_batch_norm_2d(plain)")
    leaves, taps, sites = taken(name, plan.levels)
    if plan.output_stride is not None:
        changes = find_changes(name, plan.output_stride, tuple(tap.partition(extractor.INSIDE)[0] for tap in taps))
        sources.add(dilation, "apply_changes")
        words = ", ".join(f"Change({', '.join(map(literal, astuple(one)))})" for one in changes)
        lines += _call(f"apply_changes(plain, [{words}])") if changes else []
    sources.add(extractor, "extract")
    lines += _call(f"maps = extract(plain, {literal(list(leaves))}, {literal(list(taps))}, {literal(list(sites))})")
    sources.add(sys.modules[plan.make.__module__], plan.make.__name__)
    arguments = ", ".join(f"{key}={literal(value)}" for key, value in plan.arguments.items())
    lines += [*_call(f"model = {plan.make.__name__}(maps, {arguments})"), "model.in_chans = in_chans"]
    return [*lines, *_change_lines(subject, sources)]


def _change_lines(subject: Subject, sources: Sources) -> list[str]:
    """What is changed in a plain network: its stem, its own attention, and the attention that goes in."""
    arch, lines = subject.arch, []
    stem = stem_of(subject.network.head, arch.backbone)
    if subject.network.rewrites_stem and stem:
        sources.add(insertion, "shrink_stem")
        lines.append(f"shrink_stem(model, {literal(stem)}, rescale=True)")
    for number, (stage, placement) in enumerate(subject.network.placed(arch), start=1):
        for slot in stage.sites.get("slot", ()):
            if takes_native_out(subject.network.native, slot, placement):
                sources.add(insertion, "clear")
                lines.append(f"clear(model, {literal(slot.path)})")
        if placement.is_none:
            continue
        sources.add(insertion, "attach")
        sources.add(structure, "Site")
        lines.append(f"# Stage {number}: {placement}")
        sites = stage.at(placement.site)
        made = {
            channels: attention_call(placement, channels, sites[0].dims, subject.network.identity_start, sources)
            for channels in dict.fromkeys(site.channels for site in sites)
        }
        written = [(site.path, _site(site), made[site.channels]) for site in sites]
        for (site_text, expression), group in groupby(written, key=lambda item: item[1:]):
            lines += _attach([path for path, *_ in group], site_text, expression)
    return lines


def homes(arch: Architecture) -> tuple[str, ...]:
    """The top-level packages whose definitions are copied: ours, and those that bring the attention of `arch`."""
    return homes_of(arch.placements)


def homes_of(placements: Sequence[Placement]) -> tuple[str, ...]:
    """The same for the attention of these placements."""
    types = [attention_type(placement.type) for placement in placements if not placement.is_none]
    packages = [module.partition(".")[0] for entry in types for module in entry.modules]
    return tuple(dict.fromkeys([HOME, *(package for package in packages if package not in LIBRARIES)]))


def _create_plain(name: str, sources: Sources) -> str:
    module = zoo.module_of(name)
    package = module.partition(".")[0]
    if package == "timm":
        sources.need("timm", "create_model")
        return f"create_model({literal(name)}, num_classes=num_classes, in_chans=in_chans, **kwargs)"
    function = name.split(":")[2] if is_brought(name) else str(timm.model_entrypoint(name).__name__)
    if package == HOME:
        sources.add(sys.modules[module], function)
    else:
        sources.need(module, function)  # a user's own network is not copied
    return f"{function}(num_classes=num_classes, in_chans=in_chans, **kwargs)"


def _site(site: structure.Site) -> str:
    """The arguments of `Site` after its path; `native` plays no role once attention is attached."""
    return (
        f"{site.channels}"
        + (", empty=True" if site.empty else "")
        + (f", host={literal(site.host)}" if site.host else "")
    )


def _attach(paths: list[str], site: str, expression: str) -> list[str]:
    """One line for one site, a loop over several that get the same."""
    if len(paths) == 1:
        return _call(f"attach(model, Site({literal(paths[0])}, {site}), {expression})")
    names = ", ".join(map(literal, paths))
    inside = _call(f"attach(model, Site(path, {site}), {expression})")
    return [*_call(f"for path in ({names}):"), *("    " + line for line in inside)]


def _call(text: str, width: int = WIDTH) -> list[str]:
    """A long call over several lines: one argument a line, and so on inside of those that are still too long."""
    if len(text) <= width or "(" not in text:
        return [text]
    head, rest = text.split("(", 1)
    body, tail = rest.rsplit(")", 1)
    lines = [head + "("]
    for argument in _arguments(body):
        lines += ["    " + line for line in _call(argument + ",", width - 4)]
    return [*lines, ")" + tail]


def _arguments(body: str) -> list[str]:
    """The arguments of a call, split at the commas outside of brackets."""
    parts, depth = [""], 0
    for character in body:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def literal(value: Any) -> str:
    """A value as Python source on one line, whatever it holds; text in double quotes where nothing has to be escaped."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else repr(str(value))
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key)}: {literal(one)}' for key, one in value.items())}}}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    raise UsageError(f"a {type(value).__name__} cannot be written as source: {shortened(value)}")


@dataclass(frozen=True)
class Call:
    """How a module was made."""

    cls: type[nn.Module]
    arguments: Mapping[str, Any]


def attention_call(placement: Placement, channels: int, dims: int, identity_start: bool, sources: Sources) -> str:
    """The constructor call that makes the attention of a placement at so many channels."""

    def make() -> nn.Module:
        with torch.device("meta"):
            return create_attention(
                placement.type, channels, **placement.genes, dims=dims, identity_start=identity_start
            )

    with recorded_calls({type(module) for module in make().modules()}) as calls:
        module = make()
    return _expression(module, calls, sources)


@contextmanager
def recorded_calls(classes: Iterable[type[nn.Module]]) -> Iterator[dict[nn.Module, Call]]:
    """While it is open, every module of these classes that is made is kept with the arguments of its constructor."""
    calls: dict[nn.Module, Call] = {}

    def recording(original: Callable[..., None]) -> Callable[..., None]:
        @wraps(original)
        def initialise(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            if self not in calls:  # a constructor of a base class comes second
                bound = inspect.signature(original).bind(self, *args, **kwargs)
                calls[self] = Call(type(self), dict(list(bound.arguments.items())[1:]))
            original(self, *args, **kwargs)

        return initialise

    owners = {next(base for base in cls.__mro__ if "__init__" in vars(base)) for cls in classes} - {nn.Module}
    originals: dict[type, Any] = {owner: vars(owner)["__init__"] for owner in owners}
    try:
        for owner, original in originals.items():
            setattr(owner, "__init__", recording(original))  # noqa: B010 - mypy refuses the plain assignment
        yield calls
    finally:
        for owner, original in originals.items():
            setattr(owner, "__init__", original)  # noqa: B010


def _expression(module: nn.Module, calls: Mapping[nn.Module, Call], sources: Sources) -> str:
    """The constructor call that makes `module`, arguments that keep their default left out."""
    call = calls.get(module) or Call(type(module), {})  # a class without a constructor of its own takes no arguments
    parameters = inspect.signature(call.cls.__init__).parameters
    several = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values())
    class_name = sources.name_of(call.cls)
    words = []
    for name, given in call.arguments.items():
        parameter = parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            words += [_argument(value, calls, sources) for value in given]
        elif parameter.kind is parameter.VAR_KEYWORD:
            words += [f"{key}={_argument(value, calls, sources)}" for key, value in given.items()]
        elif several and parameter.kind is not parameter.KEYWORD_ONLY:  # what comes before several has no name
            words.append(_argument(given, calls, sources))
        elif given is not parameter.default and not (type(given) in PLAIN and given == parameter.default):
            words.append(f"{name}={_argument(given, calls, sources)}")
    return f"{class_name}({', '.join(words)})"


def _argument(value: Any, calls: Mapping[nn.Module, Call], sources: Sources) -> str:
    """A constructor's argument as source: a module, a class, or a value that Python can write."""
    if isinstance(value, nn.Module):
        return _expression(value, calls, sources)
    if isinstance(value, type):
        return sources.name_of(value)
    if type(value) is tuple:
        words = [_argument(item, calls, sources) for item in value]
        return f"({', '.join(words)}{',' if len(value) == 1 else ''})"
    if type(value) is list:
        return f"[{', '.join(_argument(item, calls, sources) for item in value)}]"
    if type(value) in PLAIN:
        return literal(value)
    raise UsageError(
        f"attention with an argument of {type(value).__name__} cannot be written as source; "
        "valid: numbers, strings, None, classes, modules, and tuples and lists of them"
    )
