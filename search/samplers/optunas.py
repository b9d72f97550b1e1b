"""Optuna's own samplers, kept inside the limits and away from what was tried before."""

from __future__ import annotations

from typing import Any

from optuna.samplers import GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler

from search.samplers.base import SAMPLERS
from search.samplers.candidates import Candidates
from search.samplers.guarded import GuardedSampler


def tpe(candidates: Candidates, seed: int | None, **options: Any) -> GuardedSampler:
    """Multivariate TPE."""
    inner = TPESampler(**{"multivariate": True, "group": True, "constant_liar": True, "seed": seed, **options})
    return GuardedSampler(inner, candidates, seed=seed)


def nsga2(candidates: Candidates, seed: int | None, **options: Any) -> GuardedSampler:
    """NSGA-II with a population of 20."""
    return GuardedSampler(NSGAIISampler(**{"population_size": 20, "seed": seed, **options}), candidates, seed=seed)


def nsga3(candidates: Candidates, seed: int | None, **options: Any) -> GuardedSampler:
    """NSGA-III with a population of 20."""
    return GuardedSampler(NSGAIIISampler(**{"population_size": 20, "seed": seed, **options}), candidates, seed=seed)


def gp(candidates: Candidates, seed: int | None, **options: Any) -> GuardedSampler:
    """A Gaussian process; a second ask gives the same, seconds later, so it is asked once."""
    inner = GPSampler(**{"seed": seed, "warn_independent_sampling": False, **options})
    return GuardedSampler(inner, candidates, seed=seed, attempts=1)


for create in (tpe, nsga2, nsga3, gp):
    SAMPLERS.register(create.__name__, create)
