"""Runs and trials on a real Ray cluster of two nodes on this machine: each once, the same numbers, whatever dies."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import psutil
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from bench.api.cluster import SentFiles
from bench.api.options import Options
from bench.cli.app import _with_address
from bench.data.pack import Pack
from bench.errors import MachineFault, UserError
from bench.runner.display import Display
from bench.runner.executors import WorkerDied
from bench.runner.executors.base import Interrupted
from bench.runner.executors.cluster import RayExecutor, Share
from bench.runner.runs import costs_of, run_all
from bench.store import ResultsFolder
from tests.conftest import make_run, no_tables
from tests.ray_works import Eats, Raises, Sleeps, Steps
from tests.test_cli import one_line
from tests.test_plugins import MINE

ROOT = Path(__file__).parent.parent
# of a run, what is the same wherever it is trained
SAME = ("spec", "hash", "metrics", "class_scores", "untrained", "val_score", "best_step", "steps", "scores")


class Nodes:
    """A cluster on this machine, of which nodes may be lost."""

    def __init__(self, *, cpus=(1, 1), **head):
        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False, **head}
        )
        self.address = self.cluster.address
        self.others = [self.cluster.add_node(num_cpus=each) for each in cpus[1:]]


@pytest.fixture(scope="module")
def nodes():
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()


class Lines(Display):
    """Keeps what is told of."""

    def __init__(self):
        self.lines, self.heard = [], threading.Event()

    def notice(self, line):
        self.lines.append(line)

    def run_started(self, number, total, spec):  # noqa: ARG002
        self.lines.append(f"started {spec.name} {spec.seed}")

    def training(self, status):
        self.lines.append(f"step {status.step}")
        self.heard.set()

    def run_failed(self, error, folder):
        self.lines.append(f"failed {folder.path}: {error}")

    def ended(self, how):
        self.lines.append(f"ended {how}")

    def run_finished(self, record, place, of):
        self.lines.append(f"finished {record.spec.name} {record.spec.seed}, place {place} of {of}")


def executor(nodes, out, *, cpus=1.0, most=9, prepare=None, notice=lambda line: None):
    return RayExecutor(nodes.address, Share(cpus), most, out, prepare or SentFiles(()), notice)


def numbers(out):
    """Return what is known of every run, by its folder's name."""
    found = {}
    for path in out.glob("*/run.json"):
        run = json.loads(path.read_text())
        folder = path.parent
        found[folder.name] = (
            {name: run[name] for name in SAME},
            (folder / "model.safetensors").read_bytes(),
            re.sub(r",[^,\n]*$", "", (folder / "history.csv").read_text(), flags=re.MULTILINE),
            sorted(file.name for file in folder.iterdir()),
        )
    return found


def leftovers(out):
    return [path.name for path in out.iterdir() if path.name.startswith(".")]


# --- without a cluster


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ray", "--jobs", "2"], "give either --jobs or --ray, not both"),
        (["--cpus", "2"], "--cpus: is of runs on a Ray cluster; add --ray"),
        (["--gpus", ".25"], "--gpus: is of runs on a Ray cluster; add --ray"),
        (["--ray", "--cpus", "1.5"], "--cpus 1.5: give a part of one, or a whole number"),
        (["--ray", "--cpus", "0"], "greater than 0"),
        (["--ray", "--cpus", "nan"], "finite number"),
        (["--ray", "--device", "cuda"], "--device cuda: with --ray it would be cpu; ask for GPUs by --gpus"),
        (["--ray", "--gpus", "1", "--device", "cpu"], "--device cpu: with --ray it would be cuda"),
        (["--ray", "--gpus", "1", "--jobs", "2"], "give either --jobs or --ray, not both"),
        (["--ray", "--gpus", "1.5"], "--gpus 1.5: give a part of one, or a whole number"),
        (["--ray", "--cpus", ".00001"], "--cpus 1e-05: give at least 0.0001"),
        (["--ray", "--gpus", ".00001"], "--gpus 1e-05: give at least 0.0001"),
        (["--ray="], "--ray: the address is empty: give HOST:PORT, or leave it out"),
        (["--ray", ""], "--ray: the address is empty: give HOST:PORT, or leave it out"),
        (["--ray", " ", "--cpus", "2"], "--ray: the address is empty: give HOST:PORT, or leave it out"),
        (["--ray=", "--gpus", "1", "--device", "cpu"], "--ray: the address is empty: give HOST:PORT, or leave it out"),
        (["--ray", "controlled"], "--ray controlled: give HOST:PORT; a suite goes before --ray"),
        (["--ray", "local"], "--ray local: give HOST:PORT; a suite goes before --ray"),
        (["--ray", "::1:6379"], "--ray ::1:6379: give HOST:PORT; a suite goes before --ray"),
        (["--ray", "head:0"], "--ray head:0: give HOST:PORT; a suite goes before --ray"),
        (["--ray", "ray://head:10001"], "give HOST:PORT, and start the command on a node of the cluster"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
def test_mistakes_are_one_line(bench, small_suite, packed, arguments, message, dry):
    one_line(bench("run", small_suite, "--data", packed.folder, *dry, *arguments), message)
    assert not Path("runs", "small").exists()


def test_so_they_are_from_python():
    for address in ("", " ", "\n"):
        with pytest.raises(UserError, match=r"^--ray: the address is empty: give HOST:PORT, or leave it out$"):
            Options.of({"ray": address})
    with pytest.raises(UserError, match=r"^--ray True: give HOST:PORT"):
        Options.of({"ray": True})


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.1:65535", "[::1]:6379", "a_b.cluster.local:1"])
def test_what_ray_takes_as_an_address_is_taken(address):
    assert Options.of({"ray": address, "cpus": 0.0001, "gpus": 0}).ray == address


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["run", "--ray"], ["run", "--ray=auto"]),
        (["run", "--ray", "--cpus", "2"], ["run", "--ray=auto", "--cpus", "2"]),
        (["run", "--ray", "host:6379", "demo"], ["run", "--ray", "host:6379", "demo"]),
        (["run", "demo"], ["run", "demo"]),
        ([], []),
    ],
)
def test_ray_needs_no_address(given, taken):
    assert _with_address(given) == taken


def test_a_share_fits_whole_into_a_node():
    nodes = [{"Resources": {"CPU": 5.0, "GPU": 1.0}}, {"Resources": {"CPU": 2.0}}, {"Resources": {"memory": 1.0}}]
    assert [Share(cpus).slots(nodes) for cpus in (1, 2, 0.5, 0.1, 5, 6)] == [7, 3, 14, 70, 1, 0]
    assert [Share(1, gpus).slots(nodes) for gpus in (1, 0.25, 0.3, 2)] == [1, 4, 3, 0]
    assert [Share(cpus).threads for cpus in (0.5, 1, 3)] == [1, 1, 3]
    assert [str(Share(*given)) for given in ((1.0, 0.0), (2.0, 0.25))] == ["1 core", "2 cores and 0.25 GPU"]


def test_without_ray_it_is_one_line(small_suite, packed, tmp_path):
    code = "import sys; sys.modules['ray'] = None; from bench.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "run",
        small_suite,
        "--data",
        packed.folder,
        "--out",
        tmp_path / "out",
        "--ray",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    expected = "bench: error: --ray: Ray is not installed; pip install 'audio-cnn-transformer-bench[ray]'\n"
    assert done.stderr == expected
    assert not (tmp_path / "out").exists()


# --- on a cluster


def test_runs_are_the_same_as_one_by_one(bench, nodes, small_suite, small_results, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    out = tmp_path / "out"
    done = bench("run", small_suite, "--data", packed.folder, "--out", out, "--ray", nodes.address)
    assert done.code == 0, done.err
    assert numbers(out) == numbers(small_results)
    assert len(numbers(out)) == 4
    assert leftovers(out) == []
    lines = done.err.splitlines()
    assert re.match(rf"Ray: the cluster at {nodes.address}, 2 nodes, 2 at a time; starting it took [\d.]+ s", lines[0])
    assert "small: 4 runs on Ray, 2 at a time with 1 core each, results in" in done.err
    assert "the results folder is shared with all nodes: a lost run resumes from its checkpoint" in done.err
    assert done.err.count(" s, place ") >= 2
    run = json.loads(next(out.glob("*/run.json")).read_text())
    assert run["provenance"]["command"].startswith("bench run ")
    assert run["provenance"]["threads"] == 1
    assert not ray.is_initialized()


def test_costs_are_measured_by_a_node_before_the_runs(nodes, packed, tmp_path):
    planned = [make_run(packed, tmp_path / "out", seed=seed) for seed in range(2)]
    with executor(nodes, tmp_path / "out") as of_nodes:
        costs = costs_of(planned, of_nodes)
        run_all(planned, of_nodes, costs=costs)
    for run in planned:
        assert run.folder.record().cost.items() >= costs["tiny"].items()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cpus", "500"], "--ray: no node has 500 cores (the most are 1 cores and 0 GPUs): ask for less by --cpus"),
        pytest.param(
            ["--gpus", "1"],
            "--gpus 1: precision and memory are checked here, before anything trains: start the command on a node",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU"),
        ),
    ],
)
@pytest.mark.slow
def test_more_than_any_node_has_is_one_line(bench, nodes, small_suite, packed, tmp_path, arguments, message):
    out = tmp_path / "out"
    one_line(
        bench("run", small_suite, "--data", packed.folder, "--out", out, "--ray", nodes.address, *arguments), message
    )
    assert not out.exists()
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there within 4 s; `ray start --head` starts one"),
        ("no-such-host.invalid:6379", "no-such-host.invalid"),
    ],
)
@pytest.mark.slow
def test_an_address_that_does_not_answer_is_one_line(
    bench, small_suite, packed, tmp_path, monkeypatch, address, message
):
    monkeypatch.setattr("bench.runner.executors.cluster._ANSWER", 4)
    out = tmp_path / "out"
    one_line(bench("run", small_suite, "--data", packed.folder, "--out", out, "--ray", address), f"--ray {address}: ")
    one_line(bench("run", small_suite, "--data", packed.folder, "--out", out, "--ray", address), message)
    assert not out.exists()


# --- work that is not a run, which tells how far it is


class Prunes(Lines):
    def notice(self, line):
        super().notice(line)
        if line == "step 3":
            raise optuna.TrialPruned


def step_of(file):
    return int(file.read_text().split()[1])


@pytest.mark.slow
def test_what_a_display_raises_ends_the_work_and_the_worker_stays(nodes, tmp_path):
    shown, file = Prunes(), tmp_path / "steps"
    with executor(nodes, tmp_path) as on_ray:
        pid, threads, flushes = on_ray.do(Steps(1, file), Display())
        assert (threads, flushes) == (1, True)
        with pytest.raises(optuna.TrialPruned):
            on_ray.do(Steps(100, file), shown)
        time.sleep(1)
        assert step_of(file) < 12
        assert shown.lines == ["step 1", "step 2", "step 3"]
        # both, of two nodes
        assert pid in {on_ray.do(Steps(1, file), Display())[0] for _ in range(4)}


@pytest.mark.slow
def test_what_work_raises_is_raised_here_with_its_traceback_in_words(nodes, tmp_path):
    shown = Lines()
    with executor(nodes, tmp_path) as on_ray, pytest.raises(ZeroDivisionError, match="by nothing") as raised:
        on_ray.do(Raises(), shown)
    assert 'raise ZeroDivisionError("by nothing")' in raised.value.__notes__[0]
    assert shown.lines == ["on cpu"]


@pytest.mark.slow
def test_closed_it_ends_all_work_at_once(nodes, tmp_path):
    raised, files = [], [tmp_path / f"steps{number}" for number in range(3)]
    on_ray = executor(nodes, tmp_path)

    def work(file):
        try:
            on_ray.do(Steps(600, file), Display())
        except KeyboardInterrupt as error:
            raised.append(error)

    threads = [threading.Thread(target=work, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    until(lambda: sum(file.exists() for file in files) == 2)
    on_ray.close()
    for thread in threads:
        thread.join(5)
    assert [type(error) for error in raised] == 3 * [Interrupted]
    # the third had waited for a place
    time.sleep(0.5)
    before = [file.read_text() for file in files if file.exists()]
    time.sleep(0.5)
    assert before == [file.read_text() for file in files if file.exists()]
    assert len(before) == 2
    with pytest.raises(KeyboardInterrupt):
        on_ray.do(Raises(), Display())


@pytest.mark.slow
def test_closed_it_waits_for_no_work_that_has_not_begun_and_not_long_for_other(nodes, tmp_path):
    waited, asleep = [], threading.Semaphore(0)

    class Counts(Display):
        def notice(self, line):  # noqa: ARG002
            asleep.release()

    on_ray = executor(nodes, tmp_path)

    def work():
        with pytest.raises(Interrupted):
            on_ray.do(Sleeps(), Counts())
        waited.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert all(asleep.acquire(timeout=60) for _ in range(2))
    closed = time.monotonic()
    on_ray.close()
    for thread in threads:
        thread.join()
    # the third had no place
    assert waited[0] - closed < 2
    assert waited[-1] - closed < 6
    assert time.monotonic() - closed < 6
    until(lambda: not workers(), 10)


@pytest.mark.slow
def test_what_a_killed_command_has_left_to_ask_nodes_by_is_removed_after_a_day(nodes, tmp_path):
    for name, age in ((".ray-old", 90_000), (".ray-new", 0), ("other", 90_000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, 2 * (time.time() - age,))
    with executor(nodes, tmp_path) as on_ray:
        on_ray._ask_nodes()
        (mine,) = set(leftovers(tmp_path)) - {".ray-new"}
        os.utime(tmp_path / mine, (0, 0))
        # with each run that begins
        on_ray._ask_nodes()
        assert (tmp_path / mine).stat().st_mtime > time.time() - 60
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ray-new", "other"]


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.slow
def test_out_of_memory_is_said_so(tmp_path):
    memory = psutil.virtual_memory()
    # more than the tests beside this one take meanwhile
    threshold = (memory.total - memory.available + 4e9) / memory.total
    watched = Nodes(cpus=(2,), _system_config={"memory_usage_threshold": threshold, "memory_monitor_refresh_ms": 100})
    try:
        with executor(watched, tmp_path, cpus=2.0) as on_ray:
            assert on_ray.do(Steps(1, tmp_path / "steps"), Display())[1] == 2
            with pytest.raises(WorkerDied) as raised:
                on_ray.do(Eats(), Display())
    finally:
        watched.cluster.shutdown()
    assert re.fullmatch(r"node \S+ was out of memory, and Ray ended its process; with more .*", str(raised.value))


@pytest.mark.slow
def test_where_no_node_is_left_that_could_nothing_waits_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.runner.executors.cluster._FEASIBLE", 1.0)
    two = Nodes(cpus=(0, 1))
    try:
        with executor(two, tmp_path) as on_ray:
            two.cluster.remove_node(two.others[0], allow_graceful=False)
            with pytest.raises(MachineFault, match=r"no node has 1 core .* any more; the same command resumes"):
                on_ray.do(Raises(), Display())
    finally:
        two.cluster.shutdown()


@pytest.mark.slow
def test_each_task_finds_the_gpu_that_it_was_given(monkeypatch):
    """Ray believes what it is told of a node's GPUs; no real one was at hand."""
    from bench.runner.executors.cluster import _ALL_GPUS, _gpu

    def slowly():
        time.sleep(1)
        return _gpu(), os.environ.get("CUDA_VISIBLE_DEVICES")

    for visible, expected in (("", {0, 1}), ("5,3", {0, 1})):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        if not visible:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        node = Nodes(cpus=(2,), num_gpus=2)
        try:
            ray.init(address=node.address, log_to_driver=False, logging_level="ERROR")
            task = ray.remote(num_gpus=1, max_calls=0, runtime_env=_ALL_GPUS)(slowly)
            found = ray.get([task.remote(), task.remote()])
        finally:
            ray.shutdown()
            node.cluster.shutdown()
        assert {number for number, _ in found} == expected
        assert {seen for _, seen in found} == {visible or None}


# --- runs of which something dies


def long_runs(packed, out, count=2, **recipe):
    """Return runs of some seconds each, with a checkpoint at each of their many evaluations."""
    results = ResultsFolder(out)
    runs = [
        make_run(packed, out, seed=seed, **{"max_steps": 300, "evaluations": 30, **recipe}) for seed in range(count)
    ]
    results.add_labels(packed, runs[0].task)
    return runs


@pytest.fixture(scope="module")
def one_by_one(packed, tmp_path_factory):
    """The same runs, in this process: what they are whole and undisturbed."""
    from bench.runner.executors import LocalExecutor

    out = tmp_path_factory.mktemp("alone") / "out"
    run_all(long_runs(packed, out), LocalExecutor(torch.device("cpu")))
    return numbers(out)


def workers():
    """Return the processes of this machine that do work for Ray just now."""
    return [process for process in psutil.process_iter(["name", "cmdline"]) if is_worker(process)]


def is_worker(process):
    return (process.info["cmdline"] or [""])[0].startswith("ray::_serve")


@pytest.mark.slow
def test_a_node_is_lost_in_the_middle_of_a_run(packed, one_by_one, tmp_path):
    out, shown, said = tmp_path / "out", Lines(), []
    two = Nodes()
    try:
        with executor(two, out, notice=said.append) as on_ray:
            assert on_ray.slots == 2
            runs = long_runs(packed, out)
            killer = threading.Thread(target=lose, args=(two, runs))
            killer.start()
            outcome = run_all(runs, on_ray, shown)
            killer.join()
    finally:
        two.cluster.shutdown()
    assert outcome.done == [run.folder.name for run in runs]
    assert numbers(out) == one_by_one
    (lost,) = [line for line in shown.lines if "died" in line]
    assert re.fullmatch(r"ended node \S+ died; it is begun again, from its checkpoint", lost)
    assert sorted(line.partition(",")[0] for line in shown.lines if line.startswith("finished")) == [
        "finished tiny 0", "finished tiny 1",
    ]  # fmt: skip
    assert leftovers(out) == []
    assert said[-1] == "the results folder is shared with all nodes: a lost run resumes from its checkpoint"


def lose(two, runs):
    until(lambda: all(run.folder.checkpoint_file.exists() for run in runs))
    two.cluster.remove_node(two.others[0], allow_graceful=False)


@pytest.mark.slow
def test_a_run_that_kills_its_workers_fails_at_the_third(nodes, packed, tmp_path, capfd):
    out, shown = tmp_path / "out", Lines()
    runs = long_runs(packed, out, count=1, max_steps=100_000, evaluations=100)
    killed = []

    def kill():
        while len(killed) < 3:
            for process in workers():
                if process.pid not in killed and runs[0].folder.path.exists():
                    killed.append(process.pid)
                    process.send_signal(signal.SIGKILL)
            time.sleep(0.5)

    killer = threading.Thread(target=kill)
    with executor(nodes, out, most=1) as on_ray:
        killer.start()
        outcome = run_all(runs, on_ray, shown)
        killer.join()
    assert outcome.failed == [runs[0].folder.name]
    error = runs[0].folder.failure()["error"]
    assert re.fullmatch(r"WorkerDied: its process on (\S+|a node) was killed, or crashed; it was begun 3 times", error)
    assert sum("it is begun again" in line for line in shown.lines) == 2
    assert sum(line.startswith("failed") for line in shown.lines) == 1
    assert "raylet" not in capfd.readouterr().out


def bench_run(*arguments, **how):
    undrawn = "report.draw_costs = report.draw_scores = lambda _: {}"
    code = f"from bench import cli\nfrom bench.reporting import report\n{undrawn}\ncli.main()"
    command = [sys.executable, "-c", code, "run", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


LONG = """
title = "long"
architectures = ["transformer_small"]
seeds = 3
[train]
max_steps = 60
batch_size = 4
evaluations = 20
"""


@pytest.fixture(scope="module")
def undisturbed(packed, tmp_path_factory):
    """A suite, and what comes of it in one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    suite = folder / "long.toml"
    suite.write_text(LONG)
    with bench_run(suite, "--data", packed.folder, "--out", folder / "out") as command:
        _, err = command.communicate(timeout=300)
    assert command.returncode == 0, err
    return suite, numbers(folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_a_command_that_is_ended_leaves_no_task_and_the_same_command_resumes(nodes, packed, undisturbed, tmp_path, how):
    suite, expected = undisturbed
    out = tmp_path / "out"
    command = (suite, "--data", packed.folder, "--out", out, "--ray", nodes.address)
    with bench_run(*command) as first:
        until(lambda: len(list(out.glob("*/checkpoint.pt"))) == 2)
        first.send_signal(how)
        _, err = first.communicate(timeout=60)
    assert first.returncode == (130 if how == signal.SIGINT else -how), err
    if how == signal.SIGINT:
        assert err.splitlines()[-1] == "bench: stopped; the same command resumes from here"
        assert leftovers(out) == []
    until(lambda: not workers(), 5)
    checkpoints = {path: path.read_bytes() for path in out.glob("*/checkpoint.pt")}
    assert len(checkpoints) == 2
    time.sleep(1)
    assert checkpoints == {path: path.read_bytes() for path in out.glob("*/checkpoint.pt")}

    with bench_run(*command) as second:
        _, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert numbers(out) == expected
    assert len(expected) == 3


# --- nodes that see other files: where /proc/self/cwd leads to, each process has to itself


@pytest.fixture
def unseen(tmp_path, monkeypatch):
    """A folder by a path that leads elsewhere on the nodes."""
    monkeypatch.chdir(tmp_path)
    return Path("/proc/self/cwd")


@pytest.mark.slow
def test_where_nodes_do_not_see_the_results_they_travel_back(bench, nodes, packed, unseen, small_suite, monkeypatch):
    monkeypatch.setattr("bench.reporting.report.draw_scores", lambda analysis: {})
    monkeypatch.setattr("bench.reporting.report.draw_costs", lambda analysis: {})
    (unseen / "mine.py").write_text(MINE)
    more = ("--plugin", unseen / "mine.py", "--only", "mine", "--only", "vgg_like", "--seeds", 2)
    done = bench("run", small_suite, "--data", packed.folder, "--out", unseen / "out", "--ray", nodes.address, *more)
    assert done.code == 0, done.err
    assert f"the results folder is not seen by node {os.uname().nodename} and 1 more: runs are trained in" in done.err
    found = numbers(unseen / "out")
    assert sorted(name.rpartition("-")[0] for name in found) == ["mine-s0", "mine-s1", "vgg_like-s0", "vgg_like-s1"]
    assert (next((unseen / "out").glob("mine-s0-*")) / "source.py").read_text() == MINE
    assert leftovers(unseen / "out") == []
    done = bench("run", small_suite, "--data", packed.folder, "--out", unseen / "alone", *more)
    assert done.code == 0, done.err
    assert found == numbers(unseen / "alone")
    again = bench("run", small_suite, "--data", packed.folder, "--out", unseen / "out", "--ray", nodes.address, *more)
    assert "4 of 4 runs were finished before" in again.err


OF_OTHER_WEIGHTS = """
[[runs]]
name = "loudest"
rescores = "vgg_like"
train = { aggregate = "max" }

[[runs]]
name = "heard"
architecture = "vgg_like"
task = "contrast"
task_settings = { seconds = 0.5 }

[[runs]]
name = "tuned"
architecture = "vgg_like"
init = "heard"
"""


@pytest.mark.slow
def test_weights_that_others_need_travel_to_nodes_that_do_not_see_them(
    bench, nodes, packed, unseen, small_suite, monkeypatch
):
    monkeypatch.setattr("bench.api.runs.report", no_tables)
    small_suite.write_text(small_suite.read_text() + OF_OTHER_WEIGHTS)
    call = ("run", small_suite, "--data", packed.folder, "--only", "loudest", "--only", "tuned", "--seeds", 1)
    done = bench(*call, "--out", unseen / "out", "--ray", nodes.address)
    assert done.code == 0, done.err
    assert "runs are trained in temporary folders" in done.err
    assert bench(*call, "--out", unseen / "alone").code == 0
    found = kept(unseen / "out")
    assert sorted(name.rpartition("-")[0] for name in found) == ["heard-s0", "loudest-s0", "tuned-s0", "vgg_like-s0"]
    assert found == kept(unseen / "alone")


def kept(out):
    """Return what is the same wherever a run is done, and the files that it leaves."""
    found = {path.parent: json.loads(path.read_text()) for path in out.glob("**/run.json")}
    return {
        folder.name: ({name: run[name] for name in SAME}, sorted(file.name for file in folder.iterdir()))
        for folder, run in found.items()
    }


@pytest.mark.slow
def test_a_node_that_joins_later_and_sees_nothing_is_noticed(nodes, packed, unseen, monkeypatch):
    said, shown = [], Lines()
    runs = long_runs(packed, unseen / "out", count=1, max_steps=4, evaluations=1, learning_rate=1e30)
    monkeypatch.setattr(RayExecutor, "_blind", lambda self, token: [])
    with executor(nodes, unseen / "out", notice=said.append) as on_ray:
        outcome = run_all(runs, on_ray, shown)
    assert [line for line in said if "not seen" in line] == said[-1:]
    # a failure travels back, too
    assert outcome.failed == [runs[0].folder.name]
    assert "TrainingDiverged" in runs[0].folder.failure()["error"]
    assert any(line.startswith(f"failed {runs[0].folder.path}: ") for line in shown.lines)


@pytest.mark.slow
def test_a_run_that_another_process_is_at_is_left_to_it(nodes, packed, unseen):
    from bench.locks import hold

    runs = long_runs(packed, unseen / "out", count=1, max_steps=4, evaluations=1)
    lines, released = [], threading.Event()

    class Waits(Lines):
        def notice(self, line):
            lines.append(line)
            released.set()

    def holding():
        with hold(runs[0].folder.path, "being trained"):
            ready.set()
            released.wait(60)

    ready = threading.Event()
    holder = threading.Thread(target=holding)
    holder.start()
    ready.wait()
    with executor(nodes, unseen / "out") as on_ray:
        outcome = run_all(runs, on_ray, Waits())
    holder.join()
    assert lines[0].startswith("waiting for a run that is being trained elsewhere: tiny-s0-")
    assert outcome.done == [runs[0].folder.name]


@pytest.mark.slow
def test_a_pack_that_a_node_lacks_is_one_line(nodes, packed, unseen):
    shutil.copytree(packed.folder, unseen / "pack")
    runs = long_runs(Pack(unseen / "pack"), unseen / "out", count=1)
    with executor(nodes, unseen / "out") as on_ray, pytest.raises(MachineFault) as raised:
        run_all(runs, on_ray)
    assert re.fullmatch(r"node \S+: /proc/self/cwd/pack is no pack \(no manifest.json\)", str(raised.value))


@pytest.mark.slow
def test_a_plugin_that_does_not_load_there_is_one_line(nodes, packed, tmp_path):
    runs = long_runs(packed, tmp_path / "out", count=1)
    broken = SentFiles((("mine.py", b"import a_module_of_this_machine_alone"),))
    with executor(nodes, tmp_path / "out", prepare=broken) as on_ray, pytest.raises(MachineFault) as raised:
        run_all(runs, on_ray)
    assert "mine.py:1: ModuleNotFoundError: No module named 'a_module_of_this_machine_alone'" in str(raised.value)


# --- searches

SEARCHED = """
title = "toy"
architectures = ["transformer_small"]
[train]
max_steps = 6
batch_size = 4
evaluations = 6
learning_rate = 1e-3
[budget]
trials = 9
[space]
learning_rate = { low = 1e-7, high = 1e-2, log = true }
"""


@pytest.mark.slow
def test_a_search_spends_its_budget_and_asks_and_tells_here(bench, nodes, packed, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.api.runs.draw_search", lambda folder: {})
    out, suite = tmp_path / "out", tmp_path / "toy.toml"
    suite.write_text(SEARCHED)
    done = bench("search", "--suite", suite, "--data", packed.folder, "--out", out, "--ray", nodes.address)
    assert done.code == 0, done.err
    recorded = ResultsFolder(out).trials()
    assert all(trial["provenance"]["command"].startswith("bench search") for trial in recorded)
    trials = [trial for trial in recorded if "retrains" not in trial]
    assert len(trials) == 9
    assert len(recorded) == 9 + 3 * 3, "three finalists, three seeds each"
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    assert "pruned" in {trial["state"] for trial in trials}
    assert leftovers(out) == []
