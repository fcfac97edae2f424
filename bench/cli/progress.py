"""What is seen of long work: a live line on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.errors import one_line
from bench.protocol.spec import RunSpec

console = Console(stderr=True, highlight=False, soft_wrap=True)
LOG_SECONDS = 30  # between lines where there is no terminal


@contextmanager
def bar(description: str) -> Iterator[Callable[[float, float], None]]:
    """A bar for work that reports how much is done, and of how much; shown from the first report on."""
    progress = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    task = progress.add_task(description, total=None)
    logged = time.monotonic()

    def report(done: float, total: float) -> None:
        nonlocal logged
        progress.start()
        progress.update(task, completed=done, total=total)
        if not console.is_terminal and time.monotonic() - logged > LOG_SECONDS:
            logged = time.monotonic()
            console.print(f"{description}: {done / total:.0%}", markup=False)

    try:
        yield report
    finally:
        progress.stop()


class SuiteDisplay:
    """Which run of how many, update, loss, val mAP, samples a second, time left in this run."""

    def __init__(self) -> None:
        self.live = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[numbers]}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task: TaskID | None = None
        self.heading = ""
        self.logged = 0.0

    def __enter__(self) -> "SuiteDisplay":
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def runs_started(self, number: int, of: int, specs: Sequence[RunSpec]) -> None:
        """One, or several that are trained at once; `number` is the last one's."""
        seeds = ", ".join(str(spec.seed) for spec in specs)
        self.started(f"[{number}/{of}] {specs[0].name} seed{'s' * (len(specs) > 1)} {seeds}", specs[0].recipe.updates)

    def started(self, heading: str, updates: int) -> None:
        self.heading, self.updates = heading, updates
        self.logged = time.monotonic()
        self.task = self.live.add_task(self.heading.replace("[", r"\["), total=self.updates, numbers="")

    def run_status(self, status: Any) -> None:
        val = "-" if status.val_map is None else f"{status.val_map:.3f}"
        numbers = (
            f"update {status.update}/{self.updates}  loss {status.loss:.4f}  val mAP {val}"
            f"  {status.samples_per_second:.0f} samples/s  {timedelta(seconds=round(status.seconds_left))} left"
        )
        assert self.task is not None
        self.live.update(self.task, completed=status.update, numbers=numbers)
        if not console.is_terminal and time.monotonic() - self.logged > LOG_SECONDS:
            self.logged = time.monotonic()
            self._print(f"{self.heading}: {numbers}")

    def runs_finished(self, results: Sequence[dict[str, Any]]) -> None:
        maps = ", ".join(f"{result['metrics']['map']:.3f}" for result in results)
        self.ended(f"mAP {maps} in {sum(result['cost']['seconds'] for result in results):.0f} s")

    def run_failed(self, error: Exception, folder: Path) -> None:
        self.ended(f"failed: {one_line(error)} (traceback in {folder}/failed.json)")

    def ended(self, how: str) -> None:
        assert self.task is not None
        self.live.remove_task(self.task)
        self._print(f"{self.heading}: {how}")

    def _print(self, line: str) -> None:
        self.live.console.print(line, markup=False)
        sys.stderr.flush()
