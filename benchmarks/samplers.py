"""Samplers side by side on tables: the share of the full hypervolume after so many evaluations, every peer in the same run.

    python -m benchmarks.samplers [--table NAME|FILE ...] [--samplers NAME ...] [--seeds 10] [--trials 200] [--brief]
        [--markdown [FILE]]

Tables: `macro` (NAS-Bench-Macro, from the folder ATTUNE_DATA), `attune_bench` (Attune-Bench), and three synthetic ones
that are made here, of other shapes, so that nothing is tuned to the published tables; on request `graph_cora` and `graph_photo`
(NAS-Bench-Graph) and `generated_0` to `generated_23` (benchmarks/generated_tables.py). Peers from the optional group `peers`
that are not installed are skipped, saying so. Hypervolume over accuracy and log cost; the reference is the table's worst
accuracy and highest cost.

Every finished search is kept in `--runs`, under the table's content and the sampler's version, and is not made again: seeds of
slow peers may be added later. `--minutes` starts no new search after that time. `--suggestion` times KnownCostSampler instead.
"""

import argparse
import hashlib
import json
import time
import warnings
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution

from benchmarks.page import add_option, interval, write
from benchmarks.peers import MOST, OWN, SEARCHES, SLOW, banana
from benchmarks.tables import TABLES, Table, read_table
from search.samplers import KnownCostSampler

CHECKPOINTS = (20, 40, 50, 67, 100, 200)
# What this project promises: the best Optuna sampler's final hypervolume in a third of the evaluations, NSGA-II's in a fifth,
# and nobody ahead at these numbers of evaluations.
BAR_BEST, BAR_NSGA2, BAR_AT = 67, 40, (50, 100, 200)
RUNS = Path("runs/benchmarks/samplers.jsonl")


@cache
def release(sampler: str) -> str:
    """What a kept search was made with: our code's digest, or a package's version."""
    if sampler not in OWN:
        package = SEARCHES[sampler][2] or "optuna"
        return version(package) if find_spec(package) else "none"
    used = [Path("search/pareto.py")]
    used += [] if sampler == "banana" else sorted(Path("search/samplers").glob("*.py"))
    code = b"".join(path.read_bytes() for path in used) + (banana.__code__.co_code if sampler == "banana" else b"")
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


def brief(tables: dict[str, list[Result]], trials: int) -> str:
    """One row for each table: means of ours and of each peer, and the evaluations of ours for what a peer has at its end."""
    points = [k for k in (25, 50, 100) if k <= trials]
    labels = [label for label, *_ in next(iter(tables.values()))]
    ends = [f"{label}, {' / '.join(map(str, [*points[1:], trials]))}" for label in labels[1:]]
    heads = [
        f"{labels[0]}, {' / '.join(map(str, points))}",
        *ends,
        *(f"ours for the {label}'s {trials}" for label in labels[1:]),
    ]
    lines = [f"| table | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    reached: dict[str, list[int]] = {label: [] for label in labels[1:]}
    for name, (ours, *peers) in tables.items():
        mean = ours[1].mean(axis=0)
        cells = [" / ".join(f"{mean[k - 1]:.4f}" for k in points)]
        for label, curves, _ in peers:
            theirs = curves.mean(axis=0)
            cells.append(" / ".join(f"{theirs[k - 1]:.4f}" for k in [*points[1:], trials]))
            reached[label].append(needed(mean, theirs[-1]) or trials + 1)
        lines.append(f"| {name} | {' | '.join([*cells, *(str(reached[label][-1]) for label, *_ in peers)])} |")
    seeds = len(next(iter(tables.values()))[0][1])
    words = "; ".join(f"{label}'s in {np.median(found):.0f} (worst {max(found)})" for label, found in reached.items())
    return (
        "\n".join(
            [*lines, "", f"Means of {seeds} seeds. What a peer has after {trials}, as medians over tables: {words}."]
        )
        + "\n"
    )


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

    figure, axes = plt.subplots(1, len(results), figsize=(3 + 4.5 * len(results), 4.2), squeeze=False)
    for axis, (name, found) in zip(axes[0], results.items(), strict=True):
        for number, (label, curves, _) in enumerate(found):
            steps = np.arange(1, curves.shape[1] + 1)
            missing = np.clip(1 - curves, 1e-5, 1)
            width, style = 2.2 if label.startswith("Attune K") else 1.2, "-" if number < 10 else "--"  # ten colours
            (line,) = axis.plot(steps, missing.mean(axis=0), label=label, lw=width, ls=style)
            axis.fill_between(steps, *np.quantile(missing, [0.1, 0.9], axis=0), color=line.get_color(), alpha=0.12)
        axis.set(title=name, xlabel="evaluations", yscale="log")
    axes[0][0].set_ylabel("share of the hypervolume still missing")
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", default=list(TABLES), metavar="NAME|FILE")
    parser.add_argument("--samplers", nargs="+", choices=list(SEARCHES), default=[n for n in SEARCHES if n not in SLOW])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--runs", type=Path, default=RUNS, help="where finished searches are kept")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no new search after so long")
    parser.add_argument("--brief", action="store_true", help="one row for each table, and no curves")
    parser.add_argument("--suggestion", action="store_true", help="time suggestions at 500 finished trials instead")
    add_option(parser, "samplers.md")
    parser.add_argument(
        "--mark", default="synthetic", help="which marks of that page, and the name of the curves beside it"
    )
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
            if not options.brief:
                print("\n" + texts[-1], flush=True)
    if options.brief:
        texts = [brief(found, options.trials)]
        print("\n" + texts[-1])
    if options.markdown:
        write(options.markdown, options.mark, "\n".join(texts))
    if options.markdown and not options.brief:
        plot(found, options.markdown.with_name(f"samplers-{options.mark}.png"))


if __name__ == "__main__":
    main()
