"""Several processes on this machine: the same numbers as one by one, each run once, and nothing left running."""

import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch

from architectures._registry import forget
from bench.api import console
from bench.api.options import Options
from bench.api.plugins import load_plugins
from bench.api.runs import _at_once, _Job
from bench.data.pack import Pack
from bench.errors import MachineFault, UserError
from bench.protocol.train import Status
from bench.runner import runs as running
from bench.runner.display import Display
from bench.runner.estimate import Estimate, Rates, remaining
from bench.runner.executors import LocalExecutor, WorkerDied, jobs
from bench.runner.executors.base import Interrupted, at_once, computing_with
from bench.runner.executors.jobs import JobsExecutor, spread
from bench.runner.executors.remote import RemoteDisplay, portable
from bench.runner.provenance import code_of
from bench.runner.run import checkpoint_of
from bench.runner.runs import RunEnd, RunWork, costs_of, run_all
from bench.searching import search as searching
from bench.searching.search import Search, TrialWork, open_study, run_search
from bench.searching.study import counted, open_storage, status
from bench.store import ResultsFolder
from bench.suites.plan import plan
from bench.suites.space import Budget, Dimension
from bench.suites.suite import load_suite
from tests.conftest import make_run, make_spec

CPU = torch.device("cpu")
PLUGIN = '''"""Three architectures: one runs, one raises what does not pickle, one ends its process."""

import math
import os
import signal
from dataclasses import dataclass

from torch import nn

from architectures import ArchitectureConfig, register


class Odd(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


@dataclass(frozen=True, kw_only=True)
class Config(ArchitectureConfig):
    how: str = "steady"


@register("steady", family="hybrid", config=Config(), in_all=False)
@register("raising", family="hybrid", config=Config(how="raising"), in_all=False)
@register("dying", family="hybrid", config=Config(how="dying"), in_all=False)
class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.how, self.layer = config.how, nn.Linear(1, config.num_classes)

    def forward(self, x):
        if self.training and self.how == "raising":
            raise Odd("left", "right")
        if self.training and self.how == "dying":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layer(x.abs().mean(1, keepdim=True))
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "three.py"
    path.write_text(PLUGIN)
    names = load_plugins([path])
    yield path
    forget(set(names))


@pytest.fixture(scope="module")
def two(plugin):
    """Two processes, which know the plugin."""
    with JobsExecutor([CPU, CPU], 1, partial(load_plugins, [plugin])) as executor:
        yield executor


def workers_of(pid):
    """The processes that a process has started to do its work, as far as they run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z" and b"executors.worker" in folder.joinpath("cmdline").read_bytes():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def runs_on(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(is_so, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- pieces of work, as they arrive in a worker


def process(*_):
    return os.getpid()


def threads(*_):
    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"], torch.full((1,), 1e-30).mul(1e-9).item()


def talk(_, display):
    for number in range(3):
        display.notice(str(number))
    return "over"


def fail(*_):
    raise KeyError("what\nthis is")


def fail_oddly(*_):
    class Odd(Exception):
        pass

    raise Odd("from nowhere")


def leave(*_):
    os._exit(3)


def die(*_):
    os.kill(os.getpid(), signal.SIGSEGV)


def stop(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)


def sleep(_, display):
    display.notice(str(os.getpid()))
    time.sleep(600)


def stay(_, display):
    display.notice(str(os.getpid()))
    while True:
        with suppress(KeyboardInterrupt):
            time.sleep(600)


def start_another(_, display):
    """Start a process that holds what this one has open, as a forked one does, and return how to find it."""
    child = os.fork()
    if not child:
        time.sleep(30)
        os.kill(os.getpid(), signal.SIGKILL)
    display.notice(str(child))
    return child


def start_another_and_die(_, display):
    start_another(_, display)
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class OpenPack:
    pack: Pack

    def __call__(self, *_):
        return id(self.pack), os.getpid()


class Heard(Display):
    """Keeps what is said, and by which thread; one thing at a time."""

    def __init__(self):
        self.lines, self.threads, self.failed, self.places, self.inside = [], set(), [], [], 0

    def notice(self, line):
        self.inside += 1
        self.threads.add(threading.get_ident())
        self.lines.append(line)
        time.sleep(0.001)
        assert self.inside == 1
        self.inside -= 1

    def run_started(self, number, total, _):
        self.notice(f"{number} of {total}")

    def training(self, status):
        self.notice(f"step {status.step}")

    def run_failed(self, error, folder):
        self.failed.append((folder.name, type(error), str(error)))

    def run_finished(self, _, place, of):
        self.places.append((place, of))


# --- the executor


def test_what_work_says_arrives_in_the_thread_that_waits_for_it(two):
    display = Heard()
    assert two.do(talk, display) == "over"
    assert (display.lines, display.threads) == (["0", "1", "2"], {threading.get_ident()})


def test_processes_are_warm(two):
    assert two.do(process, Display()) == two.do(process, Display()) != os.getpid()


def test_an_error_arrives_as_what_it_is_with_its_place(two):
    with pytest.raises(KeyError, match="what") as error:
        two.do(fail, Display())
    assert "in fail\n" in error.value.__notes__[0]
    with pytest.raises(RuntimeError) as error:
        two.do(fail_oddly, Display())
    assert str(error.value) == "Odd: from nowhere"
    assert "in fail_oddly\n" in error.value.__notes__[0]


def test_what_a_display_raises_ends_the_work_and_comes_back_as_the_same_object(two):
    raised = optuna.TrialPruned("enough")

    class Ending(Heard):
        def notice(self, line):
            super().notice(line)
            if line == "1":
                raise raised

    display = Ending()
    with pytest.raises(optuna.TrialPruned) as error:
        two.do(talk, display)
    assert error.value is raised
    assert display.lines == ["0", "1"]
    assert two.do(talk, Display()) == "over"


@pytest.mark.parametrize(("work", "how"), [
    (leave, "ended by itself, with exit code 3"), (die, "ended by SIGSEGV"), (stop, "ended by SIGTERM"),
])  # fmt: skip
def test_a_process_that_ends_is_told_and_replaced(two, work, how):
    before = two.do(process, Display())
    with pytest.raises(WorkerDied, match=how):
        two.do(work, Display())
    assert two.do(process, Display()) != before


def test_a_death_is_noticed_at_once_and_what_the_process_had_started_ends_with_it(two):
    """Which holds the other end of the pipe."""
    display, begun = Heard(), time.monotonic()
    with pytest.raises(WorkerDied, match="ended by SIGKILL"):
        two.do(start_another_and_die, display)
    assert time.monotonic() - begun < 20
    wait_until(lambda: not runs_on(int(display.lines[0])), seconds=5)


def test_closing_ends_what_a_process_has_started():
    with JobsExecutor([CPU], 1, load_plugins) as executor:
        child = executor.do(start_another, Display())
        assert runs_on(child)
    wait_until(lambda: not runs_on(child), seconds=5)


def test_a_pack_travels_as_its_place_and_is_opened_once(two, packed):
    assert len(pickle.dumps(packed)) < 1000
    (first, here), (second, there) = (two.do(OpenPack(packed), Display()) for _ in range(2))
    assert (first, here) == (second, there)
    arrived = pickle.loads(pickle.dumps(packed))
    assert (arrived.folder, arrived.fingerprint) == (packed.folder, packed.fingerprint)


def test_another_pack_in_its_place_is_refused_in_a_line(packed, tmp_path):
    folder = tmp_path / "pack"
    shutil.copytree(packed.folder, folder)
    sent = Pack(folder)
    sent.fingerprint = "0" * 64
    text = pickle.dumps(sent)
    with pytest.raises(UserError, match=rf"{folder}: holds a pack with fingerprint {packed.fingerprint[:16]}, the"):
        pickle.loads(text)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="is no pack"):
        pickle.loads(text)


def test_a_worker_that_can_do_no_work_stops_all(packed, tmp_path):
    """Of a file that can't be loaded there, a pack that isn't there: in one line, which is no run's failure."""
    shutil.copytree(packed.folder, tmp_path / "pack")
    lost = Pack(tmp_path / "pack")
    shutil.rmtree(lost.folder)
    with JobsExecutor([CPU], 1, partial(load_plugins, [tmp_path / "none.py"])) as executor:
        with pytest.raises(MachineFault, match=r"none.py: No such file") as error:
            executor.do(process, Display())
        assert "\n" not in str(error.value)
    with JobsExecutor([CPU], 1, load_plugins) as executor, pytest.raises(MachineFault, match="is no pack"):
        executor.do(OpenPack(lost), Display())


def test_a_process_has_its_threads_and_computes_as_this_one():
    with JobsExecutor([CPU], 3, load_plugins) as executor:
        # numbers that small are zeros
        assert executor.do(threads, Display()) == (3, "3", 0.0)


def test_closing_ends_what_is_under_way_and_leaves_no_process(monkeypatch):
    monkeypatch.setattr(jobs, "_GRACE", 0.5)
    executor, pids = JobsExecutor([CPU, CPU], 1, load_plugins), []

    class Closing(Display):
        def notice(self, line):
            pids.append(int(line))
            if len(pids) == 2:
                threading.Thread(target=executor.close).start()

    def ended(work):
        with pytest.raises(Interrupted):
            executor.do(work, Closing())

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(ended, work) for work in (sleep, stay)]:
            future.result(timeout=60)
    assert not any(runs_on(pid) for pid in pids)
    with pytest.raises(Interrupted):
        executor.do(process, Display())


def test_gpus_are_taken_in_turn_unless_one_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)

    def names(*arguments):
        return [str(device) for device in spread(torch.device(arguments[0]), *arguments[1:])]

    assert names("cuda", 4, 9) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert names("cuda", "auto", 9) == ["cuda:0", "cuda:1", "cuda:2"]
    assert names("cuda", "auto", 2) == ["cuda:0", "cuda:1"]
    assert names("cuda:1", 2, 9) == ["cuda:1", "cuda:1"]
    assert names("cuda:1", "auto", 9) == ["cuda:1"]
    assert names("cpu", "auto", 9) == 4 * ["cpu"]
    assert names("cpu", "auto", 3) == 3 * ["cpu"]
    assert names("cpu", "auto", 0) == ["cpu"]
    # a process without work would take its threads from the others
    assert names("cpu", 5, 3) == 3 * ["cpu"]
    assert names("cuda", 4, 0) == ["cuda:0"]


def test_a_worker_that_nobody_hears_ends_and_no_run_fails_by_that():
    code = "import sys; from multiprocessing import Pipe; from bench.runner.executors import worker; near, far = Pipe()"
    child = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=2).pid, flush=True)"
    speaks = "far.close(); worker._say(near, 'tell', None); sys.exit('goes on')"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {child}; {speaks}"], stdout=subprocess.PIPE, text=True, check=False,
        process_group=0,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    # with what it has started
    wait_until(lambda: not runs_on(int(done.stdout)), seconds=5)


# --- what travels


def test_every_evaluation_is_told_and_other_steps_now_and_then(packed):
    heard = []
    display = RemoteDisplay(lambda name, arguments: heard.append((name, arguments)), seconds=3600)
    # on val after steps 4, 8 and 12
    display.started("a trial", make_spec(packed))
    for step in range(1, 13):
        display.training(Status(step, 0.5, 0.25, 10.0, 1.0))
    assert [arguments[0].step for name, arguments in heard if name == "training"] == [1, 4, 8, 12]


def test_errors_that_do_not_arrive_arrive_in_words():
    class Stubborn(Exception):
        def __reduce__(self):
            raise TypeError("no")

    try:
        raise Stubborn("one\ntwo")
    except Stubborn as error:
        arrived = portable(error)
    assert (type(arrived), str(arrived)) == (RuntimeError, "Stubborn: one two")
    assert "in test_errors" in arrived.__notes__[0]


# --- runs


@pytest.fixture(scope="module")
def by_two(two, packed, tmp_path_factory):
    """Some runs by two processes, and what was said."""
    planned = [make_run(packed, tmp_path_factory.getbasetemp() / "by-two", seed=seed) for seed in range(3)]
    display, after = Heard(), []
    outcome = run_all(planned, two, display, lambda: after.append(1), costs_of(planned, two))
    return planned, outcome, display, after


def without_times(record):
    for name in ("date", "command"):
        record["provenance"].pop(name)
    record["cost"] = {name: record["cost"][name] for name in ("parameters", "macs", "train_memory_bytes")}
    return record


def assert_equal_runs(one, other):
    """To the last bit, but for what the clock says."""
    assert one.weights_file.read_bytes() == other.weights_file.read_bytes()
    records = [without_times(json.loads(folder.record_file.read_text())) for folder in (one, other)]
    assert records[0] == records[1]
    histories = [folder.history().drop(columns="seconds") for folder in (one, other)]
    assert histories[0].equals(histories[1])
    with np.load(one.scores_file) as mine, np.load(other.scores_file) as theirs:
        assert mine["scores"].tobytes() == theirs["scores"].tobytes()


def test_two_at_once_come_to_the_same_bits_as_one_by_one(by_two, packed, tmp_path):
    planned, outcome, _, _ = by_two
    assert outcome.done == [run.folder.name for run in planned]
    alone = [make_run(packed, tmp_path / "out", seed=run.spec.seed) for run in planned]
    run_all(alone, LocalExecutor(CPU))
    for run, other in zip(planned, alone, strict=True):
        assert_equal_runs(run.folder, other.folder)


@pytest.mark.slow
def test_so_do_convolutions_in_another_precision_and_layout(two, packed, small_suite, small_results, tmp_path):
    planned = plan(load_suite(str(small_suite)), [packed], ResultsFolder(tmp_path / "out"))
    assert len(run_all(planned, two).done) == 4
    for run in planned:
        assert_equal_runs(run.folder, ResultsFolder(small_results).run(run.spec))


def test_each_run_is_told_once_and_ranked_by_the_command(by_two):
    _, _, display, after = by_two
    assert {line for line in display.lines if "of" in line} == {"1 of 3", "2 of 3", "3 of 3"}
    # at least each evaluation, of each run
    assert all(display.lines.count(f"step {step}") == 3 for step in (4, 8, 12))
    assert (display.places, len(after)) == ([(1, 1)] * 3, 3)


def test_costs_are_measured_once_an_entry(packed, tmp_path, monkeypatch):
    planned = [make_run(packed, tmp_path / "out", seed=seed) for seed in range(3)]
    measured = []
    monkeypatch.setattr(running, "measured_cost", lambda spec, *_: measured.append(spec) or {"parameters": 1})
    costs = costs_of(planned, LocalExecutor(CPU))
    assert (len(measured), costs) == (1, {"tiny": {"parameters": 1}})
    given = []
    monkeypatch.setattr(running, "execute", lambda *arguments: given.append(arguments[3]) or finished(arguments[0]))
    run_all(planned, LocalExecutor(CPU), costs=costs)
    assert given == 3 * [{"parameters": 1}]


@pytest.mark.parametrize("threads", [None, 1], ids=["elsewhere", "here"])
def test_costs_are_measured_before_any_run_wherever_that_is(bench, small_suite, packed, tmp_path, monkeypatch, threads):
    """So one entry's latency is one number, which no other run has disturbed; a cluster tells no threads."""
    done = []

    class Somewhere(LocalExecutor):
        def do(self, work, display):
            done.append(type(work).__name__)
            return super().do(work, display)

    somewhere = Somewhere(CPU)
    somewhere.threads = threads
    monkeypatch.setattr(_Job, "executor", lambda *_: somewhere)
    command = ("run", small_suite, "--data", packed.folder, "--only", "transformer_small", "--no-report")
    assert bench(*command, "--out", tmp_path / "out").code == 0
    assert done == ["_CostWork", "RunWork", "RunWork"]


def test_an_entry_that_kills_its_process_has_no_cost_and_stops_no_other(two, plugin, packed, tmp_path):
    told = []
    costs = costs_of(of_plugin(plugin, packed, tmp_path), two, lambda *given: told.append(given))
    assert set(costs) == {"steady"}
    assert told == [(1, 3), (2, 3), (3, 3)]


def finished(run):
    return SimpleNamespace(spec=run.spec, metrics={"map": 0.5})


def of_plugin(plugin, packed, tmp_path):
    path = tmp_path / "three.toml"
    path.write_text(
        f'title = "three"\narchitectures = ["dying", "raising", "steady"]\nplugins = ["{plugin}"]\nseeds = 1\n'
        "[train]\nmax_steps = 2\nbatch_size = 4\nevaluations = 1\n"
    )
    return plan(load_suite(str(path)), [packed], ResultsFolder(tmp_path / "out"))


def test_a_run_that_fails_or_loses_its_process_stops_no_other(two, plugin, packed, tmp_path):
    planned, display = of_plugin(plugin, packed, tmp_path), Heard()
    outcome = run_all(planned, two, display)
    names = {name: [run.folder for run in planned if run.spec.name == name] for name in ("dying", "raising", "steady")}
    assert outcome.done == [folder.name for folder in names["steady"]]
    assert set(outcome.failed) == {folder.name for name in ("dying", "raising") for folder in names[name]}
    for folder in names["raising"]:
        assert folder.failure()["error"] == "Odd: left and right"
        assert "in forward" in folder.failure()["traceback"]
        assert (folder.name, RuntimeError, "Odd: left and right") in display.failed
    for folder in names["dying"]:
        why = "its process was ended by SIGKILL, as where memory runs out"
        assert folder.failure()["error"] == f"WorkerDied: {why}"
        assert (folder.name, WorkerDied, why) in display.failed
    # those of the processes that were killed are no one's
    assert run_all(planned[2:3], two).skipped == [planned[2].folder.name]


def test_other_code_in_a_worker_is_no_runs_failure(two, packed, tmp_path):
    run = make_run(packed, tmp_path / "out")
    source = {**code_of(run.spec)["source"], "protocol": "0" * 16}
    with pytest.raises(MachineFault, match=r"^tiny: a worker has loaded other code than the command \(protocol\): "):
        two.do(RunWork(run, 1, 1, source), Display())
    assert not run.folder.path.exists()


class Threads(LocalExecutor):
    """Several at once in this process, for what needs no other."""

    slots = 4

    def __init__(self, work=None):
        super().__init__(CPU)
        self.work, self.is_closed = work, False

    def do(self, work, display):
        if self.is_closed:
            raise Interrupted
        return self.work(work, display) if self.work else super().do(work, display)

    def close(self):
        self.is_closed = True


@pytest.fixture
def many(packed, tmp_path):
    return [make_run(packed, tmp_path / "out", seed=seed) for seed in range(40)]


def test_each_of_many_runs_is_taken_once_in_their_order(many):
    taken, four = [], threading.Barrier(4)

    def work(work, display):
        taken.append(work.run.spec.seed)
        if work.number <= 4:
            four.wait(60)
        display.run_started(work.number, work.total, work.run.spec)
        time.sleep(0.002)
        return RunEnd("done", finished(work.run))

    display = Heard()
    outcome = run_all(many, Threads(work), display)
    assert sorted(taken) == list(range(40))
    assert sorted(taken[:4]) == [0, 1, 2, 3]
    assert outcome.done == [run.folder.name for run in many]
    assert len(display.lines) == len(display.places) == 40


def test_a_fault_of_the_machine_stops_all_and_a_death_does_not(many):
    done = []

    def work(work, _):
        if work.run.spec.seed == 1:
            raise WorkerDied("it died")
        if work.run.spec.seed == 8:
            raise MachineFault("the disk is full")
        done.append(work.run.spec.seed)
        time.sleep(0.01)
        return RunEnd("done", finished(work.run))

    executor = Threads(work)
    with pytest.raises(MachineFault, match="the disk is full"):
        run_all(many, executor)
    assert executor.is_closed
    assert len(done) < 12
    assert many[1].folder.failure()["error"] == "WorkerDied: it died"


def test_a_run_that_another_process_is_at_is_taken_when_it_is_free(many, monkeypatch):
    monkeypatch.setattr(running, "_PATIENCE", 0.01)
    asked, display = [], Heard()

    def work(work, _):
        asked.append(work.number)
        busy = work.number == 1 and asked.count(1) < 5
        return RunEnd("busy") if busy else RunEnd("done", finished(work.run))

    outcome = run_all(many[:6], Threads(work), display)
    assert len(outcome.done) == 6
    assert asked.count(1) == 5
    assert [line for line in display.lines if "waiting" in line] == [
        f"waiting for a run that is being trained elsewhere: {many[0].folder.name} (another process)"
    ]


def test_no_run_is_lost_where_several_threads_wait(many, monkeypatch):
    """More runs that others are at than none, and more threads than one, which look again at the same moment."""
    monkeypatch.setattr(running, "_PATIENCE", 0.02)
    for _ in range(5):
        asked = []

        def work(work, _, asked=asked):
            asked.append(work.number)
            time.sleep(0.005)
            return RunEnd("busy") if asked.count(work.number) < 5 else RunEnd("done", finished(work.run))

        assert len(run_all(many[:3], Threads(work)).done) == 3


def test_a_run_of_which_nothing_becomes_is_a_fault_and_not_silence(many, monkeypatch):
    monkeypatch.setattr(running._Runs, "_note", lambda *_: None)
    with pytest.raises(AssertionError, match=f"nothing became of {many[0].folder.name}"):
        run_all(many[:1], Threads(lambda work, _: RunEnd("done", finished(work.run))))


def test_no_process_is_asked_for_what_is_finished(by_two):
    planned, asked = by_two[0], []
    planned[1].folder.checkpoint_file.touch()
    assert run_all(planned, Threads(lambda work, _: asked.append(work))).skipped == [run.folder.name for run in planned]
    assert not asked
    assert not planned[1].folder.checkpoint_file.exists()


def test_ctrl_c_closes_the_executor_and_is_seen_by_what_waits():
    executor, begun = Threads(), threading.Event()

    def work(is_over):
        begun.set()
        assert is_over.wait(60)
        raise Interrupted

    def interrupt():
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt) as error:
        at_once(executor, work)
    assert type(error.value) is KeyboardInterrupt
    assert executor.is_closed


def test_threads_are_what_they_were_afterwards():
    before = torch.get_num_threads()
    with computing_with(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with computing_with(None):
        assert torch.get_num_threads() == before


# --- the display


def test_lanes_are_lines_of_one_display(packed, capsys, monkeypatch):
    monkeypatch.setattr(console, "_LOG_SECONDS", -1)
    display = console.ConsoleDisplay()
    lanes = [display.lane(), display.lane()]
    for number, lane in enumerate(lanes, start=1):
        lane.run_started(number, 2, make_spec(packed, seed=number))
    assert len(display.live.tasks) == 2
    assert all(lane.live is display.live for lane in lanes)
    lanes[1].training(Status(6, 0.5, 0.25, 10.0, 1.0))
    lanes[0].ended("over")
    assert [task.description for task in display.live.tasks] == [r"\[2/2] tiny seed 2"]
    lanes[1].ended("over, too")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[2/2] tiny seed 2: step 6/12  loss 0.5000")
    assert lines[1:] == ["[1/2] tiny seed 1: over", "[2/2] tiny seed 2: over, too"]


def test_a_run_whose_process_died_before_it_began_has_its_line(packed, tmp_path, capsys):
    def work(*_):
        raise WorkerDied("it died")

    executor = Threads(work)
    executor.slots = 1
    run = make_run(packed, tmp_path / "out")
    assert run_all([run], executor, console.ConsoleDisplay()).failed == [run.folder.name]
    failed = f"failed: it died (traceback in {run.folder.failure_file})"
    assert capsys.readouterr().err == f"[1/1] tiny seed 0: {failed}\n"


def test_a_run_begun_again_whose_process_dies_before_that_has_its_line(packed, tmp_path, capsys):
    """As on a Ray cluster: the line of its first try is over."""

    def work(_, display):
        display.run_started(1, 1, run.spec)
        display.ended("its node died; it is begun again, anew")
        raise WorkerDied("it died")

    run = make_run(packed, tmp_path / "out")
    run_all([run], Threads(work), console.ConsoleDisplay())
    first, last = capsys.readouterr().err.splitlines()
    assert first == "[1/1] tiny seed 0: its node died; it is begun again, anew"
    assert last.startswith("[1/1] tiny seed 0: failed: it died (traceback in ")


# --- searches


@pytest.fixture
def small_search(packed):
    space = {"learning_rate": Dimension(low=1e-5, high=1e-2, log=True)}
    return Search(make_spec(packed, learning_rate=1e-3), packed, space, seed=0)


@pytest.fixture
def storage(tmp_path):
    opened = open_storage(tmp_path / "search.db", heartbeat=1)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


def trained(*given, report, **_):
    """In the place of a training: scores by the learning rate."""
    recipe = given[4]
    for step in sorted(recipe.evaluation_steps()):
        report(Status(step, 0.5, recipe.learning_rate, 10.0, 1.0))
        time.sleep(0.01)
    return SimpleNamespace(best_score=recipe.learning_rate)


def test_trials_at_once_spend_the_budget_exactly(small_search, storage, monkeypatch):
    monkeypatch.setattr(searching, "train", trained)
    study = run_search(small_search, storage, Budget(trials=14), Threads(), Display())
    done = counted(study.get_trials())
    assert len(done) == 14
    # which are pruned hangs on the order in which they end
    assert {status(trial) for trial in done} <= {"complete", "pruned"}
    assert len({trial.params["learning_rate"] for trial in done}) == 14
    assert sum(trial.params == small_search.default for trial in done) == 1
    assert all(trial.user_attrs["provenance"]["source"] for trial in done)


def test_a_trial_whose_process_died_is_done_again_with_its_recipe(small_search, storage, monkeypatch):
    monkeypatch.setattr(searching, "train", trained)
    tried = []

    def work(work, display):
        tried.append(work.spec.recipe.learning_rate)
        if len(tried) == 2:
            raise WorkerDied("it died")
        return work(CPU, display)

    executor = Threads(work)
    executor.slots = 1
    study = run_search(small_search, storage, Budget(trials=4), executor, Display())
    assert [status(trial) for trial in study.get_trials()].count("lost") == 1
    assert len(counted(study.get_trials())) == 4
    assert tried[1] == tried[2]


def test_a_fault_of_the_machine_gives_the_trial_back(small_search, storage, monkeypatch):
    monkeypatch.setattr(searching, "train", trained)

    def work(*_):
        raise MachineFault("no worker can do it")

    with pytest.raises(MachineFault, match="no worker can do it"):
        run_search(small_search, storage, Budget(trials=4), Threads(work), Display())
    study = run_search(small_search, storage, Budget(trials=4), LocalExecutor(CPU), Display())
    assert len(counted(study.get_trials())) == 4
    assert "failed" not in {status(trial) for trial in study.get_trials()}


def test_ctrl_c_does_not_wait_for_the_trial_of_another_command(small_search, tmp_path):
    opened = open_storage(tmp_path / "search.db", heartbeat=5)
    trial = opened.create_new_trial(open_study(small_search, opened)._study_id)
    opened.set_trial_user_attr(trial, "worker", "another:1")
    opened.record_heartbeat(trial)
    begun = time.monotonic()
    interrupt = threading.Timer(1, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    interrupt.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_search(small_search, opened, Budget(trials=1), Threads(), Display())
        # it would be dead after 15
        assert time.monotonic() - begun < 8
    finally:
        interrupt.cancel()
        opened.remove_session()
        opened.engine.dispose()


def test_a_trial_is_pruned_at_the_evaluation_at_which_it_is_told(two, small_search):
    steps = []

    class Pruning(Display):
        def training(self, status):
            steps.append(status.step)
            if status.step == 8:
                raise optuna.TrialPruned

    spec = small_search.spec
    work = TrialWork(spec, small_search.pack, spec.recipe, "a trial", code_of(spec)["source"])
    with pytest.raises(optuna.TrialPruned):
        two.do(work, Pruning())
    assert steps == [4, 8]


# --- the command


def test_the_estimate_is_divided_by_the_processes_that_have_runs(packed, tmp_path):
    planned = [make_run(packed, tmp_path / "out", seed=seed) for seed in range(3)]
    rates = Rates(start=18.8, once=0.0, steps=(0.1,), chunk=0.0)
    estimates = [Estimate(entry, rates) for entry in remaining(planned)]
    assert estimates[0].seconds == pytest.approx(60)
    for slots, line in ((2, "about 30 s with 2 at once"), (8, "about 20 s with 3 at once")):
        assert _at_once(estimates, slots) == f"{line}, if none slows another down"


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5", "257", "9" * 5000, ""])
def test_a_bad_number_of_jobs_is_a_line(bench, small_suite, jobs):
    for command in (["run", small_suite], ["search", "--suite", small_suite]):
        done = bench(*command, "--jobs", jobs)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"bench: error: --jobs {jobs}: give a number of processes from 1 to 256, or auto\n"


def test_jobs_are_of_a_suite_alone(bench, tmp_path):
    done = bench("run", "--reproduce", tmp_path, "--jobs", 2)
    assert (done.code, done.err.rpartition(": ")[2]) == (2, "leave --jobs out\n")


@pytest.mark.parametrize("how", [["--jobs", 5], ["--ray", "127.0.0.1:1"]], ids=lambda how: how[0])
def test_nothing_is_started_where_all_is_finished(bench, small_suite, small_results, packed, tmp_path, how):
    # the plan is written all the same
    out = shutil.copytree(small_results, tmp_path / "out")
    done = bench("run", small_suite, "--data", packed.folder, "--out", out, *how, "--no-report")
    assert done.code == 0, done.err
    assert done.err.splitlines()[0].startswith("small: 4 runs on cpu, results in ")
    assert "4 of 4 runs were finished before" in done.err


def test_there_are_no_more_processes_than_runs_or_trials(small_suite, packed, small_results, tmp_path):
    def slots(suite, out, trials_only=False, **options):
        given = {"data": packed.folder, "out": out, "jobs": 9, "device": "cpu", **options}
        job = _Job.of(load_suite(str(suite)), str(suite), Options.of(given))
        return job.executor(job.trials if trials_only else max(job.left, job.trials)).slots

    left = tmp_path / "left"
    shutil.copytree(small_results, left)
    for seed in (0, 1):
        shutil.rmtree(next(left.glob(f"vgg_like-s{seed}-*")))
    assert slots(small_suite, left) == 2
    assert slots(small_suite, left, part="vgg_like-s0") == 1
    assert slots(small_suite, tmp_path / "new", seeds=3) == 6
    searched = tmp_path / "searched.toml"
    searched.write_text(LONG + "[space]\nlearning_rate = { low = 1e-6, high = 1e-2, log = true }\n")
    # default and best recipe, with 3 seeds each
    assert slots(searched, tmp_path / "new", seeds=3, trials=2) == 6
    # the best 3 trials, with 3 seeds each
    assert slots(searched, tmp_path / "new", seeds=3, trials=4) == 9
    # one trial is the best as it is
    assert slots(searched, tmp_path / "new", seeds=3, trials=1, trials_only=True) == 1


LONG = """
title = "long"
seeds = 8
[train]
max_steps = 400
batch_size = 4
evaluations = 100
learning_rate = 1e-3
[[runs]]
name = "tiny"
architecture = "transformer_small"
config = { depth = 1, front_end_dim = 32, embed_dim = 16, num_heads = 2, head_dim = 8, mlp_dim = 32 }
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip


@pytest.mark.slow
def test_nothing_is_left_running_and_the_same_command_resumes(packed, tmp_path):
    """Ctrl-C, SIGTERM and SIGKILL in turn, in the middle of runs; it ends in the bits of one undisturbed process."""
    suite = tmp_path / "long.toml"
    suite.write_text(LONG)
    given = ("run", suite, "--data", packed.folder, "--device", "cpu", "--no-report")
    out = ResultsFolder(tmp_path / "out")
    runs = plan(load_suite(str(suite)), [packed], out)
    for how, code in ((signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)):
        err = stopped(runs, start(*given, "--out", out.path, "--jobs", 2), how, code)
        if how == signal.SIGINT:
            assert err.endswith("bench: stopped; the same command resumes from here\n")
            assert not list(out.path.rglob(".*.lock"))
    whole = start(*given, "--out", tmp_path / "whole")
    resumed = start(*given, "--out", out.path, "--jobs", 2)
    for process in (whole, resumed):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert "long: 8 runs on cpu, 2 processes of 1 thread each, results in " in err
    for run in runs:
        assert run.folder.record().provenance.command.endswith(f"--out {out.path} --jobs 2")
        assert_equal_runs(run.folder, ResultsFolder(tmp_path / "whole").run(run.spec))


def stopped(runs, process, how, code):
    """Send a signal to a command once two of its runs have gone on; return what it said."""
    before = steps(runs)
    # one that has ended has gone on; the second process is still to start when the first one trains
    wait_until(lambda: sum(steps(runs).get(name, math.inf) > step for name, step in before.items()) >= 2)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    # as a terminal sends Ctrl-C
    os.killpg(process.pid, how)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (code, False), err
    wait_until(lambda: not any(runs_on(pid) for pid in workers), seconds=10)
    assert not any(run.folder.failure_file.exists() for run in runs)
    return err


def steps(runs):
    return {run.folder.name: checkpoint_of(run).step() for run in runs if not run.folder.is_finished}


@pytest.mark.slow
def test_a_search_by_two_processes(packed, tmp_path, bench, monkeypatch):
    monkeypatch.setattr("bench.api.runs.draw_search", lambda folder: {})
    suite = tmp_path / "toy.toml"
    suite.write_text(
        LONG.replace("max_steps = 400", "max_steps = 12").replace("evaluations = 100", "evaluations = 4")
        + "[space]\nlearning_rate = { low = 1e-6, high = 1e-2, log = true }\n"
    )
    out = tmp_path / "out"
    arguments = ("search", "--suite", suite, "--data", packed.folder, "--out", out, "--trials", 14, "--jobs", 2)
    before = workers_of(os.getpid())
    done = bench(*arguments)
    assert done.code == 0, done.err
    assert "1 searches, 14 trials each, on cpu, 2 processes of 1 thread each" in done.err
    record = ResultsFolder(out).trial_lines()
    assert len(record) == 14
    assert {"complete", "pruned"} == set(record["state"])
    assert record["default"].sum() == 1
    assert not record.duplicated("learning_rate").any()
    assert workers_of(os.getpid()) == before


@pytest.mark.slow
def test_a_plugins_architecture_from_python_without_a_guard(plugin, packed, tmp_path):
    """A script that is run as it is, once: its processes do not run it again."""
    script = tmp_path / "script.py"
    script.write_text(
        f"""import bench
print("begun")
outcome = bench.run({str(of_steady(plugin, tmp_path))!r}, data={str(packed.folder)!r}, out="out", jobs=2, report=False)
print(len(outcome.done))
"""
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert done.stdout == "begun\n2\n"
    records = [json.loads(path.read_text()) for path in tmp_path.glob("out/*/run.json")]
    assert {record["provenance"]["command"][:10] for record in records} == {"bench.run("}


def of_steady(plugin, tmp_path):
    path = tmp_path / "steady.toml"
    path.write_text(
        f'title = "steady"\narchitectures = ["steady"]\nplugins = ["{plugin}"]\nseeds = 2\n'
        "[train]\nmax_steps = 2\nbatch_size = 4\nevaluations = 1\n"
    )
    return path
