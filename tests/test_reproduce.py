"""bench run --reproduce: a finished run trained anew comes out as it was: bitwise, within seed noise, or not."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bench as api
from bench.data.packing import pack
from bench.reporting.analysis import MARGIN
from bench.reporting.reproduction import weigh
from bench.runner.display import Display
from bench.store import ResultsFolder, RunFolder
from tests.test_cli import one_line

SHAPE = (40, 59)


@pytest.fixture
def results(small_results, tmp_path):
    return ResultsFolder(shutil.copytree(small_results, tmp_path / "small"))


@pytest.fixture
def run(results):
    return results.find("transformer_small-s0")


def edit(folder, change):
    values = json.loads(folder.record_file.read_text())
    change(values)
    folder.record_file.write_text(json.dumps(values))


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_trained_anew_bit_by_bit(bench, results, run, packed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files(results.path)
    named = results.path / "transformer_small-s0"
    done = bench("run", "--reproduce", named, "--data", packed.folder, "--device", "cpu")
    assert done.code == 0, done.err
    again = RunFolder(tmp_path / "reproduce" / "small" / run.name)
    lines = done.out.splitlines()
    assert lines[0] == f"{run.path}: reproduced: bitwise: scores and weights are equal"
    score = f"{run.record().metrics['map']:.6f}"
    assert lines[2].split() == ["map", score, score, "0.000000"]
    assert lines[-1] == f"the run trained anew: {again.path.relative_to(tmp_path)}"
    assert not any(line.startswith("other than then") for line in lines)
    assert again.weights_file.read_bytes() == run.weights_file.read_bytes()
    assert again.record().spec == run.record().spec
    assert again.record().provenance.command.startswith("bench run --reproduce ")
    assert files(results.path) == before, "the run itself is left as it is"

    trained = again.record_file.stat().st_mtime_ns
    assert bench("run", "--reproduce", run.path, "--data", packed.folder).out.splitlines()[0] == lines[0]
    assert again.record_file.stat().st_mtime_ns == trained, "once is enough"
    found = api.reproduce(run.path, data=packed.folder, out="reproduce/small", display=Display())
    assert (found.verdict, found.is_reproduced) == ("bitwise", True)
    assert list(found.metrics.columns) == ["metric", "run", "again", "difference"]
    assert list(found.metrics["difference"].dropna().unique()) == [0]


def test_it_resumes(bench, run, packed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ("run", "--reproduce", run.path, "--data", packed.folder, "--device", "cpu")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bench.runner.run._judged", interrupt)
        assert bench(*command).code == 130
    assert list((tmp_path / "reproduce").rglob("checkpoint.pt"))
    done = bench(*command)
    assert (done.code, "reproduced: bitwise" in done.out) == (0, True), done.err


# --- verdicts


@pytest.fixture
def again(run, tmp_path):
    """The same run, in another results folder."""
    return RunFolder(shutil.copytree(run.path, tmp_path / "again" / run.name))


def shift(folder, amount):
    """Change a run's mAP, and its scores a little."""
    edit(folder, lambda values: values["metrics"].update(map=values["metrics"]["map"] + amount))
    scores = folder.scores(SHAPE)
    scores[0, 0] = np.nextafter(scores[0, 0], np.float32(0))
    np.savez_compressed(folder.scores_file, scores=scores)


@pytest.mark.parametrize(
    ("amount", "verdict", "reason"),
    [
        (0.0, "within seed noise", "a difference of +0.0000 in mAP is within 0.0100, the margin that is"),
        (0.009, "within seed noise", "a difference of +0.0090 in mAP is within 0.0100"),
        (-0.011, "no", "a difference of -0.0110 in mAP is more than 0.0100, the margin that is taken where"),
    ],
)
def test_without_three_seeds_a_margin_decides(run, again, amount, verdict, reason):
    assert MARGIN == 0.01
    shift(again, amount)
    found = weigh(run, again, SHAPE, same_weights=False)
    assert (found.verdict, found.is_reproduced) == (verdict, verdict != "no")
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(("amount", "verdict"), [(0.12, "within seed noise"), (-0.13, "no")])
def test_with_three_seeds_their_spread_decides(results, run, again, amount, verdict):
    """t at 97.5% with 2 degrees of freedom is 4.3027, the standard deviation .02: 4.3027 * sqrt(2) * .02 = .1217."""
    first = run.record().metrics["map"]
    for seed, score in ((1, first + 0.02), (7, first - 0.02)):
        folder = results.find("transformer_small-s1") if seed == 1 else None
        if folder is None:
            folder = RunFolder(shutil.copytree(run.path, run.path.with_name("transformer_small-s7-01234567")))
            edit(folder, lambda values: values["spec"].update(seed=7))
        edit(folder, lambda values, score=score: values["metrics"].update(map=score))
    shift(again, amount)
    found = weigh(run, again, SHAPE, same_weights=False)
    assert found.verdict == verdict
    assert "0.1217, which two seeds exceed in 5% of cases, by the spread of the entry's 3 seeds" in found.reason


def test_weights_that_are_not_kept_are_no_difference(run, again):
    found = weigh(run, again, SHAPE, same_weights=None)
    assert (found.verdict, found.reason) == ("bitwise", "scores are equal; weights to compare are not kept with both")


def test_what_was_other_than_then_is_named(run, again):
    def change(values):
        made = values["provenance"]
        made["versions"]["torch"] = "1.0"
        made["device"] = "some GPU"
        made["source"]["protocol"] = "0123456789abcdef"

    now = again.record().provenance
    edit(run, change)
    found = weigh(run, again, SHAPE, same_weights=True)
    assert found.differences == (
        f"torch 1.0, now {now.versions['torch']}",
        f"device some GPU, now {now.device}",
        f"code of the protocol 0123456789abcdef, now {now.source['protocol']}",
    )
    assert f"other than then: torch 1.0, now {now.versions['torch']}" in str(found)


def test_a_run_that_is_not_reproduced_is_exit_code_1(bench, run, packed, tmp_path):
    weights = load_file(run.weights_file)
    save_file({name: values + 1 for name, values in weights.items()}, run.weights_file)
    shift(run, 0.5)
    done = bench("run", "--reproduce", run.path, "--data", packed.folder, "--out", tmp_path / "o", "--device", "cpu")
    assert done.code == 1
    assert f"{run.path}: reproduced: no: a difference of -0.5000 in mAP is more than 0.0100" in done.out


# --- slips


def test_a_slip_is_one_line_and_trains_nothing(bench, results, run, packed, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ("--data", packed.folder)
    for arguments, message in (
        (("--reproduce", results.path / "crnn-s0", *data), "crnn-s0: no finished run"),
        (("--reproduce", tmp_path / "none", *data), "no finished run"),
        (("--reproduce", run.path, *data, "--out", results.path), "the run itself is there: name another --out"),
        (("--reproduce", run.path, *data, "--out", run.record_file), "is no folder, and results need one"),
        (("--reproduce", run.path, "--data", tmp_path / "none"), "is no pack"),
        (("--reproduce", run.path), f"fingerprint {packed.fingerprint[:16]}: name it by --data PACK"),
        (("demo", "--reproduce", run.path), "settings and data are those of the run: leave SUITE out"),
        (("--reproduce", run.path, "--set", "train.max_steps=3"), "leave --set out"),
        (("--reproduce", run.path, "--dry-run"), "leave --dry-run out"),
        (("--reproduce", run.path, "--seeds", "3"), "leave --seeds out"),
    ):
        one_line(bench("run", *arguments), message)
    other = pack(dataset, tmp_path / "other", sample_rate=8000)
    one_line(
        bench("run", "--reproduce", run.path, "--data", other.folder),
        f"was trained on the pack with fingerprint {packed.fingerprint[:16]}, given: {other.folder}",
    )
    whole = run.scores_file.read_bytes()
    run.scores_file.write_bytes(whole[:100])
    one_line(bench("run", "--reproduce", run.path, *data), f"{run.scores_file}: damaged")
    run.scores_file.write_bytes(whole)
    edit(run, lambda values: values["spec"].update(architecture="mine", source="0123456789abcdef"))
    one_line(bench("run", "--reproduce", run.path, *data), "name its file as it was (--plugin FILE.py)")
    assert not (tmp_path / "reproduce").exists()
