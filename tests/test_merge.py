"""Results folders that become one: nothing half, nothing twice, and nothing that should not be side by side."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bench as api
from bench.errors import UserError
from bench.locks import hold
from bench.protocol import task
from bench.reporting.systems import load_results
from bench.runner.display import Display
from bench.store import PlannedContrast, ResultsFolder, RunFolder
from bench.store.files import write_arrays
from tests.test_cli import one_line
from tests.test_imports import loaded
from tests.test_two_at_once import Lines, files

KEPT = Path(__file__).parent / "format1"
QUIET = Display()
CONTRAST = PlannedContrast(name="VGG - small", weights={"vgg_like": 1.0, "transformer_small": -1.0})
SEARCH = {"title": "small", "task": "tagging", "budget": "2 trials", "space": {}, "entries": []}


def taken(results, out, *begins):
    """A folder as if only these runs had been planned and trained there."""
    names = [name for name in results.plan().planned if name.startswith(begins)]
    for name in names:
        shutil.copytree(results.path / name, out / name)
    shutil.copy(results.labels_file, out)
    part = ResultsFolder(out)
    plan = results.plan()
    part.add_to_plan(plan.title, names, plan.contrasts, sources=plan.sources)
    return part


@pytest.fixture
def whole(small_results, tmp_path):
    results = ResultsFolder(shutil.copytree(small_results, tmp_path / "whole" / "out"))
    results.add_to_plan("small", [], [CONTRAST])
    return results


@pytest.fixture
def mine(whole, tmp_path):
    return taken(whole, tmp_path / "mine", "transformer_small")


@pytest.fixture
def yours(whole, tmp_path):
    return taken(whole, tmp_path / "yours", "vgg_like")


@pytest.fixture
def out(tmp_path):
    return ResultsFolder(tmp_path / "new" / "out")


def changed(run, **values):
    """Rewrite a run with other settings, as another run would be."""
    record = run.record()
    spec = record.spec.model_copy(update=values)
    to = RunFolder(run.path.with_name(spec.folder))
    run.path.rename(to.path)
    text = record.model_copy(update={"spec": spec, "hash": spec.hash}).model_dump(mode="json")
    to.record_file.write_text(json.dumps(text))
    return to


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


# --- what comes of it


@pytest.mark.parametrize("split", [("transformer_small", "vgg_like"), (("transformer_small-s0", "vgg_like-s0"), "")])
def test_the_report_is_that_of_one_folder(bench, whole, tmp_path, out, split, monkeypatch):
    """Split by entries; or by seeds, with more in the second folder than is new."""
    if not split[1]:
        # as they are for the other split
        monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
        monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    for name, begins in zip(("mine", "yours"), split, strict=True):
        taken(whole, tmp_path / name, *([begins] if isinstance(begins, str) else begins))
    done = bench("merge", out.path, tmp_path / "mine", tmp_path / "yours")
    assert done.code == 0, done.err
    copied, there = (2, 0) if split[1] else (2, 2)
    assert done.out.splitlines() == [
        f"{tmp_path / 'mine'}: 2 runs copied, 0 were there already",
        f"{tmp_path / 'yours'}: {copied} runs copied, {there} were there already",
    ]
    assert set(out.plan().planned) == set(whole.plan().planned)
    assert out.plan().contrasts == (CONTRAST,)
    for results in (out, whole):
        assert bench("report", results.path, "--resamples", 100).code == 0
        # entry by entry, or seed by seed
        results.plan_file.unlink()
    made, expected = files(out.path), files(whole.path)
    assert made.keys() == expected.keys()
    assert [name for name in made if made[name] != expected[name]] == []
    assert "VGG - small" in made["table.md"].decode()


def test_what_is_there_is_counted_and_stays(bench, mine, yours, out):
    assert bench("merge", out.path, mine.path).code == 0
    before = files(out.path)
    done = bench("merge", out.path, mine.path)
    assert done.out == f"{mine.path}: 0 runs copied, 2 were there already\n"
    assert files(out.path) == before
    # into a folder that holds results, which is also one of those that people train in
    done = bench("merge", yours.path, mine.path, out.path)
    assert done.out.splitlines() == [
        f"{mine.path}: 2 runs copied, 0 were there already",
        f"{out.path}: 0 runs copied, 2 were there already",
    ]
    assert len(yours.finished()) == 4
    assert [name.rsplit("-s", 1)[0] for name in yours.plan().planned] == 2 * ["vgg_like"] + 2 * ["transformer_small"]


def test_only_what_is_finished_is_taken(mine, out):
    run, failed = mine.finished()
    spec = failed.record().spec
    failed.record_file.unlink()
    failed.write_failure(spec, ValueError("no memory"))
    for folder in (run, failed):
        folder.checkpoint_file.write_bytes(b"half")
        folder.path.with_name(f".{folder.name}.lock").touch()
    run.failure_file.write_text("of before")
    for name in ("checkpoint.old.pt", "scores.npz.partial", ".DS_Store"):
        (run.path / name).write_text("no")
    (run.path / "__pycache__").mkdir()
    run.write_source(b"# mine")
    run.filters_table.write_text("filter\n")
    (run.path / "notes.txt").write_text("kept")
    (mine.path / "table.md").write_text("no")
    mine.identity()
    (found,) = api.merge(out.path, mine.path, display=QUIET)
    assert (found.folder, found.copied, found.there) == (mine.path, [run.name], [])
    kept = ("run.json", "scores.npz", "history.csv", "model.safetensors", "source.py", "filters.csv", "notes.txt")
    assert set(files(out.path)) == {"suite.json", "labels.npz", *(f"{run.name}/{name}" for name in kept)}
    # as the plan has it, so that a report says that it is missing
    assert load_results(out.path).missing == (failed.name,)


def test_a_run_that_was_begun_here_is_finished_by_what_is_copied(mine, out):
    run = mine.finished()[0]
    there = RunFolder(out.path / run.name)
    there.path.mkdir(parents=True)
    there.checkpoint_file.write_bytes(b"half")
    there.failure_file.write_text("{}")
    api.merge(out.path, mine.path, display=QUIET)
    assert files(there.path) == files(run.path)


def test_a_search_is_taken_where_one_folder_has_it(bench, mine, yours, out):
    lines = pd.DataFrame({"entry": ["vgg_like"]})
    yours.write_search(SEARCH, lines, [])
    yours.best_suite.write_text("title = 'best'\n")
    yours.search_database.write_bytes(b"of one machine")
    assert bench("merge", out.path, mine.path, yours.path, yours.path).code == 0
    names = ("search.json", "trials.csv", "trials.json", "best.toml")
    assert [(out.path / name).read_bytes() for name in names] == [(yours.path / name).read_bytes() for name in names]
    assert not out.search_database.exists()
    mine.write_search({**SEARCH, "budget": "3 trials"}, lines, [])
    message = "search.json: another search than that of"
    one_line(bench("merge", out.path, mine.path), f"{message} {out.path}")
    # of a folder that has been searched for, and nothing else
    out = ResultsFolder(out.path.with_name("searched"))
    out.write_search(SEARCH, lines, [])
    one_line(bench("merge", out.path, mine.path), f"{message} {out.path}")
    assert bench("merge", out.path, yours.path).code == 0


def test_runs_of_format_1_are_taken_as_they_are(out):
    (found,) = api.merge(out.path, KEPT, display=QUIET)
    assert (len(found.copied), found.there) == (40, [])
    assert all(files(run.path) == files(KEPT / run.name) for run in out.finished())
    assert any(run.is_of_format1 for run in out.finished())
    (found,) = api.merge(out.path, KEPT, display=QUIET)
    assert (found.copied, len(found.there)) == ([], 40)
    assert out.plan() == ResultsFolder(KEPT).plan()


def test_a_renamed_folder_is_the_run_that_it_holds(mine, out):
    api.merge(out.path, mine.path, display=QUIET)
    run = out.finished()[0]
    run.path.rename(run.path.with_name("mine"))
    (found,) = api.merge(out.path, mine.path, display=QUIET)
    assert (found.copied, len(found.there)) == ([], 2)


# --- what is refused


def other_labels(mine, yours):
    arrays = dict(np.load(yours.labels_file))
    arrays["targets"][0] = ~arrays["targets"][0]
    write_arrays(yours.labels_file, arrays)
    return f"{yours.path} holds runs on other data than {mine.path} (targets in labels.npz)"


def other_data(_, yours):
    run = yours.finished()[0]
    edit(run.record_file, lambda values: values["data"].update(dataset="0123456789"))
    return f"but {run.record_file} (data.dataset) is of 01234567"


def other_pack(mine, yours):
    run = changed(yours.finished()[0], pack="0123456789")
    return f"{run.path} was trained on another pack than {mine.finished()[0].path} (fingerprints 01234567 and"


def other_task(_, yours):
    for run in yours.finished():
        changed(run, task="another")
    return "task 'another'"


def other_scores(mine, yours):
    run = mine.finished()[0]
    copy = RunFolder(shutil.copytree(run.path, yours.path / run.name))
    scores = np.load(copy.scores_file)["scores"]
    write_arrays(copy.scores_file, {"scores": scores / 2})
    return f"{copy.path}: finished in {mine.path}, too, with another scores.npz: move one of the two"


def other_numbers(mine, yours):
    run = mine.finished()[0]
    copy = RunFolder(shutil.copytree(run.path, yours.path / run.name))
    edit(copy.record_file, lambda values: values["metrics"].update(map=0.9))
    return f"{copy.path}: finished in {mine.path}, too, with another run.json"


def scores_of_another_seed(mine, yours):
    run = mine.finished()[0]
    copy = RunFolder(shutil.copytree(run.path, yours.path / run.name))
    changed(copy, seed=7)
    return "the same scores as"


def another_run_of_that_name(mine, yours):
    run, name = yours.finished()[0], mine.finished()[0].name
    run.path.rename(yours.path / name)
    return f"{yours.path / name}: another run than {mine.path / name}, in a folder of the same name"


def numbers_that_the_scores_refute(_, yours):
    run = yours.finished()[0]
    edit(run.record_file, lambda values: values["metrics"].update(map=0.5))
    return f"{run.record_file}: damaged (metrics.map: 0.5, but scores.npz"


def damaged_record(_, yours):
    run = yours.finished()[1]
    run.record_file.write_text("{")
    return f"{run.record_file}: damaged"


def damaged_scores(_, yours):
    run = yours.finished()[1]
    run.scores_file.write_bytes(run.scores_file.read_bytes()[:100])
    return f"{run.scores_file}: damaged"


def no_labels(_, yours):
    yours.labels_file.unlink()
    return f"{yours.labels_file}: missing"


def damaged_plan(_, yours):
    yours.plan_file.write_text("[]")
    return f"{yours.plan_file}: damaged"


def damaged_search(_, yours):
    yours.search_file.write_text("{}")
    return f"{yours.search_file}: damaged"


def another_contrast(mine, yours):
    yours.add_to_plan("small", [], [CONTRAST.model_copy(update={"question": "is it?"})])
    return f"{yours.plan_file}: contrast 'VGG - small' is another one than in {mine.plan_file}"


def a_link(_, yours):
    run = yours.finished()[0]
    run.weights_file.rename(yours.path / "weights")
    run.weights_file.symlink_to(yours.path / "weights")
    return f"{run.weights_file}: is a link"


def nothing_finished(_, yours):
    for run in yours.finished():
        run.record_file.unlink()
    return f"{yours.path}: no finished run in it"


def no_folder(_, yours):
    shutil.rmtree(yours.path)
    return f"{yours.path}: no such folder"


WRONG = [
    other_labels, other_data, other_pack, other_task, other_scores, other_numbers, scores_of_another_seed,
    another_run_of_that_name, numbers_that_the_scores_refute, damaged_record, damaged_scores, no_labels, damaged_plan,
    damaged_search, another_contrast, a_link, nothing_finished, no_folder,
]  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
def test_weights_come_along_whichever_copy_has_them(bench, mine, yours, out, order):
    run = mine.finished()[0]
    copy = RunFolder(shutil.copytree(run.path, yours.path / run.name))
    run.weights_file.write_bytes(b"weights")
    copy.weights_file.unlink(missing_ok=True)
    folders = (mine.path, yours.path)[::order]
    assert bench("merge", out.path, *folders).code == 0
    assert out.run(run.record().spec).weights_file.read_bytes() == b"weights"


def test_a_run_that_was_trained_twice_to_the_same_numbers_is_one_run(bench, mine, yours, out):
    run = mine.finished()[0]
    copy = RunFolder(shutil.copytree(run.path, yours.path / run.name))
    edit(copy.record_file, lambda values: values["provenance"].update(date="2026-01-01"))
    copy.history_file.write_text(copy.history_file.read_text() + "\n")
    assert f"{yours.path}: 2 runs copied, 1 were there already" in bench("merge", out.path, mine.path, yours.path).out
    assert out.run(run.record().spec).record() == run.record()


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_what_is_wrong_is_one_line_and_nothing_is_written(bench, mine, yours, out, tmp_path, wrong):
    message = wrong(mine, yours)
    before = files(tmp_path)
    for mixed in ([], ["--mixed"]):
        one_line(bench("merge", out.path, mine.path, yours.path, *mixed), message)
    assert files(tmp_path) == before
    assert not out.path.parent.exists()
    # all but what is only of those that are copied is found in the other one, too
    if wrong not in (a_link, another_run_of_that_name, no_labels, nothing_finished, no_folder):
        assert bench("merge", yours.path, mine.path).code == 2
        assert files(tmp_path) == before


def test_runs_of_two_tasks_are_not_merged(bench, mine, yours, out, monkeypatch):
    monkeypatch.setitem(task._tasks, "another", task.get_task("tagging"))
    other_task(mine, yours)
    first, second = (results.finished()[0].path for results in (mine, yours))
    one_line(bench("merge", out.path, mine.path, yours.path), f"{second} is of another task than {first}: nothing")


@pytest.mark.parametrize(
    ("part", "message"),
    [("protocol", "was made by other code (protocol) than"), ("architecture", "was made by other code (architecture)")],
)
def test_other_code_is_refused_unless_it_is_allowed(bench, whole, tmp_path, out, part, message):
    mine, yours = taken(whole, tmp_path / "mine", "vgg_like-s0"), taken(whole, tmp_path / "yours", "vgg_like-s1")
    (run,), (other,) = yours.finished(), mine.finished()
    edit(run.record_file, lambda values: values["provenance"]["source"].update({part: "other"}))
    one_line(bench("merge", out.path, mine.path, yours.path), f"{run.path} {message}")
    one_line(bench("merge", out.path, mine.path, yours.path), f"than {other.path}: leave one")
    assert not out.path.exists()
    assert bench("merge", out.path, mine.path, yours.path, "--mixed").code == 0
    assert len(out.finished()) == 2


def test_code_of_another_entry_is_its_own(bench, mine, yours, out):
    for run in yours.finished():
        edit(run.record_file, lambda values: values["provenance"]["source"].update(architecture="other"))
    assert bench("merge", out.path, mine.path, yours.path).code == 0


def test_a_folder_in_itself_and_what_is_no_folder(bench, mine, tmp_path):
    for out in (mine.path, mine.path / "all", f"{mine.path}/../mine"):
        one_line(bench("merge", out, mine.path), f"is in {mine.path}, which is to be merged into it")
    (tmp_path / "file").touch()
    one_line(bench("merge", tmp_path / "file", mine.path), "is no folder, and results need one")
    one_line(bench("merge", tmp_path / "new"), "Missing argument 'FROM...'")
    one_line(bench("merge", tmp_path / "new", mine.finished()[0].path), "no finished run in it")
    with pytest.raises(UserError, match="nothing to merge"):
        api.merge(tmp_path / "new", display=QUIET)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_said_before_anything_is_written(bench, mine, out, monkeypatch):
    monkeypatch.setattr("bench.disk.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    one_line(bench("merge", out.path, mine.path), f"{out.path}: needs ")
    assert not out.path.exists()


# --- interrupted, and two at once


def test_wherever_it_is_stopped_nothing_is_half_and_the_same_command_goes_on(bench, mine, yours, out, monkeypatch):
    copy, left = shutil.copyfile, 0

    def stop(source, to):
        nonlocal left
        if not left:
            Path(to).write_bytes(b"half")
            raise KeyboardInterrupt
        left -= 1
        copy(source, to)

    expected = files(mine.path) | files(yours.path)
    copies, stopped = len(expected) - 1, 0
    for at in range(copies):
        left = at
        with monkeypatch.context() as patch:
            patch.setattr("bench.store.merging.shutil.copyfile", stop)
            done = bench("merge", out.path, mine.path, yours.path)
        stopped += done.code == 130
        assert "the same command resumes" in done.err or done.code == 0
        there = files(out.path)
        assert not [name for name in there if name.endswith(".partial")]
        for run in out.finished():
            assert {name: content for name, content in there.items() if name.startswith(run.name)} == {
                name: content for name, content in expected.items() if name.startswith(run.name)
            }
        assert bench("merge", out.path, mine.path, yours.path).code == 0
        assert {**files(out.path), "suite.json": b""} == {**expected, "suite.json": b""}
        shutil.rmtree(out.path)
    assert stopped == copies


def test_two_at_once_take_turns(yours, out):
    out.path.mkdir(parents=True)
    waiting, done = threading.Event(), []
    lines = Lines(lambda _: waiting.set())

    def second():
        done.extend(api.merge(out.path, yours.path, display=lines))

    with out.lock("merge"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(20)
        assert out.finished() == []
    thread.join()
    assert "merge is being worked on by" in lines.lines[0]
    assert len(done[0].copied) == 2


def test_what_is_trained_here_meanwhile_is_waited_for(mine, out):
    first = mine.finished()[0]
    copy = RunFolder(out.path / first.name)
    out.path.mkdir(parents=True)
    held = hold(copy.path, "being trained")
    held.__enter__()

    def finish(_):
        shutil.copytree(first.path, copy.path)
        held.__exit__(None, None, None)

    lines = Lines(finish)
    (found,) = api.merge(out.path, mine.path, display=lines)
    assert f"{copy.path} is being trained by" in lines.lines[0]
    assert (len(found.copied), found.there) == (1, [first.name])


def test_no_torch_is_needed():
    assert "torch" not in loaded("import bench.api.merging")
