"""From a run to a report that a person can decide with."""

from search.analysis.report import analyze

__all__ = ["analyze"]
