"""The figures that compare systems by their scores, and their captions; each figure is one function."""

from bench.reporting.analysis import Analysis
from bench.reporting.basis import beginning, data_name, seeds, setting
from bench.reporting.figures.classes import class_bins, class_differences, is_unnamed, rare_classes
from bench.reporting.figures.curves import has_own_panels, learning_curves, trained
from bench.reporting.figures.panels import family_colours
from bench.reporting.figures.ranks import rank_diagram, ranked
from bench.reporting.figures.style import Figures, draw
from bench.reporting.figures.wins import MARKS, MOST_IN_TRIANGLE, win_triangle
from bench.reporting.tables.table import CLAIMED
from bench.stats.inference import LEVEL

__all__ = ["draw_scores"]

_FIGURES: Figures = {
    "ranks": (rank_diagram, "{ranks}"),
    "wins": (win_triangle, "{wins}"),
    "class_ap": (class_differences, "{class_ap}"),
    "class_ap_vs_clips": (rare_classes, "{class_ap_vs_clips}"),
    "learning_curves": (learning_curves, "{learning_curves}"),
}
_OF_MARKS = {
    "undecided": "undecided, for want of resamples",
    "checkpoints differ": "these checkpoints differ, which another seed may turn around",
}


def draw_scores(analysis: Analysis) -> dict[str, str]:
    """Draw every figure that these results allow; return file stem to caption."""
    captions = {
        "ranks": _ranks(analysis),
        "wins": _wins(analysis),
        "class_ap": _class_differences(analysis),
        "class_ap_vs_clips": _rare_classes(analysis),
        "learning_curves": _learning_curves(analysis),
    }
    return draw(_FIGURES, analysis.results.folder, analysis, **captions)


def _ranks(analysis: Analysis) -> str:
    shown = ranked(analysis)
    few = [standing.system.label for standing in analysis.compared if standing not in shown]
    parts = [
        f"{beginning(analysis.primary.label)} of each system, mean over seeds, on {setting(analysis)}. A bar joins "
        f"systems of which no two differ significantly ({_test(analysis)}); one that it passes without a dot is not "
        "among them.",
        family_colours(standing.system.first.family for standing in shown),
    ]
    if few:
        parts.append(f"Not drawn, for want of seeds: {', '.join(few)}.")
    if len(analysis.compared) > MOST_IN_TRIANGLE:
        parts.append(f"No figure has room for all {len(analysis.pairs)} pairs: they are in differences.csv.")
    return " ".join(parts)


def _less(analysis: Analysis) -> str:
    row, column = "the system whose name its row begins with", "the one at the foot of its column"
    # lower is better: turned around, the difference is still by how much it is better
    return f"{row} less {column}" if analysis.primary.higher_is_better else f"{column} less {row}"


def _test(analysis: Analysis) -> str:
    """Return by what pairs of systems were told apart."""
    pairs = sum(pair.primary.difference.generalises for pair in analysis.pairs)
    units = "whole uploaders" if analysis.units.by_group else "clips"
    over = f", Holm over {pairs} pairs" if pairs > 1 else ""
    return f"paired bootstrap of {units} with seeds, p of {_level()} or less{over}"


def _level() -> str:
    return f"{LEVEL:g}".lstrip("0")


def _wins(analysis: Analysis) -> str:
    verdicts = {pair.primary.verdict for pair in analysis.pairs}
    generalises = any(pair.primary.difference.generalises for pair in analysis.pairs)
    parts = [
        f"By how much a system is better in {analysis.primary.label} than each that ranks below it, on "
        f"{setting(analysis)}: in a cell, {_less(analysis)}."
    ]
    if claimed := verdicts & {*CLAIMED}:
        what = f"significant ({_test(analysis)})" if "significant" in claimed else "claimed of these checkpoints only"
        parts.append(f"Shaded: {what}; the darker, the larger.")
    elif generalises:
        parts.append(f"No difference is significant ({_test(analysis)}).")
    parts += [f"{sign}: {_OF_MARKS[verdict]}." for verdict, sign in MARKS.items() if verdict in verdicts]
    return " ".join(parts)


def _class_differences(analysis: Analysis) -> str:
    classes = analysis.classes
    if classes is None:
        return ""
    first, second, table = classes.first, classes.second, classes.table.dropna(subset=["difference"])
    families = {first.first.family, second.first.family}
    which = (
        "the best convolutional network and the best transformer on val" if len(families) > 1 else "the best two on val"
    )
    found = table["verdict"].isin(CLAIMED)
    what = "these checkpoints differ" if "checkpoints differ" in set(table["verdict"]) else "significant"
    parts = [
        f"{classes.metric.label} of {first.label} less that of {second.label} ({which}) in each of {len(table)} "
        f"classes, the largest difference on top, with 95% intervals, on {setting(analysis)}. Filled, {found.sum()} of "
        f"them: {what} (p of {_level()} or less, Benjamini-Hochberg over the classes).",
    ]
    if len(families) > 1:
        parts.append(f"The colour is that of the family that is ahead. {family_colours(families)}")
    if is_unnamed(len(table)).any():
        parts.append("Named are the classes at either end.")
    return " ".join([*parts, "In brackets: eval clips of the class."])


def _rare_classes(analysis: Analysis) -> str:
    bins, metric = class_bins(analysis), analysis.results.task.class_metric
    if bins is None or metric is None:
        return ""
    families = dict.fromkeys(standing.system.first.family for standing in analysis.compared)
    sizes = sorted({len(chosen) for chosen in bins})
    parts = [
        f"Mean {metric.label} of classes that have about as many training clips, on {setting(analysis)}. Classes are "
        f"in {len(bins)} bins of {' or '.join(map(str, sizes))}; a line is a system, mean over seeds, without an "
        "interval.",
        family_colours(families),
    ]
    return " ".join([*parts, "Grey: the systems of the other panels."] if len(families) > 1 else parts)


def _learning_curves(analysis: Analysis) -> str:
    shown = trained(analysis)
    parts = [f"{beginning(analysis.primary.label)} on val while training ({data_name(analysis)}, {seeds(analysis)})."]
    if has_own_panels(analysis):
        parts.append("Thin: each seed. Bold: their mean, as far as all were trained. Grey: the means of the others.")
    else:
        parts.append(
            "Each line is the mean of a system's seeds, as far as all were trained; bold and named are those of a "
            f"family that are best by {analysis.primary.label} on eval, and its last."
        )
    if any(not standing.system.spec.init for standing in shown):
        parts.append(
            "Hollow, at step 0: untrained, on eval, since val was not scored then; a dotted line joins the two."
        )
    return " ".join([*parts, family_colours(standing.system.first.family for standing in shown)])
