"""DominationASHA as a scheduler of Ray Tune: its journal, metrics of either direction, and a real run."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from evaluators.tasks import Metric
from search.schedulers import SCHEDULERS, DominationASHA, Rungs, Trials
from search.schedulers.base import BroughtScheduler
from search.schedulers.domination import DominationConfig
from spaces.errors import UsageError


def test_a_journal_is_read_back_without_its_torn_last_line_and_not_under_another_plan(tmp_path: Path) -> None:
    journal = tmp_path / "rungs.jsonl"
    scheduler = DominationASHA(Rungs(epochs=9), journal=journal)
    for trial, epoch, accuracy in [("a", 1, 0.5), ("a", 2, 0.6), ("a", 3, 0.7), ("b", 1, 0.4)]:
        result = {"training_iteration": epoch, "accuracy": accuracy, "flops": 1.0}
        scheduler.on_trial_result(None, SimpleNamespace(trial_id=trial), result)
    whole = journal.read_text()
    assert len(whole.splitlines()) == 4  # the plan and three notes
    journal.write_text(whole + '{"trial": "c", "bra')
    again = Rungs(epochs=9)
    DominationASHA(again, journal=journal)
    assert journal.read_text() == whole
    assert again == scheduler.rungs
    with pytest.raises(UsageError, match=r"\[9, 1, 3.0, 1\], not \[27"):
        DominationASHA(Rungs(epochs=27), journal=journal)


def test_a_metric_of_which_less_is_better_stops_the_greater(tmp_path: Path) -> None:
    trials = Trials(9, Metric("error", "pixels", higher_is_better=False), ("flops",), tmp_path)
    stopping = DominationConfig().build(trials)
    assert stopping.epochs == {1, 3}

    def tell(name: str, epoch: int, error: float) -> str:
        trial = SimpleNamespace(config={"architecture": name})
        return str(stopping.scheduler.on_trial_result(None, trial, {"fidelity": epoch, "error": error, "flops": 1.0}))

    assert [tell("good", 1, 4.0), tell("bad", 1, 5.0)] == [TrialScheduler.CONTINUE, TrialScheduler.STOP]
    assert tell("better", 1, 3.0) == TrialScheduler.CONTINUE
    assert tell("good", 9, 1.0) == TrialScheduler.CONTINUE
    assert stopping.expected(1, 5.0) == 2.0  # what went on has lost three
    again = DominationConfig().build(trials)
    assert again.scheduler.rungs == stopping.scheduler.rungs  # from its journal


def test_schedulers_by_name(tmp_path: Path) -> None:
    assert list(SCHEDULERS) == ["none", "domination_asha"]
    trials = Trials(4, Metric("error", "pixels", higher_is_better=False), ("flops",), tmp_path)
    assert SCHEDULERS["none"]().build(trials) is None
    brought = BroughtScheduler(name="module:ray.tune.schedulers:ASHAScheduler", options={"grace_period": 2})
    stopping = brought.build(trials)
    assert isinstance(stopping.scheduler, ASHAScheduler)
    assert (stopping.scheduler.metric, stopping.scheduler._mode) == ("error", "min")
    assert stopping.epochs == {1, 2, 3}
    with pytest.raises(UsageError, match="gave a dict, not a scheduler of Ray Tune"):
        BroughtScheduler(name="module:builtins:dict").build(trials)


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


@pytest.mark.matrix
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
