"""Successive halving by domination: the rule against brute force, and rungs over kills."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.pareto import crowding_distance, dominates, non_domination_rank
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
    rungs = Rungs(epochs=27)
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


def test_rungs_of_a_fractional_reduction_lie_at_whole_epochs_once_each() -> None:
    """1, 1.5, 2.25, 3.4, 5.1, 7.6: and 11.4 is too many."""
    assert Rungs(epochs=10, reduction=1.5).levels(0) == [1, 2, 3, 5, 8]
    assert Rungs(epochs=9).levels(0) == [1, 3]
    assert Rungs(epochs=12, first=2, reduction=2).levels(1) == [4, 8]


def test_trials_are_dealt_to_the_bracket_that_spent_the_least() -> None:
    """A trial of the three brackets costs 1, 3 and 9 epochs up to its first rung; of equals the first is taken."""
    rungs = Rungs(epochs=27, brackets=3)
    assert [rungs.enter(str(i)) for i in range(11)] == [0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 1]
    assert [rungs.enter(str(i)) for i in range(3)] == [0, 1, 2]
    assert rungs.bracket_of["10"] == 1


def test_what_is_noted_of_a_gain() -> None:
    rungs = Rungs(epochs=9, first=3)
    assert rungs.heard("a", 2, 0.5, [7]) is None
    note = rungs.heard("a", 3, 0.5, [7, 8])
    assert note == Note("a", 0, 3, 0.5, (7.0, 8.0))
    assert note.to_dict() == {"trial": "a", "bracket": 0, "epoch": 3, "gain": 0.5, "costs": (7.0, 8.0)}
    assert [type(cost) for cost in note.costs] == [float, float]
    assert rungs.heard("a", 10, 0.6, [7]) == Note("a", 0, 9, 0.6, (7.0,))
    rungs.note(note)
    rungs.note(Note("a", 0, 3, 0.7, (7.0, 8.0)))
    rungs.note(Note("a", 0, 9, 0.8, (7.0, 8.0)))
    assert (rungs.seen, rungs.finals) == ({(0, 3): {"a": (-0.7, 7.0, 8.0)}}, {"a": 0.8})


@given(POINTS, st.sampled_from([1.5, 2, 3, 4]))
def test_the_best_of_a_rung_go_on(points: list[tuple[int, int]], reduction: float) -> None:
    """Those that nothing dominates, and as many of the front, the next front ... as one in ``reduction``, the lonely first."""
    rungs = Rungs(epochs=9, reduction=reduction)
    notes = [Note(str(i), 0, 1, gain, (cost,)) for i, (gain, cost) in enumerate(points)]
    for note in notes:
        rungs.note(note)
    losses = [(-gain, cost) for gain, cost in points]
    places = list(zip(non_domination_rank(losses), -crowding_distance(losses), range(len(points)), strict=True))
    best = sorted(places)[: int(len(points) / reduction)]
    for note, loss, place in zip(notes, losses, places, strict=True):
        assert rungs.goes_on(note) == (place in best or not any(dominates(other, loss) for other in losses))


def test_the_last_epoch_stops_nobody() -> None:
    rungs = Rungs(epochs=9)
    assert rungs.decide("a", 9, 0.9, [1.0])
    assert rungs.decide("b", 9, 0.1, [2.0])


def test_notes_mean_the_same_under_the_same_rules_only() -> None:
    """The rules where nothing is said: rungs at 1, 3, 9 ... and one bracket."""
    assert Rungs(9).rules == Rungs(epochs=9, first=1, reduction=3, brackets=1).rules
    others = [{"epochs": 10}, {"first": 2}, {"reduction": 2.0}, {"brackets": 2}]
    assert len({tuple(Rungs(**{"epochs": 9, **other}).rules) for other in [{}, *others]}) == 5


def test_a_stopped_trial_is_expected_to_gain_what_others_gained() -> None:
    rungs = Rungs(epochs=9)
    assert rungs.expected(1, 0.4) == 0.4
    for trial, start, end in [("a", 0.5, 0.8), ("b", 0.6, 0.7), ("c", 0.5, 0.7)]:
        rungs.decide(trial, 1, start, [1.0])
        rungs.decide(trial, 9, end, [1.0])
    rungs.decide("running", 1, 0.1, [1.0])
    assert rungs.expected(1, 0.4) == pytest.approx(0.6)
    assert rungs.expected(3, 0.4) == 0.4


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
        ({"first": 9}, "early stopping: the first rung 9 must lie below the 9 epochs of a full training"),
        ({"first": 0}, "early stopping: the first rung 0 must lie below the 9 epochs of a full training"),
        ({"reduction": 1}, "early stopping: reduction 1 must be more than 1"),
        ({"brackets": 3}, "early stopping: brackets 3 must lie between 1 and 2"),
        ({"brackets": 0}, "early stopping: brackets 0 must lie between 1 and 2"),
    ],
)
def test_mistakes_are_named(options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=f"^{words}$"):
        Rungs(epochs=9, **options)


def test_the_least_and_the_most_that_fit_together() -> None:
    assert Rungs(epochs=2, first=1, reduction=1.01, brackets=1).levels(0) == [1]
    assert Rungs(epochs=9, brackets=2).levels(1) == [3]


def test_notes_of_earlier_versions_are_read() -> None:
    former = '{"trial": "a", "bracket": 0, "epoch": 3, "accuracy": 0.7, "costs": [5.0]}'
    assert Note.from_dict(json.loads(former)) == Note("a", 0, 3, 0.7, (5.0,))
