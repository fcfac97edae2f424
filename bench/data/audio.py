"""Probe and decode any sound file, to the samples that a pack holds: int16, mono, at the pack's sample rate.

`decode` takes a recording in one piece, which is fastest; `blocks` reads a file of any length in memory that does not
grow with it. Both give the same samples, bit for bit, so that a model hears in a file what it was trained on. Packs
are made of what libsndfile reads; `blocks` also takes what only ffmpeg does.
"""

import io
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from bench.data import ffmpeg
from bench.data.dataset import AudioError, AudioInfo, Clip, Recording

__all__ = ["BLOCK", "CHUNK_SECONDS", "Samples", "blocks", "decode", "packed_length", "probe", "probe_all", "probe_file",
           "sound_files", "spectrogram", "windows"]  # fmt: skip

Samples = npt.NDArray[np.int16]
# What a model hears at once. Shorter recordings are repeated up to it, so that every chunk is a plain slice.
CHUNK_SECONDS = 1
# Samples of all channels that `blocks` decodes at a time: 4 MB of float32.
BLOCK = 1 << 20
# Of what libsndfile reads; a .raw file does not tell its sample rate.
_SUFFIXES = frozenset([
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".voc",
    ".w64", ".wav", ".wave",
])  # fmt: skip
# Of a spectrogram: short enough for onsets, long enough for harmonics. The hop is half of it.
_WINDOW_SECONDS = 0.032


def probe(recording: Recording) -> AudioInfo:
    """Read a recording's header. Raises AudioError if it is missing, unreadable, empty, or shorter than declared."""
    with _explain_errors(), recording.open("rb") as file:
        _require_declared(recording, file)
        file.seek(0)
        info = sf.info(_file_name(recording) or file)
    return _require_samples(AudioInfo(info.frames, info.samplerate))


def probe_all(clips: Iterable[Clip]) -> Iterator[AudioInfo | AudioError]:
    """Probe many recordings at a time, in order; yield the error of one that cannot be used in its place."""

    def attempt(clip: Clip) -> AudioInfo | AudioError:
        try:
            return probe(clip.recording)
        except AudioError as error:
            return error

    with ThreadPoolExecutor() as pool:
        yield from pool.map(attempt, clips)


def probe_file(path: Path) -> AudioInfo:
    """Probe a file that a user named; the messages of AudioError also fit one that is no sound at all.

    What libsndfile does not read is decoded by ffmpeg, to the end.
    """
    if not path.is_file():
        raise AudioError("a folder without sound files" if path.is_dir() else "no such file")
    try:
        return _probe_by_ffmpeg(path) if ffmpeg.needed(path) else probe(path)
    except TypeError:
        # soundfile goes by the suffix: it asks for the format of a .raw file, which has no header
        raise AudioError("cannot be read as audio (a .raw file does not tell its sample rate)") from None
    except AudioError as error:
        raise AudioError(f"cannot be read as audio ({error})") from None


def sound_files(folder: Path) -> list[Path]:
    """Return all sound files in a folder, at any depth, sorted: by their suffixes; what is hidden is left out."""
    suffixes = _SUFFIXES | ffmpeg.SUFFIXES
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


def decode(recording: Recording, sample_rate: int, length: int) -> Samples:
    """Decode a recording in one piece, to `length` samples at `sample_rate` Hz; what is shorter is repeated.

    Raises AudioError if it can't be read, is shorter than its header declares, or holds samples that are not finite.
    """
    with _explain_errors(), sf.SoundFile(_file_name(recording) or io.BytesIO(recording.read_bytes())) as file:
        info = AudioInfo(file.frames, file.samplerate)
        # 16-bit recordings as they are: libsndfile takes longer to make floats of them than numpy
        x = file.read(dtype="int16" if file.subtype == "PCM_16" else "float32", always_2d=True)
    if len(x) < info.frames or not len(x):
        raise AudioError(f"truncated: {len(x)} frames of {info.frames}")
    mono = _downmix(x)
    if info.sample_rate != sample_rate:
        mono = soxr.resample(mono, info.sample_rate, sample_rate, quality="HQ")
    samples = _round(mono)
    # the resampler may end a sample early or late; the length must be that of the layout, made from the header
    resampled = _resampled_length(info, sample_rate)
    samples = np.pad(samples[:resampled], (0, max(0, resampled - len(samples))))
    return np.resize(samples, length)


def blocks(
    path: Path, sample_rate: int, least: float = CHUNK_SECONDS, info: AudioInfo | None = None
) -> Iterator[Samples]:
    """Decode a file in pieces that joined are what `decode` returns, at `sample_rate` Hz.

    A file shorter than `least` seconds is repeated up to them, and comes in one piece. `info` is what `probe_file`
    found, if known. Raises AudioError as `decode`; what is wrong further on in the file is found only there.
    """
    info = info or probe_file(path)
    length = packed_length(info, sample_rate, least)
    with _explain_errors(), _open(path) as file:
        pieces = _decode_pieces(file, info, sample_rate)
        if length > _resampled_length(info, sample_rate):
            yield np.resize(np.concatenate(list(pieces)), length)
        else:
            yield from pieces


def packed_length(info: AudioInfo, sample_rate: int, least: float = CHUNK_SECONDS) -> int:
    """Return a recording's length in samples at `sample_rate`, repeated up to `least` seconds."""
    return max(_resampled_length(info, sample_rate), round(least * sample_rate))


def windows(pieces: Iterable[Samples], starts: npt.NDArray[np.int64], size: int) -> Iterator[Samples]:
    """Cut windows of `size` samples, which may overlap, from samples that come in pieces.

    `starts` are their first samples, ascending; yields (m, size), the m windows that one more piece completes.
    """
    # `rest` holds what later windows need of the pieces so far; it begins with sample number `first`
    rest, first, done = np.empty(0, dtype=np.int16), 0, 0
    for piece in pieces:
        rest = np.concatenate([rest, piece])
        ready = int(np.searchsorted(starts, first + len(rest) - size, side="right"))
        if ready > done:
            yield np.lib.stride_tricks.sliding_window_view(rest, size)[starts[done:ready] - first]
            done = ready
        # the rest is not even decoded
        if done == len(starts):
            break
        used = min(starts[done] - first, len(rest))
        rest, first = rest[used:], first + used


def spectrogram(
    path: Path, info: AudioInfo, sample_rate: int, columns: int, least: float = CHUNK_SECONDS
) -> npt.NDArray[np.float64]:
    """Compute a file's spectrogram at the width of a figure: the mean power in at most `columns` equal parts of it.

    Windows of 32 ms (Hann) overlap by half; files and errors are as in `blocks`. Returns (frequencies, columns), power
    from 0 Hz to half the sample rate, full scale being 1.
    """
    size = 2 * round(_WINDOW_SECONDS * sample_rate / 2)
    starts = np.arange(0, packed_length(info, sample_rate, least) - size + 1, size // 2)
    columns = min(columns, len(starts))
    # each window's column; summed up window by window, so that hours of sound take no more memory than seconds
    column = np.arange(len(starts)) * columns // len(starts)
    power, done = np.zeros((columns, size // 2 + 1)), 0
    for frames in windows(blocks(path, sample_rate, least, info), starts, size):
        spectra = np.abs(np.fft.rfft(frames / 32768 * np.hanning(size))) ** 2
        found, first = np.unique(column[done : done + len(frames)], return_index=True)
        power[found] += np.add.reduceat(spectra, first, axis=0)
        done += len(frames)
    return (power / np.bincount(column)[:, None]).T


@contextmanager
def _explain_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise AudioError("missing") from None
    except OSError as error:
        raise AudioError(f"unreadable: {error.strerror}") from None
    except sf.LibsndfileError as error:
        raise AudioError(f"unreadable: {error.error_string.strip()}") from None


def _probe_by_ffmpeg(path: Path) -> AudioInfo:
    with _explain_errors(), path.open("rb") as file:
        _require_declared(path, file)
    return _require_samples(ffmpeg.probe(path))


def _open(path: Path) -> AbstractContextManager[sf.SoundFile]:
    return ffmpeg.stream(path) if ffmpeg.needed(path) else _ForwardFile(path)


class _ForwardFile(sf.SoundFile):  # type: ignore[misc]  # soundfile has no types
    # where it can, soundfile seeks after every read to the place where it is already: MP3 and Opus decoders lose their
    # state by that, and the next samples are others than in one piece, if not a click
    def seekable(self) -> bool:
        return False


def _decode_pieces(file: sf.SoundFile, info: AudioInfo, sample_rate: int) -> Iterator[Samples]:
    done, left = 0, _resampled_length(info, sample_rate)
    # in pieces it gives the same samples, to the last bit, as soxr.resample does in one
    resampler = soxr.ResampleStream(info.sample_rate, sample_rate, 1, dtype="float32", quality="HQ")
    while done < max(info.frames, 1):
        x = file.read(max(1, min(BLOCK // file.channels, info.frames - done)), dtype="float32", always_2d=True)
        done += len(x)
        if not len(x):
            raise AudioError(f"truncated: {done} frames of {info.frames}")
        mono = _downmix(x)
        if info.sample_rate != sample_rate:
            mono = resampler.resample_chunk(mono, last=done >= info.frames)
        samples = _round(mono)[:left]
        left -= len(samples)
        yield samples
    yield np.zeros(left, dtype=np.int16)


def _downmix(x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Average the channels of (n, channels), int16 or float32; return floats in steps of 16 bits, (n,)."""
    if x.dtype != np.int16 and not np.isfinite(x).all():
        raise AudioError("samples that are not finite")
    # one way for every format, so that 24-bit, float and stereo sources are rounded once, at the end
    mono = x[:, 0].astype(np.float32) if x.shape[1] == 1 else x.mean(axis=1, dtype=np.float32)
    if x.dtype != np.int16:
        mono *= 32768
    return mono


def _round(mono: npt.NDArray[np.float32]) -> Samples:
    # clipped before the cast, which would wrap: a resampler overshoots at full scale
    return np.clip(np.rint(mono, out=mono), -32768, 32767, out=mono).astype(np.int16)


def _resampled_length(info: AudioInfo, sample_rate: int) -> int:
    return max(1, round(info.frames * sample_rate / info.sample_rate))


def _file_name(recording: Recording) -> str | None:
    """Return the name of a recording that is a file: by name libsndfile reads it itself, a fifth faster."""
    return str(recording) if isinstance(recording, Path) else None


def _require_declared(recording: Recording, file: IO[bytes]) -> None:
    # libsndfile takes a truncated file for a shorter one, so that a broken download would go unnoticed
    size, declared = recording.stat().st_size, _declared_bytes(file)
    if size < declared:
        raise AudioError(f"truncated: {size} bytes of {declared}")


def _require_samples(info: AudioInfo) -> AudioInfo:
    if info.frames < 1:
        raise AudioError("empty: no samples")
    return info


def _declared_bytes(file: IO[bytes]) -> int:
    """Return how long a RIFF or RF64 file must be to hold its data chunk; 0 if the header does not declare it."""
    # Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0"; EBU Tech 3306
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
        # RF64 has its sizes, of the file and of its data chunk, in a chunk that comes first
        body = file.read(16) if name == b"ds64" else b""
        if len(body) == 16:
            long_size = struct.unpack("<QQ", body)[1]
        # chunks are padded to an even size
        file.seek(size + size % 2 - len(body), 1)
    return 0
