"""Damaged files of a run are mended or refused in one line, and none is written in part."""

import errno
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from search.config import dump_config, load_run_config, validate
from search.files import sqlite_url, write_whole
from search.runner import open_study
from search.store import COMPLETE, Evaluation, Store, StoreError, read_journal
from spaces.errors import UsageError


def evaluation(number: int) -> Evaluation:
    costs = dict.fromkeys(("flops", "macs", "params", "activations"), 1)
    return Evaluation(f"net:a{number}", 1, 0, COMPLETE, "", 0.5, costs, 1.0, 1.0, "t")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Store(tmp_path / "run") as store:
        for number in range(3):
            store.add(evaluation(number))
    return tmp_path / "run"


def no_space(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    write_whole(tmp_path / "a", "before")
    monkeypatch.setattr(os, function, no_space)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", "after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "before")]


def test_a_cut_configuration_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    config = validate({"name": "a", "data": "digits", "space": {"backbone": "attune_tiny"}}, "test")
    text = dump_config(config)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    (tmp_path / "run.json").write_text('{"meaning": {}}')
    assert load_run_config(tmp_path) == config
    for cut in {*range(0, len(text), 97), *range(len(text) - 12, len(text)), len(text) // 2}:
        path.write_text(text[:cut])
        with pytest.raises(UsageError) as refusal:
            load_run_config(tmp_path)
        assert "\n" not in str(refusal.value)
    (tmp_path / "run.json").unlink()
    path.write_text(text.removesuffix("...\n"))  # as earlier versions wrote it
    assert load_run_config(tmp_path) == config
    path.write_text(text[: len(text) // 2])
    with pytest.raises(UsageError, match=r"cannot be read|cut off or damaged: it lacks"):
        load_run_config(tmp_path)


@pytest.mark.parametrize(
    ("damage", "left", "lost"),
    [
        (lambda a, b, c: a + b"\0" * 40 + b + c, 3, 1),
        (lambda a, b, c: a + b + c + b"\0" * 4096, 3, 0),
        (lambda a, b, c: a + b"\xff\xfe\x00garbage\n" + c, 2, 1),
        (lambda a, b, c: a + b"[]\n{}\n3\n" + b[:30] + b"\n" + c + c, 2, 4),
        (lambda a, b, c: b.replace(b'"seed": 0', b'"seed": "x"') + c.replace(b'"flops": 1', b'"flops": []'), 0, 2),
        (lambda a, b, c: b"\0" * 100, 0, 0),
    ],
)
def test_a_damaged_journal_is_mended_and_what_was_lost_is_said(
    run: Path, caplog: pytest.LogCaptureFixture, damage, left: int, lost: int
) -> None:
    journal = run / "evaluations.jsonl"
    journal.write_bytes(damage(*journal.read_bytes().splitlines(keepends=True)))
    assert len(read_journal(run)) == left
    caplog.clear()
    with Store(run) as store:
        assert len(store) == left
        store.add(evaluation(7))
    assert len(read_journal(run)) == left + 1
    assert [f"{lost} line" in one.getMessage() and "lost" in one.getMessage() for one in caplog.records] == [True] * (
        lost > 0
    )
    assert (run / "evaluations.jsonl.bad").exists() == (lost > 0)
    caplog.clear()
    Store(run).close()
    assert not caplog.records


def test_a_full_disk_leaves_no_half_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (run / "evaluations.jsonl").read_bytes()
    with monkeypatch.context() as full, Store(run) as store:
        full.setattr(os, "fsync", no_space)
        with pytest.raises(StoreError, match="the disk is full; 3 finished evaluations are kept"):
            store.add(evaluation(3))
    assert (run / "evaluations.jsonl").read_bytes() == whole


@pytest.mark.parametrize("kept", [0.5, 0.01])
def test_a_damaged_study_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: float) -> None:
    path = tmp_path / "study.db"
    study = optuna.create_study(storage=open_study(path), study_name="a")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with caplog.at_level(logging.WARNING):
        assert open_study(path).get_all_studies() == []
    assert "is damaged, and lies in study.db.broken" in caplog.text
    assert (tmp_path / "study.db.broken").stat().st_size == int(kept * len(content))


@pytest.mark.parametrize("name", ["a%20b", "a?b=c", "a#b", "{a}", "a b%s"])
def test_a_study_lies_in_its_run_whatever_the_run_is_called(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    optuna.create_study(storage=open_study(folder / "study.db"), study_name="a")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with closing(sqlite3.connect(folder / "study.db")) as database:
        assert database.execute("select study_name from studies").fetchall() == [("a",)]
    assert "uri=true" in sqlite_url(folder / "study.db")
