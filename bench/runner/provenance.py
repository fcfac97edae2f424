"""Where a number comes from: code, command, versions, machine."""

import hashlib
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
# what training and evaluation are made of; a change here makes runs incomparable, a change elsewhere does not
REFEREE = (
    "config.py",
    "data/pack.py",
    "data/chunks.py",
    "augment.py",
    "replay.py",
    "stack.py",
    "train.py",
    "evaluate.py",
    "metrics.py",
    "run.py",
)
PACKAGES = ("torch", "torchaudio", "timm", "numpy", "soxr", "soundfile")


def provenance(architecture_module: str, device: torch.device) -> dict[str, Any]:
    """A record for run.json. `architecture_module` is the contestant's module."""
    return {
        **code(architecture_module),
        "command": _without_passwords(shlex.join(["bench", *sys.argv[1:]])),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


@cache
def code(architecture_module: str) -> dict[str, Any]:
    """Commit and digests of the source.

    Cached, and called before anything trains: it should tell of the code that was loaded, not of what the files have
    become when a long run ends.
    """
    return {
        "commit": _git("rev-parse", "HEAD"),
        # of the code alone: results that a run writes change no number
        "dirty": bool(_git("status", "--porcelain", "--", "architectures", "bench")),
        "source": {
            "referee": _digest(ROOT / "bench" / name for name in REFEREE),
            "contestant": _digest([_file_of("architectures.layers"), _file_of(architecture_module)]),
        },
    }


def _without_passwords(command: str) -> str:
    """A database's URL may hold one, and results are there to be shown."""
    return re.sub(r"(://[^:@/\s]*):[^@/\s]*@", r"\1:***@", command)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu_name()}, {threads} thread{'s' * (threads > 1)}"


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _file_of(module: str) -> Path:
    file = sys.modules[module].__file__
    assert file is not None
    return Path(file)


def _digest(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()[:16]
