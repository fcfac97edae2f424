"""What a data set is, whichever reader made it: clips with their recordings, labels and splits."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, Protocol

from bench.errors import UserError

__all__ = ["SPLITS", "AudioError", "AudioFolder", "AudioInfo", "Clip", "Dataset", "Progress", "Recording"]

# Train on the first, select checkpoints and hyperparameters on the second, report the third.
SPLITS = ("train", "val", "eval")
# Called with the work done and the work in all, in the unit that the function names.
Progress = Callable[[float, float], None]


class AudioError(Exception):
    """A recording that cannot be used; the message is the cause."""


# Protocols, so that a Path is a recording as it is, and a reader of archives needs no class of this module.
class Recording(Protocol):
    """A sound file: a Path, or a member of an archive. Its methods raise FileNotFoundError if it does not exist."""

    # of a file its own, of a member of an archive its path there
    @property
    def name(self) -> str: ...
    # it counts as the same while st_size and st_mtime_ns are
    def stat(self) -> os.stat_result: ...
    def open(self, mode: Literal["rb"]) -> IO[bytes]: ...
    def read_bytes(self) -> bytes: ...


class AudioFolder(Protocol):
    """A folder of recordings: a Path, or a folder in an archive."""

    @property
    def name(self) -> str: ...
    def is_dir(self) -> bool: ...
    def iterdir(self) -> Iterable[Recording]: ...
    def __truediv__(self, name: str) -> Recording: ...


# Small, and the recording made only when it is asked for: a table may list a million clips of which few are there.
@dataclass(frozen=True, slots=True)
class Clip:
    """A recording as the data set's tables list it; clips of one group are not independent of each other."""

    name: str  # unique in its data set
    split: str
    labels: tuple[int, ...]  # ascending indices into the data set's classes; none: a negative of every class
    folder: AudioFolder
    file: str | None  # the recording's name in the folder; None if there was none when the folder was listed
    group: str | None  # who uploaded it, if the metadata says

    @property
    def key(self) -> str:
        return f"{self.split}/{self.name}"

    @property
    def is_missing(self) -> bool:
        return self.file is None

    @property
    def file_name(self) -> str:
        return self.file or f"{self.name}.wav"

    @property
    def recording(self) -> Recording:
        return self.folder / self.file_name


@dataclass(frozen=True)
class Dataset:
    """A data set as its tables list it; no recording has been opened."""

    folder: Path
    labels: tuple[str, ...]  # class names, in the order of the targets' columns
    leaf: tuple[bool, ...]  # whether each class is a leaf of the hierarchy
    clips: tuple[Clip, ...]
    problems: tuple[str, ...] = ()  # a line for each label that cannot be used: the first ones
    problem_count: int = 0  # of all

    def refuse_problems(self) -> None:
        """Raise UserError if any label cannot be used."""
        if self.problem_count:
            more = f" (and {self.problem_count - 1} more)" if self.problem_count > 1 else ""
            raise UserError(self.problems[0] + more)


@dataclass(frozen=True)
class AudioInfo:
    """The length in frames (samples of one channel) and the sample rate in Hz of a recording.

    `peak` is its largest magnitude, full scale being 1, where it had to be decoded for its length.
    """

    frames: int
    sample_rate: int
    peak: float | None = field(default=None, compare=False)

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate
