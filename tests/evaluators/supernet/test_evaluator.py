"""The supernet evaluator: one training serves all candidates."""

import torch

from evaluators.recipe import Recipe
from evaluators.supernet import SupernetEvaluator
from evaluators.tasks.classification import Classification
from evaluators.training.evaluator import TrainingEvaluator
from spaces import SearchSpace
from tests.evaluators.architectures import PLAIN, RICH

CPU = torch.device("cpu")


def test_supernet_evaluates_by_forward_passes(clutter: Classification, space: SearchSpace) -> None:
    recipe = Recipe(batch_size=32, crop=0)
    evaluator = SupernetEvaluator(clutter, space, recipe, calibration=128, device=CPU)
    first = evaluator.evaluate(RICH, fidelity=1, seed=0)
    other = evaluator.evaluate(PLAIN, fidelity=1, seed=0)
    assert len(evaluator.nets) == 1, "one training serves all"
    assert 0 <= other["accuracy"] <= 1
    again = evaluator.evaluate(RICH, fidelity=1, seed=0)
    assert (again["accuracy"], again["loss"]) == (first["accuracy"], first["loss"]), "others in between change nothing"
    fresh = SupernetEvaluator(clutter, space, recipe, calibration=128, device=CPU)
    assert fresh.evaluate(RICH, fidelity=1, seed=0)["loss"] == first["loss"]
    trained = TrainingEvaluator(clutter, recipe, device=CPU).train(
        RICH, fidelity=1, seed=0, start=evaluator.net(1, 0).weights(RICH)
    )
    assert trained.metrics["train_loss"] < 3
