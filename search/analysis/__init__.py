"""From a run to a report that a person can decide with."""

from spaces.extras import need

need("report", "the report")  # first: an analysis may train for hours before it draws

from search.analysis.report import Report, analyze  # noqa: E402

__all__ = ["Report", "analyze"]
