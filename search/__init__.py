"""Which candidate next, and what came out: ``load(RUN)`` gives the results of a run as DataFrames."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.results import Results, load

__all__ = ["Results", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from search import results

        return getattr(results, name)
    raise AttributeError(f"module 'search' has no attribute {name!r}")
