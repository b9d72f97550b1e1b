"""What several tasks have in common: what they tell of their data, the section of a head, and which recipes it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Self

from pydantic import Field, model_validator

from evaluators.data.splits import AnySplit, AnySummary, DataSet
from evaluators.recipe import Recipe
from evaluators.tasks.base import Split, TaskConfig
from spaces.errors import UsageError


class OnData(Generic[AnySplit, AnySummary]):
    """What a task can tell of its data alone."""

    data: DataSet[AnySplit, AnySummary]

    def count(self, split: Split) -> int:
        return len(self.data.split(split))

    def describe(self) -> dict[str, Any]:
        """Classes, channels, size and normalisation; ``pixel_span``, where pixel values are not those of 8 bits."""
        data, (height, width) = self.data, self.data.size
        deep = {} if data.span is None else {"pixel_span": list(data.span)}
        return {
            "num_classes": data.num_classes,
            "in_chans": data.in_chans,
            "image_size": height if height == width else [height, width],
            "mean": list(data.mean),
            "std": list(data.std),
            "class_names": list(data.class_names),
            **deep,
        }

    @property
    def summary(self) -> AnySummary:
        """What was read of the data, left out and assumed."""
        return self.data.summary


class HeadConfig(TaskConfig):
    """The section of a task whose networks end in a head. Keys that are none of its own are options of the head."""

    head: str = Field(description="what the networks end in")
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
