"""What work in another process and who waits for it say to each other."""

import pickle
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.errors import one_line
from bench.protocol.spec import RunSpec
from bench.runner.display import Relay
from bench.store import RunFolder

if TYPE_CHECKING:
    from bench.protocol.train import Status

__all__ = ["RemoteDisplay", "portable"]


class RemoteDisplay(Relay):
    """The display of work in another process: every evaluation is told, and between them not more often than needed.

    Args:
        tell: Has `getattr(display, name)(*arguments)` called in the process that has the display; what that raises,
            it should raise.
        seconds: Between two reports on a training that are not of an evaluation.
    """

    def __init__(self, tell: Callable[[str, tuple[Any, ...]], None], seconds: float) -> None:
        super().__init__(tell)
        self.seconds, self.told = seconds, 0.0
        self.evaluations: frozenset[int] = frozenset()

    def run_started(self, number: int, total: int, spec: RunSpec) -> None:
        self.evaluations = frozenset(spec.recipe.evaluation_steps())
        super().run_started(number, total, spec)

    def started(self, heading: str, spec: RunSpec) -> None:
        self.evaluations = frozenset(spec.recipe.evaluation_steps())
        super().started(heading, spec)

    def training(self, status: "Status") -> None:
        if status.step in self.evaluations or time.monotonic() - self.told >= self.seconds:
            super().training(status)
            self.told = time.monotonic()

    def run_failed(self, error: Exception, folder: RunFolder) -> None:
        super().run_failed(portable(error), folder)


def portable(error: Exception) -> Exception:
    """Return an error that arrives elsewhere as what it is, with its traceback in words; if it can't, all in words."""
    error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    # whatever a class of a plugin's does when it is pickled, or made anew
    except Exception:
        pass
    said = RuntimeError(f"{type(error).__name__}: {one_line(error)}".removesuffix(": "))
    said.add_note(error.__notes__[-1])
    return said
