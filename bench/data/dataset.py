"""What a data set is, whichever reader made it: clips with their recordings, labels and splits."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

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

    # it counts as the same while st_size and st_mtime_ns are
    def stat(self) -> os.stat_result: ...
    def open(self, mode: Literal["rb"]) -> IO[bytes]: ...
    def read_bytes(self) -> bytes: ...


class AudioFolder(Protocol):
    """A folder of recordings: a Path, or a folder in an archive."""

    @property
    def name(self) -> str: ...
    def is_dir(self) -> bool: ...
    def __truediv__(self, name: str) -> Recording: ...


@dataclass(frozen=True)
class Clip:
    """A recording as the data set's tables list it; clips of one group are not independent of each other."""

    name: str  # unique in its split
    split: str
    labels: tuple[int, ...]  # ascending indices into the data set's classes
    recording: Recording
    group: str | None  # who uploaded it, if the metadata says

    @property
    def key(self) -> str:
        return f"{self.split}/{self.name}"


@dataclass(frozen=True)
class Dataset:
    """A data set as its tables list it; no recording has been opened."""

    folder: Path
    labels: tuple[str, ...]  # class names, in the order of the targets' columns
    leaf: tuple[bool, ...]  # whether each class is a leaf of the hierarchy
    clips: tuple[Clip, ...]
    problems: tuple[str, ...]  # a line for each label that cannot be used


@dataclass(frozen=True)
class AudioInfo:
    """The length in frames (samples of one channel) and the sample rate in Hz of a recording, from its header."""

    frames: int
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate
