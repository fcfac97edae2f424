"""What long work tells whoever watches it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self

from bench.data.dataset import Progress
from bench.protocol.spec import RunSpec
from bench.store import RunFolder, RunRecord
from bench.store.record import Provenance

# reports and packs are made without torch
if TYPE_CHECKING:
    from bench.protocol.train import Status

__all__ = ["Display", "Relay", "in_turn"]


class Display:
    """Shows nothing: `display=Display()` is silent. Override what should be seen.

    Runs and trials are shown between `with`'s ends.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Stop showing runs."""

    def lane(self) -> "Display":
        """Return what shows one run or trial, of several that may be under way; all are told one thing at a time."""
        return self

    def notice(self, line: str) -> None:
        """Take a line that a user should read."""

    def reported(self, text: str) -> None:
        """Take a report's tables, before the results are sent anywhere."""

    def bar(self, what: str) -> AbstractContextManager[Progress]:  # noqa: ARG002
        """Return what takes how far some work is."""
        return nullcontext(lambda _done, _total: None)

    def run_started(self, number: int, total: int, spec: RunSpec) -> None:
        """Take that a run begins, the `number`-th of `total`."""

    def started(self, heading: str, spec: RunSpec) -> None:
        """Take that some training begins."""

    def origin(self, provenance: Provenance) -> None:
        """Take where the numbers of a search's trial will come from."""

    def training(self, status: "Status") -> None:
        """Take how far it is."""

    def run_finished(self, record: RunRecord, place: int, of: int) -> None:
        """Take what came of a run, and at which place its entry stands so far, of how many."""

    def run_failed(self, error: Exception, folder: RunFolder) -> None:
        """Take that a run that began has failed."""

    def ended(self, how: str) -> None:
        """Take that some training ended."""


class Relay(Display):
    """Passes on what it is told about a run or a trial: the name of a method, and its arguments.

    Attributes:
        has_begun: Whether it was told that one begins, and not since that it ended.
    """

    def __init__(self, tell: Callable[[str, tuple[Any, ...]], None]) -> None:
        self.tell, self.has_begun = tell, False

    def notice(self, line: str) -> None:
        self.tell("notice", (line,))

    def run_started(self, number: int, total: int, spec: RunSpec) -> None:
        self.has_begun = True
        self.tell("run_started", (number, total, spec))

    def started(self, heading: str, spec: RunSpec) -> None:
        self.has_begun = True
        self.tell("started", (heading, spec))

    def origin(self, provenance: Provenance) -> None:
        self.tell("origin", (provenance,))

    def training(self, status: "Status") -> None:
        self.tell("training", (status,))

    def run_finished(self, record: RunRecord, place: int, of: int) -> None:
        self.tell("run_finished", (record, place, of))

    def run_failed(self, error: Exception, folder: RunFolder) -> None:
        self.tell("run_failed", (error, folder))

    def ended(self, how: str) -> None:
        self.has_begun = False
        self.tell("ended", (how,))


def in_turn(display: Display, lock: AbstractContextManager[Any]) -> Relay:
    """Return a display for one thread of several: it holds the lock whenever it tells something."""

    def tell(name: str, arguments: tuple[Any, ...]) -> None:
        with lock:
            getattr(display, name)(*arguments)

    return Relay(tell)
