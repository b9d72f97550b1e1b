"""Writing a found architecture so that it can be used anywhere, proving that it can, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluators.metric import Metric
from search.build import create_trainer
from search.config import check_folder
from search.export.beside import write_beside
from search.export.card import write_card
from search.export.check import Check, ExportError, check
from search.export.format import Format, check_options, find_format, known_formats, register_format, write_formats
from search.export.formats import list_formats
from search.export.placing import place, staging
from search.export.reading import load_exported
from search.export.subject import Subject, make_spec
from search.files import is_file, read_json, unreadable
from search.results import Results, load
from search.store import BY_CLASS
from search.weights import Weights, kept_texts, kept_weights
from spaces import Architecture, NetworkSpec
from spaces.errors import UsageError, shortened

__all__ = [
    "Check",
    "ExportError",
    "Exported",
    "Format",
    "export",
    "export_inserted",
    "list_formats",
    "load_exported",
    "register_format",
]

RETRAIN_SEED = 2000  # apart from the seeds of searches and of their confirmation


@dataclass(frozen=True)
class Exported:
    """What was written, how far the logits of each format are off the model's, and what speaks for the architecture.

    ``score``: of the weights that were written, in ``judge``'s unit. ``reason``: None for an architecture of no run.
    """

    architecture: str
    score: float | None
    files: tuple[Path, ...]
    checks: tuple[Check, ...]
    judge: Metric = field(default_factory=Metric)
    reason: str | None = None

    @property
    def told(self) -> str:
        """The score of these weights as people read it; empty where there is none."""
        return "" if self.score is None else self.judge.told(self.score)

    @property
    def metric(self) -> str:
        return self.judge.name

    def to_dict(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            self.metric: self.score,
            "reason": self.reason,
            "files": [str(path) for path in self.files],
            "checks": [one.to_dict() for one in self.checks],
        }


def export(
    source: str,
    *,
    to: str | Path,
    limits: Mapping[str, Any] | None = None,
    pick: str | None = None,
    formats: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    retrain: bool = False,
    epochs: int | None = None,
    force: bool = False,
) -> Exported:
    """Write an architecture into the folder ``to`` and load each file again in a fresh process.

    ``source`` is a run directory, from which the architecture of the best expected value within ``limits``, the one named by
    ``pick``, or else the knee of the front is taken (``Results.pick``); or an architecture as text, which gets fresh weights.
    The weights are those of its best seed, or newly trained for ``epochs`` (the run's full fidelity unless given) with
    ``retrain``.
    ``options``: choices of the formats by name, as ``{"opset": 13, "dynamic": "size"}`` of onnx. ``force``: also over files
    that no export wrote.
    Raises UsageError for an unknown format, an option that none of the formats takes, a file in the way, a run without a
    fitting architecture, or weights that were not kept; ExportError where what was written is not the model.
    """
    folder = Path(to)
    check_folder("--to", folder)
    anew = bool(retrain or epochs)
    subject = find_subject(source, limits or {}, pick, anew)  # first: the run's configuration may bring formats
    wanted = list(dict.fromkeys(formats or (one.name for one in known_formats() if one.default)))
    for name in wanted:
        find_format(name)
    check_options(wanted, options or {})
    if anew:
        subject = _retrained(subject, epochs)
    elif subject.results is not None:
        subject = replace(subject, weights=_best_weights(subject.results, subject.arch))
    return _write(subject, folder, wanted, options, force=force)


def export_inserted(
    arch: Architecture,
    network: NetworkSpec,
    *,
    to: str | Path,
    weights: bool | str | Path = False,
    formats: Sequence[str] | None = None,
    force: bool = False,
) -> Exported:
    """Write a network of no run: attention in a plain network, whose weights are kept, and load each file again.

    ``weights``: True fetches the library's, a path loads a checkpoint of the plain network, False starts it anew.
    Raises as ``export`` does, and UsageError for a checkpoint that does not fit.
    """
    check_folder("--to", Path(to))
    wanted = list(dict.fromkeys(formats or (one.name for one in known_formats() if one.default)))
    check_options(wanted, {})
    return _write(Subject(arch, make_spec(arch, **network.to_dict()), plain=weights), Path(to), wanted, {}, force=force)


def _write(
    subject: Subject, folder: Path, wanted: Sequence[str], options: Mapping[str, Any] | None, *, force: bool
) -> Exported:
    """Write a subject in these formats, prove them, and put the files into their folder."""
    with staging(folder) as inside:
        model = subject.model()
        written = write_formats(subject, model, inside, wanted, options)
        files = [path for paths in written.files.values() for path in paths]
        files += [*write_beside(subject, model, inside), write_card(subject, inside)]
        checks = check([written])[0]
        files = place(files, inside, folder, force=force)
    score = subject.weights.score if subject.weights is not None else None
    metric = subject.results.metric if subject.results is not None else Metric()
    return Exported(str(subject.arch), score, tuple(dict.fromkeys(files)), tuple(checks), metric, subject.reason)


def find_subject(source: str, limits: Mapping[str, Any], pick: str | None, retrain: bool) -> Subject:
    """What ``export`` writes, without weights yet; raises UsageError where nothing fits.

    Unless it is trained anew, the choice is among what has weights, where the best has none; that is said.
    """
    if ":" in source and not is_file(Path(source) / "config.yaml"):
        if limits or pick:
            raise UsageError("--max and --pick choose within a run; an architecture is exported as it stands")
        arch = Architecture.parse(source)
        return Subject(arch, make_spec(arch, **NetworkSpec.classifier(224, 1000).to_dict()))
    results = load(source)
    row, note = results.pick(limits, pick), ""
    if pick is None and not retrain and kept_weights(results, row["architecture"]) is None:
        kept = kept_texts(results)
        if len(results.within(limits, results.evidence.rows[results.evidence.rows["architecture"].isin(kept)])):
            note = (
                f"; {row['architecture']} is expected to be better, but its weights were not kept: --retrain trains it"
            )
            row = results.pick(limits, among=kept)
    arch = Architecture.parse(row["architecture"])
    spec = make_spec(arch, **{**results.data, **results.network.to_dict()})
    return Subject(arch, spec, results, {str(key): value for key, value in row.items()}, results.reason(row) + note)


def _best_weights(results: Results, arch: Architecture) -> Weights:
    """The kept weights of the best validation score among all seeds at the highest fidelity; raises UsageError without any."""
    if found := kept_weights(results, str(arch)):
        return found
    raise UsageError(
        f"the weights of {arch} were not kept (search.keep_weights: {results.config.search.keep_weights}); choose one of the"
        " front, train it again with --retrain, or search with keep_weights: all"
    )


def _retrained(subject: Subject, epochs: int | None) -> Subject:
    """The same with weights trained now; kept in the run directory, so that asking again costs nothing."""
    results = subject.results
    if results is None:
        raise UsageError("--retrain trains on the data of a run; an architecture alone has none")
    metric = results.metric.name
    fidelity = epochs or results.config.training.epochs
    seed = results.config.seed + RETRAIN_SEED
    path = results.folder / "weights" / f"{subject.arch.key}-s{seed}-e{fidelity}.safetensors"
    note = path.with_suffix(".json")
    if not (path.exists() and note.exists()):
        metrics = create_trainer(results.config).evaluate(subject.arch, fidelity=fidelity, seed=seed, keep=path)
        note.write_text(json.dumps({metric: metrics[metric], BY_CLASS: results.metric.of_classes(metrics)}))
    noted = read_json(note, dict, advice := "remove it, and --retrain trains again")
    score, classes = noted.get(metric), noted.get(BY_CLASS, {})
    if not isinstance(score, int | float):
        raise unreadable(note, f"{metric} = {shortened(score)}", advice)
    if not isinstance(classes, dict) or not all(isinstance(one, int | float) for one in classes.values()):
        raise unreadable(note, f"{BY_CLASS} = {shortened(classes)}", advice)
    return replace(subject, weights=Weights(path, seed, fidelity, float(score), classes))
