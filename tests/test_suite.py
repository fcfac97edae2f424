"""Runs and suites from the command: whole folders, skipped, failed, killed and gone on with."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from bench.data.pack import Pack
from bench.data.packing import pack
from bench.protocol import metrics, train
from tests.conftest import SMALL_SUITE


@pytest.fixture(scope="module")
def packed_22050(dataset):
    return pack(dataset, dataset.with_name("demo-22050"), sample_rate=22_050)


def only_run(out):
    (path,) = out.glob("*/run.json")
    return path.parent, json.loads(path.read_text())


def test_a_suite_ends_in_whole_run_folders_and_a_table(bench, small_suite, packed, tmp_path):
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
        assert run["class_ap"] == {str(c): a for c, a in zip(labels["classes"], ap, strict=True) if np.isfinite(a)}
        assert run["chance_map"] == pytest.approx(metrics.chance_map(labels["targets"]))
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
    again = bench("run", small_suite, "--data", packed.folder, "--out", out)
    assert again.code == 0
    assert "4 of 4 runs were finished before" in again.err
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/run.json")}


def test_a_failed_run_is_recorded_and_the_rest_goes_on(bench, packed, tmp_path):
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

    # not counted as done: tried again, and with a mended recipe no longer in the way
    assert bench(*arguments).code == 1
    assert bench(*arguments, "--set", "train.learning_rate=1e-3").code == 0


def test_set_precision_only_and_seeds_reach_the_runs(bench, small_suite, packed, tmp_path):
    arguments = ("--only", "transformer_notes", "--seeds", 1, "--precision", "bf16", "--set", "train.updates=3")
    assert bench("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out", *arguments).code == 0
    _, run = only_run(tmp_path / "out")
    assert run["spec"]["architecture"] == "transformer_notes"
    assert (run["spec"]["recipe"]["precision"], run["spec"]["recipe"]["updates"]) == ("bf16", 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_killed_run_ends_in_the_same_numbers(packed, tmp_path, precision):
    """SIGKILL at several moments, real processes: bitwise the same scores as a run that was never killed."""
    suite = tmp_path / "killed.toml"
    suite.write_text(SMALL_SUITE.replace("seeds = 2", "seeds = 1").replace("updates = 4", "updates = 60"))

    def command(out):
        options = ["--only", "transformer_small", "--set", "train.evaluations=12", "--precision", precision]
        return [sys.executable, "-m", "bench", "run", suite, "--data", packed.folder, "--out", out, *options]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    whole, expected = only_run(tmp_path / "whole")

    out = tmp_path / "killed"
    kills = 0
    for checkpoints in (1, 3):
        process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen, deadline = set(), time.monotonic() + 120
        while process.poll() is None and len(seen) < checkpoints and time.monotonic() < deadline:
            seen |= {path.stat().st_mtime_ns for path in out.glob("*/checkpoint.pt")}
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert not list(out.glob("*/run.json"))
    assert kills == 2
    subprocess.run(command(out), check=True, capture_output=True)
    resumed, run = only_run(out)
    for key in ("metrics", "untrained", "val_map", "best_update", "hash"):
        assert run[key] == expected[key]
    np.testing.assert_array_equal(np.load(whole / "scores.npz")["scores"], np.load(resumed / "scores.npz")["scores"])
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    assert not list(out.glob("*/checkpoint.pt"))


def test_ctrl_c_ends_cleanly(bench, small_suite, packed, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "score_clips", interrupt)
    done = bench("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out")
    assert done.code == 130
    assert "the same command goes on from here" in done.err
    assert not list((tmp_path / "out").glob("*/run.json"))
    assert not list((tmp_path / "out").glob("*/failed.json"))


def test_the_paper_suite_runs_each_at_its_own_sample_rate_and_footnotes_what_is_inferred(
    bench, packed, packed_22050, tmp_path
):
    packs = ("--data", packed.folder, "--data", packed_22050.folder)
    only = ("--only", "vgg_like", "--only", "transformer_small")
    sets = ("--set", "train.updates=2", "--set", "train.evaluations=1", "--set", "train.batch_size=4")
    done = bench("run", "paper", *packs, *only, *sets, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    read = [json.loads(path.read_text()) for path in tmp_path.glob("out/*/run.json")]
    runs = {run["spec"]["name"]: run for run in read}
    assert runs["vgg_like"]["data"]["sample_rate"] == 22_050
    assert runs["vgg_like"]["spec"]["recipe"]["loss"] == "bce"
    assert runs["transformer_small"]["data"]["sample_rate"] == 16_000
    assert runs["transformer_small"]["spec"]["recipe"]["loss"] == "huber"
    assert "| transformer_small (I) |" in done.out
    table = (tmp_path / "out/table.md").read_text()
    assert "- `train.learning_rate = 0.0005`: Adam is documented, its rate is not (transformer_small)" in table
    # what the user set is nobody's inference
    assert "`train.updates" not in table


def test_a_suite_needs_a_pack_of_every_sample_rate(bench, packed, tmp_path):
    done = bench("run", "paper", "--data", packed.folder, "--out", tmp_path / "out")
    assert done.code == 2
    assert "crnn needs a pack at 22050 Hz" in done.err
    assert "bench data pack DIR --out PACK --sample-rate 22050" in done.err
    assert not (tmp_path / "out").exists()


def test_demo_brings_its_own_data(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = bench("run", "demo", "--only", "transformer_small", "--set", "train.updates=2")
    assert done.code == 0
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"demo", "demo-16000"}
    assert only_run(tmp_path / "results" / "demo")[1]["metrics"]["classes_scored"] == 59


def test_a_full_disk_is_noticed_before_anything_trains(bench, small_suite, packed, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    done = bench("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out")
    assert (done.code, "the disk has 0.01 GB free" in done.err) == (2, True)
    assert not (tmp_path / "out").exists()


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


def test_demo_stands_for_the_generated_set_made_where_it_is_missing(small_suite, dataset, tmp_path, bench, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.data.synthetic.demo.write_demo", lambda folder, **_: shutil.copytree(dataset, folder))
    command = ("run", small_suite, "--only", "transformer_small", "--seeds", 1, "--out", "out", "--data", "demo")
    assert bench(*command).code == 0
    assert Pack(tmp_path / "data" / "demo-16000").sample_rate == 16_000
    done = bench(*command)
    assert "1 of 1 runs were finished before" in done.err
