"""Read the tables of a data set, exactly or not at all: what could be meant in two ways is an error with its line.

A table is read line by line, so that one of millions of lines takes no memory but what is kept of it.
"""

import csv
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.data.dataset import AudioFolder
from bench.errors import UserError, one_line

__all__ = ["RecordingFolder", "clip_name", "read_rows", "read_table", "require_file", "shown", "unfit"]

# What no name or label may hold: control characters, Unicode's line ends, byte order marks, halves of surrogate pairs.
# They can't be seen, so that names which look alike would differ, and some end a line of a file or a text in C.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_SUFFIX = ".wav"
# Bytes of a name, and of it together with the folders before it, as most file systems have it.
_LONGEST, _LONGEST_PATH = 255, 1000
# Characters of a field in a message.
_SHOWN = 80


def require_file(path: Path, remedy: str) -> None:
    """Raise UserError if there is no plain file: to open a pipe would wait for its other end for ever."""
    if not path.exists():
        raise UserError(f"{path}: no such file; {remedy}")
    if not path.is_file():
        raise UserError(f"{path}: not a plain file; {remedy}")


def read_rows(path: Path, remedy: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file with their line numbers, from 1; blank lines are skipped, and fields stripped.

    Raises UserError if there is no such file, or it is not UTF-8 or no CSV.
    """
    require_file(path, remedy)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        # strict: a quote in the wrong place would hide the fields behind it
        reader = csv.reader(_checked(file, path), strict=True, skipinitialspace=True)
        line = 1
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise UserError(f"{path}, line {line}: not a readable CSV ({one_line(error)})") from None
            if row is None:
                return
            if any(row := [field.strip() for field in row]):
                yield line, row
            line = reader.line_num + 1


def _checked(lines: Iterator[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.isascii() and (found := re.search("[\udc80-\udcff]", line)):
            byte = ord(found[0]) - 0xDC00
            raise UserError(f"{path}, line {number}: not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8")
        if "\0" in line:
            raise UserError(f"{path}, line {number}: holds a NUL byte; save the file as UTF-8, or fetch it again")
        yield line


def read_table(
    path: Path, columns: Sequence[str], optional: Sequence[str] = (), *, remedy: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and values of these columns, then of the optional ones, '' where a table has none of them.

    Other columns are ignored. Raises UserError as `read_rows` does, and if a column is missing or there twice, or a
    line has more or fewer fields than the header: labels that are not quoted would be lost in the next column.
    """
    rows = read_rows(path, remedy)
    _, header = next(rows, (1, []))
    if not header:
        raise UserError(f"{path}: the file is empty")
    for name in filter(None, header):
        if header.count(name) > 1:
            raise UserError(f"{path}, line 1: two columns are called {shown(name)}; remove or rename one")
    for name in columns:
        if name not in header:
            expected = f"the header should be {','.join(columns)}, is {shown(','.join(header))}"
            raise UserError(f"{path}, line 1: no column {name!r}; {expected}")
    # an optional column that is missing is one more at the end
    places = [header.index(name) if name in header else len(header) for name in (*columns, *optional)]
    line = 0
    for line, row in rows:
        if len(row) != len(header):
            hint = (
                'several labels of a clip belong into quotes ("Bark,Dog")'
                if len(row) > len(header)
                else "none may miss"
            )
            raise UserError(f"{path}, line {line}: {len(row)} fields, but the header has {len(header)}; {hint}")
        row.append("")
        yield line, [row[place] for place in places]
    if not line:
        raise UserError(f"{path}: lists nothing")


def shown(text: str) -> str:
    """Return text of a table in quotes, with visible escapes, and no longer than a line."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def unfit(text: str) -> str:
    """Return what is wrong with a name or label, or '' if nothing is."""
    if found := _UNFIT.search(text):
        return f"holds the character U+{ord(found[0]):04X}, which can't be seen; remove it"
    return ""


def clip_name(text: str) -> str:
    """Return the name of a clip, of what a table calls it: without ./ and .wav, so that a recording has one name.

    Raises ValueError with the cause if it is no name of a file in the folder of recordings, or below it.
    """
    # most are
    if text.isalnum() and len(text) < 50:
        return text
    if cause := unfit(text):
        raise ValueError(cause)
    if text.startswith("/") or "\\" in text or text[1:2] == ":":
        raise ValueError("should be a name in the folder of recordings, with / between folders")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("leads out of the folder of recordings")
    name = "/".join(parts)
    if name.lower().endswith(_SUFFIX):
        name = name[: -len(_SUFFIX)]
    if not name or name.endswith("/"):
        raise ValueError("no name of a recording")
    if len(text) > _LONGEST_PATH or max(len(part.encode()) for part in parts) > _LONGEST:
        raise ValueError(f"longer than the {_LONGEST} bytes of a file's name")
    return name


class RecordingFolder:
    """Finds the recordings of a folder by their clips' names. Each folder is listed once: a million stats take minutes.

    Attributes:
        has_links: whether a file or folder that was looked at is a link, so that two names may mean one file.
    """

    def __init__(self, folder: AudioFolder) -> None:
        self.folder = folder
        self.has_links = False
        # by folder below it
        self._listed: dict[str, _Listing] = {}
        if not isinstance(folder, Path):
            members = (member.name.removeprefix(f"{folder.name}/") for member in folder.iterdir())
            by_folder = sorted((name.rpartition("/")[0], name) for name in members)
            for below, names in itertools.groupby(by_folder, key=lambda pair: pair[0]):
                self._listed[below] = _Listing(name for _, name in names)

    def find(self, name: str) -> str | None:
        """Return the file of a clip: NAME.wav, or else NAME.WAV. Raises ValueError if several could be meant."""
        listing = self._list(name.rpartition("/")[0])
        if (file := f"{name}{_SUFFIX}") in listing.files:
            return file
        found = listing.others.get(name, [])
        if len(found) > 1:
            raise ValueError(f"could be {' or '.join(sorted(found))}; rename one")
        return found[0] if found else None

    def real_path(self, file: str) -> str:
        """Return where a file is, behind all links: two that are the same are one recording."""
        return os.path.realpath(f"{self.folder}/{file}")

    def _list(self, below: str) -> "_Listing":
        if below in self._listed:
            return self._listed[below]
        # a table may name a million folders that are not there: none of them is asked for
        is_there = not below or below in self._list(below.rpartition("/")[0]).files
        if not is_there or not isinstance(self.folder, Path) or not (folder := self.folder / below).is_dir():
            return _Listing(())
        if below and os.path.realpath(folder) != os.path.join(os.path.realpath(self.folder), below):
            self.has_links = True
        prefix = f"{below}/" if below else ""
        with os.scandir(folder) as entries:
            found = [(f"{prefix}{entry.name}", entry.is_symlink()) for entry in entries]
        self.has_links |= any(is_link for _, is_link in found)
        self._listed[below] = _Listing(name for name, _ in found)
        return self._listed[below]


class _Listing:
    """The files of a folder, and those whose suffix is written in another way, by what is before it."""

    def __init__(self, files: Iterable[str]) -> None:
        self.files = set(files)
        self.others: dict[str, list[str]] = {}
        for file in self.files:
            if not file.endswith(_SUFFIX) and file.lower().endswith(_SUFFIX):
                self.others.setdefault(file[: -len(_SUFFIX)], []).append(file)
