"""Two processes at once in one place: each run is trained once, and who finds work in progress waits and says so."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest
import torch

from bench import locks
from bench.data.packing import pack
from bench.data.synthetic.demo import write_demo
from bench.errors import UserError
from bench.runner.display import Display
from bench.runner.executors import LocalExecutor
from bench.runner.runs import run_all
from bench.store import ResultsFolder
from bench.suites.plan import plan
from bench.suites.suite import load_suite
from tests.conftest import SMALL_SUITE

CPU = torch.device("cpu")
ME = f"process {os.getpid()} on {os.uname().nodename}"
FEW = {"dev_clips": 28, "eval_clips": 14}


class Lines(Display):
    """Keeps what is said, and calls back when something is."""

    def __init__(self, heard=lambda line: None):
        self.lines, self.heard = [], heard

    def notice(self, line):
        self.lines.append(line)
        self.heard(line)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- locks


def test_a_lock_is_held_once_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "run"
    with locks.hold(path, "being trained") as waited:
        assert waited is False
        assert [entry.name for entry in path.parent.iterdir()] == [".run.lock"]
        assert locks.holder(path) == ME
        with locks.attempt(path) as is_held:
            assert is_held is False
        with locks.attempt(path.with_name("other")) as is_held:
            assert is_held is True
    assert list(path.parent.iterdir()) == []
    with locks.attempt(path) as is_held:
        assert is_held is True


def test_the_second_waits_and_says_for_whom(tmp_path):
    path, said, order = tmp_path / "pack", [], []
    with ExitStack() as first:
        first.enter_context(locks.hold(path, "being packed"))

        def heard(line):
            said.append(line)
            order.append("released")
            first.close()

        with locks.hold(path, "being packed", heard) as waited:
            order.append("held")
    assert (waited, order) == (True, ["released", "held"])
    assert said == [f"{path} is being packed by {ME}: waiting for it"]


def test_a_killed_process_blocks_nobody(tmp_path):
    path = tmp_path / "run"
    code = f"""
import time
from pathlib import Path
from bench.locks import hold
with hold(Path({str(path)!r}), "held"):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with locks.attempt(path) as is_held:
            assert not is_held
        assert locks.holder(path) == f"process {process.pid} on {os.uname().nodename}"
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / ".run.lock").exists()
    with locks.attempt(path) as is_held:
        assert is_held
    assert list(tmp_path.iterdir()) == []


def test_many_threads_take_turns(tmp_path):
    """The file is removed by each holder, under the eyes of those who are about to lock it."""
    inside, most, turns = 0, 0, 0

    def work():
        nonlocal inside, most, turns
        for _ in range(50):
            while True:
                with locks.attempt(tmp_path / "x") as is_held:
                    if is_held:
                        inside += 1
                        most = max(most, inside)
                        time.sleep(0)
                        inside -= 1
                        turns += 1
                        break

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 200)


# --- runs


@pytest.fixture
def suite(packed, small_results, tmp_path):
    """The runs of a small suite with nothing done, and by name the folders that they will be when they are."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL_SUITE)
    results = ResultsFolder(tmp_path / "out")
    results.path.mkdir()
    return plan(load_suite(path), [packed], results), small_results


def start_and_finish(runs, how):
    """Hold all these runs' locks; return what the display may call to end them, by `how(run)`."""
    held = ExitStack()
    for run in runs:
        held.enter_context(locks.hold(run.folder.path, "being trained"))

    def end(line):
        if "waiting" in line:
            for run in runs:
                how(run)
            held.close()

    return end


def test_a_run_that_another_process_trains_is_left_to_it_and_taken_as_finished(suite):
    runs, small = suite
    theirs = runs[:2]

    def finish(run):
        shutil.copytree(small / run.folder.name, run.folder.path)

    display = Lines(start_and_finish(theirs, finish))
    outcome = run_all(runs, LocalExecutor(CPU), display)
    assert outcome.done == [run.folder.name for run in runs[2:]], "first what is free"
    assert outcome.skipped == [run.folder.name for run in theirs]
    assert outcome.failed == []
    (line,) = [line for line in display.lines if "waiting" in line]
    who = f"process {os.getpid()} on {os.uname().nodename}"
    assert line == f"waiting for 2 runs that are being trained elsewhere: {theirs[0].folder.name} ({who}) and 1 more"
    for run in theirs:
        assert run.folder.record_file.read_bytes() == (small / run.folder.name / "run.json").read_bytes()
    assert not list(runs[0].folder.path.parent.glob(".*"))


def test_a_run_whose_process_died_is_trained_here(suite):
    runs, _ = suite
    outcome = run_all(runs[:1], LocalExecutor(CPU), Lines(start_and_finish(runs[:1], lambda run: None)))
    assert outcome.done == [runs[0].folder.name]


def test_a_run_that_failed_elsewhere_is_not_tried_again_at_once(suite):
    runs, _ = suite

    def fail(run):
        run.folder.path.mkdir()
        run.folder.write_failure(run.spec, ValueError("no memory"))

    display = Lines(start_and_finish(runs[:1], fail))
    outcome = run_all(runs[:1], LocalExecutor(CPU), display)
    assert (outcome.done, outcome.failed) == ([], [runs[0].folder.name])
    assert any("failed elsewhere: ValueError: no memory" in line for line in display.lines)
    assert run_all(runs[:1], LocalExecutor(CPU)).done == [runs[0].folder.name], "the same command tries it again"


def test_plans_of_two_processes_are_both_kept(tmp_path, packed, suite):
    """Read, changed and written by turns: none loses what the other adds."""
    results = ResultsFolder(tmp_path / "out")
    names = [[f"entry-s{seed}-{part:08x}" for seed in range(40)] for part in range(3)]

    def add(part):
        for name in part:
            results.add_to_plan("small", [name])
            results.add_labels(packed, suite[0][0].task)

    threads = [threading.Thread(target=add, args=(part,)) for part in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results.plan().planned) == {name for part in names for name in part}
    assert {path.name for path in results.path.iterdir()} == {"suite.json", "labels.npz"}


def test_a_folder_has_one_identity(tmp_path):
    found, start = [], threading.Barrier(8)

    def ask():
        start.wait()
        found.append(ResultsFolder(tmp_path).identity())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tracking.json"]


# --- data


def test_of_two_packs_in_one_place_the_second_finds_the_first(dataset, packed, tmp_path):
    out, made, told = tmp_path / "pack", threading.Event(), threading.Event()
    lines = Lines(lambda _: told.set())

    def first():
        with locks.hold(out, "being packed"):
            made.set()
            # not over before the second has begun
            told.wait(20)
            shutil.copytree(packed.folder, out)

    thread = threading.Thread(target=first)
    thread.start()
    made.wait()
    before = time.monotonic()
    found = pack(dataset, out, notice=lines.notice)
    thread.join()
    assert found.fingerprint == packed.fingerprint
    assert lines.lines == [f"{out} is being packed by {ME}: waiting for it"]
    assert {path.name for path in tmp_path.iterdir()} == {"pack"}
    assert time.monotonic() - before < 20


def test_of_two_demos_in_one_place_the_second_finds_the_first(tmp_path):
    folder, made, told = tmp_path / "demo", threading.Event(), threading.Event()
    lines = Lines(lambda _: told.set())

    def first():
        write_demo(folder, **FEW, progress=lambda *_: (made.set(), told.wait(20)))

    thread = threading.Thread(target=first)
    thread.start()
    made.wait()
    write_demo(folder, **FEW, notice=lines.notice)
    thread.join()
    assert lines.lines == [f"{folder} is being generated by {ME}: waiting for it"]
    assert len(list(folder.glob("*/*.wav"))) == 42
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_another_demo_than_the_one_that_is_there_is_refused(tmp_path):
    write_demo(tmp_path / "demo", **FEW)
    before = files(tmp_path)
    write_demo(tmp_path / "demo", **FEW)
    for other in ({**FEW, "seed": 1}, {"dev_clips": 30, "eval_clips": 14}):
        with pytest.raises(UserError, match="exists and is not an empty folder"):
            write_demo(tmp_path / "demo", **other)
    next((tmp_path / "demo").glob("*/*.wav")).unlink()
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        write_demo(tmp_path / "demo", **FEW)
    assert len(files(tmp_path)) == len(before) - 1


# --- real processes


def both(*commands, cwd):
    """Run commands at the same time, as processes; return their codes and what they printed."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "bench", *map(str, command)],
            cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for command in commands
    ]  # fmt: skip
    texts = [process.communicate(timeout=400)[0] for process in started]
    return [process.returncode for process in started], texts


@pytest.mark.slow
def test_two_runs_of_one_suite_train_each_run_once(packed, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL_SUITE.replace("max_steps = 4", "max_steps = 40"))
    command = ("run", path, "--data", packed.folder, "--out", tmp_path / "out")
    codes, texts = both(command, command, cwd=tmp_path)
    assert codes == [0, 0], texts
    trained = [name for text in texts for name in re.findall(r"^\[\d/\d\] (\S+ seed \d): mAP", text, re.MULTILINE)]
    assert sorted(trained) == [f"{name} seed {seed}" for name in ("transformer_small", "vgg_like") for seed in (0, 1)]
    assert not any("Traceback" in text for text in texts)
    runs = list((tmp_path / "out").glob("*/run.json"))
    assert len(runs) == 4
    assert json.loads((tmp_path / "out" / "suite.json").read_text())["planned"]
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.slow
def test_two_demo_suites_make_the_data_once(tmp_path):
    command = ("data", "demo", "demo")
    codes, texts = both(command, command, cwd=tmp_path)
    assert codes == [0, 0], texts
    command = ("data", "pack", "demo", "--out", "pack")
    codes, texts = both(command, command, cwd=tmp_path)
    assert codes == [0, 0], texts
    assert {path.name for path in tmp_path.iterdir()} == {"demo", "pack"}
