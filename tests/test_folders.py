"""What is on disk: one run as it is shown, the suites, and what is taken off a plan."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from bench.api import folders
from bench.reporting.systems import load_results
from bench.store import ResultsFolder, RunFolder, RunRecord
from bench.suites.suite import known_suites, load_suite, suite_path
from tests.test_cli import one_line
from tests.test_imports import loaded

KEPT = Path(__file__).parent / "format1"
SUITES = [
    "ablations", "codecs", "codes", "controlled", "demo", "factors", "generation", "long", "paper", "pretraining",
    "pretraining_small", "rates", "tuned",
]  # fmt: skip


@pytest.fixture
def results(small_results, tmp_path):
    copy = tmp_path / "small"
    shutil.copytree(small_results, copy)
    return ResultsFolder(copy)


@pytest.fixture
def run(results):
    return results.find("transformer_small-s0")


def fail(run):
    """Make of a finished run one that failed."""
    spec = run.record().spec
    run.record_file.unlink()
    run.write_failure(spec, ValueError("no memory"))


# --- show


def test_show_says_all_of_a_finished_run(bench, run):
    done = bench("show", run.path)
    assert (done.code, done.err) == (0, "")
    record = run.record()
    lines = [line.split() for line in done.out.splitlines()]
    assert done.out.startswith(f"{run.path}: finished\n")
    cost, origin = record.cost, record.provenance
    for line in (
        ["entry", "transformer_small"],
        ["seed", "0"],
        ["task", "tagging"],
        ["architecture", "transformer_small", "(transformer)"],
        ["trained", "untrained"],
        ["map", *(f"{numbers['map']:.3f}" for numbers in (record.metrics, record.untrained))],
        ["without", "learning", "mAP", f"{record.floors['chance']:.3f}", "(chance)"],
        ["lwlrap", *(f"{numbers['lwlrap']:.3f}" for numbers in (record.metrics, record.untrained))],
        ["classes_scored", *2 * [str(record.metrics["classes_scored"])]],
        ["kept", "after", str(record.best_step), "of", "4", "steps,", "val", "mAP", f"{record.val_score:.3f}"],
        ["parameters", f"{cost['parameters']:,}"],
        ["MMACs/s", "of", "a", "clip", f"{cost['macs'] / 1e6:.1f}"],
        ["ms", "a", "10", "s", "clip", f"{cost['latency_seconds'] * 1e3:.1f}"],
        ["MiB", "to", "train", f"{cost['train_memory_bytes'] / 2**20:.1f}"],
        ["date", origin.date],
        ["data", f"{record.spec.pack[:16]},", "16000", "Hz"],
        ["weights", "kept"],
        ["causal", "False", *f"† {record.spec.inferred['causal']}".split()],
        ["mlp_dim", "512", *f"† {record.spec.inferred['mlp_dim']}".split()],
        ["max_steps", "4"],
    ):
        assert line in lines, line
    assert f"  drop_rate             0.0   † {record.spec.inferred['drop_rate']}" in done.out
    run.weights_file.unlink()
    assert "not here: they stay on the machine that trained" in bench("show", run.path).out


def test_show_as_json_is_the_record(bench, run):
    done = bench("show", run.path, "--json")
    document = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert (document["folder"], document["status"]) == (str(run.path), "finished")
    assert set(document["files"]) == {path.name for path in run.path.iterdir()}
    assert RunRecord.model_validate(document) == run.record()


def test_a_run_without_some_metric_is_shown(bench, run):
    """As where no class had a clip of its own."""
    record = json.loads(run.record_file.read_text())
    record |= {"val_score": None, "floors": {"chance": None}, "metrics": record["metrics"] | {"map": None}}
    run.record_file.write_text(json.dumps(record))
    done = bench("show", run.path)
    assert (done.code, done.err) == (0, "")
    assert "  without learning      mAP - (chance)\n" in done.out
    assert f"of {record['steps']} steps, val mAP -\n" in done.out


@pytest.mark.parametrize(
    ("key", "line"), [("fingerprint", "unknown, {data[sample_rate]} Hz"), ("sample_rate", "{data[fingerprint]:.16}")]
)
def test_a_run_that_does_not_say_all_of_its_data_is_shown(bench, run, key, line):
    record = json.loads(run.record_file.read_text())
    told = line.format(**record)
    del record["data"][key]
    run.record_file.write_text(json.dumps(record))
    done = bench("show", run.path)
    assert (done.code, done.err) == (0, "")
    assert f"  {'data':22}{told}\n" in done.out


def test_a_run_may_be_named_by_how_it_begins(bench, results, run):
    assert bench("show", results.path / "transformer_small-s0").out == bench("show", run.path).out
    one_line(bench("show", results.path / "transformer_small"), "2 runs begin like this; name one of transformer_small")
    one_line(bench("show", results.path / "crnn"), "crnn: no run; give a run folder")
    one_line(bench("show", results.path), f"{results.path}: not the folder of a run")
    one_line(bench("show", results.path / "no" / "crnn"), "no run")


def test_a_run_of_format_1_is_shown(bench):
    done = bench("show", KEPT / "vgg_like-s0")
    assert done.code == 0
    assert "  max_steps             300\n" in done.out
    document = json.loads(bench("show", KEPT / "vgg_like-s0", "--json").out)
    assert document["spec"]["recipe"]["max_steps"] == 300


def test_a_failed_run_says_why(bench, results, run):
    fail(run)
    done = bench("show", results.path / "transformer_small-s0")
    assert done.code == 0
    assert done.out.startswith(f"{run.path}: failed\n")
    assert "  error                 ValueError: no memory\n" in done.out
    assert f"  traceback             {run.failure_file}\n" in done.out
    assert "  max_steps             4" in done.out
    document = json.loads(bench("show", run.path, "--json").out)
    assert (document["status"], document["error"]) == ("failed", "ValueError: no memory")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spec": {}, "error": "x"}, "spec.name: missing"),
        ({"spec": 3, "error": "x"}, "spec: Input should be a valid"),
        ({"spec": {"name": 1}, "error": "x"}, "spec.name: Input should be a valid string"),
        ({"spec": {}, "error": ["x"]}, "spec.name: missing"),
    ],
)
def test_a_damaged_failure_is_one_line(bench, run, values, message):
    run.record_file.unlink()
    run.failure_file.write_text(json.dumps(values))
    one_line(bench("show", run.path), f"{run.failure_file}: damaged ({message}")


def test_an_unfinished_run_says_how_far_it_is(bench, run):
    run.record_file.unlink()
    assert bench("show", run.path).out == f"{run.path}: unfinished, no checkpoint yet\n"
    run.checkpoint_file.write_bytes(b"damaged")
    assert bench("show", run.path).out == f"{run.path}: unfinished, no checkpoint yet\n"
    torch.save({"format": 2, "code": "of whichever", "state": {"step": 3}}, run.checkpoint_file)
    assert bench("show", run.path).out == f"{run.path}: unfinished, stopped at step 3\n"
    document = json.loads(bench("show", run.path, "--json").out)
    assert (document["status"], document["step"]) == ("unfinished", 3)


def test_a_run_of_a_task_that_is_not_loaded_is_shown(run):
    values = json.loads(run.record_file.read_text())
    values["spec"]["task"] = "of_a_plugin"
    run.record_file.write_text(json.dumps(values))
    assert "  without learning      primary metric 0." in folders.describe_run(folders.show(run.path))


def test_a_damaged_run_is_one_line(bench, run):
    run.record_file.write_text("{")
    one_line(bench("show", run.path), f"{run.record_file}: damaged")


def test_show_says_whether_the_text_of_a_plugin_was_kept(run):
    values = json.loads(run.record_file.read_text())
    values["spec"]["source"] = "0123456789abcdef"
    run.record_file.write_text(json.dumps(values))
    assert "architecture's text   not kept" in folders.describe_run(folders.show(run.path))
    run.write_source(b"import nothing_like_it\n")
    assert "architecture's text   source.py, run only by --plugin" in folders.describe_run(folders.show(run.path))
    run.source_file.unlink()
    values["provenance"]["package"] = "sounds 1.0"
    run.record_file.write_text(json.dumps(values))
    assert "architecture's text   sounds 1.0" in folders.describe_run(folders.show(str(run.path)))


# --- suites


def test_suites_are_listed_with_a_line_each(bench):
    done = bench("suites")
    assert (done.code, done.err) == (0, "")
    lines = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert list(lines) == known_suites() == SUITES
    for name, line in lines.items():
        suite = load_suite(name)
        assert suite.description
        assert line.endswith(suite.description)
        assert len(line) <= 120
    assert lines["demo"].split()[1:3] == ["all", "1"]
    assert lines["ablations"].split()[1:3] == [str(len(load_suite("ablations").runs)), "5"]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", "all"),
        ('architectures = ["crnn", "vgg_like"]', "2"),
        ('[[runs]]\nname = "x"\narchitecture = "crnn"', "1"),
        ('architectures = "all"\n[[runs]]\nname = "x"\narchitecture = "crnn"', "all + 1"),
        ("[grid]\ntrain.mixup = [0.0, 0.1]\nconfig.depth = [1, 2, 3]", "all x 6"),
        ('architectures = ["crnn", "vgg_like"]\n[grid]\ntrain.mixup = [0.0, 0.1]', "4"),
    ],
)
def test_entries_are_counted(tmp_path, monkeypatch, text, entries):
    monkeypatch.setattr("bench.suites.suite._SUITES", tmp_path)
    (tmp_path / "mine.toml").write_text(f'title = "mine"\n{text}\n')
    (suite,) = folders.list_suites()
    assert (suite.name, suite.entries, suite.seeds, suite.description) == ("mine", entries, 1, "")


def test_a_suite_is_shown_as_it_is_declared(bench, small_suite):
    for name in ("paper", suite_path("paper"), small_suite):
        done = bench("suites", "show", name)
        assert (done.code, done.err, done.out) == (0, "", suite_path(name).read_text())
    one_line(
        bench("suites", "show", "papers"),
        f"no suite 'papers' (did you mean 'paper'?): use one of {', '.join(SUITES)}",
    )
    small_suite.write_text("title =")
    one_line(bench("suites", "show", small_suite), "not valid TOML")


@pytest.mark.parametrize("arguments", [["suites"], ["suites", "show", "demo"], ["show", str(KEPT / "crnn-s0")]])
def test_no_torch_is_needed(arguments):
    code = f"""
import contextlib, io
sys.argv = ["bench", *{arguments!r}]
import bench.cli
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    bench.cli.main()
"""
    assert "torch" not in loaded(code)


@pytest.mark.parametrize("command", ["show", "forget", "suites", "suites show"])
def test_every_command_has_help(bench, command):
    done = bench(*command.split(), "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: bench {command}")


# --- forget


def test_what_is_forgotten_is_out_of_the_report(bench, results, run):
    fail(run)
    shutil.rmtree(results.find("vgg_like-s1").path)
    before = load_results(results.path)
    assert (before.failed, [name[:11] for name in before.missing]) == ((run.name,), ["vgg_like-s1"])
    done = bench("forget", results.path / "transformer_small", results.path / "vgg_like")
    assert done.code == 0
    assert done.out.splitlines() == [f"{results.path}: no longer planned: {run.name}, {before.missing[0]}"]
    stay = ", ".join(results.find(name).name for name in ("transformer_small-s1", "vgg_like-s0"))
    assert sorted(stay.split(", ")) == sorted(done.err.split("stay: ")[1].split(";")[0].split(", "))
    after = load_results(results.path)
    assert (after.failed, after.missing) == ((), ())
    assert run.failure_file.is_file()
    assert len(results.finished()) == 2


def test_a_single_run_or_seed_is_forgotten(bench, results, run):
    runs = [run, results.find("transformer_small-s1")]
    for each in runs:
        each.record_file.unlink()
    assert bench("forget", f"{run.path}/").code == 0
    assert results.unfinished() == [runs[1].name]
    assert [found.runs for found in folders.forget(str(results.path / "transformer_small-s1"))] == [[runs[1].name]]
    assert results.unfinished() == []


def test_what_cannot_be_forgotten_is_one_line_and_nothing_is_written(bench, results, run, tmp_path):
    run.record_file.unlink()
    before = results.plan_file.read_bytes()
    command = ("forget", run.path)
    one_line(bench(*command, results.path / "vgg"), f"vgg: nothing planned is called so; unfinished are: {run.name}")
    one_line(bench(*command, results.path / "vgg_like"), "vgg_like: all its runs are finished, and stay")
    one_line(bench(*command, tmp_path / "no" / "crnn"), "no results folder with a plan (suite.json)")
    assert results.plan_file.read_bytes() == before
    results.plan_file.write_text("{")
    one_line(bench(*command), f"{results.plan_file}: damaged")
    results.plan_file.unlink()
    one_line(bench(*command), "no results folder with a plan (suite.json)")


def test_a_grids_entries_are_forgotten_one_by_one(bench, tmp_path):
    results = ResultsFolder(tmp_path)
    planned = ["crnn-s0-00000000", "crnn-depth_3-s0-00000001", "crnn-s1-00000002"]
    results.add_to_plan("grid", planned)
    assert bench("forget", tmp_path / "crnn").code == 0
    assert results.plan().planned == (planned[1],)
    assert not RunFolder(tmp_path / planned[1]).is_run
