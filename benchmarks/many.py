"""Parts that are about many runs: several at once, and results of several machines."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from shutil import copytree
from statistics import median
from unittest.mock import patch

from bench.api.merging import merge
from bench.api.plugins import load_plugins
from bench.data.pack import Pack
from bench.reporting.systems import load_results
from bench.runner import run as running
from bench.runner.display import Display
from bench.runner.executors import Executor, LocalExecutor
from bench.runner.executors.jobs import JobsExecutor, spread
from bench.runner.runs import run_all
from bench.store import ResultsFolder
from bench.suites.plan import Selection, plan
from bench.suites.suite import load_suite
from benchmarks.rows import Pair, Row, row
from benchmarks.setup import Setup
from benchmarks.turns import clock, in_turns, median_seconds

__all__ = ["PARTS"]


def _two_at_once(setup: Setup) -> Iterator[Row]:
    """Train the transformers one by one, with all threads, and in two processes with half of them each."""
    suite, packs = load_suite("demo"), [Pack(setup.pack)]
    steps = 20 if setup.quick else 100
    chosen = Selection(only=["transformer_small", "transformer_large"], seeds=2, overrides={"max_steps": steps})
    count = itertools.count()

    def train(executor: Executor) -> None:
        results = ResultsFolder(setup.scratch / f"jobs-{next(count)}")
        run_all(plan(suite, packs, results, chosen, setup.device), executor)
        assert not results.failed(), results.failed()[0].failure()

    threads = max(1, setup.machine.threads // 2)
    with JobsExecutor(spread(setup.device, 2, 2), threads, partial(load_plugins, [])) as executor:
        # the turn that is not timed starts the processes
        started = clock(partial(train, executor))
        one_by_one = partial(train, LocalExecutor(setup.device))
        turns = in_turns(one_by_one, partial(train, executor), seconds=2 * setup.seconds)
    first = started - min(turns.ours)
    pair = Pair(
        "jobs", f"4 runs of {steps} steps", "one by one, all threads", "two at once, half of them each", target=1.0
    )
    yield row(pair, turns, f"twice as fast; to start the processes, {first:.0f} s")


def _next_seed(setup: Setup) -> Iterator[Row]:
    """Do a run of one step: all but training, with its costs measured anew, and with those of the seed before."""
    suite, packs = load_suite("demo"), [Pack(setup.pack)]
    count = itertools.count()
    for name in ("transformer_small", "densenet121"):
        chosen = Selection(only=[name], seeds=1, overrides={"max_steps": 1, "batch_size": setup.batch_size})

        def train(chosen: Selection = chosen) -> None:
            results = ResultsFolder(setup.scratch / f"seed-{next(count)}")
            run_all(plan(suite, packs, results, chosen, setup.device), LocalExecutor(setup.device))
            assert not results.failed(), results.failed()[0].failure()

        def anew(train: Callable[[], None] = train) -> None:
            with patch.dict(running._costs, clear=True):
                train()

        turns = in_turns(anew, train, seconds=setup.seconds)
        pair = Pair("fixed part", name, "costs measured for every seed", "a run of one step, costs known", target=1.0)
        yield row(pair, turns, f"{median(turns.ours):.1f} s, most of it eval, scored twice")


def _merging(setup: Setup) -> Iterator[Row]:
    """Join the kept demo into another folder, beside a copy that checks nothing."""
    demo = Path(__file__).parents[1] / "results" / "demo"
    count = itertools.count()

    def other() -> None:
        copytree(demo, setup.scratch / f"copied-{next(count)}")

    def ours() -> None:
        merge(setup.scratch / f"merged-{next(count)}", demo, display=Display())

    turns = in_turns(other, ours, seconds=setup.seconds / 2)
    runs = len(ResultsFolder(demo).finished())
    each = median(turns.ours) / runs
    reading = median_seconds(lambda: load_results(demo), repeats=3) / median(turns.ours)
    pair = Pair("merge", f"{runs} runs", "cp -r, unchecked", "bench merge: checked, then copied", at_most=True)
    yield row(
        pair, turns, f"{1e3 * each:.0f} ms a run; to read them is {reading:.0%} of it, to compute scores the rest"
    )


PARTS: dict[str, Callable[[Setup], Iterator[Row]]] = {
    "jobs": _two_at_once,
    "fixed": _next_seed,
    "merge": _merging,
}
