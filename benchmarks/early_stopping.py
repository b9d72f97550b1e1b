"""Early stopping by domination against full evaluations: the epochs until each has the hypervolume that full ones end with.

    python -m benchmarks.early_stopping [--seeds 10] [--trials 100] [--epochs 27] [--markdown [FILE]]

Final accuracies and costs are those of the tables of benchmarks.tables; on the way there every candidate follows a power
law of its own speed (fast learners first lead, slow ones catch up) with noise at each epoch, so that ranks at early rungs are
wrong as often as they are in training. A search of full evaluations spends trials x epochs; one that stops early may spend 40 %
of that, with as many trials as it likes. Only trials that ran to the end count for the hypervolume.
"""

import argparse
import warnings
from itertools import product

import numpy as np
import optuna

from benchmarks.page import add_option, interval, write
from benchmarks.peers import known_cost
from benchmarks.tables import TABLES, Table, space_of
from search.samplers import create_sampler
from search.samplers.known_cost import EXPECTED, STOPPED_AT
from search.schedulers.rungs import Rungs

SHARE = 0.4  # of the epochs of full evaluations


def curves(table: Table, epochs: int, seed: int) -> np.ndarray:
    """Accuracy of each candidate after each epoch, (N, epochs); the last is the table's."""
    rng = np.random.default_rng(seed)
    n, spread = len(table.accuracy_N), table.accuracy_N.std()
    gap_N = spread * rng.lognormal(1.0, 0.4, n)
    speed_N = rng.lognormal(-0.2, 0.3, n)
    when_E = np.arange(1, epochs + 1)
    rise_NE = gap_N[:, None] * (when_E ** -speed_N[:, None] - epochs ** -speed_N[:, None])
    noise_NE = rng.normal(0, 0.1 * spread, (n, epochs)) * (when_E < epochs)
    return table.accuracy_N[:, None] - rise_NE + noise_NE


def rank_agreement(curves_NE: np.ndarray, epoch: int) -> float:
    """Spearman's correlation of the accuracy at an epoch with the last."""
    ranks = [np.argsort(np.argsort(curves_NE[:, e])) for e in (epoch - 1, -1)]
    return float(np.corrcoef(ranks)[0, 1])


def search(table: Table, curves_NE: np.ndarray, name: str, budget: int, seed: int, rungs: Rungs | None) -> np.ndarray:
    """One search; the share of the hypervolume after 0, 1, ... `budget` epochs, (budget + 1,)."""
    sampler = known_cost(table, seed) if name == "known_cost" else create_sampler(name, space_of(table), seed=seed)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    full, ended, spent, epochs = [], [], 0, curves_NE.shape[1]
    while spent < budget:
        trial = study.ask(space_of(table))
        row = table.row([trial.params[f"g{g}"] for g in range(len(table.sizes))])
        cost = float(np.log(table.cost_N[row]))
        last = epochs
        for epoch in range(1, epochs + 1):
            if rungs is not None and not rungs.decide(str(row), epoch, float(curves_NE[row, epoch - 1]), [cost]):
                last = epoch
                break
        spent += last
        if last == epochs:
            full.append(row)
            ended.append(spent)
            study.tell(trial, [table.accuracy_N[row], cost])
        else:
            assert rungs is not None
            trial.set_user_attr(EXPECTED, rungs.expected(last, float(curves_NE[row, last - 1])))
            trial.set_user_attr(STOPPED_AT, last)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    shares = np.concatenate([[0.0], table.shares(full)])
    return shares[np.searchsorted(ended, np.arange(budget + 1), side="right")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", choices=list(TABLES), default=["macro", "additive", "placements"])
    parser.add_argument("--samplers", nargs="+", default=["random", "evolution", "known_cost"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", nargs="+", type=int, default=[1, 3, 9], help="epochs of the first rung")
    parser.add_argument("--brackets", nargs="+", type=int, default=[1])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=27)
    add_option(parser, "early_stopping.md")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    whole = options.trials * options.epochs
    part = int(SHARE * whole)
    lines = [
        "| table | sampler | full trainings, all epochs | full trainings, 40 % of the epochs | first rung | brackets "
        "| stopped early, 40 % of the epochs | epochs for what all full trainings give |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in options.table:
        table = TABLES[name]()
        if table is None:
            continue
        made = [curves(table, options.epochs, seed) for seed in range(options.seeds)]
        agreement = ", ".join(f"{rank_agreement(made[0], e):.2f} after {e}" for e in Rungs(options.epochs).levels(0))
        print(f"{name}: rank agreement with the last epoch: {agreement}", flush=True)
        for sampler in options.samplers:
            plain = np.array([search(table, c, sampler, whole, seed, None) for seed, c in enumerate(made)])
            for first, brackets in product(options.first, options.brackets):
                plans = [Rungs(options.epochs, first=first, brackets=brackets) for _ in made]
                found = np.array([search(table, c, sampler, part, seed, plans[seed]) for seed, c in enumerate(made)])
                enough = np.flatnonzero(found.mean(axis=0) >= plain[:, -1].mean())
                reached = f"{enough[0] / whole:.0%}" if len(enough) else f"more than {SHARE:.0%}"
                full = f"{interval(plain[:, -1])} | {interval(plain[:, part])}"
                early = f"{first} | {brackets} | {interval(found[:, -1])} | {reached}"
                lines.append(f"| {name} | {sampler} | {full} | {early} |")
                print(lines[-1], flush=True)
    print("\n" + "\n".join(lines))
    if options.markdown:
        write(options.markdown, "stopping", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
