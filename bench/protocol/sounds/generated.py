"""Windows of notes that are played anew for each step: nothing is read, and there is no end to them."""

import math
from typing import TYPE_CHECKING

from bench.errors import UserError

# a report imports tasks on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["GeneratedWindows", "require_sounding"]

# seconds of a note until the last half second of one in 500 is digital silence; of 5 s, it is that of one in six
_SOUNDING = 2.0


def require_sounding(heard: float, entry: str) -> None:
    """Raise UserError, for an entry of a suite, if so many seconds are heard of each note that some have faded."""
    if heard > _SOUNDING:
        raise UserError(
            f"{entry}: data='generated': {heard:g} s are heard of each note, but some are silent after "
            f"{_SOUNDING:g} s: make seconds smaller, in [task_settings]"
        )


class GeneratedWindows:
    """Windows of so many samples, see bench.data.synthetic.generated; what they become is for subclasses to say."""

    epoch_size = math.inf

    def __init__(self, size: int, sample_rate: int, device: "torch.device | str") -> None:
        import torch

        self.size, self.sample_rate, self.device = size, sample_rate, torch.device(device)

    def draw(self, step: int, batch_size: int, seed: int) -> "Tensor":
        """Return what makes the batch of a step: seed, step and batch size."""
        import torch

        return torch.tensor([seed, step, batch_size])

    def samples(self, ids: "Tensor") -> "Tensor":
        """Return the int16 samples of the windows that `draw` has said: (b, size), on the device."""
        import torch

        from bench.data.synthetic.generated import generate
        from bench.protocol.batches import to_device

        seed, step, batch_size = ids.tolist()
        played = generate(seed, step, batch_size, self.size, self.sample_rate)
        return to_device(torch.from_numpy(played.samples), self.device)

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return the inputs and targets of the windows that `draw` has said."""
        raise NotImplementedError(f"{type(self).__name__} has no batch")
