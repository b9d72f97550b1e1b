"""ONNX files: the opset asked for, open axes by name, what they say of their images, and what is refused."""

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from search.export import export
from search.export.format import write_formats
from search.export.subject import Subject, make_spec
from spaces import Architecture
from spaces.errors import UsageError
from tests.matrix import sampled

# Every kind of layer that old opsets, or open sizes, have trouble with, but for sampling.
HARD = "test_resnet:self_attention,sge,fca,gather_excite"
SAMPLING = "attune_tiny:spatial_transformer,none,none"
FACTS = {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.6, 0.7], "class_names": ['a "quote"', "ä", "c"]}


def subject(text: str) -> Subject:
    arch = Architecture.parse(text)
    return Subject(arch, make_spec(arch, num_classes=3, in_chans=3, image_size=48) | FACTS)


def trained(one: Subject) -> nn.Module:
    """In which every parameter matters."""
    torch.manual_seed(0)
    model = one.model()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "opset"), sampled([(HARD, 13), (SAMPLING, 13), (SAMPLING, 20)], lambda number, _: number > 0)
)
def test_any_size_in_the_opset_that_was_asked_for(text: str, opset: int, tmp_path: Path) -> None:
    one = subject(text)
    model = trained(one)
    options = {"opset": opset, "dynamic": "size"}
    if text == SAMPLING and opset < 16:
        with pytest.raises(UsageError, match=r"--opset 13: .*grid_sampler.* from opset 16 on; valid: 16 to"):
            write_formats(one, model, tmp_path, ["onnx"], options)
        return
    path = write_formats(one, model, tmp_path, ["onnx"], options).files["onnx"][0]
    content = onnx.load(path)
    assert [entry.version for entry in content.opset_import if entry.domain == ""] == [opset]
    (given,) = content.graph.input
    assert [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim] == [
        "batch",
        3,
        "height",
        "width",
    ]
    (logits,) = content.graph.output
    assert [dim.dim_param or dim.dim_value for dim in logits.type.tensor_type.shape.dim] == ["batch", 3]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 48, 48), (2, 3, 64, 96), (1, 3, 80, 112)):
        x_BCHW = torch.randn(shape)
        (found,) = session.run(None, {"images": x_BCHW.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), model(x_BCHW), rtol=1e-3, atol=1e-4)


def test_the_file_says_what_its_images_and_classes_are(tmp_path: Path) -> None:
    one = subject("attune_tiny:se,none,none")
    path = write_formats(one, one.model(), tmp_path, ["onnx"], {"opset": 13}).files["onnx"][0]
    content = onnx.load(path)
    found = {entry.key: entry.value for entry in content.metadata_props}
    assert found.pop("architecture") == str(one.arch)
    read = {key: json.loads(value) for key, value in found.items()}
    facts = {"mean": FACTS["mean"], "std": FACTS["std"], "size": [48, 48], "pixel_span": [0, 255]}
    assert read == {"classes": FACTS["class_names"], **facts}
    (given,) = content.graph.input
    assert [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim] == ["batch", 3, 48, 48]


@pytest.mark.parametrize(
    ("formats", "options", "words"),
    [
        (["spec"], {"opset": 13}, "--opset is for none of the formats spec; formats with it: onnx"),
        (None, {"dynamic": "size"}, "--dynamic is for none of the formats .*; formats with it: onnx"),
        (["onnx"], {"opset": 12}, "--opset 12; valid: 13 to"),
    ],
)
def test_options_that_no_format_takes_are_refused(
    formats: list[str] | None, options: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        export("attune_tiny:none,none,none", to=tmp_path / "out", formats=formats, options=options)
