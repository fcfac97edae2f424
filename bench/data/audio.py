"""Probe and decode any sound file, to the samples that a pack holds: int16, mono, at the pack's sample rate.

There is one way from a file to samples, in pieces, in memory that does not grow with it: `pieces` for packs, which are
made of what libsndfile reads, and `blocks` for files that a user names, which ffmpeg may read, too. Both give the same
samples, bit for bit, so that a model hears in a file what it was trained on. A length is what is decoded; a header is
believed where its format stores a true one, and decoding fails where it lied.
"""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from bench.data import ffmpeg
from bench.data.dataset import AudioError, AudioInfo, Clip, Recording
from bench.data.levels import Levels, Samples
from bench.data.recordings import BLOCK, Sound, open_any, open_recording
from bench.disk import machine_fault
from bench.errors import MachineFault

__all__ = ["BLOCK", "CHUNK_SECONDS", "Samples", "blocks", "decode", "packed_length", "pieces", "probe", "probe_all",
           "probe_file", "resume_later", "sound_files", "spectrogram", "spectrogram_of", "windows"]  # fmt: skip

# What a model hears at once. Shorter recordings are repeated up to it, so that every chunk is a plain slice.
CHUNK_SECONDS = 1
# Samples of all channels up to which packing decodes a recording in one piece, which is fastest: 32 MB of float32.
_ONE_PIECE = 8 << 20
# Of what libsndfile reads; a .raw file does not tell its sample rate.
_SUFFIXES = frozenset([
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".voc",
    ".w64", ".wav", ".wave",
])  # fmt: skip
# Of a spectrogram: short enough for onsets, long enough for harmonics. The hop is half of it.
_WINDOW_SECONDS = 0.032


def probe(recording: Recording) -> AudioInfo:
    """Return a recording's length and sample rate: from its header, or by decoding it where only that tells.

    Raises AudioError if it is missing, unreadable, empty, or shorter than declared, and OSError if it can't be read.
    """
    with open_recording(recording, whole=False) as sound:
        return _info_of(sound)


def probe_all(clips: Iterable[Clip]) -> Iterator[AudioInfo | AudioError]:
    """Probe many recordings at a time, in order; yield the error of one that cannot be used in its place.

    Raises MachineFault if one can't be read for a reason that is not its own.
    """

    def attempt(clip: Clip) -> AudioInfo | AudioError:
        try:
            with resume_later(clip.recording):
                return probe(clip.recording)
        except AudioError as error:
            return error

    left = iter(clips)
    with ThreadPoolExecutor() as pool:
        # some at a time: each takes a kilobyte while it waits, and a table may list millions
        while some := list(itertools.islice(left, 1024)):
            found = pool.map(attempt, (clip for clip in some if not clip.is_missing))
            yield from (AudioError("missing") if clip.is_missing else next(found) for clip in some)


def probe_file(path: Path) -> AudioInfo:
    """Probe a file that a user named; the messages of AudioError also fit one that is no sound at all.

    What libsndfile does not read is decoded by ffmpeg, to the end.
    """
    if path.is_dir() or not path.exists():
        raise AudioError("a folder without sound files" if path.is_dir() else "no such file")
    try:
        with open_any(path) as sound:
            return _info_of(sound)
    except AudioError as error:
        raise AudioError(f"cannot be read as audio ({error})") from None


def sound_files(folder: Path) -> list[Path]:
    """Return all sound files in a folder, at any depth, sorted: by their suffixes; what is hidden is left out."""
    suffixes = _SUFFIXES | ffmpeg.SUFFIXES
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


def decode(recording: Recording, sample_rate: int, length: int) -> Samples:
    """Decode a recording to `length` samples at `sample_rate` Hz; what is shorter is repeated. Raises as `pieces`."""
    return np.resize(np.concatenate(list(pieces(recording, probe(recording), sample_rate))), length)


def pieces(
    recording: Recording, info: AudioInfo, sample_rate: int, notes: list[str] | None = None
) -> Iterator[Samples]:
    """Decode a recording as a pack holds it, in one piece or, where it is long, several.

    It is at least CHUNK_SECONDS long: what is shorter is repeated. `info` is what `probe` found. At the end `notes` has
    what was lost, of levels.NOTES. Raises AudioError if it can't be decoded, has another length than `info` says, or
    samples that are not finite, and OSError if it can't be read.
    """
    with open_recording(recording) as sound:
        if info.frames * sound.channels <= _ONE_PIECE:
            yield from _repeated(_heard(sound, info, sample_rate, _ONE_PIECE, notes), info, sample_rate, CHUNK_SECONDS)
            return
        info = _with_peak(sound, info)
    # anew, as what has been read is gone
    with open_recording(recording) as sound:
        yield from _heard(sound, info, sample_rate, BLOCK, notes)


def blocks(
    path: Path, sample_rate: int, least: float = CHUNK_SECONDS, info: AudioInfo | None = None
) -> Iterator[Samples]:
    """Decode a file in pieces that joined are what a pack of it holds, at `sample_rate` Hz.

    A file shorter than `least` seconds is repeated up to them, and comes in one piece. `info` is what `probe_file`
    found, if known. Raises AudioError and OSError as `pieces`; what is wrong further on in a file is found only there.
    """
    info = info or probe_file(path)
    if info.peak is None:
        with open_any(path) as sound:
            info = _with_peak(sound, info)
    with open_any(path) as sound:
        yield from _repeated(_heard(sound, info, sample_rate, BLOCK), info, sample_rate, least)


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
    """Compute a file's spectrogram as `spectrogram_of` does; files and errors are as in `blocks`."""
    length = packed_length(info, sample_rate, least)
    return spectrogram_of(blocks(path, sample_rate, least, info), length, sample_rate, columns)


def spectrogram_of(pieces: Iterable[Samples], length: int, sample_rate: int, columns: int) -> npt.NDArray[np.float64]:
    """Compute a spectrogram at the width of a figure: the mean power in at most `columns` equal parts of `length`.

    Windows of 32 ms (Hann) overlap by half. Returns (frequencies, columns), power from 0 Hz to half the sample rate,
    full scale being 1.
    """
    size = 2 * round(_WINDOW_SECONDS * sample_rate / 2)
    starts = np.arange(0, length - size + 1, size // 2)
    columns = min(columns, len(starts))
    # each window's column; summed up window by window, so that hours of sound take no more memory than seconds
    column = np.arange(len(starts)) * columns // len(starts)
    power, done = np.zeros((columns, size // 2 + 1)), 0
    for frames in windows(pieces, starts, size):
        spectra = np.abs(np.fft.rfft(frames / 32768 * np.hanning(size))) ** 2
        found, first = np.unique(column[done : done + len(frames)], return_index=True)
        power[found] += np.add.reduceat(spectra, first, axis=0)
        done += len(frames)
    return (power / np.bincount(column)[:, None]).T


@contextmanager
def resume_later(recording: Recording) -> Iterator[None]:
    """Raise MachineFault for an OSError: nothing is concluded about a recording that could not be read."""
    try:
        yield
    except OSError as error:
        if fault := machine_fault(error):
            raise fault from None
        again = "the recording may be good; see that it can be read, and run the same command again"
        raise MachineFault(f"{error.filename or recording}: {error.strerror or error}; {again}") from None


def _info_of(sound: Sound) -> AudioInfo:
    frames, peak = sound.frames, None
    if frames is None:
        frames, peak = 0, 0.0
        for x in sound.pieces():
            frames, peak = frames + len(x), max(peak, _largest(x))
    if sound.declared is not None and frames < sound.declared:
        raise AudioError(f"truncated: {frames} frames of {sound.declared}")
    if frames < 1:
        raise AudioError("empty: no samples")
    return AudioInfo(frames, sound.sample_rate, peak if sound.is_float else None)


def _with_peak(sound: Sound, info: AudioInfo) -> AudioInfo:
    """Add the peak, for which a recording in floats has to be decoded; no other can be over full scale."""
    if info.peak is not None or not sound.is_float:
        return info
    return replace(info, peak=max(map(_largest, sound.pieces()), default=0.0))


def _largest(x: npt.NDArray[Any]) -> float:
    return max(float(x.max(initial=0)), -float(x.min(initial=0)))


def _heard(
    sound: Sound, info: AudioInfo, sample_rate: int, block: int, notes: list[str] | None = None
) -> Iterator[Samples]:
    """Decode `block` samples of all channels at a time; if the peak is not known, that must be all of them."""
    if info.sample_rate != sound.sample_rate:
        raise AudioError(f"{sound.sample_rate} Hz, was {info.sample_rate} Hz: it changed while it was read")
    done, left, levels = 0, _resampled_length(info, sample_rate), None
    resampler = soxr.ResampleStream(info.sample_rate, sample_rate, 1, dtype="float32", quality="HQ")
    while done < info.frames:
        x = sound.read(max(1, min(block // sound.channels, info.frames - done)))
        done += len(x)
        if not len(x):
            raise AudioError(f"truncated: {done} frames of {info.frames}")
        if levels is None:
            peak = 0.0 if not sound.is_float else _largest(x) if info.peak is None else info.peak
            levels = Levels(peak, is_fine=sound.is_fine)
        mono = levels.downmix(x)
        if info.sample_rate != sample_rate:
            # in one piece it is faster, and the same to the last bit
            if len(x) == info.frames:
                mono = soxr.resample(mono, info.sample_rate, sample_rate, quality="HQ")
            else:
                mono = resampler.resample_chunk(mono, last=done >= info.frames)
        # the resampler may end a sample early or late; the length must be that of the layout, made from the header
        samples = levels.round(mono)[:left]
        left -= len(samples)
        yield samples
    if sound.has_more():
        known = "that its header tells" if sound.frames else "that were counted: it changed while it was read"
        raise AudioError(f"longer than the {info.frames} frames {known}")
    yield np.zeros(left, dtype=np.int16)
    if notes is not None and levels:
        notes += levels.notes()


def _repeated(found: Iterator[Samples], info: AudioInfo, sample_rate: int, least: float) -> Iterator[Samples]:
    """Repeat what is shorter than `least` seconds up to them, in one piece."""
    length = packed_length(info, sample_rate, least)
    if length > _resampled_length(info, sample_rate):
        yield np.resize(np.concatenate(list(found)), length)
    else:
        yield from found


def _resampled_length(info: AudioInfo, sample_rate: int) -> int:
    return max(1, round(info.frames * sample_rate / info.sample_rate))
