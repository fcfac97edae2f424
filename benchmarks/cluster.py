"""Runs on Ray: what one costs beside its own work, and a command's time and memory over thousands of them.

The thousands only sleep, on nodes that are all on this machine, each measurement in a process of its own.
"""

import itertools
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from bench.api.cluster import SentFiles
from bench.data.pack import Pack
from bench.errors import UserError
from bench.runner.display import Display
from bench.runner.executors import Executor, LocalExecutor
from bench.runner.executors.base import at_once
from bench.runner.runs import run_all
from bench.store import ResultsFolder
from bench.suites.plan import Selection, plan
from bench.suites.suite import load_suite
from benchmarks.rows import Pair, Row, row
from benchmarks.setup import Setup
from benchmarks.turns import clock, in_turns

__all__ = ["PARTS", "Sleeps", "measure_sleeping", "print_point"]

_ROOT = Path(__file__).parents[1]
# seconds that a run may take beside its own work
_GOAL = 1.0


def _overhead(setup: Setup) -> Iterator[Row]:
    """Train the same runs one by one, in this process and by a worker of Ray's that is warm."""
    try:
        from bench.runner.executors.cluster import RayExecutor, Share
    except ModuleNotFoundError:
        raise UserError("--only ray: Ray is not installed; pip install 'audio-cnn-transformer-bench[ray]'") from None
    suite, packs, runs = load_suite("demo"), [Pack(setup.pack)], 2 if setup.quick else 8
    overrides = {"max_steps": 10, "evaluations": 1}
    chosen = Selection(only=["transformer_small"], seeds=runs, overrides=overrides)
    count = itertools.count()
    cpu = torch.device("cpu")

    def train(executor: Executor) -> None:
        results = ResultsFolder(setup.scratch / f"ray-{next(count)}")
        outcome = run_all(plan(suite, packs, results, chosen, cpu), executor)
        assert len(outcome.done) == runs, outcome

    started = time.perf_counter()
    share = Share(float(torch.get_num_threads()))
    with RayExecutor("auto", share, 1, setup.scratch, SentFiles(()), lambda line: None) as on_ray:
        start = time.perf_counter() - started
        first = clock(partial(train, on_ray))
        turns = in_turns(partial(train, LocalExecutor(cpu)), partial(train, on_ray), seconds=2 * setup.seconds)
    turns = turns.per_unit(runs, runs)
    alone, on_worker = median(turns.other), median(turns.ours)
    warming = first - runs * on_worker
    pair = Pair(
        "ray", f"{runs} runs of 10 steps", "one by one, in this process", "a run on Ray, one at a time, warm",
        target=round(1 + _GOAL / alone, 2), at_most=True,
    )  # fmt: skip
    limit = (
        f"{on_worker - alone:.2f} s more a run, goal {_GOAL:g} s; to start Ray {start:.1f} s, a worker {warming:.1f} s"
    )
    yield row(pair, turns, limit)


PARTS: dict[str, Callable[[Setup], Iterator[Row]]] = {"ray": _overhead}


@dataclass(frozen=True)
class Sleeps:
    """Work that sleeps for so many seconds."""

    seconds: float

    def __call__(self, device: torch.device, display: Display) -> float:  # noqa: ARG002
        display.notice("asleep")
        time.sleep(self.seconds)
        return self.seconds


def measure_sleeping(
    counts: Sequence[int], nodes: int, slots: int, seconds: float, progress: Callable[[str], None]
) -> pd.DataFrame:
    """Return a line a number of runs, each of so many seconds, on so many nodes of so many slots on this machine.

    Columns: runs, nodes, slots, sleep, start, warm (seconds until all workers are), and of a run the seconds that it
    takes through the executor, by tasks of Ray's alone, and if nothing but its sleep counted; megabytes_early and
    megabytes that the command has after a tenth of the runs and after all.
    """
    points = []
    for count in counts:
        progress(f"{count:,} runs that sleep, on {nodes} nodes of {slots} slots")
        code = "from benchmarks.cluster import print_point; print_point()"
        command = [sys.executable, "-c", code, *map(str, (count, nodes, slots, seconds))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=_ROOT)
        points.append(json.loads(done.stdout.splitlines()[-1]))
    return pd.DataFrame(points)


def print_point() -> None:
    """Measure what the arguments of this process say, and print it as JSON."""
    runs, nodes, slots, seconds = sys.argv[1:]
    with TemporaryDirectory() as scratch:
        print(json.dumps(_point(int(runs), int(nodes), int(slots), float(seconds), Path(scratch))))


def _point(runs: int, nodes: int, slots: int, seconds: float, scratch: Path) -> dict[str, float]:
    import ray
    from ray.cluster_utils import Cluster

    from bench.runner.executors.cluster import RayExecutor, Share

    started = time.perf_counter()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": slots, "include_dashboard": False})
    for _ in range(nodes - 1):
        cluster.add_node(num_cpus=slots)
    try:
        with RayExecutor(cluster.address, Share(), runs, scratch, SentFiles(()), lambda line: None) as executor:
            start = time.perf_counter() - started
            warm = clock(lambda: _all(executor, 2 * executor.slots, Sleeps(seconds)))
            early = clock(lambda: _all(executor, runs // 10, Sleeps(seconds)))
            before = _megabytes()
            late = clock(lambda: _all(executor, runs - runs // 10, Sleeps(seconds)))
            after = _megabytes()
            task = ray.remote(num_cpus=1)(_sleep)
            ray.get([task.remote(seconds) for _ in range(2 * executor.slots)])
            bare = clock(lambda: ray.get([task.remote(seconds) for _ in range(runs)]))
            at_a_time = executor.slots
    finally:
        cluster.shutdown()
    return {
        "runs": runs, "nodes": nodes, "slots": slots, "sleep": seconds, "start": start, "warm": warm,
        "seconds": (early + late) / runs, "bare_seconds": bare / runs, "least_seconds": seconds / at_a_time,
        "megabytes_early": before, "megabytes": after,
    }  # fmt: skip


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _all(executor: Executor, count: int, work: Sleeps) -> None:
    """Do some work so many times, as many at a time as a suite's runs are."""
    left = deque(range(count))

    def some() -> None:
        while left:
            # another thread may have been faster
            try:
                left.pop()
            except IndexError:
                return
            executor.do(work, Display())

    at_once(executor, lambda _: some())


def _megabytes() -> float:
    """Return the memory that this process has now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
