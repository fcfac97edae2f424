"""Generate single tones in the layout of FSD50K, a class a key of the piano: what is to be learned is pitch alone.

Voices, timbres, levels and lengths are drawn anew for every clip, so that none of them gives a key away, and no clip of
val or eval has a timbre that train has. The same tagger is trained on pitch as on sounds, and what its front end learns
of each can be laid side by side.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.dataset import Progress
from bench.data.synthetic.synthesis import RATE
from bench.data.synthetic.voices import play
from bench.data.synthetic.writing import GeneratedClip, GeneratedSet, write_set
from bench.errors import UserError
from bench.locks import say

__all__ = ["KEYS", "frequency", "plan", "require_rate", "write_pitch"]

_NOTES = ("A", "A#", "B", "C", "C#", "D", "D#", "E", "F", "F#", "G", "G#")
# in scientific pitch notation, where an octave begins with C
KEYS = tuple(f"{_NOTES[key % 12]}{(key + 9) // 12}" for key in range(88))
_A4, _A4_HZ = KEYS.index("A4"), 440.0
# the voices that have a pitch; filtered noise, the fifth, is between a tone and a hiss
_VOICES = ("karplus_strong", "fm_bell", "fm_brass", "additive")
# at least a second: what is shorter is repeated in packs, and would be struck twice
_SECONDS = (1.0, 1.4)
# below full scale by what a resampler may add
_PEAK_DBFS = (-30, -3)
_BYTES_PER_CLIP = 110_000
# of a sample rate, what a resampler lets pass
_PASSED = 0.45


@dataclass(frozen=True)
class _Clip:
    """A tone that is to be played; what else it has is drawn from its own stream."""

    id: int
    split: str
    key: int
    voice: str


def frequency(key: int) -> float:
    """Return the fundamental of a key, from 0 (A0) to 87 (C8), in Hz: equal temperament, 440 Hz at A4."""
    return float(_A4_HZ * 2 ** ((key - _A4) / 12))


def require_rate(sample_rate: int) -> None:
    """Raise UserError if a pack at this sample rate, in Hz, would not hold the highest key."""
    highest = frequency(len(KEYS) - 1)
    if highest > _PASSED * sample_rate:
        least = math.ceil(highest / _PASSED)
        raise UserError(
            f"pitch: {KEYS[-1]} is {highest:,.0f} Hz, which a pack at {sample_rate} Hz does not hold; take a sample "
            f"rate of at least {least} Hz"
        )


def write_pitch(
    folder: Path,
    *,
    train_clips: int = 8,
    val_clips: int = 2,
    eval_clips: int = 2,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    notice: Callable[[str], None] = say,
) -> None:
    """Write so many clips of each of 88 keys: all of them, or nothing. The same arguments give the same bytes.

    A set that is there already, made by the same arguments, is left as it is. While another process writes one there,
    `notice` is told, and this one waits. `progress` takes clips. Raises UserError if a split would be empty, the folder
    holds anything else, or the disk is too small.
    """
    sizes = {"train": train_clips, "val": val_clips, "eval": eval_clips}
    if empty := [split for split, clips in sizes.items() if clips < 1]:
        raise UserError(f"{empty[0]}_clips={sizes[empty[0]]}: every split needs at least one clip of each key")
    clips = plan(sizes, seed)
    listed = [GeneratedClip(c.id, c.split, [KEYS[c.key]], [f"{KEYS[c.key]} of {c.voice}"], None) for c in clips]
    generated = GeneratedSet(
        dict.fromkeys(KEYS, ""), listed, lambda place: _render(clips[place], seed), _BYTES_PER_CLIP
    )
    write_set(folder, generated, progress=progress, notice=notice)


def plan(sizes: dict[str, int], seed: int) -> list[_Clip]:
    """Choose who plays what, for so many clips of each key in each split; return all clips by ascending id."""
    rng = np.random.default_rng([seed, 0, 2])
    # shuffled, so that an id says nothing about split or key
    ids = iter((1 + rng.permutation(500_000)[: len(KEYS) * sum(sizes.values())]).tolist())
    clips = [
        # all voices in turn, beginning with another one on the next key: no voice is commoner, of a key or of a split
        _Clip(next(ids), split, key, _VOICES[(key + number) % len(_VOICES)])
        for split, size in sizes.items()
        for key in range(len(KEYS))
        for number in range(size)
    ]
    return sorted(clips, key=lambda clip: clip.id)


def _render(clip: _Clip, seed: int) -> NDArray[np.int16]:
    """Play a tone from its beginning: (samples,) at 44.1 kHz."""
    # its own stream: the bytes do not depend on the order in which threads get to the clips; and not the demo set's
    rng = np.random.default_rng([seed, clip.id, 2])
    seconds, peak = rng.uniform(*_SECONDS), 10 ** (rng.uniform(*_PEAK_DBFS) / 20)
    sound = play(clip.voice, frequency(clip.key), seconds, int(rng.integers(2**32)), RATE)
    return np.rint(32_767 * peak * sound / np.abs(sound).max()).astype(np.int16)
