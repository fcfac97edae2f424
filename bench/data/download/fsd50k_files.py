"""The files that FSD50K is released as, and the archives that they are pieces of; the table is fsd50k_files.csv."""

import csv
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

__all__ = ["ZENODO", "Archive", "File", "official_archives", "read_archives", "url_of"]

# The record of FSD50K v1.0; NAME stands for a file's name.
ZENODO = "https://zenodo.org/records/4060432/files/NAME?download=1"


@dataclass(frozen=True)
class File:
    """A file to download; `size` in bytes, `md5` in hex, as the server's record lists it."""

    name: str
    size: int
    md5: str


@dataclass(frozen=True)
class Archive:
    """A zip archive of one or more pieces; what it holds, about `unpacked` bytes, lies in a folder of its name."""

    name: str
    files: tuple[File, ...]
    unpacked: int

    @property
    def is_audio(self) -> bool:
        return self.name.endswith("_audio")


def official_archives() -> tuple[Archive, ...]:
    """Return the archives of FSD50K, in the order in which they are fetched: the small ones first."""
    return read_archives(Path(__file__).with_suffix(".csv"))


def read_archives(path: Path) -> tuple[Archive, ...]:
    """Read a table of files; neighbours whose names differ only in their suffix are the pieces of an archive."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    archives = []
    for name, group in groupby(rows, key=lambda row: row["file"].rpartition(".")[0]):
        pieces = [(File(row["file"], int(row["bytes"]), row["md5"]), int(row["unpacked"])) for row in group]
        files, unpacked = zip(*pieces, strict=True)
        archives.append(Archive(name, files, sum(unpacked)))
    return tuple(archives)


def url_of(source: str, name: str) -> str:
    """Return a file's address: `source` with NAME replaced, or, without NAME, the file in the folder `source`."""
    return source.replace("NAME", name) if "NAME" in source else f"{source.rstrip('/')}/{name}"
