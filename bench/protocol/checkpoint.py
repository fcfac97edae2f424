"""A run's unfinished training on disk: whole or not there, and resumed by the code that left it alone."""

import errno
import io
import itertools
import os
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch

from bench.disk import machine_fault, whole_file
from bench.errors import UserError, one_line

__all__ = ["Checkpoint", "CheckpointDamaged", "CheckpointOfOtherCode"]

FORMAT = 2


class CheckpointDamaged(Exception):
    """A file that can't be read; the message is why."""


class CheckpointOfOtherCode(Exception):
    """Training that other code began, which would not end in the numbers of either."""

    def __init__(self, step: int, written_in: int | None) -> None:
        super().__init__(f"a checkpoint of other code, at step {step}")
        # None: before formats had numbers
        self.step, self.format = step, written_in


class Checkpoint:
    """The checkpoint of one run, by its hash, and the digest of the code that may resume it."""

    def __init__(self, path: Path, code: str, run: str = "") -> None:
        self.path, self.code, self.run = path, code, run

    def load(self, *, mmap: bool = False) -> dict[str, Any] | None:
        """Return what `save` was given, None where there is nothing; raise one of the two exceptions above.

        With `mmap`, tensors are read when they are used, which is at once for who only asks for the step. Raises
        UserError if the file may not be read, or the machine gives out: it may be as good as new.
        """
        if not os.path.lexists(self.path):
            return None
        if not self.path.is_file():
            raise CheckpointDamaged("not a file")
        try:
            _check_archive(self.path, checksums=not mmap)
            values: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mmap)
            state = values["state"]
            step = state["step"] if "step" in state else state["update"]
            if type(step) is not int or step < 0:
                raise CheckpointDamaged(f"at step {step}")
        except Exception as error:  # torch raises nearly anything for a damaged file
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
                raise UserError(f"{self.path}: {error.strerror}; make it readable, or move it away") from None
            # not of a bad sector: what can't be read is kept, and the run need not wait for it
            if (fault := machine_fault(error, self.path)) and getattr(error, "errno", None) != errno.EIO:
                raise fault from None
            raise CheckpointDamaged(one_line(error)[:200] or type(error).__name__) from None
        if values.get("format") != FORMAT or values.get("code") != self.code:
            raise CheckpointOfOtherCode(step, values.get("format"))
        if values.get("run", "") != self.run:
            raise CheckpointDamaged(f"of another run, {values['run']}" if "run" in values else "of an unknown run")
        return values

    def step(self) -> int:
        """Return how many steps are done: 0 where nothing is, or nothing that could be resumed."""
        try:
            values = self.load(mmap=True)
        except (CheckpointDamaged, CheckpointOfOtherCode):
            return 0
        return int(values["state"]["step"]) if values else 0

    def save(self, values: dict[str, Any]) -> None:
        """Replace the file: a killed process leaves the last checkpoint or this one, never half of one."""
        buffer = io.BytesIO()
        # torch.save to a file would report a full disk as a failure of its own
        torch.save({"format": FORMAT, "code": self.code, "run": self.run, **values}, buffer)
        with whole_file(self.path) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def set_aside(self) -> Path:
        """Rename the file, so that training begins anew and the file is still there; return its new path."""
        names = itertools.chain(["checkpoint.old.pt"], (f"checkpoint.old-{n}.pt" for n in itertools.count(2)))
        kept = next(path for path in map(self.path.with_name, names) if not os.path.lexists(path))
        os.replace(self.path, kept)
        return kept


def _check_archive(path: Path, *, checksums: bool) -> None:
    """Raise CheckpointDamaged for what torch would read without a look at it: bad checksums, and what inflates."""
    with ZipFile(path) as file:
        if any(member.compress_type != ZIP_STORED for member in file.infolist()):
            raise CheckpointDamaged("compressed, as none is written")
        if checksums and (broken := file.testzip()):
            raise CheckpointDamaged(f"bad checksum of {broken}")
