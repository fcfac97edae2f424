"""Processes of `bench` under faults: killed at a chosen change, on a full or failing disk, with few file handles.

Each is a real process, forked from one that has imported everything, so that it starts in milliseconds. Before its
calls on files stands faults.c, which counts them and lets one fail. As a program, this file is the process that forks.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or minus the signal; what it printed; how long it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def error(self) -> str:
        """The last line, where there is nothing else that a user must not see: a traceback fails the test."""
        assert "Traceback (most recent call last)" not in self.out + self.err, self.err
        return self.err.splitlines()[-1] if self.err else ""


@dataclass(frozen=True)
class Fault:
    """A fault of the disk below a folder, as faults.c has them."""

    under: Path
    do: str = "count"
    at: int = 0

    def environment(self, counter: Path) -> dict[str, str]:
        counter.write_bytes(bytes(16))
        at = {"FAULT_DO": self.do, "FAULT_AT": str(self.at)}
        return {"FAULT_UNDER": str(self.under), "FAULT_COUNTER": str(counter), **at}


class Started:
    """A process that may still run."""

    def __init__(self, processes: "Processes", pid: int, out: Path, err: Path) -> None:
        self.processes, self.pid, self.out, self.err = processes, pid, out, err
        self.started = time.monotonic()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = 120) -> Ended:
        """Wait for its end. A process that takes longer hangs: it is killed, and the test fails."""
        code = self.processes.ask({"wait": self.pid, "seconds": seconds})["code"]
        assert code is not None, f"hangs; it said: {self.err.read_text(errors='replace')}"
        out, err = (path.read_text(errors="replace") for path in (self.out, self.err))
        return Ended(code, out, err, time.monotonic() - self.started)


class Processes:
    """Starts processes of `bench` in `folder`, where their output and the counters of faults lie."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder, self.count = folder, 0
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
            cwd=folder,
        )
        try:
            assert self.answer() == {"ready": True}
        except BaseException:
            self.close()
            raise

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self.server.stdin
        self.server.stdin.write(json.dumps(request).encode() + b"\n")
        self.server.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.server.stdout
        line = self.server.stdout.readline()
        assert line, "the process that forks has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def start(
        self,
        *arguments: object,
        code: str = "",
        fault: Fault | None = None,
        limits: Mapping[str, int] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Started:
        """Start `bench ARGUMENTS`.

        Args:
            code: Python that is run before it; without arguments, instead of it.
            fault: of the disk.
            limits: by the names that the module resource has for them: {"NOFILE": 14}.
            env: variables of the environment beside those of this process.
        """
        self.count += 1
        out, err, self.counter = (self.folder / f"{self.count}.{suffix}" for suffix in ("out", "err", "counter"))
        faults = fault.environment(self.counter) if fault else {}
        request = {
            "arguments": [str(argument) for argument in arguments],
            "code": code,
            "limits": dict(limits or {}),
            "env": {**os.environ, **faults, **(env or {})},
            "out": str(out),
            "err": str(err),
        }
        return Started(self, self.ask(request)["pid"], out, err)

    def run(self, *arguments: object, **options: Any) -> Ended:
        """Start one and wait for its end."""
        return self.start(*arguments, **options).wait()

    def changes(self) -> int:
        """Return how many changes the last process with a fault has made, of files below its folder."""
        return int(struct.unpack("2q", self.counter.read_bytes())[0])

    def reads(self) -> int:
        """Return how often the last process with a fault has read from them."""
        return int(struct.unpack("2q", self.counter.read_bytes())[1])

    def close(self) -> None:
        assert self.server.stdin
        assert self.server.stdout
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()


# --- the process that forks


def _serve() -> dict[str, Any] | None:
    """Answer requests, a line each; return the request in the process that is forked for it, None at the end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    say({"ready": True})
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        if "wait" in request:
            say({"code": _wait(request["wait"], request["seconds"])})
            continue
        pid = os.fork()
        if not pid:
            answers.close()
            return request
        say({"pid": pid})
    return None


def _wait(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _become(request: Mapping[str, Any]) -> None:
    """Run the request to its end in this process, as a process of its own would."""
    from bench import cli
    from bench.searching import study

    for file, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT, 0o644), file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(request["env"])
    # of this process, by which a search knows the trials of those before it
    study._STARTED = datetime.now()
    if request["code"]:
        exec(request["code"], {"__name__": "code"})
    for name, limit in request["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    if request["arguments"]:
        sys.argv = ["bench", *request["arguments"]]
        cli.main()


def _import_everything() -> None:
    import bench

    for module in pkgutil.walk_packages(bench.__path__, "bench."):
        # MLflow alone takes as long as all else
        if not module.name.startswith(("bench.__main__", "bench.tracking")):
            importlib.import_module(module.name)
    for name in ("architectures", "optuna", "pyarrow.parquet", "pandas", "matplotlib.backends.backend_pdf"):
        importlib.import_module(name)


def _end(request: Mapping[str, Any]) -> None:
    """Run the request and end as Python does, but for taking apart what was imported, which takes seconds."""
    code: object = 0
    try:
        _become(request)
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _import_everything()
    gc.freeze()
    if asked := _serve():
        _end(asked)
