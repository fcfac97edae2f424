"""Make 16 bits of what a recording holds, and notice what is lost by that.

A pack holds 16 bits, mono. Recordings in floats may be louder than full scale: they are scaled down to it, as a whole.
What else can't be helped is noted, so that nobody finds out from a model: see NOTES.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.dataset import AudioError

__all__ = ["NOTES", "Levels", "Samples"]

Samples = npt.NDArray[np.int16]
# What may be noted about a recording, and what it means.
NOTES = {
    "scaled": "louder than full scale, and scaled down to it",
    "clipped": "at full scale for more than a thousandth of its time",
    "silent": "without any sound",
    "cancelled": "its channels cancel each other out when they are averaged",
    "faint": "so quiet that 16 bits lose it",
}
# Share of the samples at full scale beyond which a recording counts as clipped: loud music touches it here and there.
_CLIPPED = 1e-3
# Share of the power that independent channels keep when they are averaged, below which they cancel.
_CANCELLED = 1e-2
# Steps of 16 bits that the loudest sample of a recording in more bits should reach: of less than that, noise is left.
_FAINT = 32


class Levels:
    """Takes a recording's samples on their way into 16 bits, in as many pieces as they come in; knows what was lost."""

    def __init__(self, peak: float = 0.0, *, is_fine: bool = False) -> None:
        """Begin a recording.

        Args:
            peak: The largest magnitude in it; over 1 all of it is divided by that.
            is_fine: Whether it holds more than 16 bits, so that some of it can be too quiet for them.
        """
        self._peak, self._is_fine = peak, is_fine
        self._power = self._mixed_power = 0.0
        self._samples = self._at_full_scale = self._loudest = 0

    def downmix(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Average the channels of (n, channels), int16 or float32; return floats in steps of 16 bits, (n,)."""
        if x.dtype != np.int16:
            if not np.isfinite(x).all():
                raise AudioError("samples that are not finite")
            if self._peak > 1:
                x /= np.float32(self._peak)
        # one way for every format, so that 24-bit, float and stereo sources are rounded once, at the end
        mono = x[:, 0].astype(np.float32) if x.shape[1] == 1 else x.mean(axis=1, dtype=np.float32)
        if x.shape[1] > 1:
            self._power += float(np.einsum("ij,ij->", x, x, dtype=np.float64)) / x.shape[1] ** 2
            self._mixed_power += float(np.einsum("i,i->", mono, mono, dtype=np.float64))
        elif self._is_fine:
            self._power += float(np.abs(mono).max(initial=0))
            self._mixed_power = self._power
        if x.dtype != np.int16:
            mono *= 32768
        return mono

    def round(self, mono: npt.NDArray[np.float32]) -> Samples:
        """Round to 16 bits; overwrites what it is given."""
        # clipped before the cast, which would wrap: a resampler overshoots at full scale
        samples = np.clip(np.rint(mono, out=mono), -32768, 32767, out=mono).astype(np.int16)
        if len(samples):
            low, high = int(samples.min()), int(samples.max())
            self._samples += len(samples)
            self._loudest = max(self._loudest, -low, high)
            if low == -32768 or high == 32767:
                self._at_full_scale += int(np.count_nonzero((samples == -32768) | (samples == 32767)))
        return samples

    def notes(self) -> list[str]:
        """Return which of NOTES are true of the recording, now that all of it was taken."""
        is_cancelled = self._mixed_power < _CANCELLED * self._power
        is_faint = not is_cancelled and self._is_fine and self._power > 0 and self._loudest < _FAINT
        found = {
            "scaled": self._peak > 1,
            "clipped": self._at_full_scale > _CLIPPED * self._samples,
            "silent": not self._loudest and not is_cancelled and not is_faint,
            "cancelled": is_cancelled,
            "faint": is_faint,
        }
        return [note for note in NOTES if found[note]]
