"""A network as one readable Python file that needs torch and timm only: the code it runs, taken from our own sources.

What is copied is found in the syntax trees of `spaces`: a definition, then everything it names, and so on. What is called is
recorded while the network is built, so that the file says `SqueezeExcite(channels=64, hidden=4)` and nothing of genes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, wraps
from itertools import groupby
from pathlib import Path
from typing import Any

import timm
import torch
from jinja2 import Environment, StrictUndefined
from torch import nn

from search.export.subject import Subject
from spaces.attention import axes, channel, grouped, pairs, pairwise, parts, spatial, transform
from spaces.backbone import SMALL_IMAGE, describe_backbone, takes_native_out
from spaces.backbones import insertion, structure

HOME = "spaces"
ATTENTION_FILES = (parts, channel, spatial, pairs, pairwise, grouped, axes, transform)
WIDTH = 100
TEMPLATE = (Path(__file__).parent / "model.py.jinja").read_text()


def model_source(subject: Subject) -> str:
    """The text of the file; its `create()` gives the network of `subject` with the same names in its state_dict."""
    sources = Sources()
    build = _build_lines(subject, sources)
    for module, name in (
        ("pathlib", "Path"),
        ("typing", "Any"),
        ("torch", "nn"),
        ("safetensors.torch", "load_file"),
        ("timm.models", "register_model"),
    ):
        sources.need(module, name)
    spec = subject.spec
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["literal"] = _literal
    return environment.from_string(TEMPLATE).render(
        name=subject.model_name,
        architecture=spec["architecture"],
        spec=spec,
        config=pretrained_config(subject),
        imports=sources.import_lines(),
        definitions=sources.definitions(),
        build=build,
    )


def pretrained_config(subject: Subject) -> dict[str, Any]:
    """What timm wants to know of a trained network."""
    spec = subject.spec
    size = spec["image_size"]
    return {
        "num_classes": spec["num_classes"],
        "input_size": (spec["in_chans"], size, size),
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "mean": tuple(spec.get("mean", (0.5,) * spec["in_chans"])),
        "std": tuple(spec.get("std", (0.5,) * spec["in_chans"])),
        "classifier": subject.classifier,
        "license": "apache-2.0",
    }


# --- what is called ---------------------------------------------------------------------------------------------------


def _build_lines(subject: Subject, sources: Sources) -> list[str]:
    """The body of `create`: the plain network, then every change that `build_model` makes to it."""
    spec, arch = subject.spec, subject.arch
    backbone = describe_backbone(arch.backbone)
    with torch.device("meta"), recorded_calls() as calls:
        model = subject.build()
    lines = [f"model: nn.Module = {_create_plain(arch.backbone, sources)}"]
    if spec["image_size"] <= SMALL_IMAGE and backbone.stem:
        sources.add(insertion, "shrink_stem")
        lines.append(f"shrink_stem(model, {_literal(backbone.stem)}, rescale=True)")
    for number, (stage, placement) in enumerate(zip(backbone.stages, arch.placements, strict=True), start=1):
        for slot in stage.sites.get("slot", ()):
            if takes_native_out(spec["native"], slot, placement):
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


def _literal(value: Any) -> str:
    """As repr, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


@dataclass(frozen=True)
class Call:
    """How a module was made."""

    kind: type[nn.Module]
    arguments: Mapping[str, Any]


@contextmanager
def recorded_calls() -> Iterator[dict[nn.Module, Call]]:
    """While it is open, every attention module that is made is kept with the arguments of its outermost constructor."""
    calls: dict[nn.Module, Call] = {}

    def recording(original: Callable[..., None]) -> Callable[..., None]:
        @wraps(original)
        def initialise(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            if self not in calls:  # a constructor of a base class comes second
                bound = inspect.signature(original).bind(self, *args, **kwargs)
                calls[self] = Call(type(self), dict(list(bound.arguments.items())[1:]))
            original(self, *args, **kwargs)

        return initialise

    kinds = [kind for kind in _attention_classes() if "__init__" in vars(kind)]
    originals: list[Any] = [vars(kind)["__init__"] for kind in kinds]
    try:
        for kind, original in zip(kinds, originals, strict=True):
            setattr(kind, "__init__", recording(original))  # noqa: B010 - mypy refuses the plain assignment
        yield calls
    finally:
        for kind, original in zip(kinds, originals, strict=True):
            setattr(kind, "__init__", original)  # noqa: B010


@cache
def _attention_classes() -> tuple[type[nn.Module], ...]:
    return tuple(
        thing
        for file in ATTENTION_FILES
        for thing in vars(file).values()
        if isinstance(thing, type) and issubclass(thing, nn.Module) and thing.__module__ == file.__name__
    )


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
            words.append(f"{name}={_literal(value)}")
    return f"{call.kind.__name__}({', '.join(words)})"


# --- what is copied ---------------------------------------------------------------------------------------------------


@dataclass
class Sources:
    """Definitions collected with everything that they name, those that are needed first before the others."""

    _taken: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, text)
    _imports: dict[str, set[str]] = field(default_factory=dict)  # module -> names; "" stands for the module itself

    def add(self, module: Any, name: str) -> None:
        """Take the definition `name` of a module object."""
        self._add(module.__name__, name)

    def need(self, module: str, name: str = "", alias: str = "") -> None:
        """Import from outside."""
        self._imports.setdefault(module, set()).add(name + (f" as {alias}" if alias and alias != name else ""))

    def _add(self, module: str, name: str) -> None:
        file = _read(module)
        if name in file.imports:
            origin, original = file.imports[name]
            if origin.partition(".")[0] != HOME:
                self.need(origin, original, name if original else "")
            elif original != name:
                raise RuntimeError(f"{module} renames {origin}.{original} to {name}, which one file cannot")
            else:
                self._add(origin, original)
            return
        if name not in file.definitions:
            return  # a builtin, an argument or a local variable
        if name in self._taken:
            if self._taken[name][0] != module:
                raise RuntimeError(f"{module} and {self._taken[name][0]} both define {name}")
            return
        text, names = file.definitions[name]
        self._taken[name] = (module, "")  # taken, so that a definition may name itself
        for other in names:
            self._add(module, other)
        del self._taken[name]
        self._taken[name] = (module, text)

    def definitions(self) -> list[str]:
        return [text for _, text in self._taken.values()]

    def import_lines(self) -> list[str]:
        """Standard library first, then packages."""
        lines = []
        for standard in (True, False):
            part: list[str] = []
            for module, names in self._imports.items():
                if (module.partition(".")[0] in sys.stdlib_module_names) == standard:
                    part += [f"import {module}"] if "" in names else []
                    part += [f"from {module} import {', '.join(sorted(names - {''}))}"] if names - {""} else []
            lines += [*sorted(part, key=lambda line: (line.startswith("from"), line)), ""] if part else []
        return lines[:-1]


@dataclass(frozen=True)
class File:
    """One source file: text and names of every definition at its top, and where its imports come from."""

    definitions: Mapping[str, tuple[str, tuple[str, ...]]]
    imports: Mapping[str, tuple[str, str]]


@cache
def _read(module: str) -> File:
    path = inspect.getsourcefile(importlib.import_module(module))
    lines = Path(str(path)).read_text().splitlines()
    tree = ast.parse("\n".join(lines))
    imports: dict[str, tuple[str, str]] = {}
    definitions: dict[str, tuple[str, tuple[str, ...]]] = {}
    statements = [inner for node in tree.body for inner in (node.body if isinstance(node, ast.If) else [node])]
    for node in statements:
        if isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports |= {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}
        else:
            for name in _defined(node):
                definitions[name] = (_text(node, lines), _names(node))
    return File(definitions, imports)


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _is_registration(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Name) and decorator.id == "register_model"


def _text(node: Any, lines: list[str]) -> str:
    """The lines of a definition with its comments and decorators, but not registered with timm and without `type: ignore`."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    dropped = {decorator.lineno - 1 for decorator in decorators if _is_registration(decorator)}
    kept = [lines[number] for number in range(first, node.end_lineno) if number not in dropped]
    return "\n".join(re.sub(r"\s*# type: ignore.*", "", line) for line in kept)


def _names(node: ast.stmt) -> tuple[str, ...]:
    """Every name that a definition uses, its own left out."""
    skipped = {id(d) for d in getattr(node, "decorator_list", []) if _is_registration(d)}
    found = [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and id(inner) not in skipped]
    return tuple(dict.fromkeys(name for name in found if name not in _defined(node)))
