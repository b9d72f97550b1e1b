"""A network as one readable Python file that needs torch, timm and safetensors only: what it calls, and the code of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from search.export.calls import build_lines, homes, literal
from search.export.copying import Sources
from search.export.subject import Subject

TEMPLATE = (Path(__file__).parent / "model.py.jinja").read_text()


def model_source(subject: Subject) -> str:
    """The text of the file; its `create()` gives the network of `subject` with the same names in its state_dict."""
    sources = Sources(homes(subject.arch))
    build = build_lines(subject, sources)
    for module, name in (
        ("pathlib", "Path"),
        ("typing", "Any"),
        ("torch", "nn"),
        ("safetensors.torch", "load_file"),
        ("timm.models", "register_model"),
    ):
        sources.need(module, name)
    spec = subject.spec
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["literal"] = literal
    environment.filters["words"] = words
    return environment.from_string(TEMPLATE).render(
        name=subject.model_name,
        architecture=spec["architecture"],
        spec=spec,
        size=subject.network.size,
        span=subject.pixel_span,
        config=pretrained_config(subject),
        imports=sources.import_lines(),
        definitions=sources.definitions(),
        build=build,
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
