"""The additive latency estimate against whole networks: its error and rank correlation, by batch and compilation.

    python -m benchmarks.latency [--markdown [FILE]] [--eager] [--only TEXT]

Random architectures over a space of attention types are built and measured whole, on one thread of the CPU or, where there is
one, on the GPU, in turn with the plain network, and then all of them once more: how far two measurements of a network differ,
and how well the second orders what the first ordered, is as much as any estimate could reach.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from benchmarks.page import add_option, write
from evaluators.latency import CALIBRATION, LatencyTable, Setting
from evaluators.training import pick_device
from spaces.network import NetworkSpec
from spaces.space import SearchSpace

TYPES = ("none", "se", "eca", "cbam", "coordinate", "triplet")


@dataclass(frozen=True)
class Case:
    backbone: str
    image: int
    batch: int
    compile: bool = False
    repeats: int = 20
    architectures: int = 20
    calibration: int = CALIBRATION
    types: tuple[str, ...] = TYPES
    sites: tuple[str, ...] = ("slot", "block")


CASES = (
    Case("attune_tiny", 32, 1),
    Case("mobilenetv2_100", 96, 1),
    Case("resnet18", 96, 1, repeats=12),
    Case("attune_tiny", 32, 32),
    Case("mobilenetv2_100", 96, 32, repeats=5),
    Case("resnet18", 72, 32, repeats=3, architectures=12, calibration=4, sites=("slot",)),
    Case("resnet18", 96, 4, repeats=6, architectures=16),
    # compiling takes seconds for every network, so there are few of them
    *(
        Case(
            "attune_tiny",
            32,
            batch,
            compile=True,
            architectures=6,
            calibration=2,
            types=("none", "se", "cbam"),
            sites=("slot",),
        )
        for batch in (1, 32)
    ),
)
HEAD = (
    "backbone",
    "batch",
    "compiled",
    "networks",
    "choices measured",
    "seconds",
    "plain, ms",
    "range, ms",
    "factor",
    "median error",
    "90 % within",
    "bias",
    "by the clock",
    "rank",
    "measured again",
    "rank again",
)


def row(case: Case, device: str) -> tuple[object, ...]:
    """One line of the table: the estimate's errors over random architectures of the case."""
    setting = Setting(batch=case.batch, device=device, threads=1, compile=case.compile, repeats=case.repeats)
    space = SearchSpace.build(case.backbone, case.types, sites=case.sites)
    archs = [space.architecture(indices) for indices in space.sample(np.random.default_rng(0), case.architectures)]
    start = time.perf_counter()
    table = LatencyTable(case.backbone, NetworkSpec.classifier(case.image, num_classes=10), setting=setting)
    for stage, placements in enumerate(space.choices):
        table.stage_costs(stage, placements)
    others = space.sample(np.random.default_rng(1), case.calibration)
    table.calibrate([space.architecture(indices) for indices in others])
    seconds = time.perf_counter() - start
    first, again = ([table.compare(arch) for arch in archs] for _ in range(2))
    ratios, ratios_again = (np.array([pair.ratio for pair in pairs]) for pairs in (first, again))
    plain = float(table.base[0])
    error = table.error(archs, [plain / 1e9 * ratio for ratio in ratios])
    clock = [pair.second.seconds for pair in first]
    return (
        f"{case.backbone}, {case.image} px",
        case.batch,
        "yes" if case.compile else "no",
        len(archs),
        sum(space.sizes) - len(space.sizes),
        f"{seconds:.0f}",
        f"{plain / 1e6:.2f}",
        f"{1e3 * min(clock):.2f} to {1e3 * max(clock):.2f}",
        f"{table.factor:.2f}",
        f"{error.median:.1%}",
        f"{error.high:.1%}",
        f"{error.bias:+.1%}",
        f"{table.error(archs, clock).median:.1%}",
        f"{error.rank:.3f}",
        f"{np.median(np.abs(ratios_again / ratios - 1)):.1%}",
        f"{spearmanr(ratios, ratios_again).statistic:.3f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser, "latency.md")
    parser.add_argument("--only", default="", help="cases whose backbone contains this")
    parser.add_argument("--batch", type=int, help="cases of this batch alone")
    parser.add_argument("--eager", action="store_true", help="leave out torch.compile, which takes minutes")
    options = parser.parse_args()
    device = str(pick_device())
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    start = time.perf_counter()
    for case in CASES:
        wanted = options.only in case.backbone and options.batch in (None, case.batch)
        if wanted and not (options.eager and case.compile):
            lines.append("| " + " | ".join(map(str, row(case, device))) + " |")
            print(lines[-1], flush=True)
            where = f"{Setting(device=device).machine}, one thread; {time.perf_counter() - start:.0f} s."
            if options.markdown:
                write(options.markdown, "measured", "\n".join([where, "", *lines]) + "\n")


if __name__ == "__main__":
    main()
