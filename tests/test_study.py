"""What counts as a trial, who may begin one, and what becomes of one whose process died; nothing is trained."""

import inspect
import threading
import time
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import event, text

from bench.runner.executors.base import Interrupted
from bench.searching.study import (
    _DEATHS,
    Dealer,
    Sampler,
    Worker,
    _do_again,
    cause,
    counted,
    open_storage,
    reached,
    sampler_settings,
    seconds_spent,
    status,
    steps_spent,
)
from bench.suites.space import Budget, Dimension

SPACE = {"x": Dimension(low=0.0, high=1.0), "kind": Dimension(choices=("a", "b"))}
DEFAULT = {"x": 0.25, "kind": "b"}
ALL = Budget(trials=6)


def open_unflushed(folder, heartbeat):
    """No test needs a database that survives a power cut, and flushing it to disk takes most of the time."""
    opened = open_storage(f"sqlite:///{folder}/search.db", heartbeat)
    event.listen(opened.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    opened.engine.dispose()  # what is connected already was so before
    return opened


@pytest.fixture
def storage(tmp_path):
    opened = open_unflushed(tmp_path, heartbeat=1)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


def study_in(storage, seed=0, name="study"):
    return optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True, sampler=Sampler(seed, DEFAULT)
    )


def work(trial, params):
    trial.set_user_attr("seconds", 1.0)
    return params["x"]


def drawn(study):
    return [(trial.params, trial.value) for trial in counted(study.get_trials())]


def uninterrupted(storage, name="uninterrupted"):
    study = study_in(storage, name=name)
    Worker(study, storage, SPACE, ALL).run(work)
    return drawn(study)


def test_the_first_trial_is_the_default_and_a_seed_decides_the_rest(storage):
    first = uninterrupted(storage)
    assert first[0] == (DEFAULT, 0.25)
    assert len(first) == 6
    assert len({params["x"] for params, _ in first}) == 6
    assert uninterrupted(storage, "again") == first
    other = study_in(storage, seed=1, name="other")
    Worker(other, storage, SPACE, ALL).run(work)
    assert drawn(other)[0] == first[0]
    assert drawn(other)[1:] != first[1:]


# say what is printed, of what else there is a choice in Optuna 4 and 5, or have no effect since 4.3
NO_SETTINGS = {
    "self", "seed", "warn_independent_sampling", "constraints_func", "categorical_distance_func", "consider_prior",
}  # fmt: skip


def test_every_setting_of_the_sampler_is_our_own():
    known = set(inspect.signature(optuna.samplers.TPESampler.__init__).parameters) - NO_SETTINGS
    assert known == sampler_settings().keys() - {"name", "library"}


def test_what_optuna_takes_where_nothing_is_said_changes_no_draw(storage, monkeypatch):
    """Its versions 4 and 5 take other values."""

    def searched(name):
        study = study_in(storage, name=name)
        Worker(study, storage, SPACE, Budget(trials=16)).run(work)
        return drawn(study)

    usual, original = searched("usual"), optuna.samplers.TPESampler.__init__

    def other(self, **settings):
        others = {"multivariate": False, "n_startup_trials": 2, "n_ei_candidates": 3, "prior_weight": 2.0,
                  "consider_endpoints": True, "gamma": lambda n: n - 1, "weights": lambda n: [1.0] * n}  # fmt: skip
        original(self, **others | settings)

    monkeypatch.setattr(optuna.samplers.TPESampler, "__init__", other)
    assert searched("other") == usual


@pytest.mark.parametrize("at", [0, 3])
def test_ctrl_c_and_then_the_same_trials(storage, at):
    study = study_in(storage)

    def interrupted(trial, params):
        if trial.number == at:
            raise KeyboardInterrupt
        return work(trial, params)

    with pytest.raises(KeyboardInterrupt):
        Worker(study, storage, SPACE, ALL).run(interrupted)
    assert len(counted(study.get_trials())) == at
    Worker(study, storage, SPACE, ALL).run(work)
    assert drawn(study) == uninterrupted(storage)
    assert [status(trial) for trial in study.get_trials()].count("lost") == 1


def test_more_trials_resume_from_fewer(storage):
    study = study_in(storage)
    for trials in (2, 2, 6):
        Worker(study, storage, SPACE, Budget(trials=trials)).run(work)
        assert len(counted(study.get_trials())) == trials
    assert drawn(study) == uninterrupted(storage)


@pytest.mark.parametrize("params", [{}, {"x": 0.5}])
def test_a_trial_that_died_before_its_first_heartbeat_is_done_again(storage, params):
    """Optuna itself would take it for running, for ever."""
    study = study_in(storage)
    distributions = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)} if params else {}
    orphan = create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
    orphan.datetime_start = datetime.now() - timedelta(hours=1)
    study.add_trial(orphan)
    Worker(study, storage, SPACE, ALL).run(work)
    assert status(study.get_trials()[0]) == "lost"
    assert drawn(study) == uninterrupted(storage), "half-drawn parameters are drawn again"


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")
def test_a_stale_trial_is_done_again_with_its_parameters(storage):
    study = study_in(storage)
    Worker(study, storage, SPACE, Budget(trials=2)).run(work)
    left = study.ask()  # by a worker that goes away
    params = {"x": left.suggest_float("x", 0.0, 1.0), "kind": left.suggest_categorical("kind", ("a", "b"))}
    storage.record_heartbeat(left._trial_id)
    left.set_user_attr("worker", "elsewhere:1")
    started = time.monotonic()
    Worker(study, storage, SPACE, Budget(trials=3)).run(work)
    assert time.monotonic() - started > 2, "it was waited for"
    assert [trial.params for trial in counted(study.get_trials())][2] == params
    assert drawn(study) == uninterrupted(storage)[:3]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")
def test_a_trial_that_kills_every_process_is_a_failed_one(storage):
    study = study_in(storage)
    for death in range(_DEATHS):
        trial = study.ask()
        for name in SPACE:
            value = trial.suggest_float(name, 0, 1) if name == "x" else trial.suggest_categorical(name, ("a", "b"))
            assert value == DEFAULT[name]
        trial.set_user_attr("worker", "here:1")
        study.tell(trial, state=TrialState.FAIL)
        assert status(study.get_trials()[death]) == ("lost" if death < _DEATHS - 1 else "failed")
        _do_again(study, study.get_trials()[death])
    assert len(study.get_trials()) == _DEATHS
    assert cause(study.get_trials()[-1]) == f"its process died {_DEATHS} times"
    assert len(counted(study.get_trials())) == 1


def test_failed_trials_are_spent_and_have_no_score(storage):
    study = study_in(storage)

    def failing(trial, params):
        if trial.number % 2:
            raise RuntimeError("two\nlines")
        return work(trial, params)

    Worker(study, storage, SPACE, ALL).run(failing)
    trials = counted(study.get_trials())
    assert [status(trial) for trial in trials] == ["complete", "failed"] * 3
    assert {cause(trial) for trial in trials} == {"", "RuntimeError: two lines"}
    assert all(trial.value is None for trial in trials[1::2])


def four_at_once(folder, study_of, space, trials, work):
    """Four workers on one study, each with a connection of its own, begin at the same moment."""
    barrier = threading.Barrier(4)

    def join():
        opened = open_unflushed(folder, heartbeat=5)
        study = study_of(opened)
        barrier.wait()
        Worker(study, opened, space, Budget(trials=trials)).run(work)
        opened.remove_session()
        opened.engine.dispose()

    threads = [threading.Thread(target=join) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_many_workers_at_once_finish_as_many_trials_as_asked_for(storage, tmp_path):
    """All ask at the same moment for the last place, again and again."""
    study_in(storage)
    asked = 5
    four_at_once(tmp_path, study_in, SPACE, asked, work)
    trials = study_in(storage).get_trials()
    assert len(counted(trials)) == asked
    assert {status(trial) for trial in trials} <= {"complete", "surplus"}
    assert len({trial.params["x"] for trial in counted(trials)}) == asked
    assert sum(trial.params == DEFAULT for trial in trials) == 1


def test_hours_count_what_still_runs_and_not_what_was_lost(storage):
    study = study_in(storage)
    for state, attributes in (
        (TrialState.RUNNING, {}),
        (TrialState.FAIL, {"interrupted": True}),
        (TrialState.FAIL, {"surplus": True}),
        (TrialState.FAIL, {"cause": "x"}),
    ):
        study.add_trial(create_trial(state=state, user_attrs={"seconds": 10.0, **attributes}))
    trials = study.get_trials()
    assert seconds_spent(trials) == 20
    assert reached(Budget(hours=20 / 3600), trials)
    assert not reached(Budget(hours=21 / 3600), trials)


def test_steps_count_as_hours_do(storage):
    study = study_in(storage)
    for state, attributes in (
        (TrialState.RUNNING, {}),
        (TrialState.FAIL, {"interrupted": True}),
        (TrialState.FAIL, {"cause": "x"}),
        (TrialState.PRUNED, {}),
    ):
        study.add_trial(create_trial(state=state, user_attrs={"steps": 10, **attributes}))
    trials = study.get_trials()
    assert steps_spent(trials) == 30
    assert reached(Budget(steps=30), trials)
    assert not reached(Budget(steps=31), trials)


@pytest.mark.parametrize("budget", [Budget(steps=100), Budget(hours=1.0)])
def test_a_search_of_failures_alone_ends_though_they_spend_nothing(storage, budget):
    tries = []

    def work(_, params):
        tries.append(params["x"])
        if len(tries) > 30:
            pytest.fail("without end")
        # the default recipe is no failure
        if len(tries) > 1:
            raise ValueError("kaputt")
        return params["x"]

    study = study_in(storage)
    Worker(study, storage, SPACE, budget).run(work)
    assert [status(trial) for trial in study.get_trials()] == ["complete", *20 * ["failed"]]
    Worker(study, storage, SPACE, budget).run(work)
    assert len(tries) == 21


CHOICES = tuple("abcdefgh")


def dealing(storage):
    return optuna.create_study(
        storage=storage, study_name="dealt", direction="maximize", load_if_exists=True, sampler=Dealer()
    )


def test_choices_are_dealt_once_each_by_many_at_once(storage, tmp_path):
    dealing(storage)
    four_at_once(tmp_path, dealing, {"choice": Dimension(choices=CHOICES)}, 8, lambda *_: 0.5)
    assert sorted(trial.params["choice"] for trial in counted(dealing(storage).get_trials())) == list(CHOICES)


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")
@pytest.mark.parametrize("drawn_before", [False, True])
def test_what_was_dealt_to_one_that_died_is_dealt_again(storage, drawn_before):
    study, space = dealing(storage), {"choice": Dimension(choices=CHOICES)}
    died = study.ask()
    if drawn_before:
        assert died.suggest_categorical("choice", CHOICES) == "a"
        died.set_user_attr("worker", "elsewhere:1")
    other = study.ask()
    # the other one has begun before, and is to take the first
    assert other.suggest_categorical("choice", CHOICES) == "b"
    study.tell(other, 0.5)
    study.tell(died, state=TrialState.FAIL)
    _do_again(study, study.get_trials()[0])
    Worker(study, storage, space, Budget(trials=8)).run(lambda *_: 0.5)
    assert sorted(trial.params["choice"] for trial in counted(study.get_trials())) == list(CHOICES)


def test_what_fails_before_a_recipe_is_drawn_is_not_tried_without_end(storage, monkeypatch):
    tries = []

    def fail(*_):
        tries.append(1)
        if len(tries) > 3:
            pytest.fail("tried again and again")
        raise IndexError("nothing left to deal")

    monkeypatch.setattr(Dealer, "sample_independent", fail)
    with pytest.raises(IndexError, match="nothing left to deal"):
        Worker(dealing(storage), storage, {"choice": Dimension(choices=CHOICES)}, Budget(trials=8)).run(work)
    assert len(tries) == 1


def test_work_that_was_given_up_for_dead_is_not_counted_twice(storage):
    study = study_in(storage)

    def slow(trial, params):
        if trial.number == 1 and len(study.get_trials()) == 2:  # another worker takes this one for dead
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            _do_again(study, study.get_trials()[1])
        return work(trial, params)

    Worker(study, storage, SPACE, ALL).run(slow)
    assert drawn(study) == uninterrupted(storage)


@pytest.mark.parametrize("of_the_past", [False, True])
def test_who_waits_for_others_trials_sees_the_end(storage, of_the_past):
    study, is_over = study_in(storage), threading.Event()
    trial = storage.create_new_trial(study._study_id)
    storage.set_trial_user_attr(trial, "worker", "another:1")
    storage.record_heartbeat(trial)
    if of_the_past:
        with storage.engine.begin() as connection:
            connection.execute(text("UPDATE trials SET datetime_start = '2020-01-01 00:00:00'"))
    threading.Timer(0.2, is_over.set).start()
    with pytest.raises(Interrupted):
        Worker(study, storage, SPACE, Budget(trials=1 + of_the_past)).run(work, is_over)
    assert len(study.get_trials()) == 1
