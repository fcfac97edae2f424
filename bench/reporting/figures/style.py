"""One colour and one marker an architecture, in every figure; told apart without colour by the marker."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

KNOWN = (
    "crnn", "vgg_like", "resnet18", "densenet121",
    "transformer_small", "transformer_large", "transformer_pooled", "transformer_multiscale",
)  # fmt: skip
MARKERS = ("s", "D", "^", "v", "o", "P", "X", "*", "h", "<", ">", "p")


def appearance(names: Iterable[str]) -> dict[str, tuple[tuple[float, float, float], str]]:
    """Name to (colour, marker). The eight have their own; others get one that follows from their name alone, and rows
    named after one of the eight (vgg_like_best_of_30) its colour with another marker."""
    palette = sns.color_palette("colorblind", len(MARKERS))
    return {name: (palette[_place(name)[0]], MARKERS[_place(name)[1]]) for name in names}


def _place(name: str) -> tuple[int, int]:
    """Of colour and marker."""
    if name in KNOWN:
        return KNOWN.index(name), KNOWN.index(name)
    number = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    for place, known in enumerate(KNOWN):
        if name.startswith(f"{known}_"):
            return place, (place + 1 + number % (len(MARKERS) - 1)) % len(MARKERS)
    place = len(KNOWN) + number % (len(MARKERS) - len(KNOWN))
    return place, place


def new_figure(width: float = 7.0, height: float = 4.6) -> tuple[Figure, Axes]:
    set_style()
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    return figure, axes


def set_style() -> None:
    sns.set_theme(
        context="paper",
        style="whitegrid",
        rc={"svg.hashsalt": "bench", "figure.dpi": 150, "pdf.fonttype": 42},
    )


def save(figure: Figure, path: Path) -> None:
    """As PNG, SVG and PDF, without the date, so that the same figure has the same bytes."""
    figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)
