"""Batches of a split's clips on the device: gathers of windows from the pack's one array.

No worker processes, no decoding, no second copy. Which chunks a step sees is a function of seed and step alone, so that
a run can be resumed anywhere.
"""

import copy
import warnings
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from bench.data.pack import Pack
from bench.protocol.recipe import Recipe

__all__ = [
    "Batches", "chunk_size", "chunk_starts", "chunk_weights", "epoch_order", "excerpts", "real_lengths",
    "resident", "to_device",
]  # fmt: skip


class Batches:
    """The chunks of a split's clips: one every hop, the last aligned to the clip's end.

    Train is cut as the recipe trains, any other split as it is scored. `chosen`, (clips,), are the numbers of the clips
    that are taken; without it, as many are as have targets, from the first on.
    """

    def __init__(
        self,
        pack: Pack,
        split: str,
        targets: np.ndarray,
        recipe: Recipe,
        device: torch.device | str = "cpu",
        *,
        chosen: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.device = torch.device(device)
        training = split == "train"
        self.one_per_clip = training and recipe.crops == "one_per_clip"
        self.aggregate, self.highest = recipe.aggregate, recipe.highest
        # of a chunk, in samples
        self.size = size = chunk_size(recipe, pack.sample_rate)
        hop = round((recipe.hop_seconds if training else recipe.eval_hop) * pack.sample_rate)
        index = pack.clips(split).iloc[slice(len(targets)) if chosen is None else chosen]
        length = index["length"].to_numpy()
        real = real_lengths(index, pack.sample_rate)
        self.fills = recipe.short_clips == "zeros"
        if self.fills:
            length = real
        clip, start = chunk_starts(index["start"].to_numpy(), np.maximum(length, size), size, hop)
        # of each chunk: the clip that it is from, and its first sample
        self.clip, self.start = torch.from_numpy(clip), torch.from_numpy(start)
        # chunks of each clip, and the number of its first one
        self.counts = torch.bincount(self.clip)
        self.first = self.counts.cumsum(0) - self.counts
        # what chunks count in a clip's mean; None: all the same
        self.weights: Tensor | None = None
        if not training and recipe.last_chunk_weight == "new_samples":
            self.weights = torch.from_numpy(chunk_weights(clip, start, hop))
        self.period: Tensor | None = None
        if (length < size).any():
            # short clips begin anew after so many samples, or end; those that packing has repeated, as it has begun
            self.period = torch.from_numpy(np.where(length < size, real, size)[clip])
        self.samples = resident(pack, split, self.device)
        self.targets = torch.from_numpy(targets).float().to(self.device)  # (clips, k)

    def __len__(self) -> int:
        return len(self.start)

    @property
    def epoch_size(self) -> int:
        """How many chunks an epoch of training has."""
        return len(self.targets) if self.one_per_clip else len(self)

    def waveforms(self, ids: Tensor) -> Tensor:
        """Return chunks as float32 in [-1, 1]: (b,) ids on the CPU -> (b, n) on the device."""
        starts = self.start[ids]
        if self.period is not None:
            sample, period = torch.arange(self.size), self.period[ids].unsqueeze(1)
            place = sample % period + starts.unsqueeze(1)
            waves = self.samples[place.to(self.samples.device)]
            if self.fills:
                waves = waves.masked_fill((sample >= period).to(waves.device), 0)
            waves = to_device(waves, self.device)
        else:
            waves = excerpts(self.samples, starts, self.size, self.device)
        # in one pass: a product of mixed types would make a copy of its own; a power of two is exact
        return waves.float().mul_(2.0**-15)

    def batch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return chunks with their clips' targets: (b,) -> (b, n), (b, k)."""
        return self.waveforms(ids), self.targets[to_device(self.clip[ids], self.device)]

    def in_order(self, batch_size: int) -> Iterator[Tensor]:
        """Return the ids of all chunks, once, in batches."""
        return iter(torch.arange(len(self)).split(batch_size))

    def draw(self, step: int, batch_size: int, seed: int) -> Tensor:
        """Return the ids that step number `step` (from 0) trains on, in random order: every chunk once an epoch, or
        one of every clip."""
        epoch_size = self.epoch_size
        place = torch.arange(step * batch_size, (step + 1) * batch_size)
        epoch, place = place // epoch_size, place % epoch_size
        return torch.cat([self._drawn(place[epoch == e], epoch_size, seed, int(e)) for e in epoch.unique()])

    def _drawn(self, place: Tensor, epoch_size: int, seed: int, epoch: int) -> Tensor:
        drawn = epoch_order(epoch_size, seed, epoch)[place]
        if not self.one_per_clip:
            return drawn
        return self.first[drawn] + (_shares(epoch_size, seed, epoch)[drawn] * self.counts[drawn]).long()

    def head(self, count: int) -> "Batches":
        """Return the first `count` chunks, on the same samples and targets."""
        some = copy.copy(self)
        some.clip, some.start = self.clip[:count], self.start[:count]
        some.weights = None if self.weights is None else self.weights[:count]
        return some


def chunk_size(recipe: Recipe, sample_rate: int) -> int:
    """Return a chunk's length in samples."""
    return round(recipe.chunk_seconds * sample_rate)


def real_lengths(index: pd.DataFrame, sample_rate: int) -> npt.NDArray[np.int64]:
    """Return the samples of clips as they were recorded: of what is shorter, packing has made a second by repeating it.

    `index` has the clips' lines of a pack's index.
    """
    recorded = np.rint(index["seconds"].to_numpy() * sample_rate).astype(np.int64)
    return recorded.clip(1, index["length"].to_numpy())


def excerpts(samples: Tensor, starts: Tensor, size: int, device: torch.device) -> Tensor:
    """Return so many samples (int16) from each of these places on: (b,) on the CPU -> (b, size) on the device."""
    if samples.device.type != "cpu":
        return samples.unfold(0, size, 1)[to_device(starts, device)]
    # window by window: copies of memory, where an index of windows would look up every sample
    return to_device(torch.stack([samples[i : i + size] for i in starts.tolist()]), device)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return values on a device: from pinned memory where that is an accelerator, so that the host does not wait."""
    is_to_send = device.type == "cuda" and values.device.type == "cpu"
    return values.pin_memory().to(device, non_blocking=True) if is_to_send else values.to(device)


def chunk_starts(start: np.ndarray, length: np.ndarray, size: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return clip number and first sample of every chunk, of clips given by first sample and length (>= size)."""
    counts = 1 + -(-(length - size) // hop)
    clip = np.repeat(np.arange(len(length)), counts)
    number = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its clip
    return clip, start[clip] + np.minimum(number * hop, (length - size)[clip])


def chunk_weights(clip: np.ndarray, start: np.ndarray, hop: int) -> npt.NDArray[np.float32]:
    """Return what every chunk counts by its new samples: 1, and a clip's last one how far it is from the one before it.

    That is in hops: where chunks do not overlap, the share of its samples that no chunk before it has. `clip` and
    `start`, (chunks,), are as `chunk_starts` has them.
    """
    is_first = np.diff(clip, prepend=-1) > 0
    return np.where(is_first, 1.0, np.diff(start, prepend=0) / hop).astype(np.float32)


@lru_cache(maxsize=2)
def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """Return the numbers below `size` in the random order of an epoch."""
    return torch.randperm(size, generator=_generator(seed, epoch))


@lru_cache(maxsize=2)
def _shares(clips: int, seed: int, epoch: int) -> Tensor:
    """Return where in each clip its chunk of this epoch is: from 0 to below 1."""
    return torch.rand(clips, dtype=torch.float64, generator=_generator(seed, epoch, 1))


def _generator(*numbers: int) -> torch.Generator:
    mixed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(mixed)


# Arrays in the memory of GPUs, by pack, split and device: the runs of a suite share them.
_kept: dict[tuple[str, str, torch.device], Tensor] = {}


def resident(pack: Pack, split: str, device: torch.device) -> Tensor:
    """Return a split's samples: in the memory of a GPU, if it is one and they fit, else as they are mapped."""
    key = (pack.fingerprint, split, device)
    if key in _kept:
        return _kept[key]
    with warnings.catch_warnings():
        # nor is it written
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        samples = torch.from_numpy(pack.samples(split))
    if device.type != "cuda":
        return samples
    if not _fits(samples.nbytes, device):
        # another pack is of a suite of before, or comes again when its entries do
        for other in [key for key in _kept if key[0] != pack.fingerprint and key[2] == device]:
            del _kept[other]
        if not _fits(samples.nbytes, device):
            return samples
    _kept[key] = samples.to(device)
    return _kept[key]


def _fits(size: int, device: torch.device) -> bool:
    """Return whether so many bytes may lie on the GPU with half of its memory left free, to models."""
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return free - size >= total // 2
