"""From a run to a report that a person can decide with."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.analysis.report import analyze

__all__ = ["analyze"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from search.analysis import report

        return getattr(report, name)
    raise AttributeError(f"module 'search.analysis' has no attribute {name!r}")
