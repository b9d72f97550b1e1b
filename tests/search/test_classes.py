"""Values of single classes: in the journal, as a table of the run, and beside each other in the report's data."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from evaluators.tasks import Metric
from search import load
from search.analysis import analyze
from search.analysis.classes import class_payload, class_table
from search.analysis.papers import markdown
from search.store import CONFIRM, SEARCH, TEST, Evaluation, read_journal

OF_CLASSES = Metric("accuracy", by_class="accuracy")


def test_metrics_of_classes_are_told_by_the_metric() -> None:
    metrics = {"accuracy": 0.5, "accuracy cat": 0.25, "accuracy big dog": 0.75, "accuracy_std": 0.1}
    assert OF_CLASSES.of_classes(metrics) == {"cat": 0.25, "big dog": 0.75}
    assert Metric().of_classes(metrics) == {}


def with_classes(folder: Path, purposes: tuple[str, ...]) -> None:
    """Give every evaluation of these purposes two classes, whose mean is the score, and a class that was not there."""
    found = []
    for one in read_journal(folder):
        classes = {"8": one.score + 0.1, "3": one.score - 0.1}
        found.append(replace(one, by_class=classes) if one.purpose in purposes and one.state == "complete" else one)
    found += [replace(one, purpose=TEST, by_class={"8": 0.5}) for one in found if one.purpose == CONFIRM][:1]
    lines = [json.dumps({k: None if v != v else v for k, v in one.to_dict().items()}) for one in found]
    (folder / "evaluations.jsonl").write_text("\n".join(lines) + "\n")


def test_what_fresh_seeds_reach_at_each_class_is_a_table(tmp_path: Path, run_maker: Callable[..., Path]) -> None:
    folder = run_maker(tmp_path / "run", count=12, fresh=2, metric=OF_CLASSES)
    with_classes(folder, (SEARCH, CONFIRM))
    results = load(folder)
    table = results.by_class
    assert list(table["class"].unique()) == ["3", "8"], "in the order of the data's classes"
    fresh = results.confirmed.set_index("architecture")["accuracy"]
    means = table.groupby("architecture")["fresh"].mean().dropna()
    pd.testing.assert_series_equal(means.sort_index(), fresh.sort_index(), check_names=False, check_index_type=False)
    assert table["test"].count() == 1

    shown = class_table(results)
    assert list(shown.columns) == ["class", "plain", "searched", "uniform"]
    plain = fresh["attune_tiny:none,none,none"]
    assert shown["plain"].tolist() == pytest.approx([plain - 0.1, plain + 0.1])
    told = class_payload(results)
    assert (told["metric"], told["of"], told["classes"]) == ("accuracy", "the mean over fresh seeds", ["3", "8"])
    assert [one["role"] for one in told["networks"]] == ["plain", "searched", "uniform"]
    assert told["networks"][0]["values"] == shown["plain"].round(4).tolist()
    assert markdown(shown).startswith("| class | plain | searched | uniform |\n")
    page = analyze([folder]).path.read_text()
    assert f'<th class="left" scope="row">8</th><td>{results.metric.told(shown["plain"][1])}</td>' in page


def test_without_fresh_seeds_they_are_those_of_the_search(tmp_path: Path, run_maker: Callable[..., Path]) -> None:
    folder = run_maker(tmp_path / "run", count=12, metric=OF_CLASSES)
    assert class_table(load(folder)).empty
    assert class_payload(load(folder))["networks"] == []
    with_classes(folder, (SEARCH,))
    results = load(folder)
    table = class_table(results)
    assert table.attrs["of"] == "the search"
    scores = results.summary.set_index("architecture")["accuracy"]
    for role, text in table.attrs["architectures"].items():
        assert table[role].mean() == pytest.approx(scores[text])


def test_a_line_of_the_journal_with_classes_is_read_again_or_refused() -> None:
    one = Evaluation("a", 1, 0, "complete", "", 0.5, {"flops": 3}, 1.0, 2.0, "t", by_class={"cat": 0.25})
    assert Evaluation.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    for wrong in ({"cat": "high"}, ["cat"], 3):
        with pytest.raises((TypeError, ValueError)):
            Evaluation.from_dict({**one.to_dict(), "by_class": wrong})
