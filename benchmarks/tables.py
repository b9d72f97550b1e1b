"""Tables that hold every candidate of a small space: what searches are compared on without training anything.

`macro` (NAS-Bench-Macro, from the folder ATTUNE_DATA), `attune_bench` (Attune-Bench), and three synthetic ones that are made
here, of other shapes, so that nothing is tuned to the published tables.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import CategoricalDistribution

from search.pareto import hypervolume

ATTUNE_BENCH = Path("benchmarks/attune_bench.parquet")


@dataclass(frozen=True)
class Table:
    """Every candidate of a small space: choice indices (N, G), accuracy (N,), cost (N,); what it lacks is forbidden."""

    name: str
    indices_NG: np.ndarray
    accuracy_N: np.ndarray
    cost_N: np.ndarray

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(int(size) for size in self.indices_NG.max(axis=0) + 1)

    @cached_property
    def _rows(self) -> np.ndarray:
        rows = np.full(int(np.prod(self.sizes)), -1)
        rows[np.ravel_multi_index(tuple(self.indices_NG.T), self.sizes)] = np.arange(len(self.indices_NG))
        return rows

    def row(self, indices_G: Any) -> int:
        """Where a candidate is; -1 for a forbidden one."""
        return int(self._rows[np.ravel_multi_index(tuple(int(i) for i in indices_G), self.sizes)])

    @property
    def is_product(self) -> bool:
        """Whether nothing is forbidden."""
        return len(self._rows) == len(self.indices_NG)

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


def macro() -> Table | None:
    folder = os.environ.get("ATTUNE_DATA")
    if not folder:
        print("table macro: skipped, ATTUNE_DATA is not set")
        return None
    frame = pd.read_csv(Path(folder) / "nasbench_macro.csv.gz", dtype={"arch": str}).sort_values("arch")
    indices = np.array([[int(digit) for digit in arch] for arch in frame["arch"]])
    return Table("macro", indices, frame["mean_acc"].to_numpy(), frame["flops_M"].to_numpy())


def graphs(name: str) -> Table | None:
    """NAS-Bench-Graph (Qin et al., 2022): links and operations of graph networks, accuracy in validation, parameters."""
    folder = os.environ.get("ATTUNE_DATA")
    file = Path(folder or "") / "tables" / f"nasbench_graph_{name}.csv.gz"
    if not folder or not file.is_file():
        print(f"table graph_{name}: skipped, {file if folder else 'ATTUNE_DATA'} is not there")
        return None
    frame = pd.read_csv(file)
    indices_NG = frame[["link", "op0", "op1", "op2", "op3"]].to_numpy()
    return Table(f"graph_{name}", indices_NG, frame["accuracy"].to_numpy(), frame["params_M"].to_numpy())


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
    from benchmarks.generated_tables import GENERATED

    named = {**TABLES, **FURTHER, **GENERATED}
    if name in named:
        return named[name]()
    if not Path(name).is_file():
        raise SystemExit(f"table {name!r} is neither a file nor one of {', '.join(named)}")
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
FURTHER: dict[str, Callable[[], Table | None]] = {
    "graph_cora": partial(graphs, "cora"),
    "graph_photo": partial(graphs, "photo"),
}


def space_of(table: Table) -> dict[str, CategoricalDistribution]:
    """The same space for Optuna: a categorical parameter g0, g1, ... for each gene."""
    return {f"g{g}": CategoricalDistribution(tuple(range(size))) for g, size in enumerate(table.sizes)}
