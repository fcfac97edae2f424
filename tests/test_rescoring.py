"""One set of weights, scored in several ways: trained once, and each scored as by hand."""

import csv
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import bench as api
from bench import locks
from bench.api.planning import _hours
from bench.data.audio import probe_file
from bench.errors import UserError
from bench.inspect.predict import Tagger
from bench.protocol.build import build
from bench.protocol.recipe import SCORING
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.protocol.tasks.tagging import Tagging
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import load_results
from bench.runner import run as running
from bench.runner.display import Display
from bench.runner.estimate import Estimate, Rates, remaining
from bench.runner.executors import LocalExecutor
from bench.runner.executors.jobs import JobsExecutor
from bench.runner.runs import run_all
from bench.runner.weights import load_model
from bench.schema import validated
from bench.store import ResultsFolder
from bench.suites.plan import Selection, entries, plan
from bench.suites.suite import Suite, load_suite
from bench.tracking.records import read_records
from tests import test_two_at_once
from tests.test_cli import one_line

CPU = torch.device("cpu")
TASK = get_task("tagging")
SUITE = """
title = "rescored"
seeds = 2
[train]
max_steps = 6
batch_size = 8
evaluations = 3

[[runs]]
name = "loudest"
rescores = "tiny"
question = "is a clip what is loudest in it?"
train = { aggregate = "max" }

[[runs]]
name = "tiny"
architecture = "transformer_small"
config = { depth = 1, front_end_dim = 32, embed_dim = 16, num_heads = 2, head_dim = 8, mlp_dim = 32 }

[[runs]]
name = "other"
base = "tiny"
train = { learning_rate = 1e-3 }

[[runs]]
name = "overlap"
rescores = "tiny"
train = { eval_hop_seconds = 0.5, last_chunk_weight = "new_samples" }
"""
ENTRIES = ["tiny", "loudest", "overlap", "other"]
RESCORING = ["loudest", "overlap"]
# of a record, what another process does not change
SAME = ("spec", "metrics", "class_scores", "untrained", "val_score", "best_step", "steps", "scores")


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "rescored.toml"
    path.write_text(SUITE)
    return path


def planned(suite, packed, out, **selected):
    results = ResultsFolder(out)
    runs = plan(load_suite(suite), [packed], results, Selection(**selected))
    results.add_labels(packed, TASK)
    results.add_to_plan("rescored", [run.folder.name for run in runs])
    return runs


@pytest.fixture(scope="module")
def done(suite, packed, tmp_path_factory):
    """The whole suite, run for real, and how many trainings that took."""
    runs, trained = planned(suite, packed, tmp_path_factory.mktemp("done") / "out"), []
    with pytest.MonkeyPatch.context() as patch:
        count(patch, trained)
        outcome = run_all(runs, LocalExecutor(CPU))
    assert outcome.failed == []
    return runs, [run.name for run in trained]


def count(patch, trained):
    """Note each run that is trained."""
    train = running._train

    def noted(run, *more):
        trained.append(run)
        return train(run, *more)

    patch.setattr(running, "_train", noted)


@pytest.fixture
def copy(done, tmp_path):
    """The results folder, to be changed."""
    return ResultsFolder(shutil.copytree(done[0][0].folder.path.parent, tmp_path / "out"))


def clear(results, *names):
    """Remove what runs have left, by the beginnings of their names."""
    for name in names:
        for path in results.path.glob(f"{name}-s*"):
            shutil.rmtree(path)


def numbers(results):
    return {run.name: {key: getattr(run.record(), key) for key in SAME} for run in results.finished()}


# --- the plan


def test_what_rescores_comes_right_behind_its_run_and_knows_it(suite, packed, tmp_path):
    runs = planned(suite, packed, tmp_path / "out")
    assert [run.name for run in runs] == [f"{name}-s{seed}" for seed in (0, 1) for name in ENTRIES]
    by_name = {run.name: run for run in runs}
    for run in runs:
        if run.spec.name not in RESCORING:
            assert (run.rescored, run.spec.rescores) == (None, "")
            continue
        trained = by_name[f"tiny-s{run.spec.seed}"]
        assert run.rescored == trained
        assert (run.spec.rescores, run.spec.base) == (trained.spec.hash, "tiny")
        ours, theirs = run.spec.recipe.model_dump(), trained.spec.recipe.model_dump()
        assert {key for key in ours if ours[key] != theirs[key]} <= set(SCORING)
        assert run.spec.config == trained.spec.config
    assert by_name["loudest-s0"].spec.question == "is a clip what is loudest in it?"


def test_the_hash_is_that_of_weights_and_scoring_and_a_system_has_all_seeds(suite, packed, tmp_path):
    runs = {run.name: run.spec for run in planned(suite, packed, tmp_path / "out")}
    loudest = runs["loudest-s0"]
    retrained = loudest.model_copy(update={"rescores": ""})
    assert len({loudest.hash, retrained.hash, runs["tiny-s0"].hash, runs["loudest-s1"].hash}) == 4
    assert loudest.system == runs["loudest-s1"].system
    assert len({spec.system for spec in (*runs.values(), retrained)}) == 5
    # before the field existed
    without = {key: value for key, value in runs["tiny-s0"].model_dump().items() if key != "rescores"}
    assert RunSpec.model_validate(without).hash == runs["tiny-s0"].hash


def test_only_takes_what_is_rescored_along(suite):
    loaded = load_suite(suite)
    assert [entry.name for entry in entries(loaded, ["overlap"])] == ["tiny", "overlap"]
    assert [entry.name for entry in entries(loaded, ["other", "overlap", "tiny", "loudest"])] == [
        "other", "tiny", "overlap", "loudest",
    ]  # fmt: skip
    assert [entry.name for entry in entries(loaded, ["tiny"])] == ["tiny"]


TINY = {"name": "tiny", "architecture": "crnn"}


@pytest.mark.parametrize(
    ("runs", "more", "message"),
    [
        ([{"name": "a", "rescores": "nobody"}], {}, "a: rescores='nobody' is no entry of this suite"),
        ([{"name": "a", "rescores": "a"}], {}, "a: is its own base, by a"),
        ([{"name": "a", "rescores": "tiny", "base": "tiny"}], {}, "a: give either architecture or base"),
        ([{"name": "a", "rescores": "tiny", "architecture": "crnn"}], {}, "a: give either architecture or base"),
        (
            [{"name": "a", "rescores": "tiny"}, {"name": "b", "rescores": "a"}], {},
            "b: a has no weights of its own: write rescores = 'tiny'",
        ),
        *(
            ([{"name": "a", "rescores": "tiny", **given}], {}, f"that are there, which {what} would be too late for")
            for given, what in [
                ({"config": {"merge": "sum"}}, "config"),
                ({"sample_rate": 8000}, "sample_rate"),
                ({"init": "tiny"}, "init"),
                ({"train": {"aggregate": "max", "max_steps": 3}}, "train.max_steps"),
                ({"train": {"short_clips": "zeros"}}, "train.short_clips"),
                ({"train": {"hop_seconds": 0.5}}, "train.hop_seconds"),
            ]
        ),
        ([{"name": "a", "rescores": "tiny"}], {"grid": {"sample_rate": [16_000]}}, "a: rescores and [grid] exclude"),
        (
            [{"name": "a", "rescores": "tiny"}],
            {"space": {"mixup": {"choices": [0.0, 0.5]}}, "budget": {"trials": 1}}, "a: rescores and [space] exclude",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_is_one_line_when_the_suite_is_read(runs, more, message):
    with pytest.raises(UserError) as raised:
        validated(Suite, {"title": "x", "runs": [TINY, *runs], **more}, "x.toml")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_command_ends_with_that_line(bench, tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(SUITE.replace('aggregate = "max"', "mixup = 0.5"))
    one_line(bench("run", path, "--dry-run"), "loudest: rescores weights that are there, which train.mixup would be")
    path.write_text(SUITE.replace('aggregate = "max"', 'aggregate = "max", last_chunk_weight = "new_samples"'))
    one_line(bench("run", path, "--dry-run"), "[[runs]] loudest, train: last_chunk_weight='new_samples' has no place")
    path.write_text(f"{SUITE}[space]\naggregate = {{ choices = ['mean', 'max'] }}\n[budget]\ntrials = 1\n")
    one_line(bench("run", path, "--dry-run"), "exclude each other")


def test_an_ablation_can_be_rescored_and_an_architecture_by_its_name():
    runs = [
        {"name": "deep", "base": "tiny", "config": {"merge": "concatenate"}},
        {"name": "a", "rescores": "deep", "train": {"aggregate": "max"}},
        {"name": "b", "rescores": "vgg_like"},
    ]
    suite = validated(Suite, {"title": "x", "architectures": ["vgg_like"], "runs": [TINY, *runs]}, "x.toml")
    made = {entry.name: entry for entry in entries(suite)}
    assert list(made) == ["vgg_like", "b", "tiny", "deep", "a"]
    assert (made["a"].architecture, made["a"].config) == ("crnn", {"merge": "concatenate"})
    assert made["b"].architecture == "vgg_like"


@pytest.mark.parametrize("how", ["base", "rescores"])
@pytest.mark.parametrize("name", ["timm:convnext_atto", "timm-convnext_atto"])
def test_a_model_of_timms_is_an_entry_that_others_can_name(how, name):
    runs = [{"name": "loudest", how: name, "train": {"aggregate": "max"}}]
    suite = validated(Suite, {"title": "x", "architectures": ["timm:convnext_atto"], "runs": runs}, "x.toml")
    made = {entry.name: entry for entry in entries(suite)}
    assert list(made) == ["timm-convnext_atto", "loudest"]
    assert {entry.architecture for entry in made.values()} == {"timm:convnext_atto"}
    # as reports look for it
    assert made["loudest"].compared_with == "timm-convnext_atto"


# --- one training, several scores


def test_each_run_is_trained_once_and_scored_as_by_hand(done, packed):
    runs, trained = done
    assert trained == ["tiny-s0", "other-s0", "tiny-s1", "other-s1"]
    for run in (run for run in runs if run.rescored):
        record, of_base = run.folder.record(), run.rescored.folder.record()
        model = load_model(run.rescored.folder, of_base, CPU)
        data = {split: TASK.data(packed, split, run.spec.recipe) for split in ("val", "eval")}
        scores = run.folder.scores((len(packed.clips("eval")), len(packed.labels)))
        np.testing.assert_array_equal(scores, TASK.score(model, data["eval"]))
        assert not np.array_equal(scores, run.rescored.folder.scores(scores.shape))
        assert record.val_score == TASK.selection_score(packed.targets("val"), TASK.score(model, data["val"]))
        untrained = TASK.score(build(run.spec, CPU), data["eval"])
        assert record.untrained == TASK.evaluate(packed.targets("eval"), untrained, packed.leaf)
        assert (record.best_step, record.steps) == (of_base.best_step, of_base.steps)


def test_the_same_scoring_gives_the_same_scores(packed, copy, tmp_path):
    """What a run scores at its end, and what it is scored as from its file, is one to the last bit."""
    path = tmp_path / "same.toml"
    path.write_text(SUITE.replace('train = { aggregate = "max" }', "train = { aggregate = 'mean' }"))
    runs = planned(path, packed, copy.path, only=["loudest"], seeds=1)
    run_all(runs, LocalExecutor(CPU))
    tiny, same = (run.folder.record() for run in runs)
    assert (same.metrics, same.val_score, same.scores) == (tiny.metrics, tiny.val_score, tiny.scores)
    assert same.hash != tiny.hash


def test_its_folder_is_a_runs_without_weights(done):
    for run in (run for run in done[0] if run.rescored):
        assert sorted(path.name for path in run.folder.path.iterdir()) == ["history.csv", "run.json", "scores.npz"]
        record, trained = run.folder.record(), run.rescored.folder
        history, of_base = run.folder.history(), trained.history()
        assert len(history) == 1 < len(of_base)
        kept = of_base[of_base["step"] == record.best_step].iloc[0]
        for column in ("step", "learning_rate", "loss", "seconds"):
            assert history[column].iloc[0] == kept[column]
        assert history["val_score"].iloc[0] == pytest.approx(record.val_score)
        cost, base_cost = record.cost, trained.record().cost
        assert cost.keys() == base_cost.keys()
        for name in ("train_seconds", "samples_per_second", "parameters", "train_memory_bytes"):
            assert cost[name] == base_cost[name]
    by_name = {run.name: run.folder.record().cost for run in done[0]}
    # of a clip of 10 s, the one has 19 chunks where the other has 10
    assert by_name["overlap-s0"]["macs"] == pytest.approx(1.9 * by_name["tiny-s0"]["macs"], rel=1e-6)
    assert by_name["loudest-s0"]["macs"] == by_name["tiny-s0"]["macs"]


def test_the_weights_are_those_that_the_trained_run_selected(suite, packed, tmp_path, monkeypatch):
    """Those of the first evaluation, whatever a training that scores val as the other one does would have kept."""
    scores = iter((0.4, 0.3, 0.2, 0.9))
    monkeypatch.setattr(Tagging, "selection_score", lambda *_: next(scores))
    runs = planned(suite, packed, tmp_path / "out", only=["loudest"], seeds=1)
    run_all(runs, LocalExecutor(CPU))
    trained, scored = (run.folder.record() for run in runs)
    assert (trained.best_step, trained.steps) == (2, 6)
    assert (scored.best_step, scored.steps, scored.val_score) == (2, 6, 0.9)


def test_a_report_takes_it_as_an_ablation_of_what_it_rescores(copy, monkeypatch):
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    systems = {system.label: system for system in load_results(copy.path).systems}
    assert list(systems) == ENTRIES
    assert all(len(system.runs) == 2 for system in systems.values())
    write_report(copy.path, Sampling(resamples=100))
    lines = list(csv.DictReader((copy.path / "ablations.csv").read_text().splitlines()))
    assert [(line["entry"], line["base"], line["seeds"]) for line in lines] == [
        (name, "tiny", "2") for name in ("loudest", "overlap", "other")
    ]
    assert lines[0]["changed"] == "train.aggregate mean -> max"
    assert "Nothing was trained for loudest, overlap: the weights of the base" in (copy.path / "table.md").read_text()


def test_scores_of_weights_that_the_base_has_no_more_are_refused(copy, bench):
    """A run that was made again on a GPU, or elsewhere, has other weights, and the same hash."""
    overlap, tiny = copy.find("overlap-s1"), copy.find("tiny-s1")
    history, best = tiny.history(), tiny.record().best_step
    history.loc[history["step"] == best, "loss"] *= 1.001
    history.to_csv(tiny.history_file, index=False)
    expected = f"{overlap.path}: its scores are of other weights than {tiny.name} has now: move it away and run the"
    clear(copy, "loudest")
    one_line(bench("report", copy.path), expected)
    one_line(bench("merge", copy.path.with_name("all"), copy.path), expected)
    # each by itself could be
    shutil.copytree(copy.path, other := copy.path.with_name("other"))
    shutil.rmtree(tiny.path)
    clear(ResultsFolder(other), "overlap")
    assert [len(load_results(path).runs) for path in (copy.path, other)] == [5, 4]
    one_line(bench("merge", copy.path.with_name("all"), copy.path, other), expected)


def test_older_runs_of_the_name_that_were_trained_are_another_system(packed, copy, tmp_path):
    path = tmp_path / "before.toml"
    path.write_text(SUITE.replace("rescores =", "base ="))
    run_all(planned(path, packed, copy.path, only=["loudest"], seeds=1), LocalExecutor(CPU))
    labels = [system.label for system in load_results(copy.path).systems if system.name == "loudest"]
    assert len(set(labels)) == 2
    assert all(label.startswith("loudest (rescores=") for label in labels)


def test_what_reads_a_runs_weights_takes_those_that_it_scores(copy, bench):
    loudest, tiny = copy.find("loudest-s0"), copy.find("tiny-s0")
    ours, theirs = (api.load(folder.path).state_dict() for folder in (loudest, tiny))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert f"those of the run with hash {tiny.record().hash}" in bench("show", loudest.path).out
    one_line(bench("run", "--reproduce", loudest.path), f"scores the weights of {tiny.name}: reproduce {tiny.path}")
    assert len(read_records(copy)) == 8
    tiny.weights_file.unlink()
    with pytest.raises(UserError, match=rf"^{tiny.weights_file}: no weights"):
        api.load(loudest.path)
    shutil.rmtree(tiny.path)
    with pytest.raises(UserError, match=r"^\S+: scores the weights of the run with hash \w{8}, which is not beside it"):
        api.load(loudest.path)


def test_merged_folders_have_both(copy, tmp_path):
    parts = [ResultsFolder(shutil.copytree(copy.path, tmp_path / name)) for name in ("one", "two")]
    clear(parts[0], "loudest", "other")
    clear(parts[1], "overlap")
    api.merge(tmp_path / "all", *(part.path for part in parts), display=Display())
    assert numbers(ResultsFolder(tmp_path / "all")) == numbers(copy)


# --- order, and what goes wrong


def test_a_finished_run_is_scored_without_a_training(suite, packed, copy, monkeypatch):
    expected, trained = numbers(copy), []
    clear(copy, "loudest")
    shutil.rmtree(copy.find("overlap-s0").path)
    count(monkeypatch, trained)
    outcome = run_all(planned(suite, packed, copy.path), LocalExecutor(CPU))
    assert (trained, outcome.failed, len(outcome.done)) == ([], [], 3)
    assert numbers(copy) == expected


def test_a_command_that_ends_between_the_two_resumes_with_the_scoring(suite, packed, tmp_path, monkeypatch):
    runs, trained = planned(suite, packed, tmp_path / "out", only=["loudest"], seeds=1), []
    count(monkeypatch, trained)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_rescore", stop)
        with pytest.raises(KeyboardInterrupt):
            run_all(runs, LocalExecutor(CPU))
    assert [run.folder.is_finished for run in runs] == [True, False]
    assert run_all(runs, LocalExecutor(CPU)).done == [runs[1].folder.name]
    assert len(trained) == 1


class Lines(test_two_at_once.Lines):
    def run_failed(self, error, folder):
        self.lines.append(f"{folder.name}: {error}")


def test_what_would_score_a_run_that_failed_fails_in_one_line_that_names_it(suite, packed, tmp_path):
    runs, shown = planned(suite, packed, tmp_path / "out", seeds=1), Lines()

    def fail(run, *more):
        if run.spec.name == "tiny":
            raise ValueError("no memory")
        return train(run, *more)

    train = running._train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_train", fail)
        outcome = run_all(runs, LocalExecutor(CPU), shown)
    tiny, loudest, overlap, other = (run.folder for run in runs)
    assert outcome.failed == [tiny.name, loudest.name, overlap.name]
    assert outcome.done == [other.name]
    why = f"{tiny.name} has not finished, so that there are no weights of it to score"
    assert loudest.failure()["error"] == f"UserError: {why}"
    assert f"{overlap.name}: {why}" in shown.lines
    # the same command tries again
    assert run_all(runs, LocalExecutor(CPU)).done == [tiny.name, loudest.name, overlap.name]
    assert not loudest.failure_file.exists()


def test_whatever_their_order_the_weights_come_first(suite, packed, tmp_path):
    runs = planned(suite, packed, tmp_path / "out", only=["loudest"], seeds=1)
    assert run_all(runs[::-1], LocalExecutor(CPU)).failed == []


@pytest.mark.slow
def test_processes_side_by_side_score_what_one_of_them_has_trained(suite, packed, done, tmp_path):
    runs = planned(suite, packed, tmp_path / "out")
    with JobsExecutor([CPU, CPU], 1, int) as executor:
        outcome = run_all(runs, executor)
    assert len(outcome.done) == 8
    assert numbers(ResultsFolder(tmp_path / "out")) == numbers(ResultsFolder(done[0][0].folder.path.parent))


def test_a_run_that_another_process_trains_is_awaited_and_then_scored(suite, packed, done, tmp_path):
    runs = planned(suite, packed, tmp_path / "out", only=["loudest"], seeds=1)
    tiny, waits = runs[0].folder, threading.Event()
    shown, outcomes = Lines(lambda line: waits.set()), []
    thread = threading.Thread(target=lambda: outcomes.append(run_all(runs, LocalExecutor(CPU), shown)))
    with locks.hold(tiny.path, "being trained"):
        thread.start()
        assert waits.wait(30)
        assert not runs[1].folder.path.exists()
        shutil.copytree(next(run for run in done[0] if run.name == "tiny-s0").folder.path, tiny.path)
    thread.join(60)
    assert (outcomes[0].skipped, outcomes[0].done) == ([tiny.name], [runs[1].folder.name])
    assert shown.lines[0].startswith(f"waiting for a run that is being trained elsewhere: {tiny.name}")


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_weights_that_are_gone_stop_the_command_before_anything_trains(bench, suite, packed, copy, damage, monkeypatch):
    tiny, trained = copy.find("tiny-s1"), []
    if damage == "gone":
        tiny.weights_file.unlink()
    else:
        tiny.weights_file.write_bytes(b"no weights")
    call = ("run", suite, "--data", packed.folder, "--out", copy.path, "--no-report")
    count(monkeypatch, trained)
    # what is finished needs them no more
    assert bench(*call).code == 0
    clear(copy, "loudest", "other")
    error = bench(*call)
    one_line(error, f"{tiny.weights_file}: {'no weights' if damage == 'gone' else 'damaged'}")
    assert "move the folder away and make it again with `" in error.err
    assert trained == []
    shutil.rmtree(tiny.path)
    assert bench(*call).code == 0
    assert [run.name for run in trained] == ["other-s0", "tiny-s1", "other-s1"]


def test_another_run_in_the_folder_is_not_scored(suite, packed, copy):
    runs = {run.name: run for run in planned(suite, packed, copy.path)}
    clear(copy, "loudest")
    tiny, other = runs["tiny-s0"].folder, runs["other-s0"].folder
    shutil.rmtree(tiny.path)
    shutil.copytree(other.path, tiny.path)
    run_all([runs["loudest-s0"]], LocalExecutor(CPU))
    expected = f"of a run with hash {other.record().hash}, not {runs['tiny-s0'].spec.hash}: move the folder away"
    assert expected in runs["loudest-s0"].folder.failure()["error"]


# --- parts, lists, estimates


def test_a_part_does_what_scores_its_weights(bench, suite, packed, tmp_path, monkeypatch):
    out, trained = ResultsFolder(tmp_path / "out"), []
    count(monkeypatch, trained)
    given = {"data": packed.folder, "out": out.path, "display": Display()}
    assert api.missing(str(suite), **given) == ["tiny-s0", "other-s0", "tiny-s1", "other-s1"]
    call = ("run", suite, "--data", packed.folder, "--out", out.path, "--no-report", "--part")
    one_line(bench(*call, "loudest-s1"), "--part loudest-s1: scores the weights of tiny-s1, which is not finished: say")
    assert not out.path.exists()
    assert bench(*call, "tiny-s1").code == 0
    assert sorted(run.name.rpartition("-")[0] for run in out.finished()) == ["loudest-s1", "overlap-s1", "tiny-s1"]
    assert len(out.plan().planned) == 8
    clear(out, "overlap")
    assert api.missing(str(suite), **given) == ["tiny-s0", "other-s0", "overlap-s1", "other-s1"]
    assert bench(*call, "overlap-s1").code == 0
    assert [run.name for run in trained] == ["tiny-s1"]
    assert api.missing(str(suite), **given) == ["tiny-s0", "other-s0", "other-s1"]


def test_without_the_demo_set_only_trainings_are_missing(suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert api.missing(str(suite), data="demo", seeds=1, display=Display()) == ["tiny-s0", "other-s0"]


def test_a_dry_run_says_which_weights_would_be_scored(bench, suite, packed, copy):
    clear(copy, "loudest")
    tiny = copy.find("tiny-s0")
    said = bench("run", suite, "--data", packed.folder, "--out", copy.path, "--dry-run", "--only", "loudest").err
    assert f": would be scored from {tiny.weights_file}\n" in said
    assert "2 of 4 runs would run" in said


def test_no_training_is_estimated_for_it(suite, packed, tmp_path):
    rates = Rates(start=2.0, once=1.6, steps=(0.4, 0.5, 0.9), chunk=0.01, val_chunks=200, eval_chunks=300)
    found = {left.spec.name: Estimate(left, rates) for left in remaining(planned(suite, packed, tmp_path / "out"))}
    assert found["tiny"].run.training == pytest.approx(6 * 0.5)
    assert found["loudest"].run == (0.0, pytest.approx(2.0), pytest.approx(2 + 1.6 + 6))
    assert found["loudest"].seconds == pytest.approx(2 * 11.6 - 1.6)
    assert (found["tiny"].left.steps, found["loudest"].left.steps) == (12, 0)


def test_no_training_is_planned_for_it(suite, done):
    loaded, results = load_suite(suite), load_results(done[0][0].folder.path.parent)
    hours, _ = _hours(loaded, entries(loaded), results)
    alone, _ = _hours(loaded, [entry for entry in entries(loaded) if not entry.rescores], results)
    assert hours == alone > 0


# --- sound files


def heard(folder, path, recipe=None):
    """What a run's model says of a file."""
    tagger = Tagger(folder, CPU)
    if recipe:
        tagger.spec = tagger.spec.model_copy(update={"recipe": tagger.spec.recipe.model_copy(update=recipe)})
        tagger.least = max(1.0, tagger.spec.recipe.chunk_seconds)
    return tagger.tag(path, probe_file(path))


@pytest.mark.parametrize(
    "recipe",
    [
        {"aggregate": "max"},
        {"aggregate": "top_k", "top_k": 2},
        {"last_chunk_weight": "new_samples"},
        {"aggregate": "logits", "last_chunk_weight": "new_samples"},
        {"short_clips": "zeros"},
        {"short_clips": "zeros", "chunk_seconds": 0.5, "hop_seconds": 0.5},
        {"short_clips": "zeros", "chunk_seconds": 2.0, "hop_seconds": 2.0, "aggregate": "max"},
    ],
    ids=str,
)
def test_a_file_is_heard_as_a_clip_of_eval_is_scored(done, dataset, packed, recipe):
    run = next(run for run in done[0] if run.name == "tiny-s0")
    model = load_model(run.folder, run.folder.record(), CPU)
    recipe_of_clips = run.spec.recipe.model_copy(update=recipe)
    scores, clips = TASK.score(model, TASK.data(packed, "eval", recipe_of_clips)), packed.clips("eval")
    # a short one, and a long one
    for clip in (int(clips["seconds"].argmin()), int(clips["seconds"].argmax())):
        path = Path(dataset) / "FSD50K.eval_audio" / f"{clips['clip'].iloc[clip]}.wav"
        np.testing.assert_allclose(heard(run.folder, path, recipe).clip, scores[clip], rtol=1e-4)


def test_what_scores_other_weights_hears_files_by_them(done, dataset):
    path = next((Path(dataset) / "FSD50K.eval_audio").glob("*.wav"))
    loudest, tiny = (next(run for run in done[0] if run.name == name).folder for name in ("loudest-s0", "tiny-s0"))
    np.testing.assert_array_equal(heard(loudest, path).scores, heard(tiny, path).scores)
    assert (heard(loudest, path).clip >= heard(tiny, path).clip).all()


def test_a_short_file_is_said_to_be_filled_up(done, dataset, packed):
    clips = packed.clips("eval")
    path = Path(dataset) / "FSD50K.eval_audio" / f"{clips['clip'].iloc[int(clips['seconds'].argmin())]}.wav"
    run = next(run for run in done[0] if run.name == "tiny-s0")
    assert heard(run.folder, path).length.endswith(" s, repeated to one second")
    zeros = heard(run.folder, path, {"short_clips": "zeros"})
    assert zeros.length.endswith(" s, filled up with zeros to one second")
    assert "zeros" not in replace(zeros, chunk=0.1).length


def test_the_record_says_whose_weights(done):
    run = next(run for run in done[0] if run.name == "overlap-s1")
    values = json.loads(run.folder.record_file.read_text())
    assert values["spec"]["rescores"] == run.rescored.spec.hash
    assert values["spec"]["recipe"]["last_chunk_weight"] == "new_samples"
