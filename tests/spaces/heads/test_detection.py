"""Heads of detection: published sizes, torchvision's own networks and anchors, and attention in them."""

import numpy as np
import pytest
import torch
from torchvision.models import detection as published
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import fasterrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

from evaluators.cost import CostTable, count_network
from evaluators.counting import METRICS, count_module
from evaluators.detection.postprocess import postprocess
from spaces import Architecture
from spaces.backbones.weights import _renamed
from spaces.heads.base import HEADS
from spaces.heads.detection import FCOSHead, RetinaNetHead, SSDHead, SSDLiteHead
from spaces.heads.two_stage import FasterRCNNHead
from spaces.network import NetworkSpec

AUTHORS = SSDLiteHead(21, "coordinate-voc")


@pytest.mark.parametrize(
    ("backbone", "head", "size", "params", "macs"),
    [
        ("mobilenetv3_large_reduced_tail", SSDLiteHead(91), 320, 3_440_060, "0.583"),
        ("mobilenetv2_100", SSDLiteHead(81, "coordinate-coco"), 320, 4_304_138, "0.748"),
        ("mobilenetv2_100", AUTHORS, 320, 3_425_988, "0.682"),
        ("vgg16", SSDHead(91), 300, 35_641_826, "34.858"),
        ("resnet50", RetinaNetHead(91, frozen_norm=True), 128, 34_014_999, None),
        ("resnet50", FCOSHead(91, frozen_norm=True), 128, 32_269_600, None),
    ],
)
def test_costs_are_the_published_ones(backbone, head, size, params, macs):
    with torch.device("meta"):
        model = head.plain(backbone, 3, pretrained=False)
        counts = count_module(model, torch.empty(1, 3, size, size))
        raw = model(torch.empty(2, 3, size, size))
    found = dict(zip(METRICS, counts.total.tolist(), strict=True))
    assert (found["params"], counts.uncounted) == (params, ())
    assert macs is None or f"{found['macs'] / 1e9:.3f}" == macs
    anchors = model.anchors((size, size))
    assert raw["boxes"].shape == (2, *anchors.shape)
    assert raw["scores"].shape == (2, len(anchors), head.classes)


@pytest.mark.parametrize(
    ("attention", "on_voc", "on_coco"),
    [
        ("se-r24", 3_809_324, 4_687_474),
        ("cbam-r24", 3_810_924, 4_689_074),
        ("coordinate-r32", 3_871_764, 4_749_914),
    ],
)
def test_coordinate_attentions_authors_detectors(attention, on_voc, on_coco):
    """Attention in every inverted residual that expands, as in their tables on VOC and on COCO."""
    arch = Architecture.parse(f"mobilenetv2_100:none,{','.join([attention] * 4)}")
    for head, params in ((AUTHORS, on_voc), (SSDLiteHead(81, "coordinate-coco"), on_coco)):
        assert CostTable("mobilenetv2_100", NetworkSpec(3, (320, 320), head)).cost(arch).params == params


@pytest.mark.parametrize(
    ("head", "theirs"),
    [
        (RetinaNetHead(4, frozen_norm=True), published.retinanet_resnet50_fpn),
        (FCOSHead(4, frozen_norm=True), published.fcos_resnet50_fpn),
    ],
)
def test_a_network_is_torchvisions_for_the_same_weights(head, theirs):
    torch.manual_seed(0)
    reference = theirs(weights=None, weights_backbone=None, num_classes=4, trainable_backbone_layers=3).eval()
    ours = head.plain("resnet50", 3, pretrained=False).eval()
    state = {
        key.replace("backbone.body.", "backbone.").replace("backbone.fpn.", "neck."): value
        for key, value in reference.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    ours.load_state_dict(state)
    x_BCHW = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = list(reference.backbone(x_BCHW).values())
        raw, expected = ours(x_BCHW), reference.head(maps)
    torch.testing.assert_close(raw["boxes"], expected["bbox_regression"])
    torch.testing.assert_close(raw["scores"], expected["cls_logits"])
    (anchors,) = reference.anchor_generator(ImageList(x_BCHW, [(64, 96)]), maps)
    torch.testing.assert_close(ours.anchors((64, 96)), anchors)


def test_two_stages_are_counted():
    """Faster R-CNN's size is the published one; its costs add up, with attention in the pyramid too."""
    with torch.device("meta"):
        model = FasterRCNNHead(91, frozen_norm=True).plain("resnet50", 3, pretrained=False)
    assert sum(parameter.numel() for parameter in model.parameters()) == 41_755_286
    network = NetworkSpec(3, (96, 64), FasterRCNNHead(3, 16, 32))
    arch = Architecture.parse("attune_tiny:se,none,none,none,cbam-r4")
    table = CostTable("attune_tiny", network)
    assert table.cost(arch) == count_network(arch, network)
    assert table.cost(arch).uncounted_ops == ()


def test_the_second_stage_is_torchvisions():
    """With its weights, proposals, logits and detections are those of torchvision's network."""
    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        min_size=128,
        max_size=160,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
    ).eval()
    for layer in (theirs.rpn.head.cls_logits, theirs.rpn.head.bbox_pred, theirs.roi_heads.box_predictor.cls_score):
        torch.nn.init.normal_(layer.weight, std=0.1)  # else all scores are alike
    network = NetworkSpec(3, (128, 160), FasterRCNNHead(4, frozen_norm=True), stem="keep")
    ours = network.build(Architecture.plain("resnet50")).eval()
    names = {key: _renamed(key) for key in theirs.state_dict()}
    ours.load_state_dict({names[key]: value for key, value in theirs.state_dict().items()})
    x_BCHW = torch.rand(2, 3, 128, 160)
    with torch.inference_mode():
        raw = ours(x_BCHW)
        maps = theirs.backbone(x_BCHW)
        proposals, _ = theirs.rpn(ImageList(x_BCHW, [(128, 160)] * 2), maps)
        expected = theirs(list(x_BCHW))
    for index, boxes in enumerate(proposals):
        torch.testing.assert_close(raw["proposals"][index, : len(boxes)], boxes, rtol=1e-4, atol=1e-3)
        assert not raw["proposals"][index, len(boxes) :].any()
    arrays = {name: raw[name].numpy() for name in FasterRCNNHead.outputs}
    found = postprocess(arrays, raw["anchors"].numpy(), raw["levels"].tolist(), (128, 160), "regions")
    for one, wanted in zip(found, expected, strict=True):
        assert len(wanted["labels"]) > 10
        assert (one["labels"] + 1).tolist() == wanted["labels"].tolist()
        torch.testing.assert_close(torch.from_numpy(one["scores"]), wanted["scores"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(one["boxes"]), wanted["boxes"], rtol=1e-3, atol=1e-2)


def test_default_boxes_are_torchvisions():
    model = SSDLiteHead(3).plain("mobilenetv2_050", 3, pretrained=False).eval()
    x_BCHW = torch.zeros(1, 3, 160, 224)
    with torch.no_grad():
        maps = model.maps(x_BCHW)
    generator = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    (expected,) = generator(ImageList(x_BCHW, [(160, 224)]), maps)
    torch.testing.assert_close(model.anchors((160, 224)), expected)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ("mobilenetv2_050", SSDLiteHead(3)),
        ("attune_tiny", SSDLiteHead(3, "coordinate-voc")),
        ("attune_tiny", RetinaNetHead(3, 16)),
        ("attune_tiny", FCOSHead(3, 64)),
        ("attune_tiny", SSDHead(3)),
    ],
)
def test_additive_costs_are_those_of_the_whole_network(backbone, head):
    """Attention in the backbone, in extra layers and in levels of a pyramid."""
    size = (288, 320) if isinstance(head, SSDHead) else (96, 128)  # SSD's last maps need 5 x 5 of the one before
    network = NetworkSpec(3, size, head)
    stages, table = network.stages(backbone), CostTable(backbone, network)
    rng = np.random.default_rng(0)
    names = ["none", "se-r4", "cbam-r4", "coordinate", "simam"]
    beyond = sum(bool(stage.name) for stage in stages)
    sites = [("slot", "block", "stage")[i % 3] for i in range(len(stages) - beyond)] + ["decoder"] * beyond
    chosen = zip(rng.choice(names, len(stages)), sites, strict=True)
    words = [name if name == "none" else f"{name}@{site}" for name, site in chosen]
    arch = Architecture.parse(f"{backbone}:{','.join(words)}")
    assert beyond >= 4
    assert table.cost(arch) == count_network(arch, network)
    assert table.cost(arch).uncounted_ops == ()
    assert table.total(arch).tolist() == [getattr(table.cost(arch), name) for name in METRICS]
    model = network.build(arch).train()
    assert model(torch.randn(1, 3, *size))["boxes"].isfinite().all()  # one image: maps of a single position too
    assert HEADS[head.name] is type(head)
    assert NetworkSpec.from_dict(network.to_dict()) == network
