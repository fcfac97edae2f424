"""Where runs are executed. An executor elsewhere takes runs and returns their Outcome, as LocalExecutor does."""

import errno
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch

from bench.protocol.task import get_task
from bench.runner.display import Display
from bench.runner.provenance import code_of
from bench.runner.run import execute
from bench.store import RunRecord
from bench.suites.plan import Run

__all__ = ["LocalExecutor", "Outcome"]

# these would fail every run
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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
    """Run what is not finished, one after the other, in this process; a failed run does not stop the others."""

    def __init__(self, device: torch.device, display: Display | None = None) -> None:
        self.device, self.display = device, display or Display()

    def __call__(self, runs: Sequence[Run], after_run: Callable[[], None] = lambda: None) -> Outcome:
        outcome, ranking = Outcome(), _Ranking()
        for run in runs:
            # the digests of the code as it is loaded, whatever becomes of the files while runs take their hours
            code_of(run.spec)
            if run.folder.is_finished:
                ranking.add(run.folder.record())
        for number, run in enumerate(runs, start=1):
            # perhaps by another process, just now
            if run.folder.is_finished:
                run.folder.clean_up()
                ranking.add(run.folder.record())
                outcome.skipped.append(run.folder.name)
                continue
            self.display.run_started(number, len(runs), run.spec)
            try:
                record = execute(run, self.device, self.display)
            except Exception as error:
                if isinstance(error, OSError) and error.errno in _FATAL:
                    raise
                self.display.run_failed(error, run.folder)
                outcome.failed.append(run.folder.name)
            else:
                ranking.add(record)
                self.display.run_finished(record, *ranking.place(record))
                outcome.done.append(run.folder.name)
            after_run()
        return outcome
