"""Audio Transformers (Verma & Berger, arXiv:2105.00335v1): attention on raw waveforms, no convolution.

Small, large, pooled and multi-scale are configs of one class. What the paper leaves out matters as much as what it
compares, so each such choice is a field; _sources.py says which values are documented, second-hand or inferred.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures._published import audio_transformers_paper
from architectures._registry import Published, later, register
from architectures._sources import SOURCES
from architectures.attention import Pattern, sparse_attention
from architectures.layers import FrontEndConfig, mlp, token_front_end

__all__ = ["Attention", "AudioTransformer", "AudioTransformerConfig", "Block"]

_MeanKind = Literal["block", "past"]


@dataclass(frozen=True, kw_only=True)
class AudioTransformerConfig(FrontEndConfig):
    """The choices of an Audio Transformer; the defaults are the paper's large one, or inferred."""

    # waveform to tokens
    input_level: Literal["raw", "unit"] = "unit"
    front_end: Literal["log_mel", "learned", "random"] = "learned"
    patch_seconds: float = 0.025
    front_end_dim: int = 2048
    embed_dim: int = 64
    # of log-mel; here they came later than the others
    n_mels: int = later(96)
    n_fft: int | None = later(None)
    win_seconds: float = later(0.030)
    hop_seconds: float = later(0.010)
    position_scale: float = 0.1  # of sinusoidal positions; 0: none
    # blocks
    depth: int = 6
    num_heads: int = 8
    head_dim: int = 64
    mlp_dim: int = 512
    norm: Literal["pre", "post"] = "pre"
    causal: bool = False
    drop_rate: float = 0.0
    # which tokens a token attends to: all, or those of a pattern of architectures/attention.py, for long inputs
    attention: Literal["full", "local", "strided", "fixed"] = later("full")
    span: int = later(50)  # of a pattern, in tokens; best near the root of their number
    summary: int = later(2)  # of fixed: how many tokens of each block all tokens attend to
    # between the blocks, counted from 1
    pool_after: tuple[int, ...] = ()
    pool_window: int = 2
    pool_stride: int = 2
    multiscale_after: tuple[int, ...] = ()
    multiscale_windows: tuple[int, ...] = (2, 4, 8, 16, 32, 64)  # in tokens
    # of the block that a token is in, or of the tokens up to it
    multiscale_mean: _MeanKind = "block"
    # tokens to logits: of their mean, (b, k); or of each, (b, t, k), for tasks that ask what comes next at every token
    head_hidden_dim: int = 512  # 0: one linear layer
    logits_of: Literal["mean", "each"] = later("mean")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("embed_dim", "depth", "num_heads", "head_dim", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.embed_dim % 2:
            raise ValueError(f"embed_dim={self.embed_dim} must be even: a sine and a cosine for each frequency")
        if not 1 <= self.pool_stride <= self.pool_window:
            raise ValueError(f"pool_stride={self.pool_stride} must be 1 to pool_window={self.pool_window}")
        for name in ("pool_after", "multiscale_after"):
            if any(not 1 <= block <= self.depth for block in getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)} names blocks outside 1 to depth={self.depth}")
        if not 1 <= len(self.multiscale_windows) <= self.embed_dim // 2 or min(self.multiscale_windows) < 1:
            raise ValueError(f"multiscale_windows={self.multiscale_windows}: 1 to embed_dim / 2 windows of 1 or more")
        if self.causal and self.multiscale_after and self.multiscale_mean == "block":
            raise ValueError("causal attention with multiscale_mean='block' would look ahead: use 'past'")
        self._check_attention()

    def _check_attention(self) -> None:
        if self.attention != "full" and self.span < 2:
            raise ValueError(f"span={self.span} must be at least 2 tokens with attention={self.attention!r}")
        if self.attention == "fixed" and not 1 <= self.summary < self.span:
            raise ValueError(f"summary={self.summary} must be 1 to less than span={self.span}")
        if self.attention == "strided" and self.num_heads % 2:
            raise ValueError(f"num_heads={self.num_heads} must be even with attention='strided', which halves them")

    @property
    def pattern(self) -> Pattern | None:
        """Return which tokens a token attends to; None: all, or all up to itself."""
        if self.attention == "full":
            return None
        return Pattern(kind=self.attention, span=self.span, summary=self.summary, causal=self.causal)


class Attention(nn.Module):
    """Multi-head self-attention (arXiv:1706.03762, section 3.2): (b, t, d) -> (b, t, d)."""

    # unlike nn.MultiheadAttention's, the heads' width is free: num_heads * head_dim need not be embed_dim

    def __init__(self, config: AudioTransformerConfig) -> None:
        super().__init__()
        self.config = config
        inner_dim = config.num_heads * config.head_dim
        self.qkv = nn.Linear(config.embed_dim, 3 * inner_dim)
        self.proj = nn.Linear(inner_dim, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        # unlike a module, the function below does not know eval mode
        drop_rate = self.config.drop_rate if self.training else 0.0
        x = self._attend(*self._heads(x), drop_rate)
        return self.proj(x.transpose(1, 2).flatten(2))  # (b, t, d)

    def weights(self, x: Tensor) -> Tensor:
        """Return how much each token (row) takes of each (column): (b, t, d) -> (b, heads, t, t); rows sum to 1."""
        q, k, _ = self._heads(x)
        # what comes out for values of which each is 1 at its own token alone: whatever is masked, or left out, shows
        values = torch.eye(x.shape[1], dtype=q.dtype, device=q.device).expand(*q.shape[:2], -1, -1)
        return self._attend(q, k, values)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values: (b, t, d) -> three times (b, heads, t, head_dim)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.config.num_heads, -1))  # (b, t, 3, heads, head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, drop_rate: float = 0.0) -> Tensor:
        """Mix values by what their keys are to queries: three times (b, heads, t, any) -> (b, heads, t, as v)."""
        if pattern := self.config.pattern:
            return sparse_attention(q, k, v, pattern, drop_rate)
        # fused, so that the weights, (b, heads, t, t), need not be stored
        return F.scaled_dot_product_attention(q, k, v, dropout_p=drop_rate, is_causal=self.config.causal)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each with a residual connection and a norm before or after it.

    (b, t, d) -> (b, t, d), equal to nn.TransformerEncoderLayer's where that can be configured the same way.
    """

    def __init__(self, config: AudioTransformerConfig) -> None:
        super().__init__()
        self.norm_first = config.norm == "pre"
        self.norm1 = nn.LayerNorm(config.embed_dim)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim)
        self.mlp = mlp(config.embed_dim, config.mlp_dim, config.embed_dim, config.drop_rate)
        self.drop = nn.Dropout(config.drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self.drop(self.attn(self.norm1(x)))
            return x + self.drop(self.mlp(self.norm2(x)))
        x = self.norm1(x + self.drop(self.attn(x)))
        return self.norm2(x + self.drop(self.mlp(x)))


class AudioTransformer(nn.Module):
    """A front end, as published patches of raw samples through two dense layers; blocks; mostly the mean over time."""

    positions: Tensor

    def __init__(self, config: AudioTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = token_front_end(config)
        # calculated, not learned: no need to store them with the weights; 2048 patches of 25 ms are 51 s
        self.register_buffer("positions", _sinusoids(2048, config.embed_dim), persistent=False)
        self.drop = nn.Dropout(config.drop_rate)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        # a pre-norm sum is normalised once more before it is read
        self.norm = nn.LayerNorm(config.embed_dim) if config.norm == "pre" else nn.Identity()
        d, hidden_dim, k = config.embed_dim, config.head_hidden_dim, config.num_classes
        self.head = mlp(d, hidden_dim, k, config.drop_rate) if hidden_dim else nn.Linear(d, k)

    def forward(self, x: Tensor) -> Tensor:
        config = self.config
        x = self.front_end(x)  # (b, n) -> (b, t, d)
        t = x.shape[1]
        positions = self.positions if t <= len(self.positions) else _more_sinusoids(t, config.embed_dim, x.device)
        x = self.drop(x + config.position_scale * positions[:t])
        for block_number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if block_number in config.multiscale_after:
                x = _multi_scale(x, config.multiscale_windows, config.multiscale_mean)
            if block_number in config.pool_after:
                x = _average_pool(x, config.pool_window, config.pool_stride)
        x = self.norm(x)
        if config.logits_of == "mean":
            x = x.mean(dim=1)  # (b, d)
        return self.head(x)  # (b, k), or (b, t, k)


def _sinusoids(t: int, d: int) -> Tensor:
    """Return the positions of arXiv:1706.03762, section 3.5: (t, d), even columns sines, odd ones cosines."""
    frequencies = torch.exp(torch.arange(0, d, 2) * (-math.log(10_000.0) / d))  # (d / 2,)
    angles = torch.arange(t).unsqueeze(1) * frequencies  # (t, d / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


# cached, and outside inference mode, as the matrices below
@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _more_sinusoids(t: int, d: int, device: torch.device) -> Tensor:
    """Return the positions of an input that is longer than those which every model holds: (t, d)."""
    # on the CPU, as those are
    return _sinusoids(t, d).to(device)


def _average_pool(x: Tensor, window: int, stride: int) -> Tensor:
    """Average over each `window` neighbouring tokens, every `stride` tokens: (b, t, d) -> (b, fewer t, d)."""
    return F.avg_pool1d(x.transpose(1, 2), window, stride).transpose(1, 2)


def _multi_scale(x: Tensor, windows: tuple[int, ...], kind: _MeanKind) -> Tensor:
    """Average over time at several scales, as in a Haar basis: (b, t, d) -> (b, t, d)."""
    # the first half of the dimensions stays; the second has a group for each window, replaced by its mean over that
    _, t, d = x.shape
    kept, averaged = x.split([d - d // 2, d // 2], dim=-1)
    # matrices rather than pools, so that both kinds of mean, and a last block that is not full, go the same way
    matrices = _averaging_matrices(t, windows, kind, x.device)
    groups = zip(windows, matrices, averaged.tensor_split(len(windows), dim=-1), strict=True)
    means = [group if window == 1 else matrix.to(x.dtype) @ group for window, matrix, group in groups]
    return torch.cat([kept, *means], dim=-1)


# Cached, so outside inference mode: training can't use an inference tensor, which an evaluation may have made first.
@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _averaging_matrices(t: int, windows: tuple[int, ...], kind: _MeanKind, device: torch.device) -> Tensor:
    """Return (windows, t, t): row i of a matrix holds the weights of the tokens that token i's mean is made of."""
    token = torch.arange(t, device=device)
    row, column = token.unsqueeze(1), token.unsqueeze(0)
    if kind == "block":
        masks = [row // window == column // window for window in windows]
    else:
        masks = [(column <= row) & (column > row - window) for window in windows]
    mask = torch.stack(masks).float()
    return mask / mask.sum(dim=-1, keepdim=True)


def _register(name: str, published: Published, config: AudioTransformerConfig) -> None:
    register(name, family="transformer", config=config, published=published, **SOURCES[name])(AudioTransformer)


_register(
    "transformer_small",
    audio_transformers_paper(map=0.469, parameters=0.9e6),
    AudioTransformerConfig(depth=3, front_end_dim=256),
)
_register("transformer_large", audio_transformers_paper(map=0.525, parameters=2.3e6), AudioTransformerConfig())
_register(
    "transformer_pooled",
    audio_transformers_paper(map=0.537, parameters=2.3e6),
    AudioTransformerConfig(pool_after=(2, 4)),
)
_register(
    "transformer_multiscale",
    audio_transformers_paper(map=0.54, parameters=2.3e6, note="given as 'about .54'"),
    AudioTransformerConfig(multiscale_after=(2, 4)),
)
# a plain torch.nn.TransformerEncoder behind the same front end, with its defaults but for the sizes
_notes = AudioTransformerConfig(
    head_dim=8, mlp_dim=128, head_hidden_dim=0, norm="post", input_level="raw", position_scale=1.0, drop_rate=0.1
)
register("transformer_notes", family="transformer", config=_notes, in_all=False)(AudioTransformer)
