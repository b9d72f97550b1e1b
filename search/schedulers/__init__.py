"""Early stopping of trials that are dominated long before they end."""

from search.schedulers.base import SCHEDULERS, SchedulerConfig, Stopping, Trials, list_schedulers
from search.schedulers.rungs import Rungs

__all__ = ["SCHEDULERS", "Rungs", "SchedulerConfig", "Stopping", "Trials", "list_schedulers"]
