"""Early stopping by domination against full evaluations: epochs spent, hypervolume reached, at the same number of trials.

    python -m benchmarks.early_stopping [--seeds 10] [--trials 100] [--epochs 27] [--markdown FILE]

Final accuracies and costs are those of the tables of benchmarks.samplers; on the way there every candidate follows a power
law of its own speed (fast learners first lead, slow ones catch up) with noise at each epoch, so that ranks at early rungs are
wrong as often as they are in training. Only trials that ran to the end count for the hypervolume.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import optuna

from benchmarks.samplers import TABLES, Table, _known_cost, _space, interval
from search.samplers import create_sampler
from search.samplers.known_cost import EXPECTED
from search.schedulers import Rungs


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


def search(table: Table, curves_NE: np.ndarray, name: str, trials: int, seed: int, rungs: Rungs | None) -> tuple:
    """One search; returns the share of the hypervolume and the epochs spent."""
    sampler = _known_cost(table, seed) if name == "known_cost" else create_sampler(name, _space(table), seed=seed)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    full, spent, epochs = [], 0, curves_NE.shape[1]
    for _ in range(trials):
        trial = study.ask(_space(table))
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
            study.tell(trial, [table.accuracy_N[row], cost])
        else:
            assert rungs is not None
            trial.set_user_attr(EXPECTED, rungs.expected(last, float(curves_NE[row, last - 1])))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return table.shares(full)[-1], spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", choices=list(TABLES), default=["macro", "additive", "placements"])
    parser.add_argument("--samplers", nargs="+", default=["random", "evolution", "known_cost"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--markdown", type=Path, help="write the table between the marks of this file")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    lines = [
        "| table | sampler | brackets | hypervolume, all epochs | hypervolume, stopped early | epochs spent |",
        "|---|---|---|---|---|---|",
    ]
    for name in options.table:
        table = TABLES[name]()
        if table is None:
            continue
        sample = curves(table, options.epochs, 0)
        agreement = ", ".join(f"{rank_agreement(sample, e):.2f} after {e}" for e in Rungs(options.epochs).levels(0))
        print(f"{name}: rank agreement with the last epoch: {agreement}", flush=True)
        for sampler in options.samplers:
            plain = np.array(
                [
                    search(table, curves(table, options.epochs, s), sampler, options.trials, s, None)[0]
                    for s in range(options.seeds)
                ]
            )
            for brackets in (1, 2):
                found = np.array(
                    [
                        search(
                            table,
                            curves(table, options.epochs, s),
                            sampler,
                            options.trials,
                            s,
                            Rungs(options.epochs, brackets=brackets),
                        )
                        for s in range(options.seeds)
                    ]
                )
                share = found[:, 1].mean() / (options.trials * options.epochs)
                lines.append(
                    f"| {name} | {sampler} | {brackets} | {interval(plain)} | {interval(found[:, 0])} | {share:.0%} |"
                )
                print(lines[-1], flush=True)
    print("\n" + "\n".join(lines))
    if options.markdown:
        before, _, rest = options.markdown.read_text().partition("<!-- stopping -->\n")
        after = rest.partition("<!-- end stopping -->\n")[2]
        options.markdown.write_text(
            before + "<!-- stopping -->\n" + "\n".join(lines) + "\n<!-- end stopping -->\n" + after
        )


if __name__ == "__main__":
    main()
