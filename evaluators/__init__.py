"""What a candidate costs and how good it is."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evaluators.base import EvaluationError, Evaluator

if TYPE_CHECKING:
    from evaluators.cost import Cost, CostTable, count_cost
    from evaluators.training import Recipe, TrainingEvaluator

__all__ = [
    "Cost",
    "CostTable",
    "EvaluationError",
    "Evaluator",
    "Recipe",
    "TrainingEvaluator",
    "count_cost",
    "list_evaluators",
]

# timm takes seconds to import; a worker whose evaluator does without should not wait for it.
_HOMES = {
    "Cost": "cost",
    "CostTable": "cost",
    "count_cost": "cost",
    "Recipe": "training",
    "TrainingEvaluator": "training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"evaluators.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'evaluators' has no attribute {name!r}")


def list_evaluators() -> list[dict[str, str]]:
    """The evaluators by name, with the first line of what each does."""
    from evaluators.proxies import ProxyEvaluator
    from evaluators.supernet import SupernetEvaluator
    from evaluators.table import TableEvaluator
    from evaluators.training import TrainingEvaluator

    kinds = {
        "training": TrainingEvaluator,
        "supernet": SupernetEvaluator,
        "proxy": ProxyEvaluator,
        "table": TableEvaluator,
    }
    return [{"name": name, "what": (kind.__doc__ or "").partition("\n")[0]} for name, kind in kinds.items()]
