"""Locks between processes: one works on a file or folder, the others wait for it or do something else meanwhile."""

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.text import printable

__all__ = ["alone", "attempt", "hold", "holder", "say"]

# seconds between two looks at a lock that another process has
_PATIENCE = 0.2
# what a file system says that has no locks, such as some that are shared over a network
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
# folders of which that was said
_without_locks: set[Path] = set()


def say(line: str) -> None:
    """Print a line for the user where no display is at hand."""
    print(f"bench: {printable(line)}", file=sys.stderr, flush=True)


@contextmanager
def hold(path: Path, doing: str, notice: Callable[[str], None] = say) -> Iterator[bool]:
    """Keep other processes out while `path` is worked on; yield whether another one had to be waited for.

    The lock is a file beside the path, `.NAME.lock`, which is removed afterwards. The system drops it with the process
    that holds it, however that ends, so that a file that a killed one left blocks nobody. On a file system without
    locks nothing is held, and `notice` is told so. A lock can't be held twice, not even by one process.

    Args:
        path: A file or folder, which need not exist; the folder above it has to.
        doing: What others are told while they wait: "being packed".
        notice: Takes the line that says who has it.
    """
    waited = False
    while True:
        with attempt(path, notice) as is_held:
            if is_held:
                yield waited
                return
        if not waited:
            notice(f"{path} is {doing} by {holder(path)}: waiting for it")
            waited = True
        time.sleep(_PATIENCE)


@contextmanager
def attempt(path: Path, notice: Callable[[str], None] = say) -> Iterator[bool]:
    """Hold the lock of `path` as `hold` does, if no other process has it; yield whether that is so."""
    file = _file(path)
    try:
        lock = _lock(file)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if path.parent not in _without_locks:
            notice(f"{path.parent}: this file system has no locks: work on it with one process at a time")
        _without_locks.add(path.parent)
        yield True
        return
    if lock is None:
        yield False
        return
    try:
        yield True
    finally:
        # removed first: who opens it from now on makes another, and who has opened it sees that it is gone
        file.unlink(missing_ok=True)
        os.close(lock)


@contextmanager
def alone(temporary: Path) -> Iterator[None]:
    """Create a file that is to be renamed when it is complete; another process that writes it waits until it has been.

    The lock is on the file itself, and goes with its name: who has waited creates it anew. On a file system without
    locks nobody waits.
    """
    opened = None
    try:
        opened = _opened(temporary, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        if opened is not None:
            os.close(opened)


def holder(path: Path) -> str:
    """Return who holds the lock of `path`, for people: process 123 on a machine."""
    try:
        return _file(path).read_text("utf-8").strip() or "another process"
    # it may have ended just now
    except (OSError, UnicodeDecodeError):
        return "another process"


def _file(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _lock(file: Path) -> int | None:
    """Return a descriptor that holds the lock, or None if another process does."""
    try:
        opened = _opened(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    try:
        os.ftruncate(opened, 0)
        os.pwrite(opened, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except BaseException:
        os.close(opened)
        raise
    return opened


def _opened(file: Path, lock: int) -> int:
    """Return a descriptor of the file that has this name, made where there is none, locked as flock(2) is told."""
    while True:
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(opened, lock)
        except BaseException:
            os.close(opened)
            raise
        # its last holder may have removed or renamed it between these two
        if _is(opened, file):
            return opened
        os.close(opened)


def _is(opened: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), os.stat(file))
    except FileNotFoundError:
        return False
