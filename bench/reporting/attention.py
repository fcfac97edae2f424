"""Where the heads of a transformer look on one sound: numbers and text. bench.inspect.attention measures them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.text import printable

__all__ = ["Array", "AttentionFiles", "Block", "Listening", "describe", "describe_place", "table_of"]

Array = npt.NDArray[np.float64]

_COLUMN = 8


@dataclass(frozen=True)
class Block:
    """What a block's heads weigh their values by; times are seconds from the beginning of the chunk."""

    # of the block: how many, where the centre of the first one is, and from each to the next
    tokens: int
    first: float
    spacing: float
    # (heads,) means over all queries: of the distance to what is looked at (s), and of the entropy of weights (bits)
    distance: Array
    entropy: Array
    # the same where a head looks at all that it may see alike; they differ where heads may see other tokens
    even_distance: Array
    even_entropy: Array
    # (heads, queries, keys) weights as multiples of even ones, of many tokens in means over neighbours; NaN: never seen
    maps: Array
    # (heads, keys) means over all queries, as multiples of even ones: how much each moment is looked at
    received: Array

    @property
    def span(self) -> tuple[float, float]:
        """Where the first token begins and the last one ends."""
        begin = self.first - self.spacing / 2
        return begin, begin + self.tokens * self.spacing


@dataclass(frozen=True)
class Listening:
    """One chunk of a sound as one model listens to it."""

    file: Path
    # architecture and seed
    model: str
    # of the chunk: where in the file it begins, and how long it is
    second: float
    seconds: float
    sample_rate: int
    # (frequencies, columns) from 0 Hz to half the sample rate
    power: Array
    blocks: Sequence[Block]


@dataclass(frozen=True)
class AttentionFiles:
    """A row a block and head, the files (the figure also as .svg and .pdf), and the numbers as text."""

    table: pd.DataFrame = field(repr=False)
    csv: Path
    png: Path
    text: str = field(repr=False)

    def _repr_html_(self) -> str:
        return f'<img src="data:image/png;base64,{base64.b64encode(self.png.read_bytes()).decode()}">'


def table_of(listening: Listening) -> pd.DataFrame:
    """Return a row a block and head, both counted from 1.

    tokens, token_ms            how many tokens the block has, and the time from one to the next
    distance_ms                 how far away a token looks: mean of |time of key - time of query|, weighted
    entropy_bits                how widely: mean entropy of the weights of a query; 0 is a single key
    even_distance_ms, even_entropy_bits   the same for a head that looks at all that it may see alike
    """
    rows: list[dict[str, Any]] = []
    for number, block in enumerate(listening.blocks, start=1):
        for head in range(len(block.distance)):
            rows.append(
                {
                    "block": number,
                    "head": head + 1,
                    "tokens": block.tokens,
                    "token_ms": 1000 * block.spacing,
                    "distance_ms": 1000 * block.distance[head],
                    "entropy_bits": block.entropy[head],
                    "even_distance_ms": 1000 * block.even_distance[head],
                    "even_entropy_bits": block.even_entropy[head],
                }
            )
    return pd.DataFrame(rows)


def describe_place(listening: Listening) -> str:
    """Return which model listens to what, in a line."""
    end = listening.second + listening.seconds
    return f"{listening.model} on {printable(listening.file.name)}, {listening.second:g} to {end:g} s"


def describe(listening: Listening) -> str:
    """Return the numbers as lines of text: a line a block, a column a head."""
    distance, entropy = "mean distance to what is looked at (ms)", "entropy of the weights (bits)"
    lines = [describe_place(listening), distance, *_lines(listening.blocks, "distance", 1000, 0), entropy]
    return "\n".join([*lines, *_lines(listening.blocks, "entropy", 1, 2)])


def _lines(blocks: Sequence[Block], name: str, factor: float, digits: int) -> list[str]:
    heads = max(len(block.distance) for block in blocks)
    lines = [_line("  tokens", [f"head {head}" for head in range(1, heads + 1)], "even")]
    for number, block in enumerate(blocks, start=1):
        values, even = factor * getattr(block, name), factor * getattr(block, f"even_{name}")
        shown, shown_even = ([f"{value:.{digits}f}" for value in each] for each in (values, even))
        what = f"  block {number}: {block.tokens} of {1000 * block.spacing:g} ms"
        if len(set(shown_even)) == 1:
            lines.append(_line(what, shown, shown_even[0]))
        else:
            # of heads that may see other tokens than others
            lines += [_line(what, shown), _line("    even", shown_even)]
    return lines


def _line(what: str, cells: Sequence[str], last: str = "") -> str:
    return (f"{what:30}" + "".join(f"{cell:>{_COLUMN}}" for cell in [*cells, last])).rstrip()
