"""Which candidate next: one algorithm a file, each registered by its name."""

from search.samplers.base import SAMPLERS, create_sampler, list_samplers
from search.samplers.candidates import Candidates, MappingSpace, Space
from search.samplers.evolution import EvolutionSampler
from search.samplers.guarded import GuardedSampler, SpaceSampler
from search.samplers.known_cost import KnownCostSampler
from search.samplers.uniform import UniformSampler

__all__ = [
    "SAMPLERS",
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
