"""The reference of the configuration: every key with its type, default and meaning, from the sections that validate it."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SerializeAsAny
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from evaluators.base import EVALUATORS
from evaluators.brought import BroughtEvaluator
from evaluators.data import options as pictures
from evaluators.data.boxes import load as boxes
from evaluators.data.clips import load as clips
from evaluators.data.masks import options as masks
from evaluators.recipe import PRESETS
from evaluators.sections import Named
from evaluators.tasks.base import TASKS, BroughtTask
from search.config import Config
from search.schedulers.base import SCHEDULERS, BroughtScheduler
from spaces.heads.base import HEADS
from spaces.plugins import Registry

# The keys whose section is chosen by its name, and the section of what users bring.
CHOSEN: dict[str, tuple[Registry[Any], type[Named]]] = {
    "task": (TASKS, BroughtTask),
    "evaluator": (EVALUATORS, BroughtEvaluator),
    "search.scheduler": (SCHEDULERS, BroughtScheduler),
}
BROUGHT = "module:..."
# The options beside `data.name`, by task and by how the name begins.
DATA: dict[str, dict[str, type[BaseModel]]] = {
    "classification": {
        "cluttered_digits": pictures.ClutterOptions,
        "digits": pictures.DigitsOptions,
        "folder:PATH": pictures.FolderOptions,
        "hf:FOLDER, hf:OWNER/NAME": pictures.TableOptions,
        "npz:FILE": pictures.ArrayOptions,
        "torchvision's sets": pictures.DownloadOptions,
    },
    "segmentation": {
        "cluttered_digits": pictures.SceneOptions,
        "folder:PATH": masks.MaskFolderOptions,
        "voc:PATH, cityscapes:PATH, camvid:PATH": masks.PublishedOptions,
        "hf:FOLDER, hf:OWNER/NAME": masks.MaskTableOptions,
    },
    "detection": {
        "cluttered_digits": boxes.BoxSceneOptions,
        "voc:FOLDER": boxes.VocOptions,
        "coco:FOLDER": boxes.FileOptions,
        "yolo:FOLDER": pictures.FolderOptions,
        "hf:FOLDER, hf:OWNER/NAME": boxes.TableBoxOptions,
    },
    "video": {
        "moving_digits": clips.MotionOptions,
        "folder:PATH, ucf101:PATH, kinetics:PATH": clips.FileClipOptions,
        "npz:FILE": clips.ClipOptions,
    },
}
WORDS = {int: "integer", float: "number", str: "text", bool: "true, false", type(None): "null", Any: "anything"}


@dataclass(frozen=True)
class Key:
    """One key of the configuration, in words."""

    path: str
    type: str
    default: str
    meaning: str


def tables() -> Iterator[tuple[str, str, list[Key]]]:
    """(title, what the section is, its keys): the whole configuration, section by section."""
    yield "Top level", _what(Config), keys(Config, "")
    yield from _sections(Config, "")
    for task, forms in DATA.items():
        for form, model in forms.items():
            yield f"data of {task}: {form}", _what(model), keys(model, "data.")


def _sections(model: type[BaseModel], start: str) -> Iterator[tuple[str, str, list[Key]]]:
    for name, field in model.model_fields.items():
        path = f"{start}{name}"
        if path in CHOSEN:
            registry, brought = CHOSEN[path]
            ours = {
                word: one for word, one in registry.items() if one.__module__.startswith(("evaluators.", "search."))
            }
            first = getattr(model.model_fields[name].get_default(call_default_factory=True), "name", "")
            for word, section in {first: ours[first], **ours, BROUGHT: brought}.items():
                yield f"{path}: {word}", _what(section), keys(section, f"{path}.", word)
                yield from _sections(section, f"{path}.")
            continue
        for section in _models(field.annotation):
            yield path, _what(section), keys(section, f"{path}.")
            yield from _sections(section, f"{path}.")


def keys(model: type[BaseModel], start: str, chosen: str = "") -> list[Key]:
    """The keys of a section. ``chosen``: the name by which the section is chosen."""
    found = []
    for name, field in model.model_fields.items():
        meaning = field.description or ""
        if name == "name" and chosen:
            word = "module:package.file:name" if chosen == BROUGHT else chosen
            meaning = f"`{word}` chooses this section"
        found.append(Key(start + name, spelled(field, start + name), default(field), meaning))
    return found


def spelled(field: FieldInfo, path: str = "") -> str:
    """The type of a key in words, with its limits."""
    if path in CHOSEN:
        return "a name, or a section"
    return _type(field.annotation, field.metadata)


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(args[0], [*args[1:], *metadata])
    if origin is SerializeAsAny:
        return _type(args[0], metadata)
    if origin in (Union, types.UnionType):
        numbers = {int, float} <= set(args)
        several = [one for one in args if not (numbers and one is int)]
        return " or ".join(dict.fromkeys(_type(one, metadata) for one in several))
    if origin is Literal:
        return ", ".join(f"`{_text(one)}`" for one in args)
    if origin is tuple:
        return f"list of {_type(args[0])}" if args[-1] is Ellipsis else "[" + ", ".join(map(_type, args)) + "]"
    if origin is dict:
        return f"mapping of {_type(args[0])} to {_type(args[1])}" if args else "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section"
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation))) + (
        _limits(metadata) if annotation in (int, float) else ""
    )


def _limits(metadata: Sequence[Any]) -> str:
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    # Constraints lie beside each other, or inside of a field that Annotated holds.
    flat = [inner for one in metadata for inner in (one.metadata if isinstance(one, FieldInfo) else [one])]
    said = [f"{word} {getattr(one, key):,}" for key, word in words.items() for one in flat if hasattr(one, key)]
    return f" {' '.join(said)}" if said else ""


def default(field: FieldInfo) -> str:
    """The default of a key as one writes it."""
    if field.default_factory is not None:
        made = field.get_default(call_default_factory=True)
        if isinstance(made, Named):
            return f"`{made.name}`"
        return "its defaults" if isinstance(made, BaseModel) else f"`{_text(made)}`"
    return "required" if field.default is PydanticUndefined else f"`{_text(field.default)}`"


def _text(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    words: str = yaml.safe_dump(plain, default_flow_style=True, width=10**6)
    return words.removesuffix("\n...\n").strip()


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a key may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for one in get_args(annotation) for found in _models(one)]


def _what(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n\n")[0].replace("``", "`").strip()


def markdown() -> str:
    """A table for each section, the presets of `training`, and the options of heads."""
    parts = []
    for title, what, rows in tables():
        parts += [f"## {title}", "", what, ""]
        parts += _table(
            ("key", "type", "default", "meaning"), [[f"`{k.path}`", k.type, k.default, k.meaning] for k in rows]
        )
        if title == "training":
            shown = [[f"`{name}`", _pairs(values) or "the defaults above"] for name, values in PRESETS.items()]
            parts += ["### Presets", "", *_table(("`training.preset`", "what it sets"), shown)]
    parts += ["## Options of heads", "", "They stand beside `task.head`.", ""]
    heads = [
        [f"`{name}`", ", ".join(f"`{one.name}`" for one in fields(head) if one.init and one.name != "classes") or "-"]
        for name, head in HEADS.items()
    ]
    return "\n".join([*parts, *_table(("head", "options"), heads)])


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}: {_text(value)}`" for key, value in values.items())


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose rows stand one below the other on a narrow page."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return ["```{container} keys", f"| {' | '.join(header)} |", "|---" * len(header) + "|", *lines, "```", ""]
