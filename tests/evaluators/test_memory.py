"""Memory: what a training step holds at its peak, and the refusal of what cannot fit."""

import pytest
import torch

from evaluators.base import EvaluationError
from evaluators.data import load_data
from evaluators.memory import FIXED, MARGIN, check_memory, free_memory, parse_memory, training_memory
from evaluators.training import Recipe, TrainingEvaluator
from spaces.attention import list_attentions
from spaces.backbone import build_model
from spaces.errors import UsageError
from spaces.placement import Architecture

SETTING = {"image_size": 32, "num_classes": 10}
PLAIN = Architecture.plain("attune_tiny")


def tensors(arch, **options):
    """The bytes of tensors alone."""
    return (training_memory(arch, **SETTING, **options) - FIXED) / MARGIN


def test_memory_grows_with_batch_optimizer_and_maps():
    one, two, four = (tensors(PLAIN, batch=batch) for batch in (8, 16, 32))
    assert four - two == pytest.approx(2 * (two - one), rel=0.02)
    weights = 4 * sum(p.numel() for p in build_model(PLAIN, 10, image_size=32).parameters())
    assert one > 3 * weights
    assert tensors(PLAIN, batch=8, optimizer_states=2) - one == pytest.approx(weights, abs=2)
    assert tensors(PLAIN, batch=8, average=True) - one == pytest.approx(weights, abs=2)
    assert tensors(PLAIN, batch=8, validation_batch=1024) > tensors(PLAIN, batch=8, validation_batch=512) > one
    scores = 8 * 16 * 16 * 16 * 16 * 4  # the softmax over all pairs of pixels of a 16 x 16 map
    assert tensors(Architecture.parse("attune_tiny:augmented_conv,none,none"), batch=8) - one >= scores
    assert tensors(Architecture.parse("attune_tiny:non_local,none,none"), batch=8) - one < scores  # the fused kernel


@pytest.mark.parametrize("name", list_attentions())
def test_every_attention_can_be_estimated(name):
    arch = Architecture.parse(f"attune_tiny:{name},none,{name}@stage")
    assert tensors(arch, batch=4, identity_init=True) > tensors(PLAIN, batch=4)


def test_a_training_that_cannot_fit_is_refused():
    with pytest.raises(
        EvaluationError, match=r"not started: .* batch of 64 needs about [0-9,]+ MiB, but there are 100 MiB"
    ):
        check_memory(Architecture.plain("resnet50"), 100 * 2**20, batch=64, image_size=224)
    check_memory(PLAIN, 2**30, batch=8, **SETTING)
    evaluator = TrainingEvaluator(load_data("digits"), Recipe(epochs=1), memory=2**20, device=torch.device("cpu"))
    with pytest.raises(EvaluationError, match="but there are 1 MiB"):
        evaluator.evaluate(PLAIN, fidelity=1, seed=0)


def test_memory_is_read():
    assert parse_memory("512M") == parse_memory("0.5 GiB") == parse_memory(2**29) == 2**29
    for wrong in ("much", "-1G", 0, True):
        with pytest.raises(UsageError, match=r"1\.5G"):
            parse_memory(wrong)
    assert 0 < free_memory(torch.device("cpu")) < 2**50
