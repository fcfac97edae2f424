"""Any sound file as the samples that packing would make of it, in memory that does not grow with its length."""

import io
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from bench.data.dataset import AudioError, AudioInfo, Clip, Recording

CHUNK_SECONDS = 1
Samples = npt.NDArray[np.int16]

BLOCK = 1 << 20  # samples, of all channels: 4 MB as they are decoded
WINDOW_SECONDS = 0.032  # of a spectrogram; the hop is half of it


class _Forwards(sf.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """Read from front to end only.

    Where it can, soundfile seeks after every read to the place where it is already. MP3 and Opus decoders lose their
    state by that, and the next samples are others than in one piece, if not a click.
    """

    def seekable(self) -> bool:
        return False


def probe_file(path: Path) -> AudioInfo:
    """Length and sample rate from a file's header. Raises AudioError with the cause."""
    if not path.is_file():
        raise AudioError("a folder; name the files in it" if path.is_dir() else "no such file")
    try:
        return probe(path)
    except TypeError:  # soundfile goes by the name
        raise AudioError("cannot be read as audio (a .raw file does not tell its sample rate)") from None
    except AudioError as error:
        raise AudioError(f"cannot be read as audio ({error})") from None


def packed_length(info: AudioInfo, sample_rate: int, least: float = CHUNK_SECONDS) -> int:
    """In samples at `sample_rate`, `least` seconds at least."""
    return max(resampled_length(info, sample_rate), round(least * sample_rate))


def blocks(path: Path, sample_rate: int, least: float = CHUNK_SECONDS) -> Iterator[Samples]:
    """What bench.data.pack.decode gives, in pieces: int16 samples, mono; less than `least` seconds is repeated up to
    them.

    Raises:
        AudioError: as `decode` does; what is wrong further on in the file is met there.
    """
    try:
        with _Forwards(path) as file:
            info = AudioInfo(file.frames, file.samplerate)
            length = packed_length(info, sample_rate, least)
            pieces = _decode(file, info, sample_rate)
            if length > resampled_length(info, sample_rate):
                yield np.resize(np.concatenate(list(pieces)), length)
            else:
                yield from pieces
    except OSError as error:
        raise AudioError(f"unreadable: {error.strerror}") from None
    except sf.LibsndfileError as error:
        raise AudioError(f"unreadable: {error.error_string.strip()}") from None


def _decode(file: sf.SoundFile, info: AudioInfo, sample_rate: int) -> Iterator[Samples]:
    done, left = 0, resampled_length(info, sample_rate)
    # in pieces it gives the same samples, to the last bit, as soxr.resample does in one
    resampler = soxr.ResampleStream(info.sample_rate, sample_rate, 1, dtype="float32", quality="HQ")
    while done < max(info.frames, 1):
        x = file.read(max(1, min(BLOCK // file.channels, info.frames - done)), dtype="float32", always_2d=True)
        done += len(x)
        if not len(x):
            raise AudioError(f"truncated: {done} frames of {info.frames}")
        if not np.isfinite(x).all():
            raise AudioError("samples that are not finite")
        mono = x[:, 0] if x.shape[1] == 1 else x.mean(axis=1)
        if info.sample_rate != sample_rate:
            mono = resampler.resample_chunk(mono, last=done >= info.frames)
        samples = np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)[:left]
        left -= len(samples)
        yield samples
    yield np.zeros(left, dtype=np.int16)  # the resampler may end a sample early


def windows(pieces: Iterable[Samples], starts: npt.NDArray[np.int64], size: int) -> Iterator[Samples]:
    """The windows of `size` samples from each of the ascending `starts` on, as many at a time as a piece completes.

    Yields (m, size) int16.
    """
    rest, first, done = np.empty(0, dtype=np.int16), 0, 0  # `rest` begins with sample number `first`
    for piece in pieces:
        rest = np.concatenate([rest, piece])
        ready = int(np.searchsorted(starts, first + len(rest) - size, side="right"))
        if ready > done:
            yield np.lib.stride_tricks.sliding_window_view(rest, size)[starts[done:ready] - first]
            done = ready
        if done == len(starts):
            break
        used = min(starts[done] - first, len(rest))
        rest, first = rest[used:], first + used


def spectrogram(
    path: Path, info: AudioInfo, sample_rate: int, columns: int, least: float = CHUNK_SECONDS
) -> npt.NDArray[np.float64]:
    """Mean power in at most `columns` equal parts of a file: (frequencies, columns), from 0 Hz to half the sample rate.

    Less than `least` seconds is repeated, as in `blocks`.

    Raises:
        AudioError: as `blocks`.
    """
    size = 2 * round(WINDOW_SECONDS * sample_rate / 2)
    starts = np.arange(0, packed_length(info, sample_rate, least) - size + 1, size // 2)
    columns = min(columns, len(starts))
    column = np.arange(len(starts)) * columns // len(starts)  # of each window
    power, done = np.zeros((columns, size // 2 + 1)), 0
    for frames in windows(blocks(path, sample_rate, least), starts, size):
        spectra = np.abs(np.fft.rfft(frames / 32768 * np.hanning(size))) ** 2
        found, first = np.unique(column[done : done + len(frames)], return_index=True)
        power[found] += np.add.reduceat(spectra, first, axis=0)
        done += len(frames)
    return (power / np.bincount(column)[:, None]).T


def probe(recording: Recording) -> AudioInfo:
    """Length and sample rate from a recording's header. Raises AudioError with the cause."""
    try:
        size = recording.stat().st_size
        with recording.open("rb") as file:
            promised = _promised_bytes(file)
            if size < promised:
                raise AudioError(f"truncated: {size} bytes of {promised}")
            file.seek(0)
            info = sf.info(file_name(recording) or file)
    except FileNotFoundError:
        raise AudioError("missing") from None
    except OSError as error:
        raise AudioError(f"unreadable: {error.strerror}") from None
    except sf.LibsndfileError as error:
        raise AudioError(f"unreadable: {error.error_string.strip()}") from None
    if info.frames < 1:
        raise AudioError("empty: no samples")
    return AudioInfo(info.frames, info.samplerate)


def file_name(recording: Recording) -> str | None:
    """Where it has one of its own: by name libsndfile reads it itself, which is a fifth faster than through Python."""
    return str(recording) if isinstance(recording, Path) else None


def _promised_bytes(file: IO[bytes]) -> int:
    """How long a RIFF or RF64 file must be to hold its data chunk; 0 where the header does not tell.

    libsndfile takes a truncated file for a shorter one, so that a broken download would go unnoticed.
    """
    long_size = 0
    riff, _, wave = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
    if riff not in (b"RIFF", b"RF64") or wave != b"WAVE":
        return 0
    while len(header := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", header)
        if name == b"data":
            if riff == b"RF64":
                return file.tell() + long_size
            # a size near 2 or 4 GiB stands for a length that was not known yet when a stream was written
            return 0 if size >= 0x7FFFF000 else file.tell() + size
        body = file.read(16) if name == b"ds64" else b""
        if len(body) == 16:
            long_size = struct.unpack("<QQ", body)[1]  # sizes of the file and of its data chunk
        file.seek(size + size % 2 - len(body), 1)
    return 0


def probe_all(clips: Iterable[Clip]) -> Iterator[AudioInfo | AudioError]:
    """Probe many recordings, in order; a bad one is returned as its error."""

    def attempt(clip: Clip) -> AudioInfo | AudioError:
        try:
            return probe(clip.recording)
        except AudioError as error:
            return error

    with ThreadPoolExecutor() as pool:
        yield from pool.map(attempt, clips)


def resampled_length(info: AudioInfo, sample_rate: int) -> int:
    return max(1, round(info.frames * sample_rate / info.sample_rate))


def decode(recording: Recording, sample_rate: int, length: int) -> Samples:
    """A recording as `length` int16 samples, mono, at `sample_rate`; repeated if it is shorter.

    Raises:
        AudioError: it cannot be read, is shorter than its header says, or holds samples that are not finite.
    """
    try:
        with sf.SoundFile(file_name(recording) or io.BytesIO(recording.read_bytes())) as file:
            frames, rate = file.frames, file.samplerate
            # 16-bit recordings as they are: libsndfile takes longer to make floats of them than numpy
            x = file.read(dtype="int16" if file.subtype == "PCM_16" else "float32", always_2d=True)
    except OSError as error:
        raise AudioError(f"unreadable: {error.strerror}") from None
    except sf.LibsndfileError as error:
        raise AudioError(f"unreadable: {error.error_string.strip()}") from None
    if len(x) < frames or not len(x):
        raise AudioError(f"truncated: {len(x)} frames of {frames}")
    if x.dtype != np.int16 and not np.isfinite(x).all():
        raise AudioError("samples that are not finite")
    # one way for every format: floats in steps of 16 bits, so that 24-bit, float and stereo sources are rounded once
    mono = x[:, 0].astype(np.float32) if x.shape[1] == 1 else x.mean(axis=1, dtype=np.float32)
    if x.dtype != np.int16:
        mono *= 32768
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
    np.rint(mono, out=mono)
    samples = np.clip(mono, -32768, 32767, out=mono).astype(np.int16)
    own_length = resampled_length(AudioInfo(frames, rate), sample_rate)
    # the resampler may end a sample early or late
    samples = np.pad(samples[:own_length], (0, max(0, own_length - len(samples))))
    return np.resize(samples, length)
