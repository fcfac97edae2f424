"""Runs and suites from the command: whole folders, skipped, failed, killed and resumed."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from architectures._registry import forget
from bench.data.pack import Pack
from bench.data.packing import pack
from bench.data.synthetic.demo import write_demo
from bench.protocol import evaluate, metrics
from bench.protocol.checkpoint import Checkpoint
from bench.store import ResultsFolder
from bench.suites.plan import plan
from bench.suites.suite import load_suite
from tests.conftest import SMALL_SUITE, TINY, no_tables
from tests.test_cli import one_line


@pytest.fixture(scope="module")
def packed_22050(dataset):
    return pack(dataset, dataset.with_name("demo-22050"), sample_rate=22_050)


@pytest.fixture
def no_report(monkeypatch):
    """Figures take longer than runs as small as these."""
    monkeypatch.setattr("bench.api.runs.report", no_tables)


def only_run(out):
    (path,) = out.glob("*/run.json")
    return path.parent, json.loads(path.read_text())


def test_a_suite_ends_in_whole_run_folders_and_a_table(bench, small_suite, packed, tmp_path, request):
    out = tmp_path / "out"
    done = bench("run", small_suite, "--data", packed.folder, "--out", out)
    assert done.code == 0
    folders = [path.parent for path in out.glob("*/run.json")]
    assert len(folders) == 4
    labels = np.load(out / "labels.npz")
    np.testing.assert_array_equal(labels["targets"], packed.targets("eval"))
    for folder in folders:
        assert {f.name for f in folder.iterdir()} == {"run.json", "history.csv", "scores.npz", "model.safetensors"}
        run = json.loads((folder / "run.json").read_text())
        scores = np.load(folder / "scores.npz")["scores"]
        assert scores.dtype == np.float32
        assert metrics.evaluate(labels["targets"], scores, labels["leaf"]) == run["metrics"]
        ap = metrics.average_precision(labels["targets"], scores)
        assert run["class_scores"] == {str(c): a for c, a in zip(labels["classes"], ap, strict=True) if np.isfinite(a)}
        assert run["floors"] == {"chance": pytest.approx(metrics.chance_map(labels["targets"]))}
        assert folder.name == f"{run['spec']['name']}-s{run['spec']['seed']}-{run['hash']}"
        assert run["provenance"]["command"].startswith("bench run")
        assert run["published"]["map"] in (0.469, 0.434)
        assert len((folder / "history.csv").read_text().splitlines()) == 3
        assert sum(w.size for n, w in load_file(folder / "model.safetensors").items()) >= run["cost"]["parameters"]
        assert f"| {run['spec']['name']}" in done.out
    shown = [line for line in done.out.splitlines() if line.startswith("|")]
    assert shown
    assert set(shown) <= set((out / "table.md").read_text().splitlines())

    before = {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}
    request.getfixturevalue("no_report")
    again = bench("run", small_suite, "--data", packed.folder, "--out", out)
    assert again.code == 0
    assert "4 of 4 runs were finished before" in again.err
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}


def test_a_failed_run_is_recorded_and_the_others_are_run(bench, packed, tmp_path, request):
    suite = tmp_path / "diverging.toml"
    diverging = "[family.transformer.train]\nlearning_rate = 1e30\n"
    suite.write_text(SMALL_SUITE.replace("seeds = 2", "seeds = 1") + diverging)
    out = tmp_path / "out"
    arguments = ("run", suite, "--data", packed.folder, "--out", out, "--set", "train.warmup=0.0")
    done = bench(*arguments)
    assert done.code == 1
    assert "try a lower learning rate" in done.err
    (failed,) = out.glob("*/failed.json")
    record = json.loads(failed.read_text())
    assert failed.parent.name.startswith("transformer_small-s0-")
    assert "TrainingDiverged" in record["error"]
    assert "Traceback" in record["traceback"]
    assert only_run(out)[1]["spec"]["name"] == "vgg_like"
    assert f"failed: {failed.parent.name}" in (out / "table.md").read_text()

    # not counted as done: tried again, and with a better recipe no longer in the way
    request.getfixturevalue("no_report")
    assert bench(*arguments).code == 1
    assert bench(*arguments, "--set", "train.learning_rate=1e-3").code == 0


@pytest.mark.usefixtures("no_report")
def test_set_precision_only_and_seeds_reach_the_runs(bench, small_suite, packed, tmp_path):
    arguments = ("--only", "transformer_notes", "--seeds", 1, "--precision", "bf16", "--set", "train.max_steps=3")
    assert bench("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out", *arguments).code == 0
    _, run = only_run(tmp_path / "out")
    assert run["spec"]["architecture"] == "transformer_notes"
    assert (run["spec"]["recipe"]["precision"], run["spec"]["recipe"]["max_steps"]) == ("bf16", 3)


def test_each_point_of_a_grid_is_a_system_of_its_own(bench, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    suite, out = tmp_path / "grid.toml", tmp_path / "out"
    grid = "[grid]\ntrain.learning_rate = [1e-4, 1e-3]\nconfig.mlp_dim = [32]\n"
    small = (
        SMALL_SUITE.replace(', "vgg_like"', "").replace("seeds = 2", "seeds = 1").replace("learning_rate = 1e-3", "")
    )
    suite.write_text(small + grid)
    command = ("run", suite, "--data", packed.folder, "--out", out)
    done = bench(*command)
    assert done.code == 0, done.err
    names = [f"transformer_small-learning_rate_{rate}-mlp_dim_32" for rate in ("0.0001", "0.001")]
    assert {path.parent.name.rpartition("-s0-")[0] for path in out.glob("*/run.json")} == set(names)
    table = (out / "table.md").read_text()
    assert all(f"| {name} †‡ |" in table for name in names)
    one_line(bench(*command, "--set", "train.learning_rate=0.1"), "has a [grid] over train.learning_rate")


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_run_ends_in_the_same_numbers(bench, packed, tmp_path, precision):
    """SIGKILL at several moments, of processes of their own: bitwise the same scores as without."""
    suite = tmp_path / "killed.toml"
    suite.write_text(SMALL_SUITE.replace("seeds = 2", "seeds = 1").replace("max_steps = 4", "max_steps = 60"))

    def command(out):
        options = ["--only", "transformer_small", "--set", "train.evaluations=12", "--precision", precision]
        return ["run", suite, "--data", packed.folder, "--out", out, *options]

    assert bench(*command(tmp_path / "whole")).code == 0
    whole, expected = only_run(tmp_path / "whole")

    out = tmp_path / "killed"
    kills = 0
    for checkpoints in (1, 3):
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([sys.executable, "-m", "bench", *command(out)], **silent)
        seen, deadline = set(), time.monotonic() + 120
        while process.poll() is None and len(seen) < checkpoints and time.monotonic() < deadline:
            seen |= {path.stat().st_mtime_ns for path in out.glob("*/checkpoint.pt")}
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert not list(out.glob("*/run.json"))
    assert kills == 2
    done = bench(*command(out))
    assert (done.code, "kept as checkpoint.old.pt" in done.err) == (0, False), done.err
    resumed, run = only_run(out)
    for key in ("metrics", "untrained", "val_score", "best_step", "hash"):
        assert run[key] == expected[key]
    np.testing.assert_array_equal(np.load(whole / "scores.npz")["scores"], np.load(resumed / "scores.npz")["scores"])
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert not list(out.glob("*/checkpoint.pt"))


def test_ctrl_c_ends_cleanly(bench, small_suite, packed, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "score_clips", interrupt)
    done = bench("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out")
    assert done.code == 130
    assert "the same command resumes from here" in done.err
    assert not list((tmp_path / "out").glob("*/run.json"))
    assert not list((tmp_path / "out").glob("*/failed.json"))


def test_the_paper_suite_runs_each_at_its_own_sample_rate_and_footnotes_what_it_assumes(
    bench, packed, packed_22050, tmp_path
):
    packs = ("--data", packed.folder, "--data", packed_22050.folder)
    only = ("--only", "vgg_like", "--only", "transformer_small")
    short = ("--set", "train.max_steps=2", "--set", "train.evaluations=1", "--set", "train.batch_size=4")
    done = bench("run", "paper", *packs, *only, *short, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    read = [json.loads(path.read_text()) for path in tmp_path.glob("out/*/run.json")]
    runs = {run["spec"]["name"]: run for run in read}
    assert runs["vgg_like"]["data"]["sample_rate"] == 22_050
    assert runs["vgg_like"]["spec"]["recipe"]["loss"] == "bce"
    assert runs["transformer_small"]["data"]["sample_rate"] == 16_000
    assert runs["transformer_small"]["spec"]["recipe"]["loss"] == "huber"
    assert "| transformer_small †‡ |" in done.out
    table = (tmp_path / "out/table.md").read_text()
    rate = "- `train.learning_rate = 0.0005`"
    assert f"{rate}: found in no account of arXiv:2105.00335v1 (transformer_small)" in table
    assert f"{rate}: github.com/marc1701/fsd_fed, 'same as FSD benchmark'" in table
    assert "- `sample_rate = 22050`: github.com/SarthakYadav/fsd50k-pytorch" in table
    assert "- `train.short_clips = repeat`: repeated, as those of arXiv:2010.00475 are" in table
    # what the user set is nobody's inference
    assert "`train.max_steps" not in table


def test_a_suite_needs_a_pack_of_every_sample_rate(bench, packed, tmp_path):
    done = bench("run", "paper", "--data", packed.folder, "--out", tmp_path / "out")
    assert done.code == 2
    assert "crnn needs a pack at 22050 Hz" in done.err
    assert "bench data pack DIR --out PACK --sample-rate 22050" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_report")
def test_demo_brings_its_own_data(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write_few(folder, **options):
        write_demo(folder, dev_clips=80, eval_clips=40, **options)

    monkeypatch.setattr("bench.data.synthetic.demo.write_demo", write_few)
    done = bench("run", "demo", "--only", "transformer_small", "--set", "train.max_steps=2")
    assert done.code == 0
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"demo", "demo-16000"}
    assert only_run(tmp_path / "runs" / "demo")[1]["metrics"]["classes_scored"] == 59


def test_a_full_disk_is_noticed_before_anything_trains(bench, small_suite, packed, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    done = bench("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out")
    assert (done.code, "the disk has 0.01 GB free" in done.err) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_report")
def test_results_on_other_data_are_not_mixed(bench, small_suite, dataset, packed, tmp_path):
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(dataset, copy)
    table = copy / "FSD50K.ground_truth" / "eval.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    other = pack(copy, tmp_path / "other")
    run = ("run", small_suite, "--only", "transformer_small", "--seeds", 1)
    assert bench(*run, "--data", packed.folder, "--out", out).code == 0
    done = bench(*run, "--data", other.folder, "--out", out)
    assert (done.code, "holds runs on other data" in done.err) == (2, True)
    done = bench(*run, "--data", packed.folder, "--data", other.folder, "--out", out)
    assert (done.code, "packs of different data" in done.err) == (2, True)


@pytest.mark.usefixtures("no_report")
def test_demo_stands_for_the_generated_set_made_where_it_is_missing(small_suite, dataset, tmp_path, bench, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.data.synthetic.demo.write_demo", lambda folder, **_: shutil.copytree(dataset, folder))
    command = ("run", small_suite, "--only", "transformer_small", "--seeds", 1, "--out", "out", "--data", "demo")
    assert bench(*command).code == 0
    assert Pack(tmp_path / "data" / "demo-16000").sample_rate == 16_000
    done = bench(*command)
    assert "1 of 1 runs were finished before" in done.err


@pytest.mark.usefixtures("no_report")
def test_results_are_kept_in_runs_unless_another_folder_is_named(bench, small_suite, packed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ("run", small_suite, "--data", packed.folder, "--only", "transformer_small", "--seeds", 1)
    assert bench(*command).code == 0
    assert only_run(tmp_path / "runs" / "small")[1]["spec"]["name"] == "transformer_small"
    assert {path.name for path in tmp_path.iterdir()} == {"small.toml", "runs"}


# --- results and checkpoints of other code


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def of_other_code(small_results, tmp_path):
    """A results folder in which other code has trained one of the transformers."""
    out = tmp_path / "out"
    shutil.copytree(small_results, out)
    path = next(out.glob("transformer_small-s1-*")) / "run.json"
    run = json.loads(path.read_text())
    run["provenance"]["source"]["protocol"] = "0123456789abcdef"
    path.write_text(json.dumps(run))
    return out


@pytest.mark.parametrize(
    "planned",
    [
        (),
        ("--seeds", 3),
        ("--only", "vgg_like", "--seeds", 3),
        ("--only", "transformer_notes"),
        ("--set", "train.max_steps=5"),
    ],
    ids=["the same runs", "more seeds", "another entry", "an entry not of the suite", "another recipe"],
)
def test_results_of_other_code_are_refused_and_left_alone(bench, small_suite, packed, of_other_code, planned):
    before = contents(of_other_code)
    done = bench("run", small_suite, "--data", packed.folder, "--out", of_other_code, *planned)
    one_line(done, "was made by other code than this: choose another --out")
    assert "transformer_small-s1-" in done.err
    assert "--mixed" in done.err
    assert contents(of_other_code) == before
    assert {of_other_code / "suite.json", of_other_code / "labels.npz"} <= set(before)


def test_results_of_other_code_are_refused_before_a_search(bench, packed, of_other_code, tmp_path):
    suite = tmp_path / "searched.toml"
    suite.write_text(SMALL_SUITE + "[space]\nlearning_rate = { low = 1e-4, high = 1e-2 }\n")
    before = contents(of_other_code)
    command = ("run", suite, "--data", packed.folder, "--out", of_other_code, "--only", "vgg_like", "--trials", 1)
    one_line(bench(*command), "was made by other code than this")
    assert contents(of_other_code) == before


@pytest.mark.usefixtures("no_report")
def test_mixed_keeps_results_of_other_code(bench, small_suite, packed, of_other_code):
    records = {path: path.read_bytes() for path in of_other_code.glob("*/run.json")}
    command = ("run", small_suite, "--data", packed.folder, "--out", of_other_code, "--mixed")
    done = bench(*command)
    assert (done.code, "4 of 4 runs were finished before" in done.err) == (0, True)
    assert bench(*command, "--only", "transformer_small", "--seeds", 3).code == 0
    assert len(list(of_other_code.glob("*/run.json"))) == 5
    assert {path: path.read_bytes() for path in records} == records


@pytest.fixture
def one_run(small_suite, packed, tmp_path):
    """A run that is to be done, and the command that does it."""
    out = tmp_path / "out"
    run = plan(load_suite(str(small_suite)), [packed], ResultsFolder(out))[0]
    run.folder.path.mkdir(parents=True)
    command = ("run", small_suite, "--data", packed.folder, "--out", out, "--only", run.spec.name, "--seeds", 1)
    return run, command


def save_format1(path):
    torch.save({"code": "other", "state": {"update": 3}}, path)


def save_other_code(path):
    Checkpoint(path, "other").save({"state": {"step": 3}})


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("save", "folder"),
    [
        (save_other_code, ""),
        (save_format1, ""),
        # hashes were others then
        (save_format1, "transformer_small-s0-00000000"),
    ],
    ids=["other code", "format 1", "format 1 in its folder"],
)
def test_a_checkpoint_of_other_code_is_not_trained_over(bench, one_run, tmp_path, save, folder):
    run, command = one_run
    path = tmp_path / "out" / (folder or run.folder.name) / "checkpoint.pt"
    path.parent.mkdir(exist_ok=True)
    save(path)
    before = contents(tmp_path / "out")
    done = bench(*command)
    one_line(done, "transformer_small seed 0: ")
    assert f"{path}, at step 3, was left by other code than this" in done.err
    assert "--restart" in done.err
    assert contents(tmp_path / "out") == before

    done = bench(*command, "--restart")
    assert done.code == 0
    assert "transformer_small seed 0: the checkpoint of other code is kept as checkpoint.old.pt" in done.err
    assert path.with_name("checkpoint.old.pt").read_bytes() == before[path]
    assert not path.exists()
    assert only_run(tmp_path / "out")[1]["steps"] == 4


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("rubbish", [b"", b"rubbish"])
def test_a_damaged_checkpoint_is_kept_and_its_run_done(bench, one_run, tmp_path, rubbish):
    run, command = one_run
    run.folder.checkpoint_file.write_bytes(rubbish)
    done = bench(*command)
    assert done.code == 0
    (line,) = (line for line in done.err.splitlines() if " is damaged (" in line)
    assert line.startswith(f"transformer_small seed 0: {run.folder.checkpoint_file} is damaged (")
    assert "kept as checkpoint.old.pt" in line
    assert run.folder.checkpoint_file.with_name("checkpoint.old.pt").read_bytes() == rubbish
    assert only_run(tmp_path / "out")[0] == run.folder.path


# --- names of before


@pytest.mark.usefixtures("no_report")
def test_old_names_are_taken_and_each_is_said_in_one_line(bench, packed, tmp_path):
    suite, plugin = tmp_path / "old.toml", tmp_path / "mine.py"
    suite.write_text(
        SMALL_SUITE.replace(
            "max_steps = 4", 'updates = 4\nchunks = "one"\naggregate = "scores"\ntest_hop_seconds = 0.5'
        )
    )
    plugin.write_text(
        "from architectures import configure, register\nfrom architectures.audio_transformer import AudioTransformer\n"
        f"config = configure('transformer_small', **{TINY})\n"
        "register('mine', family='transformer', config=config)(AudioTransformer)\n"
    )
    command = ("run", suite, "--data", packed.folder, "--out", tmp_path / "out", "--only", "mine", "--seeds", 1)
    try:
        done = bench(*command, "--with", plugin, "--set", "train.updates=3")
    finally:
        forget(["mine"])
    assert done.code == 0
    recipe = only_run(tmp_path / "out")[1]["spec"]["recipe"]
    assert (recipe["max_steps"], recipe["eval_hop_seconds"]) == (3, 0.5)
    assert (recipe["crops"], recipe["aggregate"]) == ("one_per_clip", "mean")
    goes = "the old name goes with the next release"
    assert [line for line in done.err.splitlines() if "warning" in line] == [
        f"bench: warning: --with is now --plugin; {goes}",
        f"bench: warning: --set train: updates is now max_steps; {goes}",
        f"bench: warning: train: updates is now max_steps; {goes}",
        f"bench: warning: train: chunks = 'one' is now crops = 'one_per_clip'; {goes}",
        f"bench: warning: train: aggregate = 'scores' is now aggregate = 'mean'; {goes}",
        f"bench: warning: train: test_hop_seconds is now eval_hop_seconds; {goes}",
    ]


@pytest.mark.parametrize(
    "options", [(), ("--set", "train.updates=4", "--set", "train.max_steps=4")], ids=["TOML", "--set"]
)
def test_a_field_under_both_its_names_is_one_line(bench, small_suite, packed, tmp_path, options):
    if not options:
        small_suite.write_text(SMALL_SUITE.replace("max_steps = 4", "updates = 4\nmax_steps = 4"))
    done = bench("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out", *options)
    one_line(done, "train: updates and max_steps are the same field")


# --- fields that are there for later


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"fold = 1\n{SMALL_SUITE}", "transformer_small: fold=1 is not supported yet; leave it out"),
    ],
    ids=["fold"],
)
def test_what_is_not_supported_yet_is_one_line(bench, small_suite, packed, tmp_path, text, message):
    small_suite.write_text(text)
    one_line(bench("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_the_checkpoint_of_a_run_with_other_settings_is_none_of_this_run(packed, tmp_path, bench):
    other = tmp_path / "out" / "transformer_small-s0-01234567"
    other.mkdir(parents=True)
    torch.save({"format": 2, "code": "other", "state": {"step": 3}}, other / "checkpoint.pt")
    (tmp_path / "out" / "transformer_small-s0-76543210").mkdir()
    (tmp_path / "out" / "transformer_small-s0-76543210" / "checkpoint.pt").write_bytes(b"damaged")
    done = bench(
        "run", "demo", "--data", packed.folder, "--only", "transformer_small", "--out", tmp_path / "out",
        "--set", "train.max_steps=1", "--set", "train.evaluations=1", "--set", "train.batch_size=2",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "checkpoint.pt" not in done.err
    assert "checkpoint.old.pt" not in done.err
    assert (other / "checkpoint.pt").is_file()
