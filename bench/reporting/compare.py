"""Two runs, or two systems with all their seeds, side by side: on the same clips, wherever they were made."""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.data.dataset import Progress
from bench.errors import UserError
from bench.reporting.analysis import ClassDifferences, Sampling, class_differences, judge
from bench.reporting.systems import FinishedRun, System, different_origins, load_results
from bench.stats.bootstrap import Estimate, bootstrap
from bench.stats.inference import LEVEL, SEEDS_NEEDED, difference
from bench.store import ResultsFolder, RunFolder

__all__ = ["Comparison", "compare", "describe", "find_system"]

_SHOWN = 10


@dataclass(frozen=True)
class Comparison:
    """Two systems and what the bootstrap says of each; `classes` is None for a task without values by class."""

    first: System
    second: System
    estimates: dict[str, dict[str, Estimate]]
    classes: ClassDifferences | None


def compare(
    first: Path, second: Path, sampling: Sampling, *, mixed: bool = False, progress: Progress = lambda *_: None
) -> Comparison:
    """Compare run folders, or RESULTS/ENTRY for all seeds. Raises UserError for none, or for two that don't compare."""
    a, b = replace(find_system(first), label=f"{first}"), replace(find_system(second), label=f"{second}")
    if a.label == b.label:
        raise UserError(f"{first} is compared with itself: name two runs or two entries")
    if a.spec.task != b.spec.task:
        raise UserError(f"{first} and {second} are of different tasks: {a.spec.task}, {b.spec.task}")
    labels, others = (ResultsFolder(path.parent).labels() for path in (first, second))
    if (labels.dataset, labels.clips, labels.classes) != (others.dataset, others.clips, others.classes):
        raise UserError(f"{first} and {second} were scored on different clips: nothing pairs them")
    reasons = different_origins([a, b])
    if reasons and not mixed:
        raise UserError(f"not compared: {'; '.join(reasons)}; say --mixed to compare them all the same")
    statistics = {system.label: system.statistics(labels) for system in (a, b)}
    estimates = bootstrap(statistics, sampling.resampler(labels), progress)
    return Comparison(a, b, estimates, class_differences(a, b, estimates, labels))


def find_system(path: Path) -> System:
    """Return a run folder, or a results folder's system of this name or label. Raises UserError unless there is one."""
    folder = RunFolder(path)
    if folder.is_finished:
        return System(path.name, (FinishedRun(folder, folder.record()),))
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{path}: neither a finished run's folder nor RESULTS/ENTRY, as in results/demo/crnn")
    systems = load_results(path.parent, mixed=True).systems
    found = [system for system in systems if path.name in (system.label, system.name)]
    if len(found) != 1:
        known = ", ".join(system.label for system in systems)
        raise UserError(f"{path}: {len(found) or 'no'} systems of that name in {path.parent} (it has: {known})")
    return found[0]


def describe(found: Comparison) -> str:
    """Return the comparison as lines of text."""
    a, b = found.first, found.second
    layout = "{:10} {:>8} {:>8} {:>10}  {:>18}  {:>8}  {}"
    lines = [f"first:  {a.label} ({_seeds(a)})", f"second: {b.label} ({_seeds(b)})", ""]
    lines.append(layout.format("", "first", "second", "difference", "95% interval", "p", "verdict"))
    for metric in a.task.metrics:
        one, other = found.estimates[a.label][metric.name], found.estimates[b.label][metric.name]
        (claim,) = judge([d := difference(one, other)])
        span = f"{d.low:+.3f} to {d.high:+.3f}"
        values = (f"{one.value:.3f}", f"{other.value:.3f}", f"{d.value:+.3f}", span, f"{d.p:.4f}", claim.verdict)
        lines.append(layout.format(metric.label, *values))
    scope = "Generalises to architectures under their recipes: clips and seeds were both resampled."
    if min(len(a.runs), len(b.runs)) < SEEDS_NEEDED:
        scope = f"These checkpoints only: with fewer than {SEEDS_NEEDED} seeds a side, only clips were resampled."
    return "\n".join([*lines, "", scope, *(_classes(found.classes) if found.classes else [])])


def _seeds(system: System) -> str:
    return f"{len(system.runs)} seed{'s' if len(system.runs) > 1 else ''}"


def _classes(classes: ClassDifferences) -> list[str]:
    table, name = classes.table, classes.metric.label
    differ = table[table["verdict"] == "significant"]
    end = "." if differ.empty else ":"
    lines = [f"{name} differs in {len(differ)} of {len(table)} classes (p of {LEVEL} or less, Benjamini-Hochberg){end}"]
    for line in differ.sort_values("difference", key=abs, ascending=False, kind="stable")[:_SHOWN].to_dict("records"):
        lines.append(f"  {line['class']:40} {line['first']:.3f} {line['second']:.3f} {line['difference']:+.3f}")
    more = len(differ) - _SHOWN
    return lines + ([f"  and {more} more (--classes FILE.csv writes all)"] if more > 0 else [])
