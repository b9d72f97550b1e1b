"""The additive latency estimate against whole networks: its error and rank correlation, by batch and compilation.

    python -m benchmarks.latency [--markdown docs/latency.md] [--eager] [--only TEXT]

Random architectures over a space of attention types are built and measured whole, on one thread of the CPU or, where there is
one, on the GPU; the estimate adds up the plain network and each attention module measured alone.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluators.latency import CALIBRATION, LatencyTable, Setting
from evaluators.training import pick_device
from spaces.space import SearchSpace

TYPES = ("none", "se", "eca", "cbam", "coordinate", "triplet")


@dataclass(frozen=True)
class Case:
    backbone: str
    image: int
    batch: int
    compile: bool = False
    architectures: int = 20
    calibration: int = CALIBRATION
    types: tuple[str, ...] = TYPES


CASES = (
    Case("attune_tiny", 32, 1),
    Case("attune_tiny", 32, 32),
    Case("resnet18", 96, 1),
    Case("mobilenetv2_100", 96, 1),
    # compiling takes seconds for every module and network, so there are few of them
    Case("attune_tiny", 32, 1, True, 5, 3, ("none", "se", "cbam")),
    Case("resnet18", 96, 4),
    Case("mobilenetv2_100", 96, 4),
    Case("attune_tiny", 32, 32, True, 5, 3, ("none", "se", "cbam")),
)
HEAD = (
    "backbone",
    "batch",
    "compiled",
    "networks",
    "plain, ms",
    "range, ms",
    "plain sum",
    "median error",
    "90 % within",
    "bias",
    "rank",
)


def row(case: Case, device: str) -> tuple[object, ...]:
    """One line of the table: the estimate's errors over random architectures of the case."""
    repeats = 20 if case.batch == 1 else 10
    setting = Setting(batch=case.batch, device=device, threads=1, compile=case.compile, repeats=repeats)
    table = LatencyTable(case.backbone, image_size=case.image, num_classes=10, setting=setting)
    space = SearchSpace.build(case.backbone, case.types, sites=("slot", "block"))
    archs = [space.architecture(indices) for indices in space.sample(np.random.default_rng(0), case.architectures)]
    raw = table.error(archs)
    others = space.sample(np.random.default_rng(1), case.calibration)
    table.calibrate([space.architecture(indices) for indices in others])
    error = table.against(archs, raw.measured)
    return (
        f"{case.backbone}, {case.image} px",
        case.batch,
        "yes" if case.compile else "no",
        len(archs),
        f"{table.base / 1e6:.2f}",
        f"{1e3 * min(error.measured):.2f} to {1e3 * max(error.measured):.2f}",
        f"{raw.median:.1%}",
        f"{error.median:.1%}",
        f"{error.high:.1%}",
        f"{error.bias:+.1%}",
        f"{error.rank:.3f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, help="a page; its table is replaced, its text stays")
    parser.add_argument("--only", default="", help="cases whose backbone contains this")
    parser.add_argument("--eager", action="store_true", help="leave out torch.compile, which takes minutes")
    options = parser.parse_args()
    device = str(pick_device())
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    start = time.perf_counter()
    for case in CASES:
        if options.only in case.backbone and not (options.eager and case.compile):
            lines.append("| " + " | ".join(map(str, row(case, device))) + " |")
            print(lines[-1], flush=True)
            where = f"{Setting(device=device).machine}, one thread; {time.perf_counter() - start:.0f} s."
            if options.markdown:
                write_table(options.markdown, "\n".join([where, "", *lines]))


def write_table(page: Path, table: str) -> None:
    """Put a table between the marks of a page."""
    begin, end = "<!-- measured -->\n", "<!-- end of measured -->\n"
    text = page.read_text()
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}{table}\n{end}{after}")


if __name__ == "__main__":
    main()
