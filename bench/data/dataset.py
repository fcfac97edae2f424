"""What a data set is, whichever reader made it: clips of recordings, their labels and splits."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal, Protocol

CLASSES_FILE = Path(__file__).parent / "fsd50k_classes.csv"


SPLITS = ("train", "val", "eval")


class AudioError(Exception):
    """A recording that cannot be used; the message is the cause."""


class Stat(Protocol):
    """Of what os.stat tells: what must be unchanged for a recording to be the same."""

    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...


class Recording(Protocol):
    """A file of sound: a Path, or a member of an archive. Where there is none, these raise FileNotFoundError."""

    def stat(self) -> Stat: ...
    def open(self, mode: Literal["rb"]) -> IO[bytes]: ...
    def read_bytes(self) -> bytes: ...


class AudioFolder(Protocol):
    """A folder of recordings: a Path, or one in an archive."""

    @property
    def name(self) -> str: ...
    def is_dir(self) -> bool: ...
    def __truediv__(self, name: str) -> Recording: ...


@dataclass(frozen=True)
class FSDClass:
    """A class of FSD50K's vocabulary; its ancestors are in the vocabulary, too."""

    index: int
    label: str
    mid: str
    leaf: bool
    ancestors: tuple[str, ...]


@dataclass(frozen=True)
class Clip:
    """A recording as the CSVs list it; `labels` are indices into the data set's classes."""

    name: str
    split: str
    labels: tuple[int, ...]
    recording: Recording
    group: str | None  # the uploader, where the metadata tells

    @property
    def path(self) -> str:
        """Of the recording, in the data set's folder."""
        return f"{audio_folder('eval' if self.split == 'eval' else 'dev')}/{self.name}.wav"


def audio_folder(subset: str) -> str:
    """The name of the folder that holds the recordings of dev or of eval."""
    return f"FSD50K.{subset}_audio"


@dataclass(frozen=True)
class Dataset:
    folder: Path
    labels: tuple[str, ...]  # class names, in the order of vocabulary.csv
    clips: tuple[Clip, ...]
    problems: tuple[str, ...]  # labels outside the vocabulary

    @property
    def leaf(self) -> list[bool]:
        """Whether each class is a leaf of FSD50K's hierarchy; classes that FSD50K lacks count as leaves."""
        known = {c.label: c.leaf for c in load_classes()}
        return [known.get(label, True) for label in self.labels]


@dataclass(frozen=True)
class AudioInfo:
    frames: int
    sample_rate: int

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


@cache
def load_classes() -> tuple[FSDClass, ...]:
    """The 200 classes of FSD50K."""
    with CLASSES_FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return tuple(
            FSDClass(
                int(row["index"]),
                row["label"],
                row["mid"],
                row["leaf"] == "1",
                tuple(filter(None, row["ancestors"].split(","))),
            )
            for row in rows
        )
