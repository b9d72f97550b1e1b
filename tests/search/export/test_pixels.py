"""What an export says of pixels is what its network was trained on."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluators.data import load_data
from evaluators.data.batches import make_batches
from evaluators.tasks.classification import Classification
from search.export.card import model_card
from search.export.format import write_formats
from search.export.formats.onnx import metadata
from search.export.subject import Subject, make_spec
from spaces import Architecture
from spaces.errors import UsageError


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(np.uint8, 0, 255), (np.uint16, 0, 4095), (np.float32, -1000.0, 2000.0)]
)
def test_the_span_of_pixels_stands_beside_mean_and_deviation(
    tmp_path: Path, dtype: type, low: float, high: float
) -> None:
    """The code of the model card, run on pixels as they are in the files, gives what the network was trained on."""
    ramp = np.linspace(low, high, 40 * 64).reshape(40, 8, 8).astype(dtype)
    np.savez(tmp_path / "set.npz", x_train=ramp, y_train=np.arange(40) % 2, x_test=ramp, y_test=np.arange(40) % 2)
    task = Classification(load_data(f"npz:{tmp_path / 'set.npz'}"))
    arch = Architecture.parse("attune_tiny:none,se,none")
    described = {**task.describe(), **task.network.to_dict()}
    subject = Subject(arch, make_spec(arch, **described))
    wanted_BCHW, _ = next(iter(make_batches(task.data.test, task.data, 40, torch.device("cpu"))))

    code = re.findall(r"```python\n(.*?)```", model_card(subject), re.DOTALL)[-1]
    names: dict[str, Any] = {"pixels_BCHW": torch.from_numpy(ramp.astype(np.float32))[:, None]}
    exec(code, names)
    assert torch.allclose(names["x_BCHW"], wanted_BCHW, atol=0.005)

    (tmp_path / "out").mkdir()
    write_formats(subject, subject.model(), tmp_path / "out", ["hf"])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pixel_span"] == [low, high]
    source = (tmp_path / "out" / f"{subject.model_name}.py").read_text()
    assert re.findall(r"^PIXEL_SPAN = (.*)$", source, re.MULTILINE) == [
        str((*subject.spec.get("pixel_span", (0, 255)),))
    ]
    assert subject.pixel_span == (low, high)
    assert json.loads(metadata(subject)["pixel_span"]) == [low, high]


@pytest.mark.parametrize("wrong", ["0 to 1", [1], [1, 0], [0, float("inf")], [0, "1"], None])
def test_a_span_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError, match=r"pixel_span = .*; valid: \[black, white\]"):
        make_spec(Architecture.parse("attune_tiny:none,se,none"), num_classes=2, in_chans=1, pixel_span=wrong)
