"""Memory: what a training step holds at its peak, and the refusal of what cannot fit."""

from dataclasses import replace

import pytest
import torch

from evaluators.data import load_data
from evaluators.memory import FIXED, MARGIN, check_memory, free_memory, parse_memory, training_memory
from evaluators.outcomes import EvaluationError
from evaluators.recipe import Recipe
from evaluators.tasks.classification import Classification
from evaluators.training.evaluator import TrainingEvaluator
from spaces.attention import list_attentions
from spaces.errors import UsageError
from spaces.network import NetworkSpec
from spaces.placement import Architecture

TASK = Classification(load_data("digits"))
NETWORK = NetworkSpec.classifier(32, num_classes=10)
PLAIN = Architecture.plain("attune_tiny")


def tensors(arch, network=NETWORK, **options):
    """The bytes of tensors alone."""
    return (training_memory(arch, task=TASK, network=network, **options) - FIXED) / MARGIN


def test_memory_grows_with_batch_optimizer_and_maps():
    one, two, four = (tensors(PLAIN, batch=batch) for batch in (8, 16, 32))
    assert four - two == pytest.approx(2 * (two - one), rel=0.02)
    weights = 4 * sum(p.numel() for p in NETWORK.build(PLAIN).parameters())
    assert one > 3 * weights
    assert tensors(PLAIN, batch=8, optimizer_states=2) - one == pytest.approx(weights, abs=2)
    assert tensors(PLAIN, batch=8, average=True) - one == pytest.approx(weights, abs=2)
    assert tensors(PLAIN, batch=8, validation_batch=1024) > tensors(PLAIN, batch=8, validation_batch=512) > one
    scores = 8 * 16 * 16 * 16 * 16 * 4  # the softmax over all pairs of pixels of a 16 x 16 map
    assert tensors(Architecture.parse("attune_tiny:augmented_conv,none,none"), batch=8) - one >= scores
    assert tensors(Architecture.parse("attune_tiny:non_local,none,none"), batch=8) - one < scores  # the fused kernel


def test_memory_follows_the_pixels_of_a_size_that_is_not_square():
    square, flat, long = (NetworkSpec.classifier(size, num_classes=10) for size in (32, (32, 64), (64, 32)))
    one, two = tensors(PLAIN, square, batch=8), tensors(PLAIN, square, batch=16)
    assert tensors(PLAIN, flat, batch=8) == tensors(PLAIN, long, batch=8) == pytest.approx(two, rel=0.02)
    assert two > one


@pytest.mark.parametrize("name", list_attentions())
def test_every_attention_can_be_estimated(name):
    arch = Architecture.parse(f"attune_tiny:{name},none,{name}@stage")
    assert tensors(arch, replace(NETWORK, identity_start=True), batch=4) > tensors(PLAIN, batch=4)


def test_a_training_that_cannot_fit_is_refused():
    large = NetworkSpec.classifier(224, num_classes=1000)
    with pytest.raises(
        EvaluationError, match=r"not started: .* batch of 64 needs about [0-9,]+ MiB, but there are 100 MiB"
    ):
        check_memory(Architecture.plain("resnet50"), 100 * 2**20, batch=64, task=TASK, network=large)
    check_memory(PLAIN, 2**30, batch=8, task=TASK, network=NETWORK)
    evaluator = TrainingEvaluator(TASK, Recipe(epochs=1), memory=2**20, device=torch.device("cpu"))
    with pytest.raises(EvaluationError, match="but there are 1 MiB"):
        evaluator.evaluate(PLAIN, fidelity=1, seed=0)


def test_memory_is_read():
    assert parse_memory("512M") == parse_memory("0.5 GiB") == parse_memory(2**29) == 2**29
    for wrong in ("much", "-1G", 0, True, "9" * 400, 10**400, 10**5000, "1e9"):
        with pytest.raises(UsageError, match=r"1\.5G"):
            parse_memory(wrong)
    assert 0 < free_memory(torch.device("cpu")) < 2**50
