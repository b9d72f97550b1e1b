"""Which candidate next, and what came out: ``load(RUN)`` gives the results of a run as DataFrames."""

from search.results import Results, load

__all__ = ["Results", "load"]
