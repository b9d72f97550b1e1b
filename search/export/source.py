"""A network as one readable Python file that needs torch and timm only: the code it runs, taken from our own sources.

What is copied is found in the syntax trees of `spaces`, and of a user's own module that brings an attention type: a
definition, then everything it names, and so on. What is called is recorded while each attention module is built, so that
the file says `SqueezeExcite(channels=64, hidden=4)` and nothing of genes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, wraps
from importlib.util import resolve_name
from itertools import groupby
from pathlib import Path
from symtable import SymbolTable, symtable
from typing import Any

import timm
import torch
from jinja2 import Environment, StrictUndefined
from torch import nn

from search.export.subject import Subject
from spaces import Architecture, Placement
from spaces.attention import attention_type, create_attention
from spaces.backbone import SMALL_IMAGE, describe_backbone, takes_native_out
from spaces.backbones import insertion, structure, zoo
from spaces.errors import UsageError

HOME = "spaces"
LIBRARIES = ("torch", "timm")  # which the file needs anyway
PLAIN = (type(None), bool, int, float, str)
WIDTH = 100
TEMPLATE = (Path(__file__).parent / "model.py.jinja").read_text()


def model_source(subject: Subject) -> str:
    """The text of the file; its `create()` gives the network of `subject` with the same names in its state_dict."""
    sources = Sources(homes(subject.arch))
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
        made = {
            channels: _attention(placement, channels, spec["identity_start"], sources)
            for channels in dict.fromkeys(site.channels for site in sites)
        }
        written = [(site.path, _site(site), made[site.channels]) for site in sites]
        for (site_text, expression), group in groupby(written, key=lambda item: item[1:]):
            lines += _attach([path for path, *_ in group], site_text, expression)
    return lines


def homes(arch: Architecture) -> tuple[str, ...]:
    """The top-level packages whose definitions are copied: ours, and those that bring the attention of `arch`."""
    kinds = [attention_type(placement.type) for placement in arch.placements if not placement.is_none]
    packages = [module.partition(".")[0] for kind in kinds for module in kind.modules]
    return tuple(dict.fromkeys([HOME, *(package for package in packages if package not in LIBRARIES)]))


def _create_plain(name: str, sources: Sources) -> str:
    module = zoo.module_of(name)
    package = module.partition(".")[0]
    if package == "timm":
        sources.need("timm", "create_model")
        return f'create_model("{name}", num_classes=num_classes, in_chans=in_chans)'
    function = name.split(":")[2] if name.startswith("module:") else str(timm.model_entrypoint(name).__name__)
    if package == HOME:
        sources.add(sys.modules[module], function)
    else:
        sources.need(module, function)  # a user's own network is not copied
    return f"{function}(num_classes=num_classes, in_chans=in_chans)"


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


def _attention(placement: Placement, channels: int, identity_start: bool, sources: Sources) -> str:
    """The constructor call that makes the attention of a placement at so many channels."""

    def make() -> nn.Module:
        with torch.device("meta"):
            return create_attention(placement.type, channels, **placement.genes, identity_start=identity_start)

    with recorded_calls({type(module) for module in make().modules()}) as calls:
        module = make()
    return _expression(module, calls, sources)


@contextmanager
def recorded_calls(kinds: Iterable[type[nn.Module]]) -> Iterator[dict[nn.Module, Call]]:
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

    owners = {next(base for base in kind.__mro__ if "__init__" in vars(base)) for kind in kinds} - {nn.Module}
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
    parameters = inspect.signature(call.kind.__init__).parameters
    several = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values())
    class_name = sources.name_of(call.kind)
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
        return _literal(value)
    raise UsageError(
        f"attention with an argument of {type(value).__name__} cannot be written as source; "
        "valid: numbers, strings, None, classes, modules, and tuples and lists of them"
    )


# --- what is copied ---------------------------------------------------------------------------------------------------


@dataclass
class Sources:
    """Definitions collected with everything that they name, those that are needed first before the others.

    ``homes``: the top-level packages that are copied from; all others are imported.
    """

    homes: tuple[str, ...] = (HOME,)
    _taken: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, text)
    _imports: dict[str, set[str]] = field(default_factory=dict)  # module -> names; "" stands for the module itself

    def add(self, module: Any, name: str) -> None:
        """Take the definition `name` of a module object."""
        self._add(module.__name__, name)

    def name_of(self, kind: type) -> str:
        """The name of a class in the file, where it is copied or imported; raises UsageError for a class in a function."""
        if getattr(torch.nn, kind.__name__, None) is kind:
            self.need("torch", "nn")
            return f"nn.{kind.__name__}"
        if kind.__qualname__ != kind.__name__:
            raise UsageError(
                f"{kind.__qualname__} of {kind.__module__} cannot be written as source: "
                "only a class at the top of its file can"
            )
        if kind.__module__.partition(".")[0] in self.homes:
            self._add(kind.__module__, kind.__name__)
        elif kind.__module__ != "builtins":
            self.need(kind.__module__, kind.__name__)
        return kind.__name__

    def need(self, module: str, name: str = "", alias: str = "") -> None:
        """Import from outside."""
        self._imports.setdefault(module, set()).add(name + (f" as {alias}" if alias and alias != name else ""))

    def _add(self, module: str, name: str) -> None:
        file = _read(module)
        if name in file.imports:
            origin, original = file.imports[name]
            if origin.partition(".")[0] not in self.homes:
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
            origin = "." * node.level + (node.module or "")
            if node.level:
                origin = resolve_name(origin, str(importlib.import_module(module).__package__))
            imports |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
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
    """Every name from outside of it that a definition uses, its own left out."""
    skipped = {id(d) for d in getattr(node, "decorator_list", []) if _is_registration(d)}
    found = [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and id(inner) not in skipped]
    outer = _globals(symtable(ast.unparse(node), "definition", "exec")) | _annotated(node)
    return tuple(dict.fromkeys(name for name in found if name in outer and name not in _defined(node)))


def _globals(scope: SymbolTable) -> set[str]:
    """Names that a scope or one inside of it reads from the top of the file: a local variable of the same name is none."""
    top = scope.get_type() == "module"
    own = {name.get_name() for name in scope.get_symbols() if name.is_referenced() and (top or name.is_global())}
    return own.union(*map(_globals, scope.get_children()))


def _annotated(node: ast.stmt) -> set[str]:
    """Names in annotations, which symbol tables of some versions of Python leave out."""
    annotations = [
        getattr(inner, field)
        for inner in ast.walk(node)
        for field in ("annotation", "returns")
        if getattr(inner, field, None)
    ]
    return {inner.id for one in annotations for inner in ast.walk(one) if isinstance(inner, ast.Name)}
