"""Log-mel frames as sounds: powers of bins that have these bands, then phases that go with them."""

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import griffinlim

from bench.data.audio import Samples
from bench.protocol.sounds.log_mel import LogMelFrames

__all__ = ["bin_powers", "waveform"]

_UNMIXED, _PHASES = 30, 64
# of the iteration for phases: it takes half as many steps as without
_MOMENTUM = 0.99


def waveform(frames: Tensor, log_mel: LogMelFrames, seed: int = 0) -> Samples:
    """Return a sound whose log-mel frames are about these: (t, m), four at least -> (t * hop,) int16.

    Phases begin at random and are iterated to fit each other (Griffin and Lim 1984, 10.1109/TASSP.1984.1164317; with
    momentum: Perraudin, Balazs and Sondergaard 2013, 10.1109/WASPAA.2013.6701851). On a processor, whatever the frames
    are on; the same frames and seed give the same samples.
    """
    frames = frames.detach().float().cpu()
    powers = bin_powers(log_mel.power(frames.unsqueeze(0))[0], log_mel.filters)
    # the last frame is centred a hop before the end
    powers = torch.cat([powers, powers[-1:]])
    window = torch.hann_window(log_mel.win)
    magnitudes = (powers * log_mel.full_scale).sqrt().T  # (bins, t + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wave = griffinlim(
            magnitudes, window, log_mel.fft, log_mel.hop, log_mel.win, power=1.0, n_iter=_PHASES, momentum=_MOMENTUM,
            length=len(frames) * log_mel.hop, rand_init=True,
        )  # fmt: skip
    return np.rint(32768 * wave.numpy()).clip(-32768, 32767).astype(np.int16)


def bin_powers(bands: Tensor, filters: Tensor) -> Tensor:
    """Return powers of bins that make these powers of bands: (t, m), by filters (bins, m) -> (t, bins).

    Least squares may be negative, and what is cut off there is missing from the bands. It is the beginning of the
    multiplicative updates of Lee and Seung (2001, "Algorithms for non-negative matrix factorization", with the filters
    fixed), which bring down the bands' divergence and stay above 0.
    """
    tiny = torch.finfo(bands.dtype).tiny
    # not 0, which no factor changes
    least = 1e-6 * bands.amax(dim=1, keepdim=True)
    powers = (bands @ torch.linalg.pinv(filters)).maximum(least)
    total = filters.sum(dim=1)
    for _ in range(_UNMIXED):
        powers = powers * ((bands / (powers @ filters).clamp_min(tiny)) @ filters.T) / total.clamp_min(tiny)
    return powers
