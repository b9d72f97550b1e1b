"""A network as one readable Python file that needs torch, timm and safetensors only: what it calls, and the code of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from search.export.calls import build_dense_lines, build_lines, homes, literal
from search.export.copying import Sources
from search.export.subject import Subject
from spaces.errors import UsageError
from spaces.heads.base import DenseHead

TEMPLATE = (Path(__file__).parent / "model.py.jinja").read_text()
DENSE = (Path(__file__).parent / "dense.py.jinja").read_text()  # of segmenters and detectors


def model_source(subject: Subject) -> str:
    """The text of the file; its `create()` gives the network of `subject` with the same names in its state_dict."""
    sources = Sources(homes(subject.arch))
    dense = isinstance(subject.network.head, DenseHead)
    build = build_dense_lines(subject, sources) if dense else build_lines(subject, sources)
    needed = [("pathlib", "Path"), ("typing", "Any"), ("torch", "nn"), ("safetensors.torch", "load_file")]
    for module, name in needed if dense else [*needed, ("timm.models", "register_model")]:
        sources.need(module, name)
    spec = subject.spec
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["literal"] = literal
    environment.filters["words"] = words
    return environment.from_string(DENSE if dense else TEMPLATE).render(
        name=subject.model_name,
        architecture=spec["architecture"],
        spec=spec,
        size=subject.network.size,
        span=subject.pixel_span,
        config=pretrained_config(subject),
        imports=sources.import_lines(),
        definitions=sources.definitions(),
        build=build,
        outputs=subject.outputs,
    )


def refuse_dense(subject: Subject, form: str) -> None:
    """Raise UsageError for a network that is no classifier, which is all that timm's own formats know."""
    if isinstance(subject.network.head, DenseHead):
        raise UsageError(
            f"--format {form}: timm's formats are for classifiers; valid for a network of {subject.network.head.name}: "
            "python, safetensors, onnx, torch-export, spec"
        )


def words(value: Any) -> str:
    """A value as text that can stand in a docstring and in a comment: one line, without quotes and backslashes."""
    text = value if isinstance(value, str) else literal(value)
    kept = "".join(one if one.isprintable() and one not in '"\\' else "?" for one in text)
    return kept.strip()


def pretrained_config(subject: Subject) -> dict[str, Any]:
    """What timm wants to know of a trained network."""
    spec = subject.spec
    return {
        "num_classes": spec["num_classes"],
        "input_size": subject.network.shape,
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "mean": tuple(spec.get("mean", (0.5,) * spec["in_chans"])),
        "std": tuple(spec.get("std", (0.5,) * spec["in_chans"])),
        "classifier": subject.classifier,
    }
