"""The table evaluator: answers from past evaluations, so that search algorithms are studied in seconds."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from evaluators.base import EVALUATORS, EvaluatorConfig, OnTask, Setting
from evaluators.outcomes import EvaluationError, Metrics, Report
from evaluators.tasks.base import Task
from spaces.errors import UsageError
from spaces.network import Native
from spaces.placement import Architecture


@dataclass(frozen=True, eq=False)
class TableEvaluator(OnTask):
    """Answers from a table of past evaluations, one row for each architecture, fidelity and seed.

    Columns: `architecture` (canonical text) and the task's metric, such as `accuracy`; `fidelity` and `seed` where there are
    several; every other column (exact costs) is passed on. A wide table has a column `accuracy_SEED` for each seed instead.
    A seed that the table does not have takes one of those it has, always the same one. A run's evaluations.parquet is such a
    table; of its rows only those with state `complete` are used. fidelity: must be in the table where it has that column.
    """

    rows: pd.DataFrame
    name: str
    task: Task
    identity_start: bool = True
    native: Native = "keep"

    @classmethod
    def read(
        cls, file: str | Path, task: Task, *, identity_start: bool = True, native: Native = "keep"
    ) -> TableEvaluator:
        """From .parquet, .csv, .csv.gz or .jsonl; `task` is what the evaluations were made for.

        Raises UsageError naming the file, and the column when it is not such a table.
        """
        path = Path(file)
        rows = read_rows(path)
        if "architecture" not in rows:
            raise UsageError(f"{path} has no column 'architecture'; it has: {', '.join(map(str, rows.columns))}")
        if "state" in rows:
            rows = rows[rows["state"].str.lower().isin(("complete", "finished", "done"))]
        metric = task.metric.name
        start = f"{metric}_"
        seeds = [name for name in rows.columns if name.startswith(start) and name.removeprefix(start).isdigit()]
        if metric not in rows and seeds:
            kept = [column for column in rows.columns if column not in seeds]
            rows = rows.melt(id_vars=kept, value_vars=seeds, var_name="seed", value_name=metric)
            rows["seed"] = rows["seed"].str.removeprefix(start).astype(int)
        if metric not in rows:
            raise UsageError(f"{path} has neither a column {metric!r} nor '{metric}_0', '{metric}_1' ...")
        return cls(rows.reset_index(drop=True), path.name, task, identity_start, native)

    @cached_property
    def identity(self) -> str:
        content = hashlib.blake2b(
            pd.util.hash_pandas_object(self.rows, index=False).to_numpy().tobytes(), digest_size=8
        )
        return f"table {self.name} {content.hexdigest()}"

    @cached_property
    def _positions(self) -> dict[str, list[int]]:
        positions: dict[str, list[int]] = {}
        for position, text in enumerate(self.rows["architecture"]):
            positions.setdefault(text, []).append(position)
        return positions

    def evaluate(
        self,
        arch: Architecture,
        *,
        fidelity: int,
        seed: int,
        report: Report | None = None,
        keep: Path | None = None,
        checkpoint: Path | None = None,
    ) -> Metrics:
        """The row of this architecture, fidelity and seed; EvaluationError when the table does not have it.

        A table has no weights to `keep` and nothing to go on with from a `checkpoint`.
        """
        started = time.perf_counter()
        found = self.rows.iloc[self._positions.get(str(arch), [])]
        if found.empty:
            raise EvaluationError(f"{arch} is not in table {self.name}")
        if "fidelity" in found:
            available = sorted(set(found["fidelity"]))
            found = found[found["fidelity"] == fidelity]
            if found.empty:
                raise EvaluationError(f"{arch} has no fidelity {fidelity} in table {self.name}; it has {available}")
        if "seed" in found:
            seeds = sorted(set(found["seed"]))
            found = found[found["seed"] == (seed if seed in seeds else seeds[seed % len(seeds)])]
        row = found.iloc[-1]
        metrics: Metrics = {
            str(key): value for key, value in row.items() if key not in ("architecture", "fidelity", "seed", "state")
        }
        metrics |= {self.metric.name: float(row[self.metric.name]), "seconds": time.perf_counter() - started}
        if report is not None:
            report(fidelity, dict(metrics))
        return metrics


def read_rows(path: Path) -> pd.DataFrame:
    """A table of any of the forms; UsageError naming the file that is missing or broken."""
    if not path.is_file():
        raise UsageError(f"no such table: {path}")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_json(path, lines=True) if path.suffix == ".jsonl" else pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} is not a table: {str(error).splitlines()[0]}") from error


class TableConfig(EvaluatorConfig):
    """Answers from a table of past evaluations, so that search algorithms are studied in seconds."""

    name: Literal["table"] = "table"
    file: str = Field(description="parquet, CSV or JSON lines of past evaluations")

    def build(self, setting: Setting) -> TableEvaluator:
        return TableEvaluator.read(
            self.file, setting.task(), identity_start=setting.identity_start, native=setting.native
        )


EVALUATORS.register("table", TableConfig)
