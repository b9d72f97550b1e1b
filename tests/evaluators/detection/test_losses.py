"""Losses and matching are torchvision's on the same outputs and anchors, and stand what torchvision does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from evaluators.detection.losses import encode, fcos_loss, retinanet_loss, ssd_loss
from evaluators.detection.matching import match_ssd
from evaluators.detection.two_stages import faster_rcnn_loss, sample

SIZE, CLASSES, BATCH = 64, 5, 3
SSD_WEIGHTS, PLAIN = (10.0, 10.0, 5.0, 5.0), (1.0, 1.0, 1.0, 1.0)


class Backbone(nn.Module):
    """Nothing but what torchvision asks of one."""

    out_channels = 8


def default_boxes() -> tuple[SSD, Tensor]:
    generator = DefaultBoxGenerator([[2], [2, 3]])
    return SSD(Backbone(), generator, (SIZE, SIZE), CLASSES, head=nn.Identity()), grid(generator, (8, 4))


def grid(generator: nn.Module, sides: tuple[int, ...]) -> Tensor:
    images = ImageList(torch.zeros(1, 3, SIZE, SIZE), [(SIZE, SIZE)])
    return generator(images, [torch.zeros(1, 8, side, side) for side in sides])[0]


def targets(seed: int, numbers: tuple[int, ...] = (4, 0, 1)) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Those of torchvision, one dict an image, and ours, padded; labels from 0."""
    generator = torch.Generator().manual_seed(seed)
    most = max(numbers) + 1
    ours = {"boxes": torch.zeros(len(numbers), most, 4), "labels": torch.full((len(numbers), most), -1)}
    theirs = []
    for index, number in enumerate(numbers):
        corner = torch.rand(number, 2, generator=generator) * 40
        side = 6 + torch.rand(number, 2, generator=generator) * 18
        boxes, labels = (
            torch.cat([corner, corner + side], 1),
            torch.randint(CLASSES - 1, (number,), generator=generator),
        )
        ours["boxes"][index, :number], ours["labels"][index, :number] = boxes, labels
        theirs.append({"boxes": boxes, "labels": labels})
    return theirs, ours


def outputs(anchors: Tensor, classes: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, len(anchors))
    made = {
        "boxes": torch.randn(*shape, 4, generator=generator).relu(),
        "scores": torch.randn(*shape, classes, generator=generator),
        "centerness": torch.randn(*shape, 1, generator=generator),
    }
    return {name: values.requires_grad_() for name, values in made.items()}


def theirs_of(output: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "bbox_regression": output["boxes"],
        "cls_logits": output["scores"],
        "bbox_ctrness": output["centerness"],
    }


def check(ours: dict[str, Tensor], theirs: dict[str, Tensor], output: dict[str, Tensor]) -> None:
    """The same losses, and the same gradients of their sum."""
    names = {"classification": "classification", "boxes": "bbox_regression", "centerness": "bbox_ctrness"}
    for name, loss in ours.items():
        torch.testing.assert_close(loss, theirs[names[name]], rtol=1e-5, atol=1e-6)
    inputs = [output["boxes"], output["scores"]]
    one = torch.autograd.grad(sum(ours.values()), inputs)
    two = torch.autograd.grad(sum(theirs.values()), inputs)
    for mine, other in zip(one, two, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_ssd_is_torchvisions(seed: int) -> None:
    model, anchors = default_boxes()
    theirs, ours = targets(seed)
    output = outputs(anchors, CLASSES, seed)
    matched = [
        model.proposal_matcher(box_iou(one["boxes"], anchors)) if len(one["boxes"]) else torch.full((len(anchors),), -1)
        for one in theirs
    ]
    shifted = [{**one, "labels": one["labels"] + 1} for one in theirs]  # background is their class 0
    told = model.compute_loss(shifted, theirs_of(output), [anchors] * BATCH, matched)
    check(ssd_loss(output, ours, anchors, SSD_WEIGHTS), told, output)
    assert (match_ssd(ours["boxes"], ours["labels"] >= 0, anchors) == torch.stack(matched)).all()


@pytest.mark.parametrize("seed", range(3))
def test_retinanet_is_torchvisions(seed: int) -> None:
    generator = AnchorGenerator(((8, 12), (16, 24)), ((0.5, 1.0, 2.0),) * 2)
    model = RetinaNet(Backbone(), CLASSES, anchor_generator=generator)
    anchors = grid(generator, (8, 4))
    theirs, ours = targets(seed)
    output = outputs(anchors, CLASSES, seed)
    told = model.compute_loss(theirs, theirs_of(output), [anchors] * BATCH)
    check(retinanet_loss(output, ours, anchors, PLAIN), told, output)


@pytest.mark.parametrize("seed", range(3))
def test_fcos_is_torchvisions(seed: int) -> None:
    generator = AnchorGenerator(((4,), (8,), (16,)), ((1.0,),) * 3)
    backbone = Backbone()
    backbone.out_channels = 32  # type: ignore[misc]  # its group norm asks for that
    model = FCOS(backbone, CLASSES, anchor_generator=generator)
    sides = (16, 8, 4)
    anchors = grid(generator, sides)
    theirs, ours = targets(seed)
    output = outputs(anchors, CLASSES, seed)
    told = model.compute_loss(theirs, theirs_of(output), [anchors] * BATCH, [side * side for side in sides])
    check(fcos_loss(output, ours, anchors), told, output)


@pytest.mark.parametrize("numbers", [(0, 0, 0), (1, 0, 2)], ids=["no objects", "boxes without width"])
def test_nothing_to_find_and_boxes_without_width_are_safe(numbers: tuple[int, ...]) -> None:
    _, ours = targets(0, numbers)
    ours["boxes"][..., 2] = ours["boxes"][..., 0]
    generator = AnchorGenerator(((4,), (8,), (16,)), ((1.0,),) * 3)
    squares, defaults = grid(generator, (16, 8, 4)), default_boxes()[1]
    for anchors, loss in (
        (defaults, lambda output: ssd_loss(output, ours, defaults, SSD_WEIGHTS)),
        (squares, lambda output: retinanet_loss(output, ours, squares, PLAIN)),
        (squares, lambda output: fcos_loss(output, ours, squares)),
    ):
        output = outputs(anchors, CLASSES, 1)
        total = sum(loss(output).values())
        total.backward()
        assert torch.isfinite(total)
        assert all(torch.isfinite(values.grad).all() for values in output.values() if values.grad is not None)


def test_large_batches_are_matched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    _, anchors = default_boxes()
    _, ours = targets(4)
    whole = match_ssd(ours["boxes"], ours["labels"] >= 0, anchors)
    monkeypatch.setattr("evaluators.detection.matching.PAIRS", 1)
    assert torch.equal(whole, match_ssd(ours["boxes"], ours["labels"] >= 0, anchors))


def test_boxes_are_encoded_as_torchvision_does() -> None:
    _, anchors = default_boxes()
    boxes = targets(1, (1,))[0][0]["boxes"].expand(len(anchors), 4)
    coder = BoxCoder(SSD_WEIGHTS)
    torch.testing.assert_close(encode(boxes[None], anchors, SSD_WEIGHTS)[0], coder.encode_single(boxes, anchors))


def test_both_stages_of_faster_rcnn_have_torchvisions_losses() -> None:
    """With so few anchors and regions that every one is sampled, on images with objects and without."""
    anchors = torch.cat([torch.rand(60, 2) * 40, torch.rand(60, 2) * 20 + 41], 1)
    theirs, ours = targets(2)
    theirs = [{**one, "labels": one["labels"] + 1} for one in theirs]
    made = outputs(anchors, 1, 0)
    output: dict[str, Any] = {"boxes": made["boxes"], "scores": made["scores"], "proposals": torch.zeros(BATCH, 50, 4)}
    for index, one in enumerate(theirs):
        near = torch.cat([one["boxes"].repeat(4, 1) + torch.randn(4 * len(one["boxes"]), 4), anchors[:20]])
        output["proposals"][index, : len(near)] = near
    layers = nn.Linear(4, CLASSES), nn.Linear(4, 4 * CLASSES)  # the second stage: of a region, its own corners

    class Read:
        def read(self, boxes_BR4: Tensor) -> tuple[Tensor, Tensor]:
            return layers[0](boxes_BR4 / SIZE), layers[1](boxes_BR4 / SIZE)

    found = faster_rcnn_loss({**output, "regions": Read()}, ours, anchors, SSD_WEIGHTS)

    rpn = RegionProposalNetwork(nn.Identity(), nn.Identity(), 0.7, 0.3, 256, 0.5, {}, {}, 0.7)  # type: ignore[arg-type]
    labels, matched = rpn.assign_targets_to_anchors([anchors] * BATCH, theirs)
    wanted = rpn.box_coder.encode(matched, [anchors] * BATCH)
    expected = rpn.compute_loss(output["scores"].flatten(0, 1), output["boxes"].flatten(0, 1), labels, wanted)
    heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, SSD_WEIGHTS, 0.05, 0.5, 100)
    proposals = [one[(one[:, 2:] > one[:, :2]).all(1)] for one in output["proposals"]]
    sampled, _, labels, wanted = heads.select_training_samples(proposals, theirs)
    regions = torch.cat(sampled) / SIZE
    second = fastrcnn_loss(layers[0](regions), layers[1](regions), labels, wanted)
    for name, value in zip(("objectness", "proposals", "classification", "boxes"), (*expected, *second), strict=True):
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
        assert value > 0


def test_samples_have_no_more_objects_than_half_and_are_filled_up() -> None:
    positive = torch.arange(600).expand(2, -1) < torch.tensor([[300], [5]])
    for count, positives in ((256, [128, 5]), (512, [128, 5])):
        taken = sample(positive, ~positive, count)
        assert (taken & positive).sum(1).tolist() == positives
        assert taken.sum(1).tolist() == [count] * 2 if count == 256 else taken.sum(1).tolist() == [128 + 300, 512]
    with torch.no_grad():
        assert torch.equal(sample(positive, ~positive, 256), sample(positive, ~positive, 256))
