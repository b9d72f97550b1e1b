"""Post-processing in NumPy alone gives torchvision's detections, and needs nothing of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD
from torchvision.ops import nms

from evaluators.detection import postprocess as module
from evaluators.detection.postprocess import SETTINGS, postprocess, suppress_overlaps

SIZE, CLASSES, BATCH = 64, 6, 2


class Backbone(nn.Module):
    """Nothing but what torchvision asks of one."""

    out_channels = 32


def detector(kind: str) -> tuple[nn.Module, list[Tensor]]:
    """(torchvision's detector, its anchors by level)."""
    if kind == "softmax":
        generator, sides = DefaultBoxGenerator([[2], [2, 3]]), (8, 4)
        model = SSD(Backbone(), generator, (SIZE, SIZE), CLASSES, head=nn.Identity())
    elif kind == "sigmoid":
        generator, sides = AnchorGenerator(((8, 12), (16, 24)), ((0.5, 1.0, 2.0),) * 2), (8, 4)
        model = RetinaNet(Backbone(), CLASSES, anchor_generator=generator)
    else:
        generator, sides = AnchorGenerator(((8,), (16,)), ((1.0,),) * 2), (8, 4)
        model = FCOS(Backbone(), CLASSES, anchor_generator=generator)
    images = ImageList(torch.zeros(1, 3, SIZE, SIZE), [(SIZE, SIZE)])
    anchors = generator(images, [torch.zeros(1, 8, side, side) for side in sides])[0]
    each = [number * side * side for number, side in zip(generator.num_anchors_per_location(), sides, strict=True)]
    return model, list(anchors.split(each))


@pytest.mark.parametrize("kind", [kind for kind in SETTINGS if kind != "regions"])
@pytest.mark.parametrize("fast", [False, True], ids=["NumPy", "torchvision's suppression"])
def test_detections_are_torchvisions(kind: str, fast: bool) -> None:
    model, anchors = detector(kind)
    counts = [len(one) for one in anchors]
    generator = torch.Generator().manual_seed(3)
    shape = (BATCH, sum(counts))
    boxes = torch.randn(*shape, 4, generator=generator)
    boxes = boxes.abs() if kind == "centerness" else boxes  # distances, as FCOS puts them out
    scores = 2 * torch.randn(*shape, CLASSES, generator=generator)
    centerness = torch.randn(*shape, 1, generator=generator)
    raw = {"bbox_regression": boxes, "cls_logits": scores, "bbox_ctrness": centerness}
    if kind == "softmax":
        told = model.postprocess_detections(raw, [torch.cat(anchors)] * BATCH, [(SIZE, SIZE)] * BATCH)
    else:
        by_level = {name: list(values.split(counts, dim=1)) for name, values in raw.items()}
        told = model.postprocess_detections(by_level, [anchors] * BATCH, [(SIZE, SIZE)] * BATCH)

    def suppress(boxes_N4: np.ndarray, scores_N: np.ndarray, overlap: float) -> np.ndarray:
        return nms(torch.from_numpy(boxes_N4), torch.from_numpy(scores_N), overlap).numpy()

    output = {"boxes": boxes.numpy(), "scores": scores.numpy(), "centerness": centerness.numpy()}
    found = postprocess(output, torch.cat(anchors).numpy(), counts, (SIZE, SIZE), kind, suppress if fast else None)
    assert sum(len(one["scores"]) for one in found) > 20
    for ours, theirs in zip(found, told, strict=True):
        np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=1e-5)
        np.testing.assert_allclose(ours["boxes"], theirs["boxes"], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(ours["labels"], theirs["labels"] - int(kind == "softmax"))


def test_limits_can_be_changed() -> None:
    _, anchors = detector("sigmoid")
    counts = [len(one) for one in anchors]
    output = {"boxes": np.zeros((1, sum(counts), 4)), "scores": np.full((1, sum(counts), CLASSES), 3.0)}
    found = postprocess(output, torch.cat(anchors).numpy(), counts, (SIZE, SIZE), "sigmoid", most=7)
    assert len(found[0]["scores"]) == 7
    output["scores"] -= 30
    assert len(postprocess(output, torch.cat(anchors).numpy(), counts, (SIZE, SIZE), "sigmoid")[0]["scores"]) == 0


def test_suppression_is_torchvisions() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 40, (200, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 20, (200, 2))], axis=1)
    scores = rng.random(200)
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4)
    np.testing.assert_array_equal(suppress_overlaps(boxes, scores, 0.4), kept)


def test_the_file_runs_alone_without_torch(tmp_path: Path) -> None:
    source = Path(module.__file__).read_text()
    (tmp_path / "postprocess.py").write_text(source)
    program = (
        "import sys, numpy as np; from postprocess import postprocess; "
        "anchors = np.array([[0, 0, 8, 8], [4, 4, 12, 12.]]); "
        "output = {'boxes': np.zeros((1, 2, 4)), 'scores': np.array([[[0, 5.], [0, 4.]]])}; "
        "print(postprocess(output, anchors, [2], (16, 16), 'softmax')[0]['boxes'].tolist()); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[[0.0, 0.0, 8.0, 8.0], [4.0, 4.0, 12.0, 12.0]]"
