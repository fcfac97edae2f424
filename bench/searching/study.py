"""A contestant's search on record: an Optuna study, what its trials count for, and who may start the next one.

Any number of workers, on any number of machines, may work on one study: what they know of each other is in its storage.
A worker that dies is found by its heartbeat, and its trial done again with the same parameters.
"""

import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from bench.errors import UserError, one_line
from bench.suites.space import Budget, Dimension

MISSED = 3  # heartbeats without which a worker is taken for dead
DEATHS = 5  # of a trial's process, until it is the trial that is to blame
STARTED = datetime.now()  # Optuna's clock: local and naive

Fate = Literal["running", "waiting", "complete", "pruned", "failed", "lost", "surplus"]
Work = Callable[[Trial, dict[str, Any]], float]


class _Surplus(Exception):
    """Another worker was faster: the budget is spent without this trial."""


def fate(trial: FrozenTrial) -> Fate:
    """Optuna's state, and for its FAIL, of which kind: a result (failed), to be done again (lost), or surplus."""
    if trial.state != TrialState.FAIL:
        words: dict[TrialState, Fate] = {
            TrialState.RUNNING: "running",
            TrialState.WAITING: "waiting",
            TrialState.COMPLETE: "complete",
            TrialState.PRUNED: "pruned",
        }
        return words[trial.state]
    if trial.user_attrs.get("surplus"):
        return "surplus"
    return "failed" if cause(trial) else "lost"


def cause(trial: FrozenTrial) -> str:
    """Why a trial failed; '' for others."""
    if trial.state != TrialState.FAIL or "interrupted" in trial.user_attrs:
        return ""
    died = trial.system_attrs.get("deaths", 0) + 1
    return str(trial.user_attrs.get("cause", f"its process died {died} times" if died >= DEATHS else ""))


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those that the budget was spent on, in the order in which they ended. A failed one is one of them: a contestant
    whose training diverges gets no more tries than the others."""
    done = [trial for trial in trials if fate(trial) in ("complete", "pruned", "failed")]
    return sorted(done, key=lambda trial: (trial.datetime_complete or STARTED, trial.number))


def spent(trials: Sequence[FrozenTrial]) -> float:
    """Seconds of compute, over all workers, up to each running trial's last evaluation."""
    return sum(trial.user_attrs.get("seconds", 0.0) for trial in trials if _counts(trial))


def reached(budget: Budget, trials: Sequence[FrozenTrial]) -> bool:
    """Whether there is nothing left to begin."""
    if budget.trials:
        return sum(_counts(trial) for trial in trials) >= budget.trials
    assert budget.hours is not None
    return spent(trials) >= 3600 * budget.hours


def _counts(trial: FrozenTrial) -> bool:
    return fate(trial) not in ("lost", "surplus")


def _before(study: Study, number: int) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.number < number and _counts(trial)]


class Sampler(TPESampler):
    """TPE that begins anew with each trial, from the study's seed and the number of trials before it.

    So a search that was interrupted draws what it would have drawn, and two workers never draw the same. The first
    trial is the default recipe.
    """

    def __init__(self, seed: int, default: Mapping[str, Any]) -> None:
        super().__init__(seed=seed)
        self.seed, self.default = seed, dict(default)
        self.draws_default = False

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        before = _before(study, trial.number)
        self.draws_default = not any(_origin(t) == 0 or t.params == self.default for t in before)
        mixed = np.random.SeedSequence((self.seed, len(before))).generate_state(1)
        super().__init__(seed=int(mixed[0]))
        super().before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {} if self.draws_default else super().infer_relative_search_space(study, trial)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        if self.draws_default:
            return self.default[param_name]
        return super().sample_independent(study, trial, param_name, param_distribution)


def _origin(trial: FrozenTrial) -> int:
    """The trial that it is a repetition of; of a first try, itself."""
    return int(trial.system_attrs.get("origin", trial.number))


def open_storage(url: str, heartbeat: int) -> RDBStorage:
    """A database of studies; JournalStorage would have no heartbeat.

    Raises:
        UserError: there is no such database, or no driver for it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError(f"--storage {url}: write postgresql://USER@HOST/DATABASE or sqlite:///FILE") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    # SQLite: other workers may be writing; others: a connection may have been dropped in the hours of a trial
    options = {"connect_args": {"timeout": 60}} if parsed.drivername.startswith("sqlite") else {"pool_pre_ping": True}
    for attempt in range(5):  # two workers that make the tables at once get in each other's way
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(
                    parsed.render_as_string(hide_password=False),
                    engine_kwargs=options,
                    heartbeat_interval=heartbeat,
                    grace_period=MISSED * heartbeat,
                    heartbeat_stale_trial_callback=do_again,
                )
        except ImportError:
            raise UserError(f"--storage {parsed.drivername}: no driver for it; pip install -e .[postgres]") from None
        except (SQLAlchemyError, StorageInternalError) as error:
            reason = one_line(error)
            time.sleep(0.2 * (attempt + 1))
    raise UserError(f"--storage {parsed.render_as_string()}: {reason[:300]}")


def do_again(study: Study, trial: FrozenTrial, *, died: bool = True) -> None:
    """Put the trial of a dead worker back in the queue, with its parameters if all of them had been drawn."""
    deaths = trial.system_attrs.get("deaths", 0) + died
    if deaths >= DEATHS:
        return
    drawn = "worker" in trial.user_attrs
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params if drawn else {},
            distributions=trial.distributions if drawn else {},
            system_attrs={"origin": _origin(trial), "deaths": deaths},
        )
    )


class Worker:
    """One process's part in a study."""

    def __init__(self, study: Study, storage: RDBStorage, space: Mapping[str, Dimension], budget: Budget) -> None:
        self.study, self.storage, self.space, self.budget = study, storage, space, budget
        assert storage.heartbeat_interval is not None
        self.heartbeat = storage.heartbeat_interval

    def run(self, work: Work) -> None:
        """Work until the budget is spent, by whomever; `work` trains one recipe and returns its val mAP.

        Raises:
            UserError: the storage does not answer.
        """
        try:
            self._await_others()
            while True:
                self._free_the_dead()
                trials = self.study.get_trials(deepcopy=False)
                states = {trial.state for trial in trials}
                if TrialState.WAITING in states or not reached(self.budget, trials):
                    self._one(work)
                elif TrialState.RUNNING in states:  # elsewhere; if it dies there, it is done again here
                    time.sleep(min(1, self.heartbeat / 4))
                else:
                    return
        except (SQLAlchemyError, StorageInternalError) as error:
            raise UserError(f"--storage does not answer ({one_line(error)[:300]}); the same command goes on") from error

    def _await_others(self) -> None:
        """A trial that was running before this command began may be of its own past: what comes next would hang on it,
        so find out first."""
        until = time.monotonic() + (MISSED + 1) * self.heartbeat
        while time.monotonic() < until:
            self._free_the_dead()
            running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if not any(trial.datetime_start and trial.datetime_start < STARTED for trial in running):
                return
            time.sleep(min(1, self.heartbeat / 4))

    def _free_the_dead(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        # one that died before its first heartbeat is not stale to Optuna, and would be waited for forever
        silent = datetime.now() - timedelta(seconds=MISSED * self.heartbeat)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "worker" not in trial.user_attrs and trial.datetime_start and trial.datetime_start < silent:
                with suppress(ValueError, UpdateFinishedTrialError):  # another worker was faster
                    self.study.tell(trial.number, state=TrialState.FAIL)
                    do_again(self.study, trial)

    def _one(self, work: Work) -> None:
        begun: list[int] = []

        def objective(trial: Trial) -> float:
            begun.append(trial.number)
            self._claim(trial)
            params = {name: _suggest(trial, name, dimension) for name, dimension in self.space.items()}
            trial.set_user_attr("worker", f"{platform.node()}:{os.getpid()}")
            try:
                return work(trial, params)
            except (optuna.TrialPruned, UpdateFinishedTrialError, StorageInternalError):
                raise
            except KeyboardInterrupt:
                trial.set_user_attr("interrupted", True)
                raise
            except Exception as error:
                trial.set_user_attr("cause", f"{type(error).__name__}: {one_line(error)}"[:1000])
                raise

        try:
            self.study.optimize(objective, n_trials=1, catch=(Exception,))
        except ValueError:
            if not begun or self._trial(begun[0]).state != TrialState.FAIL:
                raise
            # this process was silent for so long that it was taken for dead, and its trial is being done elsewhere
        except KeyboardInterrupt:
            if begun and fate(self._trial(begun[0])) == "lost":
                do_again(self.study, self._trial(begun[0]), died=False)
            raise

    def _claim(self, trial: Trial) -> None:
        """Two workers may both have found room for one more trial: all but the first give theirs back. Numbers are
        unique, so that of any set of trials exactly as many are kept as there is room for."""
        self.storage.record_heartbeat(trial._trial_id)  # at once: until the first one, nobody could tell that it died
        if self.budget.trials and len(_before(self.study, trial.number)) >= self.budget.trials:
            trial.set_user_attr("surplus", True)
            raise _Surplus

    def _trial(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]


def _suggest(trial: Trial, name: str, dimension: Dimension) -> Any:
    if dimension.choices is not None:
        return trial.suggest_categorical(name, dimension.choices)
    assert dimension.low is not None
    assert dimension.high is not None
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
