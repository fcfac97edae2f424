"""Where runs are executed. An executor elsewhere takes runs and returns their Outcome, as LocalExecutor does."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from bench.runner.display import Display
from bench.runner.provenance import code_of
from bench.runner.run import execute
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


class LocalExecutor:
    """Run what is not finished, one after the other, in this process; a failed run does not stop the others."""

    def __init__(self, device: torch.device, display: Display | None = None) -> None:
        self.device, self.display = device, display or Display()

    def __call__(self, runs: Sequence[Run], after_run: Callable[[], None] = lambda: None) -> Outcome:
        # the digests of the code as it is loaded, whatever becomes of the files while runs take their hours
        for run in runs:
            code_of(run.spec)
        outcome = Outcome()
        for number, run in enumerate(runs, start=1):
            # perhaps by another process, just now
            if run.folder.is_finished:
                run.folder.clean_up()
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
                self.display.run_finished(record)
                outcome.done.append(run.folder.name)
            after_run()
        return outcome
