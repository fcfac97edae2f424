"""The disk: room asked for before long work starts, and files that are whole or not there."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import UserError


def require_space(path: Path, needed: float) -> None:
    """Raises UserError if the disk that `path` is, or will be, on has fewer than `needed` bytes free."""
    free = shutil.disk_usage(_parent(path)).free
    if free < needed:
        raise UserError(f"{path}: needs {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free")


def on_one_disk(first: Path, second: Path) -> bool:
    """Whether two paths are, or will be, on the same disk."""
    return _parent(first).stat().st_dev == _parent(second).stat().st_dev


def space_taken(path: Path) -> int:
    """Bytes that the files of a folder take, 0 if it is not there; what was never written of them does not count."""
    stats = [file.stat() for file in path.rglob("*") if file.is_file()]
    return sum(min(stat.st_size, 512 * stat.st_blocks) for stat in stats)


def partial_path(path: Path) -> Path:
    """What a file or folder is called while it is not whole."""
    return path.with_name(f"{path.name}.partial")


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Tells of a disk that fills up while `path` is written as a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"{path}: the disk is full; free some space and run the same command again") from None
        raise


def write_json(path: Path, value: Any) -> None:
    """Atomically: the file is whole or not there."""
    temporary = path.with_suffix(".json.partial")
    temporary.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    os.replace(temporary, path)


def _parent(path: Path) -> Path:
    """The nearest folder above that is there already, or the path itself."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
