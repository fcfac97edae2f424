"""What an archive holds: unpacked into a folder, or read where it lies, member by member."""

import io
import os
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from bench.data.dataset import Progress
from bench.data.download.split_zip import explain_damage, extra_fields

__all__ = ["ArchiveFolder", "unpack"]

# Id of Info-ZIP's field for times in UTC ("UT", extended timestamp).
_UNIX_TIME = 0x5455
_SECOND_NS = 1_000_000_000


class ArchiveFolder:
    """A folder in an archive, as much of a Path as reading a data set takes."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.archive, self.name = archive, name

    def __str__(self) -> str:
        return f"{self.archive.filename}/{self.name}"

    def is_dir(self) -> bool:
        # by its files: an archive need not list its folders
        return any(name.startswith(f"{self.name}/") for name in self.archive.namelist())

    def __truediv__(self, name: str) -> "_Member":
        return _Member(self.archive, f"{self.name}/{name}")


def unpack(archive: zipfile.ZipFile, folder: Path, progress: Progress) -> dict[str, int]:
    """Write all that an archive holds into a folder, with its times; what an earlier call left there is kept.

    Args:
        progress: called with the bytes done, and in all.

    Returns:
        The files' sizes, by their paths in the folder.

    Raises:
        DamagedArchive: a member cannot be read, or its CRC is wrong.
    """
    members = [info for info in archive.infolist() if not info.is_dir()]
    # before the threads start: zipfile fails if another thread creates a folder between its look and its mkdir
    for parent in {(folder / info.filename).parent for info in members}:
        parent.mkdir(parents=True, exist_ok=True)

    def write(info: zipfile.ZipInfo) -> int:
        if not _is_there(folder / info.filename, info):
            # zipfile checks the CRC as it reads
            with explain_damage(f"{archive.filename}: {info.filename}"):
                path = archive.extract(info, folder)
            # last: its time distinguishes a complete file from one that a killed process was writing
            os.utime(path, ns=(_modified_ns(info), _modified_ns(info)))
        return info.file_size

    done, total = 0, sum(info.file_size for info in members)
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for size in pool.map(write, members):
            done += size
            progress(done, total)
    # queued members are dropped, so that an interrupt waits for a few files, not for thousands
    finally:
        pool.shutdown(cancel_futures=True)
    return {info.filename: info.file_size for info in members}


@dataclass(frozen=True)
class _MemberStat:
    """As much of os.stat_result as shows whether a recording is the same; it is that of the unpacked file."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class _Member:
    """A file in an archive, as much of a Path as reading a recording takes.

    Its methods raise FileNotFoundError if there is none, and DamagedArchive.
    """

    archive: zipfile.ZipFile
    name: str

    def stat(self) -> _MemberStat:
        info = self._info()
        return _MemberStat(info.file_size, _modified_ns(info))

    def open(self, mode: Literal["rb"]) -> IO[bytes]:  # noqa: ARG002 (as Path.open has it)
        info = self._info()
        with self._explain():
            return io.BufferedReader(_Inflating(self.archive.open(info), info.file_size, self._explain))

    def read_bytes(self) -> bytes:
        info = self._info()
        with self._explain():
            return self.archive.read(info)

    def _info(self) -> zipfile.ZipInfo:
        try:
            return self.archive.getinfo(self.name)
        except KeyError:
            raise FileNotFoundError(self.name) from None

    def _explain(self) -> AbstractContextManager[None]:
        return explain_damage(f"{self.archive.filename}: {self.name}")


class _Inflating(io.RawIOBase):
    """A member as a file that is inflated no further than it is read, and can be sought in what was inflated.

    zipfile inflates all of a member to seek to its end, which is the first thing that libsndfile does.
    """

    def __init__(self, stream: IO[bytes], size: int, guard: Callable[[], AbstractContextManager[None]]) -> None:
        self.stream, self.size, self.guard = stream, size, guard
        self.inflated = b""
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        with self.guard():
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
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    # some file systems count in steps of two seconds
    return stat.st_size == info.file_size and abs(stat.st_mtime_ns - _modified_ns(info)) <= 2 * _SECOND_NS


def _modified_ns(info: zipfile.ZipInfo) -> int:
    """Return when a member was last changed, in ns since 1970, as unzip takes it: in UTC if given, else local time."""
    data = dict(extra_fields(info.extra)).get(_UNIX_TIME, b"")
    # the first byte says which times follow; its lowest bit stands for that of modification, which then comes first
    if len(data) >= 5 and data[0] & 1:
        return int.from_bytes(data[1:5], "little", signed=True) * _SECOND_NS
    return int(time.mktime((*info.date_time, 0, 0, -1))) * _SECOND_NS
