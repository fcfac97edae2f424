"""Where runs are executed. An executor elsewhere takes runs and returns their Outcome, as LocalExecutor does."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from statistics import fmean

import torch

from bench.disk import machine_fault
from bench.locks import attempt, holder
from bench.protocol.task import get_task
from bench.runner.display import Display
from bench.runner.provenance import code_of
from bench.runner.run import execute
from bench.store import RunFolder, RunRecord
from bench.suites.plan import Run

__all__ = ["LocalExecutor", "Outcome"]

# seconds between two looks at runs that other processes are at
_PATIENCE = 0.5


@dataclass
class Outcome:
    """What became of planned runs, by the names of their folders."""

    skipped: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class _Ranking:
    """The places of entries so far, by the mean over seeds of the primary metric on eval."""

    def __init__(self) -> None:
        self.scores: dict[str, dict[int, float]] = defaultdict(dict)

    def add(self, record: RunRecord) -> None:
        primary = get_task(record.spec.task).primary
        score = record.metrics[primary.name]
        self.scores[record.spec.name][record.spec.seed] = math.inf if score is None else primary.key(score)

    def place(self, record: RunRecord) -> tuple[int, int]:
        """Return an entry's place, and of how many."""
        means = {name: fmean(scores.values()) for name, scores in self.scores.items()}
        return 1 + sum(mean < means[record.spec.name] for mean in means.values()), len(means)


class LocalExecutor:
    """Run what is not finished, one after the other, in this process; a failed run does not stop the others.

    A run is locked while it is trained. What another process is at is left to it: other runs come first, then this one
    waits, and takes what it finds as finished.
    """

    def __init__(self, device: torch.device, display: Display | None = None) -> None:
        self.device, self.display = device, display or Display()

    def __call__(self, runs: Sequence[Run], after_run: Callable[[], None] = lambda: None) -> Outcome:
        work = _Work(self.device, self.display, len(runs), after_run)
        for run in runs:
            # the digests of the code as it is loaded, whatever becomes of the files while runs take their hours
            code_of(run.spec)
            if run.folder.is_finished:
                work.ranking.add(run.folder.record())
        left, told = dict(enumerate(runs, start=1)), False
        failures = {number: _failure(run) for number, run in left.items()}
        while left:
            busy = {number: run for number, run in left.items() if not work.take(number, run, failures[number])}
            if busy and len(busy) == len(left):
                if not told:
                    self.display.notice(_waiting([run.folder for run in busy.values()]))
                told = True
                time.sleep(_PATIENCE)
            left = busy
        order = {run.folder.name: number for number, run in enumerate(runs)}
        return Outcome(*(sorted(names, key=order.__getitem__) for names in astuple(work.outcome)))


class _Work:
    """What becomes of runs that are taken one by one."""

    def __init__(self, device: torch.device, display: Display, total: int, after_run: Callable[[], None]) -> None:
        self.device, self.display, self.total, self.after_run = device, display, total, after_run
        self.outcome, self.ranking = Outcome(), _Ranking()

    def take(self, number: int, run: Run, failure: int | None) -> bool:
        """Do a run, unless it is finished; return False if another process is at it.

        Args:
            failure: When it had failed before this command, as `_failure` tells. Where another one has failed since,
                the run is not tried again.
        """
        run.folder.path.parent.mkdir(parents=True, exist_ok=True)
        if not run.folder.is_finished:
            with attempt(run.folder.path, self.display.notice) as is_free:
                if not is_free:
                    return False
                # it may have been finished just before
                if not run.folder.is_finished:
                    self._do(number, run, failure)
                    return True
        run.folder.clean_up()
        self.ranking.add(run.folder.record())
        self.outcome.skipped.append(run.folder.name)
        return True

    def _do(self, number: int, run: Run, failure: int | None) -> None:
        if _failure(run) != failure:
            self.display.notice(f"{run.folder.name}: failed elsewhere: {run.folder.failure()['error']}")
            self.outcome.failed.append(run.folder.name)
            return
        self.display.run_started(number, self.total, run.spec)
        try:
            record = execute(run, self.device, self.display)
        except Exception as error:
            # it would fail every run
            if fault := machine_fault(error, run.folder.path):
                raise fault from error
            self.display.run_failed(error, run.folder)
            self.outcome.failed.append(run.folder.name)
        else:
            self.ranking.add(record)
            self.display.run_finished(record, *self.ranking.place(record))
            self.outcome.done.append(run.folder.name)
        self.after_run()


def _failure(run: Run) -> int | None:
    """Return when a run's failure was recorded, in ns, or None if it has not failed."""
    try:
        return run.folder.failure_file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _waiting(folders: Sequence[RunFolder]) -> str:
    first, more = folders[0], len(folders) - 1
    count = f"{len(folders)} runs that are" if more else "a run that is"
    return (
        f"waiting for {count} being trained elsewhere: {first.name} ({holder(first.path)})"
        f"{f' and {more} more' if more else ''}"
    )
