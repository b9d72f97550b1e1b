"""Problem: costs and limits of a space in one arithmetic, latency among them."""

import numpy as np
import pytest

from evaluators.latency import LatencySection, LatencyTable
from search.problem import Problem
from search.tables import Costing
from spaces import NetworkSpec, SearchSpace
from spaces.errors import UsageError


def test_latency_is_a_limit_and_an_objective_like_any_other_cost():
    """Counting, sampling, mutation, crossover and neighbours against the enumerated space, under three kinds of limits."""
    space = SearchSpace.build("attune_tiny", ["none", "se", "cbam", "coordinate"], reductions=[4, 16])
    network = NetworkSpec.classifier(16, 10)
    costing = Costing(space, network, latency=LatencySection(repeats=3))
    budget = {"flops": "1.2x", "params": "2G", "latency": "1.4x"}
    problem = Problem.build(space, network, budget=budget, costs=("latency", "flops"), costing=costing)
    _, latency = problem.tables
    assert isinstance(latency, LatencyTable)
    assert set(problem.kept) == {"latency"}
    everything = space.all_indices()
    costs_NM = problem.count(everything)
    assert problem.metrics[-1] == "latency"
    assert costs_NM[:, -1].tolist() == [latency.total(space.architecture(row)).item() for row in everything]
    assert problem.objectives(everything[:5]).tolist() == costs_NM[:5, [-1, 2]].tolist()
    assert problem.cost(space.architecture(everything[7])) == dict(zip(problem.metrics, costs_NM[7], strict=True))
    inside = (costs_NM[:, 2] <= problem.limits["flops"]) & (costs_NM[:, -1] <= int(1.4 * latency.base[0]))
    assert problem.feasible.count == inside.sum()
    assert (problem.feasible.contains(everything) == inside).all()
    rng = np.random.default_rng(0)
    drawn = problem.feasible.sample(rng, 64)
    moved = [problem.feasible.mutate(rng, row) for row in drawn]
    crossed = [problem.feasible.crossover(rng, *pair) for pair in zip(drawn[::2], drawn[1::2], strict=True)]
    near = problem.feasible.neighbours(drawn[0])
    assert problem.feasible.contains(np.vstack([drawn, moved, crossed, near])).all()
    again = Problem.build(space, network, costs=("latency",), costing=costing, known=problem.kept)
    assert again.count(everything).tolist() == costs_NM.tolist()  # nothing is measured anew
    with pytest.raises(UsageError, match=r"latency <= 0\.001ms, but the plain backbone alone needs [0-9.]+ms"):
        Problem.build(space, network, budget={"latency": "1us"}, costing=costing, known=problem.kept)
