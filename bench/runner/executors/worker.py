"""A process that does the work of another one, which started it, and ends with it."""

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import torch

from bench.runner.executors.remote import RemoteDisplay, portable
from bench.runner.provenance import python_call

__all__ = ["Setup", "main"]

# seconds between two reports on a training
_SECONDS = 0.2


@dataclass(frozen=True)
class Setup:
    """What a worker is told before its first work."""

    device: torch.device
    threads: int
    # loads the user's files
    prepare: Callable[[], object]
    # which started it all, for the record
    command: str


def main() -> None:
    """Do what arrives at the pipe whose number is this program's argument, until it is closed."""
    # who has started this process ends it, at Ctrl-C too; then locks are given back
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pipe = Connection(int(sys.argv[1]))
    arrived: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, arrived), daemon=True).start()
    try:
        _serve(pipe, arrived)
    except KeyboardInterrupt:
        sys.stdout.flush()
        # as told, and at once: to take apart what was imported would take seconds
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _receive(pipe: Connection, arrived: SimpleQueue[bytes]) -> None:
    """Take what arrives, as bytes: unpickling imports, and the import of training sets how its thread computes."""
    try:
        while True:
            arrived.put(pipe.recv_bytes())
    except (EOFError, OSError):
        _end()


def _say(pipe: Connection, kind: str, content: object) -> None:
    try:
        pipe.send((kind, content))
    except OSError:
        _end()


def _end() -> None:
    """End as a killed process does, since nobody takes the results any more: no run has failed by that."""
    # with what it has started: of its group it is the first. Not os._exit, which is another function while an
    # architecture is at work
    os.killpg(os.getpid(), signal.SIGKILL)


def _serve(pipe: Connection, arrived: SimpleQueue[bytes]) -> None:
    def tell(name: str, arguments: tuple[Any, ...]) -> None:
        _say(pipe, "tell", (name, arguments))
        if error := pickle.loads(arrived.get()):
            raise error

    # what is wrong before the work has begun would be for all
    try:
        setup: Setup = pickle.loads(arrived.get())
        torch.set_num_threads(setup.threads)
        if setup.device.type == "cuda":
            torch.cuda.set_device(setup.device)
        setup.prepare()
        _say(pipe, "ready", None)
        while True:
            work = pickle.loads(arrived.get())
            with python_call(setup.command):
                _do(pipe, work, setup.device, RemoteDisplay(tell, _SECONDS))
    except Exception as error:
        _say(pipe, "unfit", portable(error))


def _do(pipe: Connection, work: Callable[..., object], device: torch.device, display: RemoteDisplay) -> None:
    try:
        kind, content = "done", work(device, display)
    except Exception as error:
        kind, content = "failed", portable(error)
    _say(pipe, kind, content)
