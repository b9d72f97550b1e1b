"""Where the networks of a run look, and what their attention weighs, on a few validation pictures: ``pictures.json``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from evaluators.base import Evaluator
from evaluators.cam import grad_cam, last_layers, layer_cam
from evaluators.gates import Weighing, gates
from evaluators.tasks.base import Explaining, explaining
from evaluators.training.checkpoint import load_weights
from evaluators.training.device import pick_device
from search.analysis.drawing import Array, heat_map, photograph, picture_of, reduced, strongest_place
from search.build import create_trainer
from search.command import command
from search.confirmed import uniform_architectures
from search.files import unreadable, write_whole
from search.results import Results, load
from search.weights import Weights, kept_weights
from spaces import Architecture
from spaces.errors import UsageError, unknown

FILE = "pictures.json"
MOST = 16  # pictures
LIMIT = 1_000_000  # bytes that all of them may take in the report
SIZES = ((192, 85), (160, 75), (128, 65), (96, 50))  # the longer side in pixels and JPEG's quality: the first that fits
GRID, STRIP = 24, 256  # most rows and columns of a heat map of positions, and most of one of channels
METHODS = {"Grad-CAM": grad_cam, "LayerCAM": layer_cam}
SAME = 1e-4  # a spread below it is none

Uri = Annotated[str, Field(pattern=r"^data:image/(jpeg|png);base64,[A-Za-z0-9+/=]+$")]


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Map(_Kept):
    """A picture with a map over it: of which network, what it explains, and both for those who do not see it."""

    role: str
    words: str
    alt: str
    image: Uri


class Site(_Kept):
    """What one placement does to one picture: in words, and over positions and channels where it differs among them."""

    stage: str
    placement: str
    words: str
    space: Uri | None = None
    channels: Uri | None = None


class Picture(_Kept):
    """One validation picture, the maps of the networks over it, and what the placements of the searched one weigh."""

    image: Uri
    maps: tuple[Map, ...]
    sites: tuple[Site, ...] = ()


class Network(_Kept):
    """A network that is shown: what it is in the comparison, and how good its weights are."""

    role: str
    architecture: str
    score: str


class Pictures(_Kept):
    """What the report shows; ``notes`` say what is left out and why, and ``command`` gets it."""

    cam: str = ""
    networks: tuple[Network, ...] = ()
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Chosen:
    """A network to show, and its weights."""

    role: str
    arch: Architecture
    weights: Weights


def read_pictures(results: Results) -> Pictures | None:
    """What ``analyze --pictures`` has drawn; None where it was never asked. Raises UsageError for a damaged file."""
    path = results.folder / FILE
    if not path.exists():
        return None
    try:
        return Pictures.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise unreadable(path, first, "remove it; `analyze --pictures` draws again") from None


def draw_pictures(folder: str | Path, count: int) -> None:
    """Draw the maps of the plain, the searched and the best uniform network on ``count`` pictures, into ``pictures.json``.

    Raises UsageError for a number of pictures that is none, a run without a complete evaluation, and data or weights that
    cannot be read.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"--pictures {count}; valid: 1 to {MOST}")
    results = load(folder).with_evaluations()
    evaluator = create_trainer(results.config)
    reason = why_not(evaluator)
    found = Pictures(notes=(reason,)) if reason else _drawn(results, evaluator, count)
    write_whole(results.folder / FILE, found.model_dump_json())


def why_not(evaluator: Evaluator) -> str:
    """Why of what an evaluator trains nothing can be drawn, as a sentence; empty where it can."""
    task = getattr(evaluator, "task", None)
    if task is None:
        return "Nothing is drawn: the run's own way of training knows its data alone."
    if len(evaluator.network.size) == 3:
        return "Nothing is drawn of clips: their maps differ from frame to frame, and a page shows one picture."
    if explaining(task) is None:
        return "Nothing is drawn: the task does not say what is to be explained (`cam` and `explain`, see docs/analysis.md)."
    return ""


def choose(results: Results) -> tuple[list[Chosen], list[str]]:
    """The plain, the searched and the best uniform network, of those whose weights are kept; and what lacks, in words.

    The searched one is the knee of the front of expected values, as ``export`` takes it.
    """
    plain = str(Architecture.plain(results.config.space.backbone))
    uniform = set(uniform_architectures(results.config.space)) - {plain}
    trained = list(map(str, results.evidence.rows["architecture"]))
    searched = set(map(str, results.summary["architecture"])) - uniform - {plain}
    wanted = {"plain": {plain}, "searched": searched, "uniform": uniform}
    chosen, lacking, notes = [], [], []
    for role, texts in wanted.items():
        if not texts:  # no published default fits every stage, or the search tried nothing else
            continue
        kept = {text: weights for text in trained if text in texts and (weights := kept_weights(results, text))}
        if not kept:
            lacking.append(role)
            continue
        best = _best(results, role, kept)
        chosen.append(Chosen(role, Architecture.parse(best), kept[best]))
        if role == "searched" and (better := _best(results, role, texts & set(trained))) != best:
            notes.append(f"{better} is expected to be better, but its weights were not kept.")
    if lacking:
        notes.append(f"No weights are kept of: {', '.join(lacking)}.")
    return chosen, notes


def _best(results: Results, role: str, texts: Collection[str]) -> str:
    """Which of some architectures that were trained stands for a role."""
    if role == "searched":
        return str(results.pick({}, among=texts)["architecture"])
    rows = results.evidence.rows
    return str(results.evidence.best(rows[rows["architecture"].isin(texts)])["architecture"])


def _drawn(results: Results, evaluator: Evaluator, count: int) -> Pictures:
    chosen, notes = choose(results)
    way = command("analyze", results.folder, "--confirm", 3, "--baselines", "uniform", "--pictures", count)
    again = way if notes else ""
    task: Any = getattr(evaluator, "task", None)
    device = pick_device()
    batches = task.batches("val", batch_size=count, device=device, workers=results.config.training.workers, limit=count)
    x_BCHW, target = next(iter(batches))
    described = task.describe()
    shown = [picture_of(x_CHW, described.get("mean"), described.get("std")) for x_CHW in x_BCHW]
    maps: list[tuple[Chosen, Tensor, tuple[str, ...]]] = []
    sites: list[list[Site]] = [[] for _ in shown]
    for one in chosen:
        model = evaluator.network.build(one.arch)
        load_weights(model, one.weights.path)
        model = model.to(device).eval()
        layers = last_layers(evaluator.network, one.arch.backbone)
        found_BHW, words = explained_maps(model, x_BCHW, target, task, layers)
        maps.append((one, found_BHW.cpu(), words))
        if one.role == "searched":
            sites = _sites(evaluator, one.arch, gates(model, x_BCHW), len(shown))
    metric = results.metric.name
    networks = [
        Network(
            role=one.role,
            architecture=str(one.arch),
            score=f"{metric} {one.weights.score:.4f} in validation (seed {one.weights.seed})",
        )
        for one in chosen
    ]

    def at(side: int, quality: int, most: int) -> Pictures:
        pictures = [
            Picture(
                image=photograph(picture_HW3, side, quality),
                maps=tuple(
                    _map(one, found_BHW[index].numpy(), words[index], picture_HW3, task.cam, side, quality)
                    for one, found_BHW, words in maps
                ),
                sites=tuple(sites[index]),
            )
            for index, picture_HW3 in enumerate(shown[:most])
        ]
        told = {"cam": task.cam, "notes": tuple(notes), "command": again}
        return Pictures(networks=tuple(networks), pictures=tuple(pictures), **told)

    return fitting(at, len(shown))


def fitting(at: Callable[[int, int, int], Pictures], count: int) -> Pictures:
    """The first of ``at(side, quality, most)`` that fits into ``LIMIT``: of smaller and coarser pictures, then of fewer."""
    for side, quality, most in [
        *((*size, count) for size in SIZES),
        *((*SIZES[-1], most) for most in range(count)[::-1]),
    ]:
        found = at(side, quality, most)
        if len(found.model_dump_json()) <= LIMIT:
            break
    return found


def explained_maps(
    model: nn.Module, x_BCHW: Tensor, target: Any, task: Explaining, layers: Sequence[str]
) -> tuple[Tensor, tuple[str, ...]]:
    """The maps (B, H, W) of what a task explains of a network in eval mode, and what that is of each picture, in words.

    A map is that of the first of the ``layers`` that speaks for the score at all: small boxes are found on finer maps than the
    last one. It is zero where none does. Raises UsageError for a task that does not explain what it should.
    """
    if task.cam not in METHODS:
        raise unknown("cam of a task", task.cam, METHODS)
    method = METHODS[task.cam]
    with torch.no_grad():
        words = task.explain(model(x_BCHW), target).words
    if len(words) != len(x_BCHW):
        raise UsageError(f"the task explains {len(words)} of {len(x_BCHW)} pictures in words; valid: each")
    found_BHW = torch.zeros(len(x_BCHW), *x_BCHW.shape[2:], device=x_BCHW.device)
    for layer in layers:
        empty_B = ~found_BHW.flatten(1).any(1)
        if not empty_B.any():
            break
        maps_BHW = method(model, x_BCHW, layer, lambda output: task.explain(output, target).score_B)
        found_BHW = torch.where(empty_B[:, None, None], maps_BHW, found_BHW)
    return found_BHW, words


def _map(one: Chosen, map_HW: Array, words: str, picture_HW3: Array, cam: str, side: int, quality: int) -> Map:
    words += "" if map_HW.any() else "; nothing here speaks for it"
    alt = f"{cam} of the {one.role} network for {words}: strongest {strongest_place(map_HW)}"
    return Map(role=one.role, words=words, alt=alt, image=photograph(picture_HW3, side, quality, map_HW))


def _sites(evaluator: Evaluator, arch: Architecture, found: dict[str, Weighing], count: int) -> list[list[Site]]:
    """What the placements of an architecture weigh in each of ``count`` pictures, of every stage at the last of its sites."""
    told: list[list[Site]] = [[] for _ in range(count)]
    for number, (stage, placement) in enumerate(evaluator.network.placed(arch), start=1):
        there = [one.attention for one in stage.at(placement.site) if one.attention in found]
        if not there:
            continue
        name = stage.name or f"stage {number}"
        name += f", last of {len(there)} sites" if len(there) > 1 else ""
        for index, site in enumerate(_site(found[there[-1]], name, str(placement))):
            told[index].append(site)
    return told


def _site(one: Weighing, stage: str, placement: str) -> list[Site]:
    """The same of one site: the colours of all pictures have one scale."""
    channels_BC = one.channels_BC.double().cpu().numpy()
    space_BHW = one.space_BHW.double().cpu().numpy()
    scales = [_range(channels_BC), _range(space_BHW)]
    found = []
    for channels_C, space_HW in zip(channels_BC, space_BHW, strict=True):
        over_channels, over_space = _range(channels_C), _range(space_HW)
        mean = float(np.nanmean(channels_C)) if np.isfinite(channels_C).any() else float("nan")
        what = "multiplies by" if one.kind == "factor" else "adds, as a share of its input (root mean squares),"
        ends = f"over the channels {_told(over_channels)}, over the positions {_told(over_space)}"
        words = f"{what} {mean:.3g} on average; {ends}"
        strip = heat_map(reduced(channels_C[None], 1, STRIP), *scales[0]) if _differs(over_channels) else None
        grid = heat_map(reduced(space_HW, GRID, GRID), *scales[1]) if _differs(over_space) else None
        found.append(Site(stage=stage, placement=placement, words=words, space=grid, channels=strip))
    return found


def _range(values: Array) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (float("nan"), float("nan"))


def _differs(ends: tuple[float, float]) -> bool:
    return ends[1] - ends[0] > SAME


def _told(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}" if _differs(ends) else "the same"
