"""A search of segmentation networks the whole way: its front, its report, and what is kept to build its networks again."""

import json
import sys
from pathlib import Path

import pytest

import run_search
from evaluators.data.masks.summary import MaskSummary
from search import load
from search.analysis import analyze
from search.build import create_evaluator, data_summary
from search.check import chance
from search.config import load_run_config, validate
from search.runner import run_search as search
from spaces import Architecture
from spaces.errors import UsageError

RAW = {
    "name": "masks",
    "task": {"name": "segmentation", "head": "fcn", "output_stride": 8, "dice": 1},
    "data": {
        "name": "cluttered_digits",
        "image_size": 32,
        "sizes": [20],
        "digits": [1, 1],
        "train_size": 32,
        "val_size": 16,
        "test_size": 8,
    },
    "space": {
        "backbone": "attune_tiny",
        "attentions": ["none", "se", "eca"],
        "reductions": [4],
        "kernels": [3],
        "sites": ["slot", "decoder"],
    },
    "training": {"epochs": 1, "batch_size": 16, "crop": 0},
    "search": {"sampler": "random", "trials": 3},
    "resources": {"concurrency": 1},
}


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_a_search_of_segmentation_networks_is_judged_by_miou(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = search(validate(RAW, "test"), tmp_path / "run")
    assert (outcome.finished, outcome.failed) == (3, 0)
    results = load(tmp_path / "run")
    assert results.metric.name == "mIoU"
    assert results.evaluations["mIoU"].between(0, 1).all()
    assert results.network.head.to_dict() == {
        **load_run_config(tmp_path / "run").task.make_head(11).to_dict()  # type: ignore[union-attr]
    }
    plain = Architecture.plain("attune_tiny")
    others = [text for text in results.evaluations["architecture"] if text != str(plain)]
    assert all(results.network.build(Architecture.parse(text)) for text in others)
    monkeypatch.setattr(sys, "argv", ["run_search.py", "front", str(tmp_path / "run"), "--json"])
    assert run_search.main() == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row["mIoU"] >= 0 and "accuracy" not in row for row in rows)
    report = analyze([tmp_path / "run"])
    assert "mIoU" in report.path.read_text()


def test_a_recipe_that_mixes_pictures_is_refused_with_the_configuration() -> None:
    with pytest.raises(UsageError, match=r"training\.cutmix 1.0 is for classes of images; valid for segmentation: 0"):
        validate({**RAW, "training": {"cutmix": 1}}, "test")


def test_scores_of_a_constant_answer_are_said_to_be_chance() -> None:
    evaluator = create_evaluator(validate(RAW, "test"))
    summary = data_summary(evaluator)
    assert isinstance(summary, MaskSummary)
    assert 0.8 / 11 < summary.constant < 1 / 9  # of the background everywhere
    said = chance(evaluator, [0.01, summary.constant])
    assert said.startswith(f"no mIoU is above chance: the best is {summary.constant:.4f}")
    assert chance(evaluator, [0.01, summary.constant + 0.02]) == ""
