"""Two runs, or two systems with all their seeds, side by side: on the same clips, wherever they were made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from bench.data.dataset import Progress
from bench.errors import UserError
from bench.protocol.task import Metric
from bench.reporting.analysis import MARGIN, ClassDifferences, check_margin, class_differences, judge
from bench.reporting.evidence import check_data, check_record
from bench.reporting.notes import units_cautions, units_note
from bench.reporting.sampling import Sampling, Units, compare_units
from bench.reporting.systems import FinishedRun, System, different_origins, load_results
from bench.reporting.tables.table import CLAIMED
from bench.stats.bootstrap import Estimate, bootstrap
from bench.stats.inference import LEVEL, SEEDS_NEEDED, SHARED_SEEDS_NEEDED, Inference, difference
from bench.store import ResultsFolder, RunFolder

__all__ = ["Comparison", "compare", "describe", "find_system"]

_SHOWN = 10


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two systems, and in what they differ, paired on the same clips; it shows itself in a notebook."""

    first: System
    second: System
    estimates: Mapping[str, Mapping[str, Estimate]]
    # what differences are equivalent within, in the primary metric's unit
    margin: float
    units: Units
    by_class: ClassDifferences | None

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row a metric: first, second, difference (first - second), its 95% interval from low to high, p, verdict.

        Of the primary metric also whether the two are equivalent within `margin`, where the claim generalises.
        """
        return pd.DataFrame([self._metric(metric) for metric in self.first.task.metrics])

    @property
    def classes(self) -> pd.DataFrame | None:
        """A row a class, with p corrected over the classes; None for a task without values by class."""
        return self.by_class.table if self.by_class else None

    @property
    def generalises_to(self) -> str:
        """What is claimed: architectures, where both sides have enough seeds to resample; else these checkpoints."""
        return str(self._difference(self.first.task.primary).scope)

    def _difference(self, metric: Metric) -> Inference:
        one, other = (self.estimates[system.label][metric.name] for system in (self.first, self.second))
        return difference(one, other)

    def _metric(self, metric: Metric) -> dict[str, Any]:
        margin = self.margin if metric == self.first.task.primary else None
        (claim,) = judge([found := self._difference(metric)], margin)
        sides = {"first": self.first, "second": self.second}
        return {
            "metric": metric.label,
            **{side: float(self.estimates[system.label][metric.name].value) for side, system in sides.items()},
            "difference": float(found.value),
            **{name: float(getattr(found, name)) for name in ("low", "high", "p")},
            # of a metric that does not exist there is nothing to claim
            "verdict": claim.verdict if math.isfinite(found.value) else None,
            "equivalence": claim.equivalence if math.isfinite(found.value) else None,
        }

    def __repr__(self) -> str:
        return describe(self)

    def _repr_html_(self) -> str:
        heading = " and ".join(f"{s.label} ({_seeds(s)})" for s in (self.first, self.second))
        table = self.metrics.to_html(index=False, border=0, float_format="{:.4f}".format)
        return f"<h4>{escape(heading)}</h4>{table}<p>{escape(_scope(self))}</p>"


def compare(
    first: Path,
    second: Path,
    sampling: Sampling,
    *,
    mixed: bool = False,
    margin: float = MARGIN,
    progress: Progress = lambda *_: None,
) -> Comparison:
    """Compare run folders, or RESULTS/ENTRY for all seeds. Raises UserError for none, or for two that don't compare."""
    check_margin(margin)
    a, b = replace(find_system(first), label=f"{first}"), replace(find_system(second), label=f"{second}")
    if a.label == b.label or _places(a) == _places(b):
        raise UserError(f"{a.label} is compared with itself: name two runs or two entries")
    if a.spec.task != b.spec.task:
        raise UserError(f"{a.label} and {b.label} are of different tasks: {a.spec.task}, {b.spec.task}")
    # with `.`, a run's folder is not below its results folder by name
    first, second = (path.resolve() if path.name in ("", "..") else path for path in (first, second))
    labels, others = (ResultsFolder(path.parent).labels() for path in (first, second))
    if (labels.dataset, labels.clips, labels.classes) != (others.dataset, others.clips, others.classes):
        raise UserError(f"{a.label} and {b.label} were scored on different clips: nothing pairs them")
    if not mixed:
        for system, path in ((a, first), (b, second)):
            check_data([system], labels, ResultsFolder(path.parent).labels_file)
    reasons = different_origins([a, b])
    if reasons and not mixed:
        raise UserError(f"not compared: {'; '.join(reasons)}; say --mixed to compare them all the same")
    statistics = {system.label: system.statistics(labels) for system in (a, b)}
    estimates = bootstrap(statistics, sampling.resampler(labels), progress, [(a.label, b.label)])
    of_primary = {label: estimates[label][a.task.primary.name] for label in statistics}
    units = compare_units(sampling, labels, statistics, [(a.label, b.label)], of_primary, a.task.primary)
    return Comparison(a, b, estimates, margin, units, class_differences(a, b, estimates, labels))


def _places(system: System) -> set[Path]:
    return {run.folder.path.resolve() for run in system.runs}


def find_system(path: Path) -> System:
    """Return a run folder, or a results folder's system of this name or label. Raises UserError unless there is one."""
    folder = RunFolder(path)
    if folder.is_finished:
        run = FinishedRun(folder, folder.record())
        check_record(run, (system := System(path.name, (run,))).task)
        return system
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{path}: neither a finished run's folder nor RESULTS/ENTRY, as in results/demo/crnn")
    systems = load_results(path.parent, mixed=True).systems
    found = [system for system in systems if path.name in (system.label, system.name)]
    if len(found) != 1:
        known = ", ".join(repr(system.label) for system in found or systems)
        fix = (
            "name one of them in quotes, with what is in brackets, or a run's folder" if found else "name one of these"
        )
        raise UserError(f"{path}: {len(found) or 'no'} systems of that name in {path.parent}; {fix}: {known}")
    return found[0]


def describe(found: Comparison) -> str:
    """Return the comparison as lines of text."""
    a, b = found.first, found.second
    layout = "{:10} {:>8} {:>8} {:>10}  {:>18}  {:>8}  {}"
    lines = [f"first:  {a.label} ({_seeds(a)})", f"second: {b.label} ({_seeds(b)})", ""]
    lines.append(layout.format("", "first", "second", "difference", "95% interval", "p", "verdict"))
    for line in found.metrics.to_dict("records"):
        lines.append(layout.format(line["metric"], *_line(line)))
    lines += ["", *_equivalence(found), _scope(found), units_note(found.units), *units_cautions(found.units)]
    return "\n".join([*lines, *(_classes(found.by_class) if found.by_class else [])])


def _line(line: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return the cells of a metric, with - for what does not exist."""
    if not math.isfinite(line["difference"]):
        return (*(_number(line[name]) for name in ("first", "second")), "-", "-", "-", "")
    scores = (_number(line[name]) for name in ("first", "second"))
    p = "< 0.0001" if line["p"] < 0.0001 else f"{line['p']:.4f}"
    span = f"{line['low']:+.3f} to {line['high']:+.3f}"
    return (*scores, f"{line['difference']:+.3f}", span, p, line["verdict"])


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _equivalence(found: Comparison) -> list[str]:
    label, equivalence = found.first.task.primary.label, found.metrics["equivalence"].iloc[0]
    return [] if equivalence is None else [f"In {label}, within {found.margin:g}: {equivalence}."]


def _scope(found: Comparison) -> str:
    primary = found._difference(found.first.task.primary)
    if not primary.generalises:
        return (
            f"These checkpoints only: with fewer than {SHARED_SEEDS_NEEDED} seeds in common, and fewer than "
            f"{SEEDS_NEEDED} a side, only clips were resampled; another seed may turn it around."
        )
    how = f"{primary.paired} seeds that both have, paired" if primary.paired else "seeds, which are others on each side"
    return f"Generalises to architectures under their recipes: clips were resampled, and {how}."


def _seeds(system: System) -> str:
    return f"{len(system.runs)} seed{'s' if len(system.runs) > 1 else ''}"


def _classes(classes: ClassDifferences) -> list[str]:
    table, name = classes.table, classes.metric.label
    differ = table[table["verdict"].isin(CLAIMED)]
    end = "." if differ.empty else ":"
    lines = [f"{name} differs in {len(differ)} of {len(table)} classes (p of {LEVEL} or less, Benjamini-Hochberg){end}"]
    for line in differ.sort_values("difference", key=abs, ascending=False, kind="stable")[:_SHOWN].to_dict("records"):
        lines.append(f"  {line['class']:40} {line['first']:.3f} {line['second']:.3f} {line['difference']:+.3f}")
    more = len(differ) - _SHOWN
    return lines + ([f"  and {more} more (--classes FILE.csv writes all)"] if more > 0 else [])
