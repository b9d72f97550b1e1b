"""The calls that build a network: what is recorded while Attune builds it, as lines of Python that need no genes.

So the file says `SqueezeExcite(channels=64, hidden=4)` and `attach(model, Site("layer1.0.bn2", 64), ...)`.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import groupby
from typing import Any

import timm
import torch
from torch import nn

from search.export.copying import HOME, Sources
from search.export.subject import Subject
from spaces.backbone import describe_backbone
from spaces.backbones import insertion, structure
from spaces.network import takes_native_out

WIDTH = 100


def build_lines(subject: Subject, sources: Sources) -> list[str]:
    """The body of `create`: the plain network, then every change that `build_model` makes to it."""
    arch = subject.arch
    backbone = describe_backbone(arch.backbone)
    attentions = [
        site.attention
        for stage, placement in zip(backbone.stages, arch.placements, strict=True)
        if not placement.is_none
        for site in stage.sites[placement.site or ""]
    ]
    with torch.device("meta"):
        first = subject.build()  # once to see which classes there are, and once more to see how they are made
        with recorded_calls(_classes([first.get_submodule(path) for path in attentions])) as calls:
            model = subject.build()
    lines = [f"model: nn.Module = {_create_plain(arch.backbone, sources)}"]
    if subject.network.rewrites_stem and backbone.stem:
        sources.add(insertion, "shrink_stem")
        lines.append(f"shrink_stem(model, {literal(backbone.stem)}, rescale=True)")
    for number, (stage, placement) in enumerate(zip(backbone.stages, arch.placements, strict=True), start=1):
        for slot in stage.sites.get("slot", ()):
            if takes_native_out(subject.network.native, slot, placement):
                sources.add(insertion, "clear")
                lines.append(f'clear(model, "{slot.path}")')
        if placement.is_none:
            continue
        sources.add(insertion, "attach")
        sources.add(structure, "Site")
        lines.append(f"# Stage {number}: {placement}")
        sites = stage.sites[placement.site or ""]
        written = [
            (site.path, _site(site), _expression(model.get_submodule(site.attention), calls, sources)) for site in sites
        ]
        for (site_text, expression), group in groupby(written, key=lambda item: item[1:]):
            lines += _attach([path for path, *_ in group], site_text, expression)
    return lines


def _create_plain(name: str, sources: Sources) -> str:
    if name.startswith("module:"):
        _, module, function = name.split(":")
        sources.need(module, function)
        return f"{function}(num_classes=num_classes, in_chans=in_chans)"
    entry = timm.model_entrypoint(name)
    if entry.__module__.partition(".")[0] == HOME:
        sources.add(sys.modules[entry.__module__], entry.__name__)
        return f"{entry.__name__}(num_classes=num_classes, in_chans=in_chans)"
    sources.need("timm", "create_model")
    return f'create_model("{name}", num_classes=num_classes, in_chans=in_chans)'


def _site(site: structure.Site) -> str:
    """The arguments of `Site` after its path; `native` plays no role once attention is attached."""
    return f"{site.channels}" + (", empty=True" if site.empty else "") + (f', host="{site.host}"' if site.host else "")


def _attach(paths: list[str], site: str, expression: str) -> list[str]:
    """One line for one site, a loop over several that get the same."""
    if len(paths) == 1:
        return _call(f'attach(model, Site("{paths[0]}", {site}), {expression})')
    names = ", ".join(f'"{path}"' for path in paths)
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
    """As repr, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


@dataclass(frozen=True)
class Call:
    """How a module was made."""

    kind: type[nn.Module]
    arguments: Mapping[str, Any]


@contextmanager
def recorded_calls(classes: Sequence[type[nn.Module]]) -> Iterator[dict[nn.Module, Call]]:
    """While it is open, every module of these classes is kept with the arguments of its outermost constructor."""
    calls: dict[nn.Module, Call] = {}

    def recording(original: Callable[..., None]) -> Callable[..., None]:
        @wraps(original)
        def initialise(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            if self not in calls:  # a constructor of a base class comes second
                bound = inspect.signature(original).bind(self, *args, **kwargs)
                calls[self] = Call(type(self), dict(list(bound.arguments.items())[1:]))
            original(self, *args, **kwargs)

        return initialise

    kinds = [kind for kind in classes if "__init__" in vars(kind)]
    originals: list[Any] = [vars(kind)["__init__"] for kind in kinds]
    try:
        for kind, original in zip(kinds, originals, strict=True):
            setattr(kind, "__init__", recording(original))  # noqa: B010 - mypy refuses the plain assignment
        yield calls
    finally:
        for kind, original in zip(kinds, originals, strict=True):
            setattr(kind, "__init__", original)  # noqa: B010


def _classes(modules: Sequence[nn.Module]) -> list[type[nn.Module]]:
    """The classes of these modules and of all modules inside of them, with their bases; torch's own are left out."""
    kinds = {kind for module in modules for inner in module.modules() for kind in type(inner).__mro__}
    return [kind for kind in kinds if issubclass(kind, nn.Module) and kind.__module__.partition(".")[0] != "torch"]


def _expression(module: nn.Module, calls: Mapping[nn.Module, Call], sources: Sources) -> str:
    """The constructor call that makes `module`, arguments that keep their default left out."""
    call = calls.get(module) or Call(type(module), {})  # a class without a constructor of its own takes no arguments
    sources.add(sys.modules[call.kind.__module__], call.kind.__name__)
    defaults = {name: given.default for name, given in inspect.signature(call.kind.__init__).parameters.items()}
    words = []
    for name, value in call.arguments.items():
        if isinstance(value, nn.Module):
            words.append(f"{name}={_expression(value, calls, sources)}")
        elif value != defaults[name]:
            words.append(f"{name}={literal(value)}")
    return f"{call.kind.__name__}({', '.join(words)})"
