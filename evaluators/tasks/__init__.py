"""What networks are trained for, one file each: its data, network, loss and metric."""

from evaluators.tasks.base import TASKS, Metric, Scorer, Task, TaskConfig, list_tasks

__all__ = ["TASKS", "Metric", "Scorer", "Task", "TaskConfig", "list_tasks"]
