"""The disk: check that there is space before long work starts, and write files that are complete or not there."""

import errno
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.errors import MachineFault, UserError
from bench.locks import alone

__all__ = [
    "explain_full_disk", "machine_fault", "on_one_disk", "partial_path", "refuse_odd", "refuse_target", "require_space",
    "set_aside", "size_text", "space_taken", "sync_folder", "whole_file", "write_bytes", "write_json",
]  # fmt: skip

_AGAIN = "run the same command again"
# What the system says when the machine gives out, and what helps.
_FAULTS = {
    errno.ENOSPC: f"the disk is full; free some space and {_AGAIN}",
    errno.EDQUOT: f"the disk quota is used up; free some space and {_AGAIN}",
    errno.EFBIG: f"no file may grow that large here; raise the limit (ulimit -f), or take another disk, and {_AGAIN}",
    errno.EMFILE: f"too many open files in one process; raise the limit (ulimit -n 1024) and {_AGAIN}",
    errno.ENFILE: f"too many open files on this machine; close other programs and {_AGAIN}",
    errno.EROFS: "the disk is read-only; make it writable, or name a folder on another one",
    errno.EIO: f"the disk failed (input/output error); check it and {_AGAIN}",
}
# The same in the words of libraries that keep the number from us: torch's and numpy's writers, SQLite.
_IN_WORDS = {
    re.compile(r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+"): errno.ENOSPC,
    re.compile(r"\d+ requested and \d+ written|database or disk is full|No space left on device"): errno.ENOSPC,
    re.compile("disk I/O error"): errno.EIO,
}
# safetensors, as all of Rust, names the number in its text
_NUMBER_IN_WORDS = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")


def require_space(path: Path, needed: float) -> None:
    """Raise UserError if fewer than `needed` bytes are free for `path`, which need not exist yet."""
    free = shutil.disk_usage(_existing(path)).free
    if free < needed:
        raise UserError(f"{path}: needs {size_text(needed)}, the disk has {size_text(free)} free")


def size_text(size: float) -> str:
    """Return a number of bytes for people: 24.68 GB, but 0.35 MB rather than 0.00 GB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= 0.005 * unit:
            return f"{size / unit:.2f} {name}"
    return f"{size:.0f} bytes"


def on_one_disk(first: Path, second: Path) -> bool:
    """Return whether two paths are, or will be, on the same disk."""
    return _existing(first).stat().st_dev == _existing(second).stat().st_dev


def space_taken(path: Path) -> int:
    """Return the bytes that a folder's files take on the disk, 0 if there is no such folder."""
    found = [file.stat() for file in path.rglob("*") if file.is_file()]
    # Files are created at their full size and filled later: what was never written is a hole that takes no blocks
    # (of 512 bytes, whatever the file system's block size). A file's last block counts only as far as it is used.
    return sum(min(file.st_size, 512 * file.st_blocks) for file in found)


def partial_path(path: Path) -> Path:
    """Return the name that a file or folder has until it is complete."""
    return path.with_name(f"{path.name}.partial")


def machine_fault(error: BaseException, path: Path | None = None) -> MachineFault | None:
    """Return what to tell about an error that is the machine's, no matter which library raised it; None for others.

    `path` is what was being written or read, for errors that name no file.
    """
    if isinstance(error, UserError):
        return error if isinstance(error, MachineFault) else None
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    if number is None and (found := _NUMBER_IN_WORDS.search(str(error))):
        number = int(found[1] or found[2])
    if number is None:
        number = next((meant for words, meant in _IN_WORDS.items() if words.search(str(error))), None)
    if not number or not (cause := _FAULTS.get(number)):
        # libraries raise errors of their own, from the system's
        return machine_fault(error.__cause__, path) if error.__cause__ else None
    where = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else path or "writing"
    return MachineFault(f"{where}: {cause}")


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Raise MachineFault if the disk fills up, or fails otherwise, while `path` is written; others pass unchanged."""
    try:
        yield
    except Exception as error:
        if (fault := machine_fault(error, path)) and fault is not error:
            raise fault from None
        raise


def refuse_odd(path: Path, *, folder: bool = False) -> None:
    """Raise UserError if what is at `path` is no plain file (or no folder): a link would be written through."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_IFMT(mode) != (stat.S_IFDIR if folder else stat.S_IFREG):
        kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFREG: "a file"}
        kind = kinds.get(stat.S_IFMT(mode), "no plain file")
        raise UserError(f"{path}: is {kind}, where a {'folder' if folder else 'file'} is to be written; move it away")


def refuse_target(path: Path) -> None:
    """Raise UserError unless a file can take the name: to rename one to it would replace a pipe, or a device.

    A link to a file is replaced, and the file stays.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not path.parent.is_dir():
            raise UserError(f"{path}: {path.parent} is no folder; make it, or name another place") from None
        return
    # /dev/stdout is a link to a file wherever the output goes to one
    if not stat.S_ISREG(mode) or path.absolute().parent == Path("/dev"):
        kind = "a folder" if stat.S_ISDIR(mode) else "no plain file"
        raise UserError(f"{path}: is {kind}, where a file is to be written; name another place, or move it away")


def set_aside(path: Path, replacement: Path, notice: Callable[[str], None]) -> None:
    """Rename what is at `path`, if anything, to NAME.aside: it may be a user's own, and another file takes its name.

    Not where it is a beginning of the replacement, or all of it: then nothing is lost. `notice` takes a line about it.
    """
    if not os.path.lexists(path) or (path.is_file() and _begins(path, replacement)):
        return
    names = (path.with_name(f"{path.name}.aside{number}") for number in ("", *range(2, 1000)))
    aside = next(name for name in names if not os.path.lexists(name))
    path.rename(aside)
    notice(f"{path}: another file was here, and is kept as {aside.name}")


def _begins(path: Path, whole: Path) -> bool:
    with path.open("rb") as first, whole.open("rb") as second:
        while block := first.read(1 << 20):
            if second.read(len(block)) != block:
                return False
    return True


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the name to write a file under; whenever the process is killed, the old or the new file is there, complete.

    Of two processes that write one file at the same time the second waits, and its file stays. What failed leaves
    nothing behind, so that it does not fill a full disk. Raises MachineFault if the disk gives out, UserError if there
    is something else by that name.
    """
    refuse_target(path)
    temporary = partial_path(path)
    refuse_odd(temporary)
    with explain_full_disk(path), alone(temporary):
        try:
            yield temporary
            # else a machine that loses its power may have the new name on the disk before the content
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in a folder, so that no loss of power undoes what was renamed."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    What libraries make is made in memory first: one that is interrupted by a full disk tends to fail once more as it
    cleans up, and to hide the reason.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all. A number that is not finite, which JSON has no word for, is null."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False)
    with whole_file(path) as temporary:
        temporary.write_text(f"{text}\n", "utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists: a disk can be asked only about what is there."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
