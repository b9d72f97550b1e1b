"""Every sampler that is compared, through its own public interface: (table, evaluations, seed) -> rows in their order.

BoTorch, SMAC and pymoo come with the optional group `peers`.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.tables import Table, space_of
from search.pareto import crowding_distance, non_domination_rank
from search.samplers import KnownCostSampler, create_sampler

Search = Callable[[Table, int, int], list[int]]


def _optuna(make: Callable[[Table, int], optuna.samplers.BaseSampler]) -> Search:
    def search(table: Table, trials: int, seed: int) -> list[int]:
        space = space_of(table)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=make(table, seed))
        rows: list[int] = []
        while len(rows) < trials:
            trial = study.ask(space)
            row = table.row([trial.params[name] for name in space])
            if row < 0:  # a forbidden one costs nothing, and the sampler learns that it failed
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            rows.append(row)
            study.tell(trial, [table.accuracy_N[row], np.log(table.cost_N[row])])
        return rows

    return search


def known_cost(table: Table, seed: int) -> optuna.samplers.BaseSampler:
    def rows(params: list[dict[str, Any]]) -> list[int]:
        return [table.row([p[f"g{g}"] for g in range(len(table.sizes))]) for p in params]

    def costs(params: list[dict[str, Any]]) -> np.ndarray:
        return np.log(table.cost_N[rows(params)])[:, None]  # a forbidden one has any cost

    def allowed(params: list[dict[str, Any]]) -> np.ndarray:
        return np.array(rows(params)) >= 0

    return KnownCostSampler(space_of(table), costs, seed=seed, feasible=None if table.is_product else allowed)


def _pymoo(table: Table, trials: int, seed: int) -> list[int]:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.pm import PolynomialMutation
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    rows: list[int] = []

    class Look(ElementwiseProblem):
        def __init__(self) -> None:
            super().__init__(n_var=len(table.sizes), n_obj=2, xl=0, xu=np.array(table.sizes) - 1, vtype=int)

        def _evaluate(self, x: np.ndarray, out: dict, *args: Any, **kwargs: Any) -> None:
            rows.append(table.row(x))
            out["F"] = table.losses_N2[rows[-1]]

    algorithm = NSGA2(
        pop_size=20,
        sampling=IntegerRandomSampling(),
        crossover=UniformCrossover(repair=RoundingRepair()),
        mutation=PolynomialMutation(
            prob=1.0, prob_var=1 / len(table.sizes), eta=3.0, vtype=float, repair=RoundingRepair()
        ),
        eliminate_duplicates=True,
    )
    minimize(Look(), algorithm, ("n_eval", trials), seed=seed + 1, verbose=False)
    return rows[:trials]


def _botorch(table: Table, trials: int, seed: int) -> list[int]:
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.models.transforms import Standardize
    from botorch.optim import optimize_acqf_discrete
    from botorch.sampling import SobolQMCNormalSampler
    from gpytorch.mlls import SumMarginalLogLikelihood

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    hot = np.concatenate([table.indices_NG[:, [g]] == np.arange(size) for g, size in enumerate(table.sizes)], axis=1)
    every_NF = torch.tensor(hot, dtype=torch.double)
    values_N2 = -torch.tensor(table.losses_N2)
    reference = values_N2.min(dim=0).values
    rows = rng.choice(len(hot), 2 * len(table.sizes), replace=False).tolist()
    while len(rows) < trials:
        models = [
            SingleTaskGP(every_NF[rows], values_N2[rows, m, None], outcome_transform=Standardize(1)) for m in range(2)
        ]
        model = ModelListGP(*models)
        # Left alone the fit takes hundreds of iterations: most of the time, for 0.985 of macro after 50 (two seeds), no more.
        fit_gpytorch_mll(
            SumMarginalLogLikelihood(model.likelihood, model), optimizer_kwargs={"options": {"maxiter": 50}}
        )
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model,
            reference,
            every_NF[rows],
            sampler=SobolQMCNormalSampler(torch.Size([64]), seed=seed),
            prune_baseline=True,
        )
        left = np.setdiff1d(rng.choice(len(hot), min(1000, len(hot)), replace=False), rows)
        best, _ = optimize_acqf_discrete(acquisition, 1, every_NF[left], max_batch_size=250)
        rows.append(int(left[(every_NF[left] == best).all(dim=1).nonzero()[0, 0]]))
    return rows


def _smac(table: Table, trials: int, seed: int) -> list[int]:
    from ConfigSpace import Categorical, ConfigurationSpace
    from smac import HyperparameterOptimizationFacade, Scenario
    from smac.multi_objective.parego import ParEGO

    space = ConfigurationSpace(seed=seed)
    space.add([Categorical(f"g{g}", list(range(size))) for g, size in enumerate(table.sizes)])
    rows: list[int] = []

    def target(config: Any, seed: int = 0) -> dict[str, float]:
        rows.append(table.row([config[f"g{g}"] for g in range(len(table.sizes))]))
        return {"loss": float(table.losses_N2[rows[-1], 0]), "cost": float(table.losses_N2[rows[-1], 1])}

    scenario = Scenario(
        space,
        objectives=["loss", "cost"],
        n_trials=trials,
        seed=seed,
        deterministic=True,
        output_directory=Path(tempfile.mkdtemp()),
    )
    HyperparameterOptimizationFacade(
        scenario, target, multi_objective_algorithm=ParEGO(scenario), overwrite=True, logging_level=50
    ).optimize()
    return rows[:trials]


def banana(table: Table, trials: int, seed: int) -> list[int]:
    """MO-BANANAS (White et al., 2021, as in Archai): an ensemble of networks on the one-hot code, Thompson ranks, mutation.

    Costs are known to it too, as they are in Archai: only the accuracy is predicted.
    """
    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(seed)
    hot = np.concatenate([table.indices_NG[:, [g]] == np.arange(size) for g, size in enumerate(table.sizes)], axis=1)
    rows = rng.choice(len(hot), 20, replace=False).tolist()
    while len(rows) < trials:
        target = -table.losses_N2[rows, 0]
        unit = (target - target.mean()) / (target.std() or 1.0)
        front = np.array(rows)[non_domination_rank(table.losses_N2[rows]) <= 1]
        child_NG = table.indices_NG[rng.choice(front, 400)].copy()
        gene = rng.integers(len(table.sizes), size=400)
        child_NG[np.arange(400), gene] = rng.integers(np.array(table.sizes)[gene])
        pool = np.setdiff1d([table.row(child) for child in child_NG], rows)
        if not len(pool):
            pool = np.setdiff1d(rng.choice(len(hot), 400), rows)
        nets = [
            MLPRegressor(hidden_layer_sizes=(64, 64), max_iter=200, random_state=int(rng.integers(2**31)))
            for _ in range(5)
        ]
        guess_5N = np.array([net.fit(hot[rows], unit).predict(hot[pool]) for net in nets])
        drawn = rng.normal(guess_5N.mean(axis=0), guess_5N.std(axis=0) + 1e-9)
        losses = np.column_stack([-drawn, table.losses_N2[pool, 1]])
        rank, crowding = non_domination_rank(losses), crowding_distance(losses)
        rows += pool[np.lexsort((-crowding, rank))[:10]].tolist()  # ten at a time, as the paper does
    return rows[:trials]


SEARCHES: dict[str, tuple[str, Search, str | None]] = {
    "known_cost": ("Attune KnownCostSampler", _optuna(known_cost), None),
    "random": ("Optuna random", _optuna(lambda t, s: optuna.samplers.RandomSampler(seed=s)), None),
    "nsga2": (
        "Optuna NSGA-II, population 20",
        _optuna(lambda t, s: optuna.samplers.NSGAIISampler(population_size=20, seed=s)),
        None,
    ),
    "nsga3": (
        "Optuna NSGA-III, population 20",
        _optuna(lambda t, s: optuna.samplers.NSGAIIISampler(population_size=20, seed=s)),
        None,
    ),
    "tpe": (
        "Optuna multivariate TPE",
        _optuna(lambda t, s: optuna.samplers.TPESampler(multivariate=True, seed=s)),
        None,
    ),
    "evolution": (
        "Attune regularised evolution",
        _optuna(lambda t, s: create_sampler("evolution", space_of(t), seed=s)),
        None,
    ),
    "gp": ("Optuna GP", _optuna(lambda t, s: optuna.samplers.GPSampler(seed=s)), None),
    "pymoo": ("pymoo NSGA-II, population 20", _pymoo, "pymoo"),
    "botorch": ("BoTorch qLogNEHVI", _botorch, "botorch"),
    "smac": ("SMAC ParEGO", _smac, "smac"),
    "banana": ("MO-BANANAS", banana, None),
}
SLOW = ("gp", "botorch", "smac", "banana")
MOST = {"botorch": 100}  # evaluations of a search whose suggestions take seconds by then
OWN = ("known_cost", "evolution", "banana")  # code of this repository: a change of it makes their searches stale
