"""Windows of clips, by their numbers: what a step of training draws, and what is scored in order."""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

import numpy as np

# a report imports tasks on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["ClipWindows"]


class ClipWindows:
    """Windows of a split's clips, those of a clip behind each other: `counts`, (clips,), says how many each has."""

    def __init__(self, counts: "Tensor", device: "torch.device | str") -> None:
        import torch

        self.counts, self.ends, self.device = counts, counts.cumsum(0), torch.device(device)
        self.length = int(self.ends[-1])

    def __len__(self) -> int:
        return self.length

    def head(self, count: int) -> Self:
        """Return the first `count` windows, on the same clips."""
        some = copy.copy(self)
        some.length = min(count, self.length)
        return some

    def in_order(self, batch_size: int) -> "Iterator[Tensor]":
        """Return the ids of all windows, once, in batches."""
        import torch

        return iter(torch.arange(self.length).split(batch_size))

    def draw(self, step: int, batch_size: int, seed: int) -> "Tensor":
        """Return the ids that step number `step` (from 0) trains on: any windows, all as likely."""
        import torch

        # by these two alone, so that a run can be resumed anywhere, and every architecture is given the same ones
        return torch.from_numpy(np.random.default_rng((seed, step)).integers(self.length, size=batch_size))

    def clip(self, ids: "Tensor") -> "Tensor":
        """Return the clips that windows are of: (b,)."""
        import torch

        return torch.searchsorted(self.ends, ids, right=True)

    def number(self, ids: "Tensor") -> "Tensor":
        """Return windows' numbers within their clips, from 0: (b,)."""
        clip = self.clip(ids)
        return ids - (self.ends[clip] - self.counts[clip])
