"""Segmenters and detectors in every format that takes them, loaded in a fresh process without Attune, compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from search.export.beside import write_beside
from search.export.card import model_card
from search.export.check import check
from search.export.format import write_formats
from search.export.loader import load_source
from search.export.subject import Subject, make_spec
from spaces import Architecture
from spaces.errors import UsageError
from spaces.heads.detection import SSDLiteHead
from spaces.heads.segmentation import DeepLabV3Head
from spaces.heads.two_stage import FasterRCNNHead
from spaces.network import NetworkSpec
from tests.matrix import one_in, sampled

FORMATS = ["python", "safetensors", "spec", "onnx", "torch-export"]


def subject_of(text: str, network: NetworkSpec) -> Subject:
    arch = Architecture.parse(text)
    build = network.to_dict() | {"mean": [0.2] * 3, "std": [0.3] * 3}
    return Subject(arch, make_spec(arch, **build))


SEGMENTER = (  # a dilated backbone, attention in backbone and decoder
    "resnet18:none,se,none,cbam@block,se-r4",
    NetworkSpec(3, (40, 56), DeepLabV3Head(3, 8, refine=False), identity_start=True),
)
SMALL = ("attune_tiny:none,none,se,none,cbam-r4,none,eca", NetworkSpec(3, (48, 64), SSDLiteHead(3)))
DETECTOR = (  # a map from inside of a block, attention in backbone and extra layers
    "mobilenetv2_035:none,none,none,none,se,none,eca",
    NetworkSpec(3, (96, 64), SSDLiteHead(4)),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "network"), sampled([SMALL, DETECTOR, SEGMENTER], one_in(3)), ids=["small", "detector", "segmenter"]
)
def test_dense_networks_are_loaded_without_attune(text: str, network: NetworkSpec, tmp_path: Path) -> None:
    subject = subject_of(text, network)
    written = write_formats(subject, subject.model(), tmp_path, FORMATS)
    (checks,) = check([written])
    assert {one.format: one.difference <= one.allowed for one in checks} == dict.fromkeys(FORMATS, True)


def test_a_detector_brings_its_anchors_and_what_finds_its_boxes(tmp_path: Path) -> None:
    subject = subject_of(*DETECTOR)
    write_beside(subject, subject.model(), tmp_path)
    anchors_A4 = np.load(tmp_path / "anchors.npy")
    setting = json.loads((tmp_path / "postprocess.json").read_text())
    assert sum(setting["levels"]) == len(anchors_A4)
    code = load_source("postprocess", str(tmp_path / "postprocess.py"))
    raw = {"boxes": np.zeros((1, len(anchors_A4), 4)), "scores": np.zeros((1, len(anchors_A4), 4))}
    (found,) = code.postprocess(raw, anchors_A4, setting["levels"], setting["size"], "softmax")
    assert len(found["boxes"])
    assert "postprocess.py" in model_card(subject)


TWO_STAGES = ("attune_tiny:se,none,none,none,eca", NetworkSpec(3, (48, 64), FasterRCNNHead(3, 16, 32)))


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_two_stages_are_no_graph(form: str, tmp_path: Path) -> None:
    subject = subject_of(*TWO_STAGES)
    with pytest.raises(
        UsageError, match=f"--format {form}: a network of fasterrcnn is no graph of fixed shapes, since its"
    ):
        write_formats(subject, subject.model(), tmp_path, [form])


@pytest.mark.slow
@pytest.mark.matrix
def test_two_stages_are_loaded_without_attune(tmp_path: Path) -> None:
    subject = subject_of(*TWO_STAGES)
    forms = ["python", "safetensors", "spec"]
    (checks,) = check([write_formats(subject, subject.model(), tmp_path, forms)])
    assert [(one.format, one.difference) for one in checks] == [(form, 0) for form in forms]
    assert "`proposals`, `class_boxes`, `class_scores` are raw" in model_card(subject)


def test_timms_formats_are_for_classifiers(tmp_path: Path) -> None:
    subject = subject_of(*SEGMENTER)
    assert "timm.create_model" not in model_card(subject)
    with pytest.raises(UsageError, match="timm's formats are for classifiers"):
        write_formats(subject, subject.model(), tmp_path, ["timm"])
