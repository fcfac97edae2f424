"""Which trial of a search wins: the best ones are trained anew, each on each seed once, whoever does it."""

import json
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from bench.errors import UserError
from bench.protocol.train import Status
from bench.reporting.evidence import check_search
from bench.reporting.notes import _searched
from bench.reporting.tables.search import summary
from bench.runner.display import Display
from bench.runner.executors import LocalExecutor
from bench.runner.executors.base import Executor, WorkerDied
from bench.searching import search as searching
from bench.searching.finals import run_finals
from bench.searching.record import SearchResult, export, write_record
from bench.searching.search import Search, run_search
from bench.searching.study import counted, status
from bench.store import ResultsFolder
from bench.suites.space import Budget, Dimension
from bench.suites.suite import Suite, load_suite
from tests.conftest import make_spec
from tests.test_study import open_unflushed

CPU = torch.device("cpu")
BUDGET = Budget(trials=6, finalists=3, finalist_seeds=2)


@pytest.fixture
def search(packed):
    return Search(
        make_spec(packed, learning_rate=1e-3), packed, {"learning_rate": Dimension(low=1e-5, high=1e-2, log=True)}, 0
    )


@pytest.fixture
def storage(tmp_path):
    opened = open_unflushed(tmp_path, heartbeat=1)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


@pytest.fixture
def trained(monkeypatch):
    """All recipes and seeds that were trained. In the place of a training: seed 0 likes high rates, others low ones."""
    every = []

    def train(*given, seed, report, **_):
        recipe = given[4]
        score = recipe.learning_rate if seed == 0 else 0.5 - recipe.learning_rate
        every.append((recipe.learning_rate, seed))
        for step in sorted(recipe.evaluation_steps()):
            report(Status(step, 0.5, score, 10.0, 1.0))
        time.sleep(0.01)
        return SimpleNamespace(best_score=score)

    monkeypatch.setattr(searching, "train", train)
    return every


class Threads(Executor):
    """Does work in the threads that ask for it."""

    slots, where = 3, "3 threads"

    def __init__(self, work=lambda work, display: work(CPU, display)):
        self.work = work

    def do(self, work, display):
        return self.work(work, display)


def found_by(search, storage, executor=None, budget=BUDGET):
    executor = executor or LocalExecutor(CPU)
    study = run_search(search, storage, budget, executor, Display())
    return SearchResult.of(search, study, budget, run_finals(search, study, storage, budget, executor, Display()))


def test_the_best_mean_of_fresh_seeds_wins_and_not_the_luckiest_trial(search, storage, trained, tmp_path):
    found = found_by(search, storage)
    by_val = sorted((trial.value for trial in found.trials if trial.value is not None), reverse=True)
    assert [finalist.trial.value for finalist in found.finalists] == by_val[:3]
    # of the three with the highest rates, which seed 0 likes, the lowest
    assert found.best.value == by_val[2]
    assert found.winner.mean == pytest.approx(0.5 - by_val[2])
    assert len(found.trials) == 6, "beside the budget"
    fresh = sorted(seed for _, seed in trained if seed)
    assert len(fresh) == 6
    assert len(set(fresh)) == 2
    assert found.chosen_by == "the best of 3 finalists, mean of 2 seeds on val"
    results = ResultsFolder(tmp_path / "out")
    write_record(results, Suite(title="toy"), [found])
    (entry,) = results.search()["entries"]
    assert entry["best"]["val_score"] == by_val[2]
    assert entry["best"]["mean_val_score"] == found.winner.mean
    assert [finalist["val_score"] for finalist in entry["finalists"]] == by_val[:3]
    assert [len(finalist["val_scores"]) for finalist in entry["finalists"]] == [2, 2, 2]
    # two steps of the default's batch each
    assert entry["steps"] == sum(trial.user_attrs["steps"] for trial in found.trials)
    assert {finalist["steps"] for finalist in entry["finalists"]} == {2 * search.spec.recipe.max_steps}
    anew = [trial for trial in results.trials() if "retrains" in trial]
    assert len(anew) == 6
    assert sorted(trial["spec"]["seed"] for trial in anew) == fresh
    assert len(results.trial_lines()) == 6
    check_search(results.search(), results.trials(), results.search_file)
    export(tmp_path / "best.toml", Suite(title="toy"), [found], 2)
    question = load_suite(str(tmp_path / "best.toml")).runs[1].question
    assert question.startswith("the best of 3 finalists, mean of 2 seeds on val, of 6 trials (budget 6 trials): trial ")


@pytest.mark.parametrize(
    "budget", [Budget(trials=6, finalists=1, finalist_seeds=2), Budget(trials=1, finalists=3, finalist_seeds=2)]
)
def test_without_a_choice_the_best_trial_wins(search, storage, trained, budget):
    found = found_by(search, storage, budget=budget)
    assert found.finalists == []
    assert found.best.value == max(trial.value for trial in found.trials if trial.value is not None)
    assert found.chosen_by == "the best on val"
    assert {seed for _, seed in trained} == {0}


def test_the_fresh_seeds_are_neither_a_trials_nor_a_suites(search, storage, trained):
    found_by(search, storage)
    suite = load_suite("tuned")
    of_runs = range(suite.first_seed, suite.first_seed + 1000)
    assert not {seed for _, seed in trained if seed} & {0, *of_runs}


def test_each_is_trained_once_by_several_at_once_and_by_commands_that_follow(search, storage, trained):
    first = found_by(search, storage, Threads())
    again = found_by(search, storage)
    anew = [(rate, seed) for rate, seed in trained if seed]
    assert len(anew) == len(set(anew)) == 6
    assert again.winner.mean == first.winner.mean
    assert [finalist.scores for finalist in again.finalists] == [finalist.scores for finalist in first.finalists]


def test_two_commands_at_once_train_each_once(search, tmp_path, trained):
    opened = [open_unflushed(tmp_path, heartbeat=5) for _ in range(2)]
    found = []
    threads = [
        threading.Thread(target=lambda storage=storage: found.append(found_by(search, storage))) for storage in opened
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    anew = [(rate, seed) for rate, seed in trained if seed]
    assert len(anew) == len(set(anew)) == 6
    assert found[0].winner.mean == found[1].winner.mean
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()


@pytest.mark.usefixtures("trained")
def test_one_whose_process_died_is_trained_again(search, storage):
    tried = []

    def work(work, display):
        tried.append((work.spec.recipe.learning_rate, work.spec.seed))
        if len(tried) == 8:
            raise WorkerDied("it died")
        return work(CPU, display)

    executor = Threads(work)
    executor.slots = 1
    found = found_by(search, storage, executor)
    assert len(tried) == 6 + 6 + 1
    assert tried.count(tried[7]) == 2
    assert found.winner


def test_ctrl_c_and_then_the_rest(search, storage, trained):
    def interrupted(work, display):
        if len(trained) == 9:
            raise KeyboardInterrupt
        return work(CPU, display)

    executor = Threads(interrupted)
    executor.slots = 1
    with pytest.raises(KeyboardInterrupt):
        found_by(search, storage, executor)
    assert len(trained) == 9
    found = found_by(search, storage)
    assert len(trained) == len(set(trained)) == 12
    assert found.winner.mean == pytest.approx(0.5 - found.best.value)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("all_fail", [False, True])
def test_a_finalist_whose_training_fails_is_out(search, storage, all_fail):
    def failing(work, display):
        if work.spec.seed and (all_fail or work.spec.recipe.learning_rate == failing.rate):
            raise RuntimeError("the loss is nan")
        return work(CPU, display)

    executor = LocalExecutor(CPU)
    study = run_search(search, storage, BUDGET, executor, Display())
    rates = sorted(trial.value for trial in counted(study.get_trials()) if trial.value is not None)
    # which would win
    failing.rate = rates[-3]
    found = found_by(search, storage, Threads(failing))
    assert found.best.value == (rates[-1] if all_fail else rates[-2])
    assert found.chosen_by.startswith("the best on val" if all_fail else "the best of 3 finalists")
    failed = [finalist for finalist in found.finalists if finalist.mean is None]
    assert len(failed) == (3 if all_fail else 1)
    assert failed[0].scores == [None, None]
    assert {status(trial) for trial in failed[0].retrained.values()} == {"failed"}


def test_where_all_trials_fail_nothing_was_chosen(search, storage, tmp_path):
    def fail(*_):
        raise RuntimeError("the loss is nan")

    results = ResultsFolder(tmp_path / "out")
    write_record(results, Suite(title="toy"), [found_by(search, storage, Threads(fail))])
    assert "on val |" not in summary(results.search())
    assert "a search chose, if any; retrained" in _searched(results.search())


@pytest.mark.usefixtures("trained")
def test_a_larger_budget_has_finals_of_its_own(search, storage):
    small = found_by(search, storage, budget=BUDGET.model_copy(update={"trials": 2}))
    large = found_by(search, storage)
    assert (len(small.finalists), len(large.finalists)) == (2, 3)
    assert len(large.trials) == 6
    assert large.winner


@pytest.mark.usefixtures("trained")
def test_a_trial_that_spends_the_last_steps_is_whole(search, storage):
    study = run_search(search, storage, Budget(steps=2 * search.spec.recipe.max_steps), LocalExecutor(CPU), Display())
    assert [status(trial) for trial in study.get_trials()] == ["complete", "complete"]


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("change", ["mean", "score"])
def test_a_winner_that_its_trainings_refute_is_refused(search, storage, tmp_path, change):
    results = ResultsFolder(tmp_path / "out")
    write_record(results, Suite(title="toy"), [found_by(search, storage)])
    record, trials = results.search(), results.trials()
    if change == "mean":
        record["entries"][0]["best"]["mean_val_score"] = 0.499999
    else:
        next(trial for trial in trials if "retrains" in trial)["val_score"] = 0.75
    with pytest.raises(UserError, match=r"entries\.tiny\.best\.mean_val_score: 0\.4.*, but trials\.json has 0\."):
        check_search(record, trials, results.search_file)


@pytest.mark.usefixtures("trained")
def test_what_is_on_record_of_sampler_and_pruner_is_what_searches(search, storage, tmp_path):
    found = found_by(search, storage)
    results = ResultsFolder(tmp_path)
    write_record(results, Suite(title="toy"), [found])
    record = json.loads(results.search_file.read_text())
    assert record["sampler"]["name"] == "TPESampler"
    assert (record["sampler"]["multivariate"], record["sampler"]["n_startup_trials"]) == (True, 10)
    assert record["sampler"]["gamma"] == "min(ceil(0.1 n), 25)"
    assert record["sampler"]["library"].startswith("optuna ")
    (entry,) = record["entries"]
    warmup = search.spec.recipe.evaluations // 3
    assert entry["pruner"] == {
        "name": "MedianPruner", "n_startup_trials": 5, "n_warmup_steps": warmup, "interval_steps": 1, "n_min_trials": 1,
    }  # fmt: skip
