"""Runs that start from others' weights, wherever else than in training that tells: names, tables, plans, tracking."""

import json
import shutil
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import bench as api
from bench.api import runs as of_api
from bench.api.folders import list_suites
from bench.api.options import Options
from bench.api.planning import _compared, _hours
from bench.errors import UserError
from bench.protocol.tasks.contrast import Contrast
from bench.reporting.analysis import analyse
from bench.reporting.captions import table_caption
from bench.reporting.sampling import Sampling
from bench.reporting.systems import FinishedRun, load_results
from bench.reporting.tables.starts import start_table
from bench.runner import estimate as estimating
from bench.runner.display import Display
from bench.runner.estimate import Remaining, measure
from bench.runner.executors import LocalExecutor
from bench.runner.runs import run_all
from bench.suites.plan import by_results, entries
from bench.suites.suite import load_suite
from bench.tracking.sync import local_store, missing, sync
from tests.conftest import make_spec
from tests.test_pretraining import ENTRIES, planned

CPU = torch.device("cpu")
SUITE = f"""
title = "starts"
seeds = 2
[train]
max_steps = 2
batch_size = 8
evaluations = 1
{ENTRIES}
[[runs]]
name = "heard_less"
base = "heard"
task = "contrast"
task_settings = {{ seconds = 0.25 }}
"""
INNER = "contrast-seconds_0.5"


class Places(Display):
    """What a display is told of places."""

    def __init__(self):
        self.told = {}

    def run_finished(self, record, place, entries):
        self.told[f"{record.spec.name}-s{record.spec.seed}"] = (place, entries)


@pytest.fixture(scope="module")
def done(packed, tmp_path_factory):
    """The suite with one seed, run for real, and in the same folder once more its entry `tuned`, from another start."""
    folder = tmp_path_factory.mktemp("starts")
    path, places = folder / "starts.toml", Places()
    for text, only in ((SUITE, []), (SUITE.replace("projection = 12", "projection = 10"), ["tuned"])):
        path.write_text(text)
        runs = planned(path, packed, folder / "runs" / "out", seeds=1, only=only)
        for results, of_results in by_results(runs).items():
            results.add_to_plan(f"starts, {results.path.name}", [run.folder.name for run in of_results])
        assert run_all(runs, LocalExecutor(CPU), places).failed == []
    path.write_text(SUITE)
    return SimpleNamespace(suite=path, results=runs[-1].results, places=places.told)


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done.results.path, tmp_path / "runs" / "out")


# --- what a run is called, and what it is told from


def test_runs_of_one_name_with_other_starts_are_two_systems_wherever_they_are_told_apart(done, tmp_path):
    loaded = load_results(done.results.path)
    labels = [system.label for system in loaded.systems]
    hashes = {system.first.init["system"] for system in loaded.systems if system.name == "tuned"}
    assert sorted(labels) == ["scratch", *sorted(f"tuned (init=heard after 2 steps {each})" for each in hashes)]
    records = [run.record for run in loaded.runs if run.record.spec.name == "tuned"]
    assert (len({record.spec.system for record in records}), len({record.system for record in records})) == (1, 2)
    (merged,) = api.merge(tmp_path / "merged", done.results.path)
    assert len(merged.copied) == len(loaded.runs) == 3


def test_the_system_of_a_drawn_start_is_that_of_the_spec(done):
    record = next(run.record for run in load_results(done.results.path).runs if not run.record.init)
    assert record.system == record.spec.system


@pytest.mark.parametrize("key", ["task", "source", "new"])
def test_a_record_whose_start_is_told_by_half_is_damaged(copy, bench, key):
    path = next(copy.glob("tuned-s0-*")) / "run.json"
    values = json.loads(path.read_text())
    del values["init"][key]
    path.write_text(json.dumps(values))
    ended = bench("show", path.parent)
    assert (ended.code, ended.out) == (2, "")
    assert f"run.json: damaged (init.{key}: missing); " in ended.err
    assert ended.err.count("\n") == 1


# --- what a report says of starts


def analysis_of(results, **init):
    """The results' analysis, as if each start had been another one."""
    found = analyse(load_results(results.path), Sampling(20))
    for standing in found.standings:
        runs = [
            FinishedRun(run.folder, run.record.model_copy(update={"init": run.record.init and run.record.init | init}))
            for run in standing.system.runs
        ]
        object.__setattr__(standing.system, "runs", tuple(runs))
    return found


@pytest.mark.parametrize(
    ("source", "words", "copied"),
    [
        ("pack", "train split", 3),
        ("generated", "generated sounds", 0),
        ("generated + pack", "generated sounds, train split", 3),
    ],
)
def test_a_start_that_heard_recordings_may_have_heard_copies_of_eval(done, source, words, copied):
    found = analysis_of(done.results, source=source)
    for standing in found.standings:
        standing.system.first.data["copied_eval_clips"] = 3
    lines = {line["start"]: line for line in start_table(found).records}
    assert (lines["heard"]["start_source"], lines["heard"]["start_copied_clips"]) == (words, copied)
    assert lines["drawn weights"]["start_copied_clips"] is None


def test_a_caption_says_what_the_columns_do_not(done):
    found = analysis_of(done.results, task="next_patch")
    table = start_table(found)
    caption = table_caption(found, table, table.columns)
    assert "Eval clips heard: at most" in caption
    assert "The codes of next_patch are made before" in caption
    printed = [column for column in table.columns if column.field != "start_copied_clips"]
    assert "Eval clips heard" not in table_caption(found, table, printed)
    contrast = analysis_of(done.results)
    assert "next_patch" not in table_caption(contrast, table, table.columns)


# --- plans and counts


def test_pretrainings_are_no_part_of_what_is_compared(done):
    weighed = api.plan("pretraining_small", 0.01, seed_sd=0.01, clip_sd=0.01, clips=100)
    assert weighed.families["pairs"] == 36 * 35 // 2
    counts = {suite.name: suite.entries for suite in list_suites()}
    assert counts["pretraining_small"] == "41"
    assert counts["pretraining"] == str(len(entries(load_suite("pretraining"))))
    # of which the pilot's tagger has the architecture, and nothing else
    declared = load_suite(done.suite)
    pilot = load_results(done.results.path)
    systems = [next(system for system in pilot.systems if system.name == name) for name in ("scratch", "tuned")]
    seconds = sum(min(system.values("cost", "train_seconds")) for system in systems)
    hours, note = _hours(declared, _compared(declared), pilot)
    assert hours == pytest.approx(seconds / 3600)
    assert "all entries with the seeds needed, pre-trainings aside; one seed" in note


def test_places_are_among_runs_that_are_judged_on_the_same(done):
    assert done.places["heard-s0"] == done.places["heard_less-s0"] == (1, 1)
    assert done.places["tuned-s0"][1] in (1, 2)


def test_a_dry_run_says_from_which_start(done, packed, tmp_path, bench):
    ended = bench("run", done.suite, "--data", packed.folder, "--out", tmp_path / "out", "--seeds", 1, "--dry-run")
    lines = dict(line.split(": ", 1) for line in ended.err.splitlines())
    (heard,) = (name for name in lines if name.startswith("heard-s0"))
    (tuned,) = (name for name in lines if name.startswith("tuned-s0"))
    assert lines[tuned] == f"would run, 2 steps from {tmp_path / 'out' / INNER / heard / 'model.safetensors'}"
    assert lines[heard] == "would run, 2 steps"


def test_what_seeds_and_models_share_is_made_once(done, packed, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Contrast, "prepare", lambda task, *_, **__: made.append(task.settings.seconds))
    options = Options.of({"data": packed.folder, "out": tmp_path / "out"})
    of_api._Job.of(load_suite(done.suite), str(done.suite), options).prepare()
    assert sorted(made) == [0.25, 0.5]


def test_a_probe_is_timed_as_it_is_trained(packed, monkeypatch):
    spec = make_spec(packed, max_steps=2, freeze=True)
    config = {"sample_rate": packed.sample_rate, "num_classes": len(packed.labels)}
    spec = spec.model_copy(update={"architecture": "vgg_like", "config": config})
    made, step_of = [], estimating.step_of
    monkeypatch.setattr(estimating, "step_of", lambda model, *rest: made.append(norms(model)) or step_of(model, *rest))
    measure(Remaining(spec, packed, (0,)), CPU, 0.0)
    assert made == [{False}]


def norms(model):
    return {module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d)}


# --- tracking


def test_pretrainings_are_tracked_where_the_suite_is(copy):
    for path in copy.rglob("model.safetensors"):
        # no model is exported
        path.unlink()
    outcome = sync(copy)
    assert outcome.uri == local_store(copy) == local_store(copy / INNER) == f"sqlite:///{copy.parent}/mlflow.db"
    names = {path.parent.name for path in copy.rglob("run.json")}
    assert {*outcome.sent} == names
    assert (outcome.there, missing(copy)) == (len(names), (0, len(names)))
    # those that are compared first, then the pre-trainings, by name
    assert outcome.sent == [path.parent.name for sub in (".", "contrast-seconds_0.25", INNER)
                            for path in sorted((copy / sub).glob("*/run.json"))]  # fmt: skip
    with closing(sqlite3.connect(copy.parent / "mlflow.db")) as store:
        known = {name for (name,) in store.execute("select name from runs")}
        kept = dict(store.execute("select name, artifact_location from experiments").fetchall())
    suites = {f"starts, {name}" for name in ("out", "contrast-seconds_0.25", INNER)}
    assert known == names | suites
    assert {kept[name] for name in suites} == {(copy.parent / "mlartifacts").as_uri()}
    assert not [*copy.rglob("mlflow.db"), *copy.rglob("mlartifacts")]


def test_pretrainings_alone_are_tracked_too(copy):
    for path in (*copy.glob("scratch-*"), *copy.glob("tuned-*")):
        shutil.rmtree(path)
    left, total = missing(copy)
    assert left == total == len([*copy.glob("*/*/run.json")]) > 0
    with pytest.raises(UserError, match="no run in it"):
        missing(copy.parent)


def test_a_suite_waits_for_tracking_once(done, packed, copy, monkeypatch):
    made = []

    class Sender(of_api.Tracker):
        def finish(self, seconds):
            made.append((self.folder, seconds))
            return []

    monkeypatch.setattr(of_api, "Tracker", Sender)
    api.run(str(done.suite), data=packed.folder, out=copy, seeds=1, report=False, track=True)
    assert made == [(copy, of_api.WAIT_SECONDS)]
