"""What several tasks have in common beyond the interface: the section of a task with a head, and which recipes it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from evaluators.recipe import Recipe
from evaluators.tasks.base import TaskConfig
from spaces.errors import UsageError


class HeadConfig(TaskConfig):
    """The section of a task whose networks end in a head. Keys that are none of its own are options of the head."""

    head: str
    options: dict[str, int | float | bool | str | None] = Field(
        default_factory=dict, description="of the head, such as output_stride; they may stand beside `head` too"
    )

    @model_validator(mode="before")
    @classmethod
    def _options_beside(cls, values: Any) -> Any:
        """Move the keys that are none of the section's own to ``options``."""
        if not isinstance(values, Mapping):
            return values
        own = {key: value for key, value in values.items() if key in cls.model_fields}
        beside = {key: value for key, value in values.items() if key not in cls.model_fields}
        given = own.get("options") or {}
        if not isinstance(given, Mapping):
            return values
        both = beside.keys() & given.keys()
        if both:
            raise UsageError(f"task.{min(both)} is given twice, beside and inside of options")
        return {**own, "options": {**given, **beside}}

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        self.make_head(classes=2)
        return self

    def check_recipe(self, recipe: Recipe) -> None:
        refuse_mixing(recipe, self.name)


def refuse_mixing(recipe: Recipe, task: str) -> None:
    """Raise UsageError for a recipe that mixes pictures or cuts squares out of them: that is for classes of whole pictures."""
    for name in ("cutout", "mixup", "cutmix"):
        if given := getattr(recipe, name):
            raise UsageError(f"training.{name} {given} is for classes of images; valid for {task}: 0")
