"""model.onnx: weights included, for any number of images and, if asked for, any size; checked by ONNX and ONNX Runtime."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search.export.format import Format, register_format
from search.export.loader import Job
from search.export.program import quiet, traced
from search.export.source import pretrained_config
from search.export.subject import Subject, outputs
from spaces.errors import UsageError

OPSET = 20  # affine grids and three-dimensional sampling are operators of their own from here on
OPSETS = range(13, 24)  # what can be asked for
DIRECT = 18  # the least that torch.export's programs can be written in; below, the network is traced by torch.jit
GROWN = (32, 64)  # pixels added to height and width, to see that a file for any size is one
BATCH = {0: "batch"}
INPUT = "images"


def write(subject: Subject, model: nn.Module, folder: Path, opset: int = OPSET, dynamic: str = "") -> list[Path]:
    """Write model.onnx; ``dynamic="size"`` leaves height and width open beside the batch.

    Raises UsageError for an opset that does not hold an operator of the network, naming the least that does, and for a
    network that is bound to its size.
    """
    import onnx  # half a second that the other formats need not wait for

    if opset not in OPSETS:
        raise UsageError(f"--opset {opset}; valid: {OPSETS[0]} to {OPSETS[-1]}")
    path = folder / "model.onnx"
    height = len(subject.network.size)  # its axis; of clips the one behind their frames
    axes = BATCH | ({height: "height", height + 1: "width"} if dynamic else {})
    content = (
        _from_program(subject, model, opset, bool(dynamic))
        if opset >= DIRECT
        else _from_trace(subject, model, opset, axes)
    )
    _name(content, axes)
    onnx.helper.set_model_props(content, metadata(subject))
    onnx.checker.check_model(content, full_check=True)
    _prove(subject, model, content.SerializeToString(), bool(dynamic))
    onnx.save(content, str(path))
    return [path]


def metadata(subject: Subject) -> dict[str, str]:
    """What the file says of its images and classes, each as JSON: classes (names), mean, std, size (H, W), and
    pixel_span, the pixel values that are 0 and 1 before mean and std."""
    config = pretrained_config(subject)
    facts = {
        "architecture": str(subject.arch),
        "classes": list(subject.spec.get("class_names") or range(subject.spec["num_classes"])),
        "mean": config["mean"],
        "std": config["std"],
        "pixel_span": subject.pixel_span,
        "size": subject.network.size,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}


def _from_program(subject: Subject, model: nn.Module, opset: int, any_size: bool) -> Any:
    """The ONNX model of torch.export's program."""
    program = traced(subject, model, any_size=any_size)
    with quiet():
        exported = torch.onnx.export(
            program,
            (),
            input_names=[INPUT],
            output_names=list(subject.outputs),
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    content = exported.model_proto
    found = _opset(content)
    if found != opset:
        raise UsageError(
            f"--opset {opset}: this network can be written in opset {found} only; choose that or a smaller one"
        )
    return content


def _from_trace(subject: Subject, model: nn.Module, opset: int, axes: Mapping[int, str]) -> Any:
    """The ONNX model of a network traced by torch.jit, for opsets that came before torch.export."""
    import onnx

    target = io.BytesIO()
    named = {INPUT: dict(axes), **dict.fromkeys(subject.outputs, BATCH)}
    try:
        with quiet():
            torch.onnx.export(
                model,
                subject.network.example(2, seed=0),
                target,  # type: ignore[arg-type]  # a file object will do, whatever the stubs say
                input_names=[INPUT],
                output_names=list(subject.outputs),
                opset_version=opset,
                dynamic_axes=named,
                dynamo=False,
            )
    except torch.onnx.errors.UnsupportedOperatorError as error:
        found = re.search(r"added in version (\d+)", str(error))
        least = int(found[1]) if found else DIRECT
        raise UsageError(
            f"--opset {opset}: {subject.arch} uses {str(error).split(chr(39))[1]}, which ONNX has from opset {least} on; "
            f"valid: {least} to {OPSETS[-1]}"
        ) from error
    return onnx.load_from_string(target.getvalue())


def _opset(content: Any) -> int:
    """The version of ONNX's own operators."""
    return int(next(one.version for one in content.opset_import if one.domain in ("", "ai.onnx")))


def _name(content: Any, axes: Mapping[int, str]) -> None:
    """Call the open axes of input and output what they are; inner values keep no names of axes."""
    for axis, name in axes.items():
        content.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    for output in content.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = BATCH[0]
    del content.graph.value_info[:]


def _prove(subject: Subject, model: nn.Module, content: bytes, any_size: bool) -> None:
    """Raise UsageError where ONNX Runtime does not give the model's logits on more images, if open on larger ones."""
    import onnxruntime

    *frames, height, width = subject.network.size
    grown = GROWN if any_size else (0, 0)
    size = (*frames, height + grown[0], width + grown[1])
    generator = torch.Generator().manual_seed(1)
    x_BCHW = torch.randn(3, subject.network.in_chans, *size, generator=generator)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    wanted = outputs(subject, model, x_BCHW)
    try:
        found = session.run(list(wanted), {INPUT: x_BCHW.numpy()})
    except Exception as error:  # ONNX Runtime's errors have no class of their own in common
        raise UsageError(_bound(subject, "x".join(map(str, size)))) from error
    for one, array in zip(wanted.values(), found, strict=True):
        if one.shape != array.shape or not torch.allclose(torch.from_numpy(array), one, rtol=1e-3, atol=1e-3):
            raise UsageError(_bound(subject, "x".join(map(str, size))))


def _bound(subject: Subject, size: str) -> str:
    return (
        f"--format onnx: {subject.arch} as ONNX does not give its logits on 3 images of {size}; "
        "choose another --opset, or leave out --dynamic"
    )


def run(path: Path, job: Job, x_BCHW: Tensor) -> dict[str, Tensor]:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    values = session.run(names, {session.get_inputs()[0].name: x_BCHW.numpy()})
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}


register_format(
    Format(
        "onnx",
        "model.onnx: for ONNX Runtime and others",
        write,
        run,
        tolerance=1e-5,
        extra="onnx",
        options=("opset", "dynamic"),
        graph=True,
    )
)
