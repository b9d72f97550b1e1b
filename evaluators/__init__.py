"""What a candidate costs and how good it is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluators.base import Evaluator, list_evaluators
    from evaluators.cost import Cost, CostTable, count_cost
    from evaluators.metric import Metric
    from evaluators.outcomes import EvaluationError
    from evaluators.recipe import Recipe
    from evaluators.tasks.base import Task
    from evaluators.training.evaluator import TrainingEvaluator

__all__ = [
    "Cost",
    "CostTable",
    "EvaluationError",
    "Evaluator",
    "Metric",
    "Recipe",
    "Task",
    "TrainingEvaluator",
    "count_cost",
    "list_evaluators",
]

# torch and timm take seconds to import; whoever does without should not wait for them.
_HOMES = {
    "Cost": "cost",
    "CostTable": "cost",
    "EvaluationError": "outcomes",
    "Evaluator": "base",
    "Metric": "metric",
    "Recipe": "recipe",
    "Task": "tasks.base",
    "TrainingEvaluator": "training.evaluator",
    "count_cost": "cost",
    "list_evaluators": "base",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"evaluators.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'evaluators' has no attribute {name!r}")
