"""What parts are measured on and with."""

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.data.pack import Pack
from bench.protocol.batches import Batches
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from benchmarks.machine import Machine

__all__ = ["Setup"]


@dataclass(frozen=True)
class Setup:
    """What the parts are measured on and with.

    Attributes:
        dataset: the generated recordings at 44.1 kHz.
        pack: the same at 16 kHz.
        scratch: for what is measured by making it.
        quick: whether a first look is enough.
    """

    machine: Machine
    device: torch.device
    dataset: Path
    pack: Path
    scratch: Path
    quick: bool

    @property
    def seconds(self) -> float:
        """For a pair."""
        return 2.0 if self.quick else 12.0

    @property
    def batch_size(self) -> int:
        return 16 if self.quick else 64

    def data(self, split: str = "train", clips: int | None = None) -> Batches:
        """Return a split of the pack, or its first clips, in chunks of a second."""
        return get_task("tagging").data(Pack(self.pack), split, Recipe(), self.device, clips)
