"""Where the architectures stand against the machine, and how cost grows. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter

from bench.reporting.figures.style import appearance, new_figure, save, set_style
from benchmarks.growth import exponent

__all__ = ["growth", "roofline"]


def roofline(frame: pd.DataFrame, machine: Mapping[str, Any], path: Path) -> None:
    """Draw achieved operations a second against operations a byte; the roofs are what the machine was seen to reach."""
    steps = frame[frame["part"].str.startswith("step") & frame["flops"].notna()]
    if steps.empty:
        return
    figure, axes = new_figure(height=5.0)
    intensity = steps["flops"] / steps["bytes"]
    x = np.geomspace(min(1.0, intensity.min() / 2), 4 * intensity.max(), 200)
    for name, style in (("bf16", "--"), ("fp32", "-")):
        peak = machine[f"flops_{name}"]
        # imitated: no architecture is trained in it
        if peak < machine["flops_fp32"] / 2:
            continue
        roof = np.minimum(peak, x * machine["copy_bytes"])
        axes.plot(x, roof / 1e9, style, color="0.4", label=f"{name} matrix product, {peak / 1e9:,.0f} GFLOP/s")
    looks = appearance(steps["item"])
    for (_, step), where in zip(steps.iterrows(), intensity, strict=True):
        colour, marker = looks[step["item"]]
        ours, other = (step["flops"] / step[f"{side}_seconds"] / 1e9 for side in ("ours", "other"))
        label = f"{step['item']}, {ours:.0f} GFLOP/s, {step['bytes'] / step['ours_seconds'] / 1e9:.1f} GB/s"
        axes.plot(where, ours, marker, color=colour, markersize=8, linestyle="none", label=label)
        axes.plot(where, other, marker, color=colour, fillstyle="none", markersize=8)
    axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
    axes.set_title(f"A training step on {machine['name']}\n(hollow: fp32, eager; filled: as the demo suite trains)")
    axes.legend(fontsize=7, loc="lower right")
    save(figure, path)


def growth(points: pd.DataFrame, path: Path) -> None:
    """Draw time and memory against what grows, with a line for what is linear."""
    set_style()
    kinds = list(points["what"].unique())
    figure, grid = plt.subplots(2, len(kinds), figsize=(2.6 * len(kinds), 5.0), layout="constrained", squeeze=False)
    for column, what in enumerate(kinds):
        measured = points[points["what"] == what].sort_values("value")
        for axes, measure in zip(grid[:, column], ("seconds", "megabytes"), strict=True):
            axes.plot(measured["value"], measured[measure], "o-", label="measured")
            last = measured.iloc[-1]
            linear = last[measure] * measured["value"] / last["value"]
            axes.plot(measured["value"], linear, ":", color="0.5", label="linear")
            axes.set(xscale="log", xlabel=measured.iloc[0]["unit"], ylabel=measure)
            axes.set_yscale("log" if measure == "seconds" else "linear")
            for axis in (axes.xaxis, axes.yaxis) if measure == "seconds" else (axes.xaxis,):
                axis.set_minor_formatter(NullFormatter())
            if measure == "seconds":
                title = f"{measured.iloc[0]['work']}\n(exponent {exponent(measured, measure):.2f})"
                axes.set_title(title, fontsize=7)
            else:
                axes.set_ylim(bottom=0)
    grid[0, 0].legend(fontsize=7)
    save(figure, path)
