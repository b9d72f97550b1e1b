"""Successive halving by domination: the rule against brute force, rungs over kills, and in a real Ray Tune run."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from ray import tune

from search.pareto import dominates
from search.schedulers import Rungs
from search.schedulers._asha import DominationASHA
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


def test_a_journal_is_read_back_without_its_torn_last_line_and_not_under_other_rules(tmp_path: Path) -> None:
    journal = tmp_path / "rungs.jsonl"
    scheduler = DominationASHA(Rungs(epochs=9), journal=journal)
    for trial, epoch, accuracy in [("a", 1, 0.5), ("a", 2, 0.6), ("a", 3, 0.7), ("b", 1, 0.4)]:
        result = {"training_iteration": epoch, "accuracy": accuracy, "flops": 1.0}
        scheduler.on_trial_result(None, SimpleNamespace(trial_id=trial), result)
    whole = journal.read_text()
    assert len(whole.splitlines()) == 4  # the rules and three notes
    journal.write_text(whole + '{"trial": "c", "bra')
    again = Rungs(epochs=9)
    DominationASHA(again, journal=journal)
    assert journal.read_text() == whole
    assert again == scheduler.rungs
    with pytest.raises(UsageError, match=r"\[9, 1, 3.0, 1\], not \[27"):
        DominationASHA(Rungs(epochs=27), journal=journal)


class Growing(tune.Trainable):
    def step(self) -> dict:
        quality = self.config["quality"]
        epoch = self.iteration + 1
        return {"accuracy": quality * (1 - 0.5**epoch), "flops": 1.0, "done": epoch >= 9}

    def reset_config(self, new_config: dict) -> bool:
        self.config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Ray saves a trial that a scheduler stops; there is nothing to keep here."""

    def load_checkpoint(self, checkpoint: dict | None) -> None:
        """Nothing was kept."""


@pytest.mark.slow
def test_in_ray_tune_the_bad_end_early_and_the_rungs_are_kept(tmp_path: Path) -> None:
    qualities = [0.9, 0.1, 0.2, 0.3, 0.95]
    journal = tmp_path / "rungs.jsonl"
    scheduler = DominationASHA(Rungs(epochs=9), journal=journal, identify=lambda trial: str(trial.config["quality"]))
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    results = tune.Tuner(
        Growing,
        param_space={"quality": tune.grid_search(qualities)},
        tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(tmp_path), name="ray", verbose=0),
    ).fit()
    ray.shutdown()
    epochs = {result.config["quality"]: result.metrics["training_iteration"] for result in results}
    assert epochs == {0.9: 9, 0.1: 1, 0.2: 1, 0.3: 1, 0.95: 9}
    again = Rungs(epochs=9)
    DominationASHA(again, journal=journal)
    assert set(again.finals) == {"0.9", "0.95"}
    assert not again.decide("new", 1, 0.2, [1.0])
