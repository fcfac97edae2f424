"""What is seen of long work: a live line on a terminal or in a notebook, a line now and then in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.data.dataset import Progress as Report
from bench.errors import one_line
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.runner.display import Display
from bench.store import RunFolder, RunRecord
from bench.text import hide_secrets, printable

if TYPE_CHECKING:
    from bench.protocol.train import Status

__all__ = ["ConsoleDisplay", "shown"]


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on in silence where what reads stderr is gone; rich would end the process, and the work with it."""
        self.quiet = True


_console = _Console(stderr=True, highlight=False, soft_wrap=True)
# between lines where there is no terminal
_LOG_SECONDS = 30


def _shown(text: str) -> str:
    # names of entries and files are the user's, messages are anybody's
    return printable(hide_secrets(text))


def shown(display: Display | None) -> Display:
    """Return what a caller gave to show long work, or else what shows it on a terminal, in a notebook or in a log."""
    return display or ConsoleDisplay()


class ConsoleDisplay(Display):
    """Shows on the terminal which run of how many, step, loss, val score, samples a second and time left."""

    def __init__(self) -> None:
        self.live = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[numbers]}"),
            console=_console, disable=not self.is_live,
        )  # fmt: skip
        # of the live line, while something is trained
        self.task: TaskID | None = None
        self.heading, self.max_steps, self.metric = "", 0, ""
        self.logged = 0.0

    @property
    def is_live(self) -> bool:
        """Whether lines can be drawn anew: on a terminal, and in a notebook that has ipywidgets."""
        return _console.is_terminal or (_console.is_jupyter and find_spec("ipywidgets") is not None)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def lane(self) -> Self:
        # one live display with a line for each
        return copy(self)

    def notice(self, line: str) -> None:
        self.live.console.print(_shown(line), markup=False)

    @contextmanager
    def bar(self, what: str) -> Iterator[Report]:
        """Show a bar from the first report on."""
        progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=_console, disable=not self.is_live,
        )  # fmt: skip
        what = _shown(what)
        task = progress.add_task(what, total=None)
        logged = time.monotonic()

        def report(done: float, total: float) -> None:
            nonlocal logged
            progress.start()
            progress.update(task, completed=done, total=total)
            if not self.is_live and time.monotonic() - logged > _LOG_SECONDS:
                logged = time.monotonic()
                # nothing to do is done: an archive may hold empty files alone
                _console.print(f"{what}: {done / total if total else 1:.0%}", markup=False)

        try:
            yield report
        finally:
            progress.stop()

    def run_started(self, number: int, total: int, spec: RunSpec) -> None:
        self.started(f"[{number}/{total}] {spec.name} seed {spec.seed}", spec)

    def started(self, heading: str, spec: RunSpec) -> None:
        self.heading = _shown(heading)
        self.max_steps, self.metric = spec.recipe.max_steps, get_task(spec.task).primary.label
        self.logged = time.monotonic()
        self.task = self.live.add_task(self.heading.replace("[", r"\["), total=self.max_steps, numbers="")

    def training(self, status: "Status") -> None:
        val = "-" if status.val_score is None else f"{status.val_score:.3f}"
        numbers = (
            f"step {status.step}/{self.max_steps}  loss {status.loss:.4f}  val {self.metric} {val}"
            f"  {status.samples_per_second:.0f} samples/s  {timedelta(seconds=round(status.seconds_left))} left"
        )
        if self.task is not None:
            self.live.update(self.task, completed=status.step, numbers=numbers)
        if not self.is_live and time.monotonic() - self.logged > _LOG_SECONDS:
            self.logged = time.monotonic()
            self.notice(f"{self.heading}: {numbers}")

    def run_finished(self, record: RunRecord, place: int, of: int) -> None:
        primary = get_task(record.spec.task).primary
        score = f"{primary.label} {record.metrics[primary.name]:.3f} in {record.cost['seconds']:.0f} s"
        self.ended(f"{score}, place {place} of {of} so far" if of > 1 else score)

    def run_failed(self, error: Exception, folder: RunFolder) -> None:
        self.ended(f"failed: {one_line(error) or type(error).__name__} (traceback in {folder.failure_file})")

    def ended(self, how: str) -> None:
        if self.task is not None:
            self.live.remove_task(self.task)
        self.task = None
        self.notice(f"{self.heading}: {how}")
