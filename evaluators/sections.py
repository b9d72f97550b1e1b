"""Sections of a configuration: unknown keys are refused by name, and a section with a ``name`` is one of a registry.

Whatever can be chosen by name (an evaluator, a task, a scheduler) owns the section that configures it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
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

    def check_options(self, found: Callable[..., Any], given: Sequence[str]) -> None:
        """Raise UsageError for an option that the object does not take, or that it is ``given`` in any case."""
        free = [name for name in keywords(found) if name not in given]
        for option in self.options:
            if option in given or (option not in free and not takes_any(found)):
                raise unknown(f"option of {self.name!r}", option, free)


def keywords(function: Callable[..., Any]) -> list[str]:
    """The names of the keywords that a function or a class takes."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, one in inspect.signature(function).parameters.items() if one.kind in named]


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function or a class takes keywords of whatever name."""
    parameters = inspect.signature(function).parameters.values()
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def taken(function: Callable[..., Any], names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that a function or a class takes as keywords."""
    own = keywords(function)
    return tuple(name for name in names if name in own or takes_any(function))


class SectionError(UsageError):
    """A mistake inside of a section, in words that name its key from the top of the configuration."""


def one_of(
    registry: Registry[Any], key: str, default: str, brought: type[Named] | None = None
) -> Callable[[Any], Named]:
    """A pydantic validator: from a name or a mapping with one to the section that is registered under it.

    ``key`` is that of the section in the configuration, ``brought`` the section of what users bring.
    Raises SectionError for an unknown name, or a key that the section lacks.
    """

    def read(value: Any) -> Named:
        if isinstance(value, Named):
            return value
        given = {"name": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping):
            raise SectionError(f"{key} = {value!r}: neither a name nor a section; valid names: {', '.join(registry)}")
        name = str(given.get("name", default))
        users_own = brought if is_brought(name) else None
        if users_own is None and name not in registry:
            raise SectionError(str(unknown(f"{key}.name", name, registry)))
        section = users_own or registry[name]
        try:
            return section.model_validate({**given, "name": name})
        except ValidationError as error:
            raise SectionError(first_problem(error, section, f"{key}.", f" of {registry.what} {name!r}")) from None

    return read


def first_problem(error: ValidationError, model: type[BaseModel], start: str = "", whose: str = "") -> str:
    """The first mistake that pydantic found, as one line that names the key and the valid choices.

    ``start``: what precedes the section's own keys in the whole configuration. ``whose``: to whom a missing key belongs.
    """
    problem = error.errors()[0]
    path = list(problem["loc"])
    key = start + ".".join(map(str, path))
    if problem["type"] == "extra_forbidden":
        return str(unknown("key", key, _valid_keys(model, path[:-1])))
    if problem["type"] == "missing":
        wanted = model.model_fields[path[0]].description if len(path) == 1 and path[0] in model.model_fields else None
        return f"the key {key!r}{whose} is missing" + (f": {wanted}" if wanted else "")
    if problem["type"] == "value_error":
        reason = problem["ctx"]["error"]
        return str(reason) if isinstance(reason, SectionError) or not path else f"{key}: {reason}"
    return f"{key} = {problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _valid_keys(model: Any, path: Sequence[Any]) -> list[str]:
    """The keys of a section, by its path in the model."""
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)
