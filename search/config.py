"""The configuration of a run: YAML validated by pydantic, `--set` overrides, one clear line for every mistake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator, model_validator

from evaluators.memory import parse_memory
from evaluators.proxies import PROXIES
from evaluators.training import Recipe
from spaces import SearchSpace
from spaces.attention.genes import GENES
from spaces.budget import parse_limits
from spaces.errors import UsageError, unknown

Metric = Literal["params", "macs", "flops", "activations", "latency"]


class Section(BaseModel):
    """Unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Types(Section):
    backbone: str
    attentions: tuple[str, ...] = ("none", "se", "eca", "cbam", "coordinate")


if TYPE_CHECKING:
    _TypesAndGenes = _Types
else:  # a list of values for each gene of the table, None being the published default of each type
    _TypesAndGenes = create_model(
        "_TypesAndGenes",
        __base__=_Types,
        **{
            gene.plural: (tuple[int if gene.letter else Literal[gene.usual], ...] | None, None)  # a number or a word
            for gene in GENES
        },
    )


class SpaceConfig(_TypesAndGenes):
    """What can be built; see ``SearchSpace.build``."""

    sites: tuple[Literal["slot", "block", "stage"], ...] = ("slot",)
    stages: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    identity_start: bool = True
    native: Literal["keep", "replace", "remove"] = "keep"

    def build(self) -> SearchSpace:
        return SearchSpace.build(
            self.backbone,
            self.attentions,
            **{gene.plural: getattr(self, gene.plural) for gene in GENES},
            sites=self.sites,
            stages=self.stages,
        )


class SchedulerConfig(Section):
    """Which trainings end early; a name alone stands for its defaults. See ``search.schedulers.Rungs``."""

    name: Literal["none", "domination_asha"] = "none"
    first: int = Field(default=1, ge=1, description="epochs of the first rung")
    reduction: float = Field(default=3, gt=1, description="each rung lies so many times higher than the one before")
    brackets: int = Field(default=1, ge=1, description="Hyperband's: bracket b leaves out the first b rungs")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values


class LatencyConfig(Section):
    """How latency is measured where it is a cost or a limit; see ``evaluators.latency``."""

    batch: int = Field(default=1, ge=1, description="images at once")
    device: str | None = Field(default=None, description="cpu, cuda, cuda:1 ...; None: the first GPU, else the CPU")
    threads: int = Field(default=1, ge=1, description="of the CPU")
    compile: bool = Field(
        default=False, description="under torch.compile; every attention module is then compiled alone"
    )
    repeats: int = Field(default=20, ge=2, description="of which the median counts")


class EvaluatorConfig(Section):
    """What scores a candidate, and over how many seeds; a name alone stands for its defaults. See docs/evaluators.md."""

    name: Literal["training", "supernet", "proxy", "table"] = "training"
    seeds: int = Field(default=1, ge=1, description="an evaluation is the mean over so many seeds, from `seed` on")
    start: Literal["scratch", "supernet"] = Field(
        default="scratch", description="training: weights to begin with; supernet: those that one has learned"
    )
    supernet_epochs: int | None = Field(
        default=None,
        ge=1,
        description="supernet, or a start from one: its epochs; None: half as many again as a candidate's",
    )
    paths: int | None = Field(
        default=None, ge=1, description="supernet: paths whose mean gradient makes a step; None: each choice once"
    )
    sandwich: bool = Field(
        default=False, description="supernet: the smallest and the largest path in each step as well"
    )
    calibration: int = Field(default=256, ge=1, description="supernet: images for the statistics of a candidate")
    validation: int | None = Field(
        default=1000,
        ge=1,
        description="supernet: images that a candidate is judged on; None: the whole validation split",
    )
    proxy: str = Field(default="params", description="proxy: which one")
    file: str | None = Field(default=None, description="table: parquet, CSV or JSON lines of past evaluations")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, values: Any) -> Any:
        return {"name": values} if isinstance(values, str) else values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        valid = ["name", "seeds", *EVALUATOR_OPTIONS[self.name]]
        valid += ["supernet_epochs", "paths", "sandwich"] if self.start == "supernet" else []
        for key, field in type(self).model_fields.items():
            if getattr(self, key) != field.default and key not in valid:
                raise unknown(f"option of the evaluator {self.name!r}", key, valid)
        if self.name == "proxy" and self.proxy not in PROXIES:
            raise unknown("proxy", self.proxy, PROXIES)
        if self.name == "table" and self.file is None:
            raise UsageError(
                "the evaluator 'table' needs the key 'file': parquet, CSV or JSON lines of past evaluations"
            )
        return self


# Which keys mean something to which evaluator.
EVALUATOR_OPTIONS: dict[str, list[str]] = {
    "training": ["start"],
    "supernet": ["supernet_epochs", "paths", "sandwich", "calibration", "validation"],
    "proxy": ["proxy"],
    "table": ["file"],
}


class SearchConfig(Section):
    """Which candidates, how many, under which budget."""

    sampler: str = "known_cost"
    scheduler: SchedulerConfig = Field(default_factory=SchedulerConfig)
    trials: int = Field(default=32, ge=1)
    costs: tuple[Metric, ...] = Field(default=("flops",), min_length=1)
    budget: dict[Metric, int | float | str] = Field(default_factory=dict)
    latency: LatencyConfig = Field(default_factory=LatencyConfig)
    keep_weights: Literal["front", "all", "none"] = "front"

    @field_validator("budget")
    @classmethod
    def _can_be_read(cls, limits: dict[Metric, int | float | str]) -> dict[Metric, int | float | str]:
        """Refuse what is no limit now, before anything is counted or measured; what it comes to is known later."""
        parse_limits({str(metric): limit for metric, limit in limits.items()}, dict.fromkeys(get_args(Metric), 1))
        return limits

    @property
    def needs_latency(self) -> bool:
        return "latency" in (*self.costs, *self.budget)


class ResourceConfig(Section):
    """What one trial occupies, and what becomes of those that go wrong."""

    cpus: float = Field(default=1, gt=0)
    gpus: float | None = Field(
        default=None, ge=0, description="share of a GPU per trial; None: chosen from the machine"
    )
    concurrency: int | None = Field(
        default=None, ge=1, description="trials at once; None: as many as fit at the start. On a cluster it may be more"
    )
    retries: int = Field(default=1, ge=0, description="how often a trial whose worker died is tried again")
    time_limit: float | None = Field(default=None, gt=0, description="seconds an evaluation may take; None: any")
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

    name: str = Field(default="search", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: str | dict[str, Any] = Field(description="a data set, or {name: ..., and its options}; see docs/data.md")
    seed: int = Field(default=0, ge=0)
    space: SpaceConfig
    training: Recipe = Field(default_factory=Recipe)
    evaluator: EvaluatorConfig = Field(default_factory=EvaluatorConfig)
    search: SearchConfig = Field(default_factory=SearchConfig)
    resources: ResourceConfig = Field(default_factory=ResourceConfig)
    ray: RayConfig = Field(default_factory=RayConfig)
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    reuse: tuple[str, ...] = Field(default=(), description="run directories whose evaluations this search starts with")

    @property
    def seeds(self) -> range:
        """The seeds that an evaluation is the mean over."""
        return range(self.seed, self.seed + self.evaluator.seeds)

    @property
    def fidelity(self) -> int:
        """That of the search's evaluations, in epochs: of a candidate's training, or of the supernet's."""
        return self.supernet_epochs if self.evaluator.name == "supernet" else self.training.epochs

    @property
    def supernet_epochs(self) -> int:
        """Of the supernet's one training: more than a candidate's, as shared weights follow a mean, which changes slowly."""
        return self.evaluator.supernet_epochs or math.ceil(1.5 * self.training.epochs)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.search.scheduler.name != "none" and (self.evaluator.name != "training" or self.evaluator.seeds > 1):
            raise UsageError(
                f"search.scheduler {self.search.scheduler.name!r} stops trainings of one seed early; "
                f"with evaluator.name {self.evaluator.name!r} and evaluator.seeds {self.evaluator.seeds} set it to 'none'"
            )
        if self.space.native != "keep" and "supernet" in (self.evaluator.name, self.evaluator.start):
            raise UsageError(f"space.native {self.space.native!r}: a supernet keeps the backbone's own; valid: keep")
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a YAML file, with ``a.b=value`` overrides; raises UsageError in one line."""
    path = Path(path)
    if not path.is_file():
        here = sorted(str(found) for found in Path("configs").glob("*.yaml"))
        raise UsageError(f"no configuration file {str(path)!r}; configs here: {', '.join(here) or 'none'}")
    try:
        raw = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{path} must hold a mapping of keys to values, not {type(raw).__name__}")
    raw.setdefault("name", path.stem)
    for override in overrides:
        _apply(raw, override)
    return validate(raw, str(path))


def validate(raw: dict[str, Any], source: str) -> Config:
    """The Config of a mapping; raises UsageError that names the first wrong key and the valid choices."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{source}: {_first_problem(error)}") from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML: every default spelled out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_run_config(folder: str | Path) -> Config:
    """The configuration of a run directory; raises UsageError where there is none."""
    path = Path(folder) / "config.yaml"
    if not path.exists():
        runs = sorted(str(found.parent) for found in Path("runs").glob("*/config.yaml"))
        raise UsageError(f"{str(folder)!r} is not a run directory; runs here: {', '.join(runs) or 'none'}")
    return load_config(path)


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one ``a.b=value`` in place; the value is YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {override!r} is not of the form key=value, as in --set search.trials=8")
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UsageError(f"--set {override!r}: {parent!r} is a value, not a section")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--set {override!r}: the value is not YAML") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = list(problem["loc"])
    key = ".".join(map(str, where))
    if problem["type"] == "extra_forbidden":
        return f"{unknown('key', key, _valid_keys(where[:-1]))}"
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    return f"{key} = {problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def _valid_keys(section: Sequence[Any]) -> list[str]:
    """The keys of a section of Config, by its path."""
    model: Any = Config
    for part in section:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)
