"""Fronts of evaluations: as they come and all at once, for metrics of either direction."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.tasks.base import Metric
from search.front import RunningFront, by_architecture, front_of, mean_of, summarise
from search.store import COMPLETE, FAILED, STOPPED, Evaluation, to_frame

ERROR = Metric("error", "pixels", higher_is_better=False)


def evaluation(
    text: str, score: float, flops: int, *, seed: int = 0, metric: Metric = ERROR, **other: object
) -> Evaluation:
    values = {"fidelity": 1, "state": COMPLETE, "reason": "", "seconds": 1.0, "finished": 0.0, "identity": "t", **other}
    costs = {"flops": flops, "macs": flops, "params": 7, "activations": 3, "latency": flops / 2}
    return Evaluation(architecture=text, seed=seed, score=score, costs=costs, metric=metric.name, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [ERROR, Metric("mIoU"), Metric()])
@given(points=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None)
def test_the_front_as_it_grows_is_that_of_all(metric: Metric, points: list[tuple[int, int]]) -> None:
    """Two seeds of each architecture; scores and costs with many ties."""
    running = RunningFront(("flops",), metric)
    rows = []
    for number, (score, flops) in enumerate(points):
        seeds = [
            evaluation(f"a{number}", score + noise, flops, seed=seed, metric=metric)
            for seed, noise in ((0, -0.1), (1, 0.1))
        ]
        running.add(*seeds)
        rows += seeds
    whole = front_of(summarise(to_frame(rows, metric.name), metric), ("flops",), metric)
    assert set(whole["architecture"]) == running.architectures == set(running.frame["architecture"])
    assert running.frame["flops"].is_monotonic_increasing
    best = min(score for score, _ in points) if metric is ERROR else max(score for score, _ in points)
    assert running.words == f"front {len(whole)}, best {best:.4f}"
    for row in whole.itertuples():
        index = int(row.architecture[1:])
        for score, flops in points:
            better = score < points[index][0] if metric is ERROR else score > points[index][0]
            assert not (better and flops <= points[index][1])


def test_a_summary_has_the_metric_by_its_name_and_the_better_ones_first() -> None:
    rows = [
        evaluation("b", 0.4, 10),
        evaluation("a", 0.2, 10, seed=0),
        evaluation("a", 0.4, 10, seed=1),
        evaluation("c", 0.1, 5),
        evaluation("short", 0.0, 1, fidelity=0),
        evaluation("lost", math.nan, 1, state=FAILED),
        evaluation("cut", 0.0, 1, state=STOPPED),
    ]
    summary = summarise(to_frame(rows), ERROR)
    assert summary["architecture"].tolist() == ["c", "a", "b"]
    assert summary["error"].tolist() == pytest.approx([0.1, 0.3, 0.4])
    assert summary["error_std"].tolist() == pytest.approx([np.nan, 0.1 * math.sqrt(2), np.nan], nan_ok=True)
    assert summary["seeds"].tolist() == [1, 2, 1]
    assert {"flops", "macs", "params", "activations", "latency"} <= set(summary.columns)
    assert "accuracy" not in summary.columns
    assert front_of(summary, ("flops",), ERROR)["architecture"].tolist() == ["c"]
    assert front_of(summary, ("flops",), Metric("error"))["architecture"].tolist() == ["c", "b"]
    empty = to_frame([], "error")
    assert "error" in empty.columns
    assert front_of(summarise(empty, ERROR), ("flops",), ERROR).empty


def test_what_is_not_complete_is_on_no_front() -> None:
    front = RunningFront(("flops", "latency"), ERROR)
    assert front.words == "front 0"
    assert not front.add(evaluation("lost", math.nan, 1, state=FAILED))
    assert not front.add(evaluation("half", 0.1, 1), evaluation("half", 0.1, 1, seed=1, state=STOPPED))
    assert front.add(evaluation("a", 0.3, 4))
    assert not front.add(evaluation("worse", 0.4, 4))
    assert front.add(evaluation("b", 0.2, 4))
    assert front.architectures == {"b"}


def test_evaluations_of_one_architecture_are_one() -> None:
    seeds = [evaluation("a", score, 3, seed=seed) for seed, score in enumerate((0.1, 0.3))]
    grouped = by_architecture([*seeds, evaluation("b", 0.5, 3)])
    assert list(grouped) == ["a", "b"]
    assert mean_of(grouped["a"]).score == pytest.approx(0.2)
    assert mean_of(grouped["a"]).architecture == "a"


def test_the_summary_takes_the_highest_fidelity_and_averages_seeds() -> None:
    rows = [
        evaluation("a", 0.4, 10, fidelity=3),
        evaluation("a", 0.6, 10, fidelity=3, seed=1),
        evaluation("b", 0.9, 11, fidelity=1),
        evaluation("c", math.nan, 12, fidelity=3, state=FAILED),
    ]
    summary = summarise(to_frame(rows), ERROR)
    assert list(summary["architecture"]) == ["a"]
    assert summary["error"][0] == pytest.approx(0.5)
    assert summary["seeds"][0] == 2
    assert summary["error_std"][0] == pytest.approx(math.sqrt(0.02))


def test_the_front_of_nothing_is_empty() -> None:
    assert len(front_of(summarise(to_frame([])))) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_front_rises_in_accuracy_with_cost_and_holds_the_best(accuracies: list[float]) -> None:
    rows = [evaluation(f"a{n}", accuracy, 1000 + n, metric=Metric()) for n, accuracy in enumerate(accuracies)]
    front = front_of(summarise(to_frame(rows)))
    assert front["flops"].is_monotonic_increasing
    assert front["accuracy"].is_monotonic_increasing
    assert front["accuracy"].max() == max(accuracies)
    assert front["flops"].min() == 1000


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3), st.booleans()), max_size=30))
def test_the_running_front_is_the_front_of_everything(points: list[tuple[int, int, int, bool]]) -> None:
    counted = ("flops", "macs", "params", "activations")
    rows = [
        replace(
            evaluation(f"a{n}", a / 6, flops, metric=Metric(), state=COMPLETE if done else FAILED),
            costs={**dict.fromkeys(counted, 1), "flops": flops, "params": params},
        )
        for n, (a, flops, params, done) in enumerate(points)
    ]
    for costs in (("flops",), ("flops", "params")):
        front = RunningFront(costs)
        for row in rows:
            front.add(row)
        whole = front_of(summarise(to_frame(rows)), costs)
        assert front.architectures == set(whole["architecture"]) == set(front.frame["architecture"])
        assert front.words.startswith(f"front {len(whole)}")
