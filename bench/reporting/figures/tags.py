"""What a model heard in a sound file, drawn under the file's spectrogram."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from bench.reporting.figures.spectrograms import draw_spectrogram
from bench.reporting.figures.style import FULL, new_figure, save
from bench.reporting.tags import SOFTWARE, Floats, Tags
from bench.reporting.text import figure_text

__all__ = ["tags_figure"]

# inches of a line of tags
_LINE = 0.2


def tags_figure(tags: Tags, power: Floats, sample_rate: int, count: int, path: Path) -> None:
    """Draw a spectrogram (frequencies, columns) from 0 Hz to Nyquist, and below it the top tags over time, as PNG."""
    top = tags.top(count)
    figure, axes = new_figure(FULL, 3.0 + _LINE * len(top))
    axes.remove()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.0, 0.3 + _LINE * len(top)))
    unit, name = next(((u, name) for u, name in ((3600, "h"), (60, "min")) if tags.seconds >= 3 * u), (1, "s"))
    draw_spectrogram(upper, power, (0, _edges(tags)[-1] / unit, 0, sample_rate / 2000))
    _draw_tags(lower, tags, top, unit)
    lower.set_xlabel(f"time ({name})")
    labelled = "; labels of the clip are bold" if tags.labels else ""
    # no caption goes with the file
    heard = f"as heard by {figure_text(tags.model, 90)}{labelled}"
    heading = f"{figure_text(tags.file.name, 80)} ({tags.length}),\n{heard}"
    upper.set_title(heading, loc="left", fontweight="normal")
    save(figure, path, [".png"], {"Software": SOFTWARE})


def _edges(tags: Tags) -> Floats:
    """Return the edges of chunks: each moment is shown with the chunk whose centre is nearest. (chunks + 1,) s."""
    centres = tags.starts + tags.chunk / 2
    return np.concatenate([[0], (centres[1:] + centres[:-1]) / 2, [tags.starts[-1] + tags.chunk]])


def _draw_tags(axes: Axes, tags: Tags, top: Sequence[int], unit: float) -> None:
    edges, scores = _edges(tags) / unit, tags.scores[:, top].T
    mesh = axes.pcolormesh(edges, np.arange(len(top) + 1), scores, cmap="viridis", vmin=0, vmax=1)
    axes.grid(False)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(top)) + 0.5, [f"{figure_text(tags.classes[k], 40)} {tags.clip[k]:.2f}" for k in top])
    for tick, k in zip(axes.get_yticklabels(), top, strict=True):
        tick.set_fontweight("bold" if k in tags.labels else "normal")
    axes.figure.colorbar(mesh, ax=axes, label="score", pad=0.02)
