"""A floor: how loud each band is on average, how much it varies, and one linear layer; no order in time or frequency.

What a network scores above it, it owes to more than the statistics of the bands.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from architectures._registry import register
from architectures.layers import LogMel, LogMelConfig

__all__ = ["LogMelLinear", "LogMelLinearConfig"]


@dataclass(frozen=True, kw_only=True)
class LogMelLinearConfig(LogMelConfig):
    """Fields of the spectrogram alone: 2 * n_mels * num_classes weights follow."""


# a hybrid is what is neither, so that no comparison of CNNs with transformers counts it; no suite of all has a floor
@register("logmel_linear", family="hybrid", config=LogMelLinearConfig(), in_all=False)
class LogMelLinear(nn.Module):
    """Mean and standard deviation over time of each log-mel band, and a linear layer."""

    def __init__(self, config: LogMelLinearConfig) -> None:
        super().__init__()
        self.front_end = LogMel(config)
        self.head = nn.Linear(2 * config.n_mels, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.forward_features(x))  # (b, k)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the means, then the standard deviations: (b, n) -> (b, 2 f)."""
        x = self.front_end(x).squeeze(1)  # (b, f, t)
        # of all frames, not an estimate from a sample of them: of a single frame it is 0, not NaN
        return torch.cat([x.mean(dim=2), x.std(dim=2, correction=0)], dim=1)
