"""Synthesize the sounds of the demo set: for each class a function of a generator and a number of samples at 44.1 kHz.

Each uses a classical method of synthesis. Pitch, timbre, rate and envelope are drawn within the bounds of the class.
The scale is free: the mixer sets the levels.
"""

import functools
import itertools
from collections.abc import Callable, Iterable

import numpy as np
from scipy.fft import irfft, next_fast_len, rfftfreq
from scipy.signal import butter, lfilter, sosfilt

from bench.data.synthetic.voices import Array, Rng, frequency_modulation

__all__ = ["RATE", "SOUNDS", "Array", "Rng", "band", "coloured_noise", "log_uniform", "samples", "total"]

RATE = 44_100

_Sound = Callable[[Rng, int], Array]

# By class; the functions below enter themselves. Whoever draws from them must sort first, as the order is that of the
# source.
SOUNDS: dict[str, _Sound] = {}

_PENTATONIC = (0, 2, 4, 7, 9, 12)  # semitones above the root


def _sound(label: str) -> Callable[[_Sound], _Sound]:
    """Enter a function into SOUNDS as the sound of a class of FSD50K."""
    return lambda function: SOUNDS.setdefault(label, function)


# Building blocks: time, envelopes and random curves


def samples(seconds: float) -> int:
    return max(1, int(seconds * RATE))


def _time(n: int) -> Array:
    return np.arange(n) / RATE


def _decay(n: int, seconds: float) -> Array:
    """Return an exponential that falls by 1/e in `seconds`."""
    return np.exp(-_time(n) / seconds)


def _hump(n: int) -> Array:
    """Return a Hann window: a note that swells and fades."""
    return np.sin(np.pi * np.arange(n) / n) ** 2


def _ramps(n: int, attack: float, release: float) -> Array:
    """Return a linear rise and fall, of these lengths in seconds, round a sound held at one."""
    return np.minimum(1, np.minimum(_time(n) / attack, _time(n)[::-1] / release))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw a pitch, rate or duration: they are perceived as ratios, so they are drawn as ratios."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _wander(rng: Rng, n: int, rate: float) -> Array:
    """Draw a slow random curve in [0, 1]: uniform points, `rate` a second, joined by lines."""
    points = rng.uniform(size=int(n / RATE * rate) + 3)
    return np.interp(_time(n) * rate + rng.uniform(), np.arange(len(points)), points)


def _phase(frequency: Array | float, n: int) -> Array:
    """Return the running phase, in cycles, of an oscillator with this instantaneous frequency in Hz."""
    return np.cumsum(np.broadcast_to(np.asarray(frequency) / RATE, n))


def _sine(cycles: Array) -> Array:
    return np.sin(2 * np.pi * cycles)


def total(sounds: Iterable[Array]) -> Array:
    return functools.reduce(np.add, sounds)


def _repeat(rng: Rng, n: int, interval: float, irregularity: float, event: Callable[[], Array]) -> Array:
    """Add up copies of `event()` about `interval` seconds apart, each at its own loudness."""
    # intervals follow a gamma distribution: `irregularity` near 0 makes a clock, 1 a Poisson process
    out = np.zeros(n)
    shape = irregularity**-2
    start = int(rng.uniform(0, min(samples(interval), n) / 2))
    while start < n:
        sound = event()[: n - start]
        out[start : start + len(sound)] += rng.uniform(0.4, 1) * sound
        start += samples(rng.gamma(shape, interval / shape))
    return out


def _melody(rng: Rng, n: int, root: float, interval: float, note: Callable[[float], Array]) -> Array:
    """Play `note(pitch)` on random steps of a pentatonic scale above `root`, rendered once for each step."""
    step = functools.cache(lambda semitones: note(root * 2 ** (semitones / 12)))
    return _repeat(rng, n, interval, 0.1, lambda: step(int(rng.choice(_PENTATONIC))))


# Building blocks: noise, filters and oscillators


def coloured_noise(rng: Rng, n: int, exponent: float) -> Array:
    """Draw noise with a power spectrum of 1 / f**exponent: 0 white, 1 pink, 2 brown (Timmer & Koenig 1995)."""
    if exponent == 0:
        return rng.standard_normal(n)
    size = next_fast_len(n, real=True)
    frequency = rfftfreq(size, 1 / RATE)
    # flat below what can be heard, where the power would grow without bound
    weight = np.maximum(frequency, 20) ** (-exponent / 2)
    real, imaginary = weight * rng.standard_normal((2, len(weight)))
    return irfft(real + 1j * imaginary, size)[:n]


# the hits in a clip share a filter whose design would cost more than its use
@functools.lru_cache
def _butterworth(kind: str, cutoff: float | tuple[float, float]) -> Array:
    """Design a filter of 12 dB per octave at either side, as second-order sections."""
    return butter(2, cutoff, kind, fs=RATE, output="sos")


def band(x: Array, low: float, high: float) -> Array:
    """Keep what is between two frequencies in Hz."""
    return sosfilt(_butterworth("bandpass", (low, high)), x)


def _pass(kind: str, x: Array, cutoff: float) -> Array:
    return sosfilt(_butterworth(f"{kind}pass", cutoff), x)


def _resonator(x: Array, frequency: float, seconds: float) -> Array:
    """Filter by a pair of poles that rings at `frequency` in Hz and falls by 1/e in `seconds`."""
    radius = np.exp(-1 / (seconds * RATE))
    return lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2], x)


def _wavetable(cycles: Array, harmonics: Array) -> Array:
    """Add sines with the amplitudes `harmonics`, read from a table of one period."""
    table: Array = irfft(np.concatenate([[0], -1j * harmonics]), 2048)
    return table[(cycles * len(table)).astype(np.int64) % len(table)]


def _bell(seconds: float, carrier: float, ratio: float, index: float) -> Array:
    """Strike Chowning's bell: amplitude and modulation index decay together, so the tone gets purer as it fades."""
    n = samples(4 * seconds)
    envelope = _decay(n, seconds)
    return envelope * frequency_modulation(_time(n), carrier, ratio, index * envelope)


def _pluck(rng: Rng, pitch: float, seconds: float, cutoff: float, position: float, loss: float) -> Array:
    """Pluck a string: a burst of noise round a delay line of one period and a two-point mean."""
    # Karplus & Strong (1983), as extended by Jaffe & Smith (1983): `cutoff` in Hz sets how bright the burst is,
    # `position` (0 to 0.5) where along the string it is plucked, and `loss` what is left after each turn
    period = samples(1 / pitch)
    # the second half: the filter has settled by then
    burst = _pass("low", rng.standard_normal(2 * period), cutoff)[period:]
    string = np.zeros(1 + max(period, samples(seconds)))
    string[1 : period + 1] = burst - np.roll(burst, int(position * period))
    # a turn at a time: lfilter would go tap by tap
    for start in range(period + 1, len(string), period):
        turn = string[start - period - 1 : min(start, len(string) - period)]
        string[start : start + period] = loss / 2 * (turn[1:] + turn[:-1])
    return string[1:]


def _bubble(rng: Rng, low: float, high: float) -> Array:
    """Close a drop over air: a short sine at the bubble's resonance that rises as it nears the surface."""
    # Minnaert (1933); van den Doel (2005), "Physically based models for liquid sounds"
    pitch = log_uniform(rng, low, high)
    n = samples(80 / pitch)
    return _decay(n, 20 / pitch) * _sine(_phase(pitch * (1 + rng.uniform(0, 6) * _time(n)), n))


def _click(rng: Rng, low: float, high: float, seconds: float) -> Array:
    n = samples(5 * seconds)
    return band(rng.standard_normal(n) * _decay(n, seconds), low, high)


# Plucked strings: bounds of cutoff, position and loss of `_pluck`, then of the root in Hz and the seconds between notes
_STRINGS = {
    "Acoustic_guitar": ((1500, 7000), (0.1, 0.3), (0.985, 0.998), (82, 330), (0.15, 1.2)),
    "Bass_guitar": ((500, 3000), (0.1, 0.4), (0.97, 0.995), (41, 110), (0.2, 1)),
    "Harp": ((1500, 6000), (0.35, 0.5), (0.99, 0.999), (130, 700), (0.1, 0.6)),
}


def _strings(label: str, rng: Rng, n: int) -> Array:
    brightness, place, losses, roots, intervals = _STRINGS[label]
    cutoff, position, loss = log_uniform(rng, *brightness), rng.uniform(*place), rng.uniform(*losses)
    root, interval = log_uniform(rng, *roots), log_uniform(rng, *intervals)
    return _melody(rng, n, root, interval, lambda pitch: _pluck(rng, pitch, 1.5, cutoff, position, loss))


SOUNDS |= {label: functools.partial(_strings, label) for label in _STRINGS}


# Bells and bars


@_sound("Church_bell")
def _church_bell(rng: Rng, n: int) -> Array:
    carrier, ratio, index = log_uniform(rng, 140, 600), rng.uniform(1.38, 1.45), rng.uniform(3, 10)
    stroke = _bell(log_uniform(rng, 0.5, 2), carrier, ratio, index)
    return _repeat(rng, n, log_uniform(rng, 0.8, 3), 0.05, lambda: stroke)


@_sound("Bicycle_bell")
def _bicycle_bell(rng: Rng, n: int) -> Array:
    carrier, ratio, index = log_uniform(rng, 1200, 3500), rng.uniform(1.3, 2.8), rng.uniform(0.5, 3)
    stroke = _bell(log_uniform(rng, 0.1, 0.5), carrier, ratio, index)
    trill = log_uniform(rng, 0.05, 0.12)

    def ring() -> Array:
        size = samples(rng.uniform(2, 6) * trill)
        return _repeat(rng, size, trill, 0.15, lambda: stroke) * _ramps(size, 0.001, trill)

    return _repeat(rng, n, log_uniform(rng, 0.5, 1.5), 0.3, ring)


@_sound("Glockenspiel")
def _glockenspiel(rng: Rng, n: int) -> Array:
    root, interval = log_uniform(rng, 700, 2200), log_uniform(rng, 0.12, 0.7)
    seconds, index = log_uniform(rng, 0.15, 0.8), rng.uniform(0.3, 2)
    # the second mode of a free bar (Fletcher & Rossing, "The physics of musical instruments")
    overtone = 2.756
    return _melody(rng, n, root, interval, lambda pitch: _bell(seconds, pitch, overtone, index))


@_sound("Gong")
def _gong(rng: Rng, n: int) -> Array:
    carrier, ratio, index = log_uniform(rng, 60, 250), rng.uniform(1.15, 1.6), rng.uniform(3, 12)
    seconds, swell = log_uniform(rng, 0.5, 2), log_uniform(rng, 0.05, 0.4)
    size = samples(4 * seconds)
    # the high modes build up after the stroke
    envelope = _decay(size, seconds) * (1 - _decay(size, swell))
    stroke = envelope * frequency_modulation(_time(size), carrier, ratio, index * envelope)
    return _repeat(rng, n, log_uniform(rng, 1.5, 4), 0.2, lambda: stroke)


# Organ, brass and reeds


@_sound("Organ")
def _organ(rng: Rng, n: int) -> Array:
    """Play a chord with random drawbars: harmonics 1, 2, 3, 4, 6 and 8."""
    drawbars = np.zeros(8)
    drawbars[[0, 1, 2, 3, 5, 7]] = rng.uniform(size=6)
    vibrato = 1 + rng.uniform(0, 0.006) * _sine(rng.uniform(5, 7) * _time(n))
    root = log_uniform(rng, 65, 400)
    chord = rng.choice([0, 3, 4, 7, 12], rng.integers(1, 4), replace=False)
    return total(_wavetable(_phase(root * 2 ** (step / 12) * vibrato, n), drawbars) for step in chord)


@_sound("Trumpet")
def _trumpet(rng: Rng, n: int) -> Array:
    """Play Chowning's brass: carrier and modulator in unison, the modulation index follows the loudness."""
    index, length = rng.uniform(2, 6), log_uniform(rng, 0.15, 1)
    size = samples(length)
    envelope = _ramps(size, 0.04, 0.08)
    root, interval = log_uniform(rng, 165, 600), length * rng.uniform(1, 1.3)
    return _melody(
        rng, n, root, interval, lambda pitch: envelope * frequency_modulation(_time(size), pitch, 1, index * envelope)
    )


@_sound("Harmonica")
def _harmonica(rng: Rng, n: int) -> Array:
    """Play two reeds a little out of tune; the breath makes the tremolo."""
    rolloff, detune = rng.uniform(0.5, 1.3), rng.uniform(1.002, 1.012)
    length, tremolo = log_uniform(rng, 0.15, 1), rng.uniform(0, 0.4)
    size = samples(length)

    def note(pitch: float) -> Array:
        # without harmonics above 16 kHz, which would alias
        reeds = np.arange(1.0, 25)[: int(16_000 / pitch)] ** -rolloff
        tone = _wavetable(_phase(pitch, size), reeds) + _wavetable(_phase(pitch * detune, size), reeds)
        return np.sqrt(_hump(size)) * tone * (1 + tremolo * _sine(5 * _time(size)))

    return _melody(rng, n, log_uniform(rng, 200, 700), length * rng.uniform(0.9, 1.2), note)


# Weather, water and other noise


@_sound("Wind")
def _wind(rng: Rng, n: int) -> Array:
    """Blow in gusts: the stronger, the brighter."""
    noise, centre = coloured_noise(rng, n, 1), log_uniform(rng, 150, 600)
    gust = _wander(rng, n, log_uniform(rng, 0.5, 3))
    return gust * band(noise, centre, 3 * centre) * gust + (0.3 + gust) * _pass("low", noise, centre)


@_sound("Waves_and_surf")
def _waves_and_surf(rng: Rng, n: int) -> Array:
    noise = coloured_noise(rng, n, rng.uniform(0.5, 1.2))
    swell = _wander(rng, n, log_uniform(rng, 0.3, 1.5)) ** 2 + 0.1
    return swell * _pass("low", noise, log_uniform(rng, 800, 2500)) + swell**2 * band(noise, 1000, 8000)


@_sound("Stream")
def _stream(rng: Rng, n: int) -> Array:
    low = log_uniform(rng, 300, 1000)
    rush = band(coloured_noise(rng, n, 1), low, rng.uniform(4, 10) * low)
    bubbles = _repeat(rng, n, log_uniform(rng, 0.006, 0.03), 1, lambda: _bubble(rng, low, 4 * low))
    return rush / np.std(rush) + rng.uniform(0.5, 2) * bubbles / np.std(bubbles)


@_sound("Raindrop")
def _raindrop(rng: Rng, n: int) -> Array:
    """Let single drops fall: a tap, sometimes followed by a bubble."""
    low, seconds = log_uniform(rng, 700, 3000), log_uniform(rng, 0.002, 0.008)

    def drop() -> Array:
        return _bubble(rng, low, 3 * low) if rng.uniform() < 0.5 else _click(rng, low, 4 * low, seconds)

    return _repeat(rng, n, log_uniform(rng, 0.03, 0.3), 1, drop)


@_sound("Thunder")
def _thunder(rng: Rng, n: int) -> Array:
    cutoff, seconds = log_uniform(rng, 80, 400), log_uniform(rng, 0.5, 3)
    rumble = _pass("low", coloured_noise(rng, n, 1), cutoff) * (0.2 + _wander(rng, n, 6)) * _decay(n, seconds)
    crack = coloured_noise(rng, n, 1) * _decay(n, log_uniform(rng, 0.02, 0.2))
    return rumble / np.std(rumble) + rng.uniform(0, 0.8) * crack / np.std(crack)


@_sound("Hiss")
def _hiss(rng: Rng, n: int) -> Array:
    noise = _pass("high", rng.standard_normal(n), log_uniform(rng, 1500, 6000))
    return noise * (1 + rng.uniform(-0.5, 2) * _wander(rng, n, 2))


# Impacts


@_sound("Knock")
def _knock(rng: Rng, n: int) -> Array:
    """Knock on wood: quick groups of hits on two modes of a panel."""
    low, seconds = log_uniform(rng, 100, 350), log_uniform(rng, 0.015, 0.05)
    interval = log_uniform(rng, 0.12, 0.3)

    def hit() -> Array:
        body = _click(rng, 50, 2500, 0.003)
        tail = np.pad(body, (0, samples(4 * seconds)))
        return _resonator(tail, low, seconds) + 0.5 * _resonator(tail, 2.3 * low, seconds / 2)

    def group() -> Array:
        size = samples(interval * rng.uniform(2, 5))
        return _repeat(rng, size, interval, 0.1, hit) * _ramps(size, 0.001, 0.02)

    return _repeat(rng, n, log_uniform(rng, 1, 2), 0.2, group)


@_sound("Clapping")
def _clapping(rng: Rng, n: int) -> Array:
    """Clap: noise through the hollow of the hands, by one person or a few."""
    interval, seconds = log_uniform(rng, 0.18, 0.5), log_uniform(rng, 0.004, 0.02)

    def person() -> Array:
        low = log_uniform(rng, 500, 1500)
        return _repeat(rng, n, interval, 0.08, lambda: _click(rng, low, 3 * low, seconds))

    return total(person() for _ in range(rng.integers(1, 5)))


@_sound("Tick-tock")
def _tick_tock(rng: Rng, n: int) -> Array:
    """Tick: two strokes of an escapement in turn, as regular as can be."""
    low, ratio, interval = log_uniform(rng, 900, 4000), rng.uniform(0.7, 0.95), log_uniform(rng, 0.15, 0.6)
    seconds = log_uniform(rng, 0.002, 0.006)
    centres = itertools.cycle([low * ratio, low])

    def stroke() -> Array:
        centre = next(centres)
        return _click(rng, centre, 2 * centre, seconds)

    return _repeat(rng, n, interval, 0.01, stroke)


@_sound("Computer_keyboard")
def _computer_keyboard(rng: Rng, n: int) -> Array:
    """Type: each key clicks on its way down and, more softly, on its way up."""
    low, seconds = log_uniform(rng, 900, 3000), log_uniform(rng, 0.002, 0.008)

    def key() -> Array:
        down, up = _click(rng, low, 4 * low, seconds), 0.5 * _click(rng, 1.3 * low, 5 * low, seconds)
        return np.concatenate([down, np.zeros(samples(rng.uniform(0.03, 0.08))), up])

    return _repeat(rng, n, log_uniform(rng, 0.09, 0.3), 0.5, key)


# Animals and alarms


@_sound("Chirp_and_tweet")
def _chirp_and_tweet(rng: Rng, n: int) -> Array:
    """Sing quick glides of a nearly pure tone, now up, now down."""
    centre, span, length = log_uniform(rng, 2000, 6000), rng.uniform(0.1, 0.6), log_uniform(rng, 0.03, 0.2)
    size = samples(length)

    def note() -> Array:
        glide = rng.uniform(-span, span) * np.linspace(-1, 1, size) + rng.uniform(-0.2, 0.2) * span
        return _hump(size) * _sine(_phase(centre * 2**glide, size))

    return _repeat(rng, n, length * rng.uniform(1.2, 4), 0.5, note)


@_sound("Cricket")
def _cricket(rng: Rng, n: int) -> Array:
    """Stridulate: a tone in pulses, the pulses in chirps."""
    carrier, pulse = log_uniform(rng, 2500, 6500), log_uniform(rng, 0.015, 0.05)
    strokes, pause = rng.integers(2, 8), rng.uniform(1.2, 4)
    time = _time(samples(strokes * pulse))
    chirp = _sine(carrier * time) * _sine(0.5 / pulse * time) ** 2
    return _repeat(rng, n, strokes * pulse * pause, 0.05, lambda: chirp)


@_sound("Siren")
def _siren(rng: Rng, n: int) -> Array:
    """Wail, or yelp: a rich tone whose pitch sweeps between two bounds."""
    low, span, rate = log_uniform(rng, 350, 900), rng.uniform(0.4, 1.3), log_uniform(rng, 0.2, 4)
    sweep = 0.5 + 0.5 * _sine(rate * _time(n) + rng.uniform())
    return _wavetable(_phase(low * 2 ** (span * sweep), n), np.arange(1.0, 9) ** -rng.uniform(0.7, 2))


# Engines


def _engine(rng: Rng, rate: Array, low: float, high: float, breath: float) -> Array:
    """Send firing pulses, and noise that breathes along with them, through the resonances of block and exhaust."""
    # impulses of uneven strength, `rate` a second
    cycles = np.floor(_phase(rate, len(rate)) + rng.uniform())
    firing = np.flatnonzero(np.diff(cycles, prepend=-1.0))
    train = np.zeros(len(rate))
    train[firing] = rng.uniform(0.6, 1, len(firing))
    gate = lfilter([1], [1, -np.exp(-1 / samples(0.01))], train)
    source = train + breath * gate * rng.standard_normal(len(rate))
    return total(_resonator(source, log_uniform(rng, low, high), 0.01) for _ in range(4))


@_sound("Idling")
def _idling(rng: Rng, n: int) -> Array:
    rate = log_uniform(rng, 10, 30) * (1 + 0.08 * _wander(rng, n, 4))
    return _engine(rng, rate, 60, 700, rng.uniform(0.02, 0.2))


@_sound("Motorcycle")
def _motorcycle(rng: Rng, n: int) -> Array:
    """Rev up and down, driven hard enough to distort."""
    rate = log_uniform(rng, 20, 60) * 2 ** (rng.uniform(0.2, 1.2) * _wander(rng, n, 1))
    sound = _engine(rng, rate, 80, 1200, rng.uniform(0.02, 0.2))
    return np.tanh(rng.uniform(0.5, 2) * sound / np.std(sound))


# Drums


@_sound("Bass_drum")
def _bass_drum(rng: Rng, n: int) -> Array:
    """Drop a sine to the pitch of the drum, as in analogue drum machines."""
    pitch, bend, seconds = log_uniform(rng, 40, 90), rng.uniform(1, 4), log_uniform(rng, 0.06, 0.3)
    size = samples(5 * seconds)
    hit = _decay(size, seconds) * _sine(_phase(pitch * (1 + bend * _decay(size, 0.02)), size))
    return _repeat(rng, n, log_uniform(rng, 0.2, 1), 0.1, lambda: hit)


@_sound("Snare_drum")
def _snare_drum(rng: Rng, n: int) -> Array:
    pitch, seconds, wires = log_uniform(rng, 140, 260), log_uniform(rng, 0.04, 0.2), rng.uniform(0.5, 2)
    size = samples(5 * seconds)
    head = _decay(size, seconds / 2) * (_sine(pitch * _time(size)) + 0.6 * _sine(1.8 * pitch * _time(size)))
    rattle = wires * _decay(size, seconds)
    return _repeat(rng, n, log_uniform(rng, 0.1, 0.8), 0.2, lambda: head + rattle * rng.standard_normal(size))


@_sound("Hi-hat")
def _hi_hat(rng: Rng, n: int) -> Array:
    """Hit with high-passed noise, short when closed, long when open."""
    cutoff, seconds, interval = log_uniform(rng, 3000, 8000), log_uniform(rng, 0.015, 0.2), log_uniform(rng, 0.1, 0.6)
    fade = _decay(samples(5 * seconds), seconds)
    return _repeat(rng, n, interval, 0.1, lambda: _pass("high", rng.standard_normal(len(fade)), cutoff) * fade)
