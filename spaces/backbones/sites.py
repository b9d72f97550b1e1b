"""The places where attention can go, as values: a site takes one attention module, a stage has sites of some kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

PREFIX = "backbone."  # of every path of a backbone in a network that reads its maps
CHILD = "attune"  # the name of every inserted attention module in its parent: one word that no library uses

T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """A place for one attention module, and the channels of the (B, C, H, W) map it works on.

    ``path`` names a module after which attention runs or, where ``empty``, an attribute that takes it: a block's native
    slot that holds nothing in the plain network. ``native`` says that ``path`` is the block's own attention. ``host`` is
    the module that holds the attention as a child where the one at ``path`` would take any child for a layer of its own.
    ``calls``: how often one pass of the network runs it. ``dims``: 3 where it works on clips (B, C, T, H, W).
    """

    path: str
    channels: int
    empty: bool = False
    native: bool = False
    host: str = ""
    calls: int = 1
    dims: int = 2

    @property
    def attention(self) -> str:
        """The path of the attention module once it is inserted."""
        return f"{self.host or self.path}.{CHILD}"


@dataclass(frozen=True)
class Stage:
    """Blocks between two down-samplings. ``blocks`` and the sites of each kind are in the order they run.

    ``channels`` of the last block's output; ``stride``: input pixels per pixel of that output. ``name``: what a stage beyond
    the backbone is called.
    """

    blocks: tuple[str, ...]
    sites: Mapping[str, tuple[Site, ...]] = field(hash=False)
    channels: int
    stride: int
    name: str = ""

    def at(self, site: str | None) -> tuple[Site, ...]:
        """The sites of a kind; ``block/N``: after every N-th block. Empty for None and for what the stage does not offer."""
        return tuple(chosen(self.sites, site))

    def under(self, prefix: str) -> Stage:
        """The same stage of a network that holds this one under a prefix, such as ``backbone.``."""
        moved = {
            kind: tuple(replace(site, path=prefix + site.path, host=site.host and prefix + site.host) for site in sites)
            for kind, sites in self.sites.items()
        }
        return replace(self, blocks=tuple(prefix + path for path in self.blocks), sites=moved)


def chosen(by_kind: Mapping[str, Sequence[T]], site: str | None) -> Sequence[T]:
    """Of what there is at each kind of site, that of one kind, or of every N-th block for ``block/N``."""
    kind, _, every = (site or "").partition("/")
    found = by_kind.get(kind, ())
    return found[int(every) - 1 :: int(every)] if every else found
