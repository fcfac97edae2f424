"""What is heard in a clip, in words that a copy keeps: louder or quieter, clipped, cut at its ends, or compressed.

A word is 32 bits of one frame of 64 ms: whether each of 33 bands, up to 4 kHz, is louder than the one below. It knows
no level. Words of two clips are equal by chance now and then, so that they name candidates alone: `match` compares the
sounds themselves.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
import soxr
from scipy.signal import lfilter

__all__ = ["FLIPS", "HASHED", "MATCHED", "SHARED", "Match", "Sound", "Words", "match", "sound", "words"]

Array = npt.NDArray[np.float32]
Sound = npt.NDArray[np.float32] | npt.NDArray[np.int16]
# Hz at which words are made and sounds are compared, whatever the pack's rate: compression leaves what is below half.
HASHED, MATCHED = 8_000, 16_000
# Samples of a frame, and between frames: short clips have more of them in a second.
_FRAME, _LEAST_HOP, _MOST_HOP, _FRAMES = 512, 32, 256, 96
_GOLDEN = (5**0.5 - 1) / 2
_LOWEST, _HIGHEST, _BITS = 94.0, 3906.0, 32
# Of a frame's energy, what a band has at least: below it is what clipping adds, and compression takes.
_FLOOR = 1e-3
# By how much, in powers of two, a band must be louder than the one below: of two that hold nothing, neither is.
_STEP = 0.15
# Frames of less energy than this share of the loudest one's have no word, nor have those of an rms of two steps of 16
# bits: the mean square of a Hann window is 3/8, and half of a spectrum is summed.
_QUIET, _FAINT = 1e-5, 2.0**2 * 3 / 8 * _FRAME**2 / 2
# Words of a clip, those of the clearest frames; bits of each that a copy may well have the other way.
_MOST = 64
FLIPS = 3
# From some 500 Hz on: hum and rumble are no recording's own.
_HIGH_PASS = np.array([[1, -1], [1, -np.exp(-2 * np.pi * 500 / MATCHED)]], np.float32)
# Share of the longer clip that two copies have in common, and of one clip's energy that must be in it.
SHARED, _SHARED_ENERGY = 0.6, 0.5
# Of a first look: samples of the excerpt, those by which its place may be wrong, and the least correlation.
_EXCERPT, _REACH, _LOOK = 4096, 1536, 0.5
# Samples on either side from which values between two samples are made.
_BETWEEN = 4


@dataclass(frozen=True)
class Words:
    """The words of a clip.

    Attributes:
        codes: (w,).
        weak: (w, FLIPS): of each word, the bits that are the least certain.
        starts: (w,): where its frame begins, in seconds.
        loudest: where the loudest frame begins, in seconds.
        seconds: of the clip.
    """

    codes: npt.NDArray[np.uint32]
    weak: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.float32]
    loudest: float
    seconds: float


@dataclass(frozen=True)
class Match:
    """How alike two sounds are where they are most alike.

    Attributes:
        correlation: 0 to 1, over what they have in common; 1 if one is the other, times a factor.
        offset: seconds of the first before the second begins.
    """

    correlation: float
    offset: float


def sound(samples: npt.NDArray[np.int16], sample_rate: int, target_rate: int) -> Sound:
    """Return samples at another rate, in steps of 16 bits: (n,)."""
    # in floats, as soxr would add noise to whole numbers
    return (
        samples
        if sample_rate == target_rate
        else soxr.resample(samples.astype(np.float32), sample_rate, target_rate, "LQ")
    )


def words(sounds: Sequence[Sound]) -> list[Words]:
    """Return the clearest words of sounds at 8 kHz; none of one that is shorter than a frame, or silent."""
    begins = [_starts(len(x)) for x in sounds]
    ends = np.cumsum([len(starts) for starts in begins])
    clip, starts = np.repeat(np.arange(len(sounds)), np.diff(ends, prepend=0)), np.concatenate(begins)
    power = _power(sounds, begins, int(ends[-1]))
    energy = power.sum(axis=1)
    loudest = [int(end - len(own) + energy[end - len(own) : end].argmax()) if len(own) else None
               for own, end in zip(begins, ends, strict=True)]  # fmt: skip
    most = np.array([0.0 if at is None else energy[at] for at in loudest])
    heard = np.flatnonzero(energy > np.maximum(_QUIET * most[clip], _FAINT))
    level = np.log2(power[heard] + _FLOOR * energy[heard, None])
    rise = np.diff(level, axis=1) - _STEP
    values = np.packbits(rise > 0, axis=1).view(">u4")[:, 0].astype(np.uint32)
    margin = np.abs(rise)
    # of the bits that are not among the weakest
    certainty = np.partition(margin, FLIPS, axis=1)[:, FLIPS]
    chosen = _clearest(clip[heard], values, certainty)
    weak = (_BITS - 1 - np.argpartition(margin[chosen], FLIPS, axis=1)[:, :FLIPS]).astype(np.uint8)
    of, when = clip[heard[chosen]], (starts[heard[chosen]] / HASHED).astype(np.float32)
    parts = np.searchsorted(of, np.arange(len(sounds) + 1))
    return [
        Words(
            values[chosen[i:j]],
            weak[i:j],
            when[i:j],
            0.0 if at is None else float(starts[at]) / HASHED,
            len(x) / HASHED,
        )
        for x, at, i, j in zip(sounds, loudest, parts[:-1], parts[1:], strict=True)
    ]


def _clearest(clip: npt.NDArray[np.intp], values: npt.NDArray[np.uint32], certainty: Array) -> npt.NDArray[np.intp]:
    """Return which frames to keep of each clip, clip by clip, the most certain ones first, and each word once."""
    # a sound that lasts says the same word again and again
    order = np.lexsort((-certainty, values, clip))
    is_new = (np.diff(clip[order], prepend=-1) != 0) | (np.diff(values[order].astype(np.int64), prepend=-1) != 0)
    order = order[is_new]
    order = order[np.lexsort((-certainty[order], clip[order]))]
    place = np.arange(len(order)) - np.searchsorted(clip[order], clip[order], "left")
    return order[place < _MOST]


def _starts(length: int) -> npt.NDArray[np.intp]:
    """Return where the frames of a sound begin, of so many samples."""
    hop = min(max(length // _FRAMES, _LEAST_HOP), _MOST_HOP)
    # not evenly: wherever a copy begins, some of its frames begin where some of the original do
    number = np.arange(max(length - _FRAME, -1) // hop + 1)
    starts = (hop * (number + number * _GOLDEN % 1)).astype(np.intp)
    return starts[starts <= length - _FRAME]


def _power(sounds: Sequence[Sound], begins: Sequence[npt.NDArray[np.intp]], count: int) -> Array:
    """Return the energy of each frame in each band, one sound after the other: (count, 33)."""
    if not count:
        return np.zeros((0, _BITS + 1), np.float32)
    views = (
        np.lib.stride_tricks.sliding_window_view(x, _FRAME) for x, of in zip(sounds, begins, strict=True) if len(of)
    )
    frames = np.concatenate([view[of] for view, of in zip(views, filter(len, begins), strict=True)])
    frames = frames * _window()
    edges = _edges()
    spectrum = scipy.fft.rfft(frames, axis=1, overwrite_x=True)[:, edges[0] : edges[-1]]
    return np.add.reduceat(spectrum.real**2 + spectrum.imag**2, edges[:-1] - edges[0], axis=1)


@functools.cache
def _window() -> Array:
    return np.hanning(_FRAME + 1)[:-1].astype(np.float32)


@functools.cache
def _edges() -> npt.NDArray[np.intp]:
    """Return where bands begin and the last one ends, in bins of the spectrum: evenly on the mel scale."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (_LOWEST, _HIGHEST))
    hertz = 700 * (10 ** (np.linspace(low, high, _BITS + 2) / 2595) - 1)
    return np.rint(hertz * _FRAME / HASHED).astype(np.intp)


def match(first: Sound, second: Sound, at: float, offset: float) -> Match | None:
    """Compare two sounds at 16 kHz, of which the second is not the longer one; None if they have too little in common.

    Args:
        at: where an excerpt of the second begins, in seconds, that is looked for first.
        offset: about so many seconds of the first are before the second begins; NaN if that is not known.
    """
    if len(second) < SHARED * len(first) or (found := _find(first, second, at, offset)) is None:
        return None
    start, end = max(found, 0), min(found + len(second), len(first))
    if end - start < SHARED * len(first):
        return None
    a, b = (lfilter(*_HIGH_PASS, x.astype(np.float32)) for x in (first, second))
    both = a[start:end], b[start - found : end - found]
    energies = [float(x @ x) for x in both]
    if max(e / max(float(x @ x), 1e-9) for e, x in zip(energies, (a, b), strict=True)) < _SHARED_ENERGY:
        return None
    # at half samples, too: a copy that was cut at a higher rate begins between ours
    padded = np.pad(both[0], _BETWEEN)
    products = np.array([float(padded[lag : lag + len(both[1])] @ both[1]) for lag in range(2 * _BETWEEN + 1)])
    highest = max(np.abs(products).max(), np.abs(_half_samples() @ products).max())
    correlation = highest / max(energies[0] * energies[1], 1e-9) ** 0.5
    return Match(min(correlation, 1.0), found / MATCHED)


@functools.cache
def _half_samples() -> npt.NDArray[np.float64]:
    """Return what makes values between the middle samples of all of them, by band-limited interpolation."""
    lags = np.arange(-_BETWEEN, _BETWEEN + 1)
    return np.sinc(np.arange(-1.5, 2)[:, None] - lags)


def _find(first: Sound, second: Sound, at: float, offset: float) -> int | None:
    """Return how many samples of the first are before the second begins, by an excerpt of it; None if it is not."""
    start = max(min(round(at * MATCHED), len(second) - _EXCERPT), 0)
    excerpt = second[start : start + _EXCERPT]
    begin, end = 0, len(first)
    if not np.isnan(offset):
        middle = start + round(offset * MATCHED)
        begin, end = max(middle - _REACH, 0), max(middle + len(excerpt) + _REACH, 0)
    region = first[begin:end]
    if len(region) < len(excerpt):
        return None
    a, b = (x[1:] - x[:-1] for x in (region.astype(np.float32), excerpt.astype(np.float32)))
    # what wraps around is beyond the last lag
    size = scipy.fft.next_fast_len(len(a), real=True)
    lags = len(a) - len(b) + 1
    product = scipy.fft.irfft(scipy.fft.rfft(a, size) * np.conj(scipy.fft.rfft(b, size)), size)[:lags]
    energy = np.concatenate([[0.0], np.cumsum(np.square(a, dtype=np.float64))])
    correlation = np.abs(product) / np.sqrt(np.maximum((energy[len(b) :] - energy[:lags]) * float(b @ b), 1e-9))
    best = int(correlation.argmax())
    return begin + best - start if correlation[best] >= _LOOK else None
