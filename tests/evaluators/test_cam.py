"""Maps of attention against networks for which they are known in closed form, and on real ones of every task."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evaluators.cam import grad_cam, last_layers, layer_cam
from evaluators.detection.strongest import strongest
from evaluators.tasks.base import KeptStem, explaining
from evaluators.tasks.classification import ClassificationConfig
from evaluators.tasks.detection import DetectionConfig
from evaluators.tasks.segmentation import SegmentationConfig
from spaces import Architecture
from spaces.errors import UsageError

CPU = torch.device("cpu")
ARCH = Architecture.parse("attune_tiny:se-r4,none,cbam-r4")
DIGITS = {"name": "cluttered_digits", "train_size": 8, "val_size": 6, "test_size": 4, "image_size": 48, "sizes": [24]}


class Averaged(nn.Module):
    """A convolution, ReLU in place, mean over the map, and a linear layer: CAM's own network (Zhou et al., CVPR 2016)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.fc(self.relu(self.conv(x_BCHW)).mean((2, 3)))
        return logits_BK


def scaled(map_BHW: Tensor) -> Tensor:
    return map_BHW.relu() / map_BHW.relu().amax((1, 2), keepdim=True)


def test_grad_cam_of_averaged_maps_is_cam() -> None:
    """dS / dA is w / P everywhere: the map is relu(sum_c w_c A_c), and LayerCAM's has the positive weights alone."""
    model, x_BCHW = Averaged().eval(), torch.randn(2, 3, 9, 7)
    maps_BCHW, weight_C = model.relu(model.conv(x_BCHW)).detach(), model.fc.weight[2].detach()
    expected_BHW = torch.einsum("bchw,c->bhw", maps_BCHW, weight_C)
    found_BHW = grad_cam(model, x_BCHW, "relu", lambda logits_BK: logits_BK[:, 2])
    torch.testing.assert_close(found_BHW, scaled(expected_BHW))
    positive_BHW = torch.einsum("bchw,c->bhw", maps_BCHW, weight_C.relu())
    torch.testing.assert_close(
        layer_cam(model, x_BCHW, "relu", lambda logits_BK: logits_BK[:, 2]), scaled(positive_BHW)
    )
    assert all(weight.grad is None for weight in model.parameters())


def test_a_layer_whose_output_is_written_over_is_seen_as_it_was() -> None:
    model, x_BCHW = Averaged().eval(), torch.randn(1, 3, 9, 7)
    before_BCHW, weight_C = model.conv(x_BCHW).detach(), model.fc.weight[0].detach()
    slope_BCHW = (before_BCHW > 0) * weight_C[:, None, None] / 63
    expected_BHW = (slope_BCHW.mean((2, 3), keepdim=True) * before_BCHW).sum(1)
    torch.testing.assert_close(grad_cam(model, x_BCHW, "conv", lambda one: one[:, 0]), scaled(expected_BHW))


def test_a_score_of_one_place_is_found_there_by_layer_cam() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 1, 1)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.abs_()
    found_BHW = layer_cam(model, torch.ones(1, 1, 6, 6), "0", lambda y_B1HW: y_B1HW[:, 0, 4, 1])
    expected_BHW = torch.zeros(1, 6, 6)
    expected_BHW[0, 4, 1] = 1
    torch.testing.assert_close(found_BHW, expected_BHW)


def test_where_nothing_speaks_for_a_score_the_map_is_zero() -> None:
    model, x_BCHW = Averaged().eval(), torch.randn(2, 3, 9, 7)
    for target in (lambda one: 0 * one[:, 0], lambda one: torch.ones(len(one))):
        found_BHW = grad_cam(model, x_BCHW, "relu", target)
        assert found_BHW.shape == (2, 9, 7)
        assert (found_BHW == 0).all()


def test_what_cannot_be_explained_is_refused_in_one_line() -> None:
    model, x_BCHW = Averaged(), torch.randn(2, 3, 9, 7)
    with pytest.raises(UsageError, match=r"training mode"):
        grad_cam(model, x_BCHW, "relu", lambda one: one[:, 0])
    model.eval()
    model.unused = nn.ReLU()
    for layer, target, message in (
        ("none", lambda one: one[:, 0], "no module 'none'"),
        ("fc", lambda one: one[:, 0], r"gives no maps \(B, C, h, w\) but something of shape \(2, 4\)"),
        ("unused", lambda one: one[:, 0], "never called"),
        ("relu", lambda one: one, r"scores of shape \(2, 4\) for 2 pictures"),
    ):
        with pytest.raises(UsageError, match=message):
            grad_cam(model, x_BCHW, layer, target)
        assert not any(module._forward_hooks for module in model.modules())


TASKS: dict[str, Any] = {
    "classification": lambda: ClassificationConfig().build("digits", seed=0),
    "segmentation": lambda: SegmentationConfig(head="fcn").build({**DIGITS, "digits": [1, 1]}, seed=0),
    "detection": lambda: DetectionConfig(head="ssdlite").build(DIGITS, seed=0),
}


@pytest.mark.parametrize("name", TASKS)
def test_the_tasks_say_what_is_explained(name: str) -> None:
    task = TASKS[name]()
    assert explaining(KeptStem(task)) is not None
    assert explaining(object()) is None
    torch.manual_seed(0)
    model = task.network.build(ARCH).eval()
    x_BCHW, target = next(iter(task.batches("val", batch_size=4, device=CPU)))
    explained = task.explain(model(x_BCHW), target)
    assert explained.score_B.shape == (4,)
    assert len(explained.words) == 4
    layers = last_layers(task.network, ARCH.backbone)
    assert len(layers) == 3
    method = {"Grad-CAM": grad_cam, "LayerCAM": layer_cam}[task.cam]
    for layer in layers:
        maps_BHW = method(model, x_BCHW, layer, lambda output: task.explain(output, target).score_B)
        assert maps_BHW.shape == (4, *x_BCHW.shape[2:])
        assert ((maps_BHW >= 0) & (maps_BHW <= 1)).all()


def test_a_segmentation_is_explained_by_its_logits_where_the_class_is_predicted() -> None:
    task = TASKS["segmentation"]()
    _, target_BHW = next(iter(task.batches("val", batch_size=2, device=CPU)))
    digit_B = [int(one[one > 0].mode().values) for one in target_BHW]
    logits_BKHW = torch.nn.functional.one_hot(target_BHW.long(), 11).permute(0, 3, 1, 2).float() * 3
    explained = task.explain(logits_BKHW, target_BHW)
    for index, digit in enumerate(digit_B):
        assert explained.words[index] == f"class {digit - 1}, IoU 1.00 in this picture"
        assert explained.score_B[index] == 3 * (target_BHW[index] == digit).sum()
    elsewhere = task.explain(torch.eye(11)[0][:, None, None].expand(2, 11, *target_BHW.shape[1:]), target_BHW)
    assert elsewhere.words[0] == f"class {digit_B[0] - 1}, which is predicted nowhere"
    assert (elsewhere.score_B == 0).all()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "centerness"])
def test_the_strongest_boxes_are_those_that_detections_begin_with(kind: str) -> None:
    scores_BAK = torch.full((1, 5, 3), -4.0)
    scores_BAK[0, 3, 2], scores_BAK[0, 1, 1] = 3.0, 2.0
    output = {"scores": scores_BAK, "centerness": torch.zeros(1, 5, 1)}
    summed_B, best_B, label_B = strongest(output, kind, 2)
    assert float(summed_B) == 5.0
    assert int(label_B) == (1 if kind == "softmax" else 2)
    assert 0.6 < float(best_B) < 1
