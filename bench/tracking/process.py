"""Tracking beside a suite: `bench track sync` in a process of its own, at the lowest priority."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from bench.errors import UserError
from bench.store import ResultsFolder
from bench.text import hide_secrets
from bench.tracking.sync import missing, tracking_uri

__all__ = ["WAIT_SECONDS", "Sender", "Tracker"]

WAIT_SECONDS = 60.0
_NICE = 19
# neither the cores nor the GPU that a run trains and is timed on
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Sender:
    """A process that sends a folder, and the file that has what it says."""

    process: subprocess.Popen[bytes]
    messages: IO[bytes]

    @classmethod
    def start(cls, command: Sequence[str], messages: IO[bytes], *, nice: int) -> "Sender":
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=messages,
            env=os.environ | _ENVIRONMENT,
            # Ctrl-C is for the suite, which ends this one itself. No session of its own: Linux shares the cores evenly
            # among sessions (autogroups), whatever their priorities
            process_group=0,
        )
        if nice:
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)
        return cls(process, messages)

    def hurry(self) -> None:
        """Have its share of a machine on which nothing is trained any more."""
        # a system may allow that to nobody; the process may have ended
        with suppress(PermissionError, ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self.process.pid, 0)

    def wait(self, deadline: float | None = None) -> list[str]:
        """Return what it said once it has ended, line by line. Raises subprocess.TimeoutExpired."""
        self.process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        with self.messages as messages:
            messages.seek(0)
            return messages.read().decode(errors="replace").splitlines()


class Tracker(AbstractContextManager["Tracker"]):
    """Keep a tracking server up to date without waiting for it: one process at a time, stopped on leaving, if `on`."""

    def __init__(self, folder: Path, *, on: bool = True, plugins: Sequence[Path] = ()) -> None:
        self.on, self.plugins, self.folder = on, plugins, folder
        self.command = ["track", "sync", str(folder), *(part for path in plugins for part in ("--plugin", str(path)))]
        self.sender: Sender | None = None
        self.log = ResultsFolder(folder).tracking_log
        # of all processes, each once
        self.warnings: list[str] = []

    @property
    def server(self) -> str:
        """Where the results go, as it may be shown."""
        try:
            return hide_secrets(tracking_uri(self.folder))
        # what is wrong with it, the process says
        except UserError:
            return "MLflow"

    def __exit__(self, *error: object) -> None:
        if self.sender:
            # cut off where it is: the next sync fixes that
            self.sender.process.terminate()
            self.sender.wait()
            self.sender = None

    def news(self) -> None:
        """Send what is new in the folder; where a process is busy, with the next one, or at the end."""
        if not self.on or (self.sender and self.sender.process.poll() is None):
            return
        if self.sender:
            self._warnings_of(self.sender.wait())
        self.sender = Sender.start(self.command, TemporaryFile(), nice=_NICE)  # noqa: SIM115  (wait closes it)

    def finish(self, seconds: float) -> list[str]:
        """Send what is left, and wait for so long at most; return what a user should know, if anything, a line each.

        What takes longer goes on without this process.
        """
        if not self.on:
            return []
        deadline = time.monotonic() + seconds
        earlier, self.sender = self.sender, None
        if earlier:
            earlier.hurry()
        # What the one before looked at may be older than what is there now; this one waits until it has ended.
        last = Sender.start(self.command, self.log.open("w+b"), nice=0)
        try:
            if earlier:
                self._warnings_of(earlier.wait(deadline))
            lines = last.wait(deadline)
        except subprocess.TimeoutExpired:
            return [*self.warnings, self._left(seconds)]
        self.log.unlink(missing_ok=True)
        self._warnings_of(lines)
        return self.warnings + _marked("bench: error: ", lines)

    def _left(self, seconds: float) -> str:
        try:
            left, total = missing(self.folder)
            what = f"{left} of {total} runs" if left else "some files, or the model,"
        except UserError:
            what = "some runs"
        again = shlex.join(["bench", *self.command])
        goes_on = f"a process of its own goes on, which tells {self.log} if it fails"
        return f"{what} were not sent within {seconds:.0f} s: {goes_on}; `{again}` waits for it, and sends the rest"

    def _warnings_of(self, lines: list[str]) -> None:
        self.warnings += [line for line in _marked("warning: ", lines) if line not in self.warnings]


def _marked(mark: str, lines: list[str]) -> list[str]:
    return [line.removeprefix(mark) for line in lines if line.startswith(mark)]
