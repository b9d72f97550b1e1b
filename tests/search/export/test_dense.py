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
from spaces.network import NetworkSpec

FORMATS = ["python", "safetensors", "spec", "onnx", "torch-export"]


def subject_of(text: str, network: NetworkSpec) -> Subject:
    arch = Architecture.parse(text)
    build = network.to_dict() | {"mean": [0.2] * 3, "std": [0.3] * 3}
    return Subject(arch, make_spec(arch, **build))


def test_dense_networks_are_loaded_without_attune(tmp_path: Path) -> None:
    """A dilated backbone, a map from inside of a block, attention in backbone, decoder and extra layers."""
    wide, boxes = (
        NetworkSpec(3, (40, 56), DeepLabV3Head(3, 8, refine=False), identity_start=True),
        NetworkSpec(3, (96, 64), SSDLiteHead(4)),
    )
    subjects = [
        subject_of("resnet18:none,se,none,cbam@block,se-r4", wide),
        subject_of("mobilenetv2_035:none,none,none,none,se,none,eca", boxes),
    ]
    exports = []
    for number, subject in enumerate(subjects):
        folder = tmp_path / str(number)
        folder.mkdir()
        exports.append(write_formats(subject, subject.model(), folder, FORMATS))
    for checks in check(exports):
        assert {one.format: one.difference <= one.allowed for one in checks} == dict.fromkeys(FORMATS, True)
    folder, model = tmp_path / "1", exports[1].model
    write_beside(subjects[1], model, folder)
    anchors_A4 = np.load(folder / "anchors.npy")
    setting = json.loads((folder / "postprocess.json").read_text())
    assert sum(setting["levels"]) == len(anchors_A4)
    code = load_source("postprocess", str(folder / "postprocess.py"))
    raw = {"boxes": np.zeros((1, len(anchors_A4), 4)), "scores": np.zeros((1, len(anchors_A4), 4))}
    (found,) = code.postprocess(raw, anchors_A4, setting["levels"], setting["size"], "softmax")
    assert len(found["boxes"])
    assert "postprocess.py" in model_card(subjects[1])
    assert "timm.create_model" not in model_card(subjects[0])
    with pytest.raises(UsageError, match="timm's formats are for classifiers"):
        write_formats(subjects[0], exports[0].model, folder, ["timm"])
