"""One posterior from all seeds: against the conjugate case, calibrated, and what it recommends where luck misleads."""

from pathlib import Path

import numpy as np
import pytest

from evaluators.tasks import Metric
from search import load
from search.config import load_run_config
from search.evidence import gather, posterior
from search.store import COMPLETE, CONFIRM, FAILED, RANDOM, SEARCH, TEST, Evaluation, to_frame
from spaces.errors import UsageError
from tests.search.conftest import make_run, truth

PLAIN, SE, ECA, CBAM = (
    f"attune_tiny:{words}" for words in ("none,none,none", "se,se,se", "eca,eca,eca", "cbam,none,se")
)


def evaluation(
    text: str, score: float, seed: int = 0, purpose: str = SEARCH, flops: int = 100, **changes: object
) -> Evaluation:
    kept = {"fidelity": 10, "state": COMPLETE, "reason": "", "identity": "t", "metric": "accuracy"} | changes
    costs = {"flops": flops, "params": flops, "macs": flops, "activations": flops}
    return Evaluation(text, seed=seed, score=score, costs=costs, seconds=1.0, finished=1.0, purpose=purpose, **kept)  # type: ignore[arg-type]


def test_many_seeds_leave_nothing_but_their_mean() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(centre, 0.01, 400) for centre in (0.5, 0.6, 0.55)]
    draws = posterior([PLAIN, SE, ECA], values)
    assert draws.mean(axis=0) == pytest.approx([value.mean() for value in values], abs=5e-4)
    assert draws.std(axis=0) == pytest.approx(0.01 / 20, rel=0.15)


def test_expected_values_do_not_hang_on_the_draws() -> None:
    """What is chosen by is the same for other draws: far nearer to each other than the intervals are wide."""
    rng = np.random.default_rng(3)
    values = [rng.normal(0.5, 0.02, 1) for _ in range(4)]
    some, others = (posterior([PLAIN, SE, ECA, CBAM], values, draws=500, seed=seed) for seed in (1, 2))
    assert np.abs(some.mean(axis=0) - others.mean(axis=0)).max() < 1e-3 * some.std(axis=0).min()
    assert len(some) == 500


def test_intervals_hold_the_truth_and_probabilities_are_frequencies(tmp_path: Path) -> None:
    """Over simulated searches of 30 architectures, each with a truth of its own, some with fresh seeds."""
    space = load_run_config(make_run(tmp_path / "run", count=2, failures=0)).space.build()
    rng = np.random.default_rng(1)
    inside, said, happened = [], [], []
    for number in range(12):
        rows = np.array([[rng.integers(len(one)) for one in space.choices] for _ in range(30)])
        texts = list(dict.fromkeys(str(space.architecture(row)) for row in rows))
        true = np.array([truth(text) for text in texts]) + 0.02 * rng.standard_normal(len(texts))
        values = [true[i] + 0.02 * rng.standard_normal(4 if i % 3 == 0 else 1) for i in range(len(texts))]
        draws = posterior(texts, values, draws=500, seed=number)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        inside += [*((low <= true) & (true <= high))]
        first, second = np.triu_indices(len(texts), 1)
        said += [*(draws[:, first] > draws[:, second]).mean(axis=0)]
        happened += [*(true[first] > true[second])]
    assert 0.90 <= np.mean(inside) <= 0.98
    for low_end, high_end in ((0.1, 0.4), (0.4, 0.6), (0.6, 0.9)):
        some = (np.array(said) > low_end) & (np.array(said) < high_end)
        assert np.mean(np.array(happened)[some]) == pytest.approx(np.mean(np.array(said)[some]), abs=0.08)


def test_a_baseline_that_is_better_is_recommended_and_a_lucky_seed_is_not() -> None:
    """The plain network was lucky once; attention of one type everywhere, for little more, is better over five seeds."""
    lucky = [evaluation(PLAIN, 0.48)]
    lucky += [evaluation(PLAIN, score, 1000 + n, CONFIRM) for n, score in enumerate((0.455, 0.46, 0.45, 0.455))]
    better = [
        evaluation(ECA, score, 1000 + n, CONFIRM, 102) for n, score in enumerate((0.49, 0.485, 0.495, 0.49, 0.488))
    ]
    others = [evaluation(SE, 0.46, flops=103), evaluation(CBAM, 0.47, flops=104)]
    evidence = gather(to_frame([*lucky, *better, *others], "accuracy"))
    best = evidence.best(evidence.rows)
    assert best["architecture"] == ECA
    assert (best["search_seeds"], best["fresh_seeds"], best["random_seeds"]) == (0, 5, 0)
    assert evidence.probability(ECA, PLAIN) > 0.95
    assert evidence.rival(best, ["flops"]) is None
    assert evidence.reason(best, ["flops"]).startswith("expected accuracy 4")
    assert evidence.staircase("flops") == [PLAIN, ECA]


def test_a_choice_within_the_noise_of_a_cheaper_one_names_it() -> None:
    rows = [evaluation(PLAIN, 0.50 + 0.02 * n, n, CONFIRM) for n in (-1, 0, 1)]
    rows += [evaluation(SE, 0.505 + 0.02 * n, n, CONFIRM, 200) for n in (-1, 0, 1)]
    evidence = gather(to_frame(rows, "accuracy"))
    best = evidence.best(evidence.rows[evidence.rows["architecture"] == SE])
    assert evidence.rival(best, ["flops"]) == PLAIN
    assert f"{PLAIN} costs less and cannot be told apart from it" in evidence.reason(best, ["flops"])


def test_what_does_not_compare_is_left_out() -> None:
    fresh = [evaluation(PLAIN, 0.5, 1000, CONFIRM), evaluation(SE, 0.6, 1000, CONFIRM)]
    aside = [
        evaluation(ECA, 0.99, purpose=TEST),
        evaluation(ECA, 0.99, fidelity=5),
        evaluation(ECA, 0.99, state=FAILED),
        evaluation(ECA, 0.99, identity="a supernet"),
        evaluation(PLAIN, 0.01, identity="a supernet"),
    ]
    rows = gather(to_frame([*fresh, evaluation(CBAM, 0.55, purpose=RANDOM), *aside], "accuracy")).rows
    assert rows["architecture"].tolist() == [PLAIN, SE, CBAM]
    assert rows["seeds"].tolist() == [1, 1, 1]
    mixed = [evaluation(PLAIN, 0.5), evaluation(SE, 0.99, purpose=RANDOM, identity="another recipe")]
    assert gather(to_frame(mixed, "accuracy")).rows["architecture"].tolist() == [PLAIN]
    nothing = gather(to_frame([evaluation(PLAIN, float("nan"), state=FAILED)], "accuracy"))
    assert nothing.rows.empty


def test_scores_that_are_all_the_same_are_no_error() -> None:
    rows = gather(to_frame([evaluation(text, 0.5) for text in (PLAIN, SE, ECA)], "accuracy")).rows
    assert rows["expected"].tolist() == pytest.approx([0.5] * 3)


def test_less_is_better_turns_everything_around() -> None:
    metric = Metric("loss", "nats", higher_is_better=False)
    rows = [evaluation(text, score, n, metric="loss") for text, score in ((PLAIN, 0.5), (SE, 0.3)) for n in range(4)]
    evidence = gather(to_frame(rows, "loss"), metric)
    assert evidence.best(evidence.rows)["architecture"] == SE
    assert (evidence.rows["expected_low"] <= evidence.rows["expected_high"]).all()
    assert evidence.rows["expected"].tolist() == pytest.approx([0.5, 0.3], abs=0.02)


def test_what_was_trained_can_be_taken_by_name_and_what_was_not_is_offered(known_run: Path) -> None:
    results = load(known_run)
    uniform = results.confirmed.loc[results.confirmed["role"] == "uniform", "architecture"].iloc[0]
    assert uniform not in set(results.summary["architecture"])
    assert results.pick({}, uniform)["fresh_seeds"] == 4
    with pytest.raises(UsageError, match="does not keep the limits"):
        results.pick({"flops": "1x"}, uniform)
    with pytest.raises(UsageError, match=r"was not trained in .*python run_search.py enqueue"):
        results.pick({}, "attune_tiny:bam,none,none")
