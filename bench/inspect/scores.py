"""Every class's score in every chunk of many files, as a CSV file: what is done is kept, whatever comes after it."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pandas as pd

from bench.disk import explain_full_disk, partial_path, refuse_odd, refuse_target, whole_file
from bench.errors import UserError
from bench.locks import attempt, holder
from bench.reporting.tags import Tags
from bench.text import csv_cell, printable

__all__ = ["ScoreTable", "open_scores", "unfinished"]

_HEADER = b"file,second,tag,score\n"
_FOREIGN = "exists, and is not from `bench predict`; remove it or name another place"


@dataclass(frozen=True)
class _Block:
    """A line of the journal: a file that is done, as it was then, and the rows that it has in the table."""

    file: str
    size: int
    mtime_ns: int
    # of the rows, in bytes, and their SHA-256
    length: int
    sha256: str


@contextmanager
def open_scores(path: Path, notice: Callable[[str], None]) -> Iterator["ScoreTable"]:
    """Yield the table that is to be written to `path`; nobody else writes it meanwhile.

    Raises UserError if another process does, or if there is something that is no such table.
    """
    refuse_target(path)
    for each in (path, partial_path(path), _journal_of(path)):
        refuse_odd(each)
    if path.exists() and not _begins(path, _HEADER):
        raise UserError(f"{path}: {_FOREIGN}")
    with attempt(path, notice) as is_held:
        if not is_held:
            raise UserError(f"{path}: is being written by {holder(path)}; wait for its end, or name another file")
        with ScoreTable(path, notice) as table:
            yield table


def unfinished(path: Path) -> str:
    """Return where the rows lie that a command which was stopped has left, and of how many files; '' for none."""
    count = len(_read_journal(_journal_of(path))[1])
    return f"{partial_path(path)}: holds the scores of {count} file{'s' * (count != 1)}" if count else ""


class ScoreTable:
    """A CSV file, a row a class and chunk (`second` is where the chunk begins), that is whole or not there.

    Until it is whole, its rows lie in NAME.partial, and NAME.journal.partial says which files are done and what their
    rows are: half a file's rows, or damaged ones, are never taken for whole. The same model resumes such a table.
    """

    def __init__(self, path: Path, notice: Callable[[str], None]) -> None:
        self.path, self.partial, self.journal = path, partial_path(path), _journal_of(path)
        self.notice = notice
        self._done: dict[str, _Block] = {}
        self._rows: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._rows is None:
            return
        try:
            if error is None and self._done:
                with explain_full_disk(self.path):
                    self._rows.flush()
                    os.fsync(self._rows.fileno())
                    self.partial.replace(self.path)
        finally:
            # what did not go to a full disk does not go there now either
            with suppress(OSError):
                self._rows.close()
        # of a command that got nowhere nothing stays either
        if error is None or not self._done:
            self.partial.unlink(missing_ok=True)
            self.journal.unlink(missing_ok=True)

    def begin(self, model: str, name: str) -> None:
        """Begin the table, or resume what the same model has left of it.

        Raises UserError if another one left it: its rows would be lost.

        Args:
            model: A digest of all that decides the scores.
            name: The model's, for people.
        """
        header, blocks = _read_journal(self.journal)
        if blocks and header.get("model") != model:
            left = f"holds the scores of {len(blocks)} files by another model, {header.get('name')}"
            raise UserError(f"{self.partial}: {left}; move it away, or name another file")
        if not header and self.partial.exists() and not _begins(self.partial, _HEADER):
            raise UserError(f"{self.partial}: {_FOREIGN}")
        begun = self.partial.exists() and self.partial.stat().st_size > len(_HEADER)
        with explain_full_disk(self.path):
            end = self._keep(blocks)
            self._write_journal(model, name)
            self._rows = self.partial.open("r+b" if end else "wb")
            self._rows.truncate(end)
            self._rows.seek(end)
            if not end:
                self._rows.write(_HEADER)
                self._rows.flush()
        if how := self._how(len(blocks), begun=begun):
            self.notice(f"{self.path}: {how}")

    def _how(self, before: int, *, begun: bool) -> str:
        """Return how the table goes on, of which an earlier command has left `before` files, or only has begun it."""
        if before and len(self._done) == before:
            return f"resumes, {before} file{'s' * (before != 1)} done before"
        if before:
            return f"resumes, {len(self._done)} of {before} files done before: the others, or their rows, have changed"
        if begun:
            return f"begins anew, since {self.partial.name} has no file's scores whole"
        return "is there, and is replaced once all files are done" if self.path.exists() else ""

    def _keep(self, blocks: list[_Block]) -> int:
        """Take over the blocks up to the first whose file or rows have changed; return where their rows end."""
        if not blocks or not self.partial.is_file():
            return 0
        with self.partial.open("rb") as rows:
            if rows.read(len(_HEADER)) != _HEADER:
                return 0
            end, size = len(_HEADER), self.partial.stat().st_size
            for block in blocks:
                # before it is read: a damaged journal may say anything
                if end + block.length > size:
                    break
                found = rows.read(block.length)
                is_whole = hashlib.sha256(found).hexdigest() == block.sha256 and _file_of(found) == _cell_of(block.file)
                if not is_whole or not _is_unchanged(block):
                    break
                self._done[block.file] = block
                end += block.length
        return end

    def _write_journal(self, model: str, name: str) -> None:
        lines = [{"model": model, "name": name}, *map(asdict, self._done.values())]
        with whole_file(self.journal) as temporary:
            temporary.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")

    def __contains__(self, file: Path) -> bool:
        """Whether a file's scores are in the table, and the file is as it was then."""
        return str(file) in self._done and _is_unchanged(self._done[str(file)])

    def add(self, tags: Tags) -> None:
        """Add a file's rows: on the disk they are whole, or do not count. Raises MachineFault if the disk is full."""
        assert self._rows is not None, "begin comes first"
        chunks, k = tags.scores.shape
        name, classes = _cell_of(str(tags.file)), [csv_cell(printable(label)) for label in tags.classes]
        values = (name, np.repeat(tags.starts, k), classes * chunks, tags.scores.ravel())
        table = pd.DataFrame(dict(zip(_HEADER.decode().strip().split(","), values, strict=True)))
        rows = table.to_csv(header=False, index=False, float_format="%.6g", lineterminator="\n").encode()
        stat = os.stat(tags.file)
        digest = hashlib.sha256(rows).hexdigest()
        block = _Block(str(tags.file), stat.st_size, stat.st_mtime_ns, len(rows), digest)
        with explain_full_disk(self.path):
            self._rows.write(rows)
            self._rows.flush()
            with self.journal.open("a", encoding="utf-8") as journal:
                journal.write(f"{json.dumps(asdict(block))}\n")
        self._done[block.file] = block


def _journal_of(path: Path) -> Path:
    return partial_path(path.with_name(f"{path.name}.journal"))


def _begins(path: Path, mark: bytes) -> bool:
    """Return whether a file begins like this, or is empty, as one that was just begun."""
    with path.open("rb") as file:
        return file.read(len(mark)) in (mark, b"")


def _cell_of(file: str) -> str:
    return csv_cell(printable(file))


def _file_of(rows: bytes) -> str:
    """Return which file rows are of; '' where there are none."""
    first, *_ = rows.decode("utf-8", "replace").splitlines() or [""]
    return next(csv.reader([first]), [""])[0]


def _is_unchanged(block: _Block) -> bool:
    try:
        stat = os.stat(block.file)
    except OSError:
        # its scores are those of what it was
        return True
    return (stat.st_size, stat.st_mtime_ns) == (block.size, block.mtime_ns)


def _read_journal(path: Path) -> tuple[dict[str, Any], list[_Block]]:
    """Return a journal's head and blocks, as far as it is readable: a killed process leaves half a line."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError:
        return {}, []
    header: dict[str, Any] = {}
    blocks: list[_Block] = []
    for line in lines:
        try:
            value = json.loads(line)
            if not line.endswith(b"\n") or not isinstance(value, dict):
                break
            if header:
                blocks.append(_block(value))
            else:
                header = value
        # of json, also for what is not UTF-8, or nested too deeply; of a block with other fields
        except (ValueError, TypeError, RecursionError):
            break
    return header, blocks


def _block(value: dict[str, Any]) -> _Block:
    block = _Block(**value)
    if any(type(getattr(block, field.name)) is not field.type for field in fields(block)) or block.length < 0:
        raise ValueError("no block of a journal")
    return block
