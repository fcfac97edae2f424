"""What figures share: one colour and one marker an architecture, by either of which it is known, and files."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from bench.disk import whole_file
from bench.store import ResultsFolder

__all__ = [
    "Figures", "appearance", "draw", "heatmap", "legend_beside", "log_x", "new_figure", "plain_ticks", "save",
    "set_style",
]  # fmt: skip

# file stem to what draws it, or returns None where it has nothing to show, and its caption
Figures = Mapping[str, tuple[Callable[..., Figure | None], str]]

_KNOWN = (
    "crnn", "vgg_like", "resnet18", "densenet121",
    "transformer_small", "transformer_large", "transformer_pooled", "transformer_multiscale",
)  # fmt: skip
_MARKERS = ("s", "D", "^", "v", "o", "P", "X", "*", "h", "<", ">", "p")
# what a file would say of the moment and the version that it was drawn by
_DATELESS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def appearance(names: Iterable[str]) -> dict[str, tuple[tuple[float, float, float], str]]:
    """Return name to (colour, marker).

    Both follow from the name alone; one made of the eight's (vgg_like_best_of_30) has their colour, another marker.
    """
    palette = sns.color_palette("colorblind", len(_MARKERS))
    return {name: (palette[_place(name)[0]], _MARKERS[_place(name)[1]]) for name in names}


def _place(name: str) -> tuple[int, int]:
    if name in _KNOWN:
        return _KNOWN.index(name), _KNOWN.index(name)
    number = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    for place, known in enumerate(_KNOWN):
        if name.startswith(f"{known}_"):
            return place, (place + 1 + number % (len(_MARKERS) - 1)) % len(_MARKERS)
    place = len(_KNOWN) + number % (len(_MARKERS) - len(_KNOWN))
    return place, place


def new_figure(width: float = 7.0, height: float = 4.6) -> tuple[Figure, Axes]:
    """Return a figure of so many inches, with one panel."""
    set_style()
    return plt.subplots(figsize=(width, height), layout="constrained")


def set_style() -> None:
    # a $ in a name begins no formula
    settings = {"svg.hashsalt": "bench", "figure.dpi": 150, "pdf.fonttype": 42, "text.parse_math": False}
    sns.set_theme(context="paper", style="whitegrid", rc=settings)


def draw(figures: Figures, folder: ResultsFolder, *given: Any, **words: str) -> dict[str, str]:
    """Draw figures into a results folder; return file stem to caption, which has `words` filled in."""
    made = {}
    for name, (function, caption) in figures.items():
        path = folder.report_file(name)
        if figure := function(*given):
            save(figure, path)
            made[name] = caption.format(**words)
        else:
            # of an earlier report, which had more systems
            for suffix in (".png", ".svg", ".pdf"):
                path.with_suffix(suffix).unlink(missing_ok=True)
    return made


def save(figure: Figure, path: Path) -> None:
    """Save as PNG, SVG and PDF, without the date, so that the same figure has the same bytes."""
    with warnings.catch_warnings():
        # names may be in any script
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.draw_without_rendering()
        # laid out once: for each format again, it would take as long as the drawing
        figure.set_layout_engine("none")
        for suffix, metadata in _DATELESS.items():
            with whole_file(path.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, format=suffix[1:], metadata=metadata)
    plt.close(figure)


def legend_beside(axes: Axes, **options: Any) -> None:
    """Draw the legend to the right of a panel, where it hides nothing."""
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, **options)


def log_x(axes: Axes, *steps: int) -> None:
    """Make x logarithmic, with ticks at these multiples of powers of ten: 10k, 30k, 100k."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def plain_ticks(*logarithmic: Axis) -> None:
    """Write the ticks of logarithmic axes as numbers: matplotlib's own are formulas, which `set_style` switches off."""
    for axis in logarithmic:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def heatmap(axes: Axes, matrix: Any, label: str, **options: Any) -> None:
    """Draw a matrix and its numbers, the names along x turned, so that long ones do not overlap."""
    sns.heatmap(matrix, ax=axes, annot_kws={"fontsize": 7}, cbar_kws={"label": label}, **options)
    plt.setp(axes.get_xticklabels(), rotation=40, ha="right")
