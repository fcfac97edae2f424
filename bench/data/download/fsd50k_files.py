"""The files that FSD50K comes as, and the archives that they are pieces of: fsd50k_files.csv."""

import csv
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

FILES = Path(__file__).parent / "fsd50k_files.csv"
# the record of FSD50K v1.0; NAME stands for a file's name
ZENODO = "https://zenodo.org/records/4060432/files/NAME?download=1"


@dataclass(frozen=True)
class File:
    name: str
    size: int  # bytes
    md5: str


@dataclass(frozen=True)
class Archive:
    """A zip archive of one or more pieces; what it holds lies in a folder of its name."""

    name: str
    files: tuple[File, ...]
    unpacked: int  # bytes that it holds, about

    @property
    def is_audio(self) -> bool:
        return self.name.endswith("_audio")


@cache
def official_archives() -> tuple[Archive, ...]:
    return read_archives(FILES)


def read_archives(path: Path) -> tuple[Archive, ...]:
    """A table of files; those that differ in nothing but their suffix are the pieces of an archive."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    archives = []
    for name, pieces in groupby(rows, key=lambda row: row["file"].rpartition(".")[0]):
        group = list(pieces)
        files = tuple(File(row["file"], int(row["bytes"]), row["md5"]) for row in group)
        archives.append(Archive(name, files, sum(int(row["unpacked"]) for row in group)))
    return tuple(archives)


def url_of(source: str, name: str) -> str:
    """A file's address: `source` with NAME replaced, or else as the folder that the file is in."""
    return source.replace("NAME", name) if "NAME" in source else f"{source.rstrip('/')}/{name}"
