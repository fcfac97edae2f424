"""Which trial of a search wins: the best ones are trained anew, since the best of many on one seed is in part luck."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from bench.runner.display import Display, Relay
from bench.runner.executors.base import Executor
from bench.schema import digest
from bench.searching.database import check_trials
from bench.searching.search import Search, direction, score_of, work_at_once
from bench.searching.study import Dealer, counted
from bench.suites.space import Budget, Dimension

__all__ = ["Finalist", "best_trials", "run_finals"]

# the only parameter of a study of finals: TRIAL-sSEED
_RETRAINING = "retraining"
# trials have seed 0, and a suite's runs small ones
_FIRST_SEED = 1_000_000


@dataclass(frozen=True)
class Finalist:
    """One of a search's best trials, and its recipe trained anew: by seed, as it ended."""

    trial: FrozenTrial
    study: str
    retrained: Mapping[int, FrozenTrial]

    @property
    def scores(self) -> list[float | None]:
        """The scores on val, seed by seed; None where training failed."""
        return [trial.value if trial.state == TrialState.COMPLETE else None for trial in self.retrained.values()]

    @property
    def mean(self) -> float | None:
        """The mean score on val; None if one of the trainings failed."""
        known = [score for score in self.scores if score is not None]
        return fmean(known) if known and len(known) == len(self.retrained) else None


@dataclass(frozen=True)
class _Finals:
    """The trainings that choose among finalists, best first, as a study of their own: one trial for each of them."""

    search: Search
    finalists: Sequence[FrozenTrial]
    seeds: Sequence[int]

    @property
    def study(self) -> str:
        """A name that no other finals of the search have, such as those of a smaller budget."""
        identity = {"trials": [trial.number for trial in self.finalists], "seeds": list(self.seeds)}
        return f"{self.search.study}-finals-{digest(identity)[:8]}"

    @property
    def retrainings(self) -> dict[str, tuple[int, int]]:
        """By name the place of a finalist, from 0, and a seed."""
        return {
            f"{trial.number}-s{seed}": (place, seed)
            for seed in self.seeds
            for place, trial in enumerate(self.finalists)
        }

    def open(self, storage: RDBStorage) -> Study:
        return optuna.create_study(
            storage=storage,
            study_name=self.study,
            direction=direction(self.search.task),
            load_if_exists=True,
            sampler=Dealer(),
            pruner=optuna.pruners.NopPruner(),
        )

    def retrain(self, trial: Trial, params: Mapping[str, Any], executor: Executor, shown: Relay) -> float:
        """Return the score on val of a finalist's recipe on one of the seeds."""
        place, seed = self.retrainings[params[_RETRAINING]]
        spec = self.search.variant(self.finalists[place].params).model_copy(update={"seed": seed})
        heading = f"{self.search.spec.name}, finalist {place + 1} of {len(self.finalists)}, seed {seed}"
        return score_of(self.search, spec, heading, trial, executor, shown)

    def ended(self, trials: Sequence[FrozenTrial]) -> list[Finalist]:
        by_name = {trial.params[_RETRAINING]: trial for trial in trials}
        retrained: list[dict[int, FrozenTrial]] = [{} for _ in self.finalists]
        for name, (place, seed) in self.retrainings.items():
            retrained[place][seed] = by_name[name]
        both = zip(self.finalists, retrained, strict=True)
        return [Finalist(trial, self.study, by_seed) for trial, by_seed in both]


def best_trials(search: Search, trials: Sequence[FrozenTrial], most: int) -> list[FrozenTrial]:
    """Return a search's best complete trials, at most so many, no recipe twice; of equal ones the first comes first."""
    key, best = search.task.primary.key, list[FrozenTrial]()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    for trial in sorted(complete, key=lambda trial: key(trial.value or 0.0)):
        if all(trial.params != other.params for other in best):
            best.append(trial)
    return best[:most]


def run_finals(
    search: Search,
    study: Study,
    storage: RDBStorage,
    budget: Budget,
    executor: Executor,
    display: Display,
    recorded: Sequence[Mapping[str, Any]] = (),
) -> list[Finalist]:
    """Train the best trials of an ended search anew and return them, best first; none where there is no choice.

    Shared and resumed as the search itself: each is trained once, whoever does it. Raises UserError as `trials_spent`.
    """
    trials = counted(study.get_trials())
    finals = _Finals(
        search,
        best_trials(search, trials, budget.finalists),
        range(_FIRST_SEED, _FIRST_SEED + budget.finalist_seeds),
    )
    if len(finals.finalists) < 2:
        return []
    space = {_RETRAINING: Dimension(choices=tuple(finals.retrainings))}
    check_trials(storage, finals.study, space, recorded, search.task.primary)
    each_once = Budget(trials=len(finals.retrainings))
    work_at_once(partial(finals.open, storage), storage, space, each_once, executor, display, finals.retrain)
    return finals.ended(counted(finals.open(storage).get_trials()))
