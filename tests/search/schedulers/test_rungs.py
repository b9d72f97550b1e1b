"""Successive halving by domination: the rule against brute force, and rungs over kills."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.pareto import dominates
from search.schedulers import Rungs
from search.schedulers.rungs import Note
from spaces.errors import UsageError

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20)


@settings(deadline=None)
@given(POINTS)
def test_nothing_that_is_not_dominated_is_stopped_and_only_dominated_are(points: list[tuple[int, int]]) -> None:
    rungs = Rungs(epochs=9, first=3)
    before: list[tuple[int, int]] = []
    for i, (accuracy, cost) in enumerate(points):
        goes_on = rungs.decide(str(i), 3, accuracy, [cost])
        dominated = any(dominates([-a, c], [-accuracy, cost]) for a, c in before)
        assert goes_on or dominated
        before.append((accuracy, cost))


def test_of_many_alike_about_one_in_reduction_goes_on() -> None:
    rng = np.random.default_rng(0)
    rungs = Rungs(epochs=27, reduction=3)
    going = [rungs.decide(str(i), 1, accuracy, [1.0]) for i, accuracy in enumerate(rng.random(150))]
    assert 0.25 < np.mean(going[30:]) < 0.45


def test_levels_and_brackets() -> None:
    rungs = Rungs(epochs=27, reduction=3, brackets=3)
    assert [rungs.levels(b) for b in range(3)] == [[1, 3, 9], [3, 9], [9]]
    dealt = [rungs.enter(str(i)) for i in range(130)]
    assert dealt.count(0) > dealt.count(1) > dealt.count(2) > 0
    assert rungs.decide("0", 2, 0.1, [1.0])  # between rungs
    other = next(str(i) for i, b in enumerate(dealt) if b == 1)
    rungs.decide("0", 3, 0.9, [1.0])
    assert rungs.decide(other, 3, 0.1, [1.0])  # another bracket's trials do not count


def test_a_stopped_trial_is_expected_to_gain_what_others_gained() -> None:
    rungs = Rungs(epochs=9)
    assert rungs.expected(1, 0.4) == 0.4
    for trial, start, end in [("a", 0.5, 0.8), ("b", 0.6, 0.7), ("c", 0.5, 0.7)]:
        rungs.decide(trial, 1, start, [1.0])
        rungs.decide(trial, 9, end, [1.0])
    assert rungs.expected(1, 0.4) == pytest.approx(0.6)


@settings(deadline=None)
@given(POINTS, st.integers(0, 20))
def test_a_kill_at_any_time_changes_no_decision(points: list[tuple[int, int]], kill: int) -> None:
    def run(resume_at: int) -> list[bool]:
        rungs, out, kept = Rungs(epochs=9, brackets=2), [], []
        for i, (accuracy, cost) in enumerate(points):
            if i == resume_at:
                rungs = Rungs(epochs=9, brackets=2)
                for line in kept:
                    rungs.note(Note.from_dict(json.loads(line)))
            for epoch in (1, 3, 9):
                note = rungs.heard(str(i), epoch, accuracy + epoch, [cost])
                kept += [json.dumps(note.to_dict())] if note else []
                out.append(rungs.decide(str(i), epoch, accuracy + epoch, [cost]))
        return out

    assert run(kill) == run(-1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"first": 9}, "first rung 9 must lie below the 9 epochs"),
        ({"reduction": 1}, "reduction 1 must be more than 1"),
        ({"brackets": 5}, "brackets 5 must lie between 1 and 2"),
    ],
)
def test_mistakes_are_named(options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Rungs(epochs=9, **options)


def test_notes_of_earlier_versions_are_read() -> None:
    former = '{"trial": "a", "bracket": 0, "epoch": 3, "accuracy": 0.7, "costs": [5.0]}'
    assert Note.from_dict(json.loads(former)) == Note("a", 0, 3, 0.7, (5.0,))
