"""The README of an exported model: what it is, what it costs, how well it did and how sure that is, and how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, StrictUndefined

from evaluators.cost import count_network
from search.evidence import EXPECTED, HIGH, LOW
from search.export.files import CARD, write_text
from search.export.subject import Subject
from search.public import portable
from spaces import Architecture

TEMPLATE = Path(__file__).with_name("card.md.jinja")


def write_card(subject: Subject, folder: Path) -> Path:
    """Write README.md, which every export gets."""
    return write_text(folder / CARD, model_card(subject))


def model_card(subject: Subject) -> str:
    """Markdown with the metadata that a Hugging Face repository wants at its top."""
    spec = subject.spec
    cost = count_network(subject.arch, subject.network)
    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.filters["words"] = words
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    recipe = ""
    if subject.results:
        recipe = yaml.safe_dump(portable(subject.results.config.training.model_dump(mode="json")))
    return template.render(
        spec=spec,
        size=subject.network.size,
        span=subject.pixel_span,
        name=subject.model_name,
        cost=cost,
        facts=_facts(subject),
        trained=_trained(subject),
        inserted=subject.plain is not False,
        classes=_classes(subject),
        recipe=recipe,
        outputs=subject.outputs,
    )


def words(value: Any) -> str:
    """A value as text that stays one line and one cell of a table, and is no markup."""
    text = "".join(one if one.isprintable() else " " for one in str(value))
    return text.replace("`", "'").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def _facts(subject: Subject) -> list[tuple[str, str]]:
    """What the run found out about the architecture, as rows of the table."""
    results, row, weights = subject.results, subject.row, subject.weights
    if results is None or row is None or weights is None:
        return []
    text, metric, told = str(subject.arch), results.metric.name, results.metric.told
    facts = [
        (f"validation {metric} of these weights", f"{told(weights.score)} (seed {weights.seed})"),
        (
            f"expected validation {metric}, by all that was trained",
            f"{told(row[EXPECTED])}, 95 % interval {results.metric.interval(row[LOW], row[HIGH])}",
        ),
    ]
    for found in results.summary[results.summary["architecture"] == text].to_dict("records"):
        many = found["seeds"] > 1
        seeds = f"mean of {found['seeds']} seeds" if many else "one seed"
        facts.append((f"validation {metric} in the search", f"{told(found[metric])} ({seeds})"))
    if rival := results.evidence.rival(row, results.minimised):
        facts.append(("costs less and cannot be told apart", rival))
    plain = results.summary[results.summary["architecture"] == str(Architecture.plain(subject.arch.backbone))]
    if len(plain):
        facts.append(
            (f"validation {metric} of the plain backbone in the search", f"{told(plain[metric].iloc[0])} (one seed)")
        )
    for fresh in results.confirmed[results.confirmed["architecture"] == text].to_dict("records"):
        facts.append(
            (
                f"validation {metric}, mean of {fresh['seeds']} fresh seeds",
                f"{told(fresh[metric])}, 95 % interval {results.metric.interval(fresh['low'], fresh['high'])}",
            )
        )
        facts.append(("probability of being truly non-dominated", f"{fresh['p_front']:.3f}"))
        if np.isfinite(fresh[f"test_{metric}"]):
            facts.append((f"test {metric}, mean of these seeds", told(fresh[f"test_{metric}"])))
    front = list(results.recommended()["architecture"])
    place = f"{front.index(text) + 1} of {len(front)}, by rising cost" if text in front else "not on the front"
    return [*facts, ("position on the recommended front", place)]


def _classes(subject: Subject) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table of single classes; no rows where the run does not know of them."""
    results, weights = subject.results, subject.weights
    if results is None or weights is None or not weights.by_class:
        return [], []
    table = results.by_class
    known = table[table["architecture"] == str(subject.arch)].set_index("class")
    columns = {"fresh": "mean over fresh seeds", "test": "test, mean of these seeds"}
    shown = [name for name in columns if known[name].notna().any()]
    head = ["class", f"validation {results.metric.by_class} of these weights", *(columns[name] for name in shown)]
    rows = [
        [name, f"{value:.4f}", *(_number(known[column].get(name, np.nan)) for column in shown)]
        for name, value in weights.by_class.items()
    ]
    return head, rows


def _number(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "-"


def _trained(subject: Subject) -> str:
    results, weights = subject.results, subject.weights
    if results is None or weights is None:
        return ""
    data, metric = words(portable(results.config.data)), words(results.metric.name)
    return (
        f"Trained on `{data}` for {weights.fidelity} epochs with seed {weights.seed}. Validation {metric} chose "
        f"this architecture among {len(results.summary)}, so that of the search is somewhat optimistic."
    )
