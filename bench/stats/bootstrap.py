"""One paired bootstrap over clips for all systems.

A system is an architecture under one recipe: the scores of its runs, by seed. A replicate takes the eval clips (or
whole groups of them) anew, with replacement, and every run of every system is scored on the same resample, so that what
it has in common for all cancels in their differences.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.stats.ranking import Bools, Floats

__all__ = ["RESAMPLES", "Estimate", "Resampler", "Statistic", "bootstrap", "contrast", "nanvar", "of_nothing", "only"]

# of checkpoints p is read off the resamples: of 1,000 the least is .001, where Holm's correction over 28 pairs asks for
# .0018, so that one resample decides
RESAMPLES = 10_000
# replicates at once: the weights of 10,000 clips then fit into a core's caches
_BLOCK = 256

# weights (n, b) -> by name, a metric (b,) or its values by class (b, k); as a task's `statistic`
Statistic = Callable[[npt.NDArray[np.uint8]], Mapping[str, Floats]]
# what statistics return, by seed
_Runs = Mapping[int, Mapping[str, Floats]]


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
    """A statistic of one system, or of a contrast between systems, on the clips as they are and resampled.

    The last axes are those of the statistic: () for a metric, (k,) for one by class.
    """

    # numbers of the seeds, ascending
    seeds: tuple[int, ...]
    # (seeds, ...), on the clips as they are
    runs: Floats
    # (resamples, ...), of the mean over seeds
    replicates: Floats
    # (...), of a single run over replicates, mean over seeds
    run_variance: Floats
    # (seeds, resamples), of a metric; by class they would take gigabytes, and are not kept
    by_seed: Floats | None = None

    @property
    def value(self) -> Floats:
        return self.runs.mean(axis=0)

    @property
    def corrected(self) -> Floats:
        """The value less its bias: average precision is too high on few clips, and on a resample once more by as much.

        Efron & Tibshirani, An Introduction to the Bootstrap, 1993, 10.6.
        """
        with of_nothing():
            return 2 * self.value - np.nanmean(self.replicates, axis=0)

    def of(self, chosen: Bools) -> "Estimate":
        """Return the estimate of some classes."""
        return Estimate(self.seeds, self.runs[:, chosen], self.replicates[:, chosen], self.run_variance[chosen])

    def of_seeds(self, seeds: Sequence[int]) -> "Estimate":
        """Return the estimate of a metric from some of its seeds alone. Raises ValueError if it lacks one of them."""
        return _of_metric(tuple(seeds), *self._taken(seeds))

    def _taken(self, seeds: Sequence[int]) -> tuple[Floats, Floats]:
        assert self.by_seed is not None, "statistics by class are not kept by seed"
        places = [self.seeds.index(seed) for seed in seeds]
        return self.runs[places], self.by_seed[places]

    def seed_variance(self) -> Floats:
        """Return the variance of the mean over seeds, as far as it is that of seeds: on the same clips."""
        return self.runs.var(axis=0, ddof=1) / len(self.seeds)

    def interaction(self) -> Floats:
        """Return the share of seed_variance that resampling clips shows once more: what a seed gets right on one clip
        and wrong on another.

        With clips c and seeds s crossed, a run varies over resamples by c + cs and the mean over n seeds by c + cs / n,
        while seeds differ on the given clips by s + cs.
        """
        n, shared = len(self.seeds), nanvar(self.replicates)
        return np.clip((self.run_variance - shared) / (n - 1), 0.0, self.run_variance / n)


def contrast(weights: Sequence[tuple[float, Estimate]]) -> Estimate | None:
    """Return the weighted sum of one metric of several systems, seed by seed: of the seeds that all of them have.

    What a seed gives to all of them, such as the order of the data, cancels in it. None where they share no seed, or
    replicates were not kept by seed.
    """
    estimates = [estimate for _, estimate in weights]
    common = sorted(set.intersection(*(set(estimate.seeds) for estimate in estimates)))
    if not common or any(estimate.by_seed is None for estimate in estimates):
        return None
    runs, by_seed = np.zeros(len(common)), np.zeros((len(common), len(estimates[0].replicates)))
    for weight, estimate in weights:
        of_shared, replicates = estimate._taken(common)
        runs += weight * of_shared
        by_seed += weight * replicates
    return _of_metric(tuple(common), runs, by_seed)


def _of_metric(seeds: tuple[int, ...], runs: Floats, by_seed: Floats) -> Estimate:
    variance = np.asarray(nanvar(by_seed.T).mean())
    return Estimate(seeds, runs, by_seed.mean(axis=0), variance, by_seed)


def bootstrap(
    systems: Mapping[str, Mapping[int, Statistic]],
    resampler: Resampler,
    progress: Callable[[float, float], None] = lambda done, total: None,
    differences: Sequence[tuple[str, str]] = (),
) -> dict[str, dict[str, Estimate]]:
    """Estimate every statistic of every system, given by its seeds, on the same resamples of the clips that these were
    scored on; return system to statistic to Estimate. `progress` takes how many replicates are done, and of how many.

    Of pairs of systems in `differences` that share seeds, statistics by class are also estimated for first - second,
    seed by seed, under the name 'first - second'; those of metrics follow from `contrast`.
    """

    def observe(weights: npt.NDArray[np.uint8]) -> dict[str, _Runs]:
        runs = {name: {seed: of(weights) for seed, of in sorted(seeds.items())} for name, seeds in systems.items()}
        return runs | {f"{a} - {b}": _by_class(runs[a], runs[b]) for a, b in differences}

    collectors = {
        name: _Collector(runs, resampler.resamples)
        for name, runs in observe(np.ones((resampler.n, 1), np.uint8)).items()
        if runs
    }
    done = 0
    for weights in resampler.blocks():
        observed = observe(weights)
        for name, collector in collectors.items():
            collector.add(observed[name], slice(done, done + weights.shape[1]))
        done += weights.shape[1]
        progress(done, resampler.resamples)
    return {name: collector.estimates() for name, collector in collectors.items()}


def _by_class(a: _Runs, b: _Runs) -> _Runs:
    """Return the difference of statistics by class, of the seeds that both have."""
    return {
        seed: {name: values - b[seed][name] for name, values in of_seed.items() if values.ndim > 1}
        for seed, of_seed in a.items()
        if seed in b
    }


class _Collector:
    """One system's replicates: of metrics all, by class their means over seeds and the variance of single runs."""

    def __init__(self, observed: _Runs, resamples: int) -> None:
        self.observed = observed
        first = next(iter(observed.values()))
        shapes = {name: values.shape[1:] for name, values in first.items()}
        self.by_seed = {name: np.empty((len(observed), resamples)) for name, shape in shapes.items() if not shape}
        self.means = {name: np.zeros((resamples, *shape), np.float32) for name, shape in shapes.items() if shape}
        self.moments = {name: [_Moments(shapes[name]) for _ in observed] for name in self.means}

    def add(self, runs: _Runs, place: slice) -> None:
        for i, of_seed in enumerate(runs.values()):
            for name, values in of_seed.items():
                if name in self.by_seed:
                    self.by_seed[name][i, place] = values
                else:
                    self.means[name][place] += values / len(runs)
                    self.moments[name][i].add(values)

    def estimates(self) -> dict[str, Estimate]:
        seeds = tuple(self.observed)
        runs = {
            name: np.concatenate([of_seed[name] for of_seed in self.observed.values()])
            for name in [*self.by_seed, *self.means]
        }
        found = {name: _of_metric(seeds, runs[name], by_seed) for name, by_seed in self.by_seed.items()}
        for name, means in self.means.items():
            variance = np.mean([moments.variance() for moments in self.moments[name]], axis=0)
            found[name] = Estimate(seeds, runs[name], means, variance)
        return found


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


def only(name: str, seeds: Mapping[int, Statistic]) -> dict[int, Statistic]:
    """Return statistics of one metric alone: those by class take memory that not everyone has a use for."""

    def reduced(of: Statistic) -> Statistic:
        return lambda weights: {name: of(weights)[name]}

    return {seed: reduced(of) for seed, of in seeds.items()}


def nanvar(replicates: Floats) -> Floats:
    """Return the variance over replicates, those left out in which a class was not taken."""
    with of_nothing():
        return np.nanvar(replicates, axis=0, ddof=1, dtype=np.float64)


@contextmanager
def of_nothing() -> Iterator[None]:
    """Let what is computed of nothing but NaN be NaN, without a warning: some metrics do not exist on some data."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|All-NaN slice|Degrees of freedom", RuntimeWarning)
        yield
