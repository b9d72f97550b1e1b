"""Evaluators that users bring: a function that trains a network in its own way, or a class with the Evaluator's interface.

A function ``f(model, *, epochs, seed, device, report) -> {"accuracy": ...}`` gets the network of one architecture on ``device``
and trains it in place. After each epoch it may call ``report(epoch, metrics)``, epochs counted from 1; the search may then end
it. What it declares of itself as attributes, or in its section of the configuration, is its ``identity`` (a text that changes
with its data and its way of training), its ``metric`` and its ``network``.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from evaluators.base import Evaluator, EvaluatorConfig, Setting
from evaluators.outcomes import EvaluationError, Metrics, Report
from evaluators.sections import Brought, Section, keywords, taken
from evaluators.tasks.base import Metric
from evaluators.training.checkpoint import save_weights
from evaluators.training.device import OnDevice, pick_device, seeded
from spaces.errors import UsageError, shortened
from spaces.network import NetworkSpec
from spaces.placement import Architecture
from spaces.plugins import bring, call

log = logging.getLogger(__name__)

Trainer = Callable[..., Mapping[str, Any]]
KEYWORDS = ("epochs", "seed", "device", "report")


@dataclass(frozen=True, eq=False)
class FunctionEvaluator(OnDevice):
    """Has a user's own function train every candidate. fidelity: the epochs that it is told.

    ``function`` takes the network and those of the keywords epochs, seed, device and report that it names.
    """

    function: Trainer
    network: NetworkSpec
    metric: Metric
    identity: str
    device: torch.device = field(default_factory=pick_device)

    def evaluate(
        self,
        arch: Architecture,
        *,
        fidelity: int,
        seed: int,
        report: Report | None = None,
        keep: Path | None = None,
        checkpoint: Path | None = None,
    ) -> Metrics:
        """What the function returns for the network of ``arch``, and ``seconds``.

        ``keep`` gets the weights that the network has afterwards. There is no ``checkpoint``: the function trains anew.
        Raises EvaluationError where the function returns no value of its metric.
        """
        started = time.perf_counter()
        told = {"epochs": fidelity, "seed": seed, "device": self.device, "report": report or _goes_on}
        wanted = taken(self.function, KEYWORDS)
        with seeded(seed, self.device):
            model = self.network.build(arch).to(self.device)
            found = self.function(model, **{key: value for key, value in told.items() if key in wanted})
        if not isinstance(found, Mapping) or self.metric.name not in found:
            gave = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise EvaluationError(f"the evaluator returned no {self.metric.name!r} but {gave or 'nothing'}")
        if keep is not None:
            save_weights(model.state_dict(), keep)
        metrics = {str(key): value for key, value in found.items()}
        return {"seconds": time.perf_counter() - started, **metrics, self.metric.name: float(found[self.metric.name])}


class MetricSection(Section):
    """The metric of a user's own evaluator."""

    name: str = Field(description="its name in what the evaluator returns, and in every table")
    unit: str = Field(default="share", description="share: in [0, 1]; else any word")
    higher_is_better: bool = Field(default=True, description="whether more of it is better")


class NetworkSection(Section):
    """The network around an architecture, for an evaluator that brings its own data."""

    image_size: int | tuple[int, int] = Field(description="pixels of a side, or [H, W]; costs are counted for it")
    classes: int = Field(ge=1, description="what the classifier puts out")
    channels: int = Field(default=3, ge=1, description="of the input")


class BroughtEvaluator(Brought, EvaluatorConfig):
    """A user's own evaluator, ``module:package.file:name``: a training function, or a class with the Evaluator's interface."""

    identity: str | None = Field(
        default=None, description="a text that changes with its data and training; else what it declares"
    )
    metric: str | MetricSection | None = Field(default=None, description="else what it declares, or accuracy")
    network: NetworkSection | None = Field(default=None, description="else what it declares, or that of `data`")

    @property
    def needs_data(self) -> bool:
        return False

    @property
    def reports_epochs(self) -> bool:
        return True

    def build(self, setting: Setting) -> Evaluator:
        found = bring(self.name, "evaluator")
        if isinstance(found, type):
            found = self._instance(found, setting)
        elif self.options and callable(found):
            self.check_options(found, (next(iter(keywords(found)), ""), *KEYWORDS))
        network = replace(self._network(found, setting), native=setting.native, identity_start=setting.identity_start)
        if setting.stem == "keep":
            network = replace(network, stem="keep")
        metric = self._metric(found)
        if hasattr(found, "evaluate"):
            return self._completed(found, network, metric)
        if not callable(found):
            raise UsageError(f"evaluator {self.name!r} is a {type(found).__name__}, neither a function nor a class")
        try:
            inspect.signature(found).bind(None, **dict.fromkeys(taken(found, KEYWORDS)), **self.options)
        except TypeError as error:
            valid = f"valid: a network, and of {', '.join(KEYWORDS)} what it names"
            raise UsageError(f"evaluator {self.name!r} cannot be called: {error}; {valid}") from None
        except ValueError:  # C code, which tells nobody what it takes
            pass
        start = "identity" if network.identity_start else "fresh"
        stem = " stem keep" if network.stem == "keep" else ""
        declared = self.identity or getattr(found, "identity", None) or self._of_source(found)
        identity = (
            f"{self.name} {declared} {sorted(self.options.items())} {network.shape} {start} {network.native}{stem}"
        )
        return FunctionEvaluator(_Partial(found, self.options) if self.options else found, network, metric, identity)

    def build_trainer(self, setting: Setting) -> Evaluator:
        """The same: it is the user's own way of training."""
        return self.build(setting)

    def _instance(self, found: type, setting: Setting) -> Any:
        """An object of a user's class, which gets the parts of the setting that its constructor names."""
        parts: dict[str, Callable[[], Any]] = {
            "task": setting.task,
            "space": lambda: setting.space,
            "recipe": lambda: setting.recipe,
            "identity_start": lambda: setting.identity_start,
            "native": lambda: setting.native,
        }
        self.check_options(found, tuple(parts))
        wanted = taken(found, tuple(parts))
        return call(self.name, "evaluator", found, **{name: parts[name]() for name in wanted}, **self.options)

    def _network(self, found: Any, setting: Setting) -> NetworkSpec:
        if self.network is not None:
            return NetworkSpec.classifier(self.network.image_size, self.network.classes, self.network.channels)
        declared = getattr(found, "network", None)
        if declared is None:
            return setting.task().network
        if not isinstance(declared, NetworkSpec):
            raise UsageError(f"evaluator {self.name!r}: its network is a {type(declared).__name__}, not a NetworkSpec")
        return declared

    def _metric(self, found: Any) -> Metric:
        declared = self.metric if self.metric is not None else getattr(found, "metric", None)
        if declared is None:
            return Metric()
        if isinstance(declared, MetricSection):
            return Metric(**declared.model_dump())
        if isinstance(declared, str):
            return Metric(declared)
        if not isinstance(declared, Metric):
            raise UsageError(
                f"evaluator {self.name!r}: its metric is a {type(declared).__name__}; valid: a name, or a Metric"
            )
        return declared

    def _completed(self, found: Any, network: NetworkSpec, metric: Metric) -> Evaluator:
        """A user's object, told what it does not say of itself and what the configuration says instead.

        One that computes its network may start attention in its own way, but has to treat built-in attention as asked.
        """
        for part, value in (("network", network), ("metric", metric), ("identity", self.identity)):
            own = getattr(found, part, None)
            if value is None or own == value:
                continue
            try:
                setattr(found, part, value)
            except AttributeError as error:
                if part != "network" or own is None or replace(own, identity_start=network.identity_start) != network:
                    raise UsageError(f"evaluator {self.name!r}: its {part} cannot be set to {value}: {error}") from None
        if not hasattr(found, "identity"):
            raise UsageError(
                f"evaluator {self.name!r} declares no identity: give it an attribute `identity`, or set "
                "evaluator.identity, a text that changes with its data and its way of training"
            )
        whole: Evaluator = found
        return whole

    def _of_source(self, function: Any) -> str:
        """An identity for a function that declares none: its file as it is now."""
        function = inspect.unwrap(function)
        home = function if inspect.isfunction(function) else sys.modules[self.name.split(":")[1]]
        try:
            file = Path(inspect.getsourcefile(home) or "")
            digest = hashlib.blake2b(file.read_bytes(), digest_size=6).hexdigest()
        except (TypeError, OSError):
            raise UsageError(
                f"evaluator {shortened(self.name)} declares no identity and has no source that could stand for it; set "
                "evaluator.identity, a text that changes with its data and its way of training"
            ) from None
        log.warning(
            "evaluator %s declares no identity; its source %s (%s) stands for it: results are taken to be comparable until "
            "that file changes",
            *(self.name, file.name, digest),
        )
        return digest


@dataclass(frozen=True)
class _Partial:
    """A function with its options, which pickles where the function does."""

    function: Trainer
    options: dict[str, Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        return self.function(*args, **kwargs, **self.options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.function)


def _goes_on(epoch: int, metrics: Metrics) -> bool:
    return True
