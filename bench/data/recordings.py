"""Open a recording to be read forward to its end: every format that libsndfile knows, and every part of a joined file.

What goes wrong is told apart: a recording that is at fault is an AudioError, and is left out; a machine that is at
fault (the disk, too few file handles, missing rights) is an OSError, and nothing is concluded about the recording.
"""

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import soundfile as sf

from bench.data import ffmpeg
from bench.data.containers import Part, Plain, parts_of
from bench.data.dataset import AudioError, Recording

__all__ = ["BLOCK", "Sound", "Unreadable", "open_any", "open_recording"]

# Samples of all channels that are decoded at a time: 4 MB of float32.
BLOCK = 1 << 20
# Sample rates in Hz that sound is recorded at, from seismic sensors to ultrasound. Beyond, a header is nonsense, and a
# few bytes would become hours.
_RATES = (1_000, 10_000_000)
# Encodings that are decoded to integers of at most 16 bits, and so lose nothing in a pack.
_COARSE = frozenset([
    "PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "VOX_ADPCM", "NMS_ADPCM_16",
    "NMS_ADPCM_24", "NMS_ADPCM_32", "G721_32", "G723_24", "G723_40", "DWVW_12", "DWVW_16", "DPCM_8", "DPCM_16",
    "ALAC_16",
])  # fmt: skip
# Those that are decoded to floats, which may be louder than full scale.
_FLOATS = frozenset(["FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"])
# Frames that a byte is believed to hold, of all that its format can squeeze into one: of a header that tells of more,
# the length is counted. Nothing decodes to more than the second.
_BELIEVED, _POSSIBLE = 1 << 10, 1 << 14
# Bytes of a recording in an archive, which are unpacked into memory.
_LARGEST_MEMBER = 128 << 20
_UNKNOWN = 0x7FFF_FFFF_FFFF_FFFF  # libsndfile's number of frames where it knows none
# No file can be there.
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_SHORT = "it became shorter while it was read"


class Unreadable(AudioError):
    """libsndfile does not read this format."""


class Sound:
    """A recording that is open: its samples come forward, in pieces.

    Attributes:
        sample_rate: In Hz.
        declared: Its length as its header has it, in frames; None if it has none.
        frames: Its length; None if nothing but decoding tells it: the header is not to be believed.
        is_float: Whether samples can be louder than full scale.
        is_fine: Whether samples have more than 16 bits.
    """

    def __init__(self, parts: "Iterable[Callable[[ExitStack], _Source]]", size: int, stack: ExitStack) -> None:
        """Open a recording of `size` bytes by its parts, one after the other, until the stack is closed.

        Raises AudioError if they do not go together.
        """
        self._parts, self._stack = list(parts), stack.enter_context(ExitStack())
        self._source = first = self._parts[0](self._stack)
        self.sample_rate, self.channels = first.file.samplerate, first.file.channels
        sources = [first]
        for part in self._parts[1:]:
            with ExitStack() as look:
                sources.append(part(look))
        self._opened, self._done, self._most = 1, 0, size * _POSSIBLE
        for other in sources:
            if (other.file.samplerate, other.file.channels) != (self.sample_rate, self.channels):
                raise AudioError("joined of files with different sample rates or channels; convert or split it")
        if not _RATES[0] <= self.sample_rate <= _RATES[1]:
            raise AudioError(f"a sample rate of {self.sample_rate} Hz; {_RATES[0]:,} to {_RATES[1]:,} are possible")
        subtypes = {source.file.subtype for source in sources}
        self.is_float, self.is_fine = bool(subtypes & _FLOATS), bool(subtypes - _COARSE)
        # 16-bit recordings as they are: libsndfile takes longer to make floats of them than numpy
        self._dtype = "int16" if subtypes == {"PCM_16"} else "float32"
        frames = sum(source.frames for source in sources)
        is_declared = all(source.is_counted and source.frames < _UNKNOWN for source in sources)
        self.declared = frames if is_declared else None
        self.frames = frames if is_declared and frames <= size * _BELIEVED else None

    def read(self, frames: int) -> npt.NDArray[Any]:
        """Return the next samples, (n, channels), int16 or float32: `frames` of them, or less at the end."""
        found = self._source.read(frames, self._dtype)
        while len(found) < frames and self._opened < len(self._parts):
            self._stack.close()
            self._source = self._parts[self._opened](self._stack)
            self._opened += 1
            found = np.concatenate([found, self._source.read(frames - len(found), self._dtype)])
        self._done += len(found)
        # a decoder that lost its way may never end
        if self._done > self._most:
            raise AudioError("damaged: it decodes to more than its bytes can hold")
        return found

    def has_more(self) -> bool:
        """Return whether there are samples left."""
        try:
            return len(self.read(1)) > 0
        # a tag, or whatever else follows the last of them
        except sf.LibsndfileError:
            return False

    def pieces(self) -> Iterator[npt.NDArray[Any]]:
        """Yield all samples that are left, some at a time."""
        while len(found := self.read(max(1, BLOCK // self.channels))):
            yield found


@contextmanager
def open_recording(recording: Recording, *, whole: bool = True) -> Iterator[Sound]:
    """Open a recording that libsndfile reads; `whole` tells that all of it will be read, not its header only.

    Raises AudioError if it is missing, no file, or no sound, and OSError if it can't be read.
    """
    with _explain_errors(recording), ExitStack() as stack:
        size = _size(recording)
        file = stack.enter_context(_open_bytes(recording, whole))
        parts = [partial(_open_part, file, part) for part in parts_of(file, size)]
        yield Sound(parts, size, stack)


@contextmanager
def open_any(path: Path) -> Iterator[Sound]:
    """Open a file that libsndfile or ffmpeg reads; errors are those of `open_recording` and `ffmpeg.stream`."""
    if path.suffix.lower() == ".raw":
        raise AudioError("a .raw file does not tell its sample rate")
    with ExitStack() as stack:
        sound = None
        # by the suffix first: AAC begins like MP3, and libsndfile would search it for frames of that
        if path.suffix.lower() not in ffmpeg.SUFFIXES:
            try:
                sound = stack.enter_context(open_recording(path))
            except Unreadable:
                if not ffmpeg.is_installed():
                    raise
        yield sound or stack.enter_context(_open_by_ffmpeg(path))


@contextmanager
def _open_by_ffmpeg(path: Path) -> Iterator[Sound]:
    with _explain_errors(path):
        size = _size(path)
        with path.open("rb") as file:
            parts_of(file, size)
        with ffmpeg.stream(path) as stream, ExitStack() as stack:
            yield Sound([lambda _: _Source(stream, None, is_counted=False)], size, stack)


class _ForwardFile(sf.SoundFile):  # type: ignore[misc]  # soundfile has no types
    # where it can, soundfile seeks after every read to the place where it is already: MP3 and Opus decoders lose their
    # state by that, and the next samples are others than in one piece, if not a click. Some formats can't be sought.
    def seekable(self) -> bool:
        return False


class _Source:
    """A part of a recording that is open; `data` are the bytes that libsndfile reads, if those are ours."""

    def __init__(
        self, file: "sf.SoundFile | _PlainFile", data: "_Bytes | None", *, is_counted: bool, frames: int | None = None
    ) -> None:
        self.file, self.is_counted, self._data = file, is_counted, data
        self.frames: int = file.frames if frames is None else frames

    def read(self, frames: int, dtype: str) -> npt.NDArray[Any]:
        try:
            found: npt.NDArray[Any] = self.file.read(frames, dtype=dtype, always_2d=True)
        finally:
            # libsndfile takes a read that fails for the end of the file
            if self._data and self._data.error:
                raise self._data.error
        return found


class _PlainFile:
    """The samples of a WAV file as they lie there, read as by a SoundFile, but faster, and no error is lost."""

    format, subtype = "WAV", "PCM_16"

    def __init__(self, file: IO[bytes], start: int, end: int, plain: Plain) -> None:
        self._file, self._at, self._width, self._order = file, start, 2 * plain.channels, plain.order
        self.samplerate, self.channels, self.frames = plain.sample_rate, plain.channels, (end - start) // self._width
        self._left = self.frames

    def read(self, frames: int, dtype: str, *, always_2d: bool) -> npt.NDArray[Any]:
        """Return (n, channels); raises OSError if there are less than were seen before."""
        frames = min(frames, self._left)
        self._file.seek(self._at)
        data = self._file.read(frames * self._width)
        if len(data) < frames * self._width:
            raise OSError(errno.EIO, _SHORT)
        self._at, self._left = self._at + len(data), self._left - frames
        found = np.frombuffer(data, f"{self._order}i2").astype(dtype, copy=False)
        return found.reshape(-1, self.channels) if always_2d else found


class _Bytes:
    """The bytes of a file from `start` up to `end`, as libsndfile asks for them; remembers what went wrong."""

    def __init__(self, file: IO[bytes], start: int, end: int, total_at: int | None = None) -> None:
        """Begin; from the byte `total_at` on, FLAC's number of frames is shown as not known."""
        self._file, self._start, self._size, self._at = file, start, end - start, 0
        self._total = range(0) if total_at is None else range(total_at - start, total_at - start + 5)
        self.error: Exception | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there are bytes. Raises nothing: an exception would be lost in C."""
        wanted = max(0, min(len(buffer), self._size - self._at))
        try:
            self._file.seek(self._start + self._at)
            data = bytearray(self._file.read(wanted))
            if len(data) < wanted:
                raise OSError(errno.EIO, _SHORT)
        except Exception as error:
            self.error = self.error or error
            return 0
        for place in range(max(self._at, self._total.start), min(self._at + len(data), self._total.stop)):
            data[place - self._at] &= 0xF0 if place == self._total.start else 0
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def write(self, data: bytes) -> int:
        """Refuse: soundfile asks for it, and never calls it for a file that is read."""
        raise io.UnsupportedOperation(f"write of {len(data)} bytes")


def _open_part(file: IO[bytes], part: Part, stack: ExitStack) -> _Source:
    """Open a part until the stack is closed."""
    if part.plain:
        return _Source(_PlainFile(file, part.start, part.end, part.plain), None, is_counted=True)
    data = _Bytes(file, part.start, part.end)
    sound = _open_from(data, data, stack)
    if part.total_at is not None and sound.frames < _UNKNOWN:
        # it stops where its header says that it ends; to notice that there is more, it is not told
        frames: int = sound.frames
        sound.close()
        data = _Bytes(file, part.start, part.end, part.total_at)
        return _Source(_open_from(data, data, stack), data, is_counted=part.is_counted, frames=frames)
    if sound.format != "MP3" or (part.is_mpeg and part.is_counted):
        return _Source(sound, data, is_counted=part.is_counted)
    # of a pipe alone libsndfile believes that the length of MPEG audio is not known; else it guesses, and stops there
    sound.close()
    data = _Bytes(file, part.start, part.end)
    end = stack.enter_context(_pipe(data))
    return _Source(_open_from(end, data, stack), data, is_counted=False)


def _open_from(file: "_Bytes | int", data: "_Bytes", stack: ExitStack) -> _ForwardFile:
    """Open bytes, or the end of a pipe into which they go, until the stack is closed. Raises what ails them."""
    try:
        return stack.enter_context(_ForwardFile(file, closefd=False))
    finally:
        # whether libsndfile took it for the end of a file, or for an odd one
        if data.error:
            raise data.error


@contextmanager
def _pipe(data: _Bytes) -> Iterator[int]:
    """Yield the end of a pipe into which a thread writes the bytes."""
    reads, writes = os.pipe()

    def write() -> None:
        buffer = bytearray(1 << 16)
        # whoever leaves early closes the other end
        with suppress(BrokenPipeError), os.fdopen(writes, "wb", buffering=0) as pipe:
            while count := data.readinto(buffer):
                pipe.write(buffer[:count])

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield reads
    finally:
        os.close(reads)
        thread.join()


@contextmanager
def _open_bytes(recording: Recording, whole: bool) -> Iterator[IO[bytes]]:
    if isinstance(recording, Path) or not whole:
        with recording.open("rb") as file:
            yield file
    else:
        yield io.BytesIO(recording.read_bytes())


def _size(recording: Recording) -> int:
    """Return how many bytes a recording has. Raises AudioError if it is no plain file: to open a pipe would wait."""
    found = recording.stat()
    if isinstance(recording, Path):
        if not stat.S_ISREG(found.st_mode):
            raise AudioError("not a plain file")
    elif found.st_size > _LARGEST_MEMBER:
        raise AudioError(f"{found.st_size / 1e6:,.0f} MB, too much for a file in an archive: unpack that")
    return found.st_size


@contextmanager
def _explain_errors(recording: Recording) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _MISSING:
            raise AudioError("missing") from None
        if error.errno:
            error.filename = error.filename or str(recording)
        raise
    except sf.LibsndfileError as error:
        raise Unreadable(f"unreadable: {error.error_string.strip()}") from None
