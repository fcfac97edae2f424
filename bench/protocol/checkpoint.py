"""A run's unfinished training on disk: whole or not there, and resumed by the code that left it alone."""

import io
import os
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from bench.errors import one_line

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
    """The checkpoint of one run, and the digest of the code that may resume it."""

    def __init__(self, path: Path, code: str) -> None:
        self.path, self.code = path, code

    def load(self, *, mmap: bool = False) -> dict[str, Any] | None:
        """Return what `save` was given, None where there is nothing; raise one of the two exceptions above.

        With `mmap`, tensors are read when they are used, which is at once for who only asks for the step.
        """
        if not self.path.is_file():
            return None
        try:
            # torch reads tensors without a look at their checksums
            with ZipFile(self.path) as file:
                if not mmap and (broken := file.testzip()):
                    raise CheckpointDamaged(f"bad checksum of {broken}")
            values: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mmap)
            state = values["state"]
            step = int(state["step"] if "step" in state else state["update"])
        except Exception as error:  # torch raises nearly anything for a damaged file
            raise CheckpointDamaged(one_line(error)[:200] or type(error).__name__) from None
        if values.get("format") != FORMAT or values.get("code") != self.code:
            raise CheckpointOfOtherCode(step, values.get("format"))
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
        torch.save({"format": FORMAT, "code": self.code, **values}, buffer)
        temporary = self.path.with_suffix(".partial")
        temporary.write_bytes(buffer.getbuffer())
        os.replace(temporary, self.path)

    def set_aside(self) -> Path:
        """Rename the file, so that training begins anew and the file is still there; return its new path."""
        kept = self.path.with_name("checkpoint.old.pt")
        os.replace(self.path, kept)
        return kept
