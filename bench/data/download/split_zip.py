"""Split zip archives, read where they lie: no joined copy, no other program.

A split archive (NAME.z01, NAME.z02, ..., NAME.zip, as `zip -s` writes it) is one archive cut into pieces. Its directory
says in which piece a member begins, and how far into it, which zipfile refuses. So zipfile is shown the pieces as one
file, with a directory behind them that counts from the start of the first piece. (Fields: APPNOTE.TXT of PKWARE.)
"""

import io
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from bench.errors import UserError, one_line

# signature, ..., in the order of the format
ENTRY = struct.Struct("<4s6H3L5H2L")  # [4] method, [8:10] sizes, [10:13] lengths, [13] piece, [16] offset
END = struct.Struct("<4s4H2LH")  # [1] last piece, [2] piece of the directory, [4] its entries, [5] size, [6] offset
END64 = struct.Struct("<4sQ2H2L4Q")  # [5] piece of the directory, [7] its entries, [8] size, [9] offset
LOCATOR = struct.Struct("<4sLQL")  # [1] piece of END64, [2] offset
LONG, LONG_PIECE = 0xFFFFFFFF, 0xFFFF  # stand for a value in the zip64 field
ZIP64 = 1  # this field's id


class DamagedArchive(UserError):
    """An archive that cannot be read as far as it promises."""


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Raises DamagedArchive, with a line that begins with `what`, for whatever zipfile makes of damage."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, IndexError, RuntimeError, UnicodeError) as error:
        raise DamagedArchive(f"{what}: not readable: {one_line(error) or 'it ends too early'}") from None


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open NAME.zip and the pieces beside it; an archive that is not split is one of a single piece.

    Raises:
        UserError: a piece is missing, or (DamagedArchive) it is no archive.
    """
    with ExitStack() as stack:
        with readable(str(path)):
            files: list[IO[bytes]] = [stack.enter_context(piece.open("rb")) for piece in _pieces(path)]
            directory = io.BytesIO(_directory(Joined(files, str(path))))
            archive = stack.enter_context(zipfile.ZipFile(Joined([*files, directory], str(path))))
        yield archive


class Joined(io.RawIOBase):
    """Files one after the other, as one file to read."""

    def __init__(self, pieces: Sequence[IO[bytes]], name: str) -> None:
        self.pieces, self.name = pieces, name
        sizes = [piece.seek(0, io.SEEK_END) for piece in pieces]
        self.starts = [0, *accumulate(sizes)]  # of the pieces; the last one is the end of all
        self.at = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.starts[-1]}[whence]
        return self.at

    def read(self, size: int = -1) -> bytes:
        """`size` bytes; fewer only at the end of all."""
        end = self.starts[-1] if size < 0 else min(self.at + size, self.starts[-1])
        found = []
        while self.at < end:
            number = bisect_right(self.starts, self.at) - 1
            self.pieces[number].seek(self.at - self.starts[number])
            data = self.pieces[number].read(min(end, self.starts[number + 1]) - self.at)
            if not data:
                break  # cut off since it was opened
            found.append(data)
            self.at += len(data)
        return b"".join(found)


def _pieces(path: Path) -> list[Path]:
    with path.open("rb") as file:
        _, (_, last, *_) = _end(file)
    pieces = [path.with_suffix(f".z{number:02}") for number in range(1, last + 1)] + [path]
    for piece in pieces:
        if not piece.is_file():
            raise UserError(f"{piece}: no such file; it is a piece of {path}")
    return pieces


def _end(file: IO[bytes] | Joined) -> tuple[int, tuple[Any, ...]]:
    """Where an archive's END is, and its fields."""
    start = file.seek(max(0, file.seek(0, io.SEEK_END) - END.size - 0xFFFF))  # a comment may follow
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0:
        raise zipfile.BadZipFile("no directory at its end")
    return start + at, END.unpack_from(tail, at)


def _directory(pieces: Joined) -> bytes:
    """The directory anew, as what follows the last piece."""
    place, size, count = _place_of_directory(pieces)
    pieces.seek(place)
    entries = list(_entries(pieces.read(size), pieces.starts))
    if len(entries) != count:
        raise zipfile.BadZipFile(f"{len(entries)} entries of {count} in its directory")
    size, place = sum(map(len, entries)), pieces.starts[-1]
    return b"".join(
        (
            *entries,
            END64.pack(b"PK\6\6", END64.size - 12, 45, 45, 0, 0, count, count, size, place),
            LOCATOR.pack(b"PK\6\7", 0, place + size, 1),
            END.pack(b"PK\5\6", 0, 0, LONG_PIECE, LONG_PIECE, LONG, LONG, 0),
        )
    )


def _place_of_directory(pieces: Joined) -> tuple[int, int, int]:
    """Where it begins, its size, and its number of entries."""
    at, (_, _, piece, _, count, size, offset, _) = _end(pieces)
    pieces.seek(max(0, at - LOCATOR.size))
    locator = pieces.read(LOCATOR.size)
    if locator.startswith(b"PK\6\7"):
        _, number, place, _ = LOCATOR.unpack(locator)
        pieces.seek(pieces.starts[number] + place)
        *_, piece, _, count, size, offset = END64.unpack(pieces.read(END64.size))
    return pieces.starts[piece] + offset, size, count


def _entries(directory: bytes, starts: Sequence[int]) -> Iterator[bytes]:
    """The directory's entries with places from the start of the first piece, all in zip64 fields."""
    at = 0
    while directory.startswith(b"PK\1\2", at):
        entry = list(ENTRY.unpack_from(directory, at))
        if entry[4] not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(f"compression method {entry[4]}")
        name_end = at + ENTRY.size + entry[10]
        extra_end = name_end + entry[11]
        end = extra_end + entry[12]
        fields = dict(extra_fields(directory[name_end:extra_end]))
        long = fields.pop(ZIP64, b"")
        # it holds, in this order, what is too long for the entry: both sizes, offset, piece
        sizes = 8 * entry[8:10].count(LONG)
        rest = long[sizes:]
        piece, offset = entry[13], entry[16]
        if offset == LONG:
            offset, rest = struct.unpack("<Q", rest[:8])[0], rest[8:]
        if piece == LONG_PIECE:
            piece = struct.unpack("<L", rest[:4])[0]
        fields[ZIP64] = long[:sizes] + struct.pack("<Q", starts[piece] + offset)
        extra = b"".join(struct.pack("<2H", id_, len(data)) + data for id_, data in fields.items())
        entry[11], entry[13], entry[16] = len(extra), 0, LONG
        yield ENTRY.pack(*entry) + directory[at + ENTRY.size : name_end] + extra + directory[extra_end:end]
        at = end


def extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """An entry's additional fields, by their ids."""
    while len(extra) >= 4:
        id_, size = struct.unpack_from("<2H", extra)
        yield id_, extra[4 : 4 + size]
        extra = extra[4 + size :]
