"""Generate a data set in the layout of FSD50K, to try the benchmark in minutes.

WAV files and the official tables, for 28 leaf classes and their ancestors. It has what makes FSD50K hard: rare classes,
mixtures, labels of ancestors, and uploaders whose clips sound alike and are all in one split. Scores on it say nothing
about scores on FSD50K.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.dataset import Progress
from bench.data.readers.fsd50k import FSDClass, load_classes
from bench.data.synthetic.synthesis import SOUNDS, Array, Rng, band, coloured_noise, log_uniform, samples, total
from bench.data.synthetic.writing import GeneratedClip, GeneratedSet, write_set
from bench.errors import UserError
from bench.locks import say

__all__ = ["plan", "write_demo"]

# FSD50K's clips last 0.3 to 30 s; these are shorter, for the sake of the minutes.
_SECONDS = (0.3, 4.0)
_SNR_DB = (10, 40)
_PEAK_DBFS = (-30, -1)
_MIXTURES = 0.2  # share of clips with two sounds
_VALIDATION = 0.2  # share of dev
_IMBALANCE = 3  # how often the commonest class occurs for once of the rarest
_ECHOES = 12
# Each split has its own: a model must not gain in val or eval from knowing a room.
_RECORDISTS = {"train": 10, "val": 4, "eval": 5}
_FEWEST = -(-len(SOUNDS) // 2)  # clips of two sounds each that hold every class once
_BYTES_PER_CLIP = 200_000  # on average, at 1.8 s


@dataclass(frozen=True, eq=False)
class _Recordist:
    """An uploader: room, microphone and background are the same in all of their clips."""

    name: str
    echoes: list[tuple[int, float]]  # delay in samples and gain of each early reflection
    limits: tuple[float, float]  # of the microphone's band, in Hz
    background: Array  # a recording of nothing in particular, longer than any clip


@dataclass(frozen=True)
class _Clip:
    """What is to be generated: the labels in `sounds`, as `recordist` records them."""

    id: int
    split: str
    sounds: tuple[str, ...]
    recordist: _Recordist


def write_demo(
    folder: Path,
    *,
    dev_clips: int = 440,
    eval_clips: int = 100,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    notice: Callable[[str], None] = say,
) -> None:
    """Write the demo set: all of it, or nothing. The same arguments give the same bytes. `progress` takes clips.

    A set that is there already, made by the same arguments, is left as it is. While another process writes one there,
    `notice` is told, and this one waits. Raises UserError if the clips are too few for every class, the folder holds
    anything else, or the disk is too small.
    """
    if dev_clips < 2 * _FEWEST or eval_clips < _FEWEST:
        raise UserError(
            f"{dev_clips} dev and {eval_clips} eval clips cannot hold every class: "
            f"ask for at least {2 * _FEWEST} dev and {_FEWEST} eval clips"
        )
    clips = plan(dev_clips, eval_clips, seed)
    generated = GeneratedSet(_vocabulary(), _listed(clips), lambda place: _render(clips[place], seed), _BYTES_PER_CLIP)
    write_set(folder, generated, progress=progress, notice=notice)


# The plan: who records what, and for which split


def plan(dev_clips: int, eval_clips: int, seed: int) -> list[_Clip]:
    """Draw who records what, and for which split; return all clips by ascending ID."""
    # clips have the streams of their IDs, which start at 1, so that they can be rendered in any order
    rng = np.random.default_rng([seed, 0])
    val_clips = max(round(_VALIDATION * dev_clips), _FEWEST)
    sizes = {"train": dev_clips - val_clips, "val": val_clips, "eval": eval_clips}
    # shuffled, so that an ID says nothing about the split
    ids = iter(1 + rng.permutation(500_000)[: dev_clips + eval_clips])
    popularity = _IMBALANCE ** -np.linspace(0, 1, len(SOUNDS))[rng.permutation(len(SOUNDS))]
    clips: list[_Clip] = []
    numbers = count()
    for split, size in sizes.items():
        recordists = [_make_recordist(rng, f"recordist_{next(numbers):02d}") for _ in range(_RECORDISTS[split])]
        for sounds in _spread(rng, size, popularity):
            clips.append(_Clip(int(next(ids)), split, sounds, recordists[rng.integers(len(recordists))]))
    return sorted(clips, key=lambda clip: clip.id)


def _make_recordist(rng: Rng, name: str) -> _Recordist:
    # the room is a tapped delay line, as for the early reflections in Moorer, "About this reverberation business", 1979
    delays = rng.integers(1, samples(log_uniform(rng, 0.005, 0.08)), _ECHOES)
    gains = rng.uniform(0, 0.5) * rng.uniform(-1, 1, _ECHOES)
    limits = (log_uniform(rng, 30, 200), log_uniform(rng, 4000, 16_000))
    background = band(coloured_noise(rng, samples(2 * _SECONDS[1]), float(rng.choice([0, 1, 2]))), *limits)
    return _Recordist(name, list(zip(delays.tolist(), gains.tolist(), strict=True)), limits, background)


def _spread(rng: Rng, clips: int, popularity: Array) -> list[tuple[str, ...]]:
    """Draw the sounds of each clip. Every class occurs: where clips are few, more of them are mixtures."""
    # one clip of each class first, then the rest by popularity
    extra = max(round((1 + _MIXTURES) * clips), len(SOUNDS)) - len(SOUNDS)
    shares = np.cumsum(extra * popularity / popularity.sum())
    counts = 1 + np.diff(np.rint(shares), prepend=0).astype(int)
    # a shuffled deck, rather than a draw a clip, so that the counts hold exactly; a pair of the same is one sound
    deck = rng.permutation(np.repeat(sorted(SOUNDS), counts)).tolist()
    first, second = deck[:clips], deck[clips:]
    mixtures = [(a, b) if a != b else (a,) for a, b in zip(first, second, strict=False)]
    return mixtures + [(a,) for a in first[len(second) :]]


# Audio


def _render(clip: _Clip, seed: int) -> NDArray[np.int16]:
    """Return the sounds of a clip as its recordist hears them, in their background noise: (samples,) at 44.1 kHz."""
    # its own stream: the bytes do not depend on the order in which threads get to the clips
    rng = np.random.default_rng([seed, clip.id])
    # skewed to short, 2.6 s on average
    n = samples(_SECONDS[0] + (_SECONDS[1] - _SECONDS[0]) * rng.beta(1.1, 1.6))
    dry = total(_decibels(rng.uniform(-6, 0)) * _unit(SOUNDS[label](rng, n)) for label in clip.sounds)
    wet = dry.copy()
    for delay, gain in clip.recordist.echoes:
        wet[delay:] += gain * dry[:-delay]
    signal = band(wet, *clip.recordist.limits)
    start = rng.integers(len(clip.recordist.background) - n)
    background = clip.recordist.background[start : start + n]
    mix = _unit(signal) + _decibels(-rng.uniform(*_SNR_DB)) * _unit(background)
    # the peak is drawn, too: if loudness gave the class away, a model could do without the sound
    peak = _decibels(rng.uniform(*_PEAK_DBFS)) / np.abs(mix).max()
    return np.rint(32_767 * peak * mix).astype(np.int16)


def _unit(x: Array) -> Array:
    """Scale to a root mean square of one."""
    return x / float(np.sqrt(np.mean(x**2)))


def _decibels(level: float) -> float:
    """Return the factor of amplitude that a level in dB stands for."""
    return float(10 ** (level / 20))


# Tables


def _vocabulary() -> dict[str, str]:
    """Return the labels that clips may have, sorted, and the id of each."""
    classes = {entry.label: entry for entry in load_classes()}
    return {label: classes[label].mid for label in sorted(_propagate(SOUNDS, classes))}


def _listed(clips: Iterable[_Clip]) -> list[GeneratedClip]:
    classes = {entry.label: entry for entry in load_classes()}
    return [
        GeneratedClip(
            clip.id, clip.split, _propagate(clip.sounds, classes),
            [label.replace("_", " ").lower() for label in clip.sounds], clip.recordist.name,
        )
        for clip in clips
    ]  # fmt: skip


def _propagate(leaves: Iterable[str], classes: Mapping[str, FSDClass]) -> list[str]:
    """Return the leaves, then their ancestors from the nearest up, each once: the order of FSD50K."""
    leaves = list(leaves)
    ancestors = [label for leaf in leaves for label in reversed(classes[leaf].ancestors)]
    return list(dict.fromkeys(leaves + ancestors))
