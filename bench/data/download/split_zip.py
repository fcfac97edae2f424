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

__all__ = ["DamagedArchive", "SeekableFile", "explain_damage", "extra_fields", "open_zip"]

# The records of a zip archive, their fields in the order of the format; each begins with its signature. The numbers are
# the places, after unpacking, of the fields that are used here.
# A member in the directory: [4] method, [8:10] sizes, [10:13] lengths of what follows, [13] piece, [16] offset.
_ENTRY = struct.Struct("<4s6H3L5H2L")
# The end of the archive: [1] last piece, [2] piece of the directory, [4] its entries, [5] size, [6] offset.
_END = struct.Struct("<4s4H2LH")
# The same for long archives: [5] piece of the directory, [7] its entries, [8] size, [9] offset.
_END64 = struct.Struct("<4sQ2H2L4Q")
# Where that one is: [1] piece, [2] offset.
_LOCATOR = struct.Struct("<4sLQL")
# Stand for a value that is too long for its field, and is in the extra field of this id instead.
_LONG, _LONG_PIECE, _ZIP64 = 0xFFFFFFFF, 0xFFFF, 1
# Bytes of a directory, which is read whole; that of 40,000 recordings takes 5 million.
_LARGEST_DIRECTORY = 200_000_000
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error, IndexError, RuntimeError, ValueError, OverflowError
)  # fmt: skip


class DamagedArchive(UserError):
    """An archive that cannot be read to the end that it declares."""


@contextmanager
def explain_damage(what: str) -> Iterator[None]:
    """Raise DamagedArchive, with a line that begins with `what`, for whatever zipfile makes of damage."""
    try:
        yield
    # RuntimeError: by a flag that damage has set, a member is encrypted, or packed by a method that zipfile lacks
    # ValueError, OverflowError: a place before the start of a file, or beyond what one can be; names in no encoding
    except _DAMAGE as error:
        raise DamagedArchive(f"{what}: not readable: {one_line(error) or 'it ends too early'}") from None


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open NAME.zip and the pieces beside it. Raises UserError if one is missing, or it is no archive."""
    with ExitStack() as stack:
        with explain_damage(str(path)):
            files: list[IO[bytes]] = [stack.enter_context(piece.open("rb")) for piece in _pieces(path)]
            directory = io.BytesIO(_directory(_Joined(files, str(path))))
            archive = stack.enter_context(zipfile.ZipFile(_Joined([*files, directory], str(path))))
        yield archive


def extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield an entry's additional fields, each as its id and its bytes."""
    while len(extra) >= 4:
        id_, size = struct.unpack_from("<2H", extra)
        yield id_, extra[4 : 4 + size]
        extra = extra[4 + size :]


class SeekableFile(io.RawIOBase):
    """A file of `size` bytes; what reads it continues from `at`."""

    def __init__(self, size: int) -> None:
        self.size, self.at = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at


class _Joined(SeekableFile):
    """Files one after the other, as one file to read."""

    def __init__(self, pieces: Sequence[IO[bytes]], name: str) -> None:
        self.pieces, self.name = pieces, name
        # where each piece begins, and last where all of them end
        self.starts = [0, *accumulate(piece.seek(0, io.SEEK_END) for piece in pieces)]
        super().__init__(self.starts[-1])

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes; fewer only at the end of all, as zipfile takes fewer for damage."""
        end = self.size if size < 0 else min(self.at + size, self.size)
        found = []
        while self.at < end:
            number = bisect_right(self.starts, self.at) - 1
            self.pieces[number].seek(self.at - self.starts[number])
            data = self.pieces[number].read(min(end, self.starts[number + 1]) - self.at)
            # a piece that was cut off after it was opened
            if not data:
                break
            found.append(data)
            self.at += len(data)
        return b"".join(found)


def _pieces(path: Path) -> list[Path]:
    """Return all pieces of an archive in their order; its end, in NAME.zip, has their number."""
    with path.open("rb") as file:
        _, (_, last, *_) = _end(file)
    pieces = [path.with_suffix(f".z{number:02}") for number in range(1, last + 1)] + [path]
    for piece in pieces:
        if not piece.is_file():
            raise UserError(f"{piece}: no such file; it is a piece of {path}")
    return pieces


def _end(file: IO[bytes] | _Joined) -> tuple[int, tuple[Any, ...]]:
    """Return where an archive's end record is, and its fields."""
    # a comment of up to 64 KiB may follow it
    start = file.seek(max(0, file.seek(0, io.SEEK_END) - _END.size - 0xFFFF))
    tail = file.read()
    at = last = tail.rfind(b"PK\5\6")
    if at < 0:
        raise zipfile.BadZipFile("no directory at its end")
    # the comment, whose length comes last, may hold the mark as well; behind it may be something else
    while at >= 0 and at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
        at = tail.rfind(b"PK\5\6", 0, at)
    at = at if at >= 0 else last
    return start + at, _END.unpack_from(tail, at)


def _directory(pieces: _Joined) -> bytes:
    """Write the directory and end records anew, to follow the last piece: all in the long form, so in one way."""
    at, (_, _, piece, _, count, size, offset, _) = _end(pieces)
    pieces.seek(max(0, at - _LOCATOR.size))
    locator = pieces.read(_LOCATOR.size)
    # right before the end, and in long archives alone
    if locator.startswith(b"PK\6\7"):
        _, number, place, _ = _LOCATOR.unpack(locator)
        pieces.seek(pieces.starts[number] + place)
        *_, piece, _, count, size, offset = _END64.unpack(pieces.read(_END64.size))
    pieces.seek(pieces.starts[piece] + offset)
    if size > _LARGEST_DIRECTORY:
        raise zipfile.BadZipFile(f"a directory of {size / 1e9:.2f} GB")
    entries = list(_entries(pieces.read(size), pieces.starts))
    if len(entries) != count:
        raise zipfile.BadZipFile(f"{len(entries)} entries of {count} in its directory")
    size, place = sum(map(len, entries)), pieces.size
    # 45: zip64 came with version 4.5 of the format; one disk, number 0, holds all
    entries.append(_END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, size, place))
    entries.append(_LOCATOR.pack(b"PK\6\7", 0, place + size, 1))
    entries.append(_END.pack(b"PK\5\6", 0, 0, _LONG_PIECE, _LONG_PIECE, _LONG, _LONG, 0))
    return b"".join(entries)


def _entries(directory: bytes, starts: Sequence[int]) -> Iterator[bytes]:
    """Yield the directory's entries with places from the start of the first piece, all in zip64 fields."""
    at = 0
    while directory.startswith(b"PK\1\2", at):
        entry = list(_ENTRY.unpack_from(directory, at))
        # refused at once: zipfile would refuse it only at the first such member, hours later
        if entry[4] not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(f"compression method {entry[4]}")
        name_end = at + _ENTRY.size + entry[10]
        extra_end = name_end + entry[11]
        end = extra_end + entry[12]
        fields = dict(extra_fields(directory[name_end:extra_end]))
        long = fields.pop(_ZIP64, b"")
        # it holds, in this order, what is too long for the entry: both sizes, offset, piece
        sizes = 8 * entry[8:10].count(_LONG)
        rest = long[sizes:]
        piece, offset = entry[13], entry[16]
        if offset == _LONG:
            offset, rest = struct.unpack("<Q", rest[:8])[0], rest[8:]
        if piece == _LONG_PIECE:
            (piece,) = struct.unpack("<L", rest[:4])
        fields[_ZIP64] = long[:sizes] + struct.pack("<Q", starts[piece] + offset)
        extra = b"".join(struct.pack("<2H", id_, len(data)) + data for id_, data in fields.items())
        entry[11], entry[13], entry[16] = len(extra), 0, _LONG
        yield _ENTRY.pack(*entry) + directory[at + _ENTRY.size : name_end] + extra + directory[extra_end:end]
        at = end
