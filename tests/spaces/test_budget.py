"""Budgets: counts, samples and extremes against enumerating the whole space."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.budget import MOST_SECONDS, Feasible
from spaces.errors import UsageError


@st.composite
def spaces(draw):
    metrics = draw(st.integers(0, 4))
    stages = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    costs = [rng.integers(-2, 6, size=(choices, metrics)) for choices in stages]
    base = rng.integers(0, 5, size=metrics)
    everything = np.array(list(itertools.product(*map(range, stages))))
    totals = base + sum(cost[everything[:, s]] for s, cost in enumerate(costs))
    limits = np.array([rng.choice(totals[:, m]) for m in range(metrics)], dtype=int)
    return costs, base, limits, everything, totals


@given(spaces())
@settings(max_examples=100, deadline=None)
def test_counts_samples_and_extremes_are_those_of_enumeration(space):
    costs, base, limits, everything, totals = space
    inside = (totals <= limits).all(axis=1)
    feasible = Feasible(costs, base, limits)
    assert (feasible.contains(everything) == inside).all()
    if not inside.any():
        with pytest.raises(UsageError, match="nothing fits the budget"):
            _ = feasible.count
        return
    rng = np.random.default_rng(0)
    assert feasible.count == inside.sum()
    assert feasible.contains(feasible.sample(rng, 50)).all()
    for metric in range(len(limits)):
        low, high = feasible.cheapest(metric), feasible.dearest(metric)
        assert feasible.contains(np.stack([low, high])).all()
        assert feasible.cost(low)[0, metric] == totals[inside, metric].min()
        assert feasible.cost(high)[0, metric] == totals[inside, metric].max()
    first, second = feasible.sample(rng, 2)
    child, mutant = feasible.crossover(rng, first, second), feasible.mutate(rng, first)
    assert feasible.contains(np.stack([child, mutant])).all()
    assert ((child == first) | (child == second)).all()
    near = {tuple(row) for row in feasible.neighbours(first)}
    assert near == {tuple(row) for row in everything[inside] if (row != first).sum() == 1}
    assert not near or tuple(mutant) in near


@pytest.mark.parametrize("metrics", [1, 2, 3])
def test_sampling_is_uniform(metrics):
    rng = np.random.default_rng(metrics)
    costs = [rng.integers(0, 5, size=(choices, metrics)) for choices in (3, 4, 3)]
    feasible = Feasible(costs, np.zeros(metrics, int), np.full(metrics, 7))
    drawn = feasible.sample(rng, 200 * feasible.count)
    _, seen = np.unique(drawn, axis=0, return_counts=True)
    assert len(seen) == feasible.count
    chi_square = ((seen - 200) ** 2 / 200).sum()
    assert chi_square < feasible.count - 1 + 5 * np.sqrt(2 * feasible.count)


@pytest.mark.parametrize("metrics", [2, 3, 5])
def test_several_limits_over_five_stages_are_counted_and_drawn_in_a_moment(metrics):
    """Five stages of 40 choices, 10^8 architectures: against the choices of one stage enumerated by hand."""
    rng = np.random.default_rng(metrics)
    costs = [rng.integers(0, 10**6, size=(40, metrics)) for _ in range(5)]
    base, limits = np.zeros(metrics, int), np.full(metrics, 2_600_000)
    started = time.process_time()
    feasible = Feasible(costs, base, limits)
    assert feasible.contains(feasible.sample(rng, 500)).all()
    assert time.process_time() - started < 4
    parts = (Feasible(costs[1:], base + one, limits) for one in costs[0])
    assert feasible.count == sum(part.count for part in parts)


@pytest.mark.parametrize(("stages", "choices", "metrics"), [(8, 500, 1), (5, 500, 3), (5, 400, 4), (9, 60, 2)])
def test_a_budget_that_would_take_long_is_refused_at_once(stages, choices, metrics):
    rng = np.random.default_rng(0)
    costs = [rng.integers(0, 10**9, size=(choices, metrics)) for _ in range(stages)]
    started = time.process_time()
    with pytest.raises(
        UsageError, match=rf"over {stages} stages with {choices}, .* it would take about .*fewer choices"
    ):
        _ = Feasible(costs, np.zeros(metrics, int), np.full(metrics, stages * 10**9 // 2)).count
    assert time.process_time() - started < 1


def test_what_is_not_refused_is_counted_in_time():
    """Three limits over 100 choices in each of five stages."""
    rng = np.random.default_rng(0)
    costs = [rng.integers(0, 10**6, size=(100, 3)) for _ in range(5)]
    started = time.process_time()
    assert Feasible(costs, np.zeros(3, int), np.full(3, 2_600_000)).count > 0
    assert time.process_time() - started < MOST_SECONDS / 2


def test_a_space_of_a_trillion_is_counted_exactly():
    """Choices 0 .. 249 that cost themselves: the counts of sums of five dice are known in closed form by symmetry."""
    costs = [np.arange(250)[:, None]] * 5
    half = Feasible(costs, np.zeros(1, int), np.array([622]))  # 0 .. 1245 is symmetric about 622.5
    assert half.count * 2 == 250**5
    assert (half.sample(np.random.default_rng(0), 1000).sum(axis=1) <= 622).all()
    assert half.dearest().sum() == 622


def test_the_refusal_says_what_the_plain_backbone_needs():
    costs, base, limits = [np.array([[0], [5]])], np.array([312_000_000]), np.array([310_000_000])
    millions = [lambda value: f"{value / 1e6:.4g}M"]
    feasible = Feasible(costs, base, limits, names=("flops",), show=millions)
    with pytest.raises(UsageError, match=r"flops <= 310M, but the plain backbone alone needs 312M"):
        _ = feasible.count
    with pytest.raises(UsageError, match=r"flops <= 310000000, but the plain backbone alone needs 312000000"):
        _ = Feasible(costs, base, limits, names=("flops",)).count
