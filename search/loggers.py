"""Where else a run is logged: TensorBoard, MLflow and Weights & Biases, through Ray's own callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.files import sqlite_url
from spaces.errors import unknown
from spaces.extras import need

if TYPE_CHECKING:
    from ray import tune


def create_loggers(names: Sequence[str], folder: Path, project: str) -> list[tune.Callback]:
    """The callbacks of these loggers; raises UsageError for an unknown one, or one whose package is not installed.

    TensorBoard's files lie in ``folder/ray``, MLflow's in ``folder/mlflow.db``; Weights & Biases takes its own settings.
    """
    check_loggers(names)
    return [LOGGERS[name][1](folder, project) for name in names]


def check_loggers(names: Sequence[str]) -> None:
    """Raise UsageError for an unknown logger, or one whose package is not installed."""
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)
        package, _ = LOGGERS[name]
        need("loggers", f"loggers: {name}", package)


def _tensorboard(folder: Path, project: str) -> Any:
    from ray.tune.logger import TBXLoggerCallback

    return TBXLoggerCallback()


def _mlflow(folder: Path, project: str) -> Any:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    return MLflowLoggerCallback(tracking_uri=sqlite_url(folder / "mlflow.db"), experiment_name=project)


def _wandb(folder: Path, project: str) -> Any:
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project=project, group=folder.name, dir=str(folder))


LOGGERS: dict[str, tuple[str, Callable[[Path, str], Any]]] = {
    "tensorboard": ("tensorboardX", _tensorboard),
    "mlflow": ("mlflow", _mlflow),
    "wandb": ("wandb", _wandb),
}
