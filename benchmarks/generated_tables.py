"""Tables drawn from seeds that have what tables of real cells have: `generated(seed)`, a Table of 400 to 9,000 candidates.

Each trait is there or not by the seed, in a strength of its own:

- dead choices: where no path of a cell is alive its accuracy is anywhere between chance and all but the others' (a heavy
  lower tail, up to a third of all candidates, and mostly cheap ones);
- symmetries: genes that may be exchanged, so that many candidates are equal but for noise;
- ceilings: the best accuracy is a function of the cost, which most candidates nearly reach;
- a heavy lower tail of what is alive: gaps to the best that are log-normal;
- plateaus: everything above some worth is the same;
- noise that grows where the accuracy is low;
- forbidden combinations of two choices;
- costs: linear or multiplicative, on few levels or all different, over a factor between 1.05 and 50.

What is chosen by such tables is chosen on even seeds and reported on odd ones.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.tables import Table

COUNT = 24
SHAPES = ((4, 5), (4, 7), (4, 9), (5, 4), (5, 5), (6, 3), (6, 4), (7, 3), (8, 3))  # (genes, choices)
CHANCE = 1.0  # accuracies are in percent


def generated(seed: int) -> Table:
    """The table of a seed. Shapes: N candidates, G genes, K choices."""
    rng = np.random.default_rng([7102, seed])
    genes, choices = SHAPES[rng.integers(len(SHAPES))]
    every_NG = np.indices((choices,) * genes).reshape(genes, -1).T
    alike = rng.choice(genes, rng.integers(2, genes), replace=False) if rng.random() < 0.5 else np.zeros(0, int)
    form_NG = every_NG.copy()
    form_NG[:, alike] = np.sort(every_NG[:, alike], axis=1)  # exchanged genes give the same form
    cost_N, price_GK = _costs(rng, every_NG, alike, choices)
    worth_N = _worths(rng, form_NG, price_GK)
    if rng.random() < 0.4:
        worth_N = np.minimum(worth_N, np.quantile(worth_N, rng.uniform(0.5, 0.95)))
    accuracy_N = _accuracies(rng, worth_N, np.log(cost_N))
    if rng.random() < 0.7:
        dead_N = _dead(rng, every_NG)
        least = accuracy_N[~dead_N].min()
        reach_N = rng.beta(*rng.uniform(0.4, 2.0, 2), len(every_NG))
        accuracy_N = np.where(dead_N, CHANCE + (least - CHANCE) * reach_N, accuracy_N)
    noise = 10 ** rng.uniform(-2, -0.3)
    growth = rng.uniform(0, 0.15) if rng.random() < 0.6 else 0.0
    accuracy_N = accuracy_N + rng.normal(size=len(accuracy_N)) * (noise + growth * (accuracy_N.max() - accuracy_N))
    allowed_N = np.ones(len(every_NG), dtype=bool)
    for _ in range(rng.integers(1, 4) if rng.random() < 0.4 else 0):
        a, b = rng.choice(genes, 2, replace=False)
        allowed_N &= ~((every_NG[:, a] == rng.integers(choices)) & (every_NG[:, b] == rng.integers(choices)))
    accuracy_N = np.clip(accuracy_N, CHANCE, 100.0)
    return Table(f"generated_{seed}", every_NG[allowed_N], accuracy_N[allowed_N], cost_N[allowed_N])


def _costs(
    rng: np.random.Generator, every_NG: np.ndarray, alike: np.ndarray, choices: int
) -> tuple[np.ndarray, np.ndarray]:
    """Costs (N,) and the standardised prices (G, K) they are made of; the first choice is free."""
    genes = every_NG.shape[1]
    if rng.random() < 0.5:  # few levels, like convolutions of some sizes beside what is free
        price_K = np.sort(np.append(rng.choice([0.0, 0.0, 1.0, 1.0, 3.0, 9.0], choices - 2), rng.choice([1.0, 3.0])))
        price_GK = np.tile(price_K, (genes, 1))
    else:
        price_GK = np.sort(rng.exponential(size=(genes, choices - 1)), axis=1)
        price_GK *= np.exp(rng.normal(0, 0.5, (genes, 1)))
    price_GK = np.hstack([np.zeros((genes, 1)), price_GK])
    price_GK[alike] = price_GK[alike[:1]]
    total_N = price_GK[np.arange(genes), every_NG].sum(axis=1).round(9)
    unit_N = total_N / total_N.max()
    factor = np.exp(rng.uniform(np.log(1.05), np.log(50)))
    cost_N = factor**unit_N if rng.random() < 0.4 else 1 + (factor - 1) * unit_N
    return cost_N, price_GK / price_GK.std()


def _worths(rng: np.random.Generator, form_NG: np.ndarray, price_GK: np.ndarray) -> np.ndarray:
    """Standardised worths (N,): main effects that partly go with the price, and interactions of pairs."""
    genes, choices = price_GK.shape
    main_GK = rng.normal(size=(genes, choices)) + rng.uniform(0, 1.5) * price_GK
    main_N = main_GK[np.arange(genes), form_NG].sum(axis=1)
    pairs_N = np.zeros(len(form_NG))
    for a in range(genes):
        for b in range(a):
            pairs_N += rng.normal(size=(choices, choices))[form_NG[:, a], form_NG[:, b]]
    worth_N = main_N / main_N.std() + rng.uniform(0.1, 1.0) * pairs_N / pairs_N.std()
    return (worth_N - worth_N.mean()) / worth_N.std()


def _accuracies(rng: np.random.Generator, worth_N: np.ndarray, log_cost_N: np.ndarray) -> np.ndarray:
    """Accuracies (N,) in percent of what is alive."""
    unit_N = (log_cost_N - log_cost_N.min()) / np.ptp(log_cost_N)
    top, rise, width = rng.uniform(45, 98), rng.uniform(3, 30), rng.uniform(1, 12)
    if rng.random() < 0.6:  # a ceiling at each cost, and gaps to it
        return np.asarray(top - rise * (1 - unit_N) ** rng.uniform(0.5, 3) - width * np.log1p(np.exp(-worth_N - 1)))
    if rng.random() < 0.5:  # gaps whose logarithms are Gaussian
        return np.asarray(top - width * np.exp(-rng.uniform(0.5, 1.3) * worth_N))
    return np.asarray(top - (rise + width) / (1 + np.exp(1.5 * worth_N)))


def _dead(rng: np.random.Generator, every_NG: np.ndarray) -> np.ndarray:
    """Mask (N,) of cells without a live path, 2% to a third of all: the first choice cuts a path, or takes all of it to."""
    genes = every_NG.shape[1]
    while True:
        paths = np.array_split(rng.permutation(genes), rng.integers(1, 4))
        cut = rng.choice([np.any, np.all])
        dead_N = np.all([cut(every_NG[:, path] == 0, axis=1) for path in paths], axis=0)
        if 0.02 <= dead_N.mean() <= 0.34:
            return np.asarray(dead_N)


GENERATED: dict[str, Callable[[], Table]] = {f"generated_{seed}": partial(generated, seed) for seed in range(COUNT)}
