"""The task of detection: networks of every head learn boxes in the loop, are judged, and refuse what they cannot do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from evaluators.memory import training_memory
from evaluators.recipe import Recipe
from evaluators.sections import SectionError
from evaluators.tasks.base import TASKS
from evaluators.tasks.detection import DetectionConfig
from evaluators.training.loop import backward, train_model, validate
from search.config import Config
from spaces.errors import UsageError
from spaces.placement import Architecture

DATA = {
    "name": "cluttered_digits",
    "train_size": 8,
    "val_size": 4,
    "test_size": 4,
    "image_size": 48,
    "sizes": [16, 24],
}
RECIPE: dict[str, Any] = {"batch_size": 4, "optimizer": "adamw", "lr": 0.002, "label_smoothing": 0, "warmup": 0}
CPU = torch.device("cpu")
ARCH = Architecture.parse("attune_tiny:se-r4,none,none")


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    """A task for each head on one small set."""
    narrow = {"retinanet": {"channels": 32}, "fcos": {"channels": 32}, "fasterrcnn": {"channels": 16, "width": 32}}
    return {
        head: DetectionConfig(head=head, options=narrow.get(head, {})).build(DATA, seed=0)
        for head in ("ssdlite", "retinanet", "fcos", "fasterrcnn")
    }


@pytest.mark.parametrize("head", ["ssdlite", "retinanet", "fcos", "fasterrcnn"])
def test_a_network_learns_its_boxes(tasks: dict[str, Any], head: str) -> None:
    task = tasks[head]
    torch.manual_seed(0)
    model = task.network.build(ARCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x_BCHW, target = next(iter(task.batches("train", batch_size=4, device=CPU)))
    losses = []
    for _ in range(10):
        loss, micro_batch = backward(model, x_BCHW, target, task, Recipe(**RECIPE), 4)
        losses.append(float(loss))
        optimizer.step()
        optimizer.zero_grad()
    assert micro_batch == 4
    assert min(losses) < 0.9 * losses[0]
    metrics = validate(model, task.batches("val", batch_size=4, device=CPU), task, CPU, "off")
    assert 0 <= metrics["mAP"] <= metrics["mAP50"] <= 1
    assert metrics["loss"] > 0


def test_one_image_at_a_time_and_epochs_of_the_loop(tasks: dict[str, Any]) -> None:
    recipe = Recipe(**{**RECIPE, "batch_size": 1, "ema": 0.9, "crop": 2})
    task = tasks["ssdlite"]
    trained = train_model(lambda: task.network.build(ARCH), task, recipe, epochs=1, seed=0, device=CPU)
    assert {"mAP", "mAP50", "mAP75", "loss", "train_loss"} <= trained.metrics.keys()


@pytest.mark.parametrize("head", ["ssdlite", "fcos", "fasterrcnn"])
def test_memory_is_estimated_without_data(tasks: dict[str, Any], head: str) -> None:
    task = tasks[head]
    one, two = (training_memory(ARCH, task=task, network=task.network, batch=batch) for batch in (1, 8))
    assert 100 * 2**20 < one < two


def test_a_detector_that_finds_everything_has_an_average_precision_of_one(tasks: dict[str, Any]) -> None:
    """Raw outputs made from the truth: encoding, decoding, suppression and COCO's program belong together."""
    from evaluators.detection.losses import encode
    from evaluators.detection.matching import match_ssd

    task = tasks["ssdlite"]
    model = task.network.build(Architecture.plain("attune_tiny")).eval()
    scorer = task.scorer()
    with torch.inference_mode():
        for x_BCHW, target in task.batches("val", batch_size=4, device=CPU):
            output = model(x_BCHW)
            match_BA = match_ssd(target["boxes"], target["labels"] >= 0, output["anchors"])
            at_BA = match_BA.clamp_min(0)
            boxes_BA4 = target["boxes"].gather(1, at_BA[..., None].expand(-1, -1, 4))
            output["boxes"] = encode(boxes_BA4, output["anchors"], task.head.box_weights)
            wanted_BA = torch.where(match_BA >= 0, target["labels"].gather(1, at_BA) + 1, 0)
            output["scores"] = 20.0 * torch.nn.functional.one_hot(wanted_BA, 11).float()
            scorer.update(output, target)
    assert scorer.compute()["mAP"] == pytest.approx(1)


def test_classes_count_the_background_where_the_head_does(tasks: dict[str, Any]) -> None:
    assert tasks["ssdlite"].head.classes == 11
    assert tasks["fcos"].head.classes == 10
    assert DetectionConfig(head="ssd").make_head(20).classes == 21


def test_what_it_is_is_told(tasks: dict[str, Any]) -> None:
    told = tasks["fcos"].describe()
    assert told["postprocess"]["kind"] == "centerness"
    assert told["head"] == {"name": "fcos", "classes": 10, "channels": 32, "frozen_norm": False}
    assert tasks["fcos"].identity != tasks["retinanet"].identity
    assert tasks["fcos"].summary.objects["val"] > 0
    assert TASKS["detection"].listed()["heads"] == ["ssdlite", "ssd", "retinanet", "fcos", "fasterrcnn"]


def test_sections_take_options_of_the_head_beside_it() -> None:
    config = Config.model_validate(
        {
            "task": {"name": "detection", "head": "fcos", "channels": 64},
            "data": "cluttered_digits",
            "space": {"backbone": "attune_tiny"},
        }
    )
    assert config.task.make_head(3).channels == 64


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"head": "yolo"}, "valid: ssdlite, ssd, retinanet, fcos, fasterrcnn"),
        ({"head": "faster_rcnn"}, "unknown head of a detection that can be trained 'faster_rcnn'"),
        ({"head": "ssdlite", "channels": 64}, "'channels'"),
        ({"augment": "mosaic"}, "augment"),
    ],
)
def test_wrong_sections_are_refused_in_one_line(section: dict[str, Any], words: str) -> None:
    given = {"task": {"name": "detection", **section}, "data": "cluttered_digits", "space": {"backbone": "attune_tiny"}}
    with pytest.raises((UsageError, SectionError, ValueError)) as caught:
        Config.model_validate(given)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("head", "changed", "words"),
    [
        ("ssdlite", {"mixup": 0.2}, "training.mixup 0.2 is for classes of images"),
        ("fcos", {"label_smoothing": 0.1}, "training.label_smoothing 0.1 is for cross-entropy"),
    ],
)
def test_recipes_for_classes_are_refused(
    tasks: dict[str, Any], head: str, changed: dict[str, float], words: str
) -> None:
    recipe = Recipe(**{**RECIPE, **changed})
    with pytest.raises(UsageError, match=words):
        tasks[head].batches("train", batch_size=4, device=CPU, generator=torch.Generator(), recipe=recipe)


@pytest.mark.parametrize("key", ["cutout", "mixup", "cutmix"])
def test_recipes_that_mix_pictures_are_refused_with_the_configuration(key: str) -> None:
    given = {
        "task": "detection",
        "data": "cluttered_digits",
        "space": {"backbone": "attune_tiny"},
        "training": {key: 1},
    }
    with pytest.raises(ValueError, match=rf"training\.{key} 1.* is for classes of images; valid for detection: 0"):
        Config.model_validate(given)
