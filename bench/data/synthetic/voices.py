"""Voices of classical synthesis: notes of a given pitch, many at a time, at any sample rate.

Each voice is a function (rng, pitch, age, n, sample_rate) -> (b, n). Of b notes it takes their fundamentals `pitch` in
Hz and their `age`, the seconds that each has sounded before its first sample, both (b,); it draws from `rng` what else
a note has (brightness, decay, ...). A note begins at about full scale and fades; nothing is above half the sample rate.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, lfiltic

__all__ = [
    "LOWEST", "VOICES", "Array", "Rng", "Voice", "additive", "filtered_noise", "fm_bell", "fm_brass",
    "frequency_modulation", "highest", "karplus_strong", "play",
]  # fmt: skip

Array = NDArray[np.float64]
Rng = np.random.Generator
Voice = Callable[[Rng, Array, Array, int, int], Array]

# of pitches, in Hz: below it, one hears beats rather than a tone
LOWEST = 20.0
_MAX_PARTIALS = 32
# seconds at the end of a note, so that it does not click
_FADE = 0.02


def highest(sample_rate: int) -> float:
    """Return the highest pitch that every voice can play, in Hz: a quarter of the sample rate."""
    return sample_rate / 4


def karplus_strong(rng: Rng, pitch: Array, age: Array, n: int, sample_rate: int) -> Array:
    """Pluck strings: a burst of noise goes round a delay line, and each turn takes the mean of two neighbours.

    Karplus & Strong, "Digital synthesis of plucked-string and drum timbres", Computer Music Journal 7(2), 1983; tuned
    by an allpass A, with a weight S that sets the decay, and the place of the plectrum, as in Jaffe & Smith,
    "Extensions of the Karplus-Strong plucked-string algorithm", same issue. With burst x and loss g,

        y[j] = x[j] + g A{(1 - S) y[j - N] + S y[j - N - 1]},   A(z) = (c + 1/z) / (1 + c/z);

    N and c make a turn one period of the fundamental, g and S have it fall by 1/e in 0.2 to 2 s; higher partials fade
    sooner. Drawn are this time, how dull the burst is, and where the string is plucked.
    """
    seconds, dullness = _log_uniform(rng, 0.2, 2, len(pitch)), rng.uniform(0, 0.8, len(pitch))
    place, first = rng.uniform(0.08, 0.5, len(pitch)), np.rint(age * sample_rate).astype(np.int64)
    out = np.empty((len(pitch), n))
    for row, start in enumerate(first):
        zeros, poles = _string(sample_rate / pitch[row], seconds[row] * sample_rate)
        burst = _burst(rng, round(sample_rate / pitch[row]), dullness[row], place[row])
        # what has gone before is in the string: every note is played from its beginning
        sound = np.zeros(start + n)
        sound[: len(burst)] = burst[: len(sound)]
        out[row] = lfilter(zeros, poles, sound)[start:]
    return out


def _string(period: float, decay: float) -> tuple[Array, Array]:
    """Return the filter of a string, numerator and denominator, of a period and a decay time in samples."""
    omega = 2 * np.pi / period
    # What a turn leaves of the fundamental. A mean of equals leaves cos(omega / 2): a loss takes more, a mean of
    # unequals, of which the squared gain is 1 - 4 S (1 - S) sin^2(omega / 2), takes less.
    left = np.exp(-period / decay)
    loss = min(left / np.cos(omega / 2), 1.0)
    weight = 0.5 if loss < 1 else (1 - np.sqrt(1 - (1 - left**2) / np.sin(omega / 2) ** 2)) / 2
    delay = np.arctan2(weight * np.sin(omega), 1 - weight + weight * np.cos(omega)) / omega
    # the allpass is left 0.3 to 1.3 samples, of which it delays all partials nearly alike
    turn = int(period - delay - 0.3)
    c = _allpass(period - delay - turn, omega)
    poles = np.zeros(turn + 3)
    poles[:2] = 1, c
    poles[turn:] -= loss * np.convolve([c, 1], [1 - weight, weight])
    return np.array([1, c]), poles


def _allpass(delay: float, omega: float) -> float:
    """Return the coefficient of a first-order allpass with a phase delay in samples, exact at `omega` rad a sample."""
    return float(np.sin((1 - delay) * omega / 2) / np.sin((1 + delay) * omega / 2))


def _burst(rng: Rng, period: int, dullness: float, place: float) -> Array:
    """Draw a period of low-passed noise, plucked at `place`, a share of the string: (period,), no mean, peak 1."""
    noise = rng.uniform(-1, 1, period)
    # filtered twice round, so that the period has no seam
    noise = lfilter([1], [1, -dullness], np.tile(noise, 2))[period:]
    noise = noise - np.roll(noise, max(1, int(place * period)))
    noise -= noise.mean()
    return noise / max(float(np.abs(noise).max()), 1e-9)


def fm_bell(rng: Rng, pitch: Array, age: Array, n: int, sample_rate: int) -> Array:
    """Strike bells: frequency modulation at a ratio that is no whole number, so that partials are not harmonic.

    Chowning, "The synthesis of complex audio spectra by means of frequency modulation", Journal of the Audio
    Engineering Society 21(7), 1973: with pitch f, ratio r, index I and decay time s,

        y(t) = e(t) sin(2 pi f t + I e(t) sin(2 pi r f t)),   e(t) = exp(-t / s),

    so that a bell gets purer as it fades. Drawn are r (1.3 to 1.5), I (1 to 8) and s (0.3 to 2 s).
    """
    time = _time(age, n, sample_rate)
    ratio, index = rng.uniform(1.3, 1.5, len(pitch)), rng.uniform(1, 8, len(pitch))
    envelope = np.exp(-time / _log_uniform(rng, 0.3, 2, len(pitch))[:, None])
    index = np.minimum(index, _largest_index(pitch, ratio, sample_rate))
    return envelope * frequency_modulation(time, pitch[:, None], ratio[:, None], index[:, None] * envelope)


def fm_brass(rng: Rng, pitch: Array, age: Array, n: int, sample_rate: int) -> Array:
    """Blow brass: carrier and modulator in unison, and the louder the brighter.

    Chowning (1973), as `fm_bell`:

        y(t) = e(t) sin(2 pi f t + I e(t) sin(2 pi f t)),   e(t) = min(1, t / a) exp(-t / s),

    with attack a (30 to 80 ms), decay time s (0.5 to 4 s) and index I (2 to 6), all drawn.
    """
    time = _time(age, n, sample_rate)
    attack, index = rng.uniform(0.03, 0.08, len(pitch)), rng.uniform(2, 6, len(pitch))
    envelope = np.minimum(1, time / attack[:, None]) * np.exp(-time / _log_uniform(rng, 0.5, 4, len(pitch))[:, None])
    index = np.minimum(index, _largest_index(pitch, np.ones_like(pitch), sample_rate))
    return envelope * frequency_modulation(time, pitch[:, None], 1, index[:, None] * envelope)


def frequency_modulation(time: Array, carrier: Array | float, ratio: Array | float, index: Array | float) -> Array:
    """Modulate the phase of a sine by another: sin(2 pi f t + I sin(2 pi r f t)), in the shape of `time` in seconds.

    `carrier` is f in Hz, `ratio` r the modulator's frequency in carriers, `index` I its peak in radians.
    """
    return np.sin(2 * np.pi * carrier * time + index * np.sin(2 * np.pi * carrier * ratio * time))


def _largest_index(pitch: Array, ratio: Array, sample_rate: int) -> Array:
    """Return the index up to which Carson's bandwidth, (I + 1) modulators, ends below half the sample rate: (b,)."""
    return np.maximum((sample_rate / 2 - pitch) / (ratio * pitch) - 1, 0)


def additive(rng: Rng, pitch: Array, age: Array, n: int, sample_rate: int) -> Array:
    """Add up harmonics, each with its own decay.

    Risset & Mathews, "Analysis of musical-instrument tones", Physics Today 22(2), 1969: a tone is its partials, of
    which the higher fade sooner:

        y(t) = sum over k of a_k exp(-k t / s) sin(2 pi k f t) / sum of a_k,   a_k = k^-p u_k,

    up to 32 harmonics below .45 of the sample rate. Drawn are s (0.5 to 4 s), p (0.5 to 2) and u_k (0 to 1; 1 for the
    fundamental).
    """
    time = _time(age, n, sample_rate)
    order = np.arange(1, _MAX_PARTIALS + 1)
    amplitude = order ** -rng.uniform(0.5, 2, (len(pitch), 1)) * rng.uniform(0, 1, (len(pitch), _MAX_PARTIALS))
    amplitude[:, 0] = 1
    amplitude *= order * pitch[:, None] < 0.45 * sample_rate
    amplitude /= amplitude.sum(axis=1, keepdims=True)
    # harmonic k is the fundamental to the power of k: products, where sines would take ten times as long
    fundamental = np.exp((2j * np.pi * pitch - 1 / _log_uniform(rng, 0.5, 4, len(pitch)))[:, None] * time)
    power, out = fundamental.copy(), amplitude[:, :1] * fundamental.imag
    for k in range(1, 1 + int(np.flatnonzero(amplitude.any(axis=0))[-1])):
        power *= fundamental
        out += amplitude[:, k, None] * power.imag
    return out


def filtered_noise(rng: Rng, pitch: Array, age: Array, n: int, sample_rate: int) -> Array:
    """Let white noise ring in a resonator: between a hiss and a tone.

    The two-pole resonator of Klatt, "Software for a cascade/parallel formant synthesizer", Journal of the Acoustical
    Society of America 67(3), 1980: with white noise w, sample interval T and bandwidth B in Hz,

        x[j] = A w[j] + 2 exp(-pi B T) cos(2 pi f T) x[j - 1] - exp(-2 pi B T) x[j - 2],   y(t) = exp(-t / s) x(t).

    A makes the standard deviation of x 1/4, and x is stationary from its first sample. Drawn are f / B (2 to 30) and s
    (0.5 to 4 s). No predictor of the next sample can do better than to know both coefficients: A w is left.
    """
    bandwidth = pitch / _log_uniform(rng, 2, 30, len(pitch))
    radius = np.exp(-np.pi * bandwidth / sample_rate)
    first, second = 2 * radius * np.cos(2 * np.pi * pitch / sample_rate), -(radius**2)
    # of an autoregressive process, the correlation of neighbours, and the gain that makes the variance 1
    rho = first / (1 - second)
    gain = np.sqrt((1 + second) * ((1 - second) ** 2 - first**2) / (1 - second))
    noise = rng.standard_normal((len(pitch), n + 2))
    before = noise[:, 0]
    last = rho * before + np.sqrt(1 - rho**2) * noise[:, 1]
    out = np.empty((len(pitch), n))
    for row, poles in enumerate(zip(-first, -second, strict=True)):
        state = lfiltic([1], [1, *poles], [last[row], before[row]])
        out[row] = lfilter([1], [1, *poles], gain[row] * noise[row, 2:], zi=state)[0]
    decay = _log_uniform(rng, 0.5, 4, len(pitch))[:, None]
    return out / 4 * np.exp(-_time(age, n, sample_rate) / decay)


# by name, in the order in which sounds drawn by number know them
VOICES: Mapping[str, Voice] = {
    voice.__name__: voice for voice in (karplus_strong, fm_bell, fm_brass, additive, filtered_noise)
}


def play(voice: str, pitch: float, seconds: float, seed: int, sample_rate: int) -> Array:
    """Play one note from its beginning to its end: (n,), with a peak of 0.9. Another seed draws another timbre."""
    n, rng = round(seconds * sample_rate), np.random.default_rng(seed)
    sound = VOICES[voice](rng, np.array([pitch]), np.zeros(1), n, sample_rate)[0]
    fade = min(n, round(_FADE * sample_rate))
    sound[n - fade :] *= np.linspace(1, 0, fade)
    return 0.9 * sound / float(np.abs(sound).max())


def _time(age: Array, n: int, sample_rate: int) -> Array:
    """Return seconds since the beginning of each note: (b,) -> (b, n)."""
    return age[:, None] + np.arange(n) / sample_rate


def _log_uniform(rng: Rng, low: float, high: float, size: int) -> Array:
    """Draw times or pitches, which are heard as ratios: (size,)."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))
