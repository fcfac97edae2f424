"""Whether a run that was trained anew came out as it was: bitwise, within seed noise, or not."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import stdev
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import t

from bench.protocol.task import Metric, get_task
from bench.reporting.analysis import MARGIN
from bench.store import ResultsFolder, RunFolder, RunRecord

__all__ = ["Reproduction", "Verdict", "weigh"]

Verdict = Literal["bitwise", "within seed noise", "no"]

# with fewer, their spread says next to nothing
_SEEDS = 3


@dataclass(frozen=True)
class Reproduction:
    """A run, the same trained anew, and whether they agree; as text it is what `bench run --reproduce` prints."""

    # the run folders
    run: Path
    again: Path
    verdict: Verdict
    # why, in words
    reason: str
    # what was other than then: versions, device, threads, code
    differences: tuple[str, ...] = ()
    # by name, as both runs have them; None where a metric does not exist
    scores: tuple[tuple[str, float | None, float | None], ...] = ()

    @property
    def is_reproduced(self) -> bool:
        return self.verdict != "no"

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row a metric on eval: metric, run, again, difference."""
        rows = [(*row, _difference(*row[1:])) for row in self.scores]
        return pd.DataFrame(rows, columns=["metric", "run", "again", "difference"])

    def __str__(self) -> str:
        lines = [f"{self.run}: reproduced: {self.verdict}: {self.reason}"]
        if self.scores:
            lines.append(f"{'metric':16}{'run':>12}{'again':>12}{'difference':>12}")
            for name, first, second in self.scores:
                cells = (first, second, _difference(first, second))
                lines.append(f"{name:16}" + "".join(f"{'-' if v is None else f'{v:.6f}':>12}" for v in cells))
        lines += [f"other than then: {difference}" for difference in self.differences]
        return "\n".join([*lines, f"the run trained anew: {self.again}"])


def weigh(run: RunFolder, again: RunFolder, shape: tuple[int, ...], *, same_weights: bool | None) -> Reproduction:
    """Compare a run with the same trained anew. Raises UserError if one of the two is damaged.

    Bitwise are equal scores and equal weights. Within seed noise is a difference, in the primary metric on eval, that
    two seeds of this entry would exceed in 5% of cases: by the spread of its seeds beside the run, if there are three
    or more; else one within the margin in which reports take differences for none.

    Args:
        shape: (clips, k), of the scores.
        same_weights: None where one of the two has none to compare.
    """
    first, second = run.record(), again.record()
    same_scores = np.array_equal(run.scores(shape), again.scores(shape))
    scores = tuple((name, value, second.metrics.get(name)) for name, value in first.metrics.items())
    verdict, reason = _judge(run, first, second, same_scores=same_scores, same_weights=same_weights)
    return Reproduction(run.path, again.path, verdict, reason, _differences(first, second), scores)


def _judge(
    run: RunFolder, first: RunRecord, second: RunRecord, *, same_scores: bool, same_weights: bool | None
) -> tuple[Verdict, str]:
    if same_scores and same_weights:
        return "bitwise", "scores and weights are equal"
    if same_scores and same_weights is None:
        return "bitwise", "scores are equal; weights to compare are not kept with both"
    metric = get_task(first.spec.task).primary
    difference = _difference(first.metrics[metric.name], second.metrics[metric.name])
    if difference is None:
        return "no", f"{metric.label} does not exist for one of the two"
    allowed, rule = _allowance(run, first, metric)
    verdict: Verdict = "within seed noise" if abs(difference) <= allowed else "no"
    side = "within" if verdict != "no" else "more than"
    return verdict, f"a difference of {difference:+.4f} in {metric.label} is {side} {allowed:.4f}, {rule}"


def _allowance(run: RunFolder, record: RunRecord, metric: Metric) -> tuple[float, str]:
    """Return how large a difference may be, and by which rule."""
    seeds = [score for score in _scores_of_seeds(run, record, metric) if score is not None]
    if len(seeds) < _SEEDS:
        return MARGIN, f"the margin that is taken where fewer than {_SEEDS} seeds of an entry tell of its noise"
    # two seeds differ by a normal variable of twice their variance
    allowed = float(t.ppf(0.975, len(seeds) - 1)) * math.sqrt(2) * stdev(seeds)
    return allowed, f"which two seeds exceed in 5% of cases, by the spread of the entry's {len(seeds)} seeds"


def _scores_of_seeds(run: RunFolder, record: RunRecord, metric: Metric) -> list[float | int | None]:
    """Return the metric of all seeds of the run's entry, with the same settings, in its results folder."""
    beside = [other for other in ResultsFolder(run.path.absolute().parent).finished() if other.name != run.name]
    records = [record, *(other.record() for other in beside if other.name.startswith(f"{record.spec.name}-s"))]
    same = [r for r in records if r.spec.model_copy(update={"seed": record.spec.seed}).hash == record.spec.hash]
    return [one.metrics[metric.name] for one in same]


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first


def _differences(first: RunRecord, second: RunRecord) -> tuple[str, ...]:
    """Return what the numbers may hang on and was other than when the run was made."""
    then, now = first.provenance, second.provenance
    versions = {**then.versions, **now.versions}
    pairs: dict[str, tuple[object, object]] = {n: (then.versions.get(n), now.versions.get(n)) for n in versions}
    pairs |= {"device": (then.device, now.device), "threads": (then.threads or None, now.threads or None)}
    pairs |= {f"code of the {part}": (then.source.get(part), now.source.get(part)) for part in now.source}
    return tuple(f"{name} {was or 'unknown'}, now {is_}" for name, (was, is_) in pairs.items() if was != is_)
