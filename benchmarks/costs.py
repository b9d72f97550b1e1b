"""Cost look-ups against fvcore on the same architectures, building the table, and budgets over a trillion architectures.

python -m benchmarks.costs [--markdown [FILE]]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np

from benchmarks.page import add_option, write
from evaluators.cost import METRICS, CostTable, _count, _count_network, count_network
from spaces.attention import list_attentions
from spaces.budget import Feasible
from spaces.network import NetworkSpec
from spaces.space import SearchSpace

BACKBONE, IMAGE = "mobilenetv2_100", 224
NETWORK = NetworkSpec.classifier(IMAGE, num_classes=1000)


def median_seconds(function: Callable[[], object], repeats: int = 5) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser, "costs.md")
    options = parser.parse_args()
    os.environ["ATTUNE_CACHE"] = tempfile.mkdtemp()  # an empty cache: the table is really built
    rng = np.random.default_rng(0)
    space = SearchSpace.build(BACKBONE, ["none", *list_attentions()], sites=("slot", "block", "stage"))
    rows = [("the space", f"{space.sizes} choices by stage, {space.size:,} architectures")]

    start = time.perf_counter()
    table = CostTable(BACKBONE, NETWORK)
    costs = [table.stage_costs(stage, placements) for stage, placements in enumerate(space.choices)]
    rows.append(("building the table, full attention library", f"{time.perf_counter() - start:.1f} s"))

    archs = [space.architecture(indices_S) for indices_S in space.sample(rng, 5)]

    def count_anew() -> None:
        for arch in archs:
            _count.cache_clear()
            _count_network.cache_clear()
            count_network(arch, NETWORK)

    fvcore = median_seconds(count_anew, 3) / len(archs)
    for arch in archs:
        assert table.cost(arch) == count_network(arch, NETWORK), arch
    single = median_seconds(lambda: [table.total(arch) for arch in archs * 200]) / (len(archs) * 200)
    rows.append(("fvcore on the whole network, without computing it", f"{fvcore * 1e3:.0f} ms"))
    rows.append(("table, one architecture at a time", f"{single * 1e6:.1f} us, {fvcore / single:,.0f} times faster"))

    many = space.sample(rng, 2_000_000)
    flops = [cost[:, METRICS.index("flops")].copy() for cost in costs]

    def vectorised() -> np.ndarray:
        total_N = flops[0][many[:, 0]]
        for stage in range(1, len(flops)):
            total_N = total_N + flops[stage][many[:, stage]]
        return total_N

    rate = len(many) / median_seconds(lambda: table.totals(costs, many, metrics=("flops",)))
    assert (table.totals(costs, many, metrics=("flops",))[:, 0] == vectorised() + table.base[2]).all()
    rows.append(("table, arrays of 2,000,000 architectures", f"{rate / 1e6:.1f} million/s"))

    for name, shape in (("5 stages x 250 choices", (250,) * 5), ("4 stages x 1,000 choices", (1000,) * 4)):
        spread = [rng.integers(0, 10**8, size=(choices, 1)) for choices in shape]
        limit = np.array([len(shape) * 4 * 10**7])

        def count_and_sample(spread: list[np.ndarray] = spread, limit: np.ndarray = limit) -> None:
            feasible = Feasible(spread, np.zeros(1, dtype=np.int64), limit)
            feasible.sample(rng, 1000)

        count = Feasible(spread, np.zeros(1, dtype=np.int64), limit).count
        seconds = median_seconds(count_and_sample, 3)
        rows.append((f"{name}: {count:,} feasible, counted, 1,000 uniform samples", f"{seconds:.2f} s"))
    text = "\n".join(["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]) + "\n"
    print(text)
    if options.markdown:
        write(options.markdown, "measured", f"{BACKBONE} at {IMAGE} x {IMAGE}.\n\n{text}")


if __name__ == "__main__":
    main()
