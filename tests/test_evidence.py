"""A report prints no number that the files beside it refute: it is one line instead, with file, key and remedy."""

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from bench.protocol.metrics import evaluate
from bench.reporting.report import Sampling, write_report
from bench.reporting.systems import load_results
from bench.store import Labels, ResultsFolder
from tests.test_contrasts import write_results

ROOT = Path(__file__).parent.parent
QUICK = Sampling(resamples=20)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    strengths = {"a": ("cnn", 2.0, 0.9), "b": ("transformer", 1.0, 0.7)}
    return write_results(tmp_path_factory.mktemp("evidence") / "out", strengths, seeds=(0, 1), clips=60).path


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Without figures, which take seconds."""
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_ensembles", lambda results, found: {})


def run_of(folder, name="a-s0"):
    return ResultsFolder(folder).find(name)


def edit(run, change):
    """Change a run.json; `change` takes its content."""
    values = json.loads(run.record_file.read_text())
    change(values)
    run.record_file.write_text(json.dumps(values))


def setting(path, value):
    """What sets a value of a run.json, by its dotted path; DELETE removes it."""

    def change(values):
        *outer, last = path.split(".")
        for key in outer:
            values = values[key]
        if value is DELETE:
            del values[last]
        else:
            values[last] = value

    return change


DELETE = object()


def told(bench, folder, *, by_compare=True):
    """The one line that both commands end with."""
    commands = [("report", folder), ("compare", folder / "a", folder / "b")] if by_compare else [("report", folder)]
    done = [bench(*command, "--resamples", 100) for command in commands]
    assert [each.code for each in done] == [2] * len(done), done
    lines = {each.err.splitlines()[-1] for each in done}
    assert all(len(each.err.splitlines()) == 1 and not each.out for each in done), done
    (line,) = lines
    return line.removeprefix("bench: error: ")


def test_what_is_whole_is_reported_and_compared(folder, bench):
    assert bench("report", folder, "--resamples", 100).code == 0
    assert bench("compare", folder / "a", folder / "b", "--resamples", 100).code == 0


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("metrics.map", 7.5, "7.5, not 0 to 1"),
        ("metrics.map", 0.05, r"0.05, but scores.npz and labels.npz give 0\.\d+"),
        ("metrics.map", float("nan"), r"nothing, but scores.npz and labels.npz give 0\.\d+"),
        ("metrics.map", None, r"nothing, but scores.npz and labels.npz give 0\.\d+"),
        ("metrics.leaf_map", float("inf"), r"nothing, but scores.npz and labels.npz give 0\.\d+"),
        ("metrics.auc", 7.5, r"7.5, but scores.npz and labels.npz give 0\.\d+"),
        ("metrics.extra", 7.5, "7.5, but scores.npz and labels.npz give nothing"),
        ("metrics.classes_scored", 3, "3, but scores.npz and labels.npz give 4"),
        ("untrained.map", 7.5, "7.5, not 0 to 1"),
        ("untrained.map", DELETE, "missing"),
        ("metrics.map", DELETE, "missing"),
        ("val_score", 0.8, "0.8, but history.csv has 0.9 at step 4"),
        ("val_score", float("nan"), "nothing, but history.csv has 0.9 at step 4"),
        ("best_step", 3, None),
        ("steps", 3, "3, but best_step is 4"),
        ("floors.chance", 0.9, r"0.9, but scores.npz and labels.npz give 0\.\d+"),
        ("floors.chance", DELETE, r"nothing, but scores.npz and labels.npz give 0\.\d+"),
        ("floors.luck", 0.9, "0.9, but scores.npz and labels.npz give nothing"),
    ],
)
def test_a_number_that_the_scores_refute_is_refused(folder, bench, key, value, said):
    run = run_of(folder)
    edit(run, setting(key, value))
    line = told(bench, folder)
    if said is None:
        key, said = "val_score", "0.9, but history.csv has nothing at step 3"
    remedy = "restore run.json and scores.npz from one copy, or move the run's folder away and run the suite again"
    assert re.fullmatch(rf"{run.record_file}: damaged \({re.escape(key)}: {said}\); {remedy}", line), line
    assert not (folder / "table.md").exists()


def test_what_run_and_history_agree_on_is_still_a_score(folder, bench):
    run = run_of(folder)
    edit(run, setting("val_score", 7.5))
    run.history_file.write_text(run.history_file.read_text().replace("0.9", "7.5"))
    assert f"{run.record_file}: damaged (val_score: 7.5, not 0 to 1); " in told(bench, folder)


def test_values_by_class_are_compared_too(folder, bench):
    run = run_of(folder)
    labels = ResultsFolder(folder).labels()
    edit(run, setting("class_scores", dict.fromkeys(labels.classes, 0.25)))
    assert "damaged (class_scores.w: 0.25, but scores.npz and labels.npz give 0." in told(bench, folder)


def test_settings_that_were_changed_are_refused(folder, bench):
    run = run_of(folder)
    before = run.record().hash
    edit(run, setting("spec.recipe.learning_rate", 0.5))
    assert f"{run.record_file}: damaged (hash: {before}, but spec gives " in told(bench, folder)


def test_scores_of_another_run_are_refused(folder, bench):
    one, other = run_of(folder, "a-s0"), run_of(folder, "b-s0")
    shutil.copy(other.scores_file, one.scores_file)
    digest = f"{one.scores_file}: damaged (not the scores that run.json has the digest of (scores)); restore run.json"
    assert told(bench, folder).startswith(digest)
    # as of a run that was made before there were digests
    edit(one, setting("scores", DELETE))
    assert "(metrics." in told(bench, folder)


def test_a_copy_is_no_second_seed(folder, bench):
    one, other = run_of(folder, "a-s0"), run_of(folder, "a-s1")
    shutil.copytree(one.path, copy := folder / "a-s0-copy")
    line = told(bench, folder)
    assert f"{copy}: the same run as {one.path} (a, seed 0); move one of the two folders away" == line
    shutil.rmtree(copy)
    (folder / "a-s0-linked").symlink_to(one.path)
    assert f"{folder / 'a-s0-linked'}: the same run as {one.path} (a, seed 0)" in told(bench, folder)
    (folder / "a-s0-linked").unlink()
    # another seed's, with all that is said of it
    shutil.copy(one.scores_file, other.scores_file)
    record, of_other = (json.loads(run.record_file.read_text()) for run in (one, other))
    other.record_file.write_text(json.dumps(record | {key: of_other[key] for key in ("spec", "hash")}))
    assert told(bench, folder).startswith(f"{other.scores_file}: the same scores as {one.scores_file}, of another seed")


def test_a_model_that_does_not_listen_may_score_alike_with_every_seed(folder):
    labels = ResultsFolder(folder).labels()
    for run in ResultsFolder(folder).finished():
        scores = np.full(labels.targets.shape, 0.5, np.float32)
        metrics = evaluate(labels.targets, scores, labels.leaf)
        run.write(run.record().model_copy(update={"metrics": metrics, "class_scores": {}}), run.history(), scores, b"")
    assert write_report(folder, QUICK).scores["map_sd"].tolist() == [0.0, 0.0]


def test_labels_of_other_data_are_refused(folder, bench):
    results = ResultsFolder(folder)
    labels = results.labels()
    Labels(**vars(labels) | {"dataset": "another"}).write(results.labels_file)
    run = results.finished()[0]
    assert told(bench, folder) == (
        f"{results.labels_file}: of data another, but {run.record_file} (data.dataset) is of data; restore the "
        "labels.npz that the runs were scored on"
    )
    # of a name alone nobody can be sure
    Labels(**vars(labels) | {"targets": ~labels.targets}).write(results.labels_file)
    assert "but scores.npz and labels.npz give" in told(bench, folder)


def test_a_folder_that_was_renamed_is_told(folder):
    run = run_of(folder)
    run.path.rename(folder / "mine")
    write_report(folder, QUICK)
    caution = f"**Caution: the folder mine holds the run {run.name}: it was renamed, or changed.**"
    assert caution in (folder / "table.md").read_text()


def test_the_digest_is_of_what_was_scored(folder):
    record, run = run_of(folder).record(), run_of(folder)
    assert len(record.scores) == 64
    scores = run.scores((60, 4))
    np.savez(run.scores_file, scores=scores)
    write_report(folder, QUICK)


@pytest.mark.parametrize("kept", ["demo", "ablations"])
def test_the_kept_results_are_what_their_scores_give(kept):
    results = load_results(ROOT / "results" / kept)
    labels, checked = results.labels, 0
    for system in results.systems:
        checked += len(system.statistics(labels))
    assert checked == len(results.runs) == len(ResultsFolder(ROOT / "results" / kept).finished())


def test_to_check_a_run_of_fsd50ks_size_is_cheap():
    rng = np.random.default_rng(0)
    targets, leaf = rng.random((10_231, 200)) < 0.015, np.ones(200, bool)
    scores = rng.random(targets.shape, np.float32)
    started = time.process_time()
    evaluate(targets, scores, leaf)
    assert time.process_time() - started < 2
