"""`attune.search`: a search from a notebook, over names or over the user's own objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from attune.keeping import keep_data, keep_function, keep_network
from attune.results import Budget, Run, limits_of, load
from search.config import Config, check_folder, set_key, validate
from search.files import new_run_folder
from search.runner import run_search
from search.store import FAILED
from spaces.errors import UsageError, shortened


def search(
    model: str | nn.Module,
    data: Any = None,
    *,
    budget: Budget = "1.05x",
    trials: int = 40,
    attentions: Sequence[str] | None = None,
    epochs: int | None = None,
    train: Callable[..., Mapping[str, Any]] | None = None,
    metric: str | Mapping[str, Any] | None = None,
    input_size: Sequence[int] | int | None = None,
    classes: int | None = None,
    run: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Search where attention belongs in a network, and return the results; Ray is started and stopped on the way.

    Args:
        model: the name of a backbone, or a network of your own with its weights, which every candidate starts from.
        data: the name of a data set, a folder of pictures, a mapping as in a configuration, a Dataset or DataLoader of
            (picture, class), arrays (pictures, classes), a pair of such for training and test, or three with validation
            between; without one, validation is cut from training. It is read once: changes at random belong into the training.
            None where ``train`` brings its own.
        budget: what a candidate may cost: FLOPs as ``"1.05x"`` of the plain network or ``"310M"``, or limits by name; None:
            any.
        trials: how many candidates are tried.
        attentions: the types to choose from, as ``["none", "se", "cbam"]``; None: a default choice.
        epochs: of each training; None: those of the recipe.
        train: your own training, ``train(model, *, epochs, seed, device, report) -> {"accuracy": ...}``; of the keywords it
            takes what it names. It may declare ``identity``, a text that changes with its data. None: Attune's own training.
        metric: what ``train`` returns and candidates are judged by: a name, or a mapping with ``higher_is_better``.
        input_size: (C, H, W) of what the network takes, (H, W) or a side; None: that of the data, or what the network says.
        classes: of a network by name that ``train`` trains without ``data``.
        run: the folder of the run; one that holds a run of the same goes on. None: a new one in ``runs``.
        settings: anything else of a configuration, as ``{"training.lr": 0.1, "search": {"hours": 2}}``.

    Raises:
        UsageError: what was asked for is not possible; the message says what is.
        RuntimeError: every evaluation failed; the message has the first reason.
    """
    if not isinstance(model, str | nn.Module):
        raise UsageError(
            f"model {shortened(model)} is a {type(model).__name__}; valid: the name of a backbone, or a network"
        )
    if data is None and train is None:
        raise UsageError(
            "nothing tells what to train on; valid: data=..., or a training function of your own, train=..."
        )
    own = isinstance(model, nn.Module)
    folder = Path(run) if run is not None else new_run_folder(_word(model))
    check_folder("run", folder)
    raw: dict[str, Any] = {"name": _word(model), "space": {}, "search": {"trials": trials, "budget": limits_of(budget)}}
    size = tuple(input_size) if isinstance(input_size, Sequence) else input_size
    if data is not None:
        raw["data"], found = _data(data, folder)
        size = size if size is not None else found
    shape: tuple[int, ...] | None = None
    if isinstance(model, nn.Module):
        name, shape, outputs = keep_network(model, folder, size)
        raw["space"] |= {"backbone": name, "stem": "keep"}
        classes = classes if classes is not None else outputs
    else:
        raw["space"]["backbone"] = model
    if attentions is not None:
        raw["space"]["attentions"] = list(attentions)
    if epochs is not None:
        raw["training"] = {"epochs": epochs}
    if train is not None:
        raw["evaluator"] = _evaluator(
            train, folder, metric, None if data is not None else _network(shape, size, classes, own)
        )
    elif metric is not None:
        raise UsageError(f"metric {shortened(metric)} names what train=... returns; without it the task has its own")
    for key, value in (settings or {}).items():
        _set(raw, key, value)
    config = validate(raw, "attune.search")
    return _run(config, folder)


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set a key of the configuration; of a section, every key that is given."""
    if not isinstance(value, Mapping):
        set_key(raw, key, value, f"settings {shortened({key: value})}")
        return
    for name, one in value.items():
        _set(raw, f"{key}.{name}", one)


def _run(config: Config, folder: Path) -> Run:
    run_search(config, folder, resume=(folder / "config.yaml").exists())
    found = load(folder)
    if len(found.searched) and (found.searched["state"] == FAILED).all():
        reason = found.searched["reason"].iloc[0]
        raise RuntimeError(f"all {len(found.searched)} evaluations failed, the first with: {reason}")
    return found


def _data(data: Any, folder: Path) -> tuple[Any, tuple[int, ...] | None]:
    """What the section `data` says, and the (C, H, W) of a picture where that is known."""
    if isinstance(data, Mapping):
        return dict(data), None
    if isinstance(data, str | Path):
        path = Path(data).expanduser()
        return (f"folder:{path.resolve()}" if path.is_dir() else str(data)), None
    return keep_data(data, folder)


def _evaluator(
    train: Callable[..., Any], folder: Path, metric: str | Mapping[str, Any] | None, network: dict[str, Any] | None
) -> dict[str, Any]:
    """The section of a training function."""
    if not callable(train):
        raise UsageError(f"train {shortened(train)} is a {type(train).__name__}; valid: a function of a network")
    name, identity = keep_function(train, folder)
    section: dict[str, Any] = {"name": name, "identity": identity}
    if metric is not None:
        section["metric"] = metric if isinstance(metric, str) else dict(metric)
    return section | ({"network": network} if network is not None else {})


def _network(
    shape: tuple[int, ...] | None, size: tuple[int, ...] | int | None, classes: int | None, own: bool
) -> dict[str, Any]:
    """The section of the network around an architecture, where no data tell it."""
    if not own and (size is None or classes is None):
        raise UsageError(
            "without data=... nothing tells what the network takes and gives; valid: input_size= and classes="
        )
    sides = shape or (size if isinstance(size, tuple) else (size, size))
    channels, image = (sides[0], sides[1:]) if len(sides) > 2 else (3, sides)
    return {"image_size": list(image), "channels": channels, "classes": classes or 1}


def _word(model: str | nn.Module) -> str:
    """A name for the run."""
    text = model.rpartition(":")[2] if isinstance(model, str) else type(model).__name__
    return "".join(one if one.isalnum() or one in "._-" else "-" for one in text).strip("._-")[:60].lower() or "search"
