"""KnownCostSampler: its closed forms against Monte Carlo and brute force, its behaviour in plain Optuna studies."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from scipy.optimize import check_grad

from search.pareto import hypervolume, non_dominated
from search.samplers import KnownCostSampler, known_cost
from search.samplers.candidates import ABSENT
from search.samplers.known_cost import switched_off
from search.samplers.surrogate import WARPS, Surrogate, Warp
from spaces import SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)
GENES, CHOICES = 6, 4
SPACE = {f"g{g}": CategoricalDistribution(tuple(range(CHOICES))) for g in range(GENES)}
EVERY = np.indices((CHOICES,) * GENES).reshape(GENES, -1).T
_RNG = np.random.default_rng(5)
_PRICE = np.sort(_RNG.exponential(size=(GENES, CHOICES)), axis=1)
_WORTH = _RNG.normal(size=(GENES, CHOICES)) + np.linspace(0, 1, CHOICES)
_PAIR = _RNG.normal(size=(CHOICES, CHOICES))


def costs_of(params: list[dict[str, Any]]) -> np.ndarray:
    return np.array([[1 + sum(_PRICE[g, p[f"g{g}"]] for g in range(GENES))] for p in params])


def accuracy_of(p: dict[str, Any]) -> float:
    worth = sum(_WORTH[g, p[f"g{g}"]] for g in range(GENES)) + _PAIR[p["g0"], p["g1"]]
    return float(1 / (1 + np.exp(-worth / 3)))


def ask(trial: optuna.Trial) -> dict[str, Any]:
    return {name: trial.suggest_categorical(name, dist.choices) for name, dist in SPACE.items()}


def objective(trial: optuna.Trial) -> tuple[float, float]:
    params = ask(trial)
    return accuracy_of(params), float(costs_of([params])[0, 0])


def share(study: optuna.Study) -> float:
    every = [{f"g{g}": int(v) for g, v in enumerate(row)} for row in EVERY]
    losses = np.column_stack([-np.array([accuracy_of(p) for p in every]), np.log(costs_of(every))])
    found = np.array([[-t.values[0], np.log(t.values[1])] for t in study.trials if t.values])
    return hypervolume(found, losses.max(axis=0)) / hypervolume(losses, losses.max(axis=0))


def mean_best(study: optuna.Study) -> float:
    """The best accuracy below a budget, on average over (the logarithms of) budgets from the cheapest to the dearest."""
    costs = np.log(costs_of([{f"g{g}": v for g, v in enumerate(row)} for row in EVERY]))
    found = np.array([[-t.values[0], np.log(t.values[1])] for t in study.trials])
    return hypervolume(found, [0.0, costs.max()]) / float(np.ptp(costs))


# --- the mathematics ---------------------------------------------------------------------------------------------------


def test_the_model_learns_what_genes_do_only_together() -> None:
    """SE is good in the slot, ECA after the block: no gene tells, the whole placement does."""
    space = SearchSpace.build("attune_tiny", ("se", "eca"), reductions=(4,), kernels=(3,), sites=("slot", "block"))
    sampler = KnownCostSampler(space, lambda params: np.ones((len(params), 1)))
    every = np.indices(space.sizes).reshape(len(space.sizes), -1).T
    good = np.array([str(choice) in ("se-r4@slot", "eca-k3@block") for choice in space.choices[0]])
    accuracy = 0.5 + 0.4 * good[every[:, 0]] + 0.05 * good[every[:, 1]]
    seen = np.random.default_rng(0).permutation(len(every))[:24]
    genes, costs = sampler._genes(every, every), np.zeros((len(every), 1))
    model, measured = Surrogate(genes.shape[1], 1), np.zeros(len(seen), dtype=int)
    model.learn(genes[seen], costs[seen], accuracy[seen], measured)
    model.condition(genes[seen], costs[seen], accuracy[seen], measured)
    np.testing.assert_allclose(model.warp.accuracy(model.mean(genes, costs)), accuracy, atol=0.02)


@pytest.mark.parametrize("choice", WARPS)
def test_expected_excess_agrees_with_monte_carlo(choice: tuple[int, float]) -> None:
    rng = np.random.default_rng(0)
    accuracies = 1 - rng.exponential(0.2, 40)
    warp = Warp.fit(accuracies, *choice)
    mean, sd = np.array([-1.0, 0.0, 1.2]), np.array([0.1, 0.7, 0.4])
    levels = np.quantile(accuracies, [0.1, 0.5, 1.0])
    drawn = warp.accuracy(mean + sd * rng.normal(size=(400_000, 3)))
    expected = np.maximum(drawn[:, :, None] - levels, 0).mean(axis=0)
    assert warp.excess(mean, sd, levels) == pytest.approx(expected, rel=0.02, abs=2e-4)
    assert warp.accuracy(warp.latent(accuracies)) == pytest.approx(accuracies)


def test_gradients_of_the_surrogate_are_exact() -> None:
    rng = np.random.default_rng(1)
    genes, costs, z = rng.integers(0, 3, (15, 4)), rng.normal(size=(15, 2)), rng.normal(size=15)
    model, levels = Surrogate(4, 2, levels=2), rng.integers(0, 3, 15)
    same = (genes.T[:, :, None] == genes.T[:, None, :]).astype(float).reshape(4, -1)
    squared = ((costs.T[:, :, None] - costs.T[:, None, :]) ** 2).reshape(2, -1)
    theta, variance = model.prior + rng.normal(0, 0.3, len(model.prior)), rng.uniform(0, 1, 15)
    error = check_grad(
        lambda t: model._loss(t, same, squared, z, levels, variance)[0],
        lambda t: model._loss(t, same, squared, z, levels, variance)[1],
        theta,
    )
    assert error < 1e-4


def test_the_surrogate_learns_main_effects_from_few_trials() -> None:
    rng = np.random.default_rng(2)
    effects = rng.normal(size=(5, 3))
    every = np.indices((3,) * 5).reshape(5, -1).T
    accuracy = sum(effects[g, every[:, g]] for g in range(5))
    some = rng.choice(len(every), 30, replace=False)
    model, flat, measured = Surrogate(5, 1), np.zeros((len(every), 1)), np.zeros(30, dtype=int)
    model.learn(every[some], flat[some], accuracy[some], measured)
    model.condition(every[some], flat[some], accuracy[some], measured)
    mean, sd = model.predict(every, flat)
    assert np.corrcoef(mean, accuracy)[0, 1] > 0.98
    assert sd[some].max() < np.median(np.delete(sd, some))


def test_guesses_are_believed_as_far_as_they_turn_out_right() -> None:
    """One level of guesses is noisy and too low throughout, the other nearly exact: the model finds out which is which."""
    rng = np.random.default_rng(3)
    every = np.indices((4,) * 4).reshape(4, -1).T
    accuracy = sum(rng.normal(size=4)[every[:, g]] for g in range(4))
    some, flat = rng.choice(len(every), 90, replace=False), np.zeros((len(every), 1))
    level = np.repeat([0, 1, 2], 30)
    said = accuracy[some] + np.choose(level, [np.zeros(90), rng.normal(-1, 1.5, 90), rng.normal(0, 0.02, 90)])
    model = Surrogate(4, 1, levels=2)
    for _ in range(3):
        model.learn(every[some], flat[some], said, level)
    model.condition(every[some], flat[some], said, level)
    measured, rough, fine = model._split(model.theta)[-1]
    assert measured < fine < 0.02 < 0.1 < rough
    mean, sd = model.predict(every, flat)
    assert np.corrcoef(mean, accuracy)[0, 1] > 0.98
    assert sd[some[level == 1]].mean() > sd[some[level == 2]].mean()


def test_what_is_switched_off_is_read_from_trials() -> None:
    tried = np.array([[0, ABSENT, 1], [1, 2, 0], [0, ABSENT, 0], [2, 0, 1]])
    assert switched_off(np.array([[0, 1, 1], [1, 1, 1]]), tried).tolist() == [[0, ABSENT, 1], [1, 1, 1]]


# --- in a study --------------------------------------------------------------------------------------------------------


def test_far_ahead_of_random_with_few_evaluations() -> None:
    shares = []
    for sampler in (KnownCostSampler(SPACE, costs_of, seed=0), optuna.samplers.RandomSampler(seed=0)):
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.optimize(objective, n_trials=40)
        shares.append(share(study))
    assert shares[0] > 0.98
    assert shares[0] > shares[1] + 0.1


def test_directions_make_no_difference() -> None:
    runs = []
    for sign in (1, -1):
        space = dict(list(SPACE.items()))

        def signed(params: list[dict[str, Any]], sign: int = sign) -> np.ndarray:
            return -sign * np.log(costs_of(params))

        def flipped(trial: optuna.Trial, sign: int = sign) -> tuple[float, float]:
            accuracy, cost = objective(trial)
            return sign * accuracy, -sign * float(np.log(cost))

        directions = ["maximize", "maximize"] if sign == 1 else ["minimize", "minimize"]
        study = optuna.create_study(directions=directions, sampler=KnownCostSampler(space, signed, seed=3))
        study.optimize(flipped, n_trials=25)
        runs.append([t.params for t in study.trials])
    assert runs[0] == runs[1]


def test_three_objectives_and_limits() -> None:
    def both(params: list[dict[str, Any]]) -> np.ndarray:
        return np.column_stack([costs_of(params)[:, 0], [1.0 + sum(p.values()) for p in params]])

    def three(trial: optuna.Trial) -> tuple[float, float, float]:
        params = ask(trial)
        return accuracy_of(params), *(float(c) for c in both([params])[0])

    sampler = KnownCostSampler(SPACE, both, seed=0, limits=[None, 9])
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)
    study.optimize(three, n_trials=40)
    assert max(t.values[2] for t in study.trials) <= 9
    assert len({tuple(t.params.values()) for t in study.trials}) == 40
    assert len(study.best_trials) >= 10


def test_candidates_in_flight_are_counted_on() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=KnownCostSampler(SPACE, costs_of, seed=0))
    study.optimize(objective, n_trials=12)
    flying = [study.ask(SPACE) for _ in range(6)]
    assert len({tuple(t.params.values()) for t in study.trials}) == 18
    prices = np.log(costs_of([t.params for t in flying])[:, 0])
    assert np.ptp(prices) > 0.05  # they do not crowd around the one best place
    for trial in flying[:3]:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    study.optimize(objective, n_trials=5)
    assert len({tuple(t.params.values()) for t in study.trials}) == 23


def test_noisy_evaluations_may_repeat_and_repeats_are_averaged() -> None:
    space = {"a": CategoricalDistribution((0, 1, 2)), "b": CategoricalDistribution((0, 1))}
    rng = np.random.default_rng(0)

    def noisy(trial: optuna.Trial) -> tuple[float, float]:
        a, b = trial.suggest_categorical("a", (0, 1, 2)), trial.suggest_categorical("b", (0, 1))
        return a + 0.5 * b + rng.normal(0, 0.3), 1.0 + a + b

    sampler = KnownCostSampler(
        space, lambda params: np.array([1.0 + p["a"] + p["b"] for p in params]), seed=0, noisy=True
    )
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(noisy, n_trials=25)
    assert len(study.trials) == 25
    assert not sampler.exhausted
    assert len({tuple(t.params.values()) for t in study.trials}) >= 4


def test_trials_from_outside_replace_the_initial_design() -> None:
    donor = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=1))
    donor.optimize(objective, n_trials=60)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=KnownCostSampler(SPACE, costs_of, seed=0))
    study.add_trials(donor.trials)
    before = share(study)
    study.optimize(objective, n_trials=10)
    assert share(study) > before + 0.5 * (1 - before)
    assert len(
        {tuple(t.params.values()) for t in study.trials[60:]} | {tuple(t.params.values()) for t in donor.trials}
    ) == (10 + len({tuple(t.params.values()) for t in donor.trials}))


def test_a_space_too_large_to_list() -> None:
    space = {f"g{g}": CategoricalDistribution(tuple(range(6))) for g in range(12)}  # 2 * 10^9 candidates

    def total(params: list[dict[str, Any]]) -> np.ndarray:
        return np.array([[1.0 + sum(p.values())] for p in params])

    def sphere(trial: optuna.Trial) -> tuple[float, float]:
        values = [trial.suggest_categorical(name, dist.choices) for name, dist in space.items()]
        return 1 - sum((v - 3) ** 2 for v in values) / 108, 1.0 + sum(values)

    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=KnownCostSampler(space, total, seed=0, limits=[40])
    )
    study.optimize(sphere, n_trials=40)
    assert max(t.values[1] for t in study.trials) <= 40
    assert max(t.values[0] for t in study.trials) > 0.9  # random: 0.8


def test_a_wrong_number_of_costs_is_named() -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize", "minimize"], sampler=KnownCostSampler(SPACE, costs_of, seed=0)
    )
    with pytest.raises(ValueError, match="costs gave 1 columns, the study has 3 objectives"):
        study.ask(SPACE)


def test_draws_have_the_mean_and_the_covariance_of_the_posterior() -> None:
    rng = np.random.default_rng(0)
    genes_NG, costs_NM = rng.integers(0, 3, (20, 4)), rng.normal(size=(20, 1))
    model = Surrogate(4, 1)
    model.condition(genes_NG[:12], costs_NM[:12], rng.random(12), np.zeros(12, dtype=int))
    mean_K, sd_K = model.predict(genes_NG, costs_NM)
    z_SK = model.draw(genes_NG, costs_NM, 40_000, rng)
    np.testing.assert_allclose(z_SK.mean(axis=0), mean_K, atol=0.03)
    np.testing.assert_allclose(z_SK.std(axis=0), sd_K, atol=0.03)
    k_NN = model.kernel(genes_NG, costs_NM, genes_NG, costs_NM)
    gain_KN = np.linalg.solve(model._covariance(genes_NG[:12], costs_NM[:12], np.zeros(12, dtype=int)), k_NN[:12])
    np.testing.assert_allclose(np.cov(z_SK.T), k_NN - k_NN[:12].T @ gain_KN, atol=0.05)


def test_what_is_promised_grows_with_the_trials_and_falls_with_what_was_found() -> None:
    sampler = KnownCostSampler(SPACE, costs_of, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=4)
    assert sampler.promise(1) is None, "the initial design expects nothing"
    study.optimize(objective, n_trials=6)
    early = [sampler.promise(trials) or 0.0 for trials in (1, 10, 100, 10**9)]
    assert 0 < early[0] < early[1] < early[2] <= early[3] < 1
    best = max(trial.values[0] for trial in study.trials)
    assert (sampler.promise(100, ceiling=best) or 0.0) < early[2], "nothing is hoped for above what there can be"
    study.optimize(objective, n_trials=40)
    assert (sampler.promise(10) or 0.0) < 0.2 * early[1]


def test_what_is_promised_is_about_what_comes() -> None:
    """Over seeds: a hundred more trials, and what they add to the front, on average over budgets."""
    promised, came = [], []
    for seed in range(6):
        sampler = KnownCostSampler(SPACE, costs_of, seed=seed)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        study.optimize(objective, n_trials=10)
        promised.append(sampler.promise(30) or 0.0)
        before = mean_best(study)
        study.optimize(objective, n_trials=30)
        came.append(mean_best(study) - before)
    assert 0.25 * np.mean(came) < np.mean(promised) < 4 * np.mean(came), (promised, came)


# --- what makes it quick -------------------------------------------------------------------------------------------------


def searched(seed: int, trials: int) -> optuna.Study:
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=KnownCostSampler(SPACE, costs_of, seed=seed)
    )
    study.optimize(objective, n_trials=trials)
    return study


def test_many_candidates_are_ordered_in_single_precision_and_chosen_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = searched(0, 40)
    monkeypatch.setattr(known_cost, "ROUGH_FROM", 1)
    assert [trial.params for trial in searched(0, 40).trials] == [trial.params for trial in exact.trials]


def test_between_two_learnings_the_best_of_then_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = np.mean([share(searched(seed, 110)) for seed in range(2)])
    monkeypatch.setattr(known_cost, "MANY", 1000)
    monkeypatch.setattr(known_cost, "SHORT", 200)
    looked_at: list[int] = []
    predict = Surrogate.predict
    monkeypatch.setattr(
        Surrogate,
        "predict",
        lambda self, genes, *rest, **how: looked_at.append(len(genes)) or predict(self, genes, *rest, **how),
    )
    few = np.mean([share(searched(seed, 110)) for seed in range(2)])
    assert few > everything - 0.01
    assert 220 < min(looked_at) <= 240  # 200 and a fifth of it, less what was tried since
    assert max(looked_at) > 3900


def test_of_very_many_trials_the_telling_ones_are_modelled(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = KnownCostSampler(SPACE, costs_of, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    rng = np.random.default_rng(0)
    for row in rng.permutation(EVERY)[:1500]:
        params = {f"g{g}": int(value) for g, value in enumerate(row)}
        values = accuracy_of(params), float(costs_of([params])[0, 0])
        study.add_trial(optuna.trial.create_trial(params=params, distributions=SPACE, values=values))
    sizes: list[int] = []
    condition = Surrogate.condition
    monkeypatch.setattr(
        Surrogate, "condition", lambda self, genes, *rest: sizes.append(len(genes)) or condition(self, genes, *rest)
    )
    before = share(study)
    study.optimize(objective, n_trials=10)
    assert sizes == [500] * 10
    assert share(study) > before + 0.5 * (1 - before)


def test_the_front_is_among_the_telling_ones() -> None:
    rng = np.random.default_rng(0)
    accuracy_N, costs_NM = rng.random(3000), rng.random((3000, 2))
    use = known_cost._telling(accuracy_N, costs_NM)
    assert len(set(use.tolist())) == len(use) == known_cost.MODEL_ON
    front = np.flatnonzero(non_dominated(np.column_stack([-accuracy_N, costs_NM])))
    assert set(front) <= set(use)
    assert use.max() - use.min() > 2900
