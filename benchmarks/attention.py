"""What attention takes by itself over more and more tokens: to all of them, to some by a mask, to some by blocks."""

import math
from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from architectures.attention import Pattern, sparse_attention
from bench.runner.cost import peak_memory
from benchmarks.machine import synchronize
from benchmarks.turns import Work, medians_in_turns

__all__ = ["FULL", "QUICK", "dense_mask", "markdown", "measure_attention"]

# squares, so that spans are whole roots
FULL, QUICK = (400, 1_600, 6_400), (400, 1_600)
_HEADS, _WIDTH = 8, 64
_ROUNDS = 5


def measure_attention(device: torch.device, quick: bool, progress: Callable[[str], None]) -> pd.DataFrame:
    """Return (points, precision / batch / way / tokens / milliseconds / megabytes), of forward and backward.

    Milliseconds are medians over turns, megabytes the most that a step adds.
    """
    on_gpu, points = device.type == "cuda", []
    batch = 16 if on_gpu else 1
    for dtype in (torch.float32, torch.bfloat16) if on_gpu else (torch.float32,):
        precision = "bf16" if dtype == torch.bfloat16 else "fp32"
        for tokens in QUICK if quick else FULL:
            progress(f"attention, {tokens:,} tokens, {precision}")
            steps = _steps(torch.randn(3, batch, _HEADS, tokens, _WIDTH, device=device, dtype=dtype))
            seconds = medians_in_turns(steps, _ROUNDS)
            for way, step in steps.items():
                point = {"precision": precision, "batch": batch, "way": way, "tokens": tokens}
                megabytes = peak_memory(step, device) / 1e6
                points.append(point | {"milliseconds": 1e3 * seconds[way], "megabytes": megabytes})
    return pd.DataFrame(points)


def _steps(x: Tensor) -> dict[str, Work]:
    """Return what takes a forward and a backward pass in each way: x is (3, b, heads, t, d)."""
    t = x.shape[3]
    patterns = {
        kind: Pattern(kind=kind, span=round(t**0.5), summary=2, causal=False) for kind in ("local", "strided", "fixed")
    }
    # made once, as a model would keep it; fixed, which is the same in all heads
    mask = dense_mask(patterns["fixed"], t, x.device)
    ways: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "full": scaled_dot_product_attention,
        "fixed, by a mask": partial(scaled_dot_product_attention, attn_mask=mask),
        **{kind: partial(sparse_attention, pattern=pattern) for kind, pattern in patterns.items()},
    }
    return {name: partial(_step, attend, x.requires_grad_()) for name, attend in ways.items()}


def _step(attend: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    attend(*x).sum().backward()
    gradient, x.grad = x.grad, None
    assert gradient is not None
    return synchronize(gradient)


def dense_mask(pattern: Pattern, t: int, device: torch.device) -> Tensor:
    """Return which tokens a token attends to, by the fixed pattern, not causal: (t, t)."""
    j = torch.arange(t, device=device)
    block = j // pattern.span
    end = ((block + 1) * pattern.span).clamp(max=t)
    return (block.unsqueeze(1) == block) | (j >= end - pattern.summary)


def markdown(points: pd.DataFrame) -> str:
    """Return a line a way: milliseconds and megabytes by tokens, and their exponents over the two largest numbers."""
    tokens = sorted(points["tokens"].unique())
    batches = ", ".join(map(str, points["batch"].unique()))
    counts = " | ".join(f"{t:,} tokens" for t in tokens)
    heading = f"attention of {_HEADS} heads of {_WIDTH}, batch of {batches}"
    lines = [f"| {heading} | {counts} | exponent | {counts.replace('tokens', 'tokens, MB')} | exponent |"]
    lines.append(f"| --- |{' ---: |' * (2 * len(tokens) + 2)}")
    for (precision, way), line in points.groupby(["precision", "way"], sort=False):
        line = line.sort_values("tokens")
        cells = []
        for column, unit in (("milliseconds", " ms"), ("megabytes", "")):
            cells += [*(f"{value:,.3g}{unit}" for value in line[column]), _exponent(line, column)]
        lines.append(f"| {way}, {precision} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _exponent(line: pd.DataFrame, column: str) -> str:
    before, last = line.iloc[-2], line.iloc[-1]
    return f"{math.log(last[column] / before[column]) / math.log(last['tokens'] / before['tokens']):.2f}"
