"""The supernet: the network of all choices, its one training, and the evaluator that asks it."""

from evaluators.supernet.evaluator import SupernetEvaluator
from evaluators.supernet.network import Supernet, Switch
from evaluators.supernet.training import train_supernet

__all__ = ["Supernet", "SupernetEvaluator", "Switch", "train_supernet"]
