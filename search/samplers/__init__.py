"""The samplers by name: which candidate next. All stay inside the limits, and none proposes a candidate twice."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler

from search.samplers.candidates import Candidates, CostFunction, FeasibleFunction, MappingSpace, Space
from search.samplers.evolution import EvolutionSampler
from search.samplers.guarded import GuardedSampler, SpaceSampler, UniformSampler
from search.samplers.known_cost import KnownCostSampler
from spaces.errors import UsageError, unknown

__all__ = [
    "Candidates",
    "EvolutionSampler",
    "GuardedSampler",
    "KnownCostSampler",
    "MappingSpace",
    "Space",
    "SpaceSampler",
    "UniformSampler",
    "create_sampler",
    "list_samplers",
]


def _known_cost(candidates: Candidates, seed: int | None, **options: Any) -> BaseSampler:
    return KnownCostSampler.over(candidates, seed=seed, **options)


def _random(candidates: Candidates, seed: int | None, **options: Any) -> BaseSampler:
    return UniformSampler(candidates, seed=seed, **options)


def _evolution(candidates: Candidates, seed: int | None, **options: Any) -> BaseSampler:
    return EvolutionSampler(candidates, seed=seed, **options)


def _tpe(candidates: Candidates, seed: int | None, **options: Any) -> BaseSampler:
    inner = TPESampler(**{"multivariate": True, "group": True, "constant_liar": True, "seed": seed, **options})
    return GuardedSampler(inner, candidates, seed=seed)


def _nsga2(candidates: Candidates, seed: int | None, **options: Any) -> BaseSampler:
    return GuardedSampler(NSGAIISampler(**{"population_size": 20, "seed": seed, **options}), candidates, seed=seed)


def _nsga3(candidates: Candidates, seed: int | None, **options: Any) -> BaseSampler:
    return GuardedSampler(NSGAIIISampler(**{"population_size": 20, "seed": seed, **options}), candidates, seed=seed)


def _gp(candidates: Candidates, seed: int | None, **options: Any) -> BaseSampler:
    inner = GPSampler(**{"seed": seed, "warn_independent_sampling": False, **options})
    return GuardedSampler(inner, candidates, seed=seed, attempts=1)  # a second ask gives the same, seconds later


SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "known_cost": _known_cost,
    "random": _random,
    "tpe": _tpe,
    "nsga2": _nsga2,
    "nsga3": _nsga3,
    "gp": _gp,
    "evolution": _evolution,
}


def list_samplers() -> list[str]:
    return list(SAMPLERS)


def create_sampler(
    name: str,
    space: Space | Mapping[str, BaseDistribution],
    costs: CostFunction | None = None,
    *,
    seed: int | None = None,
    limits: Sequence[float | None] | None = None,
    feasible: FeasibleFunction | None = None,
    **options: Any,
) -> BaseSampler:
    """An Optuna sampler by name over a space.

    ``costs`` maps n parameter dicts to an (n, M) array; ``limits`` are upper bounds on its columns (None: no bound);
    ``feasible`` maps n parameter dicts to n truth values, for budgets on what is no objective. ``options`` go to the
    sampler's own constructor. Raises UsageError for an unknown name or option, and where the limits leave nothing.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    if name == "known_cost" and costs is None:
        raise UsageError("sampler 'known_cost' needs the costs that it is to know")
    candidates = Candidates(space, costs, limits=limits, feasible=feasible)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return SAMPLERS[name](candidates, seed, **options)
        except TypeError as error:
            raise UsageError(f"sampler {name!r} does not take these options: {error}") from error
