"""A results folder on disk: written whole, read back, damage in one wording, and format 1 read for good."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.errors import UserError
from bench.protocol.task import get_task
from bench.store import FORMAT, Labels, Plan, ResultsFolder, RunFolder

KEPT = Path(__file__).parent / "format1"


@pytest.fixture
def folder(small_results, tmp_path):
    copy = tmp_path / "small"
    shutil.copytree(small_results, copy)
    return copy


@pytest.fixture
def run(folder):
    return ResultsFolder(folder).finished()[0]


def test_what_is_written_is_read_back(folder, packed):
    results = ResultsFolder(folder)
    assert [run.name for run in results.finished()] == sorted(results.plan().planned)
    assert results.plan().title == "small"
    labels = results.labels()
    assert labels.dataset == packed.dataset
    assert np.array_equal(labels.targets, packed.targets("eval"))
    assert labels.classes == packed.labels
    for run in results.finished():
        record = run.record()
        assert (record.format, record.hash, run.name) == (FORMAT, record.spec.hash, record.spec.folder)
        scores = run.scores(labels.targets.shape)
        assert get_task("tagging").evaluate(labels.targets, scores, labels.leaf) == record.metrics
        assert list(run.history()) == ["step", "learning_rate", "loss", "val_score", "seconds"]
        assert results.run(record.spec) == run
    for name in ("suite.json", *(f"{run.name}/run.json" for run in results.finished())):
        assert json.loads((folder / name).read_text())["format"] == FORMAT


def test_a_folder_without_run_json_is_no_result(run):
    run.record_file.unlink()
    assert not run.is_finished
    with pytest.raises(UserError, match=r"no finished run \(no run\.json\)"):
        run.record()
    assert run not in ResultsFolder(run.path.parent).finished()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("run.json", "{"),
        ("run.json", "[]"),
        ("run.json", '{"format": 2}'),
        ("run.json", '{"spec": {}}'),
        ("run.json", '{"format": 2, "spec": {"recipe": {"max_steps": 0}}}'),
        ("scores.npz", "no zip"),
        ("history.csv", "a,b\n1,2\n"),
        ("history.csv", ""),
        ("../labels.npz", "no zip"),
        ("../suite.json", '{"title": 1}'),
        ("../suite.json", "null"),
    ],
)
def test_damage_is_told_in_one_wording_with_file_and_remedy(name, damage, run):
    path = (run.path / name).resolve()
    path.write_text(damage)
    results = ResultsFolder(run.path.parent)
    reads = (run.record, lambda: run.scores((40, 59)), run.history, results.labels, results.plan)
    errors = []
    for read in reads:
        try:
            read()
        except UserError as error:
            errors.append(str(error))
    assert len(errors) == 1
    assert errors[0].replace("\\", "/").startswith(f"{path.parent / path.name}: damaged (") or "damaged (" in errors[0]
    assert path.name in errors[0]
    remedy = "it has to be the one that the run wrote" if name == "scores.npz" else "run the suite again"
    assert errors[0].endswith(remedy)
    assert "\n" not in errors[0]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("scores.npz", "restore it from a copy; it has to be the one that the run wrote"),
        ("history.csv", "restore it from a copy, or move the run's folder away and run the suite again"),
        ("../labels.npz", "restore it from a copy, or run the suite again, which keeps finished runs"),
    ],
)
def test_a_missing_file_is_told_with_a_remedy_that_costs_no_good_run(name, remedy, run):
    path = run.path / name
    path.unlink()
    results = ResultsFolder(run.path.parent)
    with pytest.raises(UserError) as caught:
        run.scores((40, len(run.record().class_scores))), run.history(), results.labels()
    assert str(caught.value) == f"{path.resolve()}: missing; {remedy}"


def test_scores_of_other_clips_are_refused(run):
    with pytest.raises(UserError, match=r"scores\.npz: damaged \(scores of shape \(40, \d+\), but labels\.npz has"):
        run.scores((41, 59))


def test_a_later_format_is_refused(run):
    values = json.loads(run.record_file.read_text())
    run.record_file.write_text(json.dumps(values | {"format": FORMAT + 1, "more": "?"}))
    with pytest.raises(UserError, match=rf"format {FORMAT + 1}, this version reads up to {FORMAT}"):
        run.record()
    run.record_file.write_text(json.dumps(values | {"more": "?"}))
    assert run.record().hash == values["hash"], "more than this version knows of is no damage"


def test_a_failure_is_recorded_and_forgotten_when_the_run_is_done(run):
    spec, results = run.record().spec, ResultsFolder(run.path.parent)
    run.write_failure(spec, ValueError("two\nlines"))
    assert run not in results.failed(), "it was done again since"
    content = run.record_file.read_bytes()
    run.record_file.unlink()
    assert results.failed() == [run]
    assert run.failure()["error"] == "ValueError: two lines"
    assert "ValueError: two\nlines" in run.failure()["traceback"]
    run.record_file.write_bytes(content)
    run.checkpoint_file.write_bytes(b"")
    run.clean_up()
    assert not run.failure_file.exists()
    assert not run.checkpoint_file.exists()


def test_runs_are_found_by_how_their_names_begin(folder):
    results = ResultsFolder(folder)
    assert results.find("vgg_like-s0").name.startswith("vgg_like-s0-")
    with pytest.raises(UserError, match="2 runs begin like this; name one of vgg_like-s0-"):
        results.find("vgg_like")
    with pytest.raises(UserError, match="no finished run"):
        results.find("vgg")
    run = results.find("vgg_like-s0")
    run.record_file.unlink()
    with pytest.raises(UserError, match="no finished run"):
        results.find("vgg_like-s0")
    assert results.find("vgg_like-s0", finished=False) == run
    with pytest.raises(UserError, match="2 runs begin like this"):
        results.find("vgg_like", finished=False)
    with pytest.raises(UserError, match="vgg: no run; give a run folder"):
        results.find("vgg", finished=False)


def test_which_folders_are_runs(folder, run):
    assert run.is_run
    assert not RunFolder(folder).is_run
    assert not RunFolder(folder / "vgg_like-s0-01234567").is_run, "it is not there"
    renamed = RunFolder(run.path.rename(folder / "kept"))
    assert renamed.is_run
    renamed.record_file.unlink()
    assert not renamed.is_run


def test_what_is_forgotten_is_neither_missing_nor_failed(folder, run):
    results, spec, planned = ResultsFolder(folder), run.record().spec, ResultsFolder(folder).plan().planned
    run.record_file.unlink()
    run.write_failure(spec, ValueError("why"))
    assert (results.failed(), results.unfinished()) == ([run], [run.name])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "suite.json"}
    results.forget([run.name, "nothing"])
    assert (results.failed(), results.unfinished()) == ([], [])
    assert results.plan() == Plan("small", tuple(name for name in planned if name != run.name))
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "suite.json"}
    assert before == after
    # planned again, it is what it was; and without a plan, all that failed is
    results.add_to_plan("small", [run.name])
    assert results.failed() == [run]
    results.plan_file.unlink()
    assert results.failed() == [run]


def test_the_package_of_an_architecture_is_said_where_there_is_one(run):
    """A tracker knows a record by a digest of it."""
    record = run.record()
    assert "package" not in json.loads(run.record_file.read_text())["provenance"]
    assert "package" not in record.model_dump()["provenance"]
    made = record.model_copy(update={"provenance": record.provenance.model_copy(update={"package": "sounds 1.0"})})
    assert made.model_dump(mode="json")["provenance"]["package"] == "sounds 1.0"
    assert made == type(made).model_validate(made.model_dump(mode="json"))


def test_other_data_is_refused(folder, packed):
    results = ResultsFolder(folder)
    labels = results.labels()
    Labels(**{**vars(labels), "dataset": "another"}).write(results.labels_file)
    with pytest.raises(UserError, match="holds runs on other data: choose another --out"):
        results.add_labels(packed, get_task("tagging"))


# --- format 1: the kept results


def test_a_run_of_format_1_is_read_in_the_words_of_today():
    run = RunFolder(next(KEPT.glob("vgg_like-s0-*")))
    assert "format" not in json.loads(run.record_file.read_text())
    old, new = json.loads(run.record_file.read_text()), run.record()
    assert new.format == FORMAT
    assert new.spec.recipe.max_steps == old["spec"]["recipe"]["updates"]
    assert (new.spec.recipe.crops, new.spec.recipe.aggregate, new.spec.task) == ("all", "mean", "tagging")
    assert (new.val_score, new.best_step, new.steps) == (old["val_map"], old["best_update"], old["updates"])
    assert (new.floors, new.class_scores) == ({"chance": old["chance_map"]}, old["class_ap"])
    assert new.metrics == old["metrics"]
    source = old["provenance"]["source"]
    assert new.provenance.source == {"protocol": source["referee"], "architecture": source["contestant"]}
    assert list(run.history()) == ["step", "learning_rate", "loss", "val_score", "seconds"]
    labels = ResultsFolder(KEPT).labels()
    scores = run.scores(labels.targets.shape)
    again = get_task("tagging").evaluate(labels.targets, scores, labels.leaf)
    assert again == pytest.approx(new.metrics, abs=1e-12)


def test_an_unfinished_run_of_format_1_is_seen(tmp_path):
    spec = RunFolder(next(KEPT.glob("vgg_like-s0-*"))).record().spec
    old = tmp_path / "vgg_like-s0-01234567"
    old.mkdir()
    results = ResultsFolder(tmp_path)
    assert not list(results.unfinished_of_format1(spec))
    (old / "checkpoint.pt").write_bytes(b"")
    assert list(results.unfinished_of_format1(spec)) == [RunFolder(old)]


def test_searches_of_format_1_are_read(tmp_path):
    recipe = {"updates": 8, "chunks": "one", "aggregate": "scores", "loss": "bce"}
    result = {"name": "crnn", "val_map": 0.3, "params": {"mixup": 0.1}, "recipe": recipe, "config": {}}
    row = {"row": "crnn", "study": "s", "finished": 1, "pruned": 0, "failed": 0, "seconds": 1.0, "importance": {}}
    search = {"title": "t", "budget": "1 trials", "space": {}, "rows": [{**row, "default": result, "best": None}]}
    trial = {
        "number": 0,
        "spec": {"name": "crnn", "recipe": recipe},
        "val_map": 0.3,
        "history": [{"update": 4, "val_map": 0.2}],
    }
    (tmp_path / "search.json").write_text(json.dumps(search))
    (tmp_path / "trials.json").write_text(json.dumps({"trials": [trial]}))
    lines = {"row": "crnn", "trial": 0, "state": "complete", "val_map": 0.3, "best_seen": 0.3, "default": True}
    pd.DataFrame([lines | {"spent_seconds": 1.0}]).to_csv(tmp_path / "trials.csv", index=False)
    results = ResultsFolder(tmp_path)
    (entry,) = results.search()["entries"]
    assert (entry["entry"], entry["best"], entry["default"]["val_score"]) == ("crnn", None, 0.3)
    assert entry["default"]["recipe"] == {"max_steps": 8, "crops": "one_per_clip", "aggregate": "mean", "loss": "bce"}
    (read,) = results.trials()
    assert (read["val_score"], read["history"]) == (0.3, [{"step": 4, "val_score": 0.2}])
    assert {"entry", "val_score"} <= set(results.trial_lines())


def test_the_plan_keeps_what_data_are_called_and_the_themes_of_entries(tmp_path):
    results = ResultsFolder(tmp_path)
    results.plan_file.write_text('{"format": 2, "title": "old", "planned": ["a-s0-01234567"]}')
    assert (results.plan().sources, results.plan().themes) == ({}, {}), "of before they had any"
    results.add_to_plan("new", ["b-s0-01234567"], sources={"d1": "FSD50K"}, themes={"a": "depth", "b": "level"})
    results.add_to_plan("new", [], sources={"d2": "other"}, themes={"b": "input level"})
    results.forget(["b-s0-01234567"])
    assert results.plan().sources == {"d1": "FSD50K", "d2": "other"}
    assert results.plan().themes == {"a": "depth", "b": "input level"}, "the last one counts"


@pytest.mark.parametrize(("key", "value"), [("sources", ["FSD50K"]), ("themes", {"a": 1})])
def test_other_names_in_a_plan_are_damage(tmp_path, key, value):
    results = ResultsFolder(tmp_path)
    results.plan_file.write_text(json.dumps({"format": 2, "title": "old", "planned": [], key: value}))
    with pytest.raises(UserError, match=rf"^\S+suite\.json: damaged \({key}[^\n]+$"):
        results.plan()
