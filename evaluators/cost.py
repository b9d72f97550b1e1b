"""What an architecture costs, exactly: counted by fvcore on the whole network, or summed from an additive table.

Attention neither changes the shape of a map nor touches another module, so the cost of an architecture is that of the
plain backbone plus that of every inserted module on its own: one fvcore count of the backbone and one of each distinct
(site shape, placement) price every architecture of a space. Costs are a property of the architecture: the one learnable
scalar per site of an identity start is a matter of training and is never counted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators import counting
from evaluators.counting import METRICS, Counts, count_module
from spaces.attention import attention_type, create_attention
from spaces.backbone import describe_backbone
from spaces.backbones import zoo
from spaces.caching import cache_folder
from spaces.network import Native, NetworkSpec, takes_native_out
from spaces.placement import Architecture, Placement, canonical

log = logging.getLogger(__name__)

__all__ = ["METRICS", "Cost", "CostTable", "StageCost", "count_cost", "count_network"]


@dataclass(frozen=True)
class StageCost:
    """What one stage's placement adds to the plain network (less what it replaces)."""

    placement: str
    params: int
    macs: int
    flops: int
    activations: int


@dataclass(frozen=True)
class Cost:
    """Costs for a batch of one in eval mode: plain + the sum over ``stages``.

    ``params``: learnable parameters; ``macs``: multiply-adds of convolutions and matrix products; ``flops``: fvcore's unit
    under the convention of ``evaluators.counting``; ``activations``: elements that convolutions and products put out.
    ``uncounted_ops``: operators that no rule counts; the numbers hold when it is empty.
    """

    architecture: str
    params: int
    macs: int
    flops: int
    activations: int
    uncounted_ops: tuple[str, ...]
    stages: tuple[StageCost, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"uncounted_ops": list(self.uncounted_ops), "stages": [asdict(s) for s in self.stages]}


def count_cost(
    arch: Architecture,
    *,
    image_size: int | Sequence[int] = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    native: Native = "keep",
) -> Cost:
    """Count a classifier with fvcore; ``image_size``: the side of a square in pixels, (H, W), or (T, H, W) of clips.

    Raises UsageError for an unknown ``native`` or an image size that the network cannot take.
    """
    return count_network(arch, NetworkSpec.classifier(image_size, num_classes, in_chans, native))


def count_network(arch: Architecture, network: NetworkSpec) -> Cost:
    """Count the whole network of an architecture with fvcore. Raises UsageError for a size that it cannot take."""
    return _count(arch, replace(network, identity_start=False))


@lru_cache(maxsize=1024)
def _count(arch: Architecture, network: NetworkSpec) -> Cost:
    network.check(arch.backbone)
    native = network.native
    counts = _count_network(arch, network)
    plain = counts
    if native == "replace":
        plain = _count_network(Architecture.plain(arch.backbone), network)
    stages = []
    for stage, placement in network.placed(arch):
        added = np.zeros(len(METRICS), dtype=np.int64)
        for site in () if placement.is_none else stage.at(placement.site):
            added += counts.by_module[site.attention]
        for slot in stage.sites.get("slot", ()):
            if native == "replace" and takes_native_out(native, slot, placement):
                added -= plain.by_module[slot.path]
        stages.append(StageCost(str(placement), **named(added)))
    return Cost(str(arch), **named(counts.total), uncounted_ops=counts.uncounted, stages=tuple(stages))


@lru_cache(maxsize=8)  # a plain network is counted for the table and for everything that replaces some of it
def _count_network(arch: Architecture, network: NetworkSpec) -> Counts:
    with torch.device("meta"):
        return count_module(network.build(arch), *network.example())


class CostTable:
    """Costs of all architectures over one backbone as sums: ``base`` of the plain network, plus one vector per stage.

    Counts are kept in a file of the cache folder (``ATTUNE_CACHE``, else ``$XDG_CACHE_HOME/attune``) whose name is a hash
    of everything that they depend on, so it can be deleted at any time and is never stale. That hash does not know code from
    outside: backbones and attention types that a user's own module brings are counted anew by every process.
    """

    metrics = METRICS

    def __init__(self, backbone: str, network: NetworkSpec) -> None:
        network = replace(network, identity_start=False)
        self.backbone = backbone
        self.native = network.native
        self._stages = network.stages(backbone)
        self._of_backbone = len(describe_backbone(backbone).stages)
        self._shapes = network.site_shapes(backbone)
        self._cache = _cache()
        key = f"{backbone} {network}"
        outside = zoo.is_outside(backbone)
        found = None if outside else self._cache.get(key)
        if found is None:
            counts = _count_network(Architecture.plain(backbone), network)
            slots = [site for stage in self._stages for site in stage.sites.get("slot", ()) if site.native]
            own = {slot.path: counts.by_module[slot.path].tolist() for slot in slots}
            found = {"total": counts.total.tolist(), "native": own, "uncounted": list(counts.uncounted)}
            if not outside:
                self._cache.put({key: found})
        self.base = np.array(found["total"], dtype=np.int64)
        self._native = {path: np.array(vector, dtype=np.int64) for path, vector in found["native"].items()}
        self._uncounted = set(found["uncounted"])
        self._known: dict[tuple[int, Placement], np.ndarray] = {}

    def stage_costs(self, stage: int, placements: Sequence[Placement]) -> np.ndarray:
        """What each canonical placement adds at a stage (from 0): (n, 4) integers in the order of METRICS."""
        missing = [p for p in dict.fromkeys(placements) if (stage, p) not in self._known]
        wanted = {
            (self._shapes[site], _content(placement, site.channels)): placement
            for placement in missing
            if not placement.is_none
            for site in self._stages[stage].at(placement.site)
        }
        keys = {_text(shape, content): (shape, placement) for (shape, content), placement in wanted.items()}
        counts = {k: self._cache.get(k) for k, (_, placement) in keys.items() if not _is_outside(placement)}
        new = {k: _count_attention(*keys[k]) for k in keys if counts.get(k) is None}
        self._cache.put({k: count for k, count in new.items() if k in counts})
        for placement in missing:
            self._known[stage, placement] = self._sum(stage, placement, counts | new)
        rows = [self._known[stage, placement] for placement in placements]
        return np.array(rows, dtype=np.int64).reshape(-1, len(METRICS))

    def _sum(self, stage: int, placement: Placement, counts: Mapping[str, Any]) -> np.ndarray:
        total = np.zeros(len(METRICS), dtype=np.int64)
        for site in () if placement.is_none else self._stages[stage].at(placement.site):
            found = counts[_text(self._shapes[site], _content(placement, site.channels))]
            total += _called(found["total"], site.calls)
            self._uncounted |= set(found["uncounted"])
        for slot in self._stages[stage].sites.get("slot", ()):
            if self.native == "replace" and takes_native_out(self.native, slot, placement):
                total -= self._native[slot.path]
        return total

    def total(self, arch: Architecture) -> np.ndarray:
        """The four costs of an architecture in the order of METRICS, (4,): the fastest answer for one at a time."""
        total = self.base.copy()
        placements = self._placements(arch)
        for stage, placement in enumerate(placements):
            known = self._known.get((stage, placement))
            total += self.stage_costs(stage, [placement])[0] if known is None else known
        return total

    def _placements(self, arch: Architecture) -> Sequence[Placement]:
        """Those of an architecture, which it holds in canonical form unless some are beyond the backbone's stages."""
        return arch.placements if len(arch.placements) == self._of_backbone else canonical(arch, self._stages)

    def totals(
        self, stage_costs: Sequence[np.ndarray], indices_NS: np.ndarray, metrics: Sequence[str] = METRICS
    ) -> np.ndarray:
        """Costs of many architectures at once, (N, len(metrics)), from what ``stage_costs`` gave for each stage's choices."""
        total_NM = np.empty((len(indices_NS), len(metrics)), dtype=np.int64)
        for column, metric in enumerate(METRICS.index(name) for name in metrics):
            total_N = np.full(len(indices_NS), self.base[metric])
            for stage, costs in enumerate(stage_costs):
                total_N += costs[:, metric].take(indices_NS[:, stage])
            total_NM[:, column] = total_N
        return total_NM

    def cost(self, arch: Architecture) -> Cost:
        """The same as ``count_cost``, to the integer, from the table."""
        placements = canonical(arch, self._stages)
        added = [self.stage_costs(stage, [placement])[0] for stage, placement in enumerate(placements)]
        total = self.base + np.sum(added, axis=0)
        stages = tuple(StageCost(str(p), **named(row)) for p, row in zip(placements, added, strict=True))
        return Cost(str(arch), **named(total), uncounted_ops=tuple(sorted(self._uncounted)), stages=stages)


def _called(counts: Sequence[int], times: int) -> np.ndarray:
    """What a module costs that one pass runs several times; its parameters are there once."""
    return np.array(counts, dtype=np.int64) * np.where(np.array(METRICS) == "params", 1, times)


def named(vector: np.ndarray) -> dict[str, int]:
    """The four costs by their names."""
    return dict(zip(METRICS, vector.tolist(), strict=True))


def _content(placement: Placement, channels: int) -> tuple[Any, ...]:
    return (placement.type, *attention_type(placement.type).effective(channels, **placement.genes))


def _is_outside(placement: Placement) -> bool:
    return not placement.is_none and attention_type(placement.type).outside


def _text(shape: tuple[int, ...], content: tuple[Any, ...]) -> str:
    return f"{shape} {content}"


# On a map of at most so many numbers and positions (some types relate each position to each) computing is quicker than
# torch's simulation of it, which is written in Python.
QUICK_NUMBERS, QUICK_POSITIONS = 2**18, 2**10


def _count_attention(shape: tuple[int, ...], placement: Placement) -> dict[str, Any]:
    quick = math.prod(shape) <= QUICK_NUMBERS and math.prod(shape[1:]) <= QUICK_POSITIONS
    with torch.device("cpu" if quick else "meta"), torch.random.fork_rng(devices=[]):
        attention = create_attention(placement.type, shape[0], **placement.genes, dims=len(shape) - 1)
        counts = count_module(attention, torch.zeros(1, *shape))
    return {"total": counts.total.tolist(), "uncounted": list(counts.uncounted)}


# --- the cache on disk ------------------------------------------------------------------------------------------------


class _Cache:
    """Counts by key in memory and in a file of JSON lines, which any number of processes append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().split("\n")[:-1]:  # the last piece is empty, or a line being written
                with suppress(ValueError):  # what a full disk or a lost machine cut is counted anew
                    self.counts |= json.loads(line)

    def get(self, key: str) -> Any:
        return self.counts.get(key)

    def put(self, counts: dict[str, Any]) -> None:
        if counts:
            self.counts |= counts
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with open(self.path, "ab", buffering=0) as file:
                    file.write(
                        (json.dumps(counts) + "\n").encode()
                    )  # one append: lines of several processes do not mix
            except OSError as error:  # a home that is read-only or missing, a full disk: counted anew next time
                log.info("counts are not kept in %s: %s", self.path, error)


def _cache() -> _Cache:
    return _open_cache(cache_folder())


@cache
def _open_cache(folder: Path) -> _Cache:
    return _Cache(folder / f"costs-{_fingerprint()}.jsonl")


@cache
def _fingerprint() -> str:
    """A hash of all that a count depends on: the libraries' versions and the source of networks, attention and rules."""
    digest = hashlib.sha256(" ".join((torch.__version__, version("timm"), version("fvcore"))).encode())
    spaces = Path(__file__).parents[1] / "spaces"
    sources = [*spaces.glob("backbone.py"), *spaces.glob("network.py"), *spaces.glob("*/*.py")]
    for path in (*sorted(sources), Path(counting.__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
