"""Results come soon: the fastest entry first, each with its place so far; and what would run is said beforehand."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from architectures import _registry
from architectures.template import write_architecture
from bench.api.runs import _fastest_first
from bench.runner import runs as running
from bench.runner.display import Display
from bench.runner.estimate import Estimate, Rates, remaining
from bench.runner.executors import LocalExecutor
from bench.store import ResultsFolder
from bench.suites.plan import plan
from bench.suites.suite import load_suite
from tests.conftest import no_tables


@pytest.fixture
def runs(packed, small_suite, tmp_path):
    return plan(load_suite(str(small_suite)), [packed], ResultsFolder(tmp_path / "out"))


def names(runs):
    return [f"{run.spec.name}-s{run.spec.seed}" for run in runs]


@pytest.mark.parametrize(("fast", "slow"), [("vgg_like", "transformer_small"), ("transformer_small", "vgg_like")])
def test_the_fastest_entry_runs_first_seed_by_seed(runs, fast, slow):
    seconds = {fast: 0.01, slow: 0.1}
    rates = {name: Rates(start=0.0, once=0.0, steps=(of,), chunk=0.0) for name, of in seconds.items()}
    estimates = [Estimate(entry, rates[entry.spec.name]) for entry in remaining(runs)]
    assert names(_fastest_first(runs, estimates)) == [f"{name}-s{seed}" for seed in (0, 1) for name in (fast, slow)]


def test_without_a_measurement_the_order_is_the_suites(runs):
    unknown = [Estimate(entry, cause="it broke") for entry in remaining(runs)]
    assert names(_fastest_first(runs, unknown)) == names(_fastest_first(runs, [])) == names(runs)


class Places(Display):
    def __init__(self):
        self.places = []

    def run_finished(self, record, place, of):
        self.places.append((record.spec.name, record.spec.seed, place, of))


def test_places_are_of_entries_by_their_mean_over_seeds(runs, monkeypatch):
    scores = {("transformer_small", 0): 0.3, ("vgg_like", 0): 0.4, ("transformer_small", 1): 0.6, ("vgg_like", 1): None}

    def execute(run, *_):
        return SimpleNamespace(spec=run.spec, metrics={"map": scores[run.spec.name, run.spec.seed]})

    monkeypatch.setattr(running, "execute", execute)
    display = Places()
    running.run_all(runs, LocalExecutor(torch.device("cpu")), display)
    # a score that does not exist is the last
    assert display.places == [
        ("transformer_small", 0, 1, 1),
        ("vgg_like", 0, 1, 2),
        ("transformer_small", 1, 1, 2),
        ("vgg_like", 1, 2, 2),
    ]


def test_runs_that_were_finished_before_have_places_too(small_results, packed, small_suite, monkeypatch):
    planned = plan(load_suite(str(small_suite)), [packed], ResultsFolder(small_results))
    new = planned[0].spec.model_copy(update={"name": "new", "seed": 7})
    extra = type(planned[0])(new, packed, ResultsFolder(small_results).run(new))
    monkeypatch.setattr(running, "execute", lambda run, *_: SimpleNamespace(spec=run.spec, metrics={"map": math.inf}))
    display = Places()
    running.run_all([*planned, extra], LocalExecutor(torch.device("cpu")), display)
    assert display.places == [("new", 7, 1, 3)]


def test_a_result_is_a_line_with_its_place(bench, small_suite, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.api.runs.report", no_tables)
    done = bench("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out", "--seeds", 1)
    lines = [line for line in done.err.splitlines() if line.startswith("[")]
    assert len(lines) == 2
    assert "place" not in lines[0]
    assert lines[1].endswith((", place 1 of 2 so far", ", place 2 of 2 so far"))
    assert lines[1].startswith("[2/2] ")


# --- dry runs


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_dry_run_says_what_would_run_and_writes_nothing(bench, small_results, small_suite, packed, tmp_path):
    out = tmp_path / "out"
    done = bench("run", small_suite, "--data", packed.folder, "--out", out, "--dry-run")
    assert (done.code, done.out) == (0, "")
    lines = done.err.splitlines()
    assert [line.rsplit("-", 1)[0] for line in lines[:-1]] == [
        f"{name}-s{seed}" for seed in (0, 1) for name in ("transformer_small", "vgg_like")
    ]
    assert all(line.endswith(": would run, 4 steps") for line in lines[:-1])
    assert lines[-1] == "small: 4 of 4 runs would run on cpu"
    assert not out.exists()
    before = files(small_results)
    done = bench("run", small_suite, "--data", packed.folder, "--out", small_results, "--dry-run", "--seeds", 3)
    assert [line.split(": ")[1] for line in done.err.splitlines()[:-1]] == 4 * ["finished"] + 2 * ["would run, 4 steps"]
    assert done.err.splitlines()[-1] == "small: 2 of 6 runs would run on cpu"
    assert files(small_results) == before


def test_a_dry_run_tells_what_failed_and_what_would_resume(bench, small_suite, packed, tmp_path, runs, monkeypatch):
    out, begun = tmp_path / "out", runs[1].folder.checkpoint_file
    runs[0].folder.path.mkdir(parents=True)
    runs[0].folder.write_failure(runs[0].spec, ValueError("no"))
    steps = {begun: 3}
    monkeypatch.setattr(
        "bench.api.runs.checkpoint_of",
        lambda run: SimpleNamespace(step=lambda: steps.get(run.folder.checkpoint_file, 0)),
    )
    done = bench("run", small_suite, "--data", packed.folder, "--out", out, "--dry-run")
    lines = done.err.splitlines()
    assert lines[0] == f"{runs[0].folder.name}: failed before, would run again, 4 steps"
    assert lines[1] == f"{runs[1].folder.name}: would resume at step 3 of 4"


def test_a_dry_run_of_the_demo_makes_no_data(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = bench("run", "demo", "--dry-run", "--only", "vgg_like")
    assert (done.code, done.err) == (0, "demo: the demo set is not made yet; all would run: vgg_like\n")
    assert not files(tmp_path)


def test_a_dry_search_says_what_each_has_spent(bench, packed, tmp_path):
    out = tmp_path / "out"
    arguments = ("search", "transformer_small", "--data", packed.folder, "--out", out, "--trials", 2, "--dry-run")
    done = bench(*arguments)
    assert (done.code, done.out) == (0, "")
    assert done.err == "transformer_small: 0 trials on record, of a budget of 2 trials\n"
    assert not out.exists()


def test_a_dry_search_knows_the_architectures_of_plugins_before_there_is_data(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # known to this test alone
    monkeypatch.setattr(_registry, "_architectures", dict(_registry._architectures))
    write_architecture("mine", tmp_path, [])
    done = bench("search", "mine", "--plugin", "mine.py", "--data", "demo", "--trials", 2, "--dry-run")
    assert (done.code, done.out) == (0, "")
    assert "the demo set is not made yet" in done.err


# --- smoke runs


def test_a_quick_run_is_short_and_in_a_folder_of_its_own(bench, packed, tmp_path, monkeypatch, small_suite):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.api.options._QUICK", {"max_steps": 2, "evaluations": 1})
    monkeypatch.setattr("bench.api.runs.report", no_tables)
    done = bench("run", small_suite, "--data", packed.folder, "--quick", "--only", "transformer_small")
    assert done.code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == "small-quick"
    (record,) = (json.loads(path.read_text()) for path in folder.glob("*/run.json"))
    assert (record["spec"]["recipe"]["max_steps"], record["spec"]["recipe"]["evaluations"]) == (2, 1)
    # what is set is set
    done = bench("run", small_suite, "--data", packed.folder, "--quick", "--dry-run", "--set", "train.max_steps=9")
    assert "would run, 9 steps" in done.err
    assert len(done.err.splitlines()) == 3
