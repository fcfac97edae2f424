"""A user's mistake is one line on stderr and exit code 2; nothing is half-written, nothing shows a traceback."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from bench.cli.app import app
from bench.cli.entry import run_app
from bench.errors import UserError
from tests.conftest import SMALL_SUITE, Done
from tests.test_fsd50k import edit

ROOT = Path(__file__).parent.parent
GONE = Path("no") / "such" / "folder"


def one_line(done, message):
    assert done.code == 2
    assert done.out == "" or "listed above" in done.err
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("bench: error: ")
    assert message in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "No such command 'runn'"),
        (["run", "--foo"], "No such option"),
        (["run", "demoo"], "no suite 'demoo' (did you mean 'demo'?): use one of ablations, codecs, codes, "),
        (["run", "nothing.toml"], "nothing.toml: no such file"),
        (["run", "demo", "--data", GONE], "is no pack"),
        (["run", "controlled"], "needs a pack at 16000 Hz, given: none"),
        (["run", "demo", "--set", "max_steps=3"], "write --set train.FIELD=VALUE"),
        (["run", "demo", "--set", "train.max_step=3"], "unknown field 'max_step'"),
        (["run", "demo", "--set", "train.max_steps=many"], "max_steps='many'"),
        (["run", "demo", "--set", "train.max_steps=0"], "greater than 0"),
        (["run", "demo", "--set", "train.learning_rate=nan"], "finite number"),
        (["run", "demo", "--precision", "fp8"], "'fp32', 'tf32', 'bf16' or 'auto'"),
        (["run", "demo", "--device", "gpu9"], "--device gpu9"),
        (["cost", "demoo"], "no suite 'demoo'"),
        (["cost", "controlled"], "needs a pack at 16000 Hz, given: none"),
        (["cost", "demo", "--only", "vgg"], "did you mean 'vgg_like'"),
        (["cost", "demo", "--set", "train.max_steps=0"], "greater than 0"),
        (["cost", "demo", "--trials", "3"], "has no [space] to search"),
        (["cost", "tuned", "--trials", "3", "--hours", "1"], "give only one of --trials, --steps and --hours"),
        (["speed"], "No such command 'speed'"),
        (["report", GONE], "no such folder"),
        (["report", "."], "no finished run"),
        (["data", "verify", GONE], "no such folder"),
        (["data", "info", GONE], "is no pack"),
        (["data", "pack", GONE, "--out", "x"], "no such folder"),
        (["data", "pack", GONE], "Missing option '--out'"),
        (["data", "demo", "x", "--seed", "-1"], "greater than or equal to 0"),
        (["check", "vgg"], "did you mean 'vgg_like'"),
    ],
)
def test_wrong_arguments(bench, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    one_line(bench(*arguments), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("title", "titel"), "unknown field 'titel'"),
        (lambda text: text.replace("max_steps = 4", "max_stepz = 4"), "unknown field 'max_stepz'"),
        (lambda text: text.replace("[family.cnn.train]", "[family.cnns.train]"), "family.cnns"),
        (lambda text: text.replace('"auto"', '"bf17"'), "[family.cnn.train]: precision='bf17'"),
        (lambda text: text.replace("vgg_like", "vgg_lik"), "did you mean 'vgg_like'"),
        (lambda text: text.replace("seeds = 2", "seeds = 2.5"), "seeds=2.5"),
        (lambda text: text.replace("=", "=="), "not valid TOML"),
        (lambda text: text.replace('["transformer_small", "vgg_like"]', "[]"), "at least 1 item"),
        (lambda text: text.replace("seeds = 2", "seeds = 'two'"), "seeds='two'"),
        (lambda text: text.replace("[train]", "[trains]"), "unknown field 'trains'"),
        (lambda text: text + '[inferred]\n"train.max_stepz" = "guessed"\n', "inferred names 'train.max_stepz'"),
        (lambda text: text + '[family.cnn.inferred]\nmax_steps = "guessed"\n', "inferred names 'max_steps'"),
    ],
)
def test_a_suite_with_a_typo_trains_nothing(bench, tmp_path, packed, change, message):
    suite = tmp_path / "typo.toml"
    suite.write_text(change(SMALL_SUITE))
    one_line(bench("run", suite, "--data", packed.folder, "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_a_pack_cannot_be_made_of_a_pack_nor_a_run_of_a_data_set(bench, packed, dataset, tmp_path):
    one_line(bench("data", "pack", packed.folder, "--out", tmp_path / "x"), "vocabulary.csv: no such file")
    one_line(bench("run", "demo", "--data", dataset, "--out", tmp_path / "x"), "is a data set, not a pack")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("out", ["file", "file/below", "x" * 300])
def test_an_out_that_cannot_be_a_folder(bench, small_suite, packed, dataset, tmp_path, out):
    (tmp_path / "file").write_text("mine")
    for command in (["run", small_suite, "--data", packed.folder], ["data", "pack", dataset]):
        done = bench(*command, "--out", tmp_path / out)
        assert done.code == 2
        assert done.err.strip().splitlines()[-1].startswith("bench: error: ")
    assert bench("data", "demo", tmp_path / out).code == 2
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("text", ["{", "{}", "[]", "null"])
@pytest.mark.parametrize("name", ["run-s0-00000000/run.json", "suite.json"])
def test_damaged_results_are_named(bench, tmp_path, name, text):
    shutil.copytree(ROOT / "results" / "demo", tmp_path / "out")
    path = tmp_path / "out" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    one_line(bench("report", tmp_path / "out"), f"{path}: damaged")


VGG = "from architectures import register\nfrom architectures.vgg import *\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def forward(:\n", "architectures/mine.py: SyntaxError"),
        ("import nothing_like_it\n", "architectures/mine.py: ModuleNotFoundError"),
        (f"{VGG}register('vgg_like', family='cnn', config=VGGConfig())(VGGLike)\n", "twice"),
        (f"{VGG}register('mine', family='rnn', config=VGGConfig())(VGGLike)\n", "'rnn'"),
    ],
)
def test_a_slip_in_a_new_file_is_one_line(tmp_path, source, message):
    shutil.copytree(ROOT / "architectures", tmp_path / "architectures")
    shutil.copytree(ROOT / "bench", tmp_path / "bench")
    (tmp_path / "architectures" / "mine.py").write_text(source)
    command = [sys.executable, "-m", "bench", "list"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    one_line(Done(done.returncode, done.stdout, done.stderr), message)


def test_a_truncated_wav_is_named(bench, dataset, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    wav = min((copy / "FSD50K.eval_audio").glob("*.wav"))
    wav.write_bytes(wav.read_bytes()[:1000])
    done = bench("data", "verify", copy)
    one_line(done, "unusable recordings: 1, listed above")
    assert f"unusable: FSD50K.eval_audio/{wav.name}: truncated" in done.out
    one_line(bench("data", "pack", copy, "--out", tmp_path / "x", "--strict"), f"eval/{wav.stem}: truncated")
    done = bench("data", "pack", copy, "--out", tmp_path / "x")
    assert done.code == 0
    assert f"left out: eval/{wav.stem}: truncated" in done.out


def test_a_label_outside_the_vocabulary_is_named(bench, dataset, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    edit(copy, "dev.csv", lambda text: text.replace("Organ,", "Orgen,", 1))
    message = "label 'Orgen' is not in vocabulary.csv"
    one_line(bench("data", "pack", copy, "--out", tmp_path / "x"), message)
    assert message in bench("data", "verify", copy).out


def test_verify_and_info_say_what_is_there(bench, dataset, packed):
    done = bench("data", "verify", dataset)
    assert done.code == 0
    assert "a reduced copy or another data set" in done.out
    done = bench("data", "info", packed.folder)
    assert done.code == 0
    assert packed.fingerprint in done.out


def test_list_shows_the_eight_and_their_published_figures(bench):
    done = bench("list")
    assert done.code == 0
    for name in ("crnn", "vgg_like", "resnet18", "densenet121", "transformer_multiscale"):
        assert name in done.out
    assert "0.434" in done.out
    assert "transformer_notes *" in done.out


def test_check_says_whether_an_architecture_keeps_the_contract(bench):
    done = bench("check", "transformer_small")
    assert (done.code, done.out.strip()) == (0, "transformer_small: passes all checks")


def commands(group, before=()):
    """Every command and group, by its words."""
    yield " ".join(before)
    for name, command in group.commands.items():
        yield from commands(command, (*before, name)) if hasattr(command, "commands") else [" ".join((*before, name))]


@pytest.mark.parametrize("command", commands(typer.main.get_command(app)))
def test_every_command_has_help_in_whole_lines(bench, command):
    done = bench(*command.split(), "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: bench {command}".strip())
    assert not [line for line in done.out.splitlines() if line.endswith("...") and "Usage" not in line]


ENDS = {
    "raise EOFError('No data left in file')": (2, "bench: error: a file ends too early (No data left in file)\n"),
    "raise KeyboardInterrupt": (130, "bench: stopped\n"),
    "raise UserError('x: no; http://me:pw@host')": (2, "bench: error: x: no; http://me:***@host\n"),
    "raise UserError('a\\nb\\x1b[2J')": (2, "bench: error: a\\nb\\x1b[2J\n"),
    "raise OSError(13, 'Permission denied', 'x')": (2, "bench: error: x: Permission denied\n"),
    "raise OSError(13, 'Permission denied')": (2, "bench: error: writing: Permission denied\n"),
    "raise OSError(30, 'Read-only file system', 'x')": (
        2,
        "bench: error: x: the disk is read-only; make it writable, or name a folder on another one\n",
    ),
    "raise RuntimeError('[enforce fail] PytorchStreamWriter failed writing file data/0')": (
        2,
        "bench: error: writing: the disk is full; free some space and run the same command again\n",
    ),
    "raise typer.Exit(1)": (1, ""),
}


@pytest.mark.parametrize("statement", ENDS)
def test_how_a_command_ends(capsys, statement):
    """Only Ctrl-C is told as such, and every end but that of a fault of ours is a line."""
    app = typer.Typer()

    @app.command()
    def command():
        exec(statement, {"typer": typer, "UserError": UserError})

    with pytest.raises(SystemExit) as caught:
        run_app(app, "bench", ["--"])
    # typer begins a line of its own where it takes a file's end for the user's
    assert (caught.value.code, capsys.readouterr().err.lstrip("\n")) == ENDS[statement]


def test_a_fault_of_ours_is_a_traceback_that_drives_no_terminal():
    code = """if True:
        import sys
        import typer
        from bench.cli.entry import run_app
        app = typer.Typer(pretty_exceptions_enable=False)

        @app.command()
        def command():
            raise LookupError("a\\x1b[2Jb http://me:pw@host")

        run_app(app, "bench", ["--"])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("LookupError: a\\x1b[2Jb http://me:***@host\n")


def test_an_installation_that_nothing_can_be_written_to(tmp_path):
    """Nor to a home, which a service may not have: machine code is then made anew by every process, without a word."""
    for name in ("architectures", "bench"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
        (folder / "__pycache__").touch()
    environment = {key: value for key, value in os.environ.items() if not key.endswith(("_CACHE_HOME", "_CACHE_DIR"))}
    code = "import bench.stats.ranking as ranking; print(ranking.__file__, ranking._segments.stats.cache_path)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment | {"HOME": "/dev/null"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'bench' / 'stats' / 'ranking.py'} None\n"


def test_help_tells_exit_codes(bench):
    assert "2 bad input; 130 stopped" in " ".join(bench("--help").out.split())


def test_version(bench):
    assert bench("--version").out == f"bench {version('audio-cnn-transformer-bench')}\n"


def completed(*words):
    """What the shell is offered for the last word."""
    environment = {"_BENCH_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": " ".join(["bench", *words])}
    script = "import sys; sys.argv = ['bench']; from bench.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return set(re.findall(r'"([^"]+?)(?::|")', done.stdout))


def test_the_shell_completes_commands_and_suites():
    assert {"compare", "cost"} <= completed("co")
    assert {"controlled"} <= completed("run", "contr")


# --- --json


def document(done):
    """The one document on stdout; strict, since NaN is no JSON."""
    assert done.code == 0, done.err
    return json.loads(done.out, parse_constant=pytest.fail)


def test_list_as_json(bench):
    entries = {entry["name"]: entry for entry in document(bench("list", "--json"))}
    assert entries["vgg_like"]["published"]["map"] == 0.434
    assert entries["transformer_small"]["config"]["depth"] == 3
    assert not entries["transformer_notes"]["in_all"]


def test_data_as_json(bench, dataset, packed):
    found = document(bench("data", "verify", dataset, "--json"))
    assert (found["clips"]["eval"], found["whole"], found["broken"]) == (40, False, {})
    found = document(bench("data", "info", packed.folder, "--json"))
    assert (found["sample_rate"], found["fingerprint"]) == (16_000, packed.fingerprint)


def test_verify_as_json_still_fails_for_what_is_wrong(bench, dataset, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    first = next((copy / "FSD50K.eval_audio").iterdir())
    first.write_bytes(b"")
    done = bench("data", "verify", copy, "--json")
    assert done.code == 2
    assert list(json.loads(done.out)["broken"]) == [str(first.relative_to(copy))]


def test_report_and_compare_as_json(bench, small_results, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(small_results, copy)
    found = document(bench("report", copy, "--resamples", 100, "--json"))
    assert [record["rank"] for record in found["scores"]] == [1, 2]
    assert len(found["differences"]) == 1
    assert Path(found["figures"]["map_vs_parameters"]).is_file()
    found = document(bench("compare", copy / "vgg_like", copy / "transformer_small", "--resamples", 100, "--json"))
    assert found["first"] == {"name": str(copy / "vgg_like"), "seeds": 2}
    assert [record["metric"] for record in found["metrics"]] == ["mAP", "leaf mAP", "lwlrap"]
    assert {"class", "difference", "verdict"} <= set(found["classes"][0])


def test_cost_as_json(bench, small_suite, packed, tmp_path):
    only = ("--only", "transformer_small", "--out", tmp_path / "out")
    found = document(bench("cost", small_suite, "--data", packed.folder, *only, "--json"))
    (entry,) = found["entries"]
    assert (found["device"], entry["entry"], entry["runs_left"]) == ("cpu", "transformer_small", 2)
    assert found["hours"] == pytest.approx(entry["total_seconds"] / 3600)
