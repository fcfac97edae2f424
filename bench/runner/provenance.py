"""Where a number comes from: code, command, versions, machine."""

import importlib
import inspect
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from architectures import get_architecture
from bench.protocol.spec import RunSpec
from bench.protocol.task import get_task
from bench.runner.source import architecture_files, protocol_files, source_digest
from bench.schema import digest
from bench.store.record import Provenance
from bench.text import hide_secrets

__all__ = ["as_recorded", "code_digest", "code_of", "command", "device_name", "provenance", "python_call"]

# what was called, where that was in Python: the command line is then a notebook's, or a script's
_call: ContextVar[str] = ContextVar("python_call", default="")

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("torch", "torchaudio", "timm", "numpy", "soxr", "soundfile")


@contextmanager
def python_call(text: str) -> Iterator[None]:
    """Record what is run inside as made by this call."""
    token = _call.set(text)
    try:
        yield
    finally:
        _call.reset(token)


def provenance(spec: RunSpec, device: torch.device) -> Provenance:
    """Return where a run's numbers come from, for its run.json."""
    return Provenance(
        **code_of(spec),
        command=command(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        device=device_name(device),
        threads=torch.get_num_threads(),
    )


def command() -> str:
    """Return what was called to have this process run something: the command line, or a call in Python."""
    program = Path(sys.argv[0])
    if program.stem == "bench" or program.parts[-2:] == ("bench", "__main__.py"):
        return " ".join(["bench", *map(as_recorded, _of_all_runs(sys.argv[1:]))])
    if _call.get():
        return _call.get()
    # a module is called by its name, wherever it lies
    started = getattr(sys.modules.get("__main__"), "__spec__", None)
    call = ["-m", started.name.removesuffix(".__main__"), *sys.argv[1:]] if started else sys.argv
    return " ".join(["python", *map(as_recorded, call)])


def _of_all_runs(arguments: Sequence[str]) -> Iterator[str]:
    """Yield a command line without what says which part of the work was done by this process."""
    words = iter(arguments)
    for word in words:
        if word == "--part":
            next(words, None)
        elif word != "--no-report" and not word.startswith("--part="):
            yield word


def as_recorded(argument: str, quote: Callable[[str], str] = shlex.quote) -> str:
    """Return an argument as it may be shown, as results are there to be: a URL without its passwords."""
    # an argument is a URL to its end, whatever is in it; in a text a space would end it
    return hide_secrets(quote(re.sub(r"\s", "%20", argument) if "://" in argument else argument))


def code_of(spec: RunSpec) -> dict[str, Any]:
    """Return git's commit, whether the code has been changed since, and digests of what decides a run's numbers."""
    task, architecture = get_task(spec.task), get_architecture(spec.architecture)
    task_files = tuple(_file_of(module) for module in (type(task).__module__, *task.modules))
    return _code(task_files, _file_of(architecture.model.__module__))


def _file_of(module: str) -> Path:
    return Path(inspect.getfile(sys.modules.get(module) or importlib.import_module(module)))


def code_digest(spec: RunSpec) -> str:
    """Return one digest of the code that decides a run's numbers."""
    return digest(code_of(spec)["source"])


# Called before anything trains: it should tell of the code that was loaded, not of what the files have become when a
# long run ends.
@cache
def _code(task_files: tuple[Path, ...], architecture_file: Path) -> dict[str, Any]:
    return {
        "commit": _git("rev-parse", "HEAD"),
        # of the code alone: results that a run writes change no number
        "dirty": bool(_git("status", "--porcelain", "--", "architectures", "bench")),
        "source": {
            "protocol": _protocol_digest(task_files),
            "architecture": source_digest(architecture_files(architecture_file)),
        },
    }


@cache
def _protocol_digest(task_files: tuple[Path, ...]) -> str:
    return source_digest(protocol_files(task_files))


def device_name(device: torch.device) -> str:
    """Return what a device is called, and for a processor how many threads are at work."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
