"""model.onnx: weights included, for any number of images, and checked by ONNX itself."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from search.export.format import Format, register_format
from search.export.loader import Job
from search.export.program import quiet, traced
from search.export.subject import Subject

OPSET = 20  # affine grids and three-dimensional sampling are operators of their own from here on


def write(subject: Subject, model: nn.Module, folder: Path) -> list[Path]:
    import onnx  # half a second that the other formats need not wait for

    path = folder / "model.onnx"
    program = traced(subject, model)
    with quiet():
        torch.onnx.export(
            program,
            (),
            path,
            input_names=["images"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    onnx.checker.check_model(str(path), full_check=True)
    return [path]


def run(path: Path, job: Job, x_BCHW: Tensor) -> Tensor:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x_BCHW.numpy()})[0])


register_format(Format("onnx", "model.onnx: for ONNX Runtime and others", write, run, tolerance=1e-5))
