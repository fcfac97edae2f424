"""Windows of clips: what tasks of these have in common, and windows by their numbers."""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bench.errors import UserError
from bench.protocol.sounds.levels import ChosenClips, clips_with
from bench.protocol.task import Task

# a report imports tasks on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.data.pack import Pack

__all__ = ["ClipWindows", "WindowTask", "cut"]


class WindowTask(Task):
    """What is judged on windows of chosen clips: it has neither a recipe's chunks nor its augmentation."""

    # a mean of what several models' scores say is no score of a clip
    has_ensembles = False
    inputs = "windows"
    without: ClassVar[tuple[str, ...]] = (
        "chunk_seconds", "short_clips", "hop_seconds", "eval_hop_seconds", "crops", "aggregate", "top_k",
        "last_chunk_weight", "gain_db", "time_shift", "mixup", "label_share", "freeze",
    )  # fmt: skip

    settings: ChosenClips

    def judged_on(self) -> dict[str, Any]:
        """Return the settings that change it, and the sample rate: at another one, a window is of other sounds."""
        return super().judged_on() | ({"sample_rate": self._run.config["sample_rate"]} if self._run else {})

    def clips(self, pack: "Pack", split: str) -> npt.NDArray[np.int64]:
        return clips_with(self.settings, pack, split)

    def lengths(self, pack: "Pack", split: str, entry: str) -> npt.NDArray[np.int64]:
        """Return the samples of each clip that is taken of a split. Raises UserError, for `entry`, if none is."""
        lengths: npt.NDArray[np.int64] = pack.clips(split)["length"].to_numpy()[self.clips(pack, split)]
        if not len(lengths):
            raise UserError(f"{entry}: no clip of {split} has one of classes={self.settings.classes}")
        return lengths


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


def cut(
    samples: "Tensor", starts: "Tensor", size: int, first: "Tensor", end: "Tensor", device: "torch.device"
) -> "Tensor":
    """Return windows of a split's samples, (b, size) on the device; outside their clips there is silence.

    `starts`, (b,), are their first samples, and their clips' samples those from `first` to before `end`, (b,).
    """
    import torch

    from bench.protocol.batches import to_device

    # where the samples are: an index has four times their size
    where = samples.device
    start, first, end = (to_device(each.unsqueeze(1), where) for each in (starts, first, end))
    place = start + torch.arange(size, device=where)
    within = (place >= first) & (place < end)
    return to_device(samples[place.clamp(0, len(samples) - 1)] * within, device)
