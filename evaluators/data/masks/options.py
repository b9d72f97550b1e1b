"""The options of data with masks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from evaluators.data.masks.codes import MOST, VALUES, Declared
from evaluators.data.options import FolderOptions
from spaces.errors import UsageError, shortened


def _numbers(value: Any, what: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    if not given or not all(type(one) is int and 0 <= one < VALUES for one in given):
        raise UsageError(f"{what} {shortened(value)}; valid: pixel values, whole numbers from 0 to {VALUES - 1}")
    return tuple(given)


def _colour(value: Any) -> tuple[int, int, int]:
    if not (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(type(one) is int and 0 <= one < 256 for one in value)
    ):
        raise UsageError(f"colour {shortened(value)}; valid: [red, green, blue], each from 0 to 255")
    red, green, blue = value
    return red, green, blue


def _classes(value: Any) -> Any:
    if value is None or (type(value) is int and 2 <= value <= MOST):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    raise UsageError(
        f"{shortened(value)}; valid: how many, from 2 to {MOST}, or their names in the order of their numbers"
    )


def _values(value: Any) -> Any:
    return _numbers(value, "values")


def _colours(value: Any) -> Any:
    """{name: colour} of a list, whose names are None, or of a mapping."""
    if value is None:
        return None
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise UsageError(f"{shortened(value)}; valid: colours, or names with their colours")
        return tuple((str(name), _colour(one)) for name, one in value.items())
    if not isinstance(value, (list, tuple)):
        raise UsageError(
            f"{shortened(value)}; valid: the colours of the classes in their order, or names with their colours"
        )
    return tuple((None, _colour(one)) for one in value)


Ignored = int | tuple[int | tuple[int, int, int], ...] | None


def _ignored(value: Any) -> Any:
    """Pixel values or colours; which of them is told by whether there are `colors`."""
    if not isinstance(value, (list, tuple)):
        return value if value is None else _numbers(value, "ignore")
    return tuple(_colour(one) if isinstance(one, (list, tuple)) else one for one in value)


class PublishedOptions(FolderOptions):
    """A layout whose classes are known."""


class MaskOptions(FolderOptions):
    """Masks of somebody's own."""

    classes: Annotated[int | tuple[str, ...] | None, BeforeValidator(_classes)] = Field(
        default=None, description="their names, or how many there are"
    )
    values: Annotated[tuple[int, ...] | None, BeforeValidator(_values)] = Field(
        default=None, description="the pixel value of each class; None: 0, 1, 2 ... without what is ignored"
    )
    ignore: Annotated[Ignored, BeforeValidator(_ignored)] = Field(
        default=None, description="pixel values, or with `colors` colours, of what is not labelled"
    )
    colors: Annotated[tuple[tuple[str | None, tuple[int, int, int]], ...] | None, BeforeValidator(_colours)] = Field(
        default=None, description="of the classes, in masks that are in colour"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> MaskOptions:
        self.declared.check()
        return self

    @property
    def declared(self) -> Declared:
        """Raises UsageError for what is no value or no colour."""
        if self.colors is None:
            return Declared(self.classes, self.values, _numbers(self.ignore, "ignore"))
        names = tuple(name for name, _ in self.colors if name is not None)
        if names and self.classes is not None:
            raise UsageError("data.classes and the names in data.colors are both given; valid: one of them")
        ignore = self.ignore if isinstance(self.ignore, tuple) else ()
        several = all(isinstance(one, tuple) for one in ignore)
        given = ignore if several else (ignore,)
        colours = tuple(colour for _, colour in self.colors)
        return Declared(names or self.classes, self.values, None, colours, tuple(map(_colour, given)))


class MaskFolderOptions(MaskOptions):
    """Folders of images and masks."""

    skip_unmatched: bool = Field(default=False, description="leave out, and count, what has no counterpart")


class MaskTableOptions(MaskOptions):
    """Tables of Hugging Face."""

    image: str | None = Field(default=None, description="the column of images")
    mask: str | None = Field(default=None, description="the column of masks")
    config: str | None = Field(default=None, description="the configuration of a set that has several")
