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
from spaces.errors import UsageError


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


def test_a_study_waits_for_no_disk(tmp_path: Path) -> None:
    with open_study(tmp_path / "study.db").engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 0


@pytest.mark.parametrize("name", ["a%20b", "a?b=c", "a#b", "{a}", "a b%s"])
def test_a_study_lies_in_its_run_whatever_the_run_is_called(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    optuna.create_study(storage=open_study(folder / "study.db"), study_name="a")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with closing(sqlite3.connect(folder / "study.db")) as database:
        assert database.execute("select study_name from studies").fetchall() == [("a",)]
    assert "uri=true" in sqlite_url(folder / "study.db")
