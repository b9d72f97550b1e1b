"""From a configuration to objects: the task, the evaluator, the problem and early stopping. Nothing of Ray in here."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from evaluators.base import Evaluator, Setting
from evaluators.brought import BroughtEvaluator
from evaluators.data import Summary
from evaluators.memory import parse_memory
from evaluators.tasks.base import BroughtTask, KeptStem, Task
from search.config import Config
from search.files import read_json
from search.objectives import OBJECTIVES
from search.problem import Problem
from search.tables import Costing
from spaces import Architecture, SearchSpace
from spaces.backbones.weights import load_weights
from spaces.errors import UsageError
from spaces.network import ClassifierHead, Native, NetworkSpec, describe_input, pixels
from spaces.protocols import offers

log = logging.getLogger(__name__)


def create_task(config: Config) -> Task:
    """What the run's networks are for, with its data; raises UsageError where these cannot be read."""
    if config.data is None:
        raise UsageError("the key 'data' is missing: a data set, or {name: ..., and its options}")
    task = config.task.build(config.data, seed=config.seed)
    return cast(Task, KeptStem(task)) if config.space.stem == "keep" else task


def create_space(config: Config) -> SearchSpace:
    """What a run may propose, over the stages of the backbone and of the task's head."""
    return config.space.build(config.task.make_head(classes=2))  # how many classes is no matter of stages


def create_setting(config: Config) -> Setting:
    """What the evaluators of a run are built for; its task is read once, when it is first asked for."""
    memory = config.resources.memory
    return Setting(
        cache(lambda: create_task(config)),
        create_space(config),
        config.training,
        config.space.identity_start,
        config.space.native,
        None if memory is None else parse_memory(memory),
        config.space.stem,
    )


def create_evaluator(config: Config) -> Evaluator:
    """What scores the candidates of a run."""
    return config.evaluator.build(create_setting(config))


def create_trainer(config: Config) -> Evaluator:
    """What trains an architecture of a run with fresh seeds, whatever scored it in the search."""
    return config.evaluator.build_trainer(create_setting(config))


def create_problem(config: Config, evaluator: Evaluator, folder: Path | None = None) -> Problem:
    """The space, costs and budget of a run; raises UsageError where nothing fits.

    Costs that are measured are measured now, or taken from what the run in ``folder`` has kept.
    """
    space = create_space(config)
    return Problem.build(
        space,
        evaluator.network,
        budget=config.search.budget,
        costs=config.search.costs,
        costing=Costing(space, evaluator.network, config.seed, config.search.latency),
        known=read_tables(folder) if folder else {},
    )


def network_of(
    config: Config,
    size: tuple[int, ...] | None = None,
    classes: int | None = None,
    in_chans: int | None = None,
    native: Native | None = None,
) -> NetworkSpec:
    """What surrounds an architecture in a configuration; what is given stands in its place.

    Size, classes and channels are those of the data, which are read unless all are given or named in the section `data`
    (`image_size`, `classes`, `channels`); where only the channels lack, they are assumed to be 3.
    Raises UsageError where the data cannot be read, and for classes of a head that is a user's own.
    """
    own = isinstance(config.task, BroughtTask) or isinstance(config.evaluator, BroughtEvaluator)
    if own and classes is not None:
        raise UsageError(
            "--classes: the head of this configuration is brought, and knows its classes; valid: leave it out"
        )
    told = told_input(config.data) | {
        key: value for key, value in (("size", size), ("classes", classes), ("in_chans", in_chans)) if value is not None
    }
    if not own and {"size", "classes"} <= told.keys():
        if "in_chans" not in told:
            log.warning("no data are read, since size and classes are known; 3 channels are assumed (--channels)")
        head = config.task.make_head(told["classes"]) or ClassifierHead(told["classes"])
        network = NetworkSpec(told.get("in_chans", 3), told["size"], head, stem=config.space.stem)
    else:
        network = create_evaluator(config).network
        network = replace(network, size=size or network.size, in_chans=in_chans or network.in_chans)
        if classes is not None:
            network = replace(network, head=config.task.make_head(classes) or ClassifierHead(classes))
    return replace(network, native=native or config.space.native)


def weights_line(config: Config, network: NetworkSpec) -> str | None:
    """What the plain network takes of the checkpoint that trainings start from, as a line; None where there is none.

    Raises UsageError for a checkpoint that does not fit.
    """
    weights = config.training.weights
    if weights in (None, "pretrained"):
        return None
    return f"training.weights: {load_weights(network.build(Architecture.plain(config.space.backbone)), weights)}"


def told_input(data: Any) -> dict[str, Any]:
    """What a section `data` itself says of ``size``, ``classes`` and ``in_chans``."""
    given = data if isinstance(data, dict) else {}
    side, classes, channels = given.get("image_size"), given.get("classes"), given.get("channels")
    found: dict[str, Any] = {}
    if side is not None:
        found["size"] = pixels(side, clips=True)
    if isinstance(classes, (int, list, tuple)):
        found["classes"] = classes if isinstance(classes, int) else len(classes)
    return found | ({"in_chans": channels} if isinstance(channels, int) else {})


def read_tables(folder: Path) -> dict[str, Any]:
    """What a run has kept of its measured costs, by objective."""
    files = {name: table_path(folder, name) for name in OBJECTIVES}
    advice = "put back a whole one, or start a new run (reuse: takes over what still compares)"
    return {name: read_json(file, dict, advice) for name, file in files.items() if file.exists()}


def table_path(folder: Path, objective: str) -> Path:
    """Where a run keeps the measured costs of an objective."""
    return folder / f"{objective}_table.json"


def describe_data(evaluator: Evaluator) -> dict[str, Any]:
    """What an exported model has to know of its data, as JSON."""
    task = getattr(evaluator, "task", None)
    return task.describe() if offers(task, Task) else describe_input(evaluator.network)


def data_summary(evaluator: Evaluator) -> Summary | None:
    """What was read of the data, left out and assumed, where the task knows it."""
    summary = getattr(getattr(evaluator, "task", None), "summary", None)
    return summary if isinstance(summary, Summary) else None


def data_lines(evaluator: Evaluator) -> list[str]:
    """The summary of the data for people, a fact a line."""
    summary = data_summary(evaluator)
    return summary.lines() if summary else []


def describe_run(evaluator: Evaluator) -> dict[str, Any]:
    """What a reader of the run has to know without building its evaluator, as JSON."""
    metric = evaluator.metric
    return {
        "metric": asdict(metric),
        "identity": evaluator.identity,
    }
