"""Where the architectures stand against the machine, and how cost grows. No torch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from bench.reporting.figures.style import looks, new_figure, plain_ticks, save, set_style
from benchmarks.growth import exponent

__all__ = ["coverage", "growth", "roofline"]


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
    # what a benchmark knows of an item is its name alone
    known = looks(dict.fromkeys(steps["item"], ""))
    for (_, step), where in zip(steps.iterrows(), intensity, strict=True):
        look = known[step["item"]]
        ours, other = (step["flops"] / step[f"{side}_seconds"] / 1e9 for side in ("ours", "other"))
        label = f"{step['item']}, {ours:.0f} GFLOP/s, {step['bytes'] / step['ours_seconds'] / 1e9:.1f} GB/s"
        axes.plot(where, ours, markersize=7, linestyle="none", label=label, **look.point)
        axes.plot(where, other, markersize=7, linestyle="none", **look.point | {"markerfacecolor": "none"})
    axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
    plain_ticks(axes.xaxis, axes.yaxis)
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
            plain_ticks(axes.xaxis, *([axes.yaxis] if measure == "seconds" else []))
            if measure == "seconds":
                power = exponent(measured, measure)
                grows = "" if math.isnan(power) else f"\n(exponent {power:.1f})"
                axes.set_title(f"{measured.iloc[0]['work']}{grows}", fontsize=7)
            else:
                axes.set_ylim(bottom=0)
    grid[0, 0].legend(fontsize=7)
    save(figure, path)


# what seeds have in common, to its colour
_OF_SEEDS = {
    "correlation 0": "#0173b2",
    "correlation 0.5": "#029e73",
    "correlation 0.96": "#cc78bc",
    "heavy tails": "#de8f05",
}


def coverage(table: pd.DataFrame, path: Path) -> None:
    """Draw how often a simulated test calls equals different, and finds the paper's difference, by number of seeds."""
    set_style()
    figure, panels = plt.subplots(1, 2, figsize=(9.0, 4.0), layout="constrained")
    chosen = table[(table["group"] == 1) & table["clips"].isin([2_000, 10_231]) & (table["classes"] == 50)]
    drawn = {
        "equals": "called significant, where there is no difference",
        "better": "called significant, where .012 is true",
    }
    for axes, (question, label) in zip(panels, drawn.items(), strict=True):
        lines = chosen[(chosen["question"] == question) & chosen["scenario"].ne("10231-planned")]
        for _, line in lines.groupby("scenario", sort=False):
            first = line.iloc[0]
            seeds = "heavy tails" if first["tails"] == "t3" else f"correlation {first['correlation']:g}"
            name, large = f"{first['clips']:,} clips, {seeds}", first["clips"] > 5_000
            colour = _OF_SEEDS[seeds]
            style: dict[str, Any] = {"linestyle": "-" if large else ":", "marker": "o" if large else "s"}
            axes.plot(line["seeds"].astype(str), line["significant"], color=colour, label=name, markersize=4, **style)
        axes.set(xlabel="seeds of each system", ylabel=label)
    panels[0].axhspan(0.025, 0.075, color="0.9", zorder=0)
    panels[0].axhline(0.05, color="0.5", linewidth=0.8, zorder=1)
    panels[0].set_ylim(0, 0.12)
    panels[1].axhline(0.8, color="0.5", linewidth=0.8, zorder=1)
    panels[1].set_ylim(0, 1)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=7)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
