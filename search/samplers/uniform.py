"""Random search without repetition: the baseline of every search."""

from optuna.study import Study
from optuna.trial import FrozenTrial

from search.samplers.base import SAMPLERS
from search.samplers.candidates import Indices
from search.samplers.guarded import SpaceSampler


class UniformSampler(SpaceSampler):
    """Uniform over what is allowed and not yet tried."""

    def propose(self, study: Study, trial: FrozenTrial, trials: list[FrozenTrial], seen_TG: Indices) -> Indices | None:
        drawn_NG = self.candidates.draw(self._rng, 1, seen_TG)
        return drawn_NG[0] if len(drawn_NG) else None


SAMPLERS.register("random", UniformSampler)
