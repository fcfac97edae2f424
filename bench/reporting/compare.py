"""Two runs, or two architectures with all their seeds, side by side: on the same clips, wherever they were made."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.errors import UserError
from bench.reporting.analysis import ClassDifferences, Sampling, class_differences, scores_of
from bench.reporting.systems import Labels, Row, different_origins, load_labels, load_results, load_run
from bench.stats.bootstrap import METRICS, Estimate, bootstrap
from bench.stats.inference import LEVEL, SEEDS_NEEDED, difference, verdicts

NAMES = {"map": "mAP", "leaf_map": "leaf mAP", "lwlrap": "lwlrap"}
SHOWN = 10


@dataclass(frozen=True)
class Comparison:
    first: Row
    second: Row
    estimates: dict[str, dict[str, Estimate]]
    classes: ClassDifferences


def compare(
    first: Path,
    second: Path,
    sampling: Sampling,
    *,
    mixed: bool = False,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Comparison:
    """Compare run folders, or RESULTS/ARCHITECTURE for all seeds of a row.

    Raises:
        UserError: there is no such run or row, or the two should not be compared.
    """
    a, b = replace(find_row(first), label=f"{first}"), replace(find_row(second), label=f"{second}")
    if a.label == b.label:
        raise UserError(f"{first} is compared with itself: name two runs or two architectures")
    labels = load_labels(first.parent)
    _same_clips(labels, load_labels(second.parent), first, second)
    reasons = different_origins([a, b])
    if reasons and not mixed:
        raise UserError(f"not compared: {'; '.join(reasons)}; say --mixed to compare them all the same")
    systems = {row.label: scores_of(row, labels) for row in (a, b)}
    estimates = bootstrap(systems, labels.targets, labels.leaf, sampling.draws(labels), progress)
    return Comparison(a, b, estimates, class_differences(a, b, estimates, labels))


def find_row(path: Path) -> Row:
    """A run folder as a row of one seed, or the row of a results folder that has this name or label."""
    if (path / "run.json").is_file():
        return Row(path.name, (load_run(path),))
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{path}: neither a finished run's folder nor RESULTS/ARCHITECTURE, as in results/demo/crnn")
    rows = load_results(path.parent, mixed=True).rows
    found = [row for row in rows if path.name in (row.label, row.name)]
    if len(found) != 1:
        known = ", ".join(row.label for row in rows)
        raise UserError(f"{path}: {len(found) or 'no'} rows of that name in {path.parent} (it has: {known})")
    return found[0]


def _same_clips(labels: Labels, others: Labels, first: Path, second: Path) -> None:
    if (labels.dataset, labels.clips, labels.classes) != (others.dataset, others.clips, others.classes):
        raise UserError(f"{first} and {second} were scored on different clips: nothing pairs them")


def describe(found: Comparison) -> str:
    """The comparison as lines of text."""
    a, b = found.first, found.second
    layout = "{:10} {:>8} {:>8} {:>10}  {:>18}  {:>8}  {}"
    lines = [f"first:  {a.label} ({_seeds(a)})", f"second: {b.label} ({_seeds(b)})", ""]
    lines.append(layout.format("", "first", "second", "difference", "95% interval", "p", "verdict"))
    for metric in METRICS:
        one, other = found.estimates[a.label][metric], found.estimates[b.label][metric]
        d = difference(one, other)
        p = np.array([d.p])
        (verdict,) = verdicts(p, p, d.floor)
        span = f"{d.low:+.3f} to {d.high:+.3f}"
        values = (f"{one.value:.3f}", f"{other.value:.3f}", f"{d.value:+.3f}", span, f"{d.p:.4f}", verdict)
        lines.append(layout.format(NAMES[metric], *values))
    return "\n".join([*lines, "", _about(a, b), *_classes(found.classes)])


def _seeds(row: Row) -> str:
    return f"{len(row.runs)} seed{'s' if len(row.runs) > 1 else ''}"


def _about(a: Row, b: Row) -> str:
    if min(len(a.runs), len(b.runs)) >= SEEDS_NEEDED:
        return "About architectures under their recipes: clips and seeds both vary."
    return f"About these checkpoints only: with fewer than {SEEDS_NEEDED} seeds a side, only clips vary."


def _classes(classes: ClassDifferences) -> list[str]:
    table = classes.table
    differ = table[table["verdict"] == "different"]
    differ = differ.assign(size=differ["difference"].abs()).sort_values("size", ascending=False, kind="stable")
    lines = [f"AP differs in {len(differ)} of {len(table)} classes (p of {LEVEL} or less, Benjamini-Hochberg):"]
    if differ.empty:
        return [lines[0].replace(":", ".")]
    for row in differ.head(SHOWN).to_dict("records"):
        lines.append(f"  {row['class']:40} {row['ap_first']:.3f} {row['ap_second']:.3f} {row['difference']:+.3f}")
    return lines + (
        [f"  and {len(differ) - SHOWN} more (--classes FILE.csv writes all)"] if len(differ) > SHOWN else []
    )
