"""From the raw output of a detection network to detections, in NumPy alone: this file is copied beside exported networks.

The steps and constants are torchvision's. Boxes are (x1, y1, x2, y2) in pixels of the network's input.
Legend: B batch, A anchors, K classes, N boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# How each head's output is read. softmax: class 0 is background; sigmoid: all classes are; centerness: FCOS; regions: Faster
# R-CNN, whose second stage has class 0 as background and a box for each class.
SETTINGS: dict[str, dict[str, Any]] = {
    "softmax": {"least": 0.01, "overlap": 0.45, "candidates": 400, "most": 200, "weights": (10.0, 10.0, 5.0, 5.0)},
    "sigmoid": {"least": 0.05, "overlap": 0.5, "candidates": 1000, "most": 300, "weights": (1.0, 1.0, 1.0, 1.0)},
    "centerness": {"least": 0.2, "overlap": 0.6, "candidates": 1000, "most": 100, "weights": (1.0, 1.0, 1.0, 1.0)},
    "regions": {"least": 0.05, "overlap": 0.5, "most": 100, "weights": (10.0, 10.0, 5.0, 5.0), "side": 0.01},
}
LARGEST = float(np.log(1000.0 / 16))  # of a size's logarithm: nothing larger comes out of an exponential
Suppress = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def postprocess(
    output: Mapping[str, np.ndarray],
    anchors_A4: np.ndarray,
    levels: Sequence[int],
    size: tuple[int, int],
    kind: str,
    suppress: Suppress | None = None,
    **changed: Any,
) -> list[dict[str, np.ndarray]]:
    """The detections of each picture, best first: ``boxes`` (N, 4), ``scores`` (N,), ``labels`` (N,) from 0.

    ``output``: ``boxes`` (B, A, 4), ``scores`` (B, A, K) and, for ``kind`` centerness, ``centerness`` (B, A, 1), as the network
    puts them out; for ``kind`` regions ``proposals`` (B, R, 4), ``class_boxes`` (B, R, 4 K) and ``class_scores`` (B, R, K), and
    anchors and levels do not matter. ``levels``: anchors of each feature map. ``size``: (H, W) of the input. ``suppress``:
    (boxes, scores, overlap) -> places of the kept ones, best first. ``changed``: other values than SETTINGS has for this kind.
    """
    setting = {**SETTINGS[kind], **changed}
    keep = suppress or suppress_overlaps
    found = []
    for index in range(len(output["proposals" if kind == "regions" else "boxes"])):
        if kind == "regions":
            boxes_N4, labels_N, scores_N = _of_regions(output, index, setting)
        else:
            boxes_N4, labels_N, scores_N = _of_anchors(output, index, anchors_A4, levels, kind, setting)
        boxes_N4 = np.clip(boxes_N4, 0, np.array([size[1], size[0], size[1], size[0]], boxes_N4.dtype))
        if kind == "regions":
            wide_N = (boxes_N4[:, 2:] - boxes_N4[:, :2] >= setting["side"]).all(1)
            boxes_N4, labels_N, scores_N = boxes_N4[wide_N], labels_N[wide_N], scores_N[wide_N]
        kept = _by_class(boxes_N4, scores_N, labels_N, setting["overlap"], keep)[: setting["most"]]
        found.append({"boxes": boxes_N4[kept], "scores": scores_N[kept], "labels": labels_N[kept]})
    return found


def _of_anchors(
    output: Mapping[str, np.ndarray],
    index: int,
    anchors_A4: np.ndarray,
    levels: Sequence[int],
    kind: str,
    setting: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes, labels, scores) of the candidates of a one-stage detector in one picture."""
    logits_AK = output["scores"][index]
    if kind == "softmax":
        places_N, labels_N, scores_N = _softmax_candidates(logits_AK, setting)
    else:
        scores_AK = _sigmoid(logits_AK)
        if kind == "centerness":
            scores_AK = np.sqrt(scores_AK * _sigmoid(output["centerness"][index]))
        places_N, labels_N, scores_N = _level_candidates(scores_AK, levels, setting)
    decode = decode_sides if kind == "centerness" else decode_offsets
    return decode(output["boxes"][index][places_N], anchors_A4[places_N], setting["weights"]), labels_N, scores_N


def _of_regions(
    output: Mapping[str, np.ndarray], index: int, setting: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes, labels, scores) of the candidates of a second stage in one picture."""
    regions_R4, logits_RK = output["proposals"][index], output["class_scores"][index]
    shifted_RK = np.exp(logits_RK - logits_RK.max(1, keepdims=True))
    scores_RK = (shifted_RK / shifted_RK.sum(1, keepdims=True))[:, 1:]
    scores_RK = scores_RK * (regions_R4[:, 2:] > regions_R4[:, :2]).all(1, keepdims=True)  # zeros are no regions
    places_N, labels_N = np.nonzero(scores_RK > setting["least"])
    raw_RK4 = output["class_boxes"][index].reshape(len(regions_R4), -1, 4)
    boxes_N4 = decode_offsets(raw_RK4[places_N, labels_N + 1], regions_R4[places_N], setting["weights"])
    return boxes_N4, labels_N, scores_RK[places_N, labels_N]


def decode_offsets(raw_N4: np.ndarray, anchors_N4: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Boxes from centres and logarithms of sizes in units of the anchors."""
    side_N2 = anchors_N4[:, 2:] - anchors_N4[:, :2]
    scaled_N4 = raw_N4 / np.array(weights, raw_N4.dtype)
    centre_N2 = scaled_N4[:, :2] * side_N2 + anchors_N4[:, :2] + 0.5 * side_N2
    half_N2 = 0.5 * np.exp(np.minimum(scaled_N4[:, 2:], LARGEST)) * side_N2
    return np.concatenate([centre_N2 - half_N2, centre_N2 + half_N2], axis=1)


def decode_sides(raw_N4: np.ndarray, anchors_N4: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Boxes from the distances of their sides to the middle of the anchors, in units of these."""
    side_N2 = anchors_N4[:, 2:] - anchors_N4[:, :2]
    centre_N2 = 0.5 * (anchors_N4[:, :2] + anchors_N4[:, 2:])
    return np.concatenate([centre_N2 - raw_N4[:, :2] * side_N2, centre_N2 + raw_N4[:, 2:] * side_N2], axis=1)


def suppress_overlaps(boxes_N4: np.ndarray, scores_N: np.ndarray, overlap: float) -> np.ndarray:
    """Places of the boxes that overlap no better one by more than ``overlap`` (intersection over union), best first."""
    order = np.argsort(-scores_N, kind="stable")
    boxes_N4 = boxes_N4[order]
    low_NN2 = np.maximum(boxes_N4[:, None, :2], boxes_N4[None, :, :2])
    high_NN2 = np.minimum(boxes_N4[:, None, 2:], boxes_N4[None, :, 2:])
    shared_NN = np.clip(high_NN2 - low_NN2, 0, None).prod(2)
    areas_N = (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(1)
    union_NN = areas_N[:, None] + areas_N - shared_NN
    covers_NN = shared_NN > overlap * np.maximum(union_NN, 1e-12)
    alive_N = np.ones(len(order), dtype=bool)
    for place in range(len(order)):
        if alive_N[place]:
            alive_N[place + 1 :] &= ~covers_NN[place, place + 1 :]
    return order[alive_N]


def _by_class(
    boxes_N4: np.ndarray, scores_N: np.ndarray, labels_N: np.ndarray, overlap: float, keep: Suppress
) -> np.ndarray:
    """Places of what remains of each class, best first over all classes."""
    parts = []
    for label in np.unique(labels_N):
        places = np.flatnonzero(labels_N == label)
        parts.append(places[keep(boxes_N4[places], scores_N[places], overlap)])
    kept = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return kept[np.argsort(-scores_N[kept], kind="stable")]


def _softmax_candidates(logits_AK: np.ndarray, setting: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places, labels, scores) of the best anchors of each class but background."""
    shifted_AK = np.exp(logits_AK - logits_AK.max(1, keepdims=True))
    scores_AK = (shifted_AK / shifted_AK.sum(1, keepdims=True))[:, 1:]
    places, labels = [], []
    for label in range(scores_AK.shape[1]):
        good = np.flatnonzero(scores_AK[:, label] > setting["least"])
        best = np.argsort(-scores_AK[good, label], kind="stable")[: setting["candidates"]]
        places.append(good[best])
        labels.append(np.full(len(best), label, np.int64))
    places_N, labels_N = np.concatenate(places), np.concatenate(labels)
    return places_N, labels_N, scores_AK[places_N, labels_N]


def _level_candidates(
    scores_AK: np.ndarray, levels: Sequence[int], setting: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places, labels, scores) of the best pairs of anchor and class of each feature map."""
    classes = scores_AK.shape[1]
    places, labels = [], []
    start = 0
    for count in levels:
        flat = scores_AK[start : start + count].reshape(-1)
        good = np.flatnonzero(flat > setting["least"])
        best = good[np.argsort(-flat[good], kind="stable")[: setting["candidates"]]]
        places.append(start + best // classes)
        labels.append(best % classes)
        start += count
    places_N, labels_N = np.concatenate(places), np.concatenate(labels)
    return places_N, labels_N, scores_AK[places_N, labels_N]


def _sigmoid(values: np.ndarray) -> np.ndarray:
    positive: np.ndarray = 1 / (1 + np.exp(-np.abs(values)))
    return np.where(values >= 0, positive, 1 - positive)
