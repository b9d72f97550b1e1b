"""The store: everything added is kept, whole, once, and readable at any moment."""

import errno
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.store import (
    COMPLETE,
    CONFIRM,
    FAILED,
    RANDOM,
    SEARCH,
    STOPPED,
    TEST,
    Evaluation,
    Store,
    StoreError,
    cost_columns,
    is_locked,
    read_journal,
    to_frame,
)
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


LINE = (
    '{"architecture": "net:a0", "fidelity": 3, "seed": 0, "state": "complete", "reason": "", "seconds": 0.5, '
    '"finished": 1.0, "identity": "t", "purpose": "search", "accuracy": 0.5, "flops": 1000, "macs": 900, "params": 10, '
    '"activations": 5}\n'
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three evaluations."""
    with Store(tmp_path / "runs" / "run") as store:
        for number in range(3):
            store.add(evaluation(number))
    return tmp_path / "runs" / "run"


def test_the_format_stays(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add(evaluation(0))
        store.add(replace(evaluation(0, state=FAILED, seed=1), metric="mIoU"))
    lines = (tmp_path / "evaluations.jsonl").read_text().splitlines(keepends=True)
    assert lines[0] == LINE
    assert lines[1].endswith(
        '"purpose": "search", "metric": "mIoU", "mIoU": null, "flops": 1000, "macs": 900, "params": 10, "activations": 5}\n'
    )
    assert '"state": "failed", "reason": "loss is NaN", ' in lines[1]
    assert read_journal(tmp_path)[0] == evaluation(0)
    assert (STOPPED, SEARCH, CONFIRM, RANDOM, TEST) == ("stopped", "search", "confirm", "random", "test")


def test_the_table_has_its_types_with_and_without_rows() -> None:
    kinds = {"string": "str", "int64": "int64", "float64": "float64"}
    columns = {
        "architecture": "string",
        "fidelity": "int64",
        "seed": "int64",
        "state": "string",
        "reason": "string",
        "accuracy": "float64",
        "flops": "int64",
        "macs": "int64",
        "params": "int64",
        "activations": "int64",
        "seconds": "float64",
        "finished": "float64",
        "identity": "string",
        "purpose": "string",
        "latency": "float64",
    }
    for rows in ([], [evaluation(0)]):
        types = to_frame(rows).dtypes
        assert list(types.index) == list(columns)
        assert all(str(types[name]) in (kind, kinds[kind]) for name, kind in columns.items())
    assert to_frame([evaluation(0)])["latency"].isna().all()
    assert "mIoU" in to_frame([], "mIoU").columns
    assert "mIoU" not in to_frame([evaluation(0)], "mIoU").columns


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
        with pytest.raises(ValueError, match=r"^evaluated twice: \('search', 't', 'net:a0', 3, 0\)$"):
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


def test_only_evaluations_of_one_identity_are_shown(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for row in (evaluation(0), replace(evaluation(1), identity="u"), replace(evaluation(2), purpose=CONFIRM)):
            store.add(row)
        assert [row.identity for row in store] == ["t", "u"]
        assert (len(store), store.others) == (2, 0)
    with Store(tmp_path, identity="t") as store:
        assert (list(store), len(store), store.others) == ([evaluation(0)], 1, 1)
        store.add(replace(evaluation(3), identity="u"))
        store.add(evaluation(0, seed=1))
        assert (len(store), store.others) == (1, 2)
        store.add(evaluation(3))
        assert (len(store), store.others) == (2, 2)
    assert len(pd.read_parquet(tmp_path / "evaluations.parquet")) == 6


def test_a_failed_training_stays_and_a_failed_test_does_not_count(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for row in (evaluation(0, state=FAILED), replace(evaluation(0), purpose=TEST)):
            store.add(row)
            assert row.key in store
            assert not row.passing
        assert replace(evaluation(0, state=FAILED), purpose=TEST).passing


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
@settings(max_examples=15)
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
    assert said == f"UsageError another run is writing to {tmp_path}; choose another folder with --run\n"
    with pytest.raises(UsageError), Store(tmp_path), Store(tmp_path):
        pass


def test_the_table_takes_a_twentieth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a second whenever it is read: writing the table takes one, so the next is due after 20."""
    ticks = count()
    monkeypatch.setattr("search.store.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    written = []
    with Store(tmp_path) as store:
        for seed in range(42):
            store.add(evaluation(0, seed=seed))
            written.append(len(pd.read_parquet(tmp_path / "evaluations.parquet")))
    assert written == [0] * 19 + [20] * 20 + [40] * 3
    assert len(pd.read_parquet(tmp_path / "evaluations.parquet")) == 42
    assert not (tmp_path / ".evaluations.parquet").exists()


# --- damage and refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "left", "aside"),
    [
        (lambda a, b, c: a + b"\0" * 40 + b + c, 3, [b"\0" * 40]),
        (lambda a, b, c: a + b + c + b"\0" * 4096, 3, []),
        (lambda a, b, c: a + b"\xff\xfe\x00garbage\n" + c, 2, [b"\xff\xfe\x00garbage"]),
        (
            lambda a, b, c: a + b"[]\n{}\n\n3\n" + b[:30] + b"\n" + c + c,
            2,
            [b"[]", b"{}", b"3", b'{"architecture": "net:a1", "fi'],
        ),
        (lambda a, b, c: b" \t" + a + b + c[:-1] + b"\r\n", 3, []),
        (lambda a, b, c: b"\n" + c, 1, []),
        (lambda a, b, c: b"[" * 100_000 + b"\n" + c, 1, [b"[" * 100_000]),
        (lambda a, b, c: b"\0" * 100, 0, []),
        (lambda a, b, c: a + b + c[:-20], 2, []),
    ],
)
def test_a_damaged_journal_is_mended_and_what_was_lost_is_said(
    run: Path, caplog: pytest.LogCaptureFixture, damage: Callable[..., bytes], left: int, aside: list[bytes]
) -> None:
    journal = run / "evaluations.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(damage(*whole))
    lost = f"{len(aside)} line{'s' * (len(aside) > 1)} could not be read, and what stood there is lost"
    found = read_journal(run)
    assert len(found) == left
    assert caplog.messages == ([f"{journal}: {lost}"] if aside else [])
    caplog.clear()
    with Store(run) as store:
        assert list(store) == found
        assert journal.read_bytes() == b"".join(whole[int(one.architecture.removeprefix("net:a"))] for one in found)
        store.add(evaluation(7))
    assert len(read_journal(run)) == left + 1
    assert caplog.messages == ([f"{journal}: {lost}; it lies in evaluations.jsonl.bad"] if aside else [])
    bad = run / "evaluations.jsonl.bad"
    assert (bad.read_bytes().splitlines() if bad.exists() else []) == aside
    caplog.clear()
    Store(run).close()
    assert not caplog.records


@pytest.mark.parametrize("name", ["architecture", "state", "reason", "identity", "purpose", "fidelity", "seed"])
@pytest.mark.parametrize("value", [1.5, None, ["a"], True])
def test_a_value_of_another_type_is_no_evaluation(run: Path, name: str, value: object) -> None:
    _read_one(run, name, value, 0)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        *[(name, value, 0) for name in ("seconds", "finished", "flops") for value in ("1", [1])],
        *[("accuracy", "good", 0), ("accuracy", [1], 0), ("accuracy", "0.5", 1), ("accuracy", None, 1)],
        *[("seconds", None, 1), ("seconds", 2, 1), ("finished", 2, 1), ("macs", 2, 1), ("macs", 2.0, 1)],
        *[("macs", value, 0) for value in (None, 2.5, math.nan, math.inf)],
        *[(name, 10**400, 0) for name in ("accuracy", "macs", "flops", "seconds", "finished", "seed", "fidelity")],
    ],
)
def test_a_number_that_is_none_is_no_evaluation(run: Path, name: str, value: object, read: int) -> None:
    _read_one(run, name, value, read)


def test_a_cost_that_came_later_is_unknown_before_and_the_table_is_written(run: Path) -> None:
    """A plug-in may bring one that is counted; runs of before do not have it."""
    line = json.loads((run / "evaluations.jsonl").read_bytes().splitlines()[0])
    del line["activations"]
    with open(run / "evaluations.jsonl", "a") as file:
        file.write(json.dumps({**line, "architecture": "net:a9"}) + "\n")
    with Store(run) as store:
        store.add(evaluation(7))
    frame = pd.read_parquet(run / "evaluations.parquet").set_index("architecture")
    assert frame["activations"].isna().tolist() == [one == "net:a9" for one in frame.index]
    assert str(frame["macs"].dtype) == "int64"


def _read_one(run: Path, name: str, value: object, read: int) -> None:
    """A journal of one line with a value changed holds so many evaluations."""
    (run / "evaluations.jsonl").write_text(json.dumps({**json.loads(LINE), name: value}) + "\n")
    assert len(read_journal(run)) == read


def test_what_is_added_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line, and with the first one the name of the journal; and a journal that is mended too."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").resolve()))
    journal = tmp_path / "evaluations.jsonl"
    with Store(tmp_path) as store:
        store.add(evaluation(0))
        assert synced == [journal, tmp_path]
        store.add(evaluation(1))
        assert synced == [journal, tmp_path, journal]
    journal.write_bytes(journal.read_bytes()[:-5])
    Store(tmp_path).close()
    assert synced == [journal, tmp_path, journal, journal]


def refuse(number: int) -> Callable[..., None]:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EIO, r"\[Errno 5\] Input/output error"),
    ],
)
def test_a_disk_that_refuses_leaves_no_half_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    whole = (run / "evaluations.jsonl").read_bytes()
    with Store(run) as store:
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", refuse(number))
            with pytest.raises(StoreError, match=f"^cannot write to {run}: {words}; 3 finished evaluations are kept$"):
                store.add(evaluation(3))
        assert (run / "evaluations.jsonl").read_bytes() == whole
        assert evaluation(3).key not in store
        store.add(evaluation(3))
    assert len(read_journal(run)) == 4


def test_other_errors_are_no_refusals_of_the_disk(run: Path) -> None:
    with Store(run) as store:
        with pytest.raises(KeyError), store.refusing():
            raise KeyError("a")
        with store.refusing():
            pass


def test_a_folder_that_cannot_be_written_is_refused_and_let_go(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write to .*file: .*File exists.*; 0 finished evaluations are kept"):
        Store(tmp_path / "file")
    (tmp_path / "locked" / ".lock").mkdir(parents=True)
    with pytest.raises(StoreError, match=rf"^cannot write to {tmp_path}/locked: .*Is a directory"):
        Store(tmp_path / "locked")
    journal = tmp_path / "run" / "evaluations.jsonl"
    journal.mkdir(parents=True)
    with pytest.raises(UsageError, match=rf"^{journal} cannot be read: Is a directory$"):
        Store(tmp_path / "run")
    journal.rmdir()
    Store(tmp_path / "run").close()


def test_the_journal_of_no_run_is_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert read_journal(tmp_path / "nowhere") == []
    with Store(str(tmp_path / "new" / "run")) as store:
        assert list(store) == []
        assert store.folder == tmp_path / "new" / "run"
    assert not (tmp_path / "new" / "run" / "evaluations.jsonl").exists()
    assert not [one for one in caplog.records if one.name == "search.store"]


def test_a_folder_is_locked_while_a_store_is_open(tmp_path: Path) -> None:
    with Store(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_test_that_is_measured_again_replaces_what_failed_and_nothing_else(tmp_path: Path) -> None:
    other, failed, done = (
        replace(evaluation(n, state=state), purpose=TEST) for n, state in ((1, COMPLETE), (0, FAILED), (0, COMPLETE))
    )
    with Store(tmp_path, TEST) as store:
        for one in (other, failed, done):
            store.add(one)
        assert [*store] == [other, done]
    table = pd.read_parquet(tmp_path / "evaluations.parquet")
    assert table["state"].tolist() == [COMPLETE, COMPLETE]
    assert table["accuracy"].notna().all()  # the metric where none was named
