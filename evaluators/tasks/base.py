"""What a network is trained for, as a protocol: the training loop, supernet, proxies, memory and export know nothing else.

Legend: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from evaluators.metric import Metric as Metric
from evaluators.outcomes import Metrics
from evaluators.recipe import Recipe
from evaluators.sections import Brought, Named
from spaces.errors import UsageError
from spaces.network import Head, NetworkSpec
from spaces.placement import Architecture
from spaces.plugins import Registry, bring, call

Split = Literal["train", "val", "test"]


class Batches(Protocol):
    """Batches of one split, on the device; one pass over them is one epoch."""

    batch_size: int

    def __len__(self) -> int:
        """The number of batches."""
        ...

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        """Inputs (B, C, H, W) and the targets that ``Task.loss`` and ``Scorer.update`` take.

        A target is a tensor whose first axis is the batch, or lists, tuples or dicts of such; a list has one entry an image.
        """
        ...


class Scorer(Protocol):
    """Adds up how good the outputs for one split are."""

    def update(self, output: Any, target: Any) -> None:
        """Take in the network's output for one batch, and what it should have been."""
        ...

    def compute(self) -> Metrics:
        """At least the task's metric by its name; raises EvaluationError where an output was not finite."""
        ...


@runtime_checkable
class Task(Protocol):
    """What networks are trained for: the data, the network around an architecture, the loss, and the judge."""

    @property
    def metric(self) -> Metric:
        """What a candidate is judged by."""
        ...

    @property
    def network(self) -> NetworkSpec:
        """What surrounds an architecture; native attention and the start are the space's, not the task's."""
        ...

    @property
    def identity(self) -> str:
        """A stable text that names data and meaning: evaluations with one identity are comparable."""
        ...

    @property
    def validation_batch(self) -> int:
        """Images at once where nothing is trained."""
        ...

    def count(self, split: Split) -> int:
        """The number of images of a split. Raises MissingSplit where the data have no such split."""
        ...

    def batches(
        self,
        split: Split,
        *,
        batch_size: int,
        device: torch.device,
        generator: torch.Generator | None = None,
        recipe: Recipe | None = None,
        workers: int = 2,
        limit: int | None = None,
    ) -> Batches:
        """The batches of a split. A generator shuffles them and leaves out a last one that is not full.

        ``recipe`` changes them at random in its way (it needs a generator). ``limit``: at most so many images, always the same
        ones. Raises MissingSplit where the data have no such split.
        """
        ...

    def loss(self, output: Any, target: Any, *, smoothing: float = 0.0) -> Tensor:
        """The mean loss over a batch, a scalar; ``smoothing`` is the recipe's label smoothing."""
        ...

    def scorer(self) -> Scorer:
        """A new judge, which has seen nothing."""
        ...

    def dummy_target(self, batch: int) -> Any:
        """A target of so many images without content, on torch's default device: memory is estimated without data."""
        ...

    def describe(self) -> dict[str, Any]:
        """What a person, and an exported model, has to know of the data, as JSON."""
        ...


class Watching(Protocol):
    """A task whose loss may need more of a network in training than what its head puts out."""

    def watch(self, model: nn.Module, arch: Architecture) -> None:
        """Let the network of an architecture put that out, in training mode; nothing else of it changes."""
        ...


@dataclass(frozen=True, eq=False)
class Explained:
    """What a map of attention explains: a score of each picture (B,), and for each what that is, in words."""

    score_B: Tensor
    words: tuple[str, ...]


class Explaining(Protocol):
    """A task of pictures that can say what is to be explained of its networks' outputs."""

    @property
    def cam(self) -> Literal["Grad-CAM", "LayerCAM"]:
        """By which maps: see ``evaluators.cam``."""
        ...

    def explain(self, output: Any, target: Any) -> Explained:
        """The score whose gradient is followed, of what a network in eval mode puts out for one batch."""
        ...


def explaining(task: object) -> Explaining | None:
    """The task where it is one of pictures that can say what is to be explained, also behind a ``KeptStem``."""
    return cast(Explaining, task) if hasattr(task, "explain") and hasattr(task, "cam") else None


class TaskConfig(Named):
    """The section of a task; each task has its own, registered under its name in ``TASKS``."""

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise UsageError for a recipe that the task's networks cannot be trained by; any can."""

    @classmethod
    def listed(cls) -> dict[str, Any]:
        """What can be named beside the task: ``metric``, ``heads`` of its networks and forms of its ``data``."""
        return {"metric": "", "heads": [], "data": []}

    def build(self, data: Any, *, seed: int) -> Task:
        """The task on data as the configuration names them. Raises UsageError where they cannot be read."""
        raise TypeError(f"{type(self).__name__} does not say how its task is built")

    def make_head(self, classes: int) -> Head | None:
        """What the task's networks put out for so many classes: it tells, before any data are read, where attention may go.

        None: the backbone's stages alone.
        """
        return None


TASKS: Registry[type[TaskConfig]] = Registry("task", "evaluators.tasks")


class BroughtTask(Brought, TaskConfig):
    """A user's own task: ``name(data=..., seed=..., **options)`` gives an object with the interface of ``Task``."""

    def build(self, data: Any, *, seed: int) -> Task:
        make = bring(self.name, "task")
        if callable(make):
            self.check_options(make, ("data", "seed"))
        task = call(self.name, "task", make, data=data, seed=seed, **self.options)
        lacking = [part for part in _PARTS if not hasattr(task, part)]
        if lacking:
            raise UsageError(f"task {self.name!r} gave a {type(task).__name__} without {', '.join(lacking)}")
        found: Task = task
        return found


_PARTS = [part for part in vars(Task) if not part.startswith("_")]


def list_tasks() -> list[dict[str, Any]]:
    """The tasks by name, with the first line of what each is, its metric, and what else can be named."""
    return [
        {"name": name, "what": (section.__doc__ or "").partition("\n")[0], **section.listed()}
        for name, section in TASKS.items()
    ]


class KeptStem:
    """A task whose networks keep the backbone's own stem, whatever the size of the input; all else is the task's own."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    def network(self) -> NetworkSpec:
        return replace(self.task.network, stem="keep")

    @property
    def identity(self) -> str:
        return f"{self.task.identity} stem keep"

    def __getattr__(self, name: str) -> Any:
        if name == "task":  # not there yet while a copy is made
            raise AttributeError(name)
        return getattr(self.task, name)
