"""Whether the search won, in words and numbers, where the truth is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from search import load
from search.analysis.verdicts import curse, headline, verdicts
from search.confirmed import uniform_architectures


def test_verdicts_say_who_won_and_how_sure_that_is(known_run: Path) -> None:
    results = load(known_run)
    found = {one.baseline: one for one in verdicts(results)}
    plain = found["attune_tiny:none,none,none"]
    assert plain.probability > 0.99
    assert "beats the plain backbone" in plain.sentence
    assert 0.05 < plain.gain < 0.16
    for text in uniform_architectures(results.config.space):
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
