"""How eval's clips are resampled: each by itself, or by uploader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.errors import UserError
from bench.protocol.task import Metric
from bench.stats.bootstrap import RESAMPLES, Estimate, Resampler, Statistic, bootstrap, nanvar, only
from bench.stats.inference import difference
from bench.store import Labels

__all__ = ["UPLOADERS_NEEDED", "Sampling", "Units", "compare_units"]

# with fewer groups their bootstrap is too narrow itself (Cameron, Gelbach & Miller, Review of Economics and Statistics
# 90, 2008)
UPLOADERS_NEEDED = 20
# enough for a width to two digits
_OF_THE_OTHER = 1_000
# all of them are in memory at once
_MOST = 1_000_000


@dataclass(frozen=True)
class Sampling:
    """How the bootstrap resamples.

    Attributes:
        by_group: whether whole uploaders are taken; None takes them where 20 or more are known.
    """

    resamples: int = RESAMPLES
    by_group: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.resamples <= _MOST:
            raise UserError(f"--resamples {self.resamples}: give a number from 100 to {_MOST:,}")

    def takes_groups(self, labels: Labels) -> bool:
        """Return whether clips are taken by uploader. Raises UserError if that is asked for and none are known."""
        if self.by_group and not labels.uploaders:
            why = "the uploaders of these eval clips are not known (the data set had no metadata)"
            raise UserError(f"--by-group: {why}")
        return labels.uploaders >= UPLOADERS_NEEDED if self.by_group is None else self.by_group

    def resampler(self, labels: Labels) -> Resampler:
        """Return the resamples of these clips. Raises UserError as `takes_groups`."""
        groups = labels.groups if self.takes_groups(labels) else None
        return Resampler(len(labels.clips), self.resamples, self.seed, groups)

    def other(self, labels: Labels) -> Resampler | None:
        """Return resamples the other way, for its widths alone; None where too few uploaders are known."""
        if labels.uploaders < UPLOADERS_NEEDED:
            return None
        groups = None if self.takes_groups(labels) else labels.groups
        return Resampler(len(labels.clips), min(self.resamples, _OF_THE_OTHER), self.seed, groups)


@dataclass(frozen=True)
class Units:
    """What was resampled, and what it matters.

    Attributes:
        by_group: whether whole uploaders were taken.
        uploaders: how many are known.
        by_uploader, by_clip: half widths of the differences' intervals, the median of them; None where one of the two
            was not tried.
        design_effect: how many times the variance of differences over clips is larger by uploader, the median of them.
    """

    by_group: bool
    uploaders: int
    by_uploader: float | None = None
    by_clip: float | None = None
    design_effect: float | None = None


def compare_units(
    sampling: Sampling,
    labels: Labels,
    statistics: Mapping[str, Mapping[int, Statistic]],
    pairs: Sequence[tuple[str, str]],
    found: Mapping[str, Estimate],
    metric: Metric,
) -> Units:
    """Return what was resampled, and beside it the widths of differences in `metric` by the other way.

    `pairs` are names of `statistics`, and of `found`, which holds the estimates of `metric`.
    """
    units, other = Units(sampling.takes_groups(labels), labels.uploaders), sampling.other(labels)
    if other is None or not pairs:
        return units
    chosen = {name: only(metric.name, statistics[name]) for pair in pairs for name in pair}
    others = {name: estimates[metric.name] for name, estimates in bootstrap(chosen, other).items()}
    ways = [[(found[a], found[b]) for a, b in pairs], [(others[a], others[b]) for a, b in pairs]]
    grouped, single = ways if units.by_group else ways[::-1]
    ratios = [_clip_variance(a) / _clip_variance(b) for a, b in zip(grouped, single, strict=True) if _clip_variance(b)]
    effect = float(np.median(ratios)) if ratios else None
    return Units(units.by_group, units.uploaders, _half_width(grouped), _half_width(single), effect)


def _clip_variance(pair: tuple[Estimate, Estimate]) -> float:
    return float(nanvar(pair[0].replicates - pair[1].replicates))


def _half_width(pairs: Sequence[tuple[Estimate, Estimate]]) -> float:
    return float(np.median([(found.high - found.low) / 2 for found in (difference(a, b) for a, b in pairs)]))
