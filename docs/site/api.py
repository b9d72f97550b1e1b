"""The reference of the Python interface, from its docstrings."""

from __future__ import annotations

import inspect
from importlib import import_module

import attune

# Beside what `attune` itself gives: what its results and its extensions are made of.
BESIDE = {
    "Costs": ["evaluators.count_cost", "evaluators.CostTable", "evaluators.Cost"],
    "Searching and reading results": ["search.load", "search.results.Results", "search.samplers.KnownCostSampler"],
    "Export": ["search.export.export", "search.export.load_exported"],
    "Interfaces to implement": [
        "evaluators.base.Evaluator",
        "evaluators.tasks.base.Task",
        "search.objectives.Objective",
        "spaces.attention.AttentionType",
        "spaces.attention.part",
        "spaces.attention.Gate",
    ],
}


def documented() -> dict[str, list[str]]:
    """Headings, and the objects below each as ``module.name``."""
    return {"attune": [f"attune.{name}" for name in attune.__all__]} | BESIDE


def markdown() -> str:
    """A directive of autodoc for each object."""
    parts = []
    for title, names in documented().items():
        parts += [f"## {title}", ""]
        for name in names:
            module, _, attribute = name.rpartition(".")
            found = getattr(import_module(module), attribute)
            kind = "autoclass" if inspect.isclass(found) else "autofunction"
            options = ["   :members:"] if inspect.isclass(found) and not issubclass(found, Exception) else []
            parts += [
                f"### {name.removeprefix('attune.')}",
                "",
                "```{eval-rst}",
                f".. {kind}:: {name}",
                *options,
                "```",
                "",
            ]
    return "\n".join(parts)
