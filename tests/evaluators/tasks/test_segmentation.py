"""Segmentation as a task: its section, network, batches, loss and judge, and a training that learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from evaluators.data.masks.codes import IGNORED
from evaluators.memory import training_memory
from evaluators.recipe import Recipe
from evaluators.tasks import Metric, Task, list_tasks
from evaluators.tasks.segmentation import PixelLoss, Segmentation, SegmentationConfig
from evaluators.training import TrainingEvaluator
from spaces import Architecture
from spaces.errors import UsageError
from spaces.network import NetworkSpec

CPU = torch.device("cpu")
PLAIN = Architecture.plain("attune_tiny")
DIGITS = {"name": "cluttered_digits", "image_size": 32, "sizes": [20], "digits": [1, 1], "fragments": 0}


def make(data: dict[str, Any] | None = None, **section: Any) -> Segmentation:
    section = {"head": "fcn", **section}
    small = {"train_size": 48, "val_size": 12, "test_size": 8}
    return SegmentationConfig.model_validate(section).build({**DIGITS, **small, **(data or {})}, seed=0)


@pytest.fixture(scope="module")
def task() -> Segmentation:
    return make()


def test_it_is_a_task_and_says_so(task: Segmentation) -> None:
    assert isinstance(task, Task)
    assert task.metric == Metric("mIoU", "share", higher_is_better=True, by_class="IoU")
    assert [task.count(split) for split in ("train", "val", "test")] == [48, 12, 8]
    assert task.validation_batch == 512
    described = task.describe()
    assert described["class_names"] == ["background", *"0123456789"]
    assert NetworkSpec.from_dict(described) == task.network
    (listed,) = [one for one in list_tasks() if one["name"] == "segmentation"]
    assert listed["metric"] == "mIoU"
    assert "deeplabv3" in listed["heads"]
    assert "cityscapes:PATH" in listed["data"]


def test_options_of_the_head_stand_beside_it_and_come_back_from_a_kept_configuration() -> None:
    section = SegmentationConfig.model_validate({"head": "deeplabv3", "output_stride": 8, "separable": True})
    assert section.make_head(5).to_dict() | {"output_stride": 8, "separable": True} == section.make_head(5).to_dict()
    assert SegmentationConfig.model_validate(section.model_dump(mode="json")) == section


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"head": "deeplab"}, "valid: deeplabv3, lraspp, fcn"),
        ({"head": "ssdlite"}, "valid: deeplabv3, lraspp, fcn"),
        ({"head": "fcn", "outputstride": 8}, "option of head 'fcn'.*outputstride"),
        ({"head": "fcn", "output_stride": 5}, "valid: 8, 16, 32"),
        ({"head": "fcn", "output_stride": 8, "options": {"output_stride": 8}}, "given twice"),
        ({"head": "fcn", "scale": [2, 1]}, r"valid: \[least, largest\]"),
        ({"head": "fcn", "class_weights": "some"}, "class_weights"),
        ({"head": "fcn", "dice": -1}, "dice"),
    ],
)
def test_sections_that_cannot_be_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, ValidationError), match=message):
        SegmentationConfig.model_validate(section)


def test_what_changes_a_score_changes_the_identity(task: Segmentation) -> None:
    others = [
        make(dice=1),
        make(class_weights="enet"),
        make(scale=[0.5, 2]),
        make(output_stride=16),
        make({"noise": 0.1}),
    ]
    assert len({task.identity, *(other.identity for other in others)}) == 6
    assert make().identity == task.identity


def test_batches_hold_pictures_with_their_masks_and_recipes_of_labels_are_refused(task: Segmentation) -> None:
    def batches(recipe: Recipe, seed: int = 0) -> list[tuple[torch.Tensor, Any]]:
        generator = torch.Generator().manual_seed(seed)
        return list(task.batches("train", batch_size=20, device=CPU, generator=generator, recipe=recipe))

    (x_BCHW, mask_BHW), _ = first = batches(Recipe(crop=4))
    assert (x_BCHW.shape, mask_BHW.shape, mask_BHW.dtype) == ((20, 1, 32, 32), (20, 32, 32), torch.uint8)
    assert x_BCHW.is_contiguous(memory_format=torch.channels_last)
    assert (mask_BHW == IGNORED).any()
    again = batches(Recipe(crop=4))
    assert all(torch.equal(one[0], other[0]) for one, other in zip(first, again, strict=True))
    ordered = torch.cat([mask for _, mask in task.batches("val", batch_size=5, device=CPU)])
    assert torch.equal(ordered, task.data.val.masks_NHW)
    assert len(list(task.batches("val", batch_size=5, device=CPU, limit=7))) == 2
    for name in ("cutout", "mixup", "cutmix"):
        with pytest.raises(UsageError, match=f"training.{name}"):
            batches(Recipe(**{name: 1}))


def test_an_auxiliary_head_s_loss_counts_half(task: Segmentation) -> None:
    target = task.dummy_target(2)
    assert target.shape == (2, 32, 32)
    first, second = (torch.randn(2, 11, 32, 32) for _ in range(2))
    single = [task.loss(one, target, smoothing=0.1) for one in (first, second)]
    assert torch.allclose(task.loss((first, second), target, smoothing=0.1), single[0] + 0.5 * single[1])
    both = replace(task, criterion=PixelLoss(dice=1.0))
    assert both.loss(first, target) > task.loss(first, target)


def test_memory_is_estimated_without_data(task: Segmentation) -> None:
    few, many = (training_memory(PLAIN, task=task, network=task.network, batch=batch) for batch in (2, 32))
    assert many > few


def test_a_training_learns_and_repeats_to_the_bit() -> None:
    task = make({"train_size": 96}, dice=1)
    recipe = Recipe(optimizer="adamw", lr=0.01, batch_size=16, crop=0, warmup=0.3, label_smoothing=0)
    evaluator = TrainingEvaluator(task, recipe, device=CPU)
    losses: list[float] = []

    def report(epoch: int, metrics: dict[str, Any]) -> bool:
        losses.append(metrics["train_loss"])
        return True

    first, again = (evaluator.evaluate(PLAIN, fidelity=3, seed=1, report=report) for _ in range(2))
    assert first["mIoU"] == again["mIoU"]
    assert losses[:3] == losses[3:]
    assert losses[2] < 0.8 * losses[0]
    assert "IoU background" in first
