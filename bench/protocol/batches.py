"""Seconds of clips as batches on the device: gathers of windows from a split's one array.

No worker processes, no decoding, no second copy. Which chunks an update sees is a function of seed and update alone,
so that a run can be resumed anywhere.
"""

import warnings
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bench.data.audio import CHUNK_SECONDS
from bench.data.pack import Pack
from bench.protocol.recipe import Recipe


class Chunks:
    """The chunks of a split's clips: one every hop, the last aligned to the clip's end.

    Attributes:
        clip: (chunks,) int64, the clip that each chunk is from.
        targets: (clips, k) float32, on the device.
        one_a_clip: whether an epoch is one chunk of each clip, drawn anew, instead of every chunk.
        aggregate: how a clip's score is made of its chunks' outputs, as Recipe.aggregate.
    """

    def __init__(
        self,
        pack: Pack,
        split: str,
        *,
        hop_seconds: float = 1.0,
        chunk_seconds: float = CHUNK_SECONDS,
        one_a_clip: bool = False,
        aggregate: str = "scores",
        device: torch.device | str = "cpu",
        first_clips: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.one_a_clip, self.aggregate = one_a_clip, aggregate
        index = pack.clips(split)[:first_clips]
        size = round(chunk_seconds * pack.sample_rate)
        length = index["length"].to_numpy()
        clip, start = chunk_starts(
            index["start"].to_numpy(), np.maximum(length, size), size, round(hop_seconds * pack.sample_rate)
        )
        self.clip = torch.from_numpy(clip)
        self.start = torch.from_numpy(start)
        self.size = size
        self.counts = torch.bincount(self.clip)  # chunks of each clip, and the number of its first one
        self.first = self.counts.cumsum(0) - self.counts
        self.period = _periods(index, pack.sample_rate, size)[clip] if (length < size).any() else None
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
        if self.period is not None:
            rows = self._repeated(starts, self.period[ids])
        elif self.samples.device.type == "cpu":
            # row by row: copies of memory, where an index of windows would look up every sample
            rows = torch.stack([self.samples[i : i + self.size] for i in starts.tolist()])  # (b, n) int16
            rows = to_device(rows, self.device)
        else:
            rows = self.samples.unfold(0, self.size, 1)[to_device(starts, self.device)]
        return rows.float().mul_(2.0**-15)  # exact

    def _repeated(self, starts: Tensor, periods: Tensor) -> Tensor:
        """Rows (b, n) int16 on the device, of which those of short clips begin anew every so many samples."""
        place = torch.arange(self.size) % periods.unsqueeze(1) + starts.unsqueeze(1)
        rows = self.samples[place.to(self.samples.device)]
        return to_device(rows, self.device) if rows.device.type == "cpu" else rows

    def batch(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Chunks with their clips' labels: (b,) -> (b, n), (b, k)."""
        return self.waveforms(ids), self.targets[to_device(self.clip[ids], self.device)]

    def in_order(self, batch_size: int) -> Iterator[Tensor]:
        """The ids of all chunks, once, in batches."""
        return iter(torch.arange(len(self)).split(batch_size))

    def draw(self, update: int, batch_size: int, seed: int) -> Tensor:
        """The ids that update number `update` (from 0) trains on, in random order: every chunk once an epoch, or one
        of every clip."""
        things = len(self.targets) if self.one_a_clip else len(self)
        place = torch.arange(update * batch_size, (update + 1) * batch_size)
        epoch, place = place // things, place % things
        return torch.cat([self._drawn(place[epoch == e], things, seed, int(e)) for e in epoch.unique()])

    def _drawn(self, place: Tensor, things: int, seed: int, epoch: int) -> Tensor:
        """The ids at these places of an epoch's order."""
        drawn = _order(things, seed, epoch)[place]
        if not self.one_a_clip:
            return drawn
        return self.first[drawn] + (_shares(things, seed, epoch)[drawn] * self.counts[drawn]).long()


def chunks_of(pack: Pack, split: str, recipe: Recipe, device: torch.device | str = "cpu") -> Chunks:
    """A split as the recipe has it cut: train to train on, the others to be scored."""
    training = split == "train"
    return Chunks(
        pack,
        split,
        hop_seconds=recipe.hop_seconds if training else recipe.test_hop,
        chunk_seconds=recipe.chunk_seconds,
        one_a_clip=training and recipe.chunks == "one",
        aggregate=recipe.aggregate,
        device=device,
    )


def chunk_size(recipe: Recipe, sample_rate: int) -> int:
    """In samples."""
    return round(recipe.chunk_seconds * sample_rate)


def _periods(index: pd.DataFrame, sample_rate: int, size: int) -> Tensor:
    """After how many samples each clip begins anew, so that it fills a chunk: `size` where it is long enough.

    Clips that packing has repeated go on as it has begun.
    """
    length = index["length"].to_numpy()
    own = np.rint(index["seconds"].to_numpy() * sample_rate).astype(np.int64).clip(1, length)
    return torch.from_numpy(np.where(length < size, own, size))


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
def _order(things: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(things, generator=_generator(seed, epoch))


@lru_cache(maxsize=2)
def _shares(clips: int, seed: int, epoch: int) -> Tensor:
    """Where in each clip its chunk of this epoch is: from 0 to below 1."""
    return torch.rand(clips, dtype=torch.float64, generator=_generator(seed, epoch, 1))


def _generator(*numbers: int) -> torch.Generator:
    mixed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(mixed)


def _fits(samples: Tensor, device: torch.device) -> bool:
    """Whether the array may live in the accelerator's memory, leaving half of what is free to the model."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return samples.nbytes < free // 2
