"""A causal transformer on single samples (arXiv:2106.16036), which predicts the next sample's code.

The blocks are those of the Audio Transformers, causal; a token is one sample. The conditioned one has a summary of the
sound before its window, from a small convolutional network, added to each token.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures._published import next_sample_paper
from architectures._registry import NextSampleConfig, PublishedNextSample, register
from architectures._sources import SOURCES
from architectures.audio_transformer import AudioTransformerConfig, Block

__all__ = ["SampleTransformer", "SampleTransformerConfig", "SampleTransformerState"]

# a minute at 16 kHz
_LONGEST = 960_000


@dataclass(frozen=True, kw_only=True)
class SampleTransformerConfig(NextSampleConfig):
    """The sizes of a sample transformer."""

    embed_dim: int = 128
    depth: int = 3
    num_heads: int = 4
    mlp_dim: int = 512
    position_scale: float = 1.0  # of sinusoidal positions; 0: none
    # of a window, in samples
    max_context: int = 1600
    # of the sound before a window that is its condition; 0: none
    condition_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim={self.embed_dim} must be a multiple of num_heads={self.num_heads}")
        if not 1 <= self.max_context <= _LONGEST:
            raise ValueError(f"max_context={self.max_context} must be 1 to {_LONGEST:,} samples")
        if not 0 <= self.condition_samples <= _LONGEST:
            raise ValueError(f"condition_seconds={self.condition_seconds} must be 0 to {_LONGEST:,} samples")
        # the other sizes are checked by the blocks' config
        _ = self.blocks

    @property
    def blocks(self) -> AudioTransformerConfig:
        """Return the config of the blocks."""
        return AudioTransformerConfig(
            embed_dim=self.embed_dim,
            depth=self.depth,
            num_heads=self.num_heads,
            head_dim=self.embed_dim // self.num_heads,
            mlp_dim=self.mlp_dim,
            causal=True,
        )

    @property
    def receptive_field(self) -> int:
        return self.condition_samples + self.max_context

    @property
    def condition_samples(self) -> int:
        return round(self.sample_rate * self.condition_seconds)


class Condition(nn.Sequential):
    """A summary of a waveform by three convolutions and their mean over time: (b, n) -> (b, d)."""

    def __init__(self, d: int) -> None:
        super().__init__(
            nn.Conv1d(1, 32, kernel_size=16, stride=8, padding=8),
            nn.ReLU(),
            nn.Conv1d(32, 64, kernel_size=8, stride=4, padding=4),
            nn.ReLU(),
            nn.Conv1d(64, d, kernel_size=8, stride=4, padding=4),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(d, d),
        )

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(1))


@dataclass
class SampleTransformerState:
    """What a step needs of the samples before it: keys and values of each block, and what all tokens are given."""

    # one for each block, of which the first `position` tokens are filled: (2, b, heads, context, head_dim)
    caches: list[Tensor]
    position: int
    condition: Tensor | None  # (b, d)


class SampleTransformer(nn.Module):
    """An embedding of codes with sinusoidal positions, causal blocks, a norm, and a dense layer for each token."""

    positions: Tensor

    def __init__(self, config: SampleTransformerConfig) -> None:
        super().__init__()
        self.config = config
        d, k = config.embed_dim, config.num_classes
        self.embed = nn.Embedding(k, d)
        self.condition = Condition(d) if config.condition_samples else None
        # calculated, so not stored with the weights
        self.register_buffer("positions", _sinusoids(config.max_context, d), persistent=False)
        blocks = config.blocks
        self.blocks = nn.ModuleList(Block(blocks) for _ in range(config.depth))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, k)

    def forward(self, codes: Tensor) -> Tensor:
        condition, codes = self._split(codes)
        x = self._tokens(codes, condition, 0)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # (b, n, k)

    def begin(self, codes: Tensor) -> tuple[Tensor, SampleTransformerState]:
        """Return the last logits of a full pass, (b, before + n) codes -> (b, k), and the state to take steps from.

        There are max_context - n steps; then it is begun anew with fewer samples.
        """
        config = self.config
        condition, codes = self._split(codes)
        shape = (2, len(codes), config.num_heads, config.max_context, config.embed_dim // config.num_heads)
        caches = [self.head.weight.new_empty(shape) for _ in self.blocks]
        return self._cached(codes, SampleTransformerState(caches, 0, condition))

    def step(self, code: Tensor, state: SampleTransformerState) -> tuple[Tensor, SampleTransformerState]:
        """Return the logits behind one sample more, (b,) codes -> (b, k), and the state, which is changed in place.

        Raises ValueError if it has max_context samples already.
        """
        return self._cached(code.unsqueeze(1), state)

    def _split(self, codes: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the summary of what lies before a window, (b, d), and the window: (b, before + n) -> (b, n)."""
        before = self.config.condition_samples
        if codes.shape[1] <= before:
            raise ValueError(f"{codes.shape[1]} samples leave no window behind a condition of {before}")
        if self.condition is None:
            return None, codes
        # codes rise with the waveform, so that they are one, if a coarse one
        x = codes[:, :before].to(self.embed.weight.dtype)
        return self.condition(2 * x / (self.config.num_classes - 1) - 1), codes[:, before:]

    def _tokens(self, codes: Tensor, condition: Tensor | None, start: int) -> Tensor:
        """Return tokens of samples that begin at position `start` of a window: (b, n) -> (b, n, d)."""
        end = start + codes.shape[1]
        if end > self.config.max_context:
            raise ValueError(f"{end} samples are more than max_context={self.config.max_context}")
        x = self.embed(codes) + self.config.position_scale * self.positions[start:end]
        return x if condition is None else x + condition.unsqueeze(1)

    def _cached(self, codes: Tensor, state: SampleTransformerState) -> tuple[Tensor, SampleTransformerState]:
        """Append samples to a state, which is empty or is given one sample; return the last one's logits, (b, k)."""
        x = self._tokens(codes, state.condition, state.position)
        for block, cache in zip(cast("Iterable[Block]", self.blocks), state.caches, strict=True):
            x = _cached_block(block, x, cache, state.position)
        state.position += codes.shape[1]
        return self.head(self.norm(x[:, -1])), state


def _cached_block(block: Block, x: Tensor, cache: Tensor, start: int) -> Tensor:
    """Return what a pre-norm block makes of tokens, after those in the cache, and add them there: (b, t, d)."""
    end, attention = start + x.shape[1], block.attn
    qkv = attention.qkv(block.norm1(x)).unflatten(-1, (3, attention.config.num_heads, -1))
    q, *keys_values = qkv.permute(2, 0, 3, 1, 4)  # each (b, heads, t, head_dim)
    cache[:, :, :, start:end] = torch.stack(keys_values)
    keys, values = cache[:, :, :, :end]
    # a single token sees all before it; several are the first ones
    seen = F.scaled_dot_product_attention(q, keys, values, is_causal=not start)
    x = x + attention.proj(seen.transpose(1, 2).flatten(2))
    return x + block.mlp(block.norm2(x))


def _sinusoids(n: int, d: int) -> Tensor:
    """Return the positions of arXiv:1706.03762, section 3.5: (n, d), even columns sines, odd ones cosines."""
    frequencies = torch.exp(torch.arange(0, d, 2) * (-math.log(10_000.0) / d))  # (d / 2,)
    angles = torch.arange(n).unsqueeze(1) * frequencies  # (n, d / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _register(name: str, published: PublishedNextSample, config: SampleTransformerConfig) -> None:
    register(name, family="transformer", task="next_sample", config=config, published=published, **SOURCES[name])(
        SampleTransformer
    )


_register("sample_transformer_3", next_sample_paper(top5=0.80, parameters=660_864), SampleTransformerConfig())
_register(
    "sample_transformer_3_conditioned",
    next_sample_paper(
        top5=0.82, parameters=760_032, note="parameters with the layers of the condition, which are a choice made here"
    ),
    SampleTransformerConfig(condition_seconds=0.25),
)
_register(
    "sample_transformer_6",
    next_sample_paper(top5=0.84, parameters=1_255_680),
    SampleTransformerConfig(depth=6, num_heads=8),
)
_register(
    "sample_transformer_8",
    next_sample_paper(top5=0.85, parameters=1_652_224),
    SampleTransformerConfig(depth=8, num_heads=8),
)
