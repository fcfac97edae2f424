"""FSD50K into a folder: download its archives, unpack them, or pack straight from them; each stage resumes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from zipfile import ZipFile

from bench.data.dataset import Progress
from bench.data.download.archive import ArchiveFolder, require_harmless, unpack
from bench.data.download.fsd50k_files import ZENODO, Archive, File, official_archives, url_of
from bench.data.download.http import download, is_file_of, require_mirror
from bench.data.download.record import Record
from bench.data.download.split_zip import DamagedArchive, open_zip
from bench.data.pack import Pack
from bench.data.packing import pack, refuse_taken, require_possible
from bench.disk import explain_full_disk, on_one_disk, partial_path, require_space, size_text, space_taken
from bench.errors import UserError
from bench.locks import attempt

__all__ = ["Fetch", "exclusive"]

# In Hz, of FSD50K's recordings, which have 16 bits and one channel, as a pack has.
_AUDIO_RATE = 44_100


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Create the folder, and keep other fetches out of it. Raises UserError if one is at work."""
    folder.mkdir(parents=True, exist_ok=True)
    with attempt(folder / "fetch") as is_held:
        if not is_held:
            raise UserError(f"{folder}: another `bench data fetch` is at work here; wait for it, or stop it")
        yield


class Fetch:
    """What is still to be done, found out when it is made; its methods are the stages, in their order."""

    def __init__(
        self,
        folder: Path,
        *,
        source: str = ZENODO,
        archives: Sequence[Archive] | None = None,
        out: Path | None = None,
        sample_rate: int = 16_000,
    ) -> None:
        """Compare the folder with what should be in it.

        `source` is a folder's URL, or one with NAME in it for a file's name; `out` a pack to make from the archives, at
        `sample_rate` Hz. Raises UserError if `source` is no URL, or has a password, `out` is taken, or the folder's
        record is damaged.
        """
        require_mirror(source)
        if out:
            require_possible(out, sample_rate)
        self.folder, self.source, self.out, self.sample_rate = folder, source, out, sample_rate
        self.archives = official_archives() if archives is None else archives
        self.record = Record.of(folder)
        # found under their names, but with other content
        self.wrong: set[File] = set()
        self.is_packed = self._is_packed()
        # archives that were deleted after use are not fetched again, as long as what was made of them is there
        made = [a for a in self.archives if self.record.is_unpacked(a.name) or (a.is_audio and self.is_packed)]
        self.needed = [archive for archive in self.archives if archive not in made]
        self.files = [file for archive in self.needed for file in archive.files]
        # with a pack, the recordings stay in their archives
        self.to_unpack = [archive for archive in self.needed if not (archive.is_audio and out)]

    def _is_packed(self) -> bool:
        if not self.out:
            return False
        if not (self.out / "manifest.json").is_file():
            refuse_taken(self.out)
            return False
        made = Pack(self.out)
        if made.sample_rate != self.sample_rate:
            raise UserError(f"{self.out} is a pack at {made.sample_rate} Hz: remove it or name another folder")
        return made.fingerprint in self.record.packs

    @property
    def bytes_to_download(self) -> int:
        return sum(file.size - self._present(file) for file in self.files)

    @property
    def bytes_to_unpack(self) -> int:
        # what an interrupted call has unpacked takes its space already
        missing = (archive.unpacked - space_taken(self.folder / archive.name) for archive in self.to_unpack)
        return sum(max(0, size) for size in missing)

    @property
    def bytes_to_pack(self) -> int:
        if not self.out or self.is_packed:
            return 0
        sound = sum(archive.unpacked for archive in self.archives if archive.is_audio)
        return max(0, sound * self.sample_rate // _AUDIO_RATE - space_taken(partial_path(self.out)))

    def check(self, progress: Progress) -> None:
        """Check files of the right names and sizes that are not known to be right, as those are that a user put here.

        What is asked about the bytes to download needs it, and does it without a bar where it is left out.
        """
        unknown = [file for file in self.files if not self.record.is_right(file.name, file.md5)]
        done, total = 0, sum(file.size for file in unknown)
        for file in unknown:
            self._is_right(file)
            done += file.size
            progress(done, total)

    def _is_right(self, file: File) -> bool:
        if self.record.is_right(file.name, file.md5):
            return True
        path = self.folder / file.name
        # a gigabyte is read for the MD5 once
        if file not in self.wrong:
            if path.is_file() and is_file_of(path, file.size, file.md5):
                self.record.note_right(file.name, file.md5)
                return True
            self.wrong.add(file)
        return False

    def _present(self, file: File) -> int:
        if self._is_right(file):
            return file.size
        # what lies under the name itself is another file: it stays, and takes no part of the new one's space
        partial = partial_path(self.folder / file.name)
        return min(file.size, partial.stat().st_size) if partial.is_file() else 0

    def summary(self) -> str:
        """Return what will be done and what it takes, in a line."""
        sizes = {"download": self.bytes_to_download, "unpack": self.bytes_to_unpack, "pack": self.bytes_to_pack}
        parts = [f"{size_text(size)} to {what}" for what, size in sizes.items() if size]
        return f"{self.folder}: {', '.join(parts) or 'nothing to do'}: needs {size_text(sum(sizes.values()))} of disk"

    def require_space(self) -> None:
        """Raise UserError if a disk is too small for what is still to be written."""
        here, there = self.bytes_to_download + self.bytes_to_unpack, self.bytes_to_pack
        # on one disk they need their sum, which two checks of the same free space would not notice
        if self.out and on_one_disk(self.folder, self.out):
            here, there = here + there, 0
        require_space(self.folder, here)
        if self.out:
            require_space(self.out, there)

    def download(self, progress: Progress, notice: Callable[[str], None]) -> None:
        """Download and check all needed archives; `notice` takes a line about what went wrong and is tried again."""
        done, total = 0, sum(file.size for file in self.files)
        for file in self.files:
            if not self.record.is_right(file.name, file.md5):
                url, path = url_of(self.source, file.name), self.folder / file.name
                report = partial(lambda before, here: progress(before + here, total), done)
                with explain_full_disk(path):
                    download(url, path, size=file.size, md5=file.md5, progress=report, notice=notice)
                self.record.note_right(file.name, file.md5)
            done += file.size
            progress(done, total)

    def unpack(self, archive: Archive, progress: Progress, notice: Callable[[str], None] = lambda _: None) -> None:
        """Unpack one of `to_unpack`; `notice` takes a line about a user's file that is in the way, and kept.

        Raises UserError if it is damaged, holds what no archive of recordings does, or the disk is full.
        """
        with self._opened(archive) as (opened,), explain_full_disk(self.folder):
            files = unpack(opened, self.folder, progress, notice)
        self.record.note_unpacked(archive.name, files)

    def pack(self, progress: Progress) -> Pack:
        """Make `out` of what is unpacked in the folder, and straight from the archives of what is not."""
        assert self.out
        archives = [archive for archive in self.needed if archive.is_audio]
        # open until all is packed: recordings of both are read at the same time
        with self._opened(*archives) as opened:
            archived = {a.name: ArchiveFolder(zipped, a.name) for a, zipped in zip(archives, opened, strict=True)}
            made = pack(self.folder, self.out, sample_rate=self.sample_rate, progress=progress, archived=archived)
        self.record.note_pack(made.fingerprint)
        return made

    def delete_archives(self) -> None:
        """Delete the archives, as far as they are known to be those: under their names a user may have another file."""
        for archive in self.archives:
            for file in archive.files:
                if self.record.is_right(file.name, file.md5):
                    (self.folder / file.name).unlink()

    @contextmanager
    def _opened(self, *archives: Archive) -> Iterator[list[ZipFile]]:
        """Open archives; those that turn out to be damaged, though right when fetched, are checked by the next call."""
        try:
            with ExitStack() as stack:
                opened = [stack.enter_context(open_zip(self.folder / f"{archive.name}.zip")) for archive in archives]
                for archive, zipped in zip(archives, opened, strict=True):
                    require_harmless(zipped, archive.unpacked)
                yield opened
        except DamagedArchive as error:
            self.record.distrust(file.name for archive in archives for file in archive.files)
            again = "run the same command again to check the archive and fetch what is wrong"
            raise UserError(f"{error}; {again}") from None
