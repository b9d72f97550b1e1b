"""Many evaluations at a time: what a search finds with 1, 2, 16 and 256 in flight, and what a suggestion takes after thousands.

python -m benchmarks.flight [--tables macro additive] [--seeds 3] [--evaluations 512] [--long 20000] [--markdown [FILE]]

Evaluations are looked up in a table and last as long as an exponential distribution says, so that they end in another order
than they began; a new one begins when one ends. Promised: at equal numbers of evaluations a hypervolume within .01 of that of
one at a time for 16 in flight, within .03 for 256. `--long N` makes N trials with 256 in flight over a space of 10^9
candidates, and tells the seconds of a suggestion and the memory in each block: promised are no growth beyond 500 trials, and at
most 2 GiB. `search.deterministic` makes a search wait for results in their order: how long its workers then stand idle is
computed for 100 evaluations whose seconds are log-normal.
"""

from __future__ import annotations

import argparse
import heapq
import resource
import statistics
import time

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution

from benchmarks.page import add_option, interval, write
from benchmarks.peers import known_cost
from benchmarks.tables import TABLES, Table, read_table, space_of
from search.samplers import KnownCostSampler

FLIGHTS = (1, 2, 16, 256)
BARS = {16: 0.01, 256: 0.03}
GENES, CHOICES = 9, 10  # of the space of the long search


def flown(table: Table, at_once: int, evaluations: int, seed: int) -> list[int]:
    """The rows that a search evaluates, in the order in which they end."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=known_cost(table, seed))
    space, rng = space_of(table), np.random.default_rng(seed)
    flying: list[tuple[float, int, int]] = []
    rows: list[int] = []
    now, begun = 0.0, 0
    while len(rows) < evaluations:
        while begun < evaluations and len(flying) < at_once:
            trial = study.ask(space)
            row = table.row([trial.params[f"g{g}"] for g in range(len(table.sizes))])
            heapq.heappush(flying, (now + float(rng.exponential()), trial.number, row))
            begun += 1
        now, number, row = heapq.heappop(flying)
        study.tell(number, (float(table.accuracy_N[row]), float(np.log(table.cost_N[row]))))
        rows.append(row)
    return rows


def compared(name: str, seeds: int, evaluations: int) -> list[str]:
    """The shares of the full hypervolume at several numbers of evaluations, as rows of a table, one for each flight."""
    table = read_table(name)
    if table is None:
        return []
    points = [count for count in (128, 256, 512, 1024) if count <= evaluations]
    lines, alone = [], np.zeros(len(points))
    for at_once in FLIGHTS:
        shares = np.array([table.shares(flown(table, at_once, evaluations, seed)) for seed in range(seeds)])
        found = shares[:, [count - 1 for count in points]]
        alone = found.mean(axis=0) if at_once == 1 else alone
        behind = alone - found.mean(axis=0)
        cells = " | ".join(f"{interval(column)} ({-gap:+.4f})" for column, gap in zip(found.T, behind, strict=True))
        bar = BARS.get(at_once)
        met = "-" if bar is None else "yes" if behind[-1] <= bar else "no"
        lines.append(f"| {name} | {at_once} | {cells} | {met} |")
        print(lines[-1], flush=True)
    return lines


def long_search(trials: int, at_once: int = 256) -> list[str]:
    """Seconds of a suggestion in each block of trials, and the memory at its end."""
    rng = np.random.default_rng(0)
    price_GC, worth_GC = np.sort(rng.exponential(size=(GENES, CHOICES))), rng.normal(size=(GENES, CHOICES))

    def costs(params: list[dict[str, int]]) -> np.ndarray:
        return np.array([[1 + sum(price_GC[g, p[f"g{g}"]] for g in range(GENES))] for p in params])

    space = {f"g{g}": CategoricalDistribution(tuple(range(CHOICES))) for g in range(GENES)}
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=KnownCostSampler(space, costs, seed=0))
    flying: list[optuna.Trial] = []
    seconds: list[float] = []
    lines = ["| trials | median of a suggestion | 95 % of them within | memory |", "|---|---|---|---|"]
    block = max(1, trials // 20)
    for number in range(1, trials + 1):
        if len(flying) == at_once:
            done = flying.pop(int(rng.integers(at_once)))
            score = sum(worth_GC[g, done.params[f"g{g}"]] for g in range(GENES)) + 0.1 * rng.normal()
            study.tell(done, (1 / (1 + np.exp(-score / 3)), float(costs([done.params])[0, 0])))
        start = time.perf_counter()
        flying.append(study.ask(space))
        seconds.append(time.perf_counter() - start)
        if number % block == 0:
            held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            most = float(np.quantile(seconds, 0.95))
            lines.append(f"| {number:,} | {statistics.median(seconds):.3f} s | {most:.3f} s | {held:.2f} GiB |")
            print(lines[-1], flush=True)
            seconds = []
    return lines


def idle(seconds_N: np.ndarray, at_once: int, in_order: bool) -> float:
    """The share of the workers' time until the last evaluation ends in which they have nothing to do.

    ``in_order``: the i-th is proposed when the first i - ``at_once`` are known, as with ``search.deterministic``.
    """
    free = [0.0] * at_once
    ends: list[float] = []
    start = 0.0
    for number, seconds in enumerate(seconds_N):
        known = max(ends[: number - at_once + 1]) if in_order and number >= at_once else 0.0
        start = max(start, min(free), known)
        free[free.index(min(free))] = start + float(seconds)
        ends.append(start + float(seconds))
    return 1 - float(seconds_N.sum()) / (at_once * max(ends))


def waiting(evaluations: int, searches: int) -> list[str]:
    """What it costs in idle time that a search depends on its seed alone, for several spreads of the evaluations' seconds."""
    rng = np.random.default_rng(0)
    lines = ["| in flight | spread of the seconds | idle | idle in order |", "|---|---|---|---|"]
    for at_once in (2, 4, 16):
        for spread in (0.1, 0.5, 1.0):  # of a log-normal distribution
            drawn = rng.lognormal(0, spread, (searches, evaluations))
            free, bound = (np.mean([idle(one, at_once, order) for one in drawn]) for order in (False, True))
            lines.append(f"| {at_once} | {spread} | {free:.1%} | {bound:.1%} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=["macro", "additive"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=512)
    parser.add_argument("--long", type=int, default=0, metavar="N", help="trials of one long search; 0: none")
    add_option(parser, "flight.md")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    points = [count for count in (128, 256, 512, 1024) if count <= options.evaluations]
    heads = " | ".join(f"{count} evaluations" for count in points)
    found = waiting(100, 200)
    if options.markdown:
        write(options.markdown, "waiting", "\n".join(found) + "\n")
    lines = [f"| table | in flight | {heads} | within the bar at the end |", "|---|---|" + "---|" * (len(points) + 1)]
    for name in options.tables:
        lines += compared(name, options.seeds, options.evaluations)
    if options.markdown and options.tables:
        write(options.markdown, "flight", "\n".join(lines) + "\n")
    if options.long:
        found = long_search(options.long)
        if options.markdown:
            write(options.markdown, "long", "\n".join(found) + "\n")


if __name__ == "__main__":
    main()
