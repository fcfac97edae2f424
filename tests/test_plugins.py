"""Plugins: a file from anywhere, an installed package, and what is said when they are at fault."""

import dataclasses
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save

from architectures import (
    _external,
    _registry,
    create,
    get_architecture,
    list_architectures,
    load_file,
    package_of,
    source_text,
)
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.runner.run import execute
from bench.runner.weights import load_model
from bench.store import ResultsFolder, RunRecord
from bench.store.record import Provenance
from bench.suites.plan import Selection, entries, plan
from bench.suites.suite import load_suite
from bench.tracking.process import Tracker
from tests.test_cli import one_line

ROOT = Path(__file__).parent.parent
MINE = '''"""A plugin."""

from dataclasses import dataclass

import torch
from torch import nn

from architectures import ArchitectureConfig, register


@dataclass(frozen=True, kw_only=True)
class Config(ArchitectureConfig):
    width: int = 4
    drop_rate: float = 0.0


@register("mine", family="hybrid", config=Config())
@register("mine_wide", family="hybrid", config=Config(width=8), in_all=False)
class Mine(nn.Module):
    """Two layers on the loudness of each tenth of a second."""

    def __init__(self, config):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, config.width), nn.Tanh(), nn.Linear(config.width, config.num_classes))

    def forward(self, x):
        return self.layers(nn.functional.adaptive_avg_pool1d(x.abs(), 10))
'''
FORWARD = next(line for line, text in enumerate(MINE.splitlines(), start=1) if "return self.layers" in text)
QUICK = ("--seeds", 1, "--only", "mine", "--only", "vgg_like", "--set", "train.max_steps=2")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A registry as a new process has it, whatever a test adds to it; call it to begin anew."""
    monkeypatch.setattr(_registry, "_architectures", known := dict(_registry._architectures))
    monkeypatch.setattr(_external, "_loaded", {})
    before = dict(known)

    def begin_anew():
        known.clear()
        known.update(before)
        _external._loaded.clear()

    return begin_anew


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """They take most of a report's seconds, and are tested elsewhere."""
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "elsewhere" / "my_arch.py"
    path.parent.mkdir()
    path.write_text(MINE)
    return path


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def records(out):
    return {(run := json.loads(path.read_text()))["spec"]["name"]: run for path in out.glob("*/run.json")}


def in_a_new_process(code, *paths):
    """Run it, with `paths` to import from; returns what it prints."""
    script = f"import sys; sys.path[:0] = {[str(ROOT), *map(str, paths)]}\n{code}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_file_from_anywhere_joins_the_suites(mine, packed, tmp_path, fresh):
    assert load_file(mine) == ["mine_wide", "mine"]
    for suite in ("demo", "controlled"):
        specs = {run.spec.name: run.spec for run in plan(load_suite(suite), [packed], ResultsFolder(tmp_path))}
        assert len(specs) == 9
        assert specs["mine"].config["width"] == 4
        assert "mine_wide" not in specs, "it is not in all"
    assert [entry.name for entry in entries(load_suite("demo"), ["mine_wide"])] == ["mine_wide"]
    assert load_file(mine.parent / ".." / "elsewhere" / "my_arch.py") == ["mine_wide", "mine"], "once is enough"
    assert not (mine.parent / "__pycache__").exists()
    fresh()
    assert "mine" not in list_architectures()


def test_it_runs_beside_the_others_and_its_source_is_part_of_the_run(bench, small_suite, packed, mine, tmp_path, fresh):
    out = tmp_path / "out"
    command = ("run", small_suite, "--data", packed.folder, "--out", out, *QUICK)
    done = bench(*command, "--plugin", mine)
    assert done.code == 0, done.err
    runs = records(out)
    spec = RunSpec.model_validate(runs["mine"]["spec"])
    assert spec.source == get_architecture("mine").source != ""
    assert spec.hash == runs["mine"]["hash"] != spec.model_copy(update={"source": ""}).hash
    assert runs["vgg_like"]["spec"]["source"] == ""

    # who has the results alone
    fresh()
    before = (out / "table.md").read_text()
    assert bench("report", out).code == 0
    assert (out / "table.md").read_text() == before
    one_line(bench(*command), "no architecture 'mine'; `bench list` shows all, --plugin FILE.py adds your own")
    folder = next(out.glob("mine-*"))
    one_line(bench("filters", folder), f"to run that, and no other, say --plugin {folder / 'source.py'}")
    one_line(bench("filters", folder, "--plugin", mine), "begins with Linear")

    # a changed file is another architecture, and the runs of the old one are not taken for those of the new
    fresh()
    edit(mine, "Tanh", "ReLU")
    one_line(bench("filters", folder, "--plugin", mine), "its source is not the one that the run was made with")
    done = bench(*command, "--plugin", mine)
    assert "1 of 2 runs were finished before" in done.err
    assert len(list(out.glob("mine-s0-*"))) == 2
    sources = {json.loads(path.read_text())["spec"]["source"] for path in out.glob("mine-s0-*/run.json")}
    assert all(f"mine (source={source[:8]})" in done.out for source in sources)
    assert "not compared" not in done.err


@pytest.fixture
def trained(packed, mine, tmp_path, fresh):
    """The folder of a run of `mine`, whose file has been edited since, and who has just come."""
    suite = tmp_path / "mine.toml"
    train = "max_steps = 2\nbatch_size = 4\nevaluations = 1"
    suite.write_text(f'title = "mine"\narchitectures = ["mine"]\nplugins = ["elsewhere/my_arch.py"]\n[train]\n{train}')
    load_file(mine)
    results = ResultsFolder(tmp_path / "out")
    (run,) = plan(load_suite(suite), [packed], results)
    results.add_labels(packed, run.task)
    text = mine.read_bytes()
    # after it was loaded, and before it is run
    edit(mine, "Tanh", "ReLU")
    execute(run, torch.device("cpu"))
    assert run.folder.source_file.read_bytes() == text
    fresh()
    return run.folder


def test_the_text_that_was_loaded_is_kept_and_runs_only_if_it_is_named(
    bench, trained, mine, packed, dataset, tmp_path, fresh
):
    source, sounds = trained.source_file, sorted(dataset.glob("*eval_audio/*.wav"))[:2]
    command = ("predict", trained.path, *sounds, "--csv", tmp_path / "a.csv")
    hint = "its text was kept with the run; to run that, and no other, say --plugin "
    for plugins in ((), ("--plugin", mine)):
        one_line(bench(*command, *plugins), f"{hint}{source}")
        fresh()
    one_line(
        bench(*command, "--plugin", mine), "architecture 'mine': its source is not the one that the run was made with"
    )
    fresh()
    assert bench(*command, "--plugin", source).code == 0
    scores = trained.scores((40, 59))
    expected = get_task("tagging").score(
        load_model(trained, trained.record(), torch.device("cpu")).eval(), data(packed)
    )
    np.testing.assert_array_equal(scores, expected)

    # who names both
    fresh()
    done = bench(*command, "--plugin", mine, "--plugin", source)
    one_line(done, f"is registered twice: {mine} and {source.resolve()}; load one of the two")


def data(packed):
    return get_task("tagging").data(packed, "eval", Recipe(loss="bce"), "cpu")


def test_an_interruption_does_not_lose_the_text(mine, packed, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.runner.run.train", interrupt)
    load_file(mine)
    (run,) = plan(load_suite("demo"), [packed], ResultsFolder(tmp_path), Selection(["mine"], 1))
    with pytest.raises(KeyboardInterrupt):
        execute(run, torch.device("cpu"))
    assert run.folder.source_file.read_text() == MINE
    assert [path.name for path in run.folder.path.iterdir()] == ["source.py"]


def test_nothing_runs_what_a_run_kept_unless_it_is_named(bench, trained, packed, dataset, tmp_path, fresh):
    mark = tmp_path / "mark"
    trained.source_file.write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n{MINE}")
    out = trained.path.parent
    suite = ("run", tmp_path / "mine.toml", "--data", packed.folder, "--out", out)
    sound = next(dataset.glob("*eval_audio/*.wav"))
    for command in (
        ("show", trained.path), ("predict", trained.path, sound), ("filters", trained.path), ("report", out), ("list",),
        ("compare", trained.path, trained.path), suite,
    ):  # fmt: skip
        bench(*command)
        fresh()
        assert not mark.exists(), command
    # and changed, it is not what made the run
    one_line(bench("filters", trained.path), "name its file as it was (--plugin FILE.py), or move the folder away")
    bench("filters", trained.path, "--plugin", trained.source_file)
    assert mark.exists()


def test_a_run_that_kept_no_text_says_what_else_to_do(bench, trained):
    trained.source_file.unlink()
    hint = "name its file as it was (--plugin FILE.py), or move the folder away and make it again with `"
    one_line(bench("filters", trained.path), hint)
    values = json.loads(trained.record_file.read_text())
    values["provenance"]["package"] = "sounds 1.0"
    trained.record_file.write_text(json.dumps(values))
    one_line(bench("filters", trained.path), "; install sounds 1.0, or move the folder away")


def test_the_same_text_is_loaded_once_and_another_text_of_the_same_file_is_refused(mine, tmp_path):
    copy = tmp_path / "source.py"
    shutil.copy(mine, copy)
    assert load_file(mine) == load_file(copy)
    assert source_text(get_architecture("mine").source) == copy.read_bytes()
    assert source_text("") is None
    edit(mine, "Tanh", "ReLU")
    with pytest.raises(_registry.ConfigError, match=r"my_arch\.py:\d+: 'mine_wide' was loaded from an earlier text"):
        load_file(mine)
    assert source_text(get_architecture("mine").source) == copy.read_bytes(), "as it was loaded"


def test_a_suite_names_plugins_beside_its_file(bench, mine, packed, tmp_path, monkeypatch):
    suite = tmp_path / "mine.toml"
    suite.write_text('title = "mine"\narchitectures = ["mine"]\nplugins = ["elsewhere/my_arch.py"]\n')
    monkeypatch.chdir(mine.parent)
    command = ("run", suite, "--data", packed.folder, "--out", tmp_path / "out", "--dry-run")
    done = bench(*command)
    assert (done.code, "mine-s0-" in done.out + done.err) == (0, True)
    assert bench(*command, "--plugin", mine).code == 0, "once is enough"
    mine.rename(mine.with_name("gone.py"))
    one_line(bench(*command), f"{suite}: plugins: {mine}: no such file; paths are relative to the suite's file")
    suite.write_text('title = "mine"\nplugins = "my_arch.py"\n')
    one_line(bench(*command), f"{suite}: plugins='my_arch.py': Input should be a valid list")


def test_the_hashes_of_the_projects_architectures_are_what_they_were():
    fields = {"name": "a", "architecture": "vgg_like", "config": {"width": 4}, "recipe": {}, "seed": 1, "pack": "0"}
    assert RunSpec(**fields).hash == "808aa1d0"
    assert RunSpec(**fields, source="0123").hash != "808aa1d0"


def test_annotations_may_be_put_off(mine):
    mine.write_text("from __future__ import annotations\n" + MINE)
    load_file(mine)
    assert create("mine", width=6).layers[0].out_features == 6
    with pytest.raises(_registry.ConfigError, match="width: Input should be a valid integer"):
        create("mine", width="many")


def test_what_is_pickled_is_read_wherever_the_same_text_is_loaded(mine, tmp_path):
    load_file(mine)
    model = create("mine", num_classes=3)
    pickled = tmp_path / "model.pickle"
    pickled.write_bytes(pickle.dumps((get_architecture("mine").config, model)))
    copy = tmp_path / "other" / "my_arch.py"
    copy.parent.mkdir()
    shutil.copy(mine, copy)
    code = f"""
import pickle, torch
from pathlib import Path
from architectures import get_architecture, load_file
load_file(Path({str(copy)!r}))
config, model = pickle.loads(Path({str(pickled)!r}).read_bytes())
assert config == get_architecture("mine").config
print(tuple(model(torch.zeros(2, 16_000)).shape))
"""
    assert in_a_new_process(code) == "(2, 3)"


def line_of(text):
    return next(n for n, line in enumerate(MINE.splitlines(), start=1) if text in line)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"mine_wide", family', '"mine_wide", familly', f":{line_of('mine_wide')}: TypeError"),
        ("class Mine(nn.Module):", "class Mine(nn.Module:", "SyntaxError"),
        ("import torch\n", "import nothing_like_it\n", f":{line_of('import torch')}: ModuleNotFoundError"),
        ('register("mine"', 'register("vgg_like"', "architecture 'vgg_like' is registered twice: architectures.vgg"),
        ('register("mine"', 'register("mine_wide"', "'mine_wide' is registered twice"),
        ('register("mine"', 'register("my arch"', "architecture 'my arch': a name is letters"),
        ('register("mine"', 'register("timm-mine"', "choose another name"),
        ("config=Config()", "config=Config", f":{line_of('config=Config()')}: mine: config should be an instance"),
        ('family="hybrid"', 'family="rnn"', "family 'rnn' should be one of cnn, transformer, hybrid"),
        ("import torch\n", "raise SystemExit('bye')\n", "SystemExit: bye"),
        ("@register", "# @register", "registers no architecture"),
    ],
)
def test_a_slip_in_the_file_is_one_line_with_its_place(bench, mine, tmp_path, monkeypatch, old, new, message):
    monkeypatch.chdir(mine.parent)
    edit(mine, old, new)
    for command in (["list", "--plugin", "my_arch.py"], ["check", "my_arch.py"]):
        done = bench(*command)
        one_line(done, message)
        assert done.err.startswith("bench: error: my_arch.py:")
    assert "mine_wide" not in list_architectures(), "all or nothing"
    one_line(bench("run", "demo", "--plugin", "gone.py"), "gone.py: No such file or directory")
    one_line(bench("run", "demo", "--plugin", tmp_path), "Is a directory")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from posix import _exit\n_exit(0)\n", "my_arch.py:2: SystemExit: os._exit(0)"),
        ("import os\nos.execv('/bin/true', ['true'])\n", "my_arch.py:2: SystemExit: os.execv('/bin/true', ['true'])"),
        ("import sys\nsys.exit()\n", "my_arch.py:2: SystemExit"),
        ("exit(0)\n", "my_arch.py:1: SystemExit: 0"),
        ("class Odd(BaseException): pass\nraise Odd('x')\n", "my_arch.py:2: Odd: x"),
        ("raise GeneratorExit\n", "my_arch.py:1: GeneratorExit"),
        ("def f(): f()\nf()\n", "my_arch.py:1: RecursionError: maximum recursion depth exceeded"),
        ("raise ValueError('a\\x1b[31mb\\u2028c')\n", "my_arch.py:1: ValueError: a\\x1b[31mb c"),
        ("class E(Exception):\n    def __str__(self): raise self\nraise E\n", "my_arch.py:3: E"),
        ("x = " + "(" * 3000 + ")" * 3000, "my_arch.py"),
        ("x = " + "-" * 100_000 + "1", "my_arch.py"),
        ("\0", "my_arch.py"),
        (b"x = '\xff'\n", "my_arch.py"),
        (b"# coding: nothing\n", "my_arch.py"),
        ("print('x' * 1000)\n", "registers no architecture and no task"),
        ("", "registers no architecture and no task"),
    ],
)
def test_whatever_a_file_raises_is_one_line(bench, mine, text, message):
    mine.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = bench("list", "--plugin", mine)
    assert done.out in ("", f"{'x' * 1000}\n"), "what the file prints is its own"
    one_line(dataclasses.replace(done, out=""), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os\nos._exit(0)\n", "my_arch.py:2: SystemExit: os._exit(0)"),
        ("import os\nos.execlp('true', 'true')\n", "my_arch.py:2: SystemExit: os.execv"),
    ],
)
def test_a_file_can_not_end_the_command_in_silence(mine, text, message):
    """A real process: its exit code is 2, and a line says why."""
    mine.write_text(text)
    code = f"import sys; sys.argv = ['bench', 'list', '--plugin', {str(mine)!r}]; from bench import cli; cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 1), done.stderr[-2000:]
    assert lines[0].startswith("bench: error: ")
    assert message in lines[0]


def test_its_own_processes_may_end_as_they_do(mine):
    """What a file starts, such as multiprocessing's workers, ends by os._exit; so does whoever is done with loading."""
    fork = """import os
child = os.fork()
if not child:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    mine.write_text(fork + MINE)
    load = f"from pathlib import Path; from architectures import load_file; print(load_file(Path({str(mine)!r})))"
    assert in_a_new_process(load) == "['mine_wide', 'mine']"
    code = f"import os\n{load}\nos._exit(3)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 3


def test_ctrl_c_while_a_file_is_loaded_registers_nothing(mine):
    mine.write_text(MINE + "raise KeyboardInterrupt\n")
    before = set(sys.modules)
    with pytest.raises(KeyboardInterrupt):
        load_file(mine)
    assert "mine" not in list_architectures()
    assert set(sys.modules) == before


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "missing"])
def test_what_is_no_file_is_not_read(bench, tmp_path, kind):
    path = Path("/dev/zero") if kind == "device" else tmp_path / "odd.py"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    reason = {"folder": "Is a directory", "missing": "No such file or directory"}.get(kind, "is no plain file")
    one_line(bench("list", "--plugin", path), f"{path}: {reason}")
    if kind != "device":
        one_line(bench("check", path), f"{path}: {reason}")


def test_check_takes_files_and_says_what_fails_and_where(bench, mine, fresh):
    done = bench("check", mine, "transformer_notes")
    assert done.code == 0
    assert sorted(done.out.splitlines()) == [
        "mine: passes all checks", "mine_wide: passes all checks", "transformer_notes: passes all checks",
    ]  # fmt: skip
    fresh()
    edit(mine, "return self.layers(", "return self.layers(x + ")
    done = bench("check", mine)
    assert done.code == 1
    assert [line.partition(": ")[0] for line in done.out.splitlines()] == ["mine_wide", "mine"], "said once for each"
    assert f": my_arch.py:{FORWARD}: RuntimeError: The size of tensor a" in done.out
    fresh()
    edit(mine, "x + ", "")
    edit(mine, "x.abs(), 10))", "x.abs(), 10)).sigmoid()")
    assert "mine: returns logits, not probabilities: no output is negative: leave out the sigmoid" in (
        bench("check", mine).out
    )


def test_a_run_names_the_line_that_fails_before_anything_trains(bench, small_suite, packed, mine, tmp_path):
    edit(mine, "return self.layers(", "return self.layers(x + ")
    out = tmp_path / "out"
    done = bench("run", small_suite, "--data", packed.folder, "--out", out, *QUICK, "--plugin", mine)
    one_line(done, f"mine does not run: my_arch.py:{FORWARD}: RuntimeError")
    assert not out.exists()


def test_list_shows_where_it_is_from(bench, mine):
    lines = bench("list", "--plugin", mine).out.splitlines()
    (line,) = [line for line in lines if line.startswith("mine ")]
    assert line.split()[:2] == ["mine", "hybrid"]
    assert line.split()[-1].startswith("my_arch_")
    assert any(line.startswith("mine_wide *") for line in lines)
    done = bench("list", "--with", mine)
    assert done.out.splitlines() == lines
    assert done.err == "bench: warning: --with is now --plugin; the old name goes with the next release\n"


def test_a_search_takes_it_and_says_how_to_retrain(bench, packed, mine, tmp_path):
    suite = tmp_path / "searched.toml"
    train = "[train]\nmax_steps = 2\nbatch_size = 4\nevaluations = 1\n"
    space = "learning_rate = { low = 1e-4, high = 1e-2, log = true }"
    suite.write_text(f'title = "searched"\nplugins = ["elsewhere/my_arch.py"]\n{train}[space]\n{space}\n')
    out = tmp_path / "out"
    options = ("--suite", suite, "--data", packed.folder, "--out", out, "--trials", 1, "--plugin", mine)
    done = bench("search", "mine", *options, "--export")
    assert done.code == 0, done.err
    assert f"--plugin {mine}" in done.err.replace("\n", "")
    exported = load_suite(str(out / "best.toml"))
    assert exported.plugins == [], "what lies in a results folder runs nothing by itself"
    (run,) = plan(exported, [packed], ResultsFolder(out), Selection(seeds=1))
    assert (run.spec.name, run.spec.source) == ("mine", get_architecture("mine").source)


PACKAGE = {
    "sounds/__init__.py": "",
    "sounds/layers.py": "ABS = True\n",
    "sounds/nets.py": MINE.replace("import torch\n", "import torch\n\nfrom sounds.layers import ABS\n"),
    "sounds-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: sounds\nVersion: 1.0\n",
    "sounds-1.0.dist-info/entry_points.txt": "[bench.architectures]\nnets = sounds.nets\n",
}


@pytest.fixture
def site(tmp_path):
    """A folder to import from, with an installed distribution."""
    folder = tmp_path / "site"
    for name, text in PACKAGE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    yield folder
    for module in [name for name in sys.modules if name.partition(".")[0] == "sounds"]:
        del sys.modules[module]


def source_in(site):
    code = "from architectures import get_architecture; print(get_architecture('mine').source)"
    return in_a_new_process(code, site)


def test_an_installed_package_joins_and_all_of_it_is_the_source(site):
    first = source_in(site)
    assert len(first) == 16
    assert source_in(site) == first
    edit(site / "sounds" / "layers.py", "ABS = True", "ABS = False")
    assert source_in(site) != first


def test_a_run_of_an_installed_package_says_which(site, monkeypatch, packed, tmp_path):
    monkeypatch.syspath_prepend(site)
    _external.load_installed()
    assert package_of("mine") == "sounds 1.0"
    assert package_of("vgg_like") == ""
    recipe = Recipe(loss="bce", max_steps=1, evaluations=1, batch_size=2)
    selection = Selection(["mine"], 1, recipe.model_dump())
    (run,) = plan(load_suite("demo"), [packed], ResultsFolder(tmp_path), selection)
    assert execute(run, torch.device("cpu")).provenance.package == "sounds 1.0"
    assert run.folder.record().provenance.package == "sounds 1.0"
    assert not run.folder.source_file.exists()


def run_bench(site, *arguments):
    code = f"sys.argv = ['bench', *{arguments}]; from bench import cli; cli.main()"
    script = f"import sys; sys.path[:0] = {[str(ROOT), str(site)]}\n{code}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_the_command_finds_an_installed_package(site):
    done = run_bench(site, "list")
    assert done.returncode == 0, done.stderr
    assert any(line.split() == ["mine", "hybrid", "sounds.nets"] for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sounds/layers.py", "", "ImportError: cannot import name 'ABS'"),
        ("sounds/nets.py", MINE.replace('"mine"', '"crnn"'), "architecture 'crnn' is registered twice"),
        ("sounds-1.0.dist-info/entry_points.txt", "[bench.architectures]\nnets = sounds.gone\n", "ModuleNotFoundError"),
    ],
)
def test_a_broken_package_is_named_in_one_line(site, monkeypatch, name, text, message):
    monkeypatch.syspath_prepend(site)
    (site / name).write_text(text)
    with pytest.raises(_registry.ConfigError, match=r"^package sounds, entry point nets = sounds\.[^\n]+$") as raised:
        _external.load_installed()
    assert message in str(raised.value)


def test_new_writes_a_file_that_passes_all_checks(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = bench("new", "wavelets", "--out", "nets")
    assert done.code == 0
    path = Path("nets") / "wavelets.py"
    assert f"bench check {path}" in done.out
    assert f"bench run demo --plugin {path}" in done.out
    assert bench("check", path).out == "wavelets: passes all checks\n"
    assert dataclasses.is_dataclass(get_architecture("wavelets").config)
    assert len(path.read_text().splitlines()) < 50
    one_line(bench("new", "wavelets", "--out", "nets"), "there is an architecture 'wavelets' already")


@pytest.mark.parametrize("name", ["my-arch", "2nets", "_net", "class", "naïve", "a/b", "", "x.py"])
def test_new_refuses_what_can_name_no_module(bench, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    one_line(bench("new", name), "can't name a Python module")
    assert not list(tmp_path.iterdir())


def test_new_overwrites_nothing(bench, tmp_path):
    path = tmp_path / "wavelets.py"
    path.write_text("mine\n")
    one_line(bench("new", "wavelets", "--out", tmp_path), f"{path} is there already")
    one_line(bench("new", "vgg_like", "--out", tmp_path), "there is an architecture 'vgg_like' already")
    assert path.read_text() == "mine\n"


STUBBORN = MINE.replace("x.abs()", "x.abs() if x.mean() > 0 else -x")  # torch.export refuses what hangs on values


def test_tracking_sends_its_model_if_it_knows_the_file(bench, mine, tmp_path, fresh):
    mine.write_text(STUBBORN)
    load_file(mine)
    model, entry = create("mine", num_classes=3).eval(), get_architecture("mine")
    results = ResultsFolder(tmp_path / "results" / "suite")
    config = {"sample_rate": 16_000, "num_classes": 3}
    names = {"name": "mine", "architecture": "mine", "config": config, "source": entry.source}
    spec = RunSpec(**names, recipe=Recipe(loss="bce"), seed=0, pack="0")
    made = {"commit": None, "dirty": False, "source": {}, "date": "2026-01-01T00:00:00+00:00", "versions": {}}
    record = RunRecord(
        spec=spec,
        hash=spec.hash,
        family=entry.family,
        metrics={"map": 0.5},
        untrained={"map": 0.1},
        val_score=0.5,
        best_step=1,
        steps=1,
        cost={"parameters": 1, "train_seconds": 1.0, "samples_per_second": 1.0, "seconds": 1.0},
        data={"dataset": "0"},
        provenance=Provenance(**made, command="bench run demo --plugin mine.py", device="cpu"),
    )
    folder = results.run(spec)
    folder.path.mkdir(parents=True)
    history = pd.DataFrame({"step": [1], "val_score": [0.5]})
    folder.write(record, history, np.zeros((1, 3), np.float32), save(model.state_dict()))

    fresh()
    done = bench("track", "sync", results.path)
    assert done.code == 0
    warning = re.search(
        rf"{folder.name}: its model was not sent: .*no architecture 'mine'.*--plugin FILE.py", done.err, re.DOTALL
    )
    assert warning, done.err
    with Tracker(results.path, plugins=[mine]) as tracker:  # as a suite does it
        (warning,) = tracker.finish(300)
    assert warning.startswith(f"{folder.name}: its model was pickled")
    (sent,) = (tmp_path / "results").glob("mlartifacts/models/*/artifacts")
    code = f"import mlflow, torch; print(mlflow.pytorch.load_model({str(sent)!r})(torch.ones(1, 16_000))[0].tolist())"
    with torch.no_grad():
        expected = model(torch.ones(1, 16_000))[0].tolist()
    assert json.loads(in_a_new_process(code)) == pytest.approx(expected)
