"""What a candidate costs and how good it is."""

from evaluators.base import EvaluationError, Evaluator
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


def list_evaluators() -> list[dict[str, str]]:
    """The evaluators by name, with the first line of what each does."""
    from evaluators.proxies import ProxyEvaluator
    from evaluators.supernet import SupernetEvaluator
    from evaluators.table import TableEvaluator

    kinds = {
        "training": TrainingEvaluator,
        "supernet": SupernetEvaluator,
        "proxy": ProxyEvaluator,
        "table": TableEvaluator,
    }
    return [{"name": name, "what": (kind.__doc__ or "").partition("\n")[0]} for name, kind in kinds.items()]
