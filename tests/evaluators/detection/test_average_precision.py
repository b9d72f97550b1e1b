"""The mean average precision is that of pycocotools called as its authors do, and both programs agree."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.data.boxes.objects import CROWD, DIFFICULT, ORDINARY, Objects
from evaluators.detection.average_precision import NAMES, Detections, average_precision
from evaluators.outcomes import EvaluationError

CLASSES = 3


def scene(rng: np.random.Generator, pictures: int) -> tuple[list[Detections], list[Objects]]:
    """Random objects, some of them found more or less well, and boxes that are none."""
    found, truth = [], []
    for _ in range(pictures):
        number = int(rng.integers(0, 6))
        corner = rng.uniform(0, 200, (number, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(2, 150, (number, 2))], axis=1).astype(np.float32)
        labels = rng.integers(0, CLASSES, number)
        kinds = rng.choice([ORDINARY, ORDINARY, ORDINARY, CROWD], number).astype(np.uint8)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        truth.append(Objects(boxes, labels, kinds, areas))
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 4, (2 * number, 4))
        guessed = np.concatenate([near, rng.uniform([0, 0, 110, 110], 210, (3, 4))])
        wrong = np.where(rng.random(len(guessed)) < 0.2, rng.integers(0, CLASSES, len(guessed)), 0)
        found.append(
            Detections(
                guessed,
                np.round(rng.random(len(guessed)), 2),
                (np.concatenate([np.repeat(labels, 2), np.zeros(3, int)]) + wrong) % CLASSES,
            )
        )
    return found, truth


def by_pycocotools(found: list[Detections], truth: list[Objects], folder: Path) -> list[float]:
    """Through files, as COCO's own example does it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def box(row: np.ndarray) -> list[float]:
        return [float(row[0]), float(row[1]), float(row[2] - row[0]), float(row[3] - row[1])]

    annotations = [
        {"image_id": image, "category_id": int(label) + 1, "bbox": box(row), "area": float(area), "iscrowd": int(kind == CROWD)}
        for image, one in enumerate(truth, 1)
        for row, label, kind, area in zip(one.boxes_M4.astype(float), one.labels_M, one.kinds_M, one.areas_M, strict=True)
    ]  # fmt: skip
    content = {
        "info": {},
        "images": [{"id": image} for image in range(1, len(truth) + 1)],
        "categories": [{"id": number} for number in range(1, CLASSES + 1)],
        "annotations": [{"id": number, **one} for number, one in enumerate(annotations, 1)],
    }
    results = [
        {"image_id": image, "category_id": int(label) + 1, "bbox": box(row), "score": float(score)}
        for image, one in enumerate(found, 1)
        for row, label, score in zip(one.boxes_N4, one.labels_N, one.scores_N, strict=True)
    ]
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(results))
    with redirect_stdout(io.StringIO()):
        right = COCO(str(folder / "truth.json"))
        judge = COCOeval(right, right.loadRes(str(folder / "found.json")), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [float(value) for value in judge.stats[:6]]


@given(seed=st.integers(0, 2**32 - 1), pictures=st.integers(1, 6))
@settings(max_examples=12, deadline=None)
def test_it_is_pycocotools(tmp_path_factory: pytest.TempPathFactory, seed: int, pictures: int) -> None:
    found, truth = scene(np.random.default_rng(seed), pictures)
    if not any((one.kinds_M == ORDINARY).any() for one in truth):
        with pytest.raises(EvaluationError, match="no object"):
            average_precision(found, truth, CLASSES)
        return
    told = by_pycocotools(found, truth, tmp_path_factory.mktemp("coco"))
    expected = {name: value for name, value in zip(NAMES, told, strict=True) if value >= 0}
    assert average_precision(found, truth, CLASSES, "pycocotools") == pytest.approx(expected, abs=1e-12)


def test_faster_coco_eval_says_the_same() -> None:
    pytest.importorskip("faster_coco_eval")
    for seed in range(3):
        found, truth = scene(np.random.default_rng(seed), 5)
        for one in truth:
            one.kinds_M[:1] = DIFFICULT
        slow, fast, default = (
            average_precision(found, truth, CLASSES, backend) for backend in ("pycocotools", "faster", "auto")
        )
        assert fast == pytest.approx(slow, abs=1e-12)
        assert default == fast


def test_difficult_objects_are_passed_over() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 90, 90]], np.float32)
    areas = np.array([100, 1600], np.float32)
    truth = [Objects(boxes, np.array([0, 0]), np.array([ORDINARY, DIFFICULT], np.uint8), areas)]
    one = Detections(boxes[:1], np.array([0.9]), np.array([0]))
    both = Detections(boxes[::-1], np.array([0.9, 0.8]), np.array([0, 0]))
    for found in (one, both):
        assert average_precision([found], truth, 1)["mAP"] == pytest.approx(1)


def test_nothing_found_is_zero_and_sizes_without_objects_are_left_out() -> None:
    truth = [Objects(np.array([[0, 0, 10, 10]], np.float32), np.array([0]), np.zeros(1, np.uint8), np.array([100.0]))]
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert average_precision([nothing], truth, 2) == {"mAP": 0, "mAP50": 0, "mAP75": 0, "mAP_small": 0}


def test_the_mean_over_the_classes_that_are_there_is_the_whole() -> None:
    found, truth = scene(np.random.default_rng(3), 6)
    told = [
        average_precision(found, truth, CLASSES + 1, backend, names="abcd") for backend in ("pycocotools", "faster")
    ]  # type: ignore[arg-type]
    for one in told:
        classes = [one[f"AP {name}"] for name in "abc"]
        assert "AP d" not in one, "a class without objects has none"
        assert len(set(classes)) == CLASSES
        assert np.mean(classes) == pytest.approx(one["mAP"], abs=1e-12)
    assert told[0] == pytest.approx(told[1], abs=1e-12)
