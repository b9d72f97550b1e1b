"""From a run to a report that a person can decide with."""

from search.analysis.report import Report, analyze

__all__ = ["Report", "analyze"]
