"""Files in a pack that are made once, and that all runs on it share: arrays by name."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.disk import machine_fault, whole_file
from bench.errors import UserError, one_line
from bench.locks import hold

__all__ = ["Arrays", "damaged", "make_once", "read_arrays", "require_pack", "write_arrays"]

Arrays = Mapping[str, npt.NDArray[Any]]


def make_once(path: Path, make: Callable[[], None]) -> None:
    """Have `make` write a file, unless it is there; of several processes one does.

    Raises UserError where the pack's folder can't be written to.
    """
    # where nothing is to be written, nobody needs the right to
    if path.exists():
        return
    try:
        with hold(path, "being made"):
            if not path.exists():
                make()
    except OSError as error:
        fix = "it lies in the pack, so copy that to a place that you may write to"
        raise machine_fault(error, path) or UserError(f"{error.filename or path}: {error.strerror}; {fix}") from None


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays by name, whole or not at all."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, *, missing: str, again: str) -> dict[str, npt.NDArray[Any]]:
    """Return a file's arrays by name.

    Raises UserError if it is damaged, with the remedy `again`, or `missing`, with what to do about that.
    """
    try:
        # all of it at first: zipfile takes a disk that fails for damage to the archive
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing: {missing}") from None
    except OSError as error:
        raise machine_fault(error, path) or UserError(f"{path}: {error.strerror}") from None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)
    # zipfile and numpy raise nearly everything over bytes that are not theirs
    except Exception as error:
        raise damaged(path, error, again) from None


def damaged(path: Path, error: Exception, again: str) -> UserError:
    """Return the line about a file that holds what was never written to it."""
    return UserError(f"{path}: damaged ({one_line(error) or type(error).__name__}); {again}")


def require_pack(path: Path, fingerprint: str, expected: str, *, again: str) -> None:
    """Raise UserError if a file's fingerprint is another pack's."""
    if fingerprint != expected:
        which = f"with fingerprint {fingerprint[:16]}, not {expected[:16]}"
        raise UserError(f"{path}: codes of another pack, {which}; {again}")
