"""Sections of a configuration: unknown keys are refused by name, and a section with a ``name`` is one of a registry.

Whatever can be chosen by name (an evaluator, a task, a scheduler) owns the section that configures it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from spaces.errors import UsageError, cut, shortened, unknown
from spaces.plugins import Registry, is_brought

T = TypeVar("T")


class Section(BaseModel):
    """Part of a configuration: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, values: Any) -> Any:
        """Refuse true and false where numbers or words are asked for: pydantic would take them for 1 and 0."""
        if isinstance(values, Mapping):
            for name, field in cls.model_fields.items():
                if name in values and not _may_be_truth(field.annotation) and _holds_truth(values[name]):
                    raise UsageError(
                        f"{name} = {shortened(values[name])}: true or false stands where none is asked for"
                    )
        return values


class Named(Section):
    """A section that configures one thing of a registry; a name alone stands for its defaults."""

    name: str = Field(description="which one")


class Brought(Named):
    """A section for an object of the user's own, ``module:package.file:name``; ``options`` go to it as keywords."""

    options: dict[str, Any] = Field(default_factory=dict, description="keywords for the object that `name` stands for")

    def check_options(self, found: Callable[..., Any], given: Sequence[str]) -> None:
        """Raise UsageError for an option that the object does not take, or that it is ``given`` in any case."""
        free = [name for name in keywords(found) if name not in given]
        for option in self.options:
            if option in given or (option not in free and not takes_any(found)):
                raise unknown(f"option of {self.name!r}", option, free)


def _may_be_truth(annotation: Any) -> bool:
    """Whether a value of this type may be true or false, or be another section, which looks after itself."""
    if annotation in (bool, Any) or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return True
    if get_origin(annotation) is Literal:
        return any(isinstance(one, bool) for one in get_args(annotation))
    return any(map(_may_be_truth, get_args(annotation)))


def _holds_truth(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_truth, [*value, *value.values()]))
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_truth, value)))


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """A pydantic validator: the same values; raises UsageError where one is there twice."""
    for value in values:
        if values.count(value) > 1:
            raise UsageError(f"{shortened(value)} is given twice")
    return values


def check_types(function: Callable[..., Any], options: Mapping[str, Any], where: str) -> None:
    """Raise UsageError for a keyword whose value is not of the type that the function's annotations ask for.

    ``where`` begins the message. Numbers have to be finite. Nothing is converted, so that identities keep what was written.
    """
    for name, annotation in get_type_hints(function, include_extras=True).items():
        if name not in options or annotation is Any:
            continue
        value = options[name]
        try:
            if not _may_be_truth(annotation) and _holds_truth(value):
                raise UsageError(f"{where}.{name} = {shortened(value)}: true or false stands where none is asked for")
            TypeAdapter(annotation, config=_FINITE).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UsageError(f"{where}.{name} = {shortened(value)}: {reason[:1].lower()}{reason[1:]}") from None


_FINITE = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)


def keywords(function: Callable[..., Any]) -> list[str]:
    """The names of the keywords that a function or a class takes."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, one in _parameters(function).items() if one.kind in named]


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function or a class takes keywords of whatever name."""
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in _parameters(function).values())


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """By name; empty for C code that tells nobody what it takes."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


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
            found = f"{key} = {shortened(value)}"
            raise SectionError(f"{found}: neither a name nor a section; valid names: {', '.join(registry)}")
        name = given.get("name", default)
        if not isinstance(name, str):
            raise SectionError(f"{key}.name = {shortened(name)}: no name; valid: {', '.join(registry)}")
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
    key = cut(start + ".".join(map(str, path)), 160)
    if problem["type"] == "extra_forbidden":
        return str(unknown("key", key, _valid_keys(model, path[:-1])))
    if problem["type"] == "missing":
        wanted = model.model_fields[path[0]].description if len(path) == 1 and path[0] in model.model_fields else None
        return f"the key {key!r}{whose} is missing" + (f": {wanted}" if wanted else "")
    if problem["type"] == "value_error":
        reason = problem["ctx"]["error"]
        return str(reason) if isinstance(reason, SectionError) or not path else f"{key}: {reason}"
    return f"{key} = {shortened(problem['input'])}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _valid_keys(model: Any, path: Sequence[Any]) -> list[str]:
    """The keys of a section, by its path in the model."""
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)
