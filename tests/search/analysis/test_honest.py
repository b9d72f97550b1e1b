"""Fresh seeds against the search's own word: intervals, verdicts in words, and what is trained again at all."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from search import load
from search.analysis.honest import curse, headline, near_front, uniform_architectures, verdicts
from search.config import load_run_config
from tests.search.conftest import CONFIG, truth

ROOT = Path(__file__).parents[3]


def test_the_confirmed_table_holds_the_truth(known_run: Path) -> None:
    table = load(known_run).confirmed
    assert (table["seeds"] == 4).all()
    assert set(table["role"]) == {"plain", "uniform", "searched"}
    true = table["architecture"].map(truth)
    assert ((table["low"] <= true) & (true <= table["high"])).mean() > 0.8
    assert table["p_front"].between(0, 1).all()
    assert table.loc[table["role"] == "plain", "p_front"].item() == 1.0  # nothing is cheaper
    searched = table[table["role"] == "searched"]
    assert np.allclose(searched["gap"], searched["search_accuracy"] - searched["accuracy"])


def test_verdicts_say_who_won_and_how_sure_that_is(known_run: Path) -> None:
    results = load(known_run)
    found = {one.baseline: one for one in verdicts(results)}
    plain = found["attune_tiny:none,none,none"]
    assert plain.probability > 0.99
    assert "beats the plain backbone" in plain.sentence
    assert 0.05 < plain.gain < 0.16
    for text in uniform_architectures(load_run_config(known_run)):
        assert found[text].low <= found[text].gain <= found[text].high or np.isnan(found[text].gain)
    assert "uniform placements" in headline(results, list(found.values()))


def test_the_winners_curse_is_measured(known_run: Path) -> None:
    gap = curse(load(known_run))
    assert gap is not None
    assert -0.01 < gap[0] < 0.05


def test_without_fresh_seeds_there_is_no_verdict(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    results = load(run_maker(tmp_path / "run", 20))
    assert results.confirmed.empty
    assert verdicts(results) == []
    assert curse(results) is None
    assert "--confirm" in headline(results, [])


def test_the_front_comes_first_and_then_what_lacks_least() -> None:
    summary = pd.DataFrame({"architecture": list("abcd"), "flops": [1, 2, 3, 4], "accuracy": [0.5, 0.8, 0.1, 0.79]})
    assert near_front(summary, ["flops"], 3) == ["a", "b", "d"]
    assert near_front(summary, ["flops"], 1) == ["a", "b"]


def test_a_pick_prefers_the_means_of_fresh_seeds(known_run: Path) -> None:
    results = load(known_run)
    picked = results.pick({"flops": "9x"})
    table = results.confirmed
    both = table[table["architecture"].isin(results.summary["architecture"])]
    assert picked["accuracy"] == both["accuracy"].max()


@pytest.mark.slow
def test_confirming_a_real_run_survives_being_asked_twice(tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    training = {"preset": "short", "epochs": 1, "batch_size": 64}
    search = {"trials": 3, "sampler": "random"}
    space = {**CONFIG["space"], "attentions": ["none", "se"]}  # type: ignore[dict-item]
    config.write_text(yaml.safe_dump({"data": "digits", "space": space, "training": training, "search": search}))

    def run(*args: object) -> str:
        done = subprocess.run(
            [sys.executable, ROOT / "run_search.py", *map(str, args)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    folder = tmp_path / "run"
    run("search", config, "--run", folder)
    report = json.loads(run("analyze", folder, "--confirm", 2, "--baselines", "uniform,random", "--json"))
    rows = pd.read_parquet(folder / "evaluations.parquet")
    kinds = rows["kind"].value_counts()
    assert kinds["search"] == kinds["random"] == 3
    assert (rows[rows["kind"] == "confirm"].groupby("architecture")["seed"].nunique() == 2).all()
    assert set(rows.loc[rows["kind"] == "test", "seed"]) <= set(rows.loc[rows["kind"] == "confirm", "seed"])
    uniform = uniform_architectures(load_run_config(folder))
    assert {"attune_tiny:none,none,none", *uniform} <= set(rows.loc[rows["kind"] == "test", "architecture"])
    assert any("random search" in sentence for sentence in report["sentences"])

    run("analyze", folder, "--confirm", 2, "--baselines", "uniform,random")
    assert len(pd.read_parquet(folder / "evaluations.parquet")) == len(rows)
    exported = json.loads(run("export", folder, "--to", tmp_path / "best", "--format", "hf", "--json"))
    assert [one["difference"] for one in exported["checks"]] == [0.0]
    card = (tmp_path / "best" / "README.md").read_text()
    assert "fresh seeds" in card
    assert "test" in card
