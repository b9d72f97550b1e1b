"""Sections of a configuration: unknown keys are refused by name, and a section with a ``name`` is one of a registry.

Whatever can be chosen by name (an evaluator, a task, a scheduler) owns the section that configures it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spaces.errors import UsageError, unknown
from spaces.plugins import Registry, is_brought


class Section(BaseModel):
    """Part of a configuration: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(Section):
    """A section that configures one thing of a registry; a name alone stands for its defaults."""

    name: str


class Brought(Named):
    """A section for an object of the user's own, ``module:package.file:name``; ``options`` go to it as keywords."""

    options: dict[str, Any] = Field(default_factory=dict, description="keywords for the object that `name` stands for")


class SectionError(UsageError):
    """A mistake in a section that was chosen by name; ``tell`` says it, given the keys above that section."""

    def __init__(self, tell: Callable[[Sequence[Any]], str]) -> None:
        super().__init__(tell(()))
        self.tell = tell


def one_of(registry: Registry[Any], default: str, brought: type[Named] | None = None) -> Callable[[Any], Named]:
    """A pydantic validator: from a name or a mapping with one to the section that is registered under it.

    ``brought`` is the section of what users bring. Raises UsageError for an unknown name, or a key that the section lacks.
    """

    def read(value: Any) -> Named:
        if isinstance(value, Named):
            return value
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            raise UsageError(f"{value!r} is neither a name nor a section; valid names: {', '.join(registry)}")
        name = str(given.get("name", default))
        if name not in registry and not (brought is not None and is_brought(name)):
            raise SectionError(partial(_no_such_name, registry, name))
        section = brought if brought is not None and is_brought(name) else registry[name]
        try:
            return section.model_validate({**given, "name": name})
        except ValidationError as error:
            raise SectionError(partial(first_problem, error, section, f"{registry.what} {name!r}: ")) from None

    return read


def _no_such_name(registry: Registry[Any], name: str, above: Sequence[Any]) -> str:
    problem = str(unknown(registry.what, name, registry))
    return f"{'.'.join(map(str, [*above, 'name']))}: {problem}" if above else problem


def first_problem(error: ValidationError, model: type[BaseModel], where: str = "", above: Sequence[Any] = ()) -> str:
    """The first mistake that pydantic found, as one line that names the key and the valid choices.

    ``above``: the keys under which the model itself stands.
    """
    problem = error.errors()[0]
    path = list(problem["loc"])
    key = ".".join(map(str, [*above, *path]))
    if problem["type"] == "extra_forbidden":
        return f"{where}{unknown('key', key, _valid_keys(model, path[:-1]))}"
    if problem["type"] == "missing":
        what = _description(model, path)
        return f"{where}the key {key!r} is missing{f': {what}' if what else ''}"
    if problem["type"] == "value_error":
        reason = problem["ctx"]["error"]
        if isinstance(reason, SectionError):
            return f"{where}{reason.tell([*above, *path])}"
        return f"{where}{key}: {reason}" if key else f"{where}{reason}"
    return f"{where}{key} = {problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _description(model: type[BaseModel], path: Sequence[Any]) -> str:
    """What a key of the model itself is for; empty for keys further down."""
    field = model.model_fields.get(path[0]) if len(path) == 1 else None
    return (field.description or "") if field else ""


def _valid_keys(model: Any, path: Sequence[Any]) -> list[str]:
    """The keys of a section, by its path in the model."""
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)
