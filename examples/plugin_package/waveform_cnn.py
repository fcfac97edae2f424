"""waveform_cnn: strided convolutions on the waveform, without a spectrogram."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from architectures import ArchitectureConfig, register


@dataclass(frozen=True, kw_only=True)
class Config(ArchitectureConfig):
    width: int = 32
    depth: int = 4
    drop_rate: float = 0.0


@register("waveform_cnn", family="cnn", config=Config())
class WaveformCNN(nn.Module):
    """Each layer keeps a quarter of the samples and doubles the channels; the mean over time is classified."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [1, *(config.width * 2**i for i in range(config.depth))]
        layers: list[nn.Module] = []
        for before, width in pairwise(widths):
            layers += [nn.Conv1d(before, width, kernel_size=9, stride=4), nn.BatchNorm1d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(config.drop_rate), nn.Linear(widths[-1], config.num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x.unsqueeze(1))  # (b, n) samples in [-1, 1] -> (b, width, t)
        return self.head(x.mean(dim=2))  # (b, k) logits: no sigmoid
