"""All runs of a plan, each once, however many at a time and wherever; a failed one does not stop the others."""

import math
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from statistics import fmean
from typing import Any, Literal

import torch

from architectures import contained
from bench.data.dataset import Progress
from bench.disk import machine_fault
from bench.locks import attempt, holder
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.runner.display import Display, Relay, in_turn
from bench.runner.executors.base import Executor, WorkerDied, at_once, require_code
from bench.runner.provenance import code_of
from bench.runner.run import execute, measured_cost
from bench.store import ResultsFolder, RunFolder, RunRecord
from bench.suites.plan import Run

__all__ = ["Outcome", "RunEnd", "RunWork", "costs_of", "run_all"]

# seconds between two looks at runs that other processes are at
_PATIENCE = 0.5


@dataclass
class Outcome:
    """What became of planned runs, by the names of their folders."""

    skipped: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: done now, finished before, failed now or elsewhere; or busy, as another process is at it."""

    how: Literal["done", "skipped", "failed", "failed elsewhere", "busy"]
    # of a finished one
    record: RunRecord | None = None


@dataclass(frozen=True)
class RunWork:
    """Does one run under its lock, unless it is finished, or another process is at it; a failure is recorded.

    Attributes:
        source: The digests of the code that the command has loaded, which has to be the code that trains.
        failure: When the run had failed before the command, as `failed_at` tells. Where it has failed elsewhere since,
            it is not tried again.
    """

    run: Run
    number: int
    total: int
    source: Mapping[str, Any]
    failure: int | None = None
    # what `measured_cost` said of it, if it was measured before
    cost: Mapping[str, Any] | None = None

    def __call__(self, device: torch.device, display: Display) -> RunEnd:
        """Return how it ended. Raises MachineFault for what would fail every run."""
        folder = self.run.folder
        require_code(self.run.spec, self.source)
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        if not folder.is_finished:
            with attempt(folder.path, display.notice) as is_free:
                if not is_free:
                    return RunEnd("busy")
                # it may have been finished just before
                if not folder.is_finished:
                    return self._train(device, display)
        return skipped(folder)

    def _train(self, device: torch.device, display: Display) -> RunEnd:
        folder = self.run.folder
        if failed_at(folder) != self.failure:
            display.notice(f"{folder.name}: failed elsewhere: {folder.failure()['error']}")
            return RunEnd("failed elsewhere")
        display.run_started(self.number, self.total, self.run.spec)
        try:
            return RunEnd("done", execute(self.run, device, display, self.cost))
        except Exception as error:
            # it would fail every run
            if fault := machine_fault(error, folder.path):
                raise fault from error
            display.run_failed(error, folder)
            return RunEnd("failed")


def run_all(
    runs: Sequence[Run],
    executor: Executor,
    display: Display | None = None,
    after_run: Callable[[], None] = lambda: None,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Outcome:
    """Run what is not finished, in this order, as many at a time as the executor has slots.

    A run is locked while it is trained. What another process is at is left to it: other runs come first, then this one
    waits, and takes what it finds as finished. What needs the weights of another run comes right behind that one; of a
    run that failed, it fails, too. Raises MachineFault if the machine gave out.

    Args:
        after_run: Is called after each run that was trained.
        costs: What `costs_of` has measured, if it has; else each run measures its own.
    """
    all_runs = _Runs(runs, executor, display or Display(), after_run, costs or {})
    at_once(executor, lambda _: all_runs.work())
    order = {run.folder.name: number for number, run in enumerate(runs)}
    outcome = Outcome(*(sorted(names, key=order.__getitem__) for names in astuple(all_runs.outcome)))
    if lost := order.keys() - {name for names in astuple(outcome) for name in names}:
        raise AssertionError(f"nothing became of {', '.join(sorted(lost))}")
    return outcome


@dataclass(frozen=True)
class _CostWork:
    """Measures what runs of a spec cost, whatever their seed."""

    spec: RunSpec
    # as RunWork's
    source: Mapping[str, Any]

    def __call__(self, device: torch.device, display: Display) -> Mapping[str, Any]:  # noqa: ARG002
        require_code(self.spec, self.source)
        with contained():
            cost = measured_cost(self.spec, device)
        if device.type == "cuda":
            # for the other processes
            torch.cuda.empty_cache()
        return cost


def costs_of(
    runs: Sequence[Run], executor: Executor, progress: Progress = lambda *_: None
) -> dict[str, Mapping[str, Any]]:
    """Measure what each entry that is not finished costs, by its name: where runs will be, one entry after another.

    While nothing else is under way: runs at once would disturb what the clock says of each other.
    """
    first = {run.spec.name: run for run in reversed(runs) if not run.folder.is_finished}
    costs: dict[str, Mapping[str, Any]] = {}
    for done, (name, run) in enumerate(first.items(), start=1):
        # what fails here fails in the run, too, and is its result
        with suppress(Exception):
            costs[name] = executor.do(_CostWork(run.spec, code_of(run.spec)["source"]), Display())
        progress(done, len(first))
    return costs


class _Runs:
    """Runs that several threads take, one by one."""

    def __init__(
        self,
        runs: Sequence[Run],
        executor: Executor,
        display: Display,
        after_run: Callable[[], None],
        costs: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.executor, self.display, self.after_run = executor, display, after_run
        self.outcome, self.ranking = Outcome(), _Ranking()
        self.work_of = {
            # the digests of the code as it is loaded, whatever becomes of the files while runs take their hours
            number: RunWork(
                run, number, len(runs), code_of(run.spec)["source"], failed_at(run.folder), costs.get(run.spec.name)
            )
            for number, run in enumerate(runs, start=1)
        }
        for run in runs:
            if run.folder.is_finished:
                self.ranking.add(run, run.folder.record())
        self.left, self.busy, self.under_way, self.has_told = deque[int](), deque[int](), 0, False
        # by the number of a run, of those that need its weights: they are left when that one has ended
        self.behind: dict[int, list[int]] = defaultdict(list)
        number_of = {run.folder: number for number, run in enumerate(runs, start=1)}
        for number, run in enumerate(runs, start=1):
            trained = number_of.get(run.follows.folder) if run.follows else None
            (self.behind[trained] if trained else self.left).append(number)
        # held for all above, and whenever something is shown
        self.changed = threading.Condition()

    def work(self) -> None:
        """Take run after run, until none is left."""
        while number := self._next():
            end = None
            try:
                end = self._do(self.work_of[number], in_turn(self.display.lane(), self.changed))
            finally:
                with self.changed:
                    self.under_way -= 1
                    if end == RunEnd("busy"):
                        self.busy.append(number)
                    else:
                        self.left.extendleft(reversed(self.behind.pop(number, [])))
                        self.changed.notify_all()

    def _next(self) -> int | None:
        """Return the number of the next run, and wait where there are only such as other processes are at."""
        with self.changed:
            while not self.left:
                if not self.under_way:
                    if not self.busy:
                        return None
                    self._say_for_whom()
                self.changed.wait(_PATIENCE)
                # added: another thread that waits may have been faster
                self.left.extend(self.busy)
                self.busy.clear()
            self.under_way += 1
            return self.left.popleft()

    def _say_for_whom(self) -> None:
        if not self.has_told:
            self.display.notice(_waiting([self.work_of[number].run.folder for number in self.busy]))
        self.has_told = True

    def _do(self, work: RunWork, display: Relay) -> RunEnd:
        folder = work.run.folder
        try:
            # no process is started for what is finished
            end = skipped(folder) if folder.is_finished else self.executor.do(work, display)
        except WorkerDied as error:
            end = self._record_death(work, error, display)
        with self.changed:
            self._note(work.run, end, display)
        return end

    def _record_death(self, work: RunWork, error: WorkerDied, display: Relay) -> RunEnd:
        """Have a run fail whose process could not even say so."""
        run = work.run
        run.folder.path.mkdir(parents=True, exist_ok=True)
        run.folder.write_failure(run.spec, error)
        if not display.has_begun:
            display.run_started(work.number, work.total, run.spec)
        display.run_failed(error, run.folder)
        return RunEnd("failed")

    def _note(self, run: Run, end: RunEnd, display: Display) -> None:
        if end.how == "busy":
            return
        name = run.folder.name
        if end.record:
            self.ranking.add(run, end.record)
        if end.how == "skipped":
            self.outcome.skipped.append(name)
        elif end.record:
            display.run_finished(end.record, *self.ranking.place(run))
            self.outcome.done.append(name)
        else:
            self.outcome.failed.append(name)
        if end.how in ("done", "failed"):
            self.after_run()


class _Ranking:
    """The places of entries so far, by the mean over seeds of the primary metric on eval.

    Among those of the same results: pre-trainings of other settings are judged on other things.
    """

    def __init__(self) -> None:
        self.scores: dict[ResultsFolder, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))

    def add(self, run: Run, record: RunRecord) -> None:
        spec, primary = run.spec, get_task(run.spec.task).primary
        score = record.metrics[primary.name]
        self.scores[run.results][spec.name][spec.seed] = math.inf if score is None else primary.key(score)

    def place(self, run: Run) -> tuple[int, int]:
        """Return an entry's place, and of how many."""
        means = {name: fmean(scores.values()) for name, scores in self.scores[run.results].items()}
        return 1 + sum(mean < means[run.spec.name] for mean in means.values()), len(means)


def skipped(folder: RunFolder) -> RunEnd:
    """Return how a run ended that is finished, and remove what only training needs."""
    folder.clean_up()
    return RunEnd("skipped", folder.record())


def failed_at(folder: RunFolder) -> int | None:
    """Return when a run's failure was recorded, in ns, or None if it has not failed."""
    try:
        return folder.failure_file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _waiting(folders: Sequence[RunFolder]) -> str:
    first, more = folders[0], len(folders) - 1
    count = f"{len(folders)} runs that are" if more else "a run that is"
    return (
        f"waiting for {count} being trained elsewhere: {first.name} ({holder(first.path)})"
        f"{f' and {more} more' if more else ''}"
    )
