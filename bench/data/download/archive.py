"""What an archive holds: unpacked into a folder, or read where it lies, member by member."""

import io
import os
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from bench.data.dataset import Progress
from bench.data.download.split_zip import SeekableFile, explain_damage, extra_fields
from bench.data.threads import in_threads

__all__ = ["ArchiveFolder", "unpack"]

# Id of Info-ZIP's field for times in UTC ("UT", extended timestamp).
_UNIX_TIME = 0x5455
_SECOND_NS = 1_000_000_000


def unpack(archive: zipfile.ZipFile, folder: Path, progress: Progress) -> dict[str, int]:
    """Write all that an archive holds into a folder, with its times; what an earlier call left there is kept.

    `progress` takes bytes. Returns the files' sizes, by their paths in the folder. Raises DamagedArchive.
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
        self.stream, self.what, self.inflated = stream, what, b""

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
