"""Early stopping of trials that are dominated long before they end."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from search.schedulers.base import SCHEDULERS, SchedulerConfig, Stopping, Trials, list_schedulers
from search.schedulers.rungs import Rungs

if TYPE_CHECKING:
    from search.schedulers._asha import DominationASHA

__all__ = ["SCHEDULERS", "DominationASHA", "Rungs", "SchedulerConfig", "Stopping", "Trials", "list_schedulers"]


def __getattr__(name: str) -> Any:
    if name == "DominationASHA":  # with Ray: seconds to import, and only an experiment needs it
        return import_module("search.schedulers._asha").DominationASHA
    raise AttributeError(f"module 'search.schedulers' has no attribute {name!r}")
