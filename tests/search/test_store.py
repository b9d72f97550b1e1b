"""The store: everything added is kept, whole, once, and readable at any moment."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.store import COMPLETE, CONFIRM, FAILED, TEST, Evaluation, Store, cost_columns, read_journal
from spaces.errors import UsageError


def evaluation(
    number: int, *, seed: int = 0, state: str = COMPLETE, accuracy: float = 0.5, fidelity: int = 3
) -> Evaluation:
    return Evaluation(
        architecture=f"net:a{number}",
        fidelity=fidelity,
        seed=seed,
        state=state,
        reason="" if state == COMPLETE else "loss is NaN",
        score=accuracy if state == COMPLETE else math.nan,
        costs={"flops": 1000 + number, "macs": 900 + number, "params": 10 + number, "activations": 5},
        seconds=0.5,
        finished=1.0,
        identity="t",
    )


def test_what_was_added_is_read_back_and_the_table_agrees(tmp_path: Path) -> None:
    rows = [evaluation(0), evaluation(1, state=FAILED), evaluation(1, seed=1)]
    with Store(tmp_path) as store:
        for row in rows:
            store.add(row)
    assert str(read_journal(tmp_path)) == str(rows)  # as text, since NaN is not equal to itself
    frame = pd.read_parquet(tmp_path / "evaluations.parquet")
    assert list(frame["architecture"]) == ["net:a0", "net:a1", "net:a1"]
    assert list(frame["state"]) == [COMPLETE, FAILED, COMPLETE]
    assert frame["flops"].dtype == "int64"


def test_nothing_is_kept_twice(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add(evaluation(0))
        with pytest.raises(ValueError, match="evaluated twice"):
            store.add(evaluation(0, accuracy=0.9))
        assert evaluation(0).key in store
    with Store(tmp_path) as store:
        assert len(store) == 1
        assert evaluation(0).key in store


def test_a_test_that_failed_is_measured_again(tmp_path: Path) -> None:
    """Unlike a training that failed: what broke it were the test images, and they may be mended."""
    failed, done = (replace(evaluation(0, state=state), purpose=TEST) for state in (FAILED, COMPLETE))
    for row in (failed, failed, done):
        with Store(tmp_path, CONFIRM) as store:
            assert row.key not in store
            store.add(row)
        assert [one.state for one in read_journal(tmp_path)] == [row.state]
    with Store(tmp_path, CONFIRM) as store:
        assert done.key in store
        with pytest.raises(ValueError, match="evaluated twice"):
            store.add(done)


def test_purposes_share_a_journal_and_are_read_apart(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add(evaluation(0))
    with Store(tmp_path, purpose=CONFIRM) as store:
        assert len(store) == 0
        store.add(replace(evaluation(0), purpose=CONFIRM))
        assert [e.purpose for e in store] == [CONFIRM]
    with Store(tmp_path) as store:
        assert [e.purpose for e in store] == ["search"]
    assert list(pd.read_parquet(tmp_path / "evaluations.parquet")["purpose"]) == ["search", CONFIRM]


def test_journals_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """The first had no kinds of evaluations; then they were called that, and their identity a task."""
    with Store(tmp_path) as store:
        store.add(evaluation(0))
    journal = tmp_path / "evaluations.jsonl"
    line = journal.read_text()
    assert ', "purpose": "search"' in line
    journal.write_text(line.replace(', "purpose": "search"', ""))
    assert [e.purpose for e in read_journal(tmp_path)] == ["search"]
    former = line.replace('"identity"', '"task"').replace('"purpose": "search"', '"kind": "confirm", "latency": null')
    journal.write_text(former)
    assert read_journal(tmp_path) == [replace(evaluation(0), purpose=CONFIRM)]


def test_a_metric_and_costs_of_other_names_are_columns(tmp_path: Path) -> None:
    row = replace(evaluation(0), metric="mIoU", costs={**evaluation(0).costs, "size": 77, "latency": 5.5})
    with Store(tmp_path, metric="mIoU") as store:
        assert "mIoU" in pd.read_parquet(tmp_path / "evaluations.parquet")
        store.add(row)
    assert read_journal(tmp_path) == [row]
    frame = pd.read_parquet(tmp_path / "evaluations.parquet")
    assert list(frame.columns) == [
        *("architecture", "fidelity", "seed", "state", "reason", "mIoU", "flops", "macs", "params", "activations"),
        *("seconds", "finished", "identity", "purpose", "latency", "size"),
    ]
    assert (frame["size"][0], frame["latency"][0]) == (77, 5.5)
    assert cost_columns(frame, "mIoU") == ["flops", "macs", "params", "activations", "latency", "size"]


@given(cut=st.integers(min_value=1, max_value=200))
def test_a_kill_in_the_middle_of_a_line_loses_only_that_line(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    with Store(folder) as store:
        for number in range(3):
            store.add(evaluation(number))
    journal = folder / "evaluations.jsonl"
    whole = journal.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    journal.write_bytes(whole[: len(whole) - min(cut, last - 1)])
    with Store(folder) as store:
        assert [e.architecture for e in store] == ["net:a0", "net:a1"]
        store.add(evaluation(2))
    assert journal.read_bytes() == whole


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    code = "\n".join(
        [
            "from search.store import Store",
            f"try: Store({str(tmp_path)!r})",
            "except Exception as error: print(type(error).__name__, error)",
        ]
    )
    with Store(tmp_path):
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("UsageError")
    assert "--run" in said
    with pytest.raises(UsageError), Store(tmp_path), Store(tmp_path):
        pass
