"""One paired bootstrap over clips for all systems.

A system is an architecture under one recipe: the scores of its seeds. A replicate takes the eval clips (or whole groups
of them) anew, with replacement, and every run of every system is scored on the same resample, so that what it has in
common for all cancels in their differences.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.stats.ranking import Bools, Floats

__all__ = ["RESAMPLES", "Estimate", "Resampler", "bootstrap", "nanvar"]

# with 1,000, no p is under .002, and Holm's correction over 28 pairs asks for .0018
RESAMPLES = 10_000
# replicates at once: the weights of 10,000 clips then fit into a core's caches
_BLOCK = 256

# weights (n, b) -> by name, a metric (b,) or its values by class (b, k); as a task's `statistic`
Statistic = Callable[[npt.NDArray[np.uint8]], Mapping[str, Floats]]


@dataclass(frozen=True)
class Resampler:
    """How often each of n clips is taken, replicate by replicate: the same for whoever asks with the same seed.

    `groups` (one item a clip; an empty one stands for itself) are taken whole where they are given: clips of one
    uploader resemble each other, and are fewer than their number.
    """

    n: int
    resamples: int = RESAMPLES
    seed: int = 0
    groups: Sequence[str] | None = None

    def blocks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield weights (n, up to 256), in blocks of replicates."""
        names = range(self.n) if self.groups is None else [group or f"\0{i}" for i, group in enumerate(self.groups)]
        unit_of_clip = np.unique(names, return_inverse=True)[1]
        units = int(unit_of_clip.max()) + 1
        for number, first in enumerate(range(0, self.resamples, _BLOCK)):
            size = min(_BLOCK, self.resamples - first)
            taken = np.random.default_rng((self.seed, number)).integers(units, size=(size, units), dtype=np.int32)
            taken += np.arange(size, dtype=np.int32)[:, None] * units
            counts = np.bincount(taken.ravel(), minlength=size * units).reshape(size, units)
            assert counts.max() < 256, "one unit taken more than 255 times"
            yield np.ascontiguousarray(counts.astype(np.uint8)[:, unit_of_clip].T)


@dataclass(frozen=True)
class Estimate:
    """A statistic of one system; the last axes are those of the statistic: () for a metric, (k,) for one by class."""

    # (seeds, ...), on the clips as they are
    runs: Floats
    # (resamples, ...), of the mean over seeds
    replicates: Floats
    # (...), of a single run over replicates, mean over seeds
    run_variance: Floats

    @property
    def value(self) -> Floats:
        return self.runs.mean(axis=0)

    @property
    def seeds(self) -> int:
        return len(self.runs)

    def of(self, chosen: Bools) -> "Estimate":
        """Return the estimate of some classes."""
        return Estimate(self.runs[:, chosen], self.replicates[:, chosen], self.run_variance[chosen])

    def seed_variance(self) -> Floats:
        """Return the variance of the mean over seeds, as far as it is that of seeds: on the same clips."""
        return self.runs.var(axis=0, ddof=1) / self.seeds

    def interaction(self) -> Floats:
        """Return the share of seed_variance that resampling clips shows once more: what a seed gets right on one clip
        and wrong on another.

        With clips c and seeds s crossed, a run varies over resamples by c + cs and the mean over n seeds by c + cs / n,
        while seeds differ on the given clips by s + cs.
        """
        shared = nanvar(self.replicates)
        return np.clip((self.run_variance - shared) / (self.seeds - 1), 0.0, self.run_variance / self.seeds)


def bootstrap(
    systems: Mapping[str, Sequence[Statistic]],
    resampler: Resampler,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> dict[str, dict[str, Estimate]]:
    """Estimate every statistic of every system, given by its seeds, on the same resamples of the clips that these were
    scored on; return system to statistic to Estimate. `progress` takes how many replicates are done, and of how many.
    """
    collected = {name: _Collector(runs, resampler) for name, runs in systems.items()}
    done = 0
    for weights in resampler.blocks():
        for collector in collected.values():
            collector.add(weights, slice(done, done + weights.shape[1]))
        done += weights.shape[1]
        progress(done, resampler.resamples)
    return {name: collector.estimates() for name, collector in collected.items()}


class _Collector:
    """One system's replicates: means over seeds are kept, single runs only as sums and sums of squares."""

    def __init__(self, runs: Sequence[Statistic], resampler: Resampler) -> None:
        self.runs = runs
        self.observed = [run(np.ones((resampler.n, 1), np.uint8)) for run in runs]
        self.replicates = {
            # by class, they would take twice the memory
            name: np.zeros((resampler.resamples, *values.shape[1:]), np.float32 if values.ndim > 1 else np.float64)
            for name, values in self.observed[0].items()
        }
        self.moments = [{name: _Moments(values.shape[1:]) for name, values in o.items()} for o in self.observed]

    def add(self, weights: npt.NDArray[np.uint8], place: slice) -> None:
        for run, moments in zip(self.runs, self.moments, strict=True):
            for name, values in run(weights).items():
                self.replicates[name][place] += values / len(self.runs)
                moments[name].add(values)

    def estimates(self) -> dict[str, Estimate]:
        return {
            name: Estimate(
                runs=np.concatenate([observed[name] for observed in self.observed]),
                replicates=replicates,
                run_variance=np.mean([moments[name].variance() for moments in self.moments], axis=0),
            )
            for name, replicates in self.replicates.items()
        }


class _Moments:
    """A running variance over replicates, NaN left out."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.sum, self.squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        # near the mean, so that squares do not cancel
        self.shift: Floats | None = None

    def add(self, values: Floats) -> None:
        if self.shift is None:
            self.shift = np.nan_to_num(values[0])
        away = values - self.shift
        self.count += np.isfinite(away).sum(axis=0)
        self.sum += np.nansum(away, axis=0)
        self.squares += np.nansum(away**2, axis=0)

    def variance(self) -> Floats:
        count = np.maximum(self.count, 2)
        return np.maximum(0.0, self.squares - self.sum**2 / count) / (count - 1)


def nanvar(replicates: Floats) -> Floats:
    """Return the variance over replicates, those left out in which a class was not taken."""
    return np.nanvar(replicates, axis=0, ddof=1, dtype=np.float64)
