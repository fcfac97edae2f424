"""What attention takes by itself over more and more tokens: to all of them, to some by a mask, to some by blocks."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from architectures.attention import Kind, Pattern, sparse_attention
from bench.reporting.figures import style
from bench.runner.cost import peak_memory
from benchmarks.machine import synchronize
from benchmarks.turns import Work, medians_in_turns

__all__ = ["FIGURE", "FULL", "QUICK", "dense_mask", "draw_patterns", "markdown", "measure_attention"]

# squares, so that spans are whole roots, and the tokens of the suite `long`
FULL, QUICK = (400, 1_600, 2_000, 6_400), (400, 1_600)
_HEADS, _WIDTH = 8, 64
_ROUNDS = 5
# of the documentation: 24 tokens, in blocks of 6
FIGURE = Path("docs/attention_patterns.png")
_DRAWN, _SPAN, _ROW = 24, 6, 15
_TITLES: dict[Kind, Sequence[str]] = {
    "local": ("local",),
    "strided": ("strided, half of the heads", "strided, the others"),
    "fixed": ("fixed",),
}


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
    patterns = {kind: Pattern(kind=kind, span=round(t**0.5), summary=2, causal=False) for kind in _TITLES}
    ways: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "full": scaled_dot_product_attention,
        # of fixed, which is the same in all heads
        "fixed, by a mask": partial(_masked, pattern=patterns["fixed"]),
        **{kind: partial(sparse_attention, pattern=pattern) for kind, pattern in patterns.items()},
    }
    return {name: partial(_step, attend, x.requires_grad_()) for name, attend in ways.items()}


def _masked(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> Tensor:
    # made anew, as sparse attention's are, so that its time and memory count
    return scaled_dot_product_attention(q, k, v, attn_mask=dense_mask(pattern, q.shape[-2], q.device))


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
    return (block.unsqueeze(1) == block).logical_or_(j >= end - pattern.summary)


def markdown(points: pd.DataFrame) -> str:
    """Return a line a way: milliseconds and megabytes by tokens, and their exponents over the last factor of four."""
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
    last = line.iloc[-1]
    # not from 2,000 on, where the last block is not full
    before = line[line["tokens"] <= last["tokens"] / 4].iloc[-1]
    return f"{math.log(last[column] / before[column]) / math.log(last['tokens'] / before['tokens']):.2f}"


def draw_patterns(path: Path) -> None:
    """Draw which tokens each token attends to, pattern by pattern, as the code attends."""
    style.set_style()
    figure, grid = plt.subplots(2, 4, figsize=(style.FULL, 3.7), layout="constrained", sharex=True, sharey=True)
    for line, causal in zip(grid, (False, True), strict=True):
        panels = iter(line)
        for kind, titles in _TITLES.items():
            pattern = Pattern(kind=kind, span=_SPAN, summary=2, causal=causal)
            # equal keys have equal weights, so that each row says which of the values it has seen
            zeros, values = torch.zeros(1, len(titles), _DRAWN, 1), torch.eye(_DRAWN).expand(1, len(titles), -1, -1)
            for title, seen in zip(titles, sparse_attention(zeros, zeros, values, pattern)[0] > 0, strict=True):
                _draw_mask(next(panels), seen.numpy(), title if not causal else "")
        line[0].set_ylabel(f"{'causal' if causal else 'both sides'}\ntoken")
    for axes in grid[-1]:
        axes.set_xlabel("attends to token")
    figure.savefig(path, dpi=style.DOTS, metadata={"Software": None})
    plt.close(figure)


def _draw_mask(axes: Axes, seen: np.ndarray, title: str) -> None:
    """Draw a mask (t, t), with one token's row in full colour."""
    shades = np.where(seen, 1, 0)
    shades[_ROW] *= 2
    axes.imshow(shades, cmap=ListedColormap(["white", "#f3cdb2", style.colour_of("transformer")]), vmin=0, vmax=2)
    places = range(0, _DRAWN + 1, _SPAN)
    axes.set_xticks([place - 0.5 for place in places], [str(place) for place in places])
    axes.set_yticks([place - 0.5 for place in places], [str(place) for place in places])
    axes.set_title(title, loc="left", fontsize=style.SMALL)


if __name__ == "__main__":
    draw_patterns(FIGURE)
