"""Loggers by name, and a study that optuna-dashboard shows with useful names."""

from pathlib import Path

import pytest

from search.config import load_config
from search.loggers import create_loggers
from search.runner import run_search
from spaces.errors import UsageError


def test_tensorboard_is_a_callback_of_ray(tmp_path: Path) -> None:
    assert [type(one).__name__ for one in create_loggers(["tensorboard"], tmp_path, "name")] == ["TBXLoggerCallback"]


def test_unknown_and_missing_loggers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="valid: tensorboard, mlflow, wandb"):
        create_loggers(["tensorbord"], tmp_path, "name")
    monkeypatch.setattr("spaces.extras.find_spec", lambda package: None)
    with pytest.raises(UsageError, match="mlflow needs mlflow, which is not installed"):
        create_loggers(["mlflow"], tmp_path, "name")


def test_the_configuration_refuses_an_unknown_logger() -> None:
    with pytest.raises(UsageError, match=r"loggers\.0"):
        load_config("configs/default.yaml", ["loggers=[nothing]"])
    assert load_config("configs/default.yaml", ["loggers=[tensorboard]"]).loggers == ("tensorboard",)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "written"), [("mlflow", "mlflow.db"), ("wandb", "wandb/offline-run-*/*.wandb")])
def test_a_run_is_logged(name: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name, reason=f"{name} is optional: the extra `loggers`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    small = ["data=digits", "training.epochs=1", "search.trials=2", f"loggers=[{name}]", "space.attentions=[none, se]"]
    run_search(load_config("configs/default.yaml", small), tmp_path / "run")
    assert list((tmp_path / "run").glob(written))
