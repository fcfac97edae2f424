"""Augmentation of training chunks on the waveform, before any architecture's front end: the same for all."""

import numpy as np
import torch
from torch import Tensor

from bench.protocol.batches import to_device
from bench.protocol.recipe import Recipe

__all__ = ["augment"]


def augment(x: Tensor, y: Tensor, recipe: Recipe, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Augment chunks (b, n) in [-1, 1] and targets (b, k), on their device: gain, shift, mixup, each if asked for."""
    if not (recipe.gain_db or recipe.time_shift or recipe.mixup):
        return x, y
    # by these two alone, so that a run can be resumed anywhere
    random = np.random.default_rng((seed, step))
    b, n = x.shape
    # all are drawn, needed or not: what one of them does should not depend on the others
    gain = 10 ** (random.uniform(-1, 1, b) * recipe.gain_db / 20)
    shift = np.rint(random.uniform(-1, 1, b) * recipe.time_shift * n).astype(np.int64)
    partner = random.permutation(b)
    if recipe.gain_db:
        # full scale is full scale
        x = (x * _column(gain, x)).clamp(-1, 1)
    if recipe.time_shift:
        place = torch.arange(n, device=x.device) - to_device(torch.from_numpy(shift), x.device)[:, None]
        x = x.gather(1, place % n)
    if recipe.mixup:
        share = random.beta(recipe.mixup, recipe.mixup, b)
        other = to_device(torch.from_numpy(partner), x.device)
        x, y = (_column(share, t) * t + _column(1 - share, t) * t[other] for t in (x, y))
    return x, y


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    """Return values (b,) as (b, 1), on the device and in the precision of another tensor."""
    return to_device(torch.from_numpy(values).to(like.dtype), like.device)[:, None]
