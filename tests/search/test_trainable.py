"""One trial: what it does with an evaluation, its seeds, its rungs and its mistakes."""

from collections.abc import Callable

import pytest

from search.store import COMPLETE, STOPPED
from search.trainable import Pausing, TrialResult


def test_a_paused_function_goes_on_ends_where_it_stands_and_raises_its_errors() -> None:
    done = []

    def count(pause: Callable[[TrialResult], None]) -> TrialResult:
        try:
            for number in range(3):
                pause(TrialResult(STOPPED, score=number))
        except Exception:  # what ends it is no error that a function may handle
            done.append("handled")
        return TrialResult(COMPLETE, score=9)

    pausing = Pausing(count)
    assert [(result.score, last) for result, last in (pausing.next() for _ in range(4))] == [
        (0, False),
        (1, False),
        (2, False),
        (9, True),
    ]
    pausing = Pausing(count)
    assert pausing.next() == (TrialResult(STOPPED, score=0), False)
    pausing.end()
    assert done == []

    def fail(pause: Callable[[TrialResult], None]) -> TrialResult:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        Pausing(fail).next()
