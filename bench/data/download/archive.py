"""What an archive holds: unpacked into a folder, or read where it lies, member by member."""

import io
import os
import re
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from bench.data.dataset import Progress
from bench.data.download.split_zip import SeekableFile, explain_damage, extra_fields
from bench.data.threads import in_threads
from bench.disk import explain_full_disk, partial_path, refuse_odd, set_aside, size_text
from bench.errors import UserError
from bench.text import printable

__all__ = ["ArchiveFolder", "require_harmless", "unpack"]

# Id of Info-ZIP's field for times in UTC ("UT", extended timestamp).
_UNIX_TIME = 0x5455
_SECOND_NS = 1_000_000_000
# Bytes that archives may hold beyond what is known of them: the sizes of the small ones are guessed.
_SPARE_BYTES = 100_000_000
# Bytes of a name that file systems take, less what .partial adds, and of a path in the archive.
_LONGEST_NAME, _LONGEST_PATH = 240, 1000
# Names that Windows keeps for devices, with any suffix.
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?", re.IGNORECASE)


def require_harmless(archive: zipfile.ZipFile, expected: int | None = None) -> None:
    """Raise UserError if a member would be written elsewhere than into a folder of its own, or if they are too much.

    `expected` is about how many bytes they should be, all together, where that is known: an archive that inflates to
    far more is made to fill disks.
    """
    taken: set[str] = set()
    folders: set[str] = set()
    total = 0
    for info in archive.infolist():
        # zipfile cuts what it reads at a NUL
        name = info.orig_filename.removesuffix("/")
        if cause := _unfit(name, info) or ("is there twice" if name.casefold() in taken else ""):
            raise UserError(f"{archive.filename}: {name!r} {cause}; this is no archive of recordings")
        # of both cases, as file systems have it that know but one
        taken.add(name.casefold())
        folders.update(map(str, PurePosixPath(name.casefold()).parents))
        total += info.file_size
    if both := folders & {info.filename.casefold() for info in archive.infolist() if not info.is_dir()}:
        raise UserError(f"{archive.filename}: {min(both)!r} is both a file and a folder")
    if expected is not None and total > 2 * expected + _SPARE_BYTES:
        raise UserError(f"{archive.filename}: unpacks to {size_text(total)}, should be about {size_text(expected)}")


def _unfit(name: str, info: zipfile.ZipInfo) -> str:
    """Return why a member's name is none of a file below the folder it is unpacked into, on any system."""
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name):
        return "is no relative path"
    if {"", ".", ".."} & set(parts):
        return "leaves its folder"
    too_long = len(name.encode(errors="replace")) > _LONGEST_PATH
    if too_long or any(printable(part) != part or len(part.encode()) > _LONGEST_NAME for part in parts):
        return "is no name for a file"
    if any(_DEVICE.fullmatch(part) for part in parts):
        return "names a device"
    if name.casefold().endswith(".partial"):
        return "is named like a file that is not whole yet"
    # in the upper half, where a Unix system made the archive, is what kind of file it is
    kind = stat.S_IFMT(info.external_attr >> 16)
    return "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "is a link or a device"


def unpack(
    archive: zipfile.ZipFile, folder: Path, progress: Progress, notice: Callable[[str], None] = lambda _: None
) -> dict[str, int]:
    """Write all that an archive holds into a folder, with its times; what an earlier call left there is kept.

    Each file is called NAME.partial until it is whole; another one that had its name is kept as NAME.aside, of which
    `notice` takes a line. `progress` takes bytes. Returns the files' sizes, by their paths in the folder. Raises
    UserError for names that lead elsewhere (`require_harmless`), and DamagedArchive.
    """
    require_harmless(archive)
    members = [info for info in archive.infolist() if not info.is_dir()]
    # before the threads start: two that make one folder are in each other's way
    for parent in sorted({(folder / info.filename).parent for info in members}):
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"{parent}: a file is where a folder is to be written; move it away") from None

    def write(info: zipfile.ZipInfo) -> int:
        path = folder / info.filename
        if not _is_there(path, info):
            partial = partial_path(path)
            for odd in (path, partial):
                refuse_odd(odd)
            # zipfile checks the CRC as it reads, and reads no more than the size that is declared
            with (
                explain_full_disk(path),
                partial.open("wb") as file,
                explain_damage(f"{archive.filename}: {info.filename}"),
                archive.open(info) as content,
            ):
                shutil.copyfileobj(content, file)
            os.utime(partial, ns=(_modified_ns(info), _modified_ns(info)))
            set_aside(path, partial, notice)
            os.replace(partial, path)
        return info.file_size

    done, total = 0, sum(info.file_size for info in members)
    with in_threads(write, members) as sizes:
        for size in sizes:
            done += size
            progress(done, total)
    return {info.filename: info.file_size for info in members}


@dataclass(frozen=True)
class ArchiveFolder:
    """A folder in an archive, as much of a Path as reading a data set takes."""

    archive: zipfile.ZipFile
    name: str

    def __str__(self) -> str:
        return f"{self.archive.filename}/{self.name}"

    def is_dir(self) -> bool:
        # by its files: an archive need not list its folders
        return any(name.startswith(f"{self.name}/") for name in self.archive.namelist())

    def iterdir(self) -> Iterator["_Member"]:
        """Yield all files in the folder, at any depth."""
        return (_Member(self.archive, n) for n in self.archive.namelist() if n.startswith(f"{self.name}/"))

    def __truediv__(self, name: str) -> "_Member":
        return _Member(self.archive, f"{self.name}/{name}")


@dataclass(frozen=True)
class _Member:
    """A file in an archive, as much of a Path as reading a recording takes; its methods raise DamagedArchive, too."""

    archive: zipfile.ZipFile
    name: str

    def __str__(self) -> str:
        return f"{self.archive.filename}: {self.name}"

    def stat(self) -> os.stat_result:
        """Return size and time of the unpacked file; the other fields are 0."""
        info = self._info()
        return os.stat_result((0, 0, 0, 0, 0, 0, info.file_size, 0, 0, 0), {"st_mtime_ns": _modified_ns(info)})

    def open(self, mode: Literal["rb"]) -> IO[bytes]:  # noqa: ARG002 (as Path.open has it)
        info = self._info()
        with explain_damage(str(self)):
            return io.BufferedReader(_Inflating(self.archive.open(info), info.file_size, str(self)))

    def read_bytes(self) -> bytes:
        with explain_damage(str(self)):
            return self.archive.read(self._info())

    def _info(self) -> zipfile.ZipInfo:
        try:
            return self.archive.getinfo(self.name)
        except KeyError:
            raise FileNotFoundError(self.name) from None


class _Inflating(SeekableFile):
    # a member as a file that is inflated no further than it is read, and can be sought in what was inflated: zipfile
    # inflates all of a member to seek to its end, which libsndfile does first of all
    def __init__(self, stream: IO[bytes], size: int, what: str) -> None:
        super().__init__(size)
        self.stream, self.what, self.inflated = stream, what, bytearray()

    def readinto(self, buffer: Any) -> int:
        with explain_damage(self.what):
            # kept from the start, as a seek back is answered from it: probing reads little more than the header
            self.inflated += self.stream.read(max(0, self.at + len(buffer) - len(self.inflated)))
        data = self.inflated[self.at : self.at + len(buffer)]
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def close(self) -> None:
        self.stream.close()
        super().close()


def _is_there(path: Path, info: zipfile.ZipInfo) -> bool:
    if not path.exists():
        return False
    stat = path.stat()
    # some file systems count in steps of two seconds
    return stat.st_size == info.file_size and abs(stat.st_mtime_ns - _modified_ns(info)) <= 2 * _SECOND_NS


def _modified_ns(info: zipfile.ZipInfo) -> int:
    """Return when a member was last changed, in ns since 1970, as unzip takes it: in UTC if given, else local time."""
    data = dict(extra_fields(info.extra)).get(_UNIX_TIME, b"")
    # the first byte says which times follow; its lowest bit stands for that of modification, which then comes first
    if len(data) >= 5 and data[0] & 1:
        return int.from_bytes(data[1:5], "little", signed=True) * _SECOND_NS
    return int(time.mktime((*info.date_time, 0, 0, -1))) * _SECOND_NS
