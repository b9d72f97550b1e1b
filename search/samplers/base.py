"""Samplers by name: which candidate next. All stay inside the limits, and none proposes a candidate twice."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from search.samplers.candidates import Candidates, CostFunction, FeasibleFunction, Space
from spaces.errors import UsageError, shortened
from spaces.plugins import Registry, bring, call, is_brought

# create(candidates, seed=..., **options) gives an Optuna sampler that proposes allowed candidates.
SAMPLERS: Registry[Callable[..., BaseSampler]] = Registry("sampler", "search.samplers")


def list_samplers() -> list[str]:
    """The names of all samplers."""
    return sorted(SAMPLERS)


def create_sampler(
    name: str,
    space: Candidates | Space | Mapping[str, BaseDistribution],
    costs: CostFunction | None = None,
    *,
    seed: int | None = None,
    limits: Sequence[float | None] | None = None,
    feasible: FeasibleFunction | None = None,
    **options: Any,
) -> BaseSampler:
    """An Optuna sampler by name over a space, or over candidates; ``module:package.file:name`` is a user's own.

    ``costs`` maps n parameter dicts to an (n, M) array; ``limits`` are upper bounds on its columns (None: no bound);
    ``feasible`` maps n parameter dicts to n truth values, for budgets on what is no objective. ``options`` go to the
    sampler's own constructor. Raises UsageError for an unknown name or option, and where the limits leave nothing.
    """
    create: Callable[..., Any] = bring(name, "sampler") if is_brought(name) else SAMPLERS[name]
    candidates = space if isinstance(space, Candidates) else Candidates(space, costs, limits=limits, feasible=feasible)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = call(name, "sampler", create, candidates, seed=seed, **options)
    if not isinstance(sampler, BaseSampler):
        raise UsageError(f"sampler {shortened(name)} gave a {type(sampler).__name__}, not a sampler of Optuna")
    return sampler
