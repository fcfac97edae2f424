"""What is known of a folder that FSD50K is fetched into, so that no start reads 25 GB anew: its fetch.json."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from bench.disk import write_json
from bench.errors import UserError

__all__ = ["Record"]


class _Known(BaseModel):
    """The content of fetch.json: files that were found right, archives that were unpacked, packs that were made."""

    checked: dict[str, tuple[str, int, int]] = {}  # name: MD5, size, time of change in ns
    unpacked: dict[str, dict[str, int]] = {}  # archive: path: size
    packs: list[str] = []  # fingerprints


class Record:
    """What was done in a folder and still holds, kept on disk.

    A file is still right while its size and time of change are the same, and an archive is still unpacked while each
    of its files is there in its size. Every change is written at once: a killed fetch forgets nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Read the folder's record, or begin one.

        Raises:
            UserError: there is a record that cannot be read.
        """
        self.folder, self.path = folder, folder / "fetch.json"
        try:
            self.known = _Known.model_validate_json(self.path.read_bytes()) if self.path.exists() else _Known()
        except ValidationError:
            raise UserError(f"{self.path}: damaged; remove it, and what is there is checked anew") from None

    def is_right(self, name: str, md5: str) -> bool:
        return (self.folder / name).is_file() and self.known.checked.get(name) == self._identity(name, md5)

    def note_right(self, name: str, md5: str) -> None:
        self.known.checked[name] = self._identity(name, md5)
        self._write()

    def distrust(self, names: Iterable[str]) -> None:
        """Have these files checked again at the next start."""
        for name in names:
            self.known.checked.pop(name, None)
        self._write()

    def is_unpacked(self, archive: str) -> bool:
        files = self.known.unpacked.get(archive, {})
        return bool(files) and all(self._has(name, size) for name, size in files.items())

    def note_unpacked(self, archive: str, files: dict[str, int]) -> None:
        self.known.unpacked[archive] = files
        self._write()

    def has_pack(self, fingerprint: str) -> bool:
        return fingerprint in self.known.packs

    def note_pack(self, fingerprint: str) -> None:
        if not self.has_pack(fingerprint):
            self.known.packs.append(fingerprint)
            self._write()

    def _identity(self, name: str, md5: str) -> tuple[str, int, int]:
        """Return what is noted of a file; its MD5 is part of it, so that another release's file is checked anew."""
        stat = (self.folder / name).stat()
        return md5, stat.st_size, stat.st_mtime_ns

    def _has(self, name: str, size: int) -> bool:
        path = self.folder / name
        return path.is_file() and path.stat().st_size == size

    def _write(self) -> None:
        write_json(self.path, self.known.model_dump())
