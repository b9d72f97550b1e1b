"""Early stopping of trials that are dominated long before they end."""

from search.schedulers.asha import DominationASHA
from search.schedulers.rungs import Rungs

__all__ = ["DominationASHA", "Rungs"]
