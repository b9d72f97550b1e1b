"""Sweep over every convolutional network of timm: stages, sites, and attention inserted, without weights or computing.

    python -m benchmarks.backbones [--markdown [FILE]] [--only TEXT]

A network counts when its stages and sites are found, attention goes in at the first kind of site of every stage, every key of
the plain network's state_dict keeps its name and shape, and the network still runs.
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections import Counter
from dataclasses import dataclass

import torch

from benchmarks.page import add_option, write
from spaces.backbone import describe_backbone, list_backbones, record_backbone
from spaces.backbones.zoo import create_plain
from spaces.network import build_model
from spaces.placement import SITES, Architecture, Placement


@dataclass(frozen=True)
class Row:
    name: str
    stages: int = 0
    sites: str = ""
    reason: str = ""
    seconds: float = 0.0


def try_backbone(name: str) -> Row:
    """Describe, insert, compare the keys and run on the meta device; the reason is empty when all of it works."""
    start = time.perf_counter()
    try:
        backbone = describe_backbone(name)
        places = [place for place in SITES if all(place in stage.sites for stage in backbone.stages)]
        arch = Architecture(name, (Placement("se"),) * len(backbone.stages))
        with torch.device("meta"), torch.no_grad():
            model = build_model(arch, 10).eval()
            plain, placed = create_plain(name, 10, 3).state_dict(), model.state_dict()
            logits = model(torch.empty(1, 3, backbone.image_size, backbone.image_size))
        lost = [key for key in plain if key not in placed or placed[key].shape != plain[key].shape]
        if lost:
            return Row(name, len(backbone.stages), reason=f"{len(lost)} keys change, {lost[0]} first")
        if len(placed) == len(plain) or logits.shape != (1, 10):
            return Row(name, len(backbone.stages), reason=f"nothing inserted, or logits of shape {tuple(logits.shape)}")
    except Exception as error:  # the table is made of reasons: whatever a network raises is one
        return Row(name, reason=f"{type(error).__name__}: {str(error).splitlines()[0][:100]}")
    return Row(name, len(backbone.stages), " ".join(places), "", time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser, "backbones.md")
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--limit", type=int, help="only so many, chosen at random")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    names = [name for name in list_backbones() if options.only in name]
    random.Random(0).shuffle(names)  # so that a part of the sweep is a fair sample of it
    rows: list[Row] = []
    for name in names[: options.limit]:
        rows.append(try_backbone(name))
        describe_backbone.cache_clear()
        record_backbone.cache_clear()
        bad = sum(bool(row.reason) for row in rows)
        print(f"{len(rows)}/{len(names)}, {bad} without: {name} {rows[-1].reason or rows[-1].sites}", flush=True)
    good = [row for row in rows if not row.reason]
    by_stages = ", ".join(f"{n} stages: {count}" for n, count in sorted(Counter(row.stages for row in good).items()))
    slots = sum("slot" in row.sites for row in good)
    lines = [
        f"{len(good)} of {len(rows)} networks tried ({len(names)} in all; {len(good) / len(rows):.1%}) "
        f"get stages, sites and a working insertion; {slots} of them slot sites "
        f"in every stage. {by_stages}. {time.perf_counter() - start:.0f} s.",
        "",
        "| network | why not |",
        "|---|---|",
        *(f"| {row.name} | {row.reason} |" for row in rows if row.reason),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.markdown:
        write(options.markdown, "measured", text)


if __name__ == "__main__":
    main()
