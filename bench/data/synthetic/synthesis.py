"""The sounds of the demo set: for each class a function `name(rng, n)` that returns `n` samples at 44.1 kHz,
made by a classical method of synthesis. Pitch, timbre, rate and envelope are drawn from `rng`. The scale is
free: the mixer sets the levels."""

import functools
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfftfreq
from scipy.signal import butter, lfilter, sosfilt

RATE = 44_100

Array = NDArray[np.float64]
Rng = np.random.Generator
Sound = Callable[[Rng, int], Array]

PENTATONIC = (0, 2, 4, 7, 9, 12)  # semitones above the root


# Building blocks: time, envelopes and random curves


def samples(seconds: float) -> int:
    return max(1, int(seconds * RATE))


def time(n: int) -> Array:
    return np.arange(n) / RATE


def decay(n: int, seconds: float) -> Array:
    """An exponential that falls by 1/e in `seconds`."""
    return np.exp(-time(n) / seconds)


def hump(n: int) -> Array:
    """A Hann window: a note that swells and fades."""
    return np.sin(np.pi * np.arange(n) / n) ** 2


def ramps(n: int, attack: float, release: float) -> Array:
    """Linear rise and fall, of these lengths in seconds, round a sound held at one."""
    return np.minimum(1, np.minimum(time(n) / attack, time(n)[::-1] / release))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Pitches, rates and durations are perceived as ratios, so they are drawn as ratios."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def wander(rng: Rng, n: int, rate: float) -> Array:
    """A slow random curve in [0, 1]: uniform points, `rate` a second, joined by lines."""
    points = rng.uniform(size=int(n / RATE * rate) + 3)
    return np.interp(time(n) * rate + rng.uniform(), np.arange(len(points)), points)


def phase(frequency: Array | float, n: int) -> Array:
    """The running phase, in cycles, of an oscillator with this instantaneous frequency in Hz."""
    return np.cumsum(np.broadcast_to(np.asarray(frequency) / RATE, n))


def sine(cycles: Array) -> Array:
    return np.sin(2 * np.pi * cycles)


def total(sounds: Iterable[Array]) -> Array:
    return functools.reduce(np.add, sounds)


def repeat(rng: Rng, n: int, interval: float, irregularity: float, event: Callable[[], Array]) -> Array:
    """Adds up copies of `event()` about `interval` seconds apart, each at its own loudness.

    Intervals follow a gamma distribution: `irregularity` near 0 makes a clock, 1 a Poisson process.
    """
    out = np.zeros(n)
    shape = irregularity**-2
    start = int(rng.uniform(0, min(samples(interval), n) / 2))
    while start < n:
        sound = event()[: n - start]
        out[start : start + len(sound)] += rng.uniform(0.4, 1) * sound
        start += samples(rng.gamma(shape, interval / shape))
    return out


def melody(rng: Rng, n: int, root: float, interval: float, note: Callable[[float], Array]) -> Array:
    """`note(pitch)` on random steps of a pentatonic scale above `root`, rendered once for each step."""
    step = functools.cache(lambda semitones: note(root * 2 ** (semitones / 12)))
    return repeat(rng, n, interval, 0.1, lambda: step(int(rng.choice(PENTATONIC))))


# Building blocks: noise, filters and oscillators


def coloured_noise(rng: Rng, n: int, exponent: float) -> Array:
    """Noise with a power spectrum of 1 / f**exponent: 0 white, 1 pink, 2 brown (Timmer & Koenig 1995)."""
    if exponent == 0:
        return rng.standard_normal(n)
    size = next_fast_len(n, real=True)
    frequency = rfftfreq(size, 1 / RATE)
    weight = np.maximum(frequency, 20) ** (-exponent / 2)  # flat below what can be heard
    real, imaginary = weight * rng.standard_normal((2, len(weight)))
    noise: Array = irfft(real + 1j * imaginary, size)
    return noise[:n]


@functools.lru_cache  # the hits in a clip share a filter whose design would cost more than its use
def butterworth(kind: str, cutoff: float | tuple[float, float]) -> Array:
    """Second-order sections with 12 dB per octave at either side."""
    sections: Array = butter(2, cutoff, kind, fs=RATE, output="sos")
    return sections


def band(x: Array, low: float, high: float) -> Array:
    y: Array = sosfilt(butterworth("bandpass", (low, high)), x)
    return y


def lowpass(x: Array, cutoff: float) -> Array:
    y: Array = sosfilt(butterworth("lowpass", cutoff), x)
    return y


def highpass(x: Array, cutoff: float) -> Array:
    y: Array = sosfilt(butterworth("highpass", cutoff), x)
    return y


def resonator(x: Array, frequency: float, seconds: float) -> Array:
    """A pair of poles that rings at `frequency` and falls by 1/e in `seconds`."""
    radius = np.exp(-1 / (seconds * RATE))
    y: Array = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2], x)
    return y


def wavetable(cycles: Array, harmonics: Array) -> Array:
    """Additive synthesis: a sum of sines with the amplitudes `harmonics`, read from a table of one period."""
    table: Array = irfft(np.concatenate([[0], -1j * harmonics]), 2048)
    return table[(cycles * len(table)).astype(np.int64) % len(table)]


def audible(pitch: float, harmonics: Array) -> Array:
    """Drops the harmonics above 16 kHz, which would alias."""
    return harmonics[: max(1, int(16_000 / pitch))]


def frequency_modulation(n: int, carrier: float, ratio: float, index: Array | float) -> Array:
    """Chowning (1973), "The synthesis of complex audio spectra by means of frequency modulation"."""
    return np.sin(2 * np.pi * carrier * time(n) + index * np.sin(2 * np.pi * carrier * ratio * time(n)))


def bell(seconds: float, carrier: float, ratio: float, index: float) -> Array:
    """Chowning's bell: amplitude and modulation index decay together, so the tone gets purer as it fades."""
    n = samples(4 * seconds)
    envelope = decay(n, seconds)
    return envelope * frequency_modulation(n, carrier, ratio, index * envelope)


def pluck(rng: Rng, pitch: float, seconds: float, cutoff: float, position: float, loss: float) -> Array:
    """Karplus & Strong (1983): a burst of noise round a delay line of one period and a two-point mean.

    As extended by Jaffe & Smith (1983): `cutoff` in Hz sets how bright the burst is, `position` (0 to 0.5)
    where along the string it is plucked, and `loss` what is left after each turn.
    """
    period = samples(1 / pitch)
    burst = lowpass(rng.standard_normal(2 * period), cutoff)[period:]  # past the onset of the filter
    string = np.zeros(1 + max(period, samples(seconds)))
    string[1 : period + 1] = burst - np.roll(burst, int(position * period))
    for start in range(period + 1, len(string), period):  # a turn at a time; lfilter would go tap by tap
        turn = string[start - period - 1 : min(start, len(string) - period)]
        string[start : start + period] = loss / 2 * (turn[1:] + turn[:-1])
    return string[1:]


def bubble(rng: Rng, low: float, high: float) -> Array:
    """A drop closing over air: a short sine at the bubble's resonance that rises as it nears the surface.

    Minnaert (1933); van den Doel (2005), "Physically based models for liquid sounds".
    """
    pitch = log_uniform(rng, low, high)
    seconds = 20 / pitch
    n = samples(4 * seconds)
    return decay(n, seconds) * sine(phase(pitch * (1 + rng.uniform(0, 6) * time(n)), n))


def click(rng: Rng, low: float, high: float, seconds: float) -> Array:
    """A hit: decaying noise in a band."""
    n = samples(5 * seconds)
    return band(rng.standard_normal(n) * decay(n, seconds), low, high)


def pulses(rng: Rng, rate: Array) -> Array:
    """A train of impulses of uneven strength at `rate` a second: the firing of an engine."""
    cycles = np.floor(phase(rate, len(rate)) + rng.uniform())
    firing = np.flatnonzero(np.diff(cycles, prepend=-1.0))
    train = np.zeros(len(rate))
    train[firing] = rng.uniform(0.6, 1, len(firing))
    return train


# Plucked strings


def acoustic_guitar(rng: Rng, n: int) -> Array:
    cutoff, position, loss = log_uniform(rng, 1500, 7000), rng.uniform(0.1, 0.3), rng.uniform(0.985, 0.998)
    root, interval = log_uniform(rng, 82, 330), log_uniform(rng, 0.15, 1.2)
    return melody(rng, n, root, interval, lambda pitch: pluck(rng, pitch, 1.5, cutoff, position, loss))


def bass_guitar(rng: Rng, n: int) -> Array:
    cutoff, position, loss = log_uniform(rng, 500, 3000), rng.uniform(0.1, 0.4), rng.uniform(0.97, 0.995)
    root, interval = log_uniform(rng, 41, 110), log_uniform(rng, 0.2, 1)
    return melody(rng, n, root, interval, lambda pitch: pluck(rng, pitch, 1.5, cutoff, position, loss))


def harp(rng: Rng, n: int) -> Array:
    cutoff, position, loss = log_uniform(rng, 1500, 6000), rng.uniform(0.35, 0.5), rng.uniform(0.99, 0.999)
    root, interval = log_uniform(rng, 130, 700), log_uniform(rng, 0.1, 0.6)
    return melody(rng, n, root, interval, lambda pitch: pluck(rng, pitch, 1.5, cutoff, position, loss))


# Bells and bars


def church_bell(rng: Rng, n: int) -> Array:
    carrier, ratio, index = log_uniform(rng, 140, 600), rng.uniform(1.38, 1.45), rng.uniform(3, 10)
    stroke = bell(log_uniform(rng, 0.5, 2), carrier, ratio, index)
    return repeat(rng, n, log_uniform(rng, 0.8, 3), 0.05, lambda: stroke)


def bicycle_bell(rng: Rng, n: int) -> Array:
    carrier, ratio, index = log_uniform(rng, 1200, 3500), rng.uniform(1.3, 2.8), rng.uniform(0.5, 3)
    stroke = bell(log_uniform(rng, 0.1, 0.5), carrier, ratio, index)
    trill = log_uniform(rng, 0.05, 0.12)

    def ring() -> Array:
        size = samples(rng.uniform(2, 6) * trill)
        return repeat(rng, size, trill, 0.15, lambda: stroke) * ramps(size, 0.001, trill)

    return repeat(rng, n, log_uniform(rng, 0.5, 1.5), 0.3, ring)


def glockenspiel(rng: Rng, n: int) -> Array:
    root, interval = log_uniform(rng, 700, 2200), log_uniform(rng, 0.12, 0.7)
    seconds, index = log_uniform(rng, 0.15, 0.8), rng.uniform(0.3, 2)
    overtone = 2.756  # the second mode of a free bar
    return melody(rng, n, root, interval, lambda pitch: bell(seconds, pitch, overtone, index))


def gong(rng: Rng, n: int) -> Array:
    carrier, ratio, index = log_uniform(rng, 60, 250), rng.uniform(1.15, 1.6), rng.uniform(3, 12)
    seconds, swell = log_uniform(rng, 0.5, 2), log_uniform(rng, 0.05, 0.4)
    size = samples(4 * seconds)
    envelope = decay(size, seconds) * (1 - decay(size, swell))  # the high modes build up after the stroke
    stroke = envelope * frequency_modulation(size, carrier, ratio, index * envelope)
    return repeat(rng, n, log_uniform(rng, 1.5, 4), 0.2, lambda: stroke)


# Organ, brass and reeds


def organ(rng: Rng, n: int) -> Array:
    """A chord with random drawbars: harmonics 1, 2, 3, 4, 6 and 8."""
    drawbars = np.zeros(8)
    drawbars[[0, 1, 2, 3, 5, 7]] = rng.uniform(size=6)
    vibrato = 1 + rng.uniform(0, 0.006) * sine(rng.uniform(5, 7) * time(n))
    root = log_uniform(rng, 65, 400)
    chord = rng.choice([0, 3, 4, 7, 12], rng.integers(1, 4), replace=False)
    return total(wavetable(phase(root * 2 ** (step / 12) * vibrato, n), drawbars) for step in chord)


def trumpet(rng: Rng, n: int) -> Array:
    """Chowning's brass: carrier and modulator in unison, the modulation index follows the loudness."""
    index, length = rng.uniform(2, 6), log_uniform(rng, 0.15, 1)

    def note(pitch: float) -> Array:
        size = samples(length)
        envelope = ramps(size, 0.04, 0.08)
        return envelope * frequency_modulation(size, pitch, 1, index * envelope)

    return melody(rng, n, log_uniform(rng, 165, 600), length * rng.uniform(1, 1.3), note)


def harmonica(rng: Rng, n: int) -> Array:
    """Two reeds a little out of tune; the breath makes the tremolo."""
    rolloff = rng.uniform(0.5, 1.3)
    detune, length = rng.uniform(1.002, 1.012), log_uniform(rng, 0.15, 1)
    tremolo = rng.uniform(0, 0.4)

    def note(pitch: float) -> Array:
        size = samples(length)
        reeds = audible(pitch, np.arange(1.0, 25) ** -rolloff)
        tone = wavetable(phase(pitch, size), reeds) + wavetable(phase(pitch * detune, size), reeds)
        return np.sqrt(hump(size)) * tone * (1 + tremolo * sine(5 * time(size)))

    return melody(rng, n, log_uniform(rng, 200, 700), length * rng.uniform(0.9, 1.2), note)


# Weather, water and other noise


def wind(rng: Rng, n: int) -> Array:
    """Gusts: the stronger, the brighter."""
    noise = coloured_noise(rng, n, 1)
    centre = log_uniform(rng, 150, 600)
    gust = wander(rng, n, log_uniform(rng, 0.5, 3))
    return gust * band(noise, centre, 3 * centre) * gust + (0.3 + gust) * lowpass(noise, centre)


def waves_and_surf(rng: Rng, n: int) -> Array:
    """A swell of pink noise with a brighter crest."""
    noise = coloured_noise(rng, n, rng.uniform(0.5, 1.2))
    swell = wander(rng, n, log_uniform(rng, 0.3, 1.5)) ** 2 + 0.1
    return swell * lowpass(noise, log_uniform(rng, 800, 2500)) + swell**2 * band(noise, 1000, 8000)


def stream(rng: Rng, n: int) -> Array:
    """A rush of noise with bubbles all over it."""
    low = log_uniform(rng, 300, 1000)
    rush = band(coloured_noise(rng, n, 1), low, rng.uniform(4, 10) * low)
    bubbles = repeat(rng, n, log_uniform(rng, 0.006, 0.03), 1, lambda: bubble(rng, low, 4 * low))
    return rush / np.std(rush) + rng.uniform(0.5, 2) * bubbles / np.std(bubbles)


def raindrop(rng: Rng, n: int) -> Array:
    """Single drops: a tap, sometimes followed by a bubble."""
    low, seconds = log_uniform(rng, 700, 3000), log_uniform(rng, 0.002, 0.008)

    def drop() -> Array:
        return bubble(rng, low, 3 * low) if rng.uniform() < 0.5 else click(rng, low, 4 * low, seconds)

    return repeat(rng, n, log_uniform(rng, 0.03, 0.3), 1, drop)


def thunder(rng: Rng, n: int) -> Array:
    """A crack, then a rumble that rolls as its echoes come in."""
    cutoff, seconds = log_uniform(rng, 80, 400), log_uniform(rng, 0.5, 3)
    rumble = lowpass(coloured_noise(rng, n, 1), cutoff) * (0.2 + wander(rng, n, 6)) * decay(n, seconds)
    crack = coloured_noise(rng, n, 1) * decay(n, log_uniform(rng, 0.02, 0.2))
    return rumble / np.std(rumble) + rng.uniform(0, 0.8) * crack / np.std(crack)


def hiss(rng: Rng, n: int) -> Array:
    noise = highpass(rng.standard_normal(n), log_uniform(rng, 1500, 6000))
    return noise * (1 + rng.uniform(-0.5, 2) * wander(rng, n, 2))


# Impacts


def knock(rng: Rng, n: int) -> Array:
    """Knuckles on wood: quick groups of hits on two modes of a panel."""
    low, seconds = log_uniform(rng, 100, 350), log_uniform(rng, 0.015, 0.05)
    interval = log_uniform(rng, 0.12, 0.3)

    def hit() -> Array:
        body = click(rng, 50, 2500, 0.003)
        tail = np.pad(body, (0, samples(4 * seconds)))
        return resonator(tail, low, seconds) + 0.5 * resonator(tail, 2.3 * low, seconds / 2)

    def group() -> Array:
        size = samples(interval * rng.uniform(2, 5))
        return repeat(rng, size, interval, 0.1, hit) * ramps(size, 0.001, 0.02)

    return repeat(rng, n, log_uniform(rng, 1, 2), 0.2, group)


def clapping(rng: Rng, n: int) -> Array:
    """Noise through the hollow of the hands, by one person or a few."""
    interval, seconds = log_uniform(rng, 0.18, 0.5), log_uniform(rng, 0.004, 0.02)

    def person() -> Array:
        low = log_uniform(rng, 500, 1500)
        return repeat(rng, n, interval, 0.08, lambda: click(rng, low, 3 * low, seconds))

    return total(person() for _ in range(rng.integers(1, 5)))


def tick_tock(rng: Rng, n: int) -> Array:
    """Two strokes of an escapement in turn, as regular as can be."""
    low, ratio, interval = log_uniform(rng, 900, 4000), rng.uniform(0.7, 0.95), log_uniform(rng, 0.15, 0.6)
    seconds = log_uniform(rng, 0.002, 0.006)
    strokes = 0

    def stroke() -> Array:
        nonlocal strokes
        strokes += 1
        centre = low * ratio ** (strokes % 2)
        return click(rng, centre, 2 * centre, seconds)

    return repeat(rng, n, interval, 0.01, stroke)


def computer_keyboard(rng: Rng, n: int) -> Array:
    """Each key clicks on its way down and, more softly, on its way up."""
    low, seconds = log_uniform(rng, 900, 3000), log_uniform(rng, 0.002, 0.008)

    def key() -> Array:
        down, up = click(rng, low, 4 * low, seconds), 0.5 * click(rng, 1.3 * low, 5 * low, seconds)
        return np.concatenate([down, np.zeros(samples(rng.uniform(0.03, 0.08))), up])

    return repeat(rng, n, log_uniform(rng, 0.09, 0.3), 0.5, key)


# Animals and alarms


def chirp_and_tweet(rng: Rng, n: int) -> Array:
    """Quick glides of a nearly pure tone, now up, now down."""
    centre, span = log_uniform(rng, 2000, 6000), rng.uniform(0.1, 0.6)
    length = log_uniform(rng, 0.03, 0.2)

    def note() -> Array:
        size = samples(length)
        glide = rng.uniform(-span, span) * np.linspace(-1, 1, size) + rng.uniform(-0.2, 0.2) * span
        return hump(size) * sine(phase(centre * 2**glide, size))

    return repeat(rng, n, length * rng.uniform(1.2, 4), 0.5, note)


def cricket(rng: Rng, n: int) -> Array:
    """Stridulation: a tone in pulses, the pulses in chirps."""
    carrier, pulse = log_uniform(rng, 2500, 6500), log_uniform(rng, 0.015, 0.05)
    strokes, pause = rng.integers(2, 8), rng.uniform(1.2, 4)

    def chirp() -> Array:
        size = samples(strokes * pulse)
        return sine(carrier * time(size)) * sine(0.5 / pulse * time(size)) ** 2

    return repeat(rng, n, strokes * pulse * pause, 0.05, chirp)


def siren(rng: Rng, n: int) -> Array:
    """A rich tone whose pitch wails, or yelps, between two bounds."""
    low, span, rate = log_uniform(rng, 350, 900), rng.uniform(0.4, 1.3), log_uniform(rng, 0.2, 4)
    sweep = 0.5 + 0.5 * sine(rate * time(n) + rng.uniform())
    return wavetable(phase(low * 2 ** (span * sweep), n), np.arange(1.0, 9) ** -rng.uniform(0.7, 2))


# Engines


def engine(rng: Rng, rate: Array, low: float, high: float, breath: float) -> Array:
    """Firing pulses through the resonances of block and exhaust, and noise that breathes along with them."""
    train = pulses(rng, rate)
    gate = lfilter([1], [1, -np.exp(-1 / samples(0.01))], train)
    source = train + breath * gate * rng.standard_normal(len(rate))
    return total(resonator(source, log_uniform(rng, low, high), 0.01) for _ in range(4))


def idling(rng: Rng, n: int) -> Array:
    rate = log_uniform(rng, 10, 30) * (1 + 0.08 * wander(rng, n, 4))
    return engine(rng, rate, 60, 700, rng.uniform(0.02, 0.2))


def motorcycle(rng: Rng, n: int) -> Array:
    """Revs up and down, and is driven hard enough to distort."""
    rate = log_uniform(rng, 20, 60) * 2 ** (rng.uniform(0.2, 1.2) * wander(rng, n, 1))
    sound = engine(rng, rate, 80, 1200, rng.uniform(0.02, 0.2))
    return np.tanh(rng.uniform(0.5, 2) * sound / np.std(sound))


# Drums


def bass_drum(rng: Rng, n: int) -> Array:
    """A sine that falls to the pitch of the drum, as in analogue drum machines."""
    pitch, bend, seconds = log_uniform(rng, 40, 90), rng.uniform(1, 4), log_uniform(rng, 0.06, 0.3)
    size = samples(5 * seconds)
    hit = decay(size, seconds) * sine(phase(pitch * (1 + bend * decay(size, 0.02)), size))
    return repeat(rng, n, log_uniform(rng, 0.2, 1), 0.1, lambda: hit)


def snare_drum(rng: Rng, n: int) -> Array:
    """Two modes of the head and the rattle of the wires."""
    pitch, seconds, wires = log_uniform(rng, 140, 260), log_uniform(rng, 0.04, 0.2), rng.uniform(0.5, 2)

    def hit() -> Array:
        size = samples(5 * seconds)
        head = sine(pitch * time(size)) + 0.6 * sine(1.8 * pitch * time(size))
        return decay(size, seconds / 2) * head + wires * decay(size, seconds) * rng.standard_normal(size)

    return repeat(rng, n, log_uniform(rng, 0.1, 0.8), 0.2, hit)


def hi_hat(rng: Rng, n: int) -> Array:
    """High-passed noise, short when closed, long when open."""
    cutoff, seconds = log_uniform(rng, 3000, 8000), log_uniform(rng, 0.015, 0.2)

    def hit() -> Array:
        size = samples(5 * seconds)
        return highpass(rng.standard_normal(size), cutoff) * decay(size, seconds)

    return repeat(rng, n, log_uniform(rng, 0.1, 0.6), 0.1, hit)


SOUNDS: dict[str, Sound] = {
    "Acoustic_guitar": acoustic_guitar,
    "Bass_drum": bass_drum,
    "Bass_guitar": bass_guitar,
    "Bicycle_bell": bicycle_bell,
    "Chirp_and_tweet": chirp_and_tweet,
    "Church_bell": church_bell,
    "Clapping": clapping,
    "Computer_keyboard": computer_keyboard,
    "Cricket": cricket,
    "Glockenspiel": glockenspiel,
    "Gong": gong,
    "Harmonica": harmonica,
    "Harp": harp,
    "Hi-hat": hi_hat,
    "Hiss": hiss,
    "Idling": idling,
    "Knock": knock,
    "Motorcycle": motorcycle,
    "Organ": organ,
    "Raindrop": raindrop,
    "Siren": siren,
    "Snare_drum": snare_drum,
    "Stream": stream,
    "Thunder": thunder,
    "Tick-tock": tick_tock,
    "Trumpet": trumpet,
    "Waves_and_surf": waves_and_surf,
    "Wind": wind,
}
