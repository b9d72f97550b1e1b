"""A run judged by something else than accuracy: its name stands in every table, and the best is what its direction says."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import run_search
from evaluators.tasks import Metric
from search import load
from search.analysis import analyze
from search.analysis.attribution import attribute
from search.analysis.compare import compare
from search.analysis.payload import payload
from search.analysis.verdicts import curse, verdicts
from search.config import load_run_config
from search.confirmed import near_front
from search.keeper import Keeper
from search.progress import Progress
from search.results import Results
from search.store import Store
from spaces.errors import UsageError
from tests.search.conftest import score_of

METRICS = [Metric("mIoU"), Metric("error", "pixels", higher_is_better=False)]
Runs = dict[str, Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    from tests.search.conftest import make_run

    root = tmp_path_factory.mktemp("metrics")
    return {one.name: make_run(root / one.name, 30, fresh=4, metric=one) for one in METRICS}


@pytest.fixture(params=METRICS, ids=lambda metric: metric.name)
def metric(request: pytest.FixtureRequest) -> Metric:
    found: Metric = request.param
    return found


@pytest.fixture
def results(runs: Runs, metric: Metric) -> Results:
    return load(runs[metric.name])


def best(values: pd.Series, metric: Metric) -> float:
    return float(values.max() if metric.higher_is_better else values.min())


def test_fronts_and_picks_hold_the_best_by_the_metrics_direction(results: Results, metric: Metric) -> None:
    name = metric.name
    assert results.metric == metric
    for frame in (results.evaluations, results.summary, results.front, results.confirmed):
        assert name in frame
        assert "accuracy" not in frame
    scores = results.front[name] * metric.sign
    assert scores.is_monotonic_increasing
    assert results.front["flops"].is_monotonic_increasing
    assert best(results.front[name], metric) == best(results.summary[name], metric)
    expected = results.evidence.rows["expected"]
    assert results.pick({"flops": "9x"})["expected"] == best(expected, metric)
    assert results.pick({})["architecture"] in set(results.evidence.rows["architecture"])
    assert (results.evidence.rows["expected_low"] < expected).all()
    assert (results.evidence.rows["expected_high"] > expected).all()
    front = set(results.front["architecture"])
    assert set(near_front(results.summary, ["flops"], 1, metric)) == front


def test_fresh_seeds_and_verdicts_say_what_is_better(results: Results, metric: Metric) -> None:
    name = metric.name
    table = results.confirmed
    true = table["architecture"].map(lambda text: score_of(text, metric))
    assert ((table["low"] <= true) & (true <= table["high"])).mean() > 0.8
    assert table.loc[table["role"] == "plain", "p_front"].item() == 1.0
    searched = table[table["role"] == "searched"]
    assert np.allclose(searched["gap"], metric.sign * (searched[f"search_{name}"] - searched[name]))
    plain = {one.baseline: one for one in verdicts(results)}["attune_tiny:none,none,none"]
    assert plain.probability > 0.99
    assert 0.05 < plain.gain < 0.16
    assert "beats the plain backbone" in plain.sentence
    assert metric.step in plain.sentence
    gap = curse(results)
    assert gap is not None
    assert -0.01 < gap[0] < 0.05


def test_gains_are_improvements_and_reports_carry_the_name(results: Results, runs: Runs, metric: Metric) -> None:
    attribution = attribute(results)
    effects = attribution.effects.set_index(["stage", "type"])
    assert effects.loc[(3, "cbam")]["gain"] == pytest.approx(0.08, abs=0.02)
    shown = payload(results, attribution)
    assert shown["metric"] == {"name": metric.name, "sign": metric.sign, "scale": metric.scale, "step": metric.step}
    assert "accuracy" not in shown["columns"]
    assert shown["progress"]["share"][-1] == 1
    assert (np.diff(shown["progress"]["share"]) >= 0).all()
    report = analyze([runs[metric.name]])
    score = best(results.front[metric.name], metric)
    assert f"reached {metric.name} {metric.told(score)} in the search" in report.sentences[1]
    assert "accuracy" not in " ".join(report.sentences)
    assert "accuracy" not in (runs[metric.name] / "tables" / "front.csv").read_text()


def test_the_command_line_prints_the_metric_by_its_name(
    runs: Runs, metric: Metric, results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run_search.py", "front", str(runs[metric.name]), "--json"])
    assert run_search.main() == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["expected"] for row in rows] == pytest.approx(results.recommended()["expected"].tolist())
    assert {
        metric.name,
        f"{metric.name}_std",
        f"search_{metric.name}",
        f"fresh_{metric.name}",
        "fresh_seeds",
        "seeds",
        "flops",
        "macs",
        "params",
    } <= set(rows[0])
    assert not [key for key in rows[0] if "accuracy" in key]
    monkeypatch.setattr(sys, "argv", ["run_search.py", "front", str(runs[metric.name])])
    assert run_search.main() == 0
    assert metric.name in capsys.readouterr().out


def test_the_keeper_and_the_progress_follow_the_direction(
    run_maker: Callable[..., Path], metric: Metric, tmp_path: Path
) -> None:
    folder = run_maker(tmp_path / "run", 12, metric=metric)
    with Store(folder, metric=metric.name) as store:
        keeper = Keeper(load_run_config(folder), store, identity="t", metric=metric)
        keeper.begin()
        front = pd.read_csv(folder / "front.csv")
        assert front["architecture"].tolist() == load(folder).front["architecture"].tolist()
        written = io.StringIO()
        progress = Progress(12, store, keeper.front, keeper.clock, Console(file=written, soft_wrap=True))
        first = next(iter(store))
        progress._before = 0
        progress.promise = lambda trials, ceiling: 0.0123 if trials > 12 else None
        progress.finished(first)
        line = written.getvalue()
        rise = metric.difference(metric.sign * 0.0123)
        assert f", one more hour may bring about {rise} {metric.step} on average over budgets, " in line
        assert f"12/12 {metric.name} {first.score:.4f}  flops {first.costs['flops']:,.0f}  {first.architecture}" in line
        assert f"front {len(front)}, best {best(front[metric.name], metric):.4f}" in line


def test_runs_of_different_metrics_are_not_compared(runs: Runs) -> None:
    with pytest.raises(UsageError, match="differ in metric"):
        compare([load(runs["mIoU"]), load(runs["error"])])
    table = compare([load(runs["error"]), load(runs["error"])]).runs
    assert table["best"].tolist() == [load(runs["error"]).front["error"].min()] * 2
