"""What is heard in a clip, in words that a copy keeps: louder or quieter, clipped, cut at its ends, or compressed.

A word is 32 bits of one frame of 64 ms: whether each of 33 bands, up to 4 kHz, is louder than the one below. It knows
no level. Words of two clips are equal by chance now and then, so that they name candidates alone: `match` compares the
sounds themselves.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
import soxr
from scipy.signal import correlate, firwin, lfilter

from bench.jit import compiled

__all__ = ["FLIPS", "HASHED", "MATCHED", "SHARED", "Match", "Sound", "Words", "match", "sound", "words"]

Array = npt.NDArray[np.float32]
Sound = npt.NDArray[np.float32] | npt.NDArray[np.int16]
# Hz at which words are made and sounds are compared, whatever the pack's rate: compression leaves what is below half.
HASHED, MATCHED = 8_000, 16_000
# Samples between two on either side that a halved one is made of.
_REACHED = 8
# Samples of a frame, and between frames: short clips have more of them in a second.
_FRAME, _LEAST_HOP, _MOST_HOP, _FRAMES = 512, 32, 256, 96
_GOLDEN = (5**0.5 - 1) / 2
_LOWEST, _HIGHEST, _BITS = 94.0, 3906.0, 32
# Of a frame's energy, what a band has at least: below it is what clipping adds, and compression takes.
_FLOOR = np.float32(1e-3)
# How many times as loud as the one below a band must be: of two that hold nothing, neither is.
_STEP = np.float32(2**0.15)
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
_EXCERPT, _REACH, _LOOK = 4096, 1024, 0.5
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
    if sample_rate == target_rate:
        return samples
    # most packs, and a quarter of what soxr takes for it
    if sample_rate == 2 * target_rate:
        halved: Array = _halved(samples, _half_band())
        return halved
    # in floats, as soxr would add noise to whole numbers
    return soxr.resample(samples.astype(np.float32), sample_rate, target_rate, "LQ")


@functools.cache
def _half_band() -> Array:
    """Return the middle tap of a low-pass at half of the frequencies, and those after it that are not zero."""
    taps = firwin(4 * _REACHED - 1, 0.5)[2 * _REACHED - 1 :]
    return np.concatenate([taps[:1], taps[1::2]]).astype(np.float32)


@compiled(nogil=True)
def _halved(samples, taps):  # type: ignore[no-untyped-def]
    """Return every second sample of what a half-band filter leaves."""
    count, reach = (len(samples) + 1) // 2, len(taps) - 1
    result, between = np.empty(count, np.float32), np.zeros(count + 2 * reach, np.float32)
    for i in range(count):
        result[i] = taps[0] * samples[2 * i]
    for i in range(len(samples) // 2):
        between[reach + i] = samples[2 * i + 1]
    for k in range(reach):
        before, after = between[reach - 1 - k :], between[reach + k :]
        for i in range(count):
            result[i] += taps[k + 1] * (before[i] + after[i])
    return result


def words(sound: Sound) -> Words:
    """Return the clearest words of a sound at 8 kHz; none of one that is shorter than a frame, or silent."""
    seconds, starts = len(sound) / HASHED, _starts(len(sound))
    if not len(starts):
        none = np.zeros((0, FLIPS))
        return Words(none[:, 0].astype(np.uint32), none.astype(np.uint8), none[:, 0].astype(np.float32), 0.0, seconds)
    frames = np.empty((len(starts), _FRAME), np.float32)
    _cut(sound.astype(np.float32, copy=False), starts, _window(), frames)
    spectrum = scipy.fft.rfft(frames, axis=1, overwrite_x=True)
    power, energy = _power(spectrum, _edges())
    codes, weak, chosen = _clearest(power, energy)
    times = starts / HASHED
    return Words(codes, weak, times[chosen].astype(np.float32), float(times[energy.argmax()]), seconds)


def _starts(length: int) -> npt.NDArray[np.intp]:
    """Return where the frames of a sound begin, of so many samples."""
    hop = min(max(length // _FRAMES, _LEAST_HOP), _MOST_HOP)
    # not evenly: wherever a copy begins, some of its frames begin where some of the original do
    number = np.arange(max(length - _FRAME, -1) // hop + 1)
    starts = (hop * (number + number * _GOLDEN % 1)).astype(np.intp)
    return starts[starts <= length - _FRAME]


@compiled(nogil=True)
def _cut(samples, starts, window, frames):  # type: ignore[no-untyped-def]
    """Write the frames of a sound, each times a window, to (t, _FRAME)."""
    for i in range(len(starts)):
        part = samples[starts[i] : starts[i] + len(window)]
        for j in range(len(window)):
            frames[i, j] = part[j] * window[j]


@compiled(nogil=True)
def _power(spectrum, edges):  # type: ignore[no-untyped-def]
    """Return the energy of each frame in each band: (t, 33), and in all of them: (t,)."""
    count, bands = len(spectrum), len(edges) - 1
    power, energy = np.zeros((count, bands), np.float32), np.zeros(count, np.float32)
    for i in range(count):
        for band in range(bands):
            for j in range(edges[band], edges[band + 1]):
                value = spectrum[i, j]
                power[i, band] += value.real * value.real + value.imag * value.imag
            energy[i] += power[i, band]
    return power, energy


@compiled(nogil=True)
def _clearest(power, energy):  # type: ignore[no-untyped-def]
    """Return the words of the frames that have the most certain ones, each word once: the most certain ones first.

    Those are codes (w,), weak bits (w, FLIPS), and of which frame they are (w,).
    """
    count, least = len(energy), max(_QUIET * energy.max(), _FAINT)
    codes, weak = np.zeros(count, np.uint32), np.empty((count, FLIPS), np.uint8)
    certainty, margin = np.full(count, np.float32(-1)), np.empty(_BITS, np.float32)
    for i in np.flatnonzero(energy > least):
        floor = _FLOOR * energy[i]
        for bit in range(_BITS):
            rise = (power[i, bit + 1] + floor) / (_STEP * (power[i, bit] + floor))
            codes[i] = 2 * codes[i] + (rise > 1)
            margin[bit] = max(rise, 1 / rise)
        for flip in range(FLIPS):
            weakest = margin.argmin()
            weak[i, flip], margin[weakest] = _BITS - 1 - weakest, np.inf
        # of the bits that are not among the weakest
        certainty[i] = margin.min()
    chosen, kept = np.empty(_MOST, np.int64), 0
    while kept < _MOST and certainty.max() >= 0:
        i = certainty.argmax()
        certainty[i] = -1
        # a sound that lasts says the same word again and again
        if not (codes[chosen[:kept]] == codes[i]).any():
            chosen[kept] = i
            kept += 1
    chosen = chosen[:kept]
    return codes[chosen], weak[chosen], chosen


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
    a, b = (lfilter(*_HIGH_PASS, x.astype(np.float32)) for x in (first, second))
    # an excerpt of a tone is nearly the same a period later, all of it is not
    lags = np.arange(max(found - _REACH, 1 - len(b)), min(found + _REACH + 1, len(a)))
    products = correlate(a, b, method="fft")[lags + len(b) - 1]
    starts, ends = np.maximum(lags, 0), np.minimum(lags + len(b), len(a))
    of_a, of_b = (np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))]) for x in (a, b))
    in_a, in_b = of_a[ends] - of_a[starts], of_b[ends - lags] - of_b[starts - lags]
    shares = np.maximum(in_a / max(of_a[-1], 1e-9), in_b / max(of_b[-1], 1e-9))
    possible = (ends - starts >= SHARED * len(a)) & (shares >= _SHARED_ENERGY)
    correlations = np.where(possible, np.abs(products) / np.sqrt(np.maximum(in_a * in_b, 1e-9)), 0.0)
    best = int(correlations.argmax())
    if not possible[best]:
        return None
    # at half samples, too: a copy that was cut at a higher rate begins between ours
    near = np.pad(products, _BETWEEN)[best : best + 2 * _BETWEEN + 1]
    highest = max(np.abs(near).max(), np.abs(_half_samples() @ near).max())
    correlation = highest / max(in_a[best] * in_b[best], 1e-9) ** 0.5
    return Match(min(float(correlation), 1.0), int(lags[best]) / MATCHED)


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
    size, lags = scipy.fft.next_fast_len(len(a), real=True), len(a) - len(b) + 1
    product = scipy.fft.irfft(scipy.fft.rfft(a, size) * np.conj(scipy.fft.rfft(b, size)), size)[:lags]
    best, correlation = _highest(product, a, b)
    return begin + best - start if correlation >= _LOOK else None


@compiled(nogil=True)
def _highest(product, a, b):  # type: ignore[no-untyped-def]
    """Return at which lag b is most like a, and the correlation there, without its sign; `product` is that of lags."""
    best, highest, energy, of_b = 0, 0.0, 0.0, 0.0
    for j in range(len(b)):
        energy += float(a[j]) ** 2
        of_b += float(b[j]) ** 2
    for lag in range(len(product)):
        value = float(product[lag]) ** 2 / max(energy * of_b, 1e-9)
        if value > highest:
            best, highest = lag, value
        if lag + len(b) < len(a):
            energy += float(a[lag + len(b)]) ** 2 - float(a[lag]) ** 2
    return best, highest**0.5
