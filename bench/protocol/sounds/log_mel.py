"""Log-mel spectrograms as inputs and outputs: frames of 25 ms every 10 ms, in decibels, scaled to about [-1, 1]."""

import math
import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from bench.errors import UserError

__all__ = ["CENTRE_DB", "HOP_SECONDS", "SPAN_DB", "LogMelFrames", "most_mels", "require_mels"]

WIN_SECONDS, HOP_SECONDS = 0.025, 0.010
# a frame is (dB + 40) / 40: from -80 dB, below which everything is silence, to a sine at full scale, about 0 dB
CENTRE_DB, SPAN_DB = -40.0, 40.0
_LEAST_POWER = 10 ** ((CENTRE_DB - SPAN_DB) / 10)


@dataclass(frozen=True)
class LogMelFrames:
    """How samples become frames of `mels` bands, on HTK's mel scale, at a sample rate in Hz.

    Frame i is of the samples around i * hop. Before and behind what it is given there is nothing: a caller adds `half`
    samples on both sides, so that a window within a clip has the frames that it has in the whole clip.
    """

    sample_rate: int
    mels: int

    @property
    def win(self) -> int:
        return round(WIN_SECONDS * self.sample_rate)

    @property
    def hop(self) -> int:
        return round(HOP_SECONDS * self.sample_rate)

    @property
    def fft(self) -> int:
        # with less than 1.5 windows, low bands would have no bin
        return 1 << math.ceil(math.log2(1.5 * self.win))

    @property
    def half(self) -> int:
        """How many samples before a window its first frame begins, and as many behind it its last one ends."""
        return self.fft // 2

    @cached_property
    def full_scale(self) -> float:
        """What bins' squared magnitudes are divided by: a sine at full scale then has a power of 1, over its bins."""
        return self.fft * float(torch.hann_window(self.win).square().sum()) / 4

    def span(self, frames: int) -> int:
        """Return how many samples so many frames are made of."""
        return (frames - 1) * self.hop + self.fft

    @cached_property
    def filters(self) -> Tensor:
        """The triangular filters on the bins' powers: (bins, m)."""
        return _filters(self.sample_rate, self.fft, self.mels)

    def of(self, waves: Tensor) -> Tensor:
        """Return waveforms in [-1, 1] as frames: (b, span(t)) -> (b, t, m), in fp32 on their device."""
        window = torch.hann_window(self.win, device=waves.device)
        bins = torch.stft(
            waves, self.fft, self.hop, self.win, window, center=False, return_complex=True
        )  # (b, bins, t)
        power = bins.abs().square() / self.full_scale
        mel = power.transpose(1, 2) @ self.filters.to(waves.device)
        return (10 * mel.clamp_min(_LEAST_POWER).log10() - CENTRE_DB) / SPAN_DB

    def power(self, frames: Tensor) -> Tensor:
        """Return the mel powers that frames stand for, (b, t, m); below -80 dB there is none."""
        decibels = frames * SPAN_DB + CENTRE_DB
        return torch.where(decibels > CENTRE_DB - SPAN_DB, 10 ** (decibels / 10), 0.0)


@lru_cache(maxsize=8)
def most_mels(sample_rate: int, wanted: int) -> int:
    """Return how many bands of `wanted` there can be without one that no bin falls into; 0 if there are none."""
    fft = LogMelFrames(sample_rate, wanted).fft
    return next((m for m in range(wanted, 0, -1) if (_filters(sample_rate, fft, m).sum(dim=0) > 0).all()), 0)


def require_mels(sample_rate: int, mels: int, entry: str) -> None:
    """Raise UserError, for an entry of a suite, if one of so many bands would have no bin."""
    if (most := most_mels(sample_rate, mels)) < mels:
        raise UserError(f"{entry}: mels={mels}, but {most} at most at {sample_rate} Hz, in [task_settings]")


def _filters(sample_rate: int, fft: int, mels: int) -> Any:
    with warnings.catch_warnings():
        # of a band without a bin, which `most_mels` looks for
        warnings.filterwarnings("ignore", message="At least one mel filterbank")
        return melscale_fbanks(fft // 2 + 1, 0.0, sample_rate / 2, mels, sample_rate)
