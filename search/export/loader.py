"""Run as a script in a fresh process: load exported files without Attune and write how far their logits are off.

It imports nothing of Attune, so that Attune may import it too.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Job:
    """What a format may use besides its own files to give logits.

    ``name``: of the network; ``module``: its exported Python file, imported, so that timm knows the name too; ``weights``:
    its weights as safetensors.
    """

    name: str
    module: Any
    weights: Path


Run = Callable[[Path, Job, Tensor], Any]  # logits, or a mapping of what a network of several outputs gives


def main(request_file: str) -> None:
    """Write differences.json: for every export and format the largest difference of the logits."""
    request = json.loads(Path(request_file).read_text())
    hidden = Hidden()
    sys.meta_path.insert(0, hidden)  # Attune may be installed here, and a process that sees it would prove nothing
    torch.set_num_threads(request["threads"])
    _import(request["backbones"])
    exports = request["exports"]
    jobs = [Job(one["name"], load_source(one["name"], one["source"]), Path(one["weights"])) for one in exports]
    # Copied, since a file's tensors lie at any address, and matrix products on other addresses round otherwise.
    probes = [{name: value.clone() for name, value in load_file(one["probe"]).items()} for one in exports]
    found: list[dict[str, float]] = [dict.fromkeys(one["files"], float("nan")) for one in exports]
    for needs_attune in (False, True):
        for name, form in request["formats"].items():
            if form["needs_attune"] != needs_attune:
                continue
            if needs_attune and hidden in sys.meta_path:
                sys.meta_path.remove(hidden)  # from here on with Attune, for the formats that only it reads
                sys.path.insert(0, request["root"])
                _import(request["attentions"])
            run = load_function(form["function"], form["source"])
            for one, job, probe, differences in zip(exports, jobs, probes, found, strict=True):
                if name in one["files"]:
                    output = run_format(name, run, Path(one["files"][name]), job, probe["images"])
                    wanted = {key: value for key, value in probe.items() if key != "images"}
                    found_parts = output if isinstance(output, Mapping) else dict.fromkeys(wanted, output)
                    differences[name] = max(distance(found_parts[key], wanted[key]) for key in wanted)
    Path("differences.json").write_text(json.dumps(found))


class Hidden:
    """A finder of modules that finds none of Attune's, wherever they are installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """None, so that the next finder is asked; raises ModuleNotFoundError for a module of Attune's."""
        if name.partition(".")[0] in ("attune", "spaces", "evaluators", "search"):
            raise ModuleNotFoundError(f"No module named {name!r}: an export has to do without Attune", name=name)


def _import(modules: dict[str, str]) -> None:
    """Import a user's own modules, each from its folder."""
    sys.path.extend(modules.values())
    for module in modules:
        importlib.import_module(module)


def load_source(name: str, path: str) -> Any:
    """The module of an exported .py, as `import NAME` gives it beside that file."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_function(name: str, source: str) -> Run:
    """The function that a source text defines; its annotations are not evaluated."""
    scope: dict[str, Any] = {}
    exec(compile(f"from __future__ import annotations\n{source}", f"<run of {name}>", "exec"), scope)
    function: Run = scope[name]
    return function


def run_format(name: str, run: Run, path: Path, job: Job, x_BCHW: Tensor) -> Tensor | Mapping[str, Tensor]:
    """The logits (B, K) that `run` gives, or outputs by name, without gradients; RuntimeError names the format."""
    try:
        with torch.no_grad():
            return run(path, job, x_BCHW)
    except Exception as error:
        raise RuntimeError(f"format {name}: {type(error).__name__}: {error}") from error


def distance(found: Tensor, wanted: Tensor) -> float:
    """max |found - wanted| / max(1, max |wanted|); infinite where shapes differ or a value is not finite."""
    if found.shape != wanted.shape or not bool(torch.isfinite(found).all()):
        return float("inf")
    return float((found - wanted).abs().max() / max(1.0, float(wanted.abs().max())))


if __name__ == "__main__":
    atexit.register(gc.freeze)  # torch leaves much to look through for cycles at the end: two seconds
    main(sys.argv[1])
