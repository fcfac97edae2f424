"""What a model heard in a sound file: as lines of text, as a table, and drawn under the file's spectrogram."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from bench.disk import partial_path
from bench.errors import UserError
from bench.reporting.figures.style import new_figure

Floats = npt.NDArray[np.floating[Any]]

COLUMNS = 60  # of a terminal, for the scores over time
HEIGHTS = " ▁▂▃▄▅▆▇█"  # of a score, from 0 to 1
SOFTWARE = "bench predict"  # is written into the figures
FLOOR_DB = -80.0  # of a spectrogram
PIXELS = 1000  # columns of one, at most


@dataclass(frozen=True)
class Tags:
    """A file's scores, chunk by chunk."""

    file: Path
    model: str
    seconds: float  # of the file
    hop: float  # seconds, from one chunk to the next; the last one ends with the file
    classes: Sequence[str]
    starts: Floats  # (chunks,) s
    scores: Floats  # (chunks, k), after the sigmoid
    chunk: float = 1.0  # seconds, of a chunk
    of_clip: Floats | None = None  # (k,), where they are not the mean over chunks

    @cached_property
    def clip(self) -> Floats:
        """Scores of the whole file, as an evaluation has them: (k,)."""
        mean: Floats = self.scores.mean(axis=0)
        return mean if self.of_clip is None else self.of_clip

    def top(self, count: int) -> list[int]:
        """The classes with the highest scores, the highest first."""
        return [int(k) for k in np.argsort(-self.clip, kind="stable")[:count]]

    @property
    def length(self) -> str:
        if self.seconds < max(1, self.chunk):
            return f"{self.seconds:.2f} s, repeated to {'one second' if self.chunk <= 1 else f'{self.chunk:g} s'}"
        return f"{self.seconds:.1f} s" if self.seconds < 60 else clock(self.seconds)


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe(tags: Tags, count: int) -> str:
    """The top tags, a line each: the score, and where there are several chunks the scores over time and their peak."""
    top, chunks = tags.top(count), len(tags.starts)
    group = -(-chunks // COLUMNS)  # chunks a column
    width = max(len(tags.classes[k]) for k in top)
    lines = [f"{tags.file}: {tags.length}" + (f"; a column is {group * tags.hop:g} s" if chunks > 1 else "")]
    for k in top:
        lines.append(f"  {tags.classes[k]:{width}} {tags.clip[k]:.2f}")
        if chunks > 1:
            lines[-1] += f" {_over_time(tags.starts, tags.scores[:, k], group)}"
    return "\n".join(lines)


def _over_time(starts: Floats, scores: Floats, group: int) -> str:
    """Of each group of chunks the highest score, and the highest of all."""
    columns = np.maximum.reduceat(scores, np.arange(0, len(scores), group))
    heights = "".join(HEIGHTS[round(8 * float(score))] for score in columns)
    peak = int(scores.argmax())
    return f"|{heights}| peak {scores[peak]:.2f} at {clock(starts[peak])}"


class ScoreTable:
    """Every class's score in every chunk, as a CSV file that is whole or not there; `second` is a chunk's beginning."""

    HEADER = "file,second,tag,score"

    def __init__(self, path: Path) -> None:
        """Raises UserError if there is a file that is no such table."""
        refuse_foreign(path, self.HEADER)
        self.path = path

    def __enter__(self) -> Self:
        partial_path(self.path).write_text(f"{self.HEADER}\n", "utf-8")
        return self

    def add(self, tags: Tags) -> None:
        chunks, k = tags.scores.shape
        values = (str(tags.file), np.repeat(tags.starts, k), list(tags.classes) * chunks, tags.scores.ravel())
        rows = pd.DataFrame(dict(zip(self.HEADER.split(","), values, strict=True)))
        rows.to_csv(
            partial_path(self.path), mode="a", header=False, index=False, float_format="%.6g", lineterminator="\n"
        )

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error:
            partial_path(self.path).unlink()
        else:
            partial_path(self.path).replace(self.path)


def figure_paths(files: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """Where in a folder each file's figure belongs: STEM.png.

    Raises:
        UserError: two files have one name, or there is a picture that `tags_figure` did not draw.
    """
    paths: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    for file in files:
        path = folder / f"{file.stem}.png"
        if taken.setdefault(path, file) != file:
            raise UserError(f"{path}: would be the figure of {taken[path]} and of {file}; draw them into two folders")
        refuse_foreign(path, SOFTWARE)
        paths[file] = path
    return paths


def refuse_foreign(path: Path, mark: str) -> None:
    """Raises UserError if there is a file that does not begin as this command's do, with `mark` in its first bytes."""
    if path.exists():
        with path.open("rb") as file:
            if mark.encode() not in file.read(200):
                raise UserError(f"{path}: exists, and is not from `bench predict`; remove it or name another place")


def tags_figure(tags: Tags, power: Floats, sample_rate: int, count: int, path: Path) -> None:
    """Draw the spectrogram, and below it the top tags over time, as PNG.

    Args:
        power: (frequencies, columns), from 0 Hz to half the sample rate.
    """
    top = tags.top(count)
    figure, axes = new_figure(7.2, 3.6 + 0.22 * len(top))
    axes.remove()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 0.4 + 0.22 * len(top)))
    unit, name = _unit(tags)
    _draw_spectrogram(upper, power, (0, _edges(tags)[-1] / unit, 0, sample_rate / 2000))
    _draw_tags(lower, tags, top, unit)
    lower.set_xlabel(f"time ({name})")
    title = f"{tags.file.name} ({tags.length}), as heard by {tags.model}"
    figure.suptitle(title, parse_math=False, wrap=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a file may be called anything
        figure.savefig(path, metadata={"Software": SOFTWARE})
    plt.close(figure)


def _unit(tags: Tags) -> tuple[float, str]:
    """Of the time axis, in seconds."""
    return next(((u, name) for u, name in ((3600, "h"), (60, "min")) if tags.seconds >= 3 * u), (1, "s"))


def _edges(tags: Tags) -> Floats:
    """Each moment is shown with the chunk whose centre is nearest: (chunks + 1,) s, to the file's end."""
    centres = tags.starts + tags.chunk / 2
    edges: Floats = np.concatenate([[0], (centres[1:] + centres[:-1]) / 2, [tags.starts[-1] + tags.chunk]])
    return edges


def _draw_spectrogram(axes: Axes, power: Floats, extent: tuple[float, float, float, float]) -> None:
    highest = max(float(power.max()), np.finfo(float).tiny)
    decibels = 10 * np.log10(np.maximum(power / highest, 10 ** (FLOOR_DB / 10)))
    image = axes.imshow(decibels, origin="lower", aspect="auto", cmap="magma", vmin=FLOOR_DB, vmax=0, extent=extent)
    axes.grid(False)
    axes.set_ylabel("frequency (kHz)")
    axes.figure.colorbar(image, ax=axes, label="dB", pad=0.02)


def _draw_tags(axes: Axes, tags: Tags, top: Sequence[int], unit: float) -> None:
    mesh = axes.pcolormesh(
        _edges(tags) / unit, np.arange(len(top) + 1), tags.scores[:, top].T, cmap="viridis", vmin=0, vmax=1
    )
    axes.grid(False)
    axes.invert_yaxis()
    labels = [f"{tags.classes[k]} {tags.clip[k]:.2f}" for k in top]
    axes.set_yticks(np.arange(len(top)) + 0.5, labels)
    axes.figure.colorbar(mesh, ax=axes, label="score", pad=0.02)
