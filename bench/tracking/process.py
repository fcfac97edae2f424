"""Tracking beside a suite: `bench track sync` in a process of its own, at the lowest priority."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from bench.tracking.sync import local_store, without_password

__all__ = ["WAIT_SECONDS", "Tracker"]

WAIT_SECONDS = 60.0
_NICE = 19
# neither the cores nor the GPU that a run trains and is timed on
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class Tracker(AbstractContextManager["Tracker"]):
    """Keep a tracking server up to date without waiting for it: one process at a time, stopped on leaving, if `on`."""

    def __init__(self, folder: Path, *, on: bool = True, plugins: Sequence[Path] = ()) -> None:
        self.on, self.plugins, self.folder = on, plugins, folder
        self.command = ["track", "sync", str(folder), *(part for path in plugins for part in ("--plugin", str(path)))]
        self.process: subprocess.Popen[bytes] | None = None
        self.messages: IO[bytes] | None = None
        # of all processes, each once
        self.warnings: list[str] = []

    @property
    def server(self) -> str:
        """Where the results go, as it may be shown."""
        return without_password(os.environ.get("MLFLOW_TRACKING_URI") or local_store(self.folder))

    def __exit__(self, *error: object) -> None:
        if self.process:
            # cut off where it is: the next sync fixes that
            self.process.terminate()
            self._wait(None)

    def news(self) -> None:
        """Send what is new in the folder; where a process is busy, with the next one, or at the end."""
        if self.on and (self.process is None or self.process.poll() is not None):
            self._start()

    def finish(self, seconds: float) -> list[str]:
        """Send what is left, for so long at most; return what a user should know, if anything, a line each."""
        if not self.on:
            return []
        deadline = time.monotonic() + seconds
        try:
            self._wait(deadline)
            self._start()
            errors = self._wait(deadline)
        except subprocess.TimeoutExpired:
            again = shlex.join(["bench", *self.command])
            errors = [f"not all was sent within {seconds:.0f} s; `{again}` sends the rest"]
        return self.warnings + errors

    def _start(self) -> None:
        self._wait(None)
        self.messages = TemporaryFile()  # noqa: SIM115  (_wait closes it)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench", *self.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.messages,
            env=os.environ | _ENVIRONMENT,
            # Ctrl-C is for the suite, which ends this one itself. No session of its own: Linux shares the cores evenly
            # among sessions (autogroups), whatever their priorities
            process_group=0,
        )
        os.setpriority(os.PRIO_PROCESS, self.process.pid, _NICE)

    def _wait(self, deadline: float | None) -> list[str]:
        """Wait for the process, if there is one; return its errors. Raises subprocess.TimeoutExpired."""
        if self.process is None or self.messages is None:
            return []
        self.process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        with self.messages as messages:
            messages.seek(0)
            lines = messages.read().decode(errors="replace").splitlines()
        self.process = self.messages = None
        self.warnings += [line for line in _marked("warning: ", lines) if line not in self.warnings]
        return _marked("bench: error: ", lines)


def _marked(mark: str, lines: list[str]) -> list[str]:
    return [line.removeprefix(mark) for line in lines if line.startswith(mark)]
