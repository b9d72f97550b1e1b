"""Metrics and losses of segmentation against slow forms of their formulas."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn.functional import cross_entropy

from evaluators.confusion import SegmentationScorer, confusion_matrix, overlap
from evaluators.data.masks.codes import IGNORED
from evaluators.outcomes import EvaluationError
from evaluators.pixel_loss import class_weights, dice_loss, pixel_cross_entropy
from spaces.errors import UsageError


def slow(prediction: np.ndarray, target: np.ndarray, classes: int) -> tuple[float, float, dict[int, float]]:
    """(mean IoU, pixel accuracy, IoU by class) pixel by pixel, over the classes in target or prediction."""
    pairs = [(p, t) for p, t in zip(prediction.ravel().tolist(), target.ravel().tolist(), strict=True) if t != IGNORED]
    found = {}
    for kind in range(classes):
        either = sum(kind in pair for pair in pairs)
        if either:
            found[kind] = sum(pair == (kind, kind) for pair in pairs) / either
    return sum(found.values()) / len(found), sum(p == t for p, t in pairs) / len(pairs), found


@given(st.integers(2, 6), st.integers(0, 2**32 - 1), st.floats(0, 0.9))
@settings(max_examples=30)
def test_the_mean_iou_of_batches_is_that_of_a_slow_count(classes: int, seed: int, ignored: float) -> None:
    rng = np.random.default_rng(seed)
    there = rng.choice(classes, rng.integers(1, classes + 1), replace=False)  # some classes may be nowhere
    target_BHW = rng.choice(there, (3, 4, 5)).astype(np.uint8)
    target_BHW[rng.random(target_BHW.shape) < ignored] = IGNORED
    target_BHW[0, 0, 0] = there[0]
    logits_BKHW = torch.from_numpy(rng.standard_normal((3, classes, 4, 5)).astype(np.float32))
    scorer = SegmentationScorer([f"c{kind}" for kind in range(classes)])
    for rows in (slice(0, 1), slice(1, 3)):
        scorer.update(logits_BKHW[rows], torch.from_numpy(target_BHW[rows]))
    metrics = scorer.compute()
    mean, accuracy, by_class = slow(logits_BKHW.argmax(1).numpy(), target_BHW, classes)
    assert metrics["mIoU"] == pytest.approx(mean)
    assert metrics["pixel_accuracy"] == pytest.approx(accuracy)
    assert {name: value for name, value in metrics.items() if name.startswith("IoU ")} == pytest.approx(
        {f"IoU c{kind}": value for kind, value in by_class.items()}
    )
    expected = cross_entropy(logits_BKHW, torch.from_numpy(target_BHW).long(), ignore_index=IGNORED)
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_class_that_is_nowhere_says_nothing_and_one_that_is_wrongly_predicted_counts_as_none() -> None:
    target = torch.tensor([[[0, 0, 1, 1]]], dtype=torch.uint8)
    right = overlap(confusion_matrix(torch.tensor([[[0, 0, 1, 1]]]), target, 3))
    assert right.mean_iou == 1
    assert math.isnan(float(right.iou_K[2]))
    wrong = overlap(confusion_matrix(torch.tensor([[[0, 0, 1, 2]]]), target, 3))
    assert wrong.iou_K.tolist() == [1, 0.5, 0]


def test_splits_without_labels_and_outputs_that_are_not_finite_are_results_about_the_candidate() -> None:
    scorer = SegmentationScorer(["a", "b"])
    scorer.update(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2), IGNORED, dtype=torch.uint8))
    with pytest.raises(EvaluationError, match="no pixel"):
        scorer.compute()
    scorer = SegmentationScorer(["a", "b"])
    scorer.update(torch.full((1, 2, 2, 2), math.nan), torch.zeros(1, 2, 2, dtype=torch.uint8))
    with pytest.raises(EvaluationError, match="became nan"):
        scorer.compute()


@pytest.mark.parametrize("weights", [None, [1.0, 0.2, 3.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torch_s_mean_and_nothing_where_no_pixel_is_labelled(
    weights: list[float] | None, smoothing: float
) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    target = torch.randint(0, 3, (2, 4, 4), dtype=torch.uint8)
    target[0, :2] = IGNORED
    weight_K = None if weights is None else torch.tensor(weights)
    loss = pixel_cross_entropy(logits, target, weight_K, smoothing)
    expected = cross_entropy(logits, target.long(), weight_K, ignore_index=IGNORED, label_smoothing=smoothing)
    assert torch.allclose(loss, expected)
    nothing = pixel_cross_entropy(logits, torch.full_like(target, IGNORED), weight_K, smoothing)
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_dice_is_its_formula_over_the_classes_of_the_target() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 4, 3, 3)
    target = torch.randint(0, 3, (2, 3, 3), dtype=torch.uint8)  # class 3 is nowhere
    target[1, 0] = IGNORED
    share, quotients = logits.softmax(1), []
    for kind in range(3):
        both = total = 0.0
        for b, y, x in np.argwhere(target.numpy() != IGNORED).tolist():
            is_it = float(target[b, y, x] == kind)
            both += float(share[b, kind, y, x]) * is_it
            total += float(share[b, kind, y, x]) + is_it
        quotients.append((2 * both + 1) / (total + 1))
    assert float(dice_loss(logits, target)) == pytest.approx(1 - sum(quotients) / 3, rel=1e-5)
    assert float(dice_loss(logits, torch.full_like(target, IGNORED))) == 0
    perfect = torch.nn.functional.one_hot(target.long().clamp(max=3), 4).movedim(3, 1) * 100.0
    assert float(dice_loss(perfect, target)) < 1e-3


def test_weights_of_classes_follow_their_frequency() -> None:
    assert class_weights(None, (1, 2)) is None
    assert class_weights((1, 3), (5, 5)) == (1.0, 3.0)
    assert class_weights("median", (80, 10, 10)) == (0.125, 1.0, 1.0)
    assert class_weights("median", (80, 0, 20)) == (0.25, 1.0, 1.0)
    enet = class_weights("enet", (90, 10))
    assert enet == pytest.approx((1 / math.log(1.92), 1 / math.log(1.12)), abs=1e-6)
    with pytest.raises(UsageError, match="are 3; valid: 2"):
        class_weights((1, 2, 3), (5, 5))
