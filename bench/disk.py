"""Room on the disk, asked for before long work starts."""

import shutil
from pathlib import Path

from bench.errors import UserError


def require_space(path: Path, needed: float) -> None:
    """Raises UserError if the disk that `path` is, or will be, on has fewer than `needed` bytes free."""
    parent = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise UserError(f"{path}: needs {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free")
