"""The configuration of a run: YAML validated by pydantic, `--set` overrides, one clear line for every mistake."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    create_model,
    field_validator,
    model_validator,
)

from evaluators.base import EVALUATORS, EvaluatorConfig
from evaluators.brought import BroughtEvaluator
from evaluators.latency import LatencySection
from evaluators.memory import parse_memory
from evaluators.recipe import Recipe
from evaluators.sections import Section, distinct, first_problem, one_of
from evaluators.tasks.base import TASKS, BroughtTask, TaskConfig
from evaluators.tasks.classification import ClassificationConfig
from evaluators.trained import TrainingConfig
from search.files import is_file
from search.kept import kept_path, kept_values, without_former
from search.objectives import OBJECTIVES, parse_limits
from search.public import masked
from search.schedulers.base import SCHEDULERS, BroughtScheduler, NoStopping, SchedulerConfig
from search.shipped import config_names, find_config
from search.strict_yaml import load_yaml
from spaces import SearchSpace
from spaces.attention.genes import GENES
from spaces.errors import UsageError, shortened, unknown
from spaces.heads.base import DenseHead, Head, own_stages
from spaces.placement import check_site
from spaces.plugins import OBJECTS, importable, is_brought, load_plugins

Names = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(distinct)]


class _Types(Section):
    backbone: str = Field(description="a name of `list backbones`, or module:package.file:function")
    attentions: Names = Field(default=("none", "se", "eca", "cbam", "coordinate"), description="types, mixes A+B, none")


if TYPE_CHECKING:
    _TypesAndGenes = _Types
else:  # a list of values for each gene of the table, None being the published default of each type
    _TypesAndGenes = create_model(
        "_TypesAndGenes",
        __base__=_Types,
        **{
            gene.plural: (
                Annotated[
                    tuple[int if gene.letter else Literal[gene.usual], ...],
                    Field(min_length=1),
                    AfterValidator(distinct),
                ]
                | None,
                Field(default=None, description=f"values of {gene.name} that are tried; None: each type's own"),
            )  # a number or a word
            for gene in GENES
        },
    )


class SpaceConfig(_TypesAndGenes):
    """What can be built; see ``SearchSpace.build``."""

    sites: tuple[str, ...] = Field(
        default=("slot",), min_length=1, description="where attention may go: slot, block, stage, and decoder in a head"
    )
    stages: dict[int, Names] = Field(default_factory=dict, description="attentions of single stages, by number from 1")
    identity_start: bool = Field(default=True, description="attention begins as the exact identity")
    native: Literal["keep", "replace", "remove"] = Field(
        default="keep", description="what becomes of built-in attention"
    )
    stem: Literal["auto", "keep"] = Field(default="auto", description="keep: as it is, also at 64 pixels and less")

    @field_validator("sites")
    @classmethod
    def _readable(cls, sites: tuple[str, ...]) -> tuple[str, ...]:
        return distinct(tuple(map(check_site, sites)))

    @field_validator("stages", mode="wrap")
    @classmethod
    def _each_once(cls, given: Any, read: ValidatorFunctionWrapHandler) -> dict[int, tuple[str, ...]]:
        """Refuse a stage that is written in two ways, as 1 and '1': one of them would be lost."""
        stages: dict[int, tuple[str, ...]] = read(given)
        if len(stages) < len(given):
            raise UsageError(f"a stage is given twice: {', '.join(map(shortened, given))}; valid: each number once")
        return stages

    def build(self, head: Head | None = None) -> SearchSpace:
        """The space over the backbone and, where the task's head has stages of its own, over those."""
        beyond = own_stages(head, self.backbone) if isinstance(head, DenseHead) else ()
        return SearchSpace.build(
            self.backbone,
            self.attentions,
            **{gene.plural: getattr(self, gene.plural) for gene in GENES},
            sites=self.sites,
            stages=self.stages,
            beyond=beyond,
        )


MOST_TRIALS = 10**9


class SearchConfig(Section):
    """Which candidates, how many, under which budget."""

    sampler: str = Field(default="known_cost", description="which candidate is tried next")
    scheduler: SerializeAsAny[
        Annotated[SchedulerConfig, BeforeValidator(one_of(SCHEDULERS, "search.scheduler", "none", BroughtScheduler))]
    ] = Field(default_factory=NoStopping, description="which trainings end early")
    trials: int = Field(
        default=32,
        ge=1,
        le=MOST_TRIALS,
        description="how many; not given beside hours or minutes: as many as those allow",
    )
    hours: float | None = Field(
        default=None, gt=0, le=10**6, description="of searching, over all parts of a run, after which no trial begins"
    )
    minutes: float | None = Field(default=None, gt=0, le=10**8, description="the same; with hours, beside them")
    enqueue: tuple[str, ...] = Field(default=(), description="architectures that are evaluated first")
    costs: tuple[str, ...] = Field(default=("flops",), min_length=1, description="objectives besides the task's metric")
    budget: dict[str, int | float | str] = Field(default_factory=dict, description="upper limits on objectives")
    latency: LatencySection = Field(default_factory=LatencySection, description="how latency is measured")
    deterministic: bool = Field(
        default=False, description="results are used in the order of their proposals; workers may wait for each other"
    )
    keep_weights: Literal["front", "all", "none"] = Field(default="front", description="whose weights a run keeps")

    @model_validator(mode="before")
    @classmethod
    def _time_alone(cls, raw: Any) -> Any:
        timed = isinstance(raw, dict) and any(raw.get(name) is not None for name in ("hours", "minutes"))
        return {"trials": MOST_TRIALS, **raw} if timed else raw

    @property
    def seconds(self) -> float | None:
        """Of searching, after which no trial begins; None: any."""
        if self.hours is None and self.minutes is None:
            return None
        return 3600 * (self.hours or 0) + 60 * (self.minutes or 0)

    @field_validator("costs")
    @classmethod
    def _known(cls, costs: tuple[str, ...]) -> tuple[str, ...]:
        for cost in costs:
            if cost not in OBJECTIVES:
                raise unknown("objective", cost, OBJECTIVES)
        return distinct(costs)

    @field_validator("budget")
    @classmethod
    def _can_be_read(cls, limits: dict[str, int | float | str]) -> dict[str, int | float | str]:
        """Refuse what is no limit now, before anything is counted or measured; what it comes to is known later."""
        parse_limits(limits, dict.fromkeys(OBJECTIVES, 10**12))
        return limits


class ResourceConfig(Section):
    """What one trial occupies, and what becomes of those that go wrong."""

    cpus: float = Field(default=1, gt=0, le=10**5, description="cores of one trial")
    gpus: float | None = Field(
        default=None, ge=0, le=1000, description="share of a GPU per trial; None: chosen from the machine"
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        le=10**6,
        description="trials at once; None: as many as fit at the start; more on a cluster",
    )
    retries: int = Field(default=1, ge=0, le=1000, description="how often a trial whose worker died is tried again")
    time_limit: float | None = Field(
        default=None, gt=0, le=10**9, description="seconds an evaluation may take; None: any"
    )
    memory: int | str | None = Field(
        default=None,
        description="what one trial may take beyond its process, as in 2G; None: what is free when it starts",
    )

    @field_validator("memory")
    @classmethod
    def _readable(cls, memory: int | str | None) -> int | str | None:
        if memory is not None:
            parse_memory(memory)
        return memory


class RayConfig(Section):
    """Where the trials run, and where the run directory is copied to as it grows; see docs/cluster.md."""

    address: str | None = Field(
        default=None, description="an existing Ray cluster: auto or HOST:PORT; None: this machine"
    )
    storage: str | None = Field(
        default=None, description="a shared folder or an fsspec URL for copies of run directories"
    )


class Config(Section):
    """One run."""

    name: str = Field(
        default="search",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="what the run directory is called after; else after the file",
    )
    plugins: tuple[str, ...] = Field(
        default=(), description="modules that bring types, backbones, samplers ... of your own"
    )
    task: SerializeAsAny[
        Annotated[TaskConfig, BeforeValidator(one_of(TASKS, "task", "classification", BroughtTask))]
    ] = Field(default_factory=ClassificationConfig, description="what networks are trained for")
    data: str | dict[str, Any] | None = Field(
        default=None, description="a data set, or {name: ..., and its options}; see docs/data.md"
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="of all that is drawn: splits, weights, batches, proposals"
    )
    space: SpaceConfig = Field(description="what can be built")
    training: Recipe = Field(default_factory=Recipe, description="how a candidate is trained")
    evaluator: SerializeAsAny[
        Annotated[EvaluatorConfig, BeforeValidator(one_of(EVALUATORS, "evaluator", "training", BroughtEvaluator))]
    ] = Field(default_factory=TrainingConfig, description="what scores a candidate")
    search: SearchConfig = Field(default_factory=SearchConfig, description="which candidates, how many, what budget")
    resources: ResourceConfig = Field(default_factory=ResourceConfig, description="what one trial occupies")
    ray: RayConfig = Field(default_factory=RayConfig, description="where the trials run")
    loggers: Annotated[tuple[Literal["tensorboard", "mlflow", "wandb"], ...], AfterValidator(distinct)] = Field(
        default=(), description="experiment trackers that the trials report to"
    )
    reuse: tuple[str, ...] = Field(default=(), description="run directories whose evaluations this search starts with")

    @property
    def seeds(self) -> range:
        """The seeds that an evaluation is the mean over."""
        return range(self.seed, self.seed + self.evaluator.seeds)

    @property
    def fidelity(self) -> int:
        """That of the search's evaluations, in epochs: of a candidate's training, or of the supernet's."""
        return self.evaluator.fidelity(self.training.epochs)

    @property
    def brought(self) -> list[str]:
        """The user's own modules that this configuration names."""
        names = [
            self.space.backbone,
            self.task.name,
            self.evaluator.name,
            self.search.sampler,
            self.search.scheduler.name,
        ]
        return [*self.plugins, *(name.split(":")[1] for name in names if is_brought(name))]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.data is None and self.evaluator.needs_data:
            raise UsageError("the key 'data' is missing")
        self.task.check_recipe(self.training)
        if self.search.scheduler.stops and not (self.evaluator.reports_epochs and self.evaluator.seeds == 1):
            raise UsageError(
                f"search.scheduler {self.search.scheduler.name!r} stops trainings of one seed early; "
                f"with evaluator.name {self.evaluator.name!r} and evaluator.seeds {self.evaluator.seeds} set it to 'none'"
            )
        if self.search.deterministic and self.search.scheduler.stops:
            raise UsageError(
                f"search.deterministic with search.scheduler {self.search.scheduler.name!r}, which decides by who comes first; "
                "set it to 'none'"
            )
        if self.space.native != "keep" and self.evaluator.keeps_native:
            raise UsageError(f"space.native {self.space.native!r}: a supernet keeps the backbone's own; valid: keep")
        return self


def load_config(path: str | Path, overrides: Sequence[str] = (), *, former: bool = False) -> Config:
    """Read and validate a YAML file, with ``a.b=value`` overrides; raises UsageError in one line.

    ``former``: it may be that of a run of an earlier version.
    """
    path = find_config(Path(path))
    if not is_file(path):
        raise UsageError(
            f"no configuration file {shortened(str(path), 200)}; those of Attune: {', '.join(config_names())}"
        )
    raw = load_yaml(path.read_bytes(), str(path))
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise UsageError(f"{path} must hold a mapping of keys to values, not {shortened(raw)}")
    raw.setdefault("name", path.stem)
    if former:
        without_former(raw)
    for override in overrides:
        _apply(raw, override)
    return validate(raw, str(path))


def validate(raw: dict[str, Any], source: str) -> Config:
    """The Config of a mapping; raises UsageError that names the first wrong key and the valid choices."""
    plugins = raw.get("plugins") or ()
    load_plugins(plugins if isinstance(plugins, list | tuple) else ())  # first: other keys may name what they bring
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{source}: {first_problem(error, Config)}") from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML: every default spelled out, and an end by which a file that was cut is known."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, explicit_end=True)


def masked_config(config: Config) -> str:
    """``dump_config`` with secrets hidden, for others to read."""
    return yaml.safe_dump(masked(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def check_folder(option: str, folder: Path) -> None:
    """Raise UsageError for a folder that cannot be made: the system has no such name, or it or what is above it is a file."""
    shown = shortened(str(folder), 200)
    try:
        folder.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{option} {shown}: {reason}; give another folder") from None
    for part in (folder, *folder.parents):
        if is_file(part):
            raise UsageError(f"{option} {shown}: {shortened(str(part), 200)} is a file; give a folder")


def load_run_config(folder: str | Path) -> Config:
    """The configuration of a run directory; raises UsageError where there is none."""
    path = kept_path(folder)
    kept_values(path)  # refuses the half of a file
    importable(path.parent / OBJECTS)  # what was given to the run as objects lies in it
    return load_config(path, former=True)


_STEERS = ("search.trials", "search.hours", "search.minutes", "search.enqueue", "loggers")
MAY_CHANGE = (*_STEERS, "resources.", "ray.")


def changed(config: Config, overrides: Sequence[str]) -> Config:
    """A run's configuration with overrides that leave its meaning alone; raises UsageError for any other key."""
    raw = config.model_dump(mode="json")
    for override in overrides:
        key = override.partition("=")[0]
        if not any(key == one or (one.endswith(".") and key.startswith(one)) for one in MAY_CHANGE):
            sections: dict[str, type[Section]] = {"resources": ResourceConfig, "ray": RayConfig}
            inside = [f"{name}.{field}" for name, section in sections.items() for field in section.model_fields]
            valid = ", ".join([*_STEERS, *inside])
            raise UsageError(
                f"--set {shortened(override)}: a run that goes on keeps its meaning; valid keys: {valid}; "
                "for anything else start a new run (reuse: takes over what still compares)"
            )
        _apply(raw, override)
    return validate(raw, "--set")


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one ``a.b=value`` in place; the value is YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {shortened(override)} is not of the form key=value, as in --set search.trials=8")
    set_key(raw, key, load_yaml(text, f"--set {shortened(override)}: the value"), f"--set {shortened(override)}")


def set_key(raw: dict[str, Any], key: str, value: Any, asked: str) -> None:
    """Set one ``a.b`` in place; ``asked`` is what an error quotes."""
    *parents, last = key.split(".")
    if not all((*parents, last)):
        raise UsageError(f"{asked}: a part of the key is empty")
    node = raw
    for parent in parents:
        node = node.setdefault(_key(node, parent), {})
        if not isinstance(node, dict):
            raise UsageError(f"{asked}: {shortened(parent)} is a value, not a section")
    node[_key(node, last)] = value


def _key(node: dict[Any, Any], text: str) -> Any:
    """The key of a mapping that is written so: a stage's is a number."""
    return next((key for key in node if str(key) == text), text)
