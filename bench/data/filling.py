"""Fill the arrays of a pack that is being made, so that no interruption loses or spoils anything.

The arrays have their final size from the start, and are filled in any order. A journal has a line for each recording
that is done, `["KEY", "HASH", [NOTES]]`, or `["KEY", "!CAUSE", []]` for one that can't be used. A line is written after
the samples are on the disk, and compared with them by the call that resumes.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from bench.data.audio import pieces, resume_later
from bench.data.dataset import SPLITS, AudioError, AudioInfo, Clip, Progress
from bench.data.threads import in_threads
from bench.disk import refuse_odd, require_space
from bench.errors import UserError

__all__ = ["Done", "Slot", "fill", "prepare"]

# What is in a folder that was left half-made; whatever else is there is a user's own.
_OURS = re.compile(r"\.?(train|val|eval|index|manifest|journal-)[^/]*\.(npy|jsonl|parquet|json)[^/]*")
# Bytes that are read, or overwritten, at a time.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Slot:
    """The place of a clip's samples: from `start` on in the array of its split."""

    clip: Clip
    info: AudioInfo
    start: int
    length: int


@dataclass(frozen=True)
class Done:
    """What became of a recording: the hash of its samples and what was lost of it (levels.NOTES), or a cause."""

    hash: str = ""
    notes: tuple[str, ...] = ()
    cause: str = ""


def prepare(partial: Path, plan: str, slots: list[Slot]) -> Path:
    """Return the journal that an interrupted call with the same plan left, or an empty one beside empty arrays."""
    refuse_odd(partial, folder=True)
    journal = partial / f"journal-{plan[:16]}.jsonl"
    lengths = {split: sum(slot.length for slot in slots if slot.clip.split == split) for split in SPLITS}
    if journal.is_file() and all(_is_array(_array(partial, split), length) for split, length in lengths.items()):
        return journal
    if partial.exists() and (others := sorted(p.name for p in partial.iterdir() if not _OURS.fullmatch(p.name))):
        raise UserError(f"{partial}: holds {others[0]!r}, which no pack has; move it away")
    shutil.rmtree(partial, ignore_errors=True)
    # two bytes a sample; the arrays are created as holes, so that the system would not notice in time
    require_space(partial, 2 * sum(lengths.values()))
    partial.mkdir(parents=True)
    for split, length in lengths.items():
        np.lib.format.open_memmap(_array(partial, split), mode="w+", dtype=np.int16, shape=(length,))
    # last: a folder without it was not prepared to the end
    journal.touch()
    return journal


def fill(partial: Path, slots: list[Slot], sample_rate: int, journal: Path, progress: Progress) -> dict[str, Done]:
    """Decode what the journal does not list yet into the arrays; return all that it lists then, by the clips' keys.

    `progress` takes seconds of sound. Raises MachineFault if a recording can't be read for a reason not its own.
    """
    headers = {split: np.load(_array(partial, split), mmap_mode="r").offset for split in SPLITS}
    with _opened(partial) as files:

        def place(slot: Slot) -> tuple[int, int]:
            return files[slot.clip.split], headers[slot.clip.split] + 2 * slot.start

        def work(slot: Slot) -> tuple[Slot, Done]:
            return slot, _decode_into(*place(slot), slot, sample_rate)

        def compare(slot: Slot) -> tuple[Slot, bool]:
            return slot, done[slot.clip.key].cause != "" or _hash_of(*place(slot), slot) == done[slot.clip.key].hash

        # failures are not tried again: the plan changes with a recording's size or time, and the journal with it
        done = _read(journal)
        with in_threads(compare, [slot for slot in slots if slot.clip.key in done]) as compared:
            for slot, is_same in compared:
                if not is_same:
                    del done[slot.clip.key]
        todo = [slot for slot in slots if slot.clip.key not in done]
        total = sum(slot.info.seconds for slot in slots)
        seconds = total - sum(slot.info.seconds for slot in todo)
        with _Journal(journal, files.values()) as log, in_threads(work, todo) as results:
            for slot, value in results:
                done[slot.clip.key] = value
                log.note(slot.clip.key, value)
                seconds += slot.info.seconds
                progress(seconds, total)
    return done


def _array(partial: Path, split: str) -> Path:
    return partial / f"{split}.npy"


def _is_array(path: Path, length: int) -> bool:
    """Return whether a file is the array that is created for so many samples, to the byte, but for the samples."""
    head = io.BytesIO()
    values = np.broadcast_to(np.int16(0), (length,))
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(values))
    header = head.getvalue()
    # to open a pipe would wait
    if not path.is_file() or path.stat().st_size != len(header) + 2 * length:
        return False
    with path.open("rb") as file:
        return file.read(len(header)) == header


@contextmanager
def _opened(partial: Path) -> Iterator[dict[str, int]]:
    files: dict[str, int] = {}
    try:
        for split in SPLITS:
            files[split] = os.open(_array(partial, split), os.O_RDWR)
        yield files
    finally:
        for file in files.values():
            os.close(file)


def _decode_into(file: int, offset: int, slot: Slot, sample_rate: int) -> Done:
    """Decode a recording into its place, in memory that does not grow with it."""
    notes: list[str] = []
    found, written = hashlib.blake2b(digest_size=16), 0
    try:
        for data in _decoded(slot, sample_rate, notes):
            # written, not mapped: a full disk is then an error, not a crash, and memory stays flat
            _write_at(file, data, offset + written)
            found.update(data)
            written += len(data)
    except AudioError as error:
        # what is not used is empty, so that a pack does not depend on how far it came
        for at in range(0, written, _BLOCK):
            _write_at(file, bytes(min(_BLOCK, written - at)), offset + at)
        return Done(cause=str(error))
    return Done(found.hexdigest(), tuple(notes))


def _decoded(slot: Slot, sample_rate: int, notes: list[str]) -> Iterator[bytes]:
    recording = slot.clip.recording
    with resume_later(recording):
        for piece in pieces(recording, slot.info, sample_rate, notes):
            yield piece.astype("<i2", copy=False).tobytes()


def _write_at(file: int, data: bytes, offset: int) -> None:
    """Write all of `data`: a single pwrite may write less. It moves no file position that threads would share."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _hash_of(file: int, offset: int, slot: Slot) -> str:
    """Hash the samples that are in a recording's place."""
    found, left = hashlib.blake2b(digest_size=16), 2 * slot.length
    while left and (data := os.pread(file, min(left, _BLOCK), offset)):
        found.update(data)
        left, offset = left - len(data), offset + len(data)
    return found.hexdigest()


def _read(journal: Path) -> dict[str, Done]:
    """Read a journal, without a last line that a killed process left unfinished, which is cut off."""
    complete, end, _ = journal.read_bytes().rpartition(b"\n")
    os.truncate(journal, len(complete + end))
    done = {}
    for line in complete.splitlines():
        # a line that was spoiled is a recording that is done again
        with suppress(ValueError, TypeError):
            key, value, notes = json.loads(line)
            if isinstance(key, str) and isinstance(value, str):
                done[key] = Done(cause=value[1:]) if value.startswith("!") else Done(value, tuple(map(str, notes)))
    return done


class _Journal:
    """Notes what is done, once its samples are on the disk, for which nothing that is decoded meanwhile has to wait."""

    def __init__(self, path: Path, arrays: Iterable[int]) -> None:
        self._file, self._arrays = path.open("ab", buffering=0), list(arrays)
        self._thread, self._writing = ThreadPoolExecutor(1), Future[None]()
        self._writing.set_result(None)
        self._waiting: list[bytes] = []

    def note(self, key: str, done: Done) -> None:
        """Add a line, now or together with those that come while others are written."""
        value = f"!{done.cause}" if done.cause else done.hash
        self._waiting.append(json.dumps([key, value, done.notes]).encode() + b"\n")
        if self._writing.done():
            self._write_waiting()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # what is done is noted whatever ended the work, unless that fails, too
        try:
            self._write_waiting()
            self._writing.result()
        except OSError:
            if error is None:
                raise
        finally:
            self._thread.shutdown()
            self._file.close()

    def _write_waiting(self) -> None:
        self._writing.result()
        lines, self._waiting = b"".join(self._waiting), []
        self._writing = self._thread.submit(self._write, lines)

    def _write(self, lines: bytes) -> None:
        for array in self._arrays:
            os.fsync(array)
        self._file.write(lines)
        os.fsync(self._file.fileno())
