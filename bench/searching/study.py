"""An architecture's search on record: an Optuna study, what its trials count for, and who may start the next one.

Any number of workers, on any number of machines, may work on one study: what they know of each other is in its storage.
"""

import math
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from bench.errors import MachineFault, one_line
from bench.runner.executors.base import Interrupted, WorkerDied
from bench.searching.database import does_not_answer, open_database
from bench.suites.space import Budget, Dimension

__all__ = [
    "Dealer", "Sampler", "Worker", "cause", "counted", "open_storage", "place", "reached", "sampler_settings",
    "seconds_spent", "status", "steps_spent",
]  # fmt: skip

# heartbeats without which a worker is taken for dead
_MISSED = 3
# deaths of a trial's process, until it is the trial that is to blame
_DEATHS = 5
# failures one after the other, at which a search by steps or hours ends: they may spend neither
_HOPELESS = 20
# by Optuna's clock, which is local and naive
_STARTED = datetime.now()

# Python's filters of warnings are those of all threads
_filtering = threading.Lock()

# Of TPE every setting that has an effect: what Optuna takes where nothing is said differs between its versions 4 and 5.
_TPE: Mapping[str, Any] = {
    "multivariate": True, "group": False, "constant_liar": True, "n_startup_trials": 10, "n_ei_candidates": 24,
    "prior_weight": 1.0, "consider_magic_clip": True, "consider_endpoints": False,
}  # fmt: skip
# which trials are the good ones: this share, and no more than so many
_GOOD, _MOST_GOOD = 0.1, 25
# trials that count in full; those before them do the less, the older they are
_RECENT = 25

Status = Literal["running", "waiting", "complete", "pruned", "failed", "lost", "surplus"]
# trains one recipe and returns its score on val
Work = Callable[[Trial, dict[str, Any]], float]


def status(trial: FrozenTrial) -> Status:
    """Return Optuna's state, and of which kind its FAIL is: a result (failed), to be done again (lost), or surplus."""
    if trial.state != TrialState.FAIL:
        return cast(Status, trial.state.name.lower())
    if trial.user_attrs.get("surplus"):
        return "surplus"
    return "failed" if cause(trial) else "lost"


def cause(trial: FrozenTrial) -> str:
    """Return why a trial failed; '' for others."""
    if trial.state != TrialState.FAIL or "interrupted" in trial.user_attrs:
        return ""
    died = trial.system_attrs.get("deaths", 0) + 1
    return str(trial.user_attrs.get("cause", f"its process died {died} times" if died >= _DEATHS else ""))


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that the budget was spent on, in the order in which they ended."""
    # a failed one is one of them: an architecture whose training diverges gets no more tries than the others
    done = [trial for trial in trials if status(trial) in ("complete", "pruned", "failed")]
    return sorted(done, key=lambda trial: (trial.datetime_complete or _STARTED, trial.number))


def seconds_spent(trials: Sequence[FrozenTrial]) -> float:
    """Return the seconds of compute, over all workers, up to each running trial's last evaluation."""
    return sum(trial.user_attrs.get("seconds", 0.0) for trial in trials if _counts(trial))


def steps_spent(trials: Sequence[FrozenTrial]) -> int:
    """Return the steps of training, over all workers, up to each running trial's last evaluation.

    They are counted as steps of the default recipe's batch.
    """
    return sum(trial.user_attrs.get("steps", 0) for trial in trials if _counts(trial))


def _is_hopeless(trials: Sequence[FrozenTrial]) -> bool:
    last = counted(trials)[-_HOPELESS:]
    return len(last) == _HOPELESS and all(status(trial) == "failed" for trial in last)


def reached(budget: Budget, trials: Sequence[FrozenTrial]) -> bool:
    """Return whether there is nothing left to begin."""
    if budget.trials:
        return sum(_counts(trial) for trial in trials) >= budget.trials
    if budget.steps:
        return steps_spent(trials) >= budget.steps
    assert budget.hours is not None
    return seconds_spent(trials) >= 3600 * budget.hours


def _counts(trial: FrozenTrial) -> bool:
    return status(trial) not in ("lost", "surplus")


def place(study: Study, number: int) -> int:
    """Return which trial of the budget's one is, by its number, from 1."""
    return len(_before(study, number)) + 1


def _before(study: Study, number: int) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.number < number and _counts(trial)]


def sampler_settings() -> dict[str, Any]:
    """Return what is on record of the sampler; what is a function, in words."""
    functions = {
        "gamma": f"min(ceil({_GOOD:g} n), {_MOST_GOOD})",
        "weights": f"1 for the last {_RECENT} trials, from 1/n up to 1 for those before",
    }
    return {"name": "TPESampler", "library": f"optuna {optuna.__version__}", **_TPE, **functions}


def _gamma(trials: int) -> int:
    """Return how many of the ended trials are the good ones, after which new ones are drawn."""
    return min(math.ceil(_GOOD * trials), _MOST_GOOD)


def _weights(trials: int) -> np.ndarray:
    """Return how much each of so many trials counts, the oldest first: (trials,)."""
    rising = np.linspace(1 / max(trials, 1), 1, num=max(0, trials - _RECENT))
    return np.concatenate([rising, np.ones(min(trials, _RECENT))])


class Sampler(optuna.samplers.TPESampler):
    """TPE that tries the default recipe first, and begins anew with each trial."""

    def __init__(self, seed: int, default: Mapping[str, Any]) -> None:
        self.seed, self.default = seed, dict(default)
        self.takes_default = False
        self._begin(seed)

    def _begin(self, seed: int) -> None:
        with _filtering, warnings.catch_warnings():
            # of version 4 that some settings are experimental, of 5 that they are deprecated
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__(seed=seed, gamma=_gamma, weights=_weights, **_TPE)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        before = _before(study, trial.number)
        self.takes_default = not any(_origin(t) == 0 or t.params == self.default for t in before)
        # by seed and place: a search that was interrupted draws what it would have drawn, and no two workers the same
        self._begin(int(np.random.SeedSequence((self.seed, len(before))).generate_state(1)[0]))
        super().before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        return {} if self.takes_default else super().infer_relative_search_space(study, trial)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        if self.takes_default:
            return self.default[param_name]
        return super().sample_independent(study, trial, param_name, param_distribution)


class Dealer(optuna.samplers.BaseSampler):
    """Deals out the choices of one parameter, each once, in their order."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number and _counts(t)]
        taken = {other.params[param_name] for other in others if param_name in other.params}
        left = [choice for choice in param_distribution.choices if choice not in taken]
        # which others that have begun before have not taken yet, but will
        return left[sum(not t.params and not t.state.is_finished() and t.number < trial.number for t in others)]


def _origin(trial: FrozenTrial) -> int:
    """Return the number of the trial that it repeats; of a first try, its own."""
    return int(trial.system_attrs.get("origin", trial.number))


def open_storage(place: str | Path, heartbeat: int) -> RDBStorage:
    """Open a database of studies, a file or by its URL; UserError if it can't be used. See `open_database`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return open_database(place, heartbeat, _MISSED, _do_again)


def _do_again(study: Study, trial: FrozenTrial, *, died: bool = True) -> None:
    """Put the trial of a dead worker back in the queue, with its parameters if all of them had been drawn."""
    deaths = trial.system_attrs.get("deaths", 0) + died
    if deaths >= _DEATHS:
        return
    again = create_trial(state=TrialState.WAITING, system_attrs={"origin": _origin(trial), "deaths": deaths})
    if "worker" in trial.user_attrs:
        again.params, again.distributions = trial.params, trial.distributions
    study.add_trial(again)


class Worker:
    """One process's part in a study, or one thread's; a sampler draws for one trial at a time."""

    def __init__(self, study: Study, storage: RDBStorage, space: Mapping[str, Dimension], budget: Budget) -> None:
        self.study, self.storage, self.space, self.budget = study, storage, space, budget
        assert storage.heartbeat_interval is not None
        self.heartbeat = storage.heartbeat_interval

    def run(self, work: Work, is_over: threading.Event | None = None) -> None:
        """Work until the budget is spent, by whomever; UserError if the storage does not answer.

        Raises Interrupted between two trials, and while others' are waited for, when `is_over` is set.
        """
        until, is_over = time.monotonic() + (_MISSED + 1) * self.heartbeat, is_over or threading.Event()
        try:
            while not is_over.is_set():
                self._free_the_dead()
                trials = self.study.get_trials(deepcopy=False)
                running = [trial for trial in trials if trial.state == TrialState.RUNNING]
                waiting = any(trial.state == TrialState.WAITING for trial in trials)
                # trials of before this command may be of its past, and what comes next depends on them
                past = any((trial.datetime_start or _STARTED) < _STARTED for trial in running)
                if not (past and time.monotonic() < until) and (waiting or not self._is_over(trials)):
                    self._one(work)
                # elsewhere; if it dies there, it is done again here
                elif running:
                    is_over.wait(min(1, self.heartbeat / 4))
                else:
                    return
            raise Interrupted
        except (SQLAlchemyError, StorageInternalError) as error:
            raise does_not_answer(self.storage, error) from error

    def _is_over(self, trials: Sequence[FrozenTrial]) -> bool:
        return reached(self.budget, trials) or (not self.budget.trials and _is_hopeless(trials))

    def _free_the_dead(self) -> None:
        with _filtering, warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            optuna.storages.fail_stale_trials(self.study)
        # one that died before its first heartbeat is not stale to Optuna, and others would wait for it forever
        silent = datetime.now() - timedelta(seconds=_MISSED * self.heartbeat)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "worker" not in trial.user_attrs and (trial.datetime_start or silent) < silent:
                # another worker may have been faster
                with suppress(ValueError, UpdateFinishedTrialError):
                    self.study.tell(trial.number, state=TrialState.FAIL)
                    _do_again(self.study, trial)

    def _one(self, work: Work) -> None:
        begun: list[int] = []
        died: list[WorkerDied] = []
        undrawn: list[Exception] = []

        def objective(trial: Trial) -> float:
            begun.append(trial._trial_id)
            # at once: until the first one, nobody could see that it died
            self.storage.record_heartbeat(trial._trial_id)
            # numbers are unique, so that of trials begun at the same time exactly as many are kept as there is room for
            if self.budget.trials and len(_before(self.study, trial.number)) >= self.budget.trials:
                trial.set_user_attr("surplus", True)
                raise RuntimeError("the budget is spent without this trial: another worker was faster")
            params = self._draw(trial, undrawn)
            trial.set_user_attr("worker", f"{platform.node()}:{os.getpid()}")
            with _recorded(trial, died):
                return work(trial, params)

        try:
            self._optimize(objective)
        except ValueError:
            # silent for so long that it was taken for dead, this process has lost its trial to another one
            if not begun or self.storage.get_trial(begun[0]).state != TrialState.FAIL:
                raise
        except KeyboardInterrupt as error:
            if begun and status(self.storage.get_trial(begun[0])) == "lost":
                _do_again(self.study, self.storage.get_trial(begun[0]), died=False)
            raise error.__cause__ or error from None
        if undrawn:
            raise undrawn[0]
        if died:
            _do_again(self.study, self.storage.get_trial(begun[0]))

    def _draw(self, trial: Trial, undrawn: list[Exception]) -> dict[str, Any]:
        """Return a trial's parameters; note an error of which no recipe and no storage is the cause."""
        try:
            return {name: _suggest(trial, name, dimension) for name, dimension in self.space.items()}
        except (UpdateFinishedTrialError, StorageInternalError):
            raise
        # the next trial would have it, too, without end
        except Exception as error:
            undrawn.append(error)
            raise

    def _optimize(self, objective: Callable[[Trial], float]) -> None:
        try:
            self.study.optimize(objective, n_trials=1, catch=(Exception,))
        except AssertionError as error:
            # what Optuna makes of a storage that does not take a trial's end
            if isinstance(failed := error.__context__, StorageInternalError):
                raise failed from failed.__cause__
            raise


@contextmanager
def _recorded(trial: Trial, died: list[WorkerDied]) -> Iterator[None]:
    """Note on a trial what ends it, if that is its own; raise Interrupted if it is not."""
    try:
        yield
    except (optuna.TrialPruned, UpdateFinishedTrialError, StorageInternalError):
        raise
    # the trial is lost, as if this process had died with the one that trained it
    except WorkerDied as error:
        died.append(error)
        raise
    except (KeyboardInterrupt, MachineFault) as error:
        trial.set_user_attr("interrupted", True)
        # which Optuna does not take for the trial's end
        raise Interrupted from error
    except Exception as error:
        trial.set_user_attr("cause", f"{type(error).__name__}: {one_line(error)}"[:1000])
        raise


def _suggest(trial: Trial, name: str, dimension: Dimension) -> Any:
    if dimension.choices:
        return trial.suggest_categorical(name, dimension.choices)
    return trial.suggest_float(name, *dimension.ends, log=dimension.log)
