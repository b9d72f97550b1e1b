"""A search of detectors the whole way: fresh seeds, test, values of classes, and an ONNX file that finds boxes elsewhere."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from search import load
from search.analysis import analyze
from search.analysis.confirm import confirm
from search.build import create_evaluator
from search.config import validate
from search.export import export
from search.runner import run_search as search
from search.weights import kept_weights
from spaces import Architecture

RAW = {
    "name": "boxes",
    "task": {"name": "detection", "head": "ssdlite", "augment": "none"},
    "data": {
        "name": "cluttered_digits",
        "image_size": 48,
        "sizes": [16, 24],
        "train_size": 16,
        "val_size": 8,
        "test_size": 8,
    },
    "space": {"backbone": "attune_tiny", "attentions": ["none", "se"], "reductions": [4], "sites": ["slot", "decoder"]},
    "training": {"preset": "detection", "epochs": 1, "batch_size": 8},
    "search": {"sampler": "random", "trials": 2},
    "resources": {"concurrency": 1},
}
ELSEWHERE = """
import json, sys
import numpy as np, onnxruntime
sys.path.insert(0, ".")
from postprocess import postprocess
x = np.load("x.npy")
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
output = dict(zip([one.name for one in session.get_outputs()], session.run(None, {session.get_inputs()[0].name: x})))
setting = json.load(open("postprocess.json"))
found = postprocess(output, np.load("anchors.npy"), **setting)
np.savez("found.npz", *[np.concatenate([one["boxes"], one["scores"][:, None], one["labels"][:, None]], 1) for one in found])
assert "spaces" not in sys.modules
"""


@pytest.mark.usefixtures("ray_here")
@pytest.mark.matrix  # test_segmentation.py searches dense networks, test_confirm.py confirms
@pytest.mark.slow
def test_a_search_of_detectors_is_confirmed_and_exported_to_onnx(tmp_path: Path) -> None:
    config, folder = validate(RAW, "test"), tmp_path / "run"
    assert search(config, folder).finished == 2
    confirm(folder, 2, baselines=())
    assert "mAP" in analyze([folder]).path.read_text()
    results = load(folder)
    fresh = results.confirmed.set_index("architecture")
    assert (fresh["seeds"] >= 2).all()
    assert fresh["mAP"].between(0, 1).all()
    assert 0 <= fresh.loc["attune_tiny:none,none,none", "test_mAP"] <= 1

    # the mean over the classes that validation has is the metric, of every seed alone and so of their mean
    by_class = results.by_class.groupby("architecture")
    assert by_class["fresh"].mean().to_dict() == pytest.approx(fresh["mAP"].to_dict())
    classes = pd.read_csv(folder / "tables" / "classes.csv")
    assert classes["plain"].mean() == pytest.approx(fresh.loc["attune_tiny:none,none,none", "mAP"], abs=1e-4)

    text = str(next(one for one in results.summary["architecture"] if not Architecture.parse(one).is_plain))
    to = tmp_path / "best"
    assert [
        one.format for one in export(str(folder), to=to, pick=text, formats=["onnx"], options={"opset": 17}).checks
    ] == ["onnx"]
    weights = kept_weights(results, text)
    assert weights is not None
    assert np.mean(list(weights.by_class.values())) == pytest.approx(weights.score)
    card = (to / "README.md").read_text()
    assert "| class | validation AP of these weights | mean over fresh seeds |" in card
    assert card.count("\n| ") > len(weights.by_class)

    # detections of the file in a fresh process are those that the task judged
    evaluator = create_evaluator(config)
    x_BCHW, target = next(iter(evaluator.task.batches("val", batch_size=8, device=torch.device("cpu"))))  # type: ignore[attr-defined]
    np.save(to / "x.npy", x_BCHW.numpy())
    subprocess.run([sys.executable, "-P", "-c", ELSEWHERE], cwd=to, check=True)
    scorer = evaluator.task.scorer()  # type: ignore[attr-defined]
    model = results.network.build(Architecture.parse(text), pretrained=weights.path).eval()
    with torch.inference_mode():
        scorer.update(model(x_BCHW), target)
    with np.load(to / "found.npz") as found:
        for ours, theirs in zip(scorer.found, found.values(), strict=True):
            assert ours.labels_N.tolist() == theirs[:, 5].astype(int).tolist()
            np.testing.assert_allclose(theirs[:, 4], ours.scores_N, atol=1e-5)
            np.testing.assert_allclose(theirs[:, :4], ours.boxes_N4, atol=1e-3)
    assert scorer.compute()["mAP"] == pytest.approx(weights.score, abs=1e-6)
