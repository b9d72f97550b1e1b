"""Training a candidate: the loop, the optimizer, what is written on the way, and the evaluator."""

from evaluators.recipe import PRESETS, Recipe
from evaluators.training.checkpoint import save_weights
from evaluators.training.device import pick_device
from evaluators.training.evaluator import TrainingEvaluator
from evaluators.training.loop import Trained, train_model, validate

__all__ = [
    "PRESETS",
    "Recipe",
    "Trained",
    "TrainingEvaluator",
    "pick_device",
    "save_weights",
    "train_model",
    "validate",
]
