"""Runs one by one, wherever: `--list-missing` says which there are to do, `--part` does one, for any scheduler."""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import bench as api
from bench.cli.again import commands_of
from bench.errors import UserError
from bench.runner.display import Display
from bench.store import ResultsFolder
from tests.conftest import SMALL_SUITE, no_tables
from tests.test_cli import one_line
from tests.test_docs import FENCED, PAGES, examples, section
from tests.test_two_at_once import files

QUIET = Display()
NAMES = [f"{name}-s{seed}" for seed in (0, 1) for name in ("transformer_small", "vgg_like")]
CONTRAST = '[[contrasts]]\nname = "VGG - small"\nentries = { vgg_like = 1, transformer_small = -1 }\n'


def run_name(folder):
    return folder.name.rsplit("-", 1)[0]


@pytest.fixture
def results(small_results, tmp_path):
    return ResultsFolder(shutil.copytree(small_results, tmp_path / "out"))


# --- the list


def test_it_is_a_command_for_each_run_and_writes_nothing(bench, small_suite, packed, tmp_path):
    before = files(tmp_path)
    call = ("run", small_suite, "--data", packed.folder, "--out", tmp_path / "new", "--list-missing", "--no-track")
    done = bench(*call)
    assert (done.code, done.err) == (0, "")
    given = f"bench run {small_suite} --data {packed.folder} --out {tmp_path / 'new'}"
    assert done.out.splitlines() == [f"{given} --no-track --part {name} --no-report" for name in NAMES]
    assert files(tmp_path) == before
    # of each command the last word on reports is no
    assert bench(*call, "--report").out == done.out


def test_what_is_finished_is_not_in_it_and_what_failed_is(bench, small_suite, packed, results):
    call = ("run", small_suite, "--data", packed.folder, "--out", results.path, "--list-missing")
    done = bench(*call)
    assert (done.code, done.out, done.err) == (0, "", f"{small_suite}: no run is missing\n")
    run = results.find("vgg_like-s1")
    spec = run.record().spec
    run.record_file.unlink()
    run.write_failure(spec, ValueError("no memory"))
    done = bench(*call)
    assert (done.code, done.err) == (0, "")
    assert [line.split(" --part ")[1] for line in done.out.splitlines()] == ["vgg_like-s1 --no-report"]


def test_a_shell_reads_the_words_that_were_given(bench, packed, tmp_path, monkeypatch):
    """Also where they have spaces and signs of the shell, and behind --, where no options are."""
    folder = tmp_path / 'it\'s $HOME; my "results" *'
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("a suite.toml").write_text(SMALL_SUITE)
    options = ["--data", packed.folder, "--only", "vgg_like", "--seed", 1, "--set", "train.max_steps=3", "--mixed"]
    for out in ("my out", folder):
        done = bench("run", *options, "--out", out, "--list-missing", "--precision=fp32", "--", "a suite.toml")
        (line,) = done.out.splitlines()
        read = subprocess.run(["sh", "-c", f'set -- {line}; printf "%s\\n" "$@"'], capture_output=True, text=True)
        words = ["bench", "run", *options, "--out", out, "--precision=fp32", "--part", "vgg_like-s1", "--no-report"]
        assert read.stdout.splitlines() == [*map(str, words), "--", "a suite.toml"]


def test_entries_of_a_grid_and_of_other_libraries_have_names_that_need_no_quotes(bench, small_suite, packed):
    suite = small_suite.read_text().replace('"vgg_like"', '"timm:convnext_atto"')
    small_suite.write_text(f"{suite}\n[grid]\ntrain.mixup = [0.0, 1e-3]\n")
    done = bench("run", small_suite, "--data", packed.folder, "--seeds", 1, "--list-missing")
    parts = [shlex.split(line)[8] for line in done.out.splitlines()]
    entries = ("transformer_small-mixup_0.0", "transformer_small-mixup_0.001")
    entries += ("timm-convnext_atto-mixup_0.0", "timm-convnext_atto-mixup_0.001")
    assert parts == [f"{entry}-s0" for entry in entries]
    assert shlex.join(parts) == " ".join(parts)


def test_without_the_demo_set_all_of_it_is_missing_and_none_is_made(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = bench("run", "--list-missing", "--only", "vgg_like", "--seeds", 2)
    assert done.code == 0
    assert [line.split()[-3:-1] for line in done.out.splitlines()] == [["--part", f"vgg_like-s{s}"] for s in (0, 1)]
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?password=hunter2", "postgresql://host/db?password=***"),
        ("a\nb", "a\\nb"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        (os.fsdecode(b"a\xffb"), "a\\xffb"),
    ],
)
def test_what_cannot_be_printed_as_it_is_is_refused(bench, small_suite, packed, word, shown):
    done = bench("run", small_suite, "--data", packed.folder, "--storage", word, "--list-missing")
    one_line(done, f"--list-missing: {shown}")
    assert "hunter2" not in done.err


@pytest.mark.parametrize(
    ("program", "found", "words"),
    [
        ("bench", None, "bench"),
        ("/venv/bin/bench", "/venv/bin/bench", "bench"),
        ("/venv/bin/bench", "/usr/bin/bench", "/venv/bin/bench"),
        ("my venv/bin/bench", None, "'my venv/bin/bench'"),
        ("/a/bench/__main__.py", None, f"{shlex.quote(sys.executable)} -m bench"),
    ],
)
def test_the_commands_call_the_program_that_was_called(monkeypatch, program, found, words):
    monkeypatch.setattr("bench.cli.again.shutil.which", lambda name: found)
    monkeypatch.setattr(sys, "argv", [program, "run", "--list-missing"])
    assert commands_of(["crnn-s0"]) == [f"{words} run --part crnn-s0 --no-report"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tuned", "--list-missing"), "has a [space], so that recipes are searched before there are runs"),
        (("tuned", "--seed", 0), "--seed: suite 'tuned"),
        (("tuned", "--part", "crnn-s0"), "--part: suite 'tuned"),
        (("demo", "--list-missing", "--dry-run"), "leave --dry-run out"),
        (("demo", "--list-missing", "--part", "crnn-s0"), "leave --part out"),
        (("demo", "--list-missing", "--jobs", 2), "each command trains one run, in its own process: leave --jobs out"),
        (("demo", "--list-missing", "--ray"), "leave --ray out"),
        (("demo", "--seed", 0, "--seeds", 2), "give either --seed or --seeds, not both"),
        (("demo", "--seed", 2**31), "Invalid value for '--seed'"),
        (("--reproduce", "runs/demo/crnn-s0", "--seed", 0), "leave --seed out"),
        (("--reproduce", "runs/demo/crnn-s0", "--list-missing"), "leave --list-missing out"),
    ],
)
def test_what_does_not_go_together_is_one_line(bench, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    one_line(bench("run", *arguments), message)
    assert files(tmp_path) == {}


def test_runs_of_other_code_are_refused_before_any_task_is_started(bench, small_suite, packed, results):
    run = results.find("vgg_like-s0")
    record = json.loads(run.record_file.read_text())
    record["provenance"]["source"]["protocol"] = "other"
    run.record_file.write_text(json.dumps(record))
    results.find("vgg_like-s1").record_file.unlink()
    call = ("run", small_suite, "--data", packed.folder, "--out", results.path, "--list-missing")
    one_line(bench(*call), "was made by other code than this")
    (line,) = bench(*call, "--mixed").out.splitlines()
    assert line.endswith(" --mixed --part vgg_like-s1 --no-report")


# --- a seed


def test_a_seed_is_one_alone(bench, small_suite, packed, tmp_path):
    given = {"data": packed.folder, "out": tmp_path / "out", "display": QUIET}
    assert api.missing(str(small_suite), seed=7, **given) == ["transformer_small-s7", "vgg_like-s7"]
    assert api.missing(str(small_suite), seed=0, only="vgg_like", quick=True, **given) == ["vgg_like-s0"]
    assert api.run(str(small_suite), seed=1, dry_run=True, **given).planned[1].startswith("vgg_like-s1-")
    for message, wrong in (("-1", {"seed": -1}), ("not both", {"seed": 1, "seeds": 1})):
        with pytest.raises(UserError, match=message):
            api.missing(str(small_suite), **wrong, **given)
    with pytest.raises(UserError, match=r"--seed: suite .* has a \[space\]"):
        api.search(seed=3, trials=1, **given)
    done = bench("cost", small_suite, "--data", packed.folder, "--only", "transformer_small", "--seed", 5, "--json")
    (entry,) = json.loads(done.out)["entries"]
    assert entry["runs_left"] == 1


def test_a_seed_of_0_is_in_the_record(packed, small_suite, tmp_path):
    given = {"data": packed.folder, "out": tmp_path / "out", "only": "transformer_small", "display": QUIET}
    api.run(str(small_suite), seed=0, report=False, device="cpu", **given)
    (run,) = ResultsFolder(tmp_path / "out").finished()
    assert "seed=0" in run.record().provenance.command
    assert "report" not in run.record().provenance.command


# --- a part


def test_a_part_is_one_run_of_a_whole_plan(bench, small_suite, packed, tmp_path):
    out = ResultsFolder(tmp_path / "out")
    call = ("run", small_suite, "--data", packed.folder, "--out", out.path, "--part", "vgg_like-s1", "--no-report")
    done = bench(*call)
    assert (done.code, done.out) == (0, "")
    assert [run_name(run) for run in out.finished()] == ["vgg_like-s1"]
    assert [name.rsplit("-", 1)[0] for name in out.plan().planned] == NAMES
    assert {path.name for path in out.path.iterdir() if path.is_file()} == {"suite.json", "labels.npz"}
    # what is recorded is the command of all
    assert out.finished()[0].record().provenance.command == shlex.join(["bench", *map(str, call[:6])])
    # another process has just finished it
    done = bench(*call)
    assert (done.code, done.out) == (0, "")
    assert "1 of 1 runs were finished before" in done.err
    assert api.missing(str(small_suite), data=packed.folder, out=out.path, display=QUIET) == NAMES[:3]


def test_a_part_of_no_suite_is_one_line(bench, small_suite, packed, tmp_path, monkeypatch):
    call = ("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out", "--part")
    one_line(bench(*call, "vgg_like-s2"), "--part vgg_like-s2: no run of suite 'small' is called so (did you mean 'vgg")
    one_line(bench(*call, "crnn"), "(write ENTRY-sSEED, such as 'transformer_small-s0')")
    assert not (tmp_path / "out").exists()
    monkeypatch.chdir(tmp_path)
    one_line(bench("run", "demo", "--dry-run", "--part", "crnn-s1"), "did you mean 'crnn-s0'?")
    assert "all would run: crnn-s0\n" in bench("run", "demo", "--dry-run", "--part", "crnn-s0").err


def test_a_part_that_fails_is_exit_code_1(bench, small_suite, packed, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no memory")

    monkeypatch.setattr("bench.runner.run._execute", fail)
    call = ("run", small_suite, "--data", packed.folder, "--out", tmp_path / "out", "--part", "vgg_like-s1")
    assert bench(*call, "--no-report").code == 1
    assert api.missing(str(small_suite), data=packed.folder, out=tmp_path / "out", display=QUIET) == NAMES


def test_parts_in_any_order_end_in_the_report_of_one_command(bench, small_suite, packed, tmp_path, monkeypatch):
    """Some are the only ones of their entry, some were never planned by hand: the plan is that of the listed call."""
    small_suite.write_text(SMALL_SUITE + CONTRAST)
    selected = ("--only", "vgg_like", "--only", "transformer_small", "--seeds", 2)
    call = ("run", small_suite, "--data", packed.folder, *selected, "--out", tmp_path / "parts" / "out")
    listed = bench(*call, "--list-missing").out.splitlines()
    assert len(listed) == 4
    for line in reversed(listed):
        assert bench(*shlex.split(line)[1:]).code == 0
    whole = tmp_path / "whole" / "out"
    shutil.copytree(tmp_path / "parts" / "out", whole)
    for name in ("suite.json", "labels.npz"):
        (whole / name).unlink()
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda _: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda _: {})
    assert bench(*call[:-1], whole).code == 0
    assert bench("report", tmp_path / "parts" / "out").code == 0
    made, expected = files(tmp_path / "parts" / "out"), files(whole)
    assert made.keys() == expected.keys()
    assert [name for name in made if made[name] != expected[name]] == []
    assert "VGG - small" in made["table.md"].decode()


def test_no_report_is_for_whole_suites_too(bench, small_suite, packed, results, monkeypatch):
    call = ("run", small_suite, "--data", packed.folder, "--out", results.path)
    monkeypatch.setattr("bench.api.runs.report", no_tables)
    assert bench(*call, "--no-report").out == ""
    outcome = api.run(str(small_suite), data=packed.folder, out=results.path, report=False, display=QUIET)
    assert outcome.report is None
    assert len(outcome.skipped) == 4
    assert not (results.path / "table.md").exists()


# --- an array of Slurm's, as the docs have it

# Slurm copies the script, and starts it once for each number of --array, in the folder that sbatch was called in
SBATCH = """#!/bin/sh
for word in "$@"; do
    case "$word" in --array=*) range="${word#--array=1-}";; esac
    script="$word"
done
cp "$script" spooled
for SLURM_ARRAY_TASK_ID in $(seq "${range%%%*}"); do
    export SLURM_ARRAY_TASK_ID
    sh spooled > "slurm-$SLURM_ARRAY_TASK_ID.out" 2>&1 &
    tasks="$tasks $!"
done
for task in $tasks; do wait "$task" || exit 1; done
"""


def program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.slow
def test_the_documented_array_does_each_run_once_and_all_at_once(small_suite, packed, tmp_path):
    """Four processes start in a folder that is not there yet; what they plan, label and lock holds."""
    text = section(PAGES["cluster.md"], "Slurm, without Ray")
    (script,) = (code for code in examples("cluster.md", "bash") if "SLURM_ARRAY_TASK_ID" in code and code in text)
    lines = [line.strip() for line in re.findall(r"^ {4}(.+)$", FENCED.sub("", text), re.MULTILINE)]
    assert [line.split()[0] for line in lines] == ["bench", "sbatch", "bench"]
    small_suite.write_text(SMALL_SUITE.replace("max_steps = 4", "max_steps = 20") + CONTRAST)
    shutil.move(small_suite, tmp_path / "controlled.toml")
    (tmp_path / "train.sh").write_text(script)
    program(tmp_path / "bin" / "bench", f"#!{sys.executable}\nfrom bench.cli import main\nmain()\n")
    program(tmp_path / "bin" / "sbatch", SBATCH)
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "16000").symlink_to(packed.folder)
    commands = "\n".join(["set -e", *lines]).replace("bench run controlled ", "bench run controlled.toml ")
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    said = "".join(path.read_text() for path in sorted(tmp_path.glob("slurm-*.out")))
    assert done.returncode == 0, done.stderr + said
    trained = re.findall(r"^\[1/1\] (\S+) seed (\d): mAP", said, re.MULTILINE)
    assert sorted(f"{name}-s{seed}" for name, seed in trained) == sorted(NAMES), said
    assert "Traceback" not in said
    out = ResultsFolder(tmp_path / "runs" / "controlled")
    assert [name.rsplit("-", 1)[0] for name in out.plan().planned] == NAMES
    assert [contrast.name for contrast in out.plan().contrasts] == ["VGG - small"]
    assert not list(out.path.rglob(".*"))
    assert done.stdout.startswith("| ")
    assert {run.record().provenance.command for run in out.finished()} == {
        "bench run controlled.toml --data packs/16000"
    }
