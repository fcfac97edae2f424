"""What an executor is, and how several pieces of work are under way at once."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, Protocol, Self, TypeVar

import torch

from bench.errors import MachineFault
from bench.protocol.spec import RunSpec
from bench.runner.display import Display
from bench.runner.provenance import code_of

__all__ = ["Executor", "Interrupted", "Work", "WorkerDied", "at_once", "computing_with", "require_code"]

T = TypeVar("T", covariant=True)
R = TypeVar("R")


class Interrupted(KeyboardInterrupt):
    """Work was under way when its executor was closed: for who waited for it, the same as Ctrl-C."""


class WorkerDied(Exception):
    """The process that did a piece of work ended in the middle of it; the message says how."""


class Work(Protocol[T]):
    """A piece of work that can be sent to another process: it pickles, and is small."""

    def __call__(self, device: torch.device, display: Display) -> T: ...


class Executor(Protocol):
    """Does pieces of work somewhere. A context manager, which closes it.

    Attributes:
        slots: How many pieces of work are worth having under way at once.
        where: That, for people, after 'on'.
        threads: How many each piece computes with where that is on this machine, so that what is measured here with as
            many is right for it; None for as many as this process has, and for other machines.
    """

    slots: int
    where: str
    threads: int | None = None

    def do(self, work: Work[R], display: Display) -> R:
        """Do a piece of work and return what comes of it; called by several threads, several at once.

        What the work tells its display arrives at `display`, in this thread; what that raises ends the work, and is
        raised here, as is what the work itself raises. Raises WorkerDied if the process that did it is no more,
        MachineFault if no worker could do it, Interrupted if the executor is closed.
        """
        ...

    def close(self) -> None:
        """End what is under way, and leave nothing running."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def at_once(executor: Executor, work: Callable[[threading.Event], None]) -> None:
    """Call `work` in as many threads as the executor has slots, in this one if it has one, and wait for all.

    What one of them raises, or Ctrl-C here, closes the executor, which ends the others, and is raised. The event that
    `work` is given is set then: what waits without the executor has to see that, and to raise Interrupted.
    """
    is_over = threading.Event()
    if executor.slots == 1:
        work(is_over)
        return
    with ThreadPoolExecutor(executor.slots) as pool:
        try:
            for ended in as_completed([pool.submit(work, is_over) for _ in range(executor.slots)]):
                ended.result()
        except BaseException:
            is_over.set()
            executor.close()
            raise


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """Have PyTorch use so many threads of the processor inside; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def require_code(spec: RunSpec, source: Mapping[str, Any]) -> None:
    """Raise MachineFault unless this process has loaded the code that has these digests, as the command had."""
    here = code_of(spec)["source"]
    if other := [part for part in source if here.get(part) != source[part]]:
        raise MachineFault(
            f"{spec.name}: a worker has loaded other code than the command ({', '.join(other)}): have the same files "
            "on all machines, leave them alone while a command runs, and run the same command again"
        )
