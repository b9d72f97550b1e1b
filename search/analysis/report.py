"""The report of a run: one self-contained HTML file that works from disk, and figures and tables for papers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.analysis.attribution import Attribution, attribute
from search.analysis.classes import class_payload
from search.analysis.compare import compare, comparison_page
from search.analysis.findings import Findings, all_sentences, findings, verdict
from search.analysis.heat import heat
from search.analysis.page import HERE, render_page
from search.analysis.papers import write_papers
from search.analysis.payload import payload, progress
from search.analysis.pictures import read_pictures
from search.analysis.verdicts import Verdict, failures, verdicts
from search.config import masked_config
from search.public import masked
from search.results import Results, load
from search.store import CONFIRM, RANDOM, SEARCH, TEST
from search.versions import versions

SHOWN_FAILURES = 200
EXTRA = {CONFIRM: "fresh seeds", RANDOM: "random search", TEST: "the test split"}  # evaluations beside the search's


@dataclass(frozen=True)
class Report:
    """Where the report lies, and what it found, in words."""

    path: Path
    sentences: tuple[str, ...]
    findings: Findings

    def to_dict(self) -> dict[str, Any]:
        groups = {heading: list(sentences) for heading, sentences in self.findings.items()}
        return {"report": str(self.path), "sentences": list(self.sentences), "findings": groups}


def analyze(runs: Sequence[str | Path]) -> Report:
    """Write ``report.html``, ``figures/`` and ``tables/`` into a run directory; of several runs ``comparison.html``.

    Raises UsageError where a folder holds no run or nothing complete, or where runs cannot be compared.
    """
    loaded = [load(run).with_evaluations() for run in runs]
    if len(loaded) > 1:
        comparison = compare(loaded)
        path = loaded[0].folder / "comparison.html"
        path.write_text(comparison_page(loaded, comparison))
        return Report(path, comparison.sentences, {"Comparison": comparison.sentences})
    results = loaded[0]
    compared, attribution = verdicts(results), attribute(results)
    path = results.folder / "report.html"
    found = findings(results, compared, attribution)
    path.write_text(render(results, compared, found, attribution))
    write_papers(results, attribution, progress(results))
    results.write_front()
    return Report(path, all_sentences(found), found)


def report_page(results: Results) -> str:
    """The report of a run as HTML, of what is finished now; nothing is written."""
    compared, attribution = verdicts(results), attribute(results)
    return render(results, compared, findings(results, compared, attribution), attribution)


def render(results: Results, compared: Sequence[Verdict], found: Findings, attribution: Attribution) -> str:
    """The report as HTML; every name from outside is escaped."""
    rows = results.evaluations
    counts = rows["purpose"].value_counts()
    broken = failures(results)
    first, beside = verdict(results, compared)
    return render_page(
        "report.html.jinja",
        payload=payload(results, attribution),
        name=results.config.name,
        backbone=results.config.space.backbone,
        data=masked(results.config.data),
        metric=results.metric,
        counts=f"{counts.get(SEARCH, 0):,} evaluations of the search"
        + "".join(f", {counts[purpose]:,} of {words}" for purpose, words in EXTRA.items() if purpose in counts)
        + f"; {len(broken)} failed",
        verdict=masked(first),
        why=masked(beside),
        findings=masked({heading: list(sentences) for heading, sentences in found.items()}),
        heat=heat(attribution, results.metric),
        effects=attribution.effects.to_dict("records"),
        genes=attribution.genes.to_dict("records"),
        failures=masked(broken.head(SHOWN_FAILURES).to_dict("records")),
        more_failures=max(0, len(broken) - SHOWN_FAILURES),
        drawn=read_pictures(results),
        classes=class_payload(results),
        config=masked_config(results.config),
        versions=versions(),
        script=(HERE / "report.js").read_text() + (HERE / "details.js").read_text(),
    )
