"""WaveNet (van den Oord et al., arXiv:1609.03499): dilated causal convolutions predict the next sample's code."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures._published import next_sample_paper
from architectures._registry import NextSampleConfig, register
from architectures._sources import SOURCES

__all__ = ["WaveNet", "WaveNetConfig", "WaveNetState"]

# dilations double: with more, the last would be longer than a minute
_MOST_LAYERS = 20


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig(NextSampleConfig):
    """The sizes of a WaveNet; in each stack, layer i looks back 2^i samples."""

    channels: int = 128
    layers: int = 10  # of a stack
    stacks: int = 1

    def __post_init__(self) -> None:
        for name in ("channels", "layers", "stacks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.layers > _MOST_LAYERS:
            raise ValueError(f"layers={self.layers}: {_MOST_LAYERS} in a stack at most, which look back a minute")

    @property
    def dilations(self) -> list[int]:
        return [2**layer for _ in range(self.stacks) for layer in range(self.layers)]

    @property
    def receptive_field(self) -> int:
        return 1 + sum(self.dilations)


class GatedLayer(nn.Module):
    """A gated convolution of a sample and the one `dilation` before it: (b, c, n) -> residual and skip, (b, c, n)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv1d(channels, 2 * channels, kernel_size=2, dilation=dilation)
        self.out = nn.Conv1d(channels, 2 * channels, kernel_size=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gated = _gated(self.conv(F.pad(x, (self.dilation, 0))))
        residual, skip = self.out(gated).chunk(2, dim=1)
        return x + residual, skip

    def step(self, earlier: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same of one sample and the one `dilation` before it, each (b, c)."""
        # convolutions of what is no longer than their kernels, without what these cost to start
        pair = torch.stack([earlier, x], dim=-1).flatten(1)
        gated = _gated(F.linear(pair, self.conv.weight.flatten(1), self.conv.bias))
        residual, skip = F.linear(gated, self.out.weight.flatten(1), self.out.bias).chunk(2, dim=1)
        return x + residual, skip


def _gated(x: Tensor) -> Tensor:
    """Return one half of the channels, each gated by its fellow of the other: (b, 2c, ...) -> (b, c, ...)."""
    value, gate = x.chunk(2, dim=1)
    return value.tanh() * gate.sigmoid()


@dataclass
class WaveNetState:
    """What a step needs of the samples before it: for each layer the last `dilation` of its inputs, in a ring."""

    # each (dilation, b, c); the oldest is at `position` modulo the dilation
    queues: list[Tensor]
    position: int


# decorators are applied from the last to the first
@register(
    "wavenet_30",
    family="cnn",
    task="next_sample",
    config=WaveNetConfig(stacks=3),
    published=next_sample_paper(top5=0.76, parameters=3_046_784),
    **SOURCES["wavenet_30"],
)
# not published: its field of 2,048 holds the context of 1,600, which that of wavenet_10 does not
@register("wavenet_11", family="cnn", task="next_sample", config=WaveNetConfig(layers=11), **SOURCES["wavenet_11"])
@register(
    "wavenet_10",
    family="cnn",
    task="next_sample",
    config=WaveNetConfig(),
    published=next_sample_paper(top5=0.74, parameters=1_070_464),
    **SOURCES["wavenet_10"],
)
class WaveNet(nn.Module):
    """An embedding of codes, gated layers with residuals, and two dense layers on the sum of all skips."""

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        c, k = config.channels, config.num_classes
        self.embed = nn.Embedding(k, c)
        # The last layer's residual goes nowhere, as in most WaveNets; the published sizes are counted with it.
        self.layers = nn.ModuleList(GatedLayer(c, dilation) for dilation in config.dilations)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(c, c), nn.ReLU(), nn.Linear(c, k))

    def forward(self, codes: Tensor) -> Tensor:
        x = self.embed(codes).transpose(1, 2)  # (b, n) -> (b, c, n)
        skips = torch.zeros_like(x)
        for layer in self.layers:
            x, skip = layer(x)
            skips = skips + skip
        return self.head(skips.transpose(1, 2))  # (b, n, k)

    def _gated_layers(self) -> Iterable[GatedLayer]:
        return cast("Iterable[GatedLayer]", self.layers)

    def begin(self, codes: Tensor) -> tuple[Tensor, WaveNetState]:
        """Return the last logits of a full pass, (b, n) codes -> (b, k), and the state to take steps from."""
        # what lies before the field decides nothing
        x = self.embed(codes[:, -self.config.receptive_field :]).transpose(1, 2)
        skips = torch.zeros_like(x[:, :, -1])
        state = WaveNetState([], x.shape[2])
        for layer in self._gated_layers():
            state.queues.append(_ring(x, layer.dilation))
            x, skip = layer(x)
            skips = skips + skip[:, :, -1]
        return self.head(skips), state

    def step(self, code: Tensor, state: WaveNetState) -> tuple[Tensor, WaveNetState]:
        """Return the logits behind one sample more, (b,) codes -> (b, k), and the state, which is changed in place."""
        x = self.embed(code)  # (b, c)
        skips = torch.zeros_like(x)
        for layer, queue in zip(self._gated_layers(), state.queues, strict=True):
            place = state.position % layer.dilation
            earlier = queue[place].clone()
            queue[place] = x
            x, skip = layer.step(earlier, x)
            skips = skips + skip
        state.position += 1
        return self.head(skips), state


def _ring(x: Tensor, size: int) -> Tensor:
    """Return the last `size` of n inputs, each at its position modulo the size: (b, c, n) -> (size, b, c)."""
    # zeros stand before the first, as in a full pass
    n = x.shape[2]
    last = F.pad(x, (max(size - n, 0), 0))[:, :, -size:].permute(2, 0, 1)
    return last.roll(n % size, dims=0)
