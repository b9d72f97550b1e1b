"""Budgets: counts, samples and extremes against enumerating the whole space."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces import budget
from spaces.budget import MOST_SECONDS, Feasible, _divide
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
    if len(limits):
        assert (feasible.cheapest() == feasible.cheapest(0)).all()
    first, second = feasible.sample(rng, 2)
    child, mutant = feasible.crossover(rng, first, second), feasible.mutate(rng, first)
    assert feasible.contains(np.stack([child, mutant])).all()
    assert ((child == first) | (child == second)).all()
    near = {tuple(row) for row in feasible.neighbours(first)}
    assert near == {tuple(row) for row in everything[inside] if (row != first).sum() == 1}
    assert not near or tuple(mutant) in near


@given(spaces(), st.sampled_from([1, 7, 2**21]), st.sampled_from([0, 2**26]))
@settings(max_examples=40, deadline=None)
def test_counting_in_parts_and_without_keeping_them_counts_the_same(space, chunk, kept):
    costs, base, limits, everything, totals = space
    inside = everything[(totals <= limits).all(axis=1)]
    if len(inside):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("spaces.budget.CHUNK", chunk)
            patch.setattr("spaces.budget.KEPT", kept)
            feasible = Feasible(costs, base, limits)
            assert feasible.count == len(inside)
            drawn = feasible.sample(np.random.default_rng(0), 20 * len(inside))
        assert {tuple(row) for row in drawn} <= {tuple(row) for row in inside}


@pytest.mark.parametrize("metrics", [1, 2])
def test_narrow_integers_are_added_as_wide_ones(metrics):
    costs = [np.array([[1] * metrics, [2**30] * metrics, [2**31 - 1] * metrics], dtype=np.int32)] * 3
    base, limits = np.full(metrics, 2**31 - 1, dtype=np.int32), np.full(metrics, 2**33)
    feasible = Feasible(costs, base, limits)
    totals = [2**31 - 1 + sum(row) for row in itertools.product([1, 2**30, 2**31 - 1], repeat=3)]
    assert feasible.count == sum(total <= 2**33 for total in totals)
    assert feasible.cost(feasible.dearest(0))[0, 0] == max(total for total in totals if total <= 2**33)
    assert Feasible([cost // 2 for cost in costs], base, base).count == 1
    with pytest.raises(UsageError, match="nothing fits"):
        _ = Feasible(costs, base, base).count


def test_moves_are_uniform():
    """A mutant changes a stage that can change, each as often; a child is any mixture that fits, each as often."""
    costs = [np.array([[0], [1], [9]]), np.arange(4)[:, None], np.array([[0], [9]])]
    feasible, rng = Feasible(costs, np.zeros(1, int), np.array([4])), np.random.default_rng(0)
    mutants = [tuple(feasible.mutate(rng, np.array([0, 0, 0]))) for _ in range(1000)]
    for mutant, share in {(1, 0, 0): 1 / 2, (0, 1, 0): 1 / 6, (0, 2, 0): 1 / 6, (0, 3, 0): 1 / 6}.items():
        assert mutants.count(mutant) / 1000 == pytest.approx(share, abs=0.05)
    children = [tuple(feasible.crossover(rng, np.array([0, 3, 0]), np.array([1, 1, 0]))) for _ in range(400)]
    for child in itertools.product((0, 1), (1, 3), (0,)):
        assert children.count(child) / 400 == pytest.approx(1 / 4, abs=0.08)
    lonely = Feasible(costs, np.zeros(1, int), np.array([0]))
    assert lonely.mutate(rng, np.array([0, 0, 0])).tolist() == [0, 0, 0]
    assert lonely.neighbours(np.array([0, 0, 0])).shape == (0, 3)


def test_choices_of_equal_cost_are_drawn_equally_often():
    costs = [np.array([[5], [1], [5], [5]]), np.array([[2], [2], [9]]), np.array([[0], [3]])]
    feasible = Feasible(costs, np.zeros(1, int), np.array([10]))
    every = [row for row in itertools.product(range(4), range(3), range(2)) if feasible.contains(row)[0]]
    drawn, seen = np.unique(feasible.sample(np.random.default_rng(0), 300 * len(every)), axis=0, return_counts=True)
    assert drawn.tolist() == [list(row) for row in every]
    assert ((seen - 300) ** 2 / 300).sum() < len(every) - 1 + 5 * np.sqrt(2 * len(every))


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


@pytest.mark.parametrize(
    ("stages", "choices", "metrics", "seconds"),
    [(8, 500, 1, "52,500"), (5, 500, 3, "228"), (5, 400, 4, "528"), (9, 60, 2, "1,834")],
)
def test_a_budget_that_would_take_long_is_refused_at_once(stages, choices, metrics, seconds):
    rng = np.random.default_rng(0)
    costs = [rng.integers(0, 10**9, size=(choices, metrics)) for _ in range(stages)]
    started = time.process_time()
    limits = "one limit" if metrics == 1 else f"{metrics} limits"
    over = rf"over {stages} stages with {choices}, .* choices of different costs"
    words = rf"^the budget of {limits} cannot be counted {over}: it would take about {seconds} s, and may take 60 s; list fewer"
    with pytest.raises(UsageError, match=words + " choices, or limit fewer costs$"):
        _ = Feasible(costs, np.zeros(metrics, int), np.full(metrics, stages * 10**9 // 2)).count
    assert time.process_time() - started < 1


def test_what_is_not_refused_is_counted_in_time():
    """Three limits over 100 choices in each of five stages."""
    rng = np.random.default_rng(0)
    costs = [rng.integers(0, 10**6, size=(100, 3)) for _ in range(5)]
    started = time.process_time()
    assert Feasible(costs, np.zeros(3, int), np.full(3, 2_600_000)).count > 0
    assert time.process_time() - started < MOST_SECONDS / 2


@pytest.mark.parametrize("kept", [True, False])
def test_middles_are_counted_a_few_at_a_time(monkeypatch, kept):
    """As where they are so many that they are counted in threads, and more than are kept."""
    rng = np.random.default_rng(3)
    costs = [rng.integers(0, 50, size=(7, 2)) for _ in range(3)]
    totals = sum(costs[s][axis] for s, axis in enumerate(np.indices((7, 7, 7)).reshape(3, -1)))
    limits = np.array([80, 75])
    monkeypatch.setattr(budget, "CHUNK", 21)  # three middles beside seven lefts
    monkeypatch.setattr(budget, "KEPT", 49 if kept else 48)
    feasible = Feasible(costs, np.zeros(2, int), limits)
    assert feasible.count == (totals <= limits).all(axis=1).sum()
    assert (feasible._sums._kept is not None) == kept
    assert feasible.contains(feasible.sample(rng, 500)).all()
    assert len(np.unique(feasible.sample(rng, 20_000), axis=0)) == feasible.count


def test_a_space_of_a_trillion_is_counted_exactly():
    """Choices 0 .. 249 that cost themselves: the counts of sums of five dice are known in closed form by symmetry."""
    costs = [np.arange(250)[:, None]] * 5
    half = Feasible(costs, np.zeros(1, int), np.array([622]))  # 0 .. 1245 is symmetric about 622.5
    assert half.count * 2 == 250**5
    assert (half.sample(np.random.default_rng(0), 1000).sum(axis=1) <= 622).all()
    assert half.dearest().sum() == 622


@pytest.mark.parametrize(
    ("costs", "base", "limits", "message"),
    [
        (
            [[[2], [5]]],
            [1],
            [2],
            "metric 0 <= 2, but the plain backbone alone needs 1, the cheapest architecture of the space 3",
        ),
        (
            [[[0, 1], [1, 0]], [[0, 0], [0, 2]]],
            [7, 1],
            [6, 0],
            "metric 0 <= 6, but the plain backbone alone needs 7; metric 1 <= 0, but the plain backbone alone needs 1",
        ),
        ([[[0, 1], [1, 0]]], [0, 0], [0, 0], "no architecture meets all limits together"),
    ],
)
def test_a_budget_that_nothing_fits_is_explained(costs, base, limits, message):
    feasible = Feasible([np.array(cost) for cost in costs], np.array(base), np.array(limits))
    for question in (lambda: feasible.count, feasible.cheapest, feasible.dearest):
        with pytest.raises(UsageError) as refusal:
            question()
        assert str(refusal.value) == f"nothing fits the budget: {message}"


@pytest.mark.parametrize(
    "sizes", [[40] * 5, [40] * 4, [40] * 3, [7], [1600, 40, 40], [2, 3, 2, 3, 500], [9, 1, 4, 25, 3]]
)
def test_stages_are_divided_so_that_counting_is_least_work(sizes):
    """Against every way to divide them: a sum is listed for 8 times what it costs to look one up."""

    def work(sides):
        left, right, middle = (
            np.prod([size for size, side in zip(sizes, sides, strict=True) if side == n]) for n in range(3)
        )
        return min(left, right) * middle + 8 * (left + right)

    left, middle, right = _divide(sizes)
    assert sorted([*left, *middle, *right]) == list(range(len(sizes)))
    assert np.prod([sizes[i] for i in left]) <= np.prod([sizes[i] for i in right])
    every = [sides for sides in itertools.product(range(3), repeat=len(sizes)) if sides.count(2) <= 1]
    found = [0 if i in left else 1 if i in right else 2 for i in range(len(sizes))]
    assert work(found) == pytest.approx(min(map(work, every)))


def test_the_refusal_says_what_the_plain_backbone_needs():
    costs, base, limits = [np.array([[0], [5]])], np.array([312_000_000]), np.array([310_000_000])
    millions = [lambda value: f"{value / 1e6:.4g}M"]
    feasible = Feasible(costs, base, limits, names=("flops",), show=millions)
    with pytest.raises(UsageError, match=r"flops <= 310M, but the plain backbone alone needs 312M"):
        _ = feasible.count
    with pytest.raises(UsageError, match=r"flops <= 310000000, but the plain backbone alone needs 312000000"):
        _ = Feasible(costs, base, limits, names=("flops",)).count
