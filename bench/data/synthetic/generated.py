"""Fresh sounds to train on, without end: a batch is a function of seed and step, and nothing is on disk."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.data.synthetic.voices import VOICES, Array, highest

__all__ = ["GeneratedBatch", "generate"]

# a piano's middle five octaves; at low sample rates up to what voices can play
_PITCHES = (65.0, 2093.0)
# Seconds that a note has sounded before its window, as windows at random places of recordings have it: later, most of
# what was struck or plucked has faded.
_AGES = (0.0, 0.25)
# as in the demo set: were all as loud, quiet recordings would be strange to whatever learned from these
_PEAK_DBFS = (-30.0, -1.0)


@dataclass(frozen=True, eq=False)
class GeneratedBatch:
    """Sounds, and what they are."""

    # (b, n) int16, as a pack has them
    samples: NDArray[np.int16]
    # (b,) indices into `list(VOICES)`
    voice: NDArray[np.int64]
    # (b,) in Hz, of the fundamental, or of the resonance
    pitch: Array


def generate(seed: int, step: int, size: int, n: int, sample_rate: int) -> GeneratedBatch:
    """Play the `size` notes of n samples that step number `step` (from 0) trains on: each a window of a note.

    Voices, pitches (log-uniform over five octaves), timbres, ages and peaks are drawn. The same arguments give the same
    samples, whatever was asked for before.
    """
    # a third number, as the demo set draws by a seed and a clip's number
    rng = np.random.default_rng([seed, step, 1])
    voice = rng.integers(len(VOICES), size=size)
    pitch = np.exp(rng.uniform(np.log(_PITCHES[0]), np.log(min(_PITCHES[1], highest(sample_rate))), size))
    age = rng.uniform(*_AGES, size)
    sounds = np.empty((size, n))
    for number, play in enumerate(VOICES.values()):
        rows = voice == number
        if rows.any():
            sounds[rows] = play(rng, pitch[rows], age[rows], n, sample_rate)
    peak = 32_767 * 10 ** (rng.uniform(*_PEAK_DBFS, size) / 20)
    sounds *= (peak / np.abs(sounds).max(axis=1))[:, None]
    return GeneratedBatch(np.rint(sounds).astype(np.int16), voice, pitch)
