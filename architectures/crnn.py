"""The convolutional recurrent network of the FSD50K paper (arXiv:2010.00475)."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from architectures._published import fsd50k_paper
from architectures._registry import register
from architectures._sources import SOURCES
from architectures.layers import FrontEndConfig, conv_block, image_front_end

__all__ = ["CRNN", "CRNNConfig"]


@dataclass(frozen=True, kw_only=True)
class CRNNConfig(FrontEndConfig):
    """The sizes of a CRNN; the defaults are the FSD50K paper's."""

    conv_widths: tuple[int, ...] = (128, 128, 128)
    kernel_size: int = 5
    # (mel bins, frames) after each convolution
    pools: tuple[tuple[int, int], ...] = ((5, 2), (4, 2), (2, 2))
    rnn_width: int = 64
    # of the two directions
    merge: Literal["sum", "concat"] = "sum"
    drop_rate: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.conv_widths) != len(self.pools):
            raise ValueError(f"conv_widths has {len(self.conv_widths)} entries, pools {len(self.pools)}: one each")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} must be odd, to keep the size")
        if self.bands_left < 1:
            raise ValueError(f"pools {self.pools} leave nothing of {self.bands} bands")

    @property
    def bands_left(self) -> int:
        return self.bands // math.prod(over_bands for over_bands, _ in self.pools)


@register(
    "crnn",
    family="cnn",
    config=CRNNConfig(),
    published=fsd50k_paper(map=0.417, parameters=0.96e6),
    **SOURCES["crnn"],
)
class CRNN(nn.Module):
    """Three 5x5 convolutions with pooling, a bidirectional GRU over the remaining frames, one dense layer."""

    def __init__(self, config: CRNNConfig) -> None:
        super().__init__()
        self.merge = config.merge
        self.front_end = image_front_end(config)
        self.convs = nn.Sequential()
        for (in_width, out_width), pool in zip(pairwise((1, *config.conv_widths)), config.pools, strict=True):
            self.convs += conv_block(in_width, out_width, config.kernel_size).append(nn.MaxPool2d(pool))
        rnn_in = config.conv_widths[-1] * config.bands_left
        self.gru = nn.GRU(rnn_in, config.rnn_width, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(config.drop_rate)
        rnn_out = config.rnn_width * (2 if config.merge == "concat" else 1)
        self.head = nn.Linear(rnn_out, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front_end(x)  # (b, n) -> (b, 1, f, t)
        x = self.convs(x)  # (b, 128, 2, t / 8)
        x = x.flatten(1, 2).transpose(1, 2)  # (b, t / 8, 256)
        # in fp32 whatever the recipe says: a recurrence adds up bf16's rounding, and gains no speed by it
        with torch.autocast(x.device.type, enabled=False):
            x, _ = self.gru(x.float())  # (b, t / 8, 2 * 64)
        if self.merge == "sum":
            forwards, backwards = x.chunk(2, dim=-1)
            x = forwards + backwards  # (b, t / 8, 64)
        x = x.mean(dim=1)
        return self.head(self.drop(x))  # (b, k)
