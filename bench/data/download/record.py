"""What is known of a folder that FSD50K is fetched into, so that no start reads 25 GB anew: its fetch.json."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, PrivateAttr, ValidationError

from bench.disk import partial_path, refuse_odd, write_json
from bench.errors import UserError

__all__ = ["Record"]


class Record(BaseModel):
    """What was done in a folder and still holds, kept on disk.

    A file is still right while its size and time of change are the same, and an archive is still unpacked while each
    of its files is there in its size. Every change is written at once: a killed fetch forgets nothing.
    """

    checked: dict[str, tuple[str, int, int]] = {}  # name: MD5, size, time of change in ns
    unpacked: dict[str, dict[str, int]] = {}  # archive: path: size
    packs: list[str] = []  # fingerprints
    _folder: Path = PrivateAttr()

    @classmethod
    def of(cls, folder: Path) -> "Record":
        """Read a folder's record, or begin one. Raises UserError if it cannot be read, or is no file."""
        path = folder / "fetch.json"
        # told before anything is downloaded, not when it is to be noted
        for file in (path, partial_path(path)):
            refuse_odd(file)
        try:
            record = cls.model_validate_json(path.read_bytes()) if path.exists() else cls()
        except ValidationError:
            raise UserError(f"{path}: damaged; remove it, and what is there is checked anew") from None
        record._folder = folder
        return record

    def is_right(self, name: str, md5: str) -> bool:
        return (self._folder / name).is_file() and self.checked.get(name) == self._identity(name, md5)

    def note_right(self, name: str, md5: str) -> None:
        self.checked[name] = self._identity(name, md5)
        self._write()

    def distrust(self, names: Iterable[str]) -> None:
        """Have these files checked again at the next start."""
        for name in names:
            self.checked.pop(name, None)
        self._write()

    def is_unpacked(self, archive: str) -> bool:
        sizes = {self._folder / name: size for name, size in self.unpacked.get(archive, {}).items()}
        return bool(sizes) and all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())

    def note_unpacked(self, archive: str, files: dict[str, int]) -> None:
        self.unpacked[archive] = files
        self._write()

    def note_pack(self, fingerprint: str) -> None:
        if fingerprint not in self.packs:
            self.packs.append(fingerprint)
            self._write()

    def _identity(self, name: str, md5: str) -> tuple[str, int, int]:
        # the MD5 is part of it, so that another release's file is checked anew
        stat = (self._folder / name).stat()
        return md5, stat.st_size, stat.st_mtime_ns

    def _write(self) -> None:
        write_json(self._folder / "fetch.json", self.model_dump())
