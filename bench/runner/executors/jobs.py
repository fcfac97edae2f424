"""Work in processes of this machine, each with its share of the processor's threads, or with a GPU."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Literal, TypeVar

import torch

from bench.errors import MachineFault, UserError
from bench.runner.display import Display
from bench.runner.executors.base import Executor, Interrupted, Work, WorkerDied
from bench.runner.executors.remote import portable
from bench.runner.executors.worker import Setup
from bench.runner.provenance import command

__all__ = ["MAX_JOBS", "JobsExecutor", "spread"]

MAX_JOBS = 256

R = TypeVar("R")

_PROGRAM = "from bench.runner.executors.worker import main; main()"
# of libraries that read it when they are loaded
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# seconds for processes to give back their locks
_GRACE = 3.0
# seconds between two looks at whether a process lives that says nothing
_LOOK = 0.5


class JobsExecutor(Executor):
    """Does work in processes of this machine, one for each device, which may be the same one several times.

    They start when they are first needed, and stay. They end with this process, however that ends.

    Args:
        threads: How many each computes with on the processor.
        prepare: What each calls first, to load the user's files; it pickles.
    """

    def __init__(self, devices: Sequence[torch.device], threads: int, prepare: Callable[[], object]) -> None:
        self.slots, self.threads = len(devices), threads
        kind = devices[0] if len(set(devices)) == 1 else devices[0].type
        self.where = f"{kind}, {len(devices)} processes of {threads} thread{'s' * (threads != 1)} each"
        called = command()
        self._workers = [_Worker(Setup(device, threads, prepare, called)) for device in devices]
        # the last one that was given back comes first: it is warm
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in reversed(self._workers):
            self._idle.put(worker)

    def do(self, work: Work[R], display: Display) -> R:
        worker = self._idle.get()
        try:
            return worker.do(work, display)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        deadline = time.monotonic() + _GRACE
        for worker in self._workers:
            worker.terminate()
        try:
            for worker in self._workers:
                worker.wait(deadline)
        # also where Ctrl-C comes again
        finally:
            for worker in self._workers:
                worker.kill()


def spread(device: torch.device, jobs: int | Literal["auto"], most: int) -> list[torch.device]:
    """Return the device of each of so many processes: GPUs in turn, unless a certain one is named.

    `auto` is one process a GPU, or a core of those that this process may use. It is never more than there is work for,
    which is at most so many pieces.
    """
    is_any = device.type == "cuda" and device.index is None
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())] if is_any else [device]
    fitting = _cores() if device.type == "cpu" else len(gpus)
    return [gpus[i % len(gpus)] for i in range(max(1, min(fitting if jobs == "auto" else jobs, most)))]


def _cores() -> int:
    # which macOS does not tell
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A process, started anew when the last one is no more."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Connection[Any, Any] | None = None
        # held while a process starts, so that none starts after the end
        self.starting, self.is_closed = threading.Lock(), False
        # whether it has begun to take work
        self.is_ready = False

    def do(self, work: Work[R], display: Display) -> R:
        process, pipe = self._ready()
        try:
            pipe.send(work)
            return self._attend(process, pipe, display)
        # the pipe's: what a display raises is kept in there
        except (EOFError, ConnectionError):
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
            code, self.process = _kill(process), None
            if self.is_closed:
                raise Interrupted from None
            if not self.is_ready:
                raise MachineFault(f"a worker process did not start: {_how(code)}") from None
            raise WorkerDied(_how(code)) from None

    def _attend(self, process: "subprocess.Popen[bytes]", pipe: "Connection[Any, Any]", display: Display) -> Any:
        """Pass on what is told, until the work has ended; return or raise what comes of it."""
        raised: Exception | None = None
        while True:
            kind, content = _heard(process, pipe)
            if kind == "tell":
                answer = None
                try:
                    name, arguments = content
                    getattr(display, name)(*arguments)
                except Exception as error:
                    raised, answer = error, portable(error)
                pipe.send(answer)
            elif kind == "done":
                return content
            elif kind == "ready":
                self.is_ready = True
            elif kind == "unfit":
                raise MachineFault(str(content)) if isinstance(content, UserError) else content
            else:
                raise raised or content

    def _ready(self) -> "tuple[subprocess.Popen[bytes], Connection[Any, Any]]":
        with self.starting:
            if self.is_closed:
                raise Interrupted
            if self.process is None or self.pipe is None or self.process.poll() is not None:
                # which has ended without work
                if self.process:
                    _kill(self.process)
                if self.pipe:
                    self.pipe.close()
                self.is_ready = False
                self.process, self.pipe = _start(self.setup.threads)
                self.pipe.send(self.setup)
            return self.process, self.pipe

    def terminate(self) -> None:
        with self.starting:
            self.is_closed = True
            if process := self.process:
                process.terminate()

    def wait(self, deadline: float) -> None:
        if process := self.process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        if process := self.process:
            _kill(process)


def _start(threads: int) -> "tuple[subprocess.Popen[bytes], Connection[Any, Any]]":
    """Start a process and return it, with this end of the pipe to it."""
    near, far = Pipe()
    # not multiprocessing's Process: that would run the user's script once more, and has no environment of its own
    with far:
        process = subprocess.Popen(
            # -P: a file in this folder is no module
            [sys.executable, "-P", "-c", _PROGRAM, str(far.fileno())],
            stdin=subprocess.DEVNULL,
            env=os.environ | dict.fromkeys(_THREADS, str(threads)) | {"PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=[far.fileno()],
            # Ctrl-C is for this process, which ends the others
            process_group=0,
        )
    return process, near


def _heard(process: "subprocess.Popen[bytes]", pipe: "Connection[Any, Any]") -> Any:
    """Return the next that a process says; EOFError where it is no more."""
    # one that it has forked may hold the other end of the pipe for as long as it lives
    while not pipe.poll(_LOOK):
        if process.poll() is not None and not pipe.poll():
            raise EOFError
    return pipe.recv()


def _kill(process: "subprocess.Popen[bytes]") -> int:
    """End a process, if it still runs, and those that it has started; return its exit code."""
    # macOS says the latter where all have ended
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _how(code: int) -> str:
    """Return how a process ended, by its exit code, in words."""
    if code >= 0:
        return f"its process ended by itself, with exit code {code}"
    # a real-time one has no name
    name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
    return f"its process was ended by {name}{', as where memory runs out' * (name == 'SIGKILL')}"
