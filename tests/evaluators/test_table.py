"""Tables of past evaluations: a run's, a wide one, and what is wrong with others."""

from pathlib import Path

import pandas as pd
import pytest

from evaluators.outcomes import EvaluationError
from evaluators.table import TableEvaluator
from evaluators.tasks.classification import Classification
from spaces.errors import UsageError
from tests.evaluators.architectures import PLAIN, RICH


def test_table_of_a_run(clutter: Classification, tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "architecture": [str(RICH)] * 3 + [str(PLAIN)],
            "fidelity": [1, 1, 5, 1],
            "seed": [0, 1, 0, 0],
            "accuracy": [0.5, 0.6, 0.9, 0.4],
            "flops": [7, 7, 7, 3],
            "state": ["complete"] * 3 + ["failed"],
        }
    )
    rows.to_parquet(tmp_path / "evaluations.parquet")
    table = TableEvaluator.read(tmp_path / "evaluations.parquet", clutter)
    assert table.evaluate(RICH, fidelity=1, seed=1)["accuracy"] == 0.6
    assert table.evaluate(RICH, fidelity=1, seed=3)["accuracy"] == 0.6, "seed 3 takes the second of two"
    assert table.evaluate(RICH, fidelity=5, seed=0)["flops"] == 7
    with pytest.raises(EvaluationError, match=r"has no fidelity 9 .*\[1, 5\]"):
        table.evaluate(RICH, fidelity=9, seed=0)
    with pytest.raises(EvaluationError, match="is not in table"):
        table.evaluate(PLAIN, fidelity=1, seed=0)


def test_wide_table_and_its_mistakes(clutter: Classification, tmp_path: Path) -> None:
    wide = pd.DataFrame({"architecture": [str(RICH)], "accuracy_0": [0.1], "accuracy_1": [0.2], "params": [5]})
    wide.to_csv(tmp_path / "wide.csv.gz", index=False)
    table = TableEvaluator.read(tmp_path / "wide.csv.gz", clutter)
    assert [table.evaluate(RICH, fidelity=1, seed=seed)["accuracy"] for seed in (0, 1)] == [0.1, 0.2]
    assert table.evaluate(RICH, fidelity=1, seed=0)["params"] == 5
    wide.drop(columns="architecture").to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(UsageError, match=r"bad.csv has no column 'architecture'; it has: accuracy_0"):
        TableEvaluator.read(tmp_path / "bad.csv", clutter)
