"""Samplers side by side on tables: the share of the full hypervolume after so many evaluations, every peer in the same run.

    python -m benchmarks.samplers [--table NAME|FILE ...] [--samplers NAME ...] [--seeds 10] [--trials 200] [--markdown FILE]

Tables: `macro` (NAS-Bench-Macro, from the folder ATTUNE_DATA), `attune_bench` (Attune-Bench), and three synthetic ones
that are made here, of other shapes, so that nothing is tuned to the published tables. Peers from the optional group `peers`
that are not installed are skipped, saying so. Hypervolume over accuracy and log cost; the reference is the table's worst
accuracy and highest cost.

Every finished search is kept in `--runs`, under the table's content and the sampler's version, and is not made again: seeds of
slow peers may be added later. `--minutes` starts no new search after that time. `--suggestion` times KnownCostSampler instead.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution

from search.pareto import crowding_distance, hypervolume, non_domination_rank
from search.samplers import KnownCostSampler, create_sampler

CHECKPOINTS = (20, 40, 50, 67, 100, 200)
# What this project promises: the best Optuna sampler's final hypervolume in a third of the evaluations, NSGA-II's in a fifth,
# and nobody ahead at these numbers of evaluations.
BAR_BEST, BAR_NSGA2, BAR_AT = 67, 40, (50, 100, 200)
RUNS = Path("runs/benchmarks/samplers.jsonl")
ATTUNE_BENCH = Path("benchmarks/attune_bench.parquet")


@dataclass(frozen=True)
class Table:
    """Every candidate of a small space: choice indices (N, G), accuracy (N,), cost (N,)."""

    name: str
    indices_NG: np.ndarray
    accuracy_N: np.ndarray
    cost_N: np.ndarray

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(int(size) for size in self.indices_NG.max(axis=0) + 1)

    def row(self, indices_G: Any) -> int:
        return int(np.ravel_multi_index(tuple(int(i) for i in indices_G), self.sizes))

    @cached_property
    def losses_N2(self) -> np.ndarray:
        return np.column_stack([-self.accuracy_N, np.log(self.cost_N)])

    @cached_property
    def full(self) -> float:
        return hypervolume(self.losses_N2, self.losses_N2.max(axis=0))

    @cached_property
    def digest(self) -> str:
        content = [np.ascontiguousarray(a).tobytes() for a in (self.indices_NG, self.accuracy_N, self.cost_N)]
        return hashlib.blake2b(b"".join(content), digest_size=6).hexdigest()

    def shares(self, rows: list[int]) -> np.ndarray:
        """Share of the full hypervolume after 1, 2, ... evaluations."""
        reference = self.losses_N2.max(axis=0)
        shares, front = [], np.zeros((0, 2))
        for row in rows:
            front = np.vstack([front, self.losses_N2[row]])
            shares.append(hypervolume(front, reference) / self.full)
        return np.array(shares)


# --- tables ------------------------------------------------------------------------------------------------------------


def macro() -> Table | None:
    folder = os.environ.get("ATTUNE_DATA")
    if not folder:
        print("table macro: skipped, ATTUNE_DATA is not set")
        return None
    frame = pd.read_csv(Path(folder) / "nasbench_macro.csv.gz", dtype={"arch": str}).sort_values("arch")
    indices = np.array([[int(digit) for digit in arch] for arch in frame["arch"]])
    return Table("macro", indices, frame["mean_acc"].to_numpy(), frame["flops_M"].to_numpy())


def _grid(sizes: tuple[int, ...]) -> np.ndarray:
    return np.indices(sizes).reshape(len(sizes), -1).T


def additive(seed: int = 0, sizes: tuple[int, ...] = (4,) * 6) -> Table:
    """Main effects and as much of pairwise interactions, a saturating accuracy, costs that go only partly with it."""
    rng = np.random.default_rng(seed)
    x = _grid(sizes)
    cost = 1 + sum(
        (np.sort(rng.exponential(size=s)) * np.exp(rng.normal(0, 0.7)))[x[:, g]] for g, s in enumerate(sizes)
    )
    main = sum((rng.normal(size=s) + np.linspace(0, 1, s))[x[:, g]] for g, s in enumerate(sizes))
    pairs = sum(rng.normal(size=(sizes[a], sizes[b]))[x[:, a], x[:, b]] for a in range(len(sizes)) for b in range(a))
    worth = main / np.std(main) + pairs / np.std(pairs)
    return Table("additive", x, 1 / (1 + np.exp(-worth / worth.std() - 1)), np.asarray(cost))


def rugged(seed: int = 0, genes: int = 8, together: int = 3) -> Table:
    """An NK landscape (Kauffman): each gene's worth depends on three others; costs are unrelated to it."""
    rng = np.random.default_rng(seed)
    x = _grid((3,) * genes)
    worth = np.zeros(len(x))
    for gene in range(genes):
        partners = rng.choice([g for g in range(genes) if g != gene], together, replace=False)
        worth += rng.normal(size=(3,) * (together + 1))[tuple(x[:, g] for g in (gene, *partners))]
    return Table("rugged", x, worth, np.exp(sum(rng.normal(0, 0.3, 3)[x[:, g]] for g in range(genes))))


def placements(seed: int = 0, stages: int = 3, types: int = 5, ratios: int = 3) -> Table:
    """Three stages of none or one of 15 attentions, diminishing returns, costs of a few percent, seed noise kept in."""
    rng = np.random.default_rng(seed)
    x = _grid((1 + types * ratios,) * stages)
    effect, ratio = rng.normal(0.3, 0.5, (stages, types)), rng.normal(0, 0.15, (types, ratios))
    price = np.exp(rng.normal(size=types))
    worth, cost = np.zeros(len(x)), np.ones(len(x))
    for stage in range(stages):
        depth = np.exp(rng.normal(0, 0.5))
        gains = depth * (effect[stage][:, None] + ratio)
        worth += np.concatenate([[0.0], gains.ravel()])[x[:, stage]]
        prices = 0.01 * price[:, None] * 2.0 ** (stage - np.arange(ratios))
        cost += np.concatenate([[0.0], prices.ravel()])[x[:, stage]]
    worth += rng.normal(0, 0.1, len(x)) - 0.15 * (x > 0).sum(axis=1) ** 2 / stages
    return Table("placements", x, 0.8 + 0.05 * np.tanh(worth / 2), cost)


def attune_bench(path: Path) -> Table:
    """Attune-Bench, or any table of all architectures of a space: one gene per stage, the mean accuracy of all seeds."""
    frame = pd.read_parquet(path)
    stages = frame["architecture"].str.partition(":")[2].str.split(",", expand=True)
    indices_NG = stages.apply(lambda stage: stage.astype("category").cat.codes).to_numpy().astype(int)
    order = np.lexsort(indices_NG.T[::-1])
    if len(frame) != np.prod(indices_NG.max(axis=0) + 1):
        raise SystemExit(f"{path} does not hold every architecture of its space")
    accuracy_N = frame.filter(regex=r"^accuracy_\d+$").mean(axis=1).to_numpy(dtype=float)
    return Table(path.stem, indices_NG[order], accuracy_N[order], frame["flops"].to_numpy(dtype=float)[order])


def read_table(name: str) -> Table | None:
    """A table by its name or its file."""
    if name in TABLES:
        return TABLES[name]()
    if not Path(name).is_file():
        raise SystemExit(f"table {name!r} is neither a file nor one of {', '.join(TABLES)}")
    return attune_bench(Path(name))


def shipped() -> Table | None:
    """Attune-Bench as it comes with this project."""
    if not ATTUNE_BENCH.is_file():
        print(f"table attune_bench: skipped, {ATTUNE_BENCH} is not there (make bench-table)")
        return None
    return attune_bench(ATTUNE_BENCH)


TABLES: dict[str, Callable[[], Table | None]] = {
    "macro": macro,
    "attune_bench": shipped,
    "additive": additive,
    "rugged": rugged,
    "placements": placements,
}


# --- samplers: (table, trials, seed) -> rows in the order they were evaluated ---------------------------------------------

Search = Callable[[Table, int, int], list[int]]


def _optuna(make: Callable[[Table, int], optuna.samplers.BaseSampler]) -> Search:
    def search(table: Table, trials: int, seed: int) -> list[int]:
        names = [f"g{g}" for g in range(len(table.sizes))]
        space = {n: CategoricalDistribution(tuple(range(s))) for n, s in zip(names, table.sizes, strict=True)}
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=make(table, seed))
        rows = []
        for _ in range(trials):
            trial = study.ask(space)
            rows.append(table.row([trial.params[name] for name in names]))
            study.tell(trial, [table.accuracy_N[rows[-1]], np.log(table.cost_N[rows[-1]])])
        return rows

    return search


def _space(table: Table) -> dict[str, CategoricalDistribution]:
    return {f"g{g}": CategoricalDistribution(tuple(range(size))) for g, size in enumerate(table.sizes)}


def _known_cost(table: Table, seed: int) -> optuna.samplers.BaseSampler:
    def costs(params: list[dict[str, Any]]) -> np.ndarray:
        rows = [table.row([p[f"g{g}"] for g in range(len(table.sizes))]) for p in params]
        return np.log(table.cost_N[rows])[:, None]

    return KnownCostSampler(_space(table), costs, seed=seed)


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


def _banana(table: Table, trials: int, seed: int) -> list[int]:
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
    "known_cost": ("Attune KnownCostSampler", _optuna(_known_cost), None),
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
        _optuna(lambda t, s: create_sampler("evolution", _space(t), seed=s)),
        None,
    ),
    "gp": ("Optuna GP", _optuna(lambda t, s: optuna.samplers.GPSampler(seed=s)), None),
    "pymoo": ("pymoo NSGA-II, population 20", _pymoo, "pymoo"),
    "botorch": ("BoTorch qLogNEHVI", _botorch, "botorch"),
    "smac": ("SMAC ParEGO", _smac, "smac"),
    "banana": ("MO-BANANAS", _banana, None),
}
SLOW = ("gp", "botorch", "smac", "banana")
MOST = {"botorch": 100}  # evaluations of a search whose suggestions take seconds by then
OWN = ("known_cost", "evolution", "banana")  # code of this repository: a change of it makes their searches stale


# --- searches that are kept ---------------------------------------------------------------------------------------------


@cache
def release(sampler: str) -> str:
    """What a kept search was made with: our code's digest, or a package's version."""
    if sampler not in OWN:
        package = SEARCHES[sampler][2] or "optuna"
        return version(package) if find_spec(package) else "none"
    used = [Path("search/pareto.py")]
    used += [] if sampler == "banana" else sorted(Path("search/samplers").glob("*.py"))
    code = b"".join(path.read_bytes() for path in used) + (_banana.__code__.co_code if sampler == "banana" else b"")
    return hashlib.blake2b(code, digest_size=6).hexdigest()


class Runs:
    """Finished searches in a file of JSON lines: the rows that a sampler evaluated, in order, and its seconds a suggestion."""

    def __init__(self, path: Path, trials: int) -> None:
        self.path, self.trials = path, trials
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self._kept = {tuple(run["key"]): run for run in map(json.loads, lines)}

    def key(self, table: Table, sampler: str, seed: int) -> tuple[Any, ...]:
        return (table.digest, sampler, release(sampler), self.length(sampler), seed)

    def length(self, sampler: str) -> int:
        """Evaluations of one search."""
        return min(self.trials, MOST.get(sampler, self.trials))

    def of(self, table: Table, sampler: str) -> list[dict[str, Any]]:
        """The finished searches of the current version of a sampler, by seed."""
        keys = [self.key(table, sampler, seed) for seed in range(1000)]
        return [self._kept[key] for key in keys if key in self._kept]

    def make(self, table: Table, sampler: str, seed: int) -> None:
        """Search, unless that was done."""
        key = self.key(table, sampler, seed)
        if key in self._kept:
            return
        start = time.perf_counter()
        rows = [int(row) for row in SEARCHES[sampler][1](table, self.length(sampler), seed)]
        took = (time.perf_counter() - start) / len(rows)
        run = {"key": key, "table": table.name, "seconds": round(took, 4), "rows": rows}
        with self.path.open("a") as file:
            file.write(json.dumps(run) + "\n")
        self._kept[key] = run


# --- the comparison ----------------------------------------------------------------------------------------------------


Result = tuple[str, np.ndarray, float]  # a sampler's label, shares (seeds, trials), median seconds a suggestion


def compare(table: Table, names: list[str], seeds: int, runs: Runs, until: float) -> list[Result]:
    """Make what is missing, the first seeds of all samplers first, then read what there is."""
    usable = []
    for name in names:
        label, _, package = SEARCHES[name]
        if package and find_spec(package) is None and not runs.of(table, name):
            print(f"{label}: skipped, {package} is not installed (group `peers`)")
        else:
            usable.append(name)
    for seed in range(seeds):
        for name in usable:
            package = SEARCHES[name][2]
            if time.monotonic() < until and (package is None or find_spec(package)):
                runs.make(table, name, seed)
    found = [(SEARCHES[name][0], runs.of(table, name)[:seeds]) for name in usable]
    return [
        (label, np.array([table.shares(run["rows"]) for run in kept]), float(np.median([r["seconds"] for r in kept])))
        for label, kept in found
        if kept
    ]


def interval(values: np.ndarray) -> str:
    """Mean and its 95 % bootstrap interval over seeds."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"


def markdown(table: Table, results: list[Result], trials: int) -> str:
    points = [k for k in CHECKPOINTS if k <= trials]
    lines = [
        f"### {table.name}: {len(table.accuracy_N):,} candidates",
        "",
        "| sampler | seeds | " + " | ".join(f"{k} evaluations" for k in points) + " | s / suggestion |",
        "|---|---|" + "---|" * (len(points) + 1),
    ]
    for label, curves, seconds in results:
        cells = [interval(curves[:, k - 1]) if k <= curves.shape[1] else "-" for k in points]
        lines.append(f"| {label} | {len(curves)} | " + " | ".join(cells) + f" | {seconds:.3f} |")
    ours = results[0][1].mean(axis=0)
    lines += ["", f"Evaluations that {results[0][0]} needs, on average, for what a peer has after its last:", ""]
    lines += ["| peer | its last | share | evaluations of ours | fewer by | ahead of us at |", "|---" * 6 + "|"]
    for label, curves, _ in results[1:]:
        theirs = curves.mean(axis=0)
        reached = needed(ours, theirs[-1])
        count, times = (str(reached), f"{len(theirs) / reached:.1f}x") if reached else ("not reached", "-")
        ahead = [str(k) for k in BAR_AT if k <= len(theirs) and theirs[k - 1] > ours[k - 1]]
        lines.append(
            f"| {label} | {len(theirs)} | {theirs[-1]:.4f} | {count} | {times} | {', '.join(ahead) or 'never'} |"
        )
    return "\n".join([*lines, "", *bars(results, ours, trials)]) + "\n"


def needed(ours: np.ndarray, goal: float) -> int:
    """Evaluations until the mean curve reaches a share; 0 where it does not."""
    return int(np.argmax(ours >= goal)) + 1 if ours[-1] >= goal else 0


def bars(results: list[Result], ours: np.ndarray, trials: int) -> list[str]:
    """Each promise with what was measured."""
    ends = {label: curves.mean(axis=0)[-1] for label, curves, _ in results[1:]}
    optuna_ends = {label: end for label, end in ends.items() if label.startswith("Optuna")}
    if not optuna_ends:
        return []
    best = max(optuna_ends, key=lambda label: optuna_ends[label])
    lines = [f"Best of Optuna's ({best}) after {trials} reached in {needed(ours, ends[best])}, bar {BAR_BEST}."]
    nsga2 = next((label for label in optuna_ends if "NSGA-II," in label), None)
    if nsga2:
        lines.append(f"NSGA-II's after {trials} reached in {needed(ours, ends[nsga2])}, bar {BAR_NSGA2}.")
    return lines


def suggestion_seconds(finished: int = 500, asks: int = 9) -> list[str]:
    """Seconds of one suggestion of KnownCostSampler with so many finished trials: on the clock, and of one core."""
    lines = ["| space | finished trials | median | largest | median of CPU time |", "|---|---|---|---|---|"]
    spaces = [("6,561 candidates, each scored", (3,) * 8), ("10^12 candidates, a pool scored", (10,) * 12)]
    for label, sizes in spaces:
        rng = np.random.default_rng(0)
        worth = [rng.normal(size=size) for size in sizes]
        price = [rng.exponential(size=size) for size in sizes]

        def costs(params: list[dict[str, Any]], price: list[np.ndarray] = price) -> np.ndarray:
            return np.array([[1 + sum(p[one[f"g{g}"]] for g, p in enumerate(price))] for one in params])

        space = {f"g{g}": CategoricalDistribution(tuple(range(size))) for g, size in enumerate(sizes)}
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=KnownCostSampler(space, costs, seed=0))
        rows = {tuple(int(rng.integers(size)) for size in sizes) for _ in range(2 * finished)}
        for row in sorted(rows)[:finished]:
            params = {f"g{g}": choice for g, choice in enumerate(row)}
            values = [sum(w[c] for w, c in zip(worth, row, strict=True)), float(costs([params])[0, 0])]
            study.add_trial(optuna.trial.create_trial(params=params, distributions=dict(space), values=values))
        took, used = [], []
        for _ in range(asks):
            start, start_used = time.perf_counter(), time.process_time()
            trial = study.ask(space)
            took.append(time.perf_counter() - start)
            used.append(time.process_time() - start_used)
            row = tuple(trial.params[f"g{g}"] for g in range(len(sizes)))
            study.tell(trial, [sum(w[c] for w, c in zip(worth, row, strict=True)), float(costs([trial.params])[0, 0])])
        times = f"{np.median(took):.3f} s | {max(took):.3f} s | {np.median(used):.3f} s"
        lines.append(f"| {label} | {finished} | {times} |")
    return lines


def plot(results: dict[str, list[Result]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(5.5 * len(results), 4.2), squeeze=False)
    for axis, (name, found) in zip(axes[0], results.items(), strict=True):
        for label, curves, _ in found:
            steps = np.arange(1, curves.shape[1] + 1)
            missing = np.clip(1 - curves, 1e-5, 1)
            (line,) = axis.plot(
                steps, missing.mean(axis=0), label=label, lw=2.2 if label.startswith("Attune K") else 1.2
            )
            axis.fill_between(steps, *np.quantile(missing, [0.1, 0.9], axis=0), color=line.get_color(), alpha=0.12)
        axis.set(title=name, xlabel="evaluations", yscale="log")
    axes[0][0].set_ylabel("share of the hypervolume still missing")
    axes[0][-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def write(path: Path, mark: str, text: str) -> None:
    """Put a text between the marks of a file."""
    before, opening, rest = path.read_text().partition(f"<!-- {mark} -->\n")
    if not opening:
        raise SystemExit(f"{path} has no mark <!-- {mark} -->")
    after = rest.partition("<!-- end -->\n")[2]
    path.write_text(before + opening + text + "<!-- end -->\n" + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", default=list(TABLES), metavar="NAME|FILE")
    parser.add_argument("--samplers", nargs="+", choices=list(SEARCHES), default=[n for n in SEARCHES if n not in SLOW])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--runs", type=Path, default=RUNS, help="where finished searches are kept")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no new search after so long")
    parser.add_argument("--suggestion", action="store_true", help="time suggestions at 500 finished trials instead")
    parser.add_argument("--markdown", type=Path, help="write tables and curves between the marks of this file")
    parser.add_argument("--mark", default="measured", help="which marks of that file, and the curves' name")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.suggestion:
        text = "\n".join(suggestion_seconds()) + "\n"
        print(text)
        if options.markdown:
            write(options.markdown, options.mark, text)
        return
    runs, until = Runs(options.runs, options.trials), time.monotonic() + 60 * options.minutes
    found: dict[str, list[Result]] = {}
    texts = []
    for name in options.table:
        table = read_table(name)
        if table is None:
            continue
        found[table.name] = compare(table, options.samplers, options.seeds, runs, until)
        if found[table.name]:
            texts.append(markdown(table, found[table.name], options.trials))
            print("\n" + texts[-1], flush=True)
    if options.markdown:
        write(options.markdown, options.mark, "\n".join(texts))
        plot(found, options.markdown.with_name(f"samplers-{options.mark}.png"))


if __name__ == "__main__":
    main()
