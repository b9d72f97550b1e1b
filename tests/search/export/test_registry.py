"""The registry of formats: what it lists, and a format that somebody brings from outside."""

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from search.export import Format, export, list_formats, register_format
from search.export import format as registry
from search.export.check import ExportError, check
from search.export.format import known_formats, write_formats
from search.export.loader import Job, load_function, run_format
from search.export.subject import Subject, make_spec
from spaces import Architecture
from spaces.errors import UsageError

TOY = '''
"""Weights as a NumPy archive."""

from pathlib import Path

import numpy as np

from search.export import Format, register_format


def write(subject, model, folder):
    path = folder / "weights.npz"
    np.savez(path, **{name: value.numpy() for name, value in model.state_dict().items()})
    return [path]


def run(path: Path, job: "Job", x_BCHW: "Tensor") -> "Tensor":
    import numpy as np
    import torch

    model = job.module.create()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in np.load(path).items()})
    return model.eval()(x_BCHW)


register_format(Format("npz", "weights.npz: the weights for NumPy", write, run))
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module outside of the tree that has registered its format."""
    monkeypatch.setattr(registry, "_FORMATS", dict(registry._FORMATS))
    path = tmp_path / "toy_format.py"
    path.write_text(TOY)
    spec = importlib.util.spec_from_file_location("toy_format", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "toy_format", module)
    spec.loader.exec_module(module)
    return module


def test_every_format_is_listed_with_what_it_is() -> None:
    rows = {row["name"]: row for row in list_formats()}
    assert set(rows) == {"spec", "safetensors", "python", "timm", "torch-export", "onnx", "hf"}
    assert all(row["what"] for row in rows.values())
    assert {name for name, row in rows.items() if row["default"]} == {"spec", "safetensors", "python"}
    assert {name: row["tolerance"] for name, row in rows.items() if row["tolerance"]} == {"onnx": 1e-5}


@pytest.mark.matrix  # tests/test_extending.py exports in one from outside, test_formats.py finds out a wrong file
def test_a_format_from_outside_is_written_and_found_out_when_it_is_wrong(toy: ModuleType, tmp_path: Path) -> None:
    text = "attune_tiny:se,none,none"
    result = export(text, to=tmp_path / "out", formats=["npz"])
    assert [(one.format, one.difference) for one in result.checks] == [("npz", 0.0)]
    path = tmp_path / "out" / "weights.npz"
    assert path in result.files
    assert "npz" in {row["name"] for row in list_formats()}

    arch = Architecture.parse(text)
    build = {"num_classes": 7, "in_chans": 1, "image_size": 16, "identity_start": False, "native": "keep"}
    subject = Subject(arch, make_spec(arch, **build))
    written = write_formats(subject, subject.model(), tmp_path / "out", ["npz"])
    state = dict(np.load(path))
    state["fc.bias"] += 1
    np.savez(path, **state)
    with pytest.raises(ExportError, match="npz differ by"):
        check([written])


def test_what_cannot_be_read_names_its_format(toy: ModuleType, tmp_path: Path) -> None:
    run = load_function("run", inspect.getsource(toy.run))
    with pytest.raises(RuntimeError, match="format npz: FileNotFoundError"):
        run_format(
            "npz",
            run,
            tmp_path / "nothing.npz",
            Job("toy", SimpleNamespace(create=nn.Identity), tmp_path),
            torch.zeros(1),
        )


def test_a_format_that_cannot_be_checked_alone_or_takes_a_name_is_refused() -> None:
    known = known_formats()[0]
    with pytest.raises(UsageError, match="top of a module"):
        register_format(Format("toy", "nothing", known.write, lambda path, job, x_BCHW: x_BCHW))
    with pytest.raises(UsageError, match=f"{known.name!r} is taken"):
        register_format(Format(known.name, "another", known.write, known.run))
    assert register_format(known) is known
