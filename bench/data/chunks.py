"""Seconds of clips as batches on the device: gathers of windows from a split's one array.

No worker processes, no decoding, no second copy. Which chunks an update sees is a function of seed and update alone,
so that a run can be resumed anywhere.
"""

import warnings
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bench.data.pack import CHUNK_SECONDS, Pack


class Chunks:
    """The chunks of a split's clips: one every hop, the last aligned to the clip's end.

    Attributes:
        clip: (chunks,) int64, the clip that each chunk is from.
        targets: (clips, k) float32, on the device.
    """

    def __init__(
        self,
        pack: Pack,
        split: str,
        *,
        hop_seconds: float = 1.0,
        device: torch.device | str = "cpu",
        first_clips: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        index = pack.clips(split)[:first_clips]
        size = CHUNK_SECONDS * pack.sample_rate
        clip, start = chunk_starts(
            index["start"].to_numpy(), index["length"].to_numpy(), size, round(hop_seconds * pack.sample_rate)
        )
        self.clip = torch.from_numpy(clip)
        self.start = torch.from_numpy(start)
        self.size = size
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nor is it written
            self.samples = torch.from_numpy(pack.samples(split))
        if _fits(self.samples, self.device):
            self.samples = self.samples.to(self.device)
        self.targets = torch.from_numpy(pack.targets(split)[:first_clips]).float().to(self.device)

    def __len__(self) -> int:
        return len(self.start)

    def waveforms(self, ids: Tensor) -> Tensor:
        """Chunks as float32 in [-1, 1]: (b,) ids on the CPU -> (b, n) on the device."""
        starts = self.start[ids]
        if self.samples.device.type == "cpu":
            # row by row: copies of memory, where an index of windows would look up every sample
            rows = torch.stack([self.samples[i : i + self.size] for i in starts.tolist()])  # (b, n) int16
            rows = to_device(rows, self.device)
        else:
            rows = self.samples.unfold(0, self.size, 1)[to_device(starts, self.device)]
        return rows.float().mul_(2.0**-15)  # exact

    def batch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Chunks with their clips' labels: (b,) -> (b, n), (b, k)."""
        return self.waveforms(ids), self.targets[to_device(self.clip[ids], self.device)]

    def in_order(self, batch_size: int) -> Iterator[Tensor]:
        """The ids of all chunks, once, in batches."""
        return iter(torch.arange(len(self)).split(batch_size))

    def draw(self, update: int, batch_size: int, seed: int) -> Tensor:
        """The ids that update number `update` (from 0) trains on: every chunk once an epoch, in random order."""
        place = torch.arange(update * batch_size, (update + 1) * batch_size)
        epoch, place = place // len(self), place % len(self)
        return torch.cat([_order(len(self), seed, int(e))[place[epoch == e]] for e in epoch.unique()])


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """From pinned memory where there is an accelerator, so that the host goes on while they travel."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def chunk_starts(start: np.ndarray, length: np.ndarray, size: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Clip number and first sample of every chunk, for clips given by first sample and length (at least `size`)."""
    counts = 1 + -(-(length - size) // hop)
    clip = np.repeat(np.arange(len(length)), counts)
    number = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its clip
    return clip, start[clip] + np.minimum(number * hop, (length - size)[clip])


@lru_cache(maxsize=2)
def _order(chunks: int, seed: int, epoch: int) -> Tensor:
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
    return torch.randperm(chunks, generator=torch.Generator().manual_seed(mixed))


def _fits(samples: Tensor, device: torch.device) -> bool:
    """Whether the array may live in the accelerator's memory, leaving half of what is free to the model."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return samples.nbytes < free // 2
