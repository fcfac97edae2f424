"""What long work tells whoever watches it."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Self

from bench.data.dataset import Progress
from bench.protocol.spec import RunSpec
from bench.store import RunFolder, RunRecord

# reports and packs are made without torch
if TYPE_CHECKING:
    from bench.protocol.train import Status

__all__ = ["Display"]


class Display:
    """Shows nothing: `display=Display()` is silent. Override what should be seen.

    Runs and trials are shown between `with`'s ends.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Stop showing runs."""

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

    def training(self, status: "Status") -> None:
        """Take how far it is."""

    def run_finished(self, record: RunRecord, place: int, of: int) -> None:
        """Take what came of a run, and at which place its entry stands so far, of how many."""

    def run_failed(self, error: Exception, folder: RunFolder) -> None:
        """Take that a run failed."""

    def ended(self, how: str) -> None:
        """Take that some training ended."""
