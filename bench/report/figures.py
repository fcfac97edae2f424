"""The figures."""

from pathlib import Path

from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from bench.report.results import Results
from bench.report.style import appearance, new_figure, save


def map_vs_parameters(results: Results, path: Path) -> None:
    """mAP against parameters on a logarithmic axis: measured points filled, published ones hollow."""
    figure, axes = new_figure()
    looks = appearance(row.name for row in results.rows)
    for row in results.rows:
        colour, marker = looks[row.name]
        parameters, spread = row.first["cost"]["parameters"], row.spread("metrics", "map")
        axes.errorbar(
            parameters, row.mean("metrics", "map"), yerr=spread, fmt=marker, color=colour, markersize=8, capsize=3,
            markeredgecolor="black", markeredgewidth=0.5, label=row.label,
        )  # fmt: skip
        if row.published:
            axes.plot(
                row.published["parameters"], row.published["map"], marker, markersize=8, markerfacecolor="none",
                markeredgecolor=colour, markeredgewidth=1.5,
            )  # fmt: skip
    chance = axes.axhline(results.chance_map, color="grey", linestyle=":", label="chance")
    axes.set(xscale="log", xlabel="parameters", ylabel="macro mAP on eval", title=results.title)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    kinds = [
        Line2D([], [], marker="o", linestyle="", color="black", label="measured here"),
        Line2D([], [], marker="o", linestyle="", color="black", markerfacecolor="none", label="published, FSD50K"),
    ]
    handles, _ = axes.get_legend_handles_labels()
    handles = [handle for handle in handles if handle is not chance] + kinds + [chance]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    save(figure, path)
