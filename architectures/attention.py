"""Attention to some of the tokens, for long inputs: the patterns of Sparse Transformers (arXiv:1904.10509, section 4).

They are exact. Tokens are cut into blocks, and each block attends by torch's own attention to the few blocks or tokens
that it may see; all others are neither computed nor kept. With a span near the root of t, arithmetic grows as t to the
power of 1.5, and memory as t.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Kind", "Pattern", "sparse_attention"]

Kind = Literal["local", "strided", "fixed"]


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Which tokens j a token i attends to; if it is causal, of those only the ones up to i.

    local: |i - j| < span. strided: the same in the first half of the heads; in the others, i - j is a multiple of span.
    fixed: i and j lie in the same block of `span` tokens, or j is one of the last `summary` tokens of any block. The
    last block ends with the input, so that it may be shorter.
    """

    kind: Kind
    span: int
    summary: int
    causal: bool


def sparse_attention(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, drop_rate: float = 0.0) -> Tensor:
    """Attend by a pattern: three times (b, heads, t, d) -> (b, heads, t, d).

    Raises ValueError for no more tokens than a span, of which a pattern would leave out nothing.
    """
    b, _, t, _ = q.shape
    if t <= pattern.span:
        fix = "take a smaller span, shorter patches or longer chunks, or attention='full'"
        raise ValueError(f"attention={pattern.kind!r} has span={pattern.span}, of {t} tokens in all: {fix}")
    ways = {"local": [_local], "strided": [_local, _column], "fixed": [_fixed]}[pattern.kind]
    # as many heads for each way
    parts = zip(ways, *(x.chunk(len(ways), dim=1) for x in (q, k, v)), strict=True)
    seen = [way(q, k, v, pattern, drop_rate)[:, :t].unflatten(0, (b, -1)) for way, q, k, v in parts]
    return torch.cat(seen, dim=1)


def _local(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, drop_rate: float) -> Tensor:
    """Attend to the tokens that are nearer than a span: (b, heads, t, d) -> (b * heads, t or more, d)."""
    t, span = q.shape[2], pattern.span
    # a block sees the one before, itself and, unless causal, the one behind
    width = (2 if pattern.causal else 3) * span
    filled = width - 2 * span + -t % span

    def windows(x: Tensor) -> Tensor:
        # views of one tensor, which overlap: (b * heads, blocks, width, d)
        return F.pad(x.flatten(0, 1), (0, 0, span, filled)).unfold(1, width, span).transpose(2, 3)

    i = _places(t, span, q.device).unsqueeze(2)  # (blocks, span, 1)
    j = i[:, :1] - span + torch.arange(width, device=q.device)  # (blocks, 1, width)
    visible = ((i - j).abs() < span) & (j >= 0) & (j < t)
    if pattern.causal:
        visible &= j <= i
    return _attend(_blocks(q, span), windows(k), windows(v), visible, drop_rate).flatten(1, 2)


def _column(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, drop_rate: float) -> Tensor:
    """Attend to every span-th token: (b, heads, t, d) -> (b * heads, t or more, d)."""
    t, span = q.shape[2], pattern.span
    q, k, v = (_blocks(x, span).transpose(1, 2) for x in (q, k, v))  # (b * heads, span, blocks, d)
    if pattern.causal:
        # what fills the last block lies behind all tokens
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=drop_rate, is_causal=True)
    else:
        j = _places(t, span, q.device).T.unsqueeze(1)  # (span, 1, blocks)
        visible = None if t % span == 0 else (j < t).expand(-1, j.shape[2], -1)
        seen = _attend(q, k, v, visible, drop_rate)
    return seen.transpose(1, 2).flatten(1, 2)


def _fixed(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, drop_rate: float) -> Tensor:
    """Attend to the own block and to all summaries: (b, heads, t, d) -> (b * heads, t or more, d)."""
    t, span, rest = q.shape[2], pattern.span, pattern.span - pattern.summary
    # of the last block, which may be shorter
    last = max((t - 1) // span * span, t - pattern.summary)

    def keys(x: Tensor) -> Tensor:
        """Return what each block sees, without its own summary a second time: (b * heads, blocks, width, d)."""
        blocks = _blocks(x, span)
        summaries = torch.cat([blocks[:, :-1, rest:].flatten(1, 2), x.flatten(0, 1)[:, last:]], dim=1)
        return torch.cat([blocks[:, :, :rest], summaries.unsqueeze(1).expand(-1, blocks.shape[1], -1, -1)], dim=2)

    visible = None
    if pattern.causal or t % span:
        i = _places(t, span, q.device)
        # what fills the last block, and its summary, which comes behind: not there
        own = i[:, :rest].masked_fill(i[:, :rest] >= last, t)
        summaries = torch.cat([i[:-1, rest:].flatten(), torch.arange(last, t, device=q.device)])
        j = torch.cat([own, summaries.expand(len(own), -1)], dim=1).unsqueeze(1)  # (blocks, 1, width)
        visible = (j < t).expand(-1, span, -1)
        if pattern.causal:
            visible = visible & (j <= i.unsqueeze(2))
    return _attend(_blocks(q, span), keys(k), keys(v), visible, drop_rate).flatten(1, 2)


def _places(t: int, span: int, device: torch.device) -> Tensor:
    """Return the places of tokens in blocks, with those that fill the last one: (blocks, span)."""
    return torch.arange(t + -t % span, device=device).view(-1, span)


def _blocks(x: Tensor, span: int) -> Tensor:
    """Cut tokens into blocks, the last one filled up with zeros: (b, heads, t, d) -> (b * heads, blocks, span, d)."""
    return F.pad(x.flatten(0, 1), (0, 0, 0, -x.shape[2] % span)).unflatten(1, (-1, span))


def _attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, drop_rate: float) -> Tensor:
    """Attend block by block: (b * heads, blocks, m, d) to as many keys as each block sees, by (blocks, m, width)."""
    # blocks stand where heads are usually: one mask serves all inputs and heads
    mask = None if visible is None else visible.unsqueeze(0)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop_rate)
