"""Damaged and hostile files of a results folder: one line with file and remedy, at once and in little memory."""

import copy
import io
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UserError
from bench.reporting.figures.search import draw_search
from bench.reporting.report import Sampling, write_report
from bench.stats.ranking import RankedRun
from bench.store import ResultsFolder, RunFolder
from bench.store.files import read_arrays, read_table, write_table
from tests.test_contrasts import write_results

KEPT = Path(__file__).parent / "format1"
RUN = "restore it from a copy, or move the run's folder away and run the suite again"
SCORES = "restore it from a copy; it has to be the one that the run wrote"
SUITE = "restore it from a copy, or move it away and run the suite again"
SEARCH = "restore it from a copy, or move it away and run the search again"
# as deep as no file of ours, and as deep as no parser goes
NESTED = [
    "[" * 3_000 + "]" * 3_000,
    '{"format": 2, "x": ' + "[" * 200 + "]" * 200 + "}",
    '{"a":' * 3_000 + "1" + "}" * 3_000,
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    strengths = {"a": ("cnn", 2.0, 0.9), "b": ("transformer", 1.0, 0.7)}
    results = write_results(tmp_path_factory.mktemp("damage") / "out", strengths, seeds=(0, 1), clips=60)
    results.add_to_plan("damage", [run.name for run in results.finished()])
    return results.path


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def run(folder):
    return ResultsFolder(folder).find("a-s0")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Without figures, which take seconds."""
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_ensembles", lambda results, found: {})


def told(bench, folder):
    done = bench("report", folder, "--resamples", 100)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1), done
    return done.err.removeprefix("bench: error: ").strip()


# --- files of any kind


FILES = {"run.json": RUN, "scores.npz": SCORES, "history.csv": RUN, "../labels.npz": SUITE, "../suite.json": SUITE}


@pytest.mark.parametrize(("name", "remedy"), FILES.items())
def test_an_empty_file_is_told(bench, run, name, remedy):
    path = (run.path / name).resolve()
    path.write_bytes(b"")
    line = told(bench, run.path.parent)
    assert line.startswith(f"{path}: damaged (")
    assert line.endswith(f"); {remedy}")


@pytest.mark.parametrize(("name", "remedy"), FILES.items())
def test_what_is_no_plain_file_is_not_waited_for(bench, run, name, remedy):
    path = (run.path / name).resolve()
    path.unlink()
    os.mkfifo(path)
    assert told(bench, run.path.parent) == f"{path}: damaged (not a plain file); {remedy}"
    path.unlink()
    path.mkdir()
    assert told(bench, run.path.parent) == f"{path}: damaged (not a plain file); {remedy}"
    path.rmdir()
    path.symlink_to("/dev/zero")
    assert told(bench, run.path.parent) == f"{path}: damaged (not a plain file); {remedy}"


@pytest.mark.parametrize("text", NESTED)
@pytest.mark.parametrize("name", ["run.json", "../suite.json", "../search.json"])
def test_nested_json_is_told(bench, run, name, text):
    path = (run.path / name).resolve()
    path.write_text(text)
    remedy = {"run.json": RUN, "../search.json": SEARCH}.get(name, SUITE)
    line = told(bench, run.path.parent)
    assert line in (f"{path}: damaged (nested too deeply); {remedy}", f"{path}: damaged (not a JSON object); {remedy}")


def test_half_a_character_is_told_where_it_would_be_hashed(bench, folder, run):
    values = json.loads(run.record_file.read_text())
    values["provenance"]["command"] = "bench run \udcff"
    run.record_file.write_text(json.dumps(values))
    write_report(folder, Sampling(100))
    assert r"bench run \xff" in (folder / "table.md").read_text()
    values["spec"]["name"] = "\ud800"
    run.record_file.write_text(json.dumps(values))
    assert "(spec: half of a surrogate pair, which is no character)" in told(bench, folder)


@pytest.mark.parametrize("name", ["run.json", "../suite.json", "history.csv"])
def test_text_that_is_not_utf8_is_told(bench, run, name):
    path = (run.path / name).resolve()
    path.write_bytes(path.read_bytes().replace(b"a", b"\xff"))
    assert "can't decode byte 0xff" in told(bench, run.path.parent)


def test_a_results_folder_that_is_none(bench, run):
    assert told(bench, run.record_file) == f"{run.record_file}: no folder; `bench run` makes one"
    assert told(bench, run.path / "nothing") == f"{run.path / 'nothing'}: no such folder; `bench run` makes one"


def test_a_link_to_a_run_elsewhere_is_that_run(folder, run, tmp_path):
    before = write_report(folder, Sampling(100)).markdown
    shutil.move(run.path, tmp_path / run.name)
    run.path.symlink_to(tmp_path / run.name)
    assert write_report(folder, Sampling(100)).markdown == before


def test_names_that_are_not_utf8_are_shown(folder, tmp_path, bench):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe4sults"))
    folder.rename(odd)
    (odd / "suite.json").unlink()
    done = bench("report", odd, "--resamples", 100)
    assert done.code == 0, done.err
    assert (odd / "table.md").read_text().startswith("# r\\\\xe4sults\n")


# --- run.json


def paths(values, within=()):
    for key, value in values.items():
        yield (*within, key)
        if isinstance(value, dict) and key not in ("config", "metrics", "untrained", "versions", "floors"):
            yield from paths(value, (*within, key))


# these may be missing from older runs, or were not measured everywhere
OPTIONAL = {
    *("spec.task", "spec.task_settings", "spec.fold", "spec.init", "spec.source", "spec.second_hand", "spec.inferred"),
    *("spec.base", "spec.question", "spec.inferred.n_fft", "spec.inferred.drop_rate", "cost.macs"),
    *("cost.train_memory_bytes", "cost.latency_seconds", "data.sample_rate", "data.fingerprint", "provenance.threads"),
    *("provenance.source.protocol", "provenance.source.architecture", "spec.recipe.compile", "spec.rescores", "scores"),
    *("spec.recipe.short_clips", "spec.recipe.top_k", "spec.recipe.last_chunk_weight", "spec.recipe.freeze"),
    "spec.recipe.label_share",
}


def test_every_key_that_is_missing_or_mistyped_is_named(tmp_path):
    run = RunFolder(tmp_path)
    whole = RunFolder(next(KEPT.glob("vgg_like-s0-*"))).record().model_dump(mode="json")
    whole["class_scores"], whole["scores"] = {}, "0"
    required = [path for path in paths(whole) if path[0] != "published" and ".".join(path) not in OPTIONAL]
    assert len(required) > 45
    for path in required:
        for value in (None, [], True, "x", {"x": "y"}):
            values = copy.deepcopy(whole)
            inner = values
            for key in path[:-1]:
                inner = inner[key]
            allowed = type(inner[path[-1]])
            if value is None:
                del inner[path[-1]]
            elif type(value) is allowed:
                continue
            else:
                inner[path[-1]] = value
            run.record_file.write_text(json.dumps(values))
            # a value that may be none is here, for instance, one of text
            if ".".join(path) in ("provenance.commit", "spec.recipe.loss", "hash") and isinstance(value, str):
                continue
            with pytest.raises(UserError) as caught:
                run.record()
            name = re.escape(".".join(path))
            assert re.fullmatch(rf"{run.record_file}: damaged \({name}[^\n]*\); {RUN}", str(caught.value)), (
                path,
                value,
            )


def test_a_start_that_only_the_spec_knows_is_named(tmp_path):
    run = RunFolder(tmp_path)
    values = RunFolder(next(KEPT.glob("vgg_like-s0-*"))).record().model_dump(mode="json")
    values["spec"]["init"] = "0" * 8
    run.record_file.write_text(json.dumps(values))
    with pytest.raises(UserError) as caught:
        run.record()
    reason = r"init: missing, of a run that started from the weights of 00000000 \(spec.init\)"
    assert re.fullmatch(rf"{run.record_file}: damaged \({reason}\); {RUN}", str(caught.value))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("cost.parameters", "Input should be"),
        ("cost.macs", "too large"),
        ("metrics.auc", "too large"),
    ],
)
@pytest.mark.parametrize("value", [10**400, 1e308])
def test_a_number_without_end_is_told(bench, folder, run, key, reason, value):
    """Of two of the largest there is no mean."""
    values = json.loads(run.record_file.read_text())
    part, name = key.split(".")
    values[part][name] = value
    run.record_file.write_text(json.dumps(values))
    assert f"{run.record_file}: damaged ({key}: {reason}" in told(bench, folder)


def test_keys_of_format_1_are_named_as_they_are_there(tmp_path):
    run = RunFolder(tmp_path)
    whole = json.loads((next(KEPT.glob("vgg_like-s0-*")) / "run.json").read_text())
    for key in ("spec", "hash", "family", "metrics", "untrained", "chance_map", "val_map", "best_update", "updates"):
        run.record_file.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(UserError, match=rf"damaged \({key}: missing\)"):
            run.record()
        run.record_file.write_text(json.dumps(whole | {key: [1]}))
        with pytest.raises(UserError, match=rf"damaged \({key}"):
            run.record()


def test_what_does_not_exist_is_null_on_disk_and_read_back(run):
    record = run.record()
    metrics = record.metrics | {"leaf_map": float("nan"), "mean_dprime": float("inf")}
    odd = record.model_copy(update={"metrics": metrics, "val_score": float("nan")})
    run.write(odd, run.history(), run.scores((60, 4)), b"")
    text = run.record_file.read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"]["leaf_map"] is None
    again = run.record()
    assert (again.metrics["leaf_map"], again.metrics["mean_dprime"]) == (None, None)
    assert np.isnan(again.val_score)
    # as earlier versions wrote it
    values = json.loads(text)
    metrics = {name: float("nan") if value is None else value for name, value in values["metrics"].items()}
    run.record_file.write_text(json.dumps(values | {"metrics": metrics, "val_score": float("inf")}))
    assert run.record().metrics == again.metrics
    assert np.isnan(run.record().val_score)


# --- suite.json


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"planned": "a-s0"}, "planned: Input should be a valid list"),
        ({"planned": {"a": 1}}, "planned: Input should be a valid list"),
        ({"planned": [1]}, "planned.0: Input should be a valid string"),
        ({"planned": ["a-s0-01234567", "../other"]}, "planned.1: '../other' is no name of a run's folder"),
        ({"planned": ["/etc"]}, "planned.0: '/etc' is no name of a run's folder"),
        ({"planned": [".."]}, "planned.0: '..' is no name of a run's folder"),
        ({"planned": ["a\0b"]}, r"planned.0: 'a\x00b' is no name of a run's folder"),
        ({"title": 1}, "title: Input should be a valid string"),
        ({"title": None}, "title: Input should be a valid string"),
    ],
)
def test_a_damaged_plan_is_told(bench, folder, change, reason):
    path = folder / "suite.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert told(bench, folder) == f"{path}: damaged ({reason}); {SUITE}"


@pytest.mark.parametrize("key", ["title", "planned"])
def test_what_a_plan_lacks_is_named(bench, folder, key):
    path = folder / "suite.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != key}))
    assert told(bench, folder) == f"{path}: damaged ({key}: missing); {SUITE}"


def test_every_key_of_a_search_is_named(bench, folder):
    result = {"name": "a", "val_score": 0.3, "params": {"mixup": 0.1}, "recipe": {}, "config": {}}
    numbers = {"finished": 1, "pruned": 0, "failed": 0, "seconds": 1.0, "importance": {}}
    whole = {"format": 2, "title": "t", "task": "tagging", "budget": "1 trials", "space": {}}
    path = folder / "search.json"
    for name in ("title", "task", "budget", "space", "entries"):
        content = whole | {"entries": []}
        path.write_text(json.dumps({key: value for key, value in content.items() if key != name}))
        assert told(bench, folder) == f"{path}: damaged ({name}: missing); {SEARCH}"
    path.write_text(json.dumps(whole | {"entries": []}))
    (folder / "trials.csv").write_text("trial,state,best_seen,default,spent_seconds,entry,val_score\n")
    assert bench("report", folder, "--resamples", 100).code == 0
    entry = {"entry": "a", **numbers, "default": result, "best": None}
    for name in entry:
        content = {key: value for key, value in entry.items() if key != name}
        path.write_text(json.dumps(whole | {"entries": [content]}))
        assert told(bench, folder) == f"{path}: damaged (entries.0.{name}: missing); {SEARCH}"
    path.write_text(json.dumps(whole | {"entries": [entry | {"best": result | {"mean_val_score": "x"}}]}))
    wrong = "entries.0.best.mean_val_score: should be a number or null"
    assert told(bench, folder) == f"{path}: damaged ({wrong}); {SEARCH}"


@pytest.mark.parametrize("wrong", [{"spec": {}}, {"spec": None}, {"val_score": "x"}, {"cost": {}}, {"cost": None}])
def test_a_trial_that_budgets_cannot_be_counted_of_is_named(folder, wrong):
    results = ResultsFolder(folder)
    search = {"title": "t", "task": "tagging", "budget": "1 trials", "space": {}, "entries": []}
    results.search_file.write_text(json.dumps({"format": 2} | search))
    results.trials_table.write_text(
        "entry,trial,state,best_seen,default,spent_seconds,val_score\na,0,complete,0.5,True,1,0.5\n"
    )
    trial = {"spec": {"name": "a"}, "val_score": 0.5, "cost": {"seconds": 1.0}} | wrong
    results.trials_file.write_text(json.dumps({"format": 2, "trials": [trial]}))
    with pytest.raises(
        UserError, match=r"trials\.json: damaged \(a trial without spec, val_score or cost\); restore it"
    ):
        draw_search(results)


@pytest.mark.parametrize("name", ["1", "007", "NA", "null", "1e3", "True"])
def test_an_entry_is_called_as_it_is_called(folder, name):
    results = ResultsFolder(folder)
    columns = "trial,state,best_seen,default,spent_seconds,val_score"
    results.trials_table.write_text(f"entry,{columns}\n{name},0,complete,0.5,True,1.0,0.5\n")
    assert results.trial_lines()["entry"].tolist() == [name]
    results.trials_table.write_text(f"entry,{columns}\n,0,complete,0.5,True,1.0,0.5\n")
    with pytest.raises(UserError, match=r"trials\.csv: damaged \(entry: missing\)"):
        results.trial_lines()


@pytest.mark.parametrize("which", ["default", "best"])
def test_a_search_that_its_trials_refute_is_refused(bench, folder, which):
    entry = {"entry": "a", "study": "a-0", "finished": 2, "pruned": 0, "failed": 0, "seconds": 1.0, "importance": {}}
    scored = {"name": "a", "params": {"mixup": 0.1}, "recipe": {}, "config": {}}
    results = {"default": scored | {"val_score": 0.3}, "best": scored | {"val_score": 0.5}}
    whole = {"format": 2, "title": "t", "task": "tagging", "budget": "2 trials", "space": {}}
    path = folder / "search.json"
    trials = [
        {"study": study, "number": n, "val_score": v}
        for study, n, v in (("a-0", 0, 0.3), ("a-0", 1, 0.5), ("b-0", 0, 0.9))
    ]
    (folder / "trials.json").write_text(json.dumps({"format": 2, "trials": trials}))
    (folder / "trials.csv").write_text("trial,state,best_seen,default,spent_seconds,entry,val_score\n")
    path.write_text(json.dumps(whole | {"entries": [entry | results]}))
    assert bench("report", folder, "--resamples", 100).code == 0
    for value in (7.5, 0.9, 0.3 if which == "best" else 0.4):
        wrong = results | {which: results[which] | {"val_score": value}}
        path.write_text(json.dumps(whole | {"entries": [entry | wrong]}))
        said = (
            f"entries.a.{which}.val_score: {value}, but trials.json has {'0.5' if which == 'best' else 'no such trial'}"
        )
        assert told(bench, folder) == f"{path}: damaged ({said}); {SEARCH}"


# --- arrays


def npz(path, **members):
    """Write an .npz of members as bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def array(shape, dtype="<f4", data=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_ends_the_report_and_no_hang(bench, folder, run, value):
    scores = run.scores((60, 4))
    scores[3, 2] = value
    np.savez_compressed(run.scores_file, scores=scores)
    line = f"{run.scores_file}: damaged (1 of 240 scores are not finite); {SCORES}"
    assert told(bench, folder) == line
    assert line in bench("compare", folder / "a", folder / "b", "--resamples", 100).err
    with pytest.raises(ValueError, match="scores that are not finite"):
        RankedRun(scores, scores > 0.5)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (array((100_000, 100_000)), "its arrays would take 40.0 GB"),
        (array((-1, 4)), "scores: no plain array"),
        (array((60, 4)), "cannot reshape array|EOF|expected"),
        (array((60, 4), "|O"), "scores: no plain array"),
        (array((60, 4), "<i4", bytes(960)), "scores of type int32, not float32"),
        (array((60, 4), "<f2", bytes(480)), "scores of type float16, not float32"),
        (array((60, 4), "<f4", bytes(960)) + b"more", "scores: longer than it says"),
        (array((60, 4), "<f4", bytes(960))[:40], "."),
        (b"", "."),
        (b"\x93NUMPY\x09\x00" + bytes(100), r"scores: an array of version \(9, 0\)"),
    ],
)
def test_arrays_are_read_by_their_header_first(bench, folder, run, content, reason):
    npz(run.scores_file, scores=content)
    line = told(bench, folder)
    assert re.fullmatch(rf"{run.scores_file}: damaged \(.*({reason}).*\); {SCORES}", line), line


def test_a_small_file_of_a_large_array_is_not_unpacked(tmp_path):
    """100 MB of zeros are 100 kB in the file."""
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(array((25_000_000,)))
        for _ in range(100):
            member.write(bytes(1_000_000))
    with pytest.raises(UserError, match=r"its arrays would take 0\.1 GB"):
        read_arrays(tmp_path / "x.npz", "x")


def test_scores_of_another_byte_order_are_the_same(bench, folder, run):
    np.savez(run.scores_file, scores=run.scores((60, 4)).astype(">f4"))
    assert bench("report", folder, "--resamples", 100).code == 0


def test_a_changed_byte_is_noticed(run):
    content = bytearray(run.scores_file.read_bytes())
    content[len(content) // 2] ^= 1
    run.scores_file.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        run.scores((60, 4))


def test_every_byte_may_be_another(run):
    """Whatever is changed or cut off, it is the same or one line."""
    rng = np.random.default_rng(0)
    shape = (60, 4)
    whole, scores = run.scores_file.read_bytes(), run.scores(shape)
    for _ in range(300):
        content = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole)
        for _ in range(int(rng.integers(0, 4))):
            content[rng.integers(len(content))] = rng.integers(256)
        run.scores_file.write_bytes(content)
        try:
            read, line = run.scores(shape), None
        except UserError as error:
            read, line = scores, str(error)
        assert np.array_equal(read, scores)
        assert line is None or re.fullmatch(rf"{run.scores_file}: damaged \([^\n]*\); [^\n]*", line)


# --- tables


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("step,val_score\n4,much\n", "val_score: not all numbers"),
        ("step,val_score\n", "step: missing|not all numbers"),
        ("step,val_score\n,0.5\n", "step: missing"),
        ("step\n4\n", "without val_score"),
        ("step,val_score\n4,0.5,6,7\n1,2,3,4,5,6\n", "."),
        ("\0" * 100, "."),
    ],
)
def test_a_damaged_history_is_told(bench, folder, run, text, reason):
    run.history_file.write_text(text)
    line = told(bench, folder)
    assert re.fullmatch(rf"{run.history_file}: damaged \(.*({reason}).*\); {RUN}", line), line


def test_text_that_looks_like_a_formula_survives_a_table(tmp_path):
    import pandas as pd

    table = pd.DataFrame({"text": ["=1+1", "-x", "@a", "plain", None], "number": [-1.5, 2.0, np.nan, -0.0, 1e-9]})
    write_table(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text().splitlines()[1:4] == ["'=1+1,-1.5", "'-x,2.0", "'@a,"]
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv", "text"), table)
