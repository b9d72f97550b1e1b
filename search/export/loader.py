"""Run as a script in a fresh process: load exported files without Attune and write how far their logits are off."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor


def main(job_file: str) -> None:
    """Write differences.json: for every export and format the largest difference of the logits."""
    job = json.loads(Path(job_file).read_text())
    for package in ("spaces", "evaluators", "search"):
        if importlib.util.find_spec(package) is not None:
            raise RuntimeError(f"{package} can be imported here, so this process would prove nothing")
    torch.set_num_threads(job["threads"])
    sys.path.extend(job["backbones"].values())
    for module in job["backbones"]:
        importlib.import_module(module)
    for export in job["exports"]:
        export["module"] = load_source(export["name"], export["source"])
    differences: list[dict[str, float]] = [{} for _ in job["exports"]]
    for attune in (False, True):
        for export, found in zip(job["exports"], differences, strict=True):
            for form, path in export["files"].items():
                if (form == "spec") != attune:
                    continue
                if attune and job["root"] not in sys.path:
                    sys.path.insert(0, job["root"])  # from here on with Attune, for the one format that only it reads
                    sys.path.extend(job["attentions"].values())
                    for module in job["attentions"]:
                        importlib.import_module(module)
                probe = load_file(export["probe"])
                found[form] = distance(run(form, path, export, probe["images"]), probe["logits"])
    order = [list(export["files"]) for export in job["exports"]]
    sorted_ = [{form: found[form] for form in forms} for forms, found in zip(order, differences, strict=True)]
    Path("differences.json").write_text(json.dumps(sorted_))


def load_source(name: str, path: str) -> Any:
    """The module of an exported .py, as `import NAME` gives it beside that file."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(form: str, path: str, export: dict[str, Any], x_BCHW: Tensor) -> Tensor:
    """The logits (B, K) that one exported file gives."""
    if form == "onnx":
        return run_onnx(path, x_BCHW)
    if form == "torch-export":
        program: Any = torch.export.load(path).module()
        return forward(program, x_BCHW)
    if form == "spec":
        from search.export.subject import build_from_spec

        model = build_from_spec(json.loads(Path(path).read_text()))
        model.load_state_dict(load_file(export["weights"]))
    elif form == "timm":
        model = timm.create_model(export["name"], pretrained=True)
    elif form == "hf":
        model = timm.create_model(f"local-dir:{Path(path).parent}", pretrained=True)
    else:
        model = export["module"].load(export["weights"])
    return forward(model.eval(), x_BCHW)


@torch.inference_mode()
def forward(model: Any, x_BCHW: Tensor) -> Tensor:
    return model(x_BCHW)


def run_onnx(path: str, x_BCHW: Tensor) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x_BCHW.numpy()})[0])


def distance(found: Tensor, wanted: Tensor) -> float:
    """max |found - wanted| / max(1, max |wanted|); infinite where shapes differ or a value is not finite."""
    if found.shape != wanted.shape or not bool(torch.isfinite(found).all()):
        return float("inf")
    return float((found - wanted).abs().max() / max(1.0, float(wanted.abs().max())))


if __name__ == "__main__":
    main(sys.argv[1])
