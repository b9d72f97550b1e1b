"""The table that is shipped: whole, exact in its costs, and readable by what reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.attune_bench import CONFIG, every, finished
from benchmarks.tables import ATTUNE_BENCH, attune_bench
from evaluators.cost import METRICS
from evaluators.data import load_data
from evaluators.table import TableEvaluator
from evaluators.tasks.classification import Classification
from search.config import load_config
from search.problem import Problem
from spaces import Architecture


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_parquet(ATTUNE_BENCH)


@pytest.fixture(scope="module")
def task() -> Classification:
    return Classification(load_data("cluttered_digits"))


@pytest.fixture(scope="module")
def problem(task: Classification) -> Problem:
    return Problem.build(load_config(CONFIG).space.build(), task.network)


def test_it_holds_every_architecture_with_its_exact_costs(table: pd.DataFrame, problem: Problem) -> None:
    indices = every(problem)
    assert list(table["architecture"]) == [str(problem.space.architecture(row)) for row in indices]
    np.testing.assert_array_equal(table[list(METRICS)].to_numpy(), problem.count(indices))
    assert len(table) >= 700
    assert ATTUNE_BENCH.stat().st_size <= 3e6


def test_every_seed_has_an_accuracy_of_its_own(table: pd.DataFrame) -> None:
    accuracy = table[["accuracy_0", "accuracy_1", "accuracy_2"]].to_numpy(dtype=float)
    assert ((accuracy > 0.1) & (accuracy < 1)).all()
    assert (np.ptp(accuracy, axis=1) > 0).mean() > 0.99
    assert accuracy.mean(axis=1).std() > 2 * np.sqrt(accuracy.var(axis=1, ddof=1).mean()) / np.sqrt(3)


def test_the_table_evaluator_answers_from_it(table: pd.DataFrame, task: Classification) -> None:
    evaluator = TableEvaluator.read(ATTUNE_BENCH, task)
    row = table.iloc[100]
    for seed in range(3):
        metrics = evaluator.evaluate(Architecture.parse(row["architecture"]), fidelity=2, seed=seed)
        assert metrics["accuracy"] == pytest.approx(row[f"accuracy_{seed}"])
        assert metrics["flops"] == row["flops"]


def test_the_sampler_benchmark_reads_it_as_a_full_grid(table: pd.DataFrame) -> None:
    grid = attune_bench(ATTUNE_BENCH)
    assert sorted(grid.accuracy_N) == pytest.approx(
        sorted(table[["accuracy_0", "accuracy_1", "accuracy_2"]].mean(axis=1).astype(float))
    )


def test_a_journal_that_was_cut_short_keeps_what_is_whole(tmp_path: Path) -> None:
    journal = tmp_path / "evaluations.jsonl"
    assert finished(journal, "task") == {}
    journal.write_text(
        '{"identity": "task", "architecture": "a", "seed": 1, "accuracy": 0.5}\n'
        '{"identity": "another", "architecture": "b", "seed": 1, "accuracy": 0.5}\n'
        '{"identity": "task", "architecture": "c", "se'
    )
    assert list(finished(journal, "task")) == [("a", 1)]
