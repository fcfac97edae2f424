"""The other way: what one would write without this project, plainly and not badly.

A Dataset that decodes and resamples a clip whenever it is asked for it, PyTorch's DataLoader, and a loop in fp32.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile as sf
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.data.readers.fsd50k import read_dataset

__all__ = ["Clips", "batches", "step"]


class Clips(Dataset[tuple[Tensor, Tensor]]):
    """The first second of every train clip, decoded and resampled each time; shorter ones padded with zeros."""

    def __init__(self, folder: Path, sample_rate: int) -> None:
        data = read_dataset(folder)
        clips = [clip for clip in data.clips if clip.split == "train"]
        self.files: Sequence[Path] = [Path(str(clip.recording)) for clip in clips]
        self.labels = [clip.labels for clip in clips]
        self.classes = len(data.labels)
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        samples, rate = sf.read(self.files[i], dtype="float32")
        x = torch.from_numpy(samples)
        if rate != self.sample_rate:
            x = torchaudio.transforms.Resample(rate, self.sample_rate)(x)
        x = F.pad(x[: self.sample_rate], (0, max(0, self.sample_rate - len(x))))
        y = torch.zeros(self.classes)
        y[list(self.labels[i])] = 1.0
        return x, y


def batches(clips: Clips, batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches without end; as long as the iterator lives, so do its workers."""
    loader = DataLoader(
        clips, batch_size, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """Take one step as tutorials write it: fp32, the loss read at once for the progress bar."""
    optimizer.zero_grad()
    loss = F.binary_cross_entropy_with_logits(model(x), y)
    loss.backward()
    optimizer.step()
    return torch.tensor(loss.item())
