"""The disk: check that there is space before long work starts, and write files that are complete or not there."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import UserError

__all__ = ["explain_full_disk", "on_one_disk", "partial_path", "require_space", "space_taken", "write_json"]


def require_space(path: Path, needed: float) -> None:
    """Raise UserError if fewer than `needed` bytes are free for `path`, which need not exist yet."""
    free = shutil.disk_usage(_existing(path)).free
    if free < needed:
        raise UserError(f"{path}: needs {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free")


def on_one_disk(first: Path, second: Path) -> bool:
    """Return whether two paths are, or will be, on the same disk."""
    return _existing(first).stat().st_dev == _existing(second).stat().st_dev


def space_taken(path: Path) -> int:
    """Return the bytes that a folder's files take on the disk, 0 if there is no such folder."""
    stats = [file.stat() for file in path.rglob("*") if file.is_file()]
    # Files are created at their full size and filled later: what was never written is a hole that takes no blocks
    # (of 512 bytes, whatever the file system's block size). A file's last block counts only as far as it is used.
    return sum(min(stat.st_size, 512 * stat.st_blocks) for stat in stats)


def partial_path(path: Path) -> Path:
    """Return the name that a file or folder has until it is complete."""
    return path.with_name(f"{path.name}.partial")


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Raise UserError if the disk fills up while `path` is written; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"{path}: the disk is full; free some space and run the same command again") from None
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically: whenever the process is killed, the old or the new file is there, complete."""
    temporary = partial_path(path)
    temporary.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    os.replace(temporary, path)


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists: a disk can be asked only about what is there."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
