"""One paired bootstrap over clips for all systems.

A system is an architecture under one recipe: the scores of its seeds. A replicate draws the eval clips (or whole groups
of them) anew, with replacement, and every run of every system is scored on the same draw, so that what a draw has in
common for all cancels in their differences. Draws are kept as how often each clip was taken: weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

# threads of its own: through OpenMP it would set how many PyTorch uses, and with that the last digits of what it trains
numba.config.THREADING_LAYER = "workqueue"  # type: ignore[attr-defined]

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

METRICS = ("map", "leaf_map", "lwlrap")
RESAMPLES = 10_000  # with 1,000, no p is under .002, and Holm's correction over 28 pairs asks for .0018
BLOCK = 256  # replicates at once: the weights of 10,000 clips then fit into a core's caches


@dataclass(frozen=True)
class Draws:
    """How often each of n clips is taken, replicate by replicate: the same for whoever asks with the same seed.

    `groups` (one entry a clip; an empty one stands for itself) are drawn whole where they are given: clips of one
    uploader resemble each other, and are fewer than their number.
    """

    n: int
    resamples: int = RESAMPLES
    seed: int = 0
    groups: Sequence[str] | None = None

    def blocks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Weights (n, up to BLOCK), in blocks of replicates."""
        unit_of_clip = self._units()
        units = int(unit_of_clip.max()) + 1
        for number, first in enumerate(range(0, self.resamples, BLOCK)):
            size = min(BLOCK, self.resamples - first)
            drawn = np.random.default_rng((self.seed, number)).integers(units, size=(size, units), dtype=np.int32)
            drawn += np.arange(size, dtype=np.int32)[:, None] * units
            counts = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
            assert counts.max() < 256, "one unit drawn more than 255 times"
            yield np.ascontiguousarray(counts.astype(np.uint8)[:, unit_of_clip].T)

    def _units(self) -> npt.NDArray[np.intp]:
        if self.groups is None:
            return np.arange(self.n)
        own = [group or f"\0{clip}" for clip, group in enumerate(self.groups)]
        return np.unique(own, return_inverse=True)[1]


@dataclass(frozen=True)
class Estimate:
    """A statistic of one system; the last axes are those of the statistic: () for a metric, (k,) for classes' AP."""

    runs: Floats  # (seeds, ...): on the clips as they are
    replicates: Floats  # (resamples, ...): of the mean over seeds
    run_variance: Floats  # (...): of a single run over replicates, mean over seeds

    @property
    def value(self) -> Floats:
        return self.runs.mean(axis=0)

    @property
    def seeds(self) -> int:
        return len(self.runs)

    def of(self, chosen: Bools) -> "Estimate":
        """Of some classes."""
        return Estimate(self.runs[:, chosen], self.replicates[:, chosen], self.run_variance[chosen])

    def seed_variance(self) -> Floats:
        """Of the mean over seeds, as far as other seeds would have given another mean on the same clips."""
        return self.runs.var(axis=0, ddof=1) / self.seeds

    def interaction(self) -> Floats:
        """The share of seed_variance that drawing clips shows once more: what a seed gets right on one clip and wrong
        on another. With clips c and seeds s crossed, a run varies over draws by c + cs and the mean over n seeds by
        c + cs / n, while seeds differ on the given clips by s + cs."""
        shared = nanvar(self.replicates)
        return np.clip((self.run_variance - shared) / (self.seeds - 1), 0.0, self.run_variance / self.seeds)


def bootstrap(
    systems: Mapping[str, Sequence[Floats]],
    targets: Bools,
    leaf: Bools,
    draws: Draws,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> dict[str, dict[str, Estimate]]:
    """Every metric and the classes' AP of every system, on the same draws.

    Args:
        systems: name to the scores (n, k) of each of its seeds.
        targets: (n, k).
        leaf: (k,) which classes count for leaf_map.
        draws: of these n clips.
        progress: told how many replicates are done, and of how many.

    Returns:
        system to statistic ("map", "leaf_map", "lwlrap", "class_ap") to Estimate.
    """
    ranked = {name: [RankedRun(scores, targets) for scores in runs] for name, runs in systems.items()}
    collected = {name: _Collector(runs, leaf, draws.resamples) for name, runs in ranked.items()}
    done = 0
    for weights in draws.blocks():
        for collector in collected.values():
            collector.add(weights, slice(done, done + weights.shape[1]))
        done += weights.shape[1]
        progress(done, draws.resamples)
    return {name: collector.estimates() for name, collector in collected.items()}


class _Collector:
    """One system's replicates: means over seeds are kept, single runs only as sums and sums of squares."""

    def __init__(self, runs: Sequence["RankedRun"], leaf: Bools, resamples: int) -> None:
        self.runs, self.leaf = runs, leaf
        once = np.ones((len(runs[0].labels), 1), np.uint8)
        self.observed = [self._statistics(run, once) for run in runs]
        self.replicates = {
            name: np.empty((resamples, *values.shape[1:]), np.float32 if name == "class_ap" else np.float64)
            for name, values in self.observed[0].items()
        }
        self.moments = [{name: _Moments(values.shape[1:]) for name, values in o.items()} for o in self.observed]

    def _statistics(self, run: "RankedRun", weights: npt.NDArray[np.uint8]) -> dict[str, Floats]:
        ap = run.average_precision(weights)  # (b, k)
        values = {"map": _nanmean(ap), "leaf_map": _nanmean(ap[:, self.leaf]), "lwlrap": run.lwlrap(weights)}
        return values | {"class_ap": ap}

    def add(self, weights: npt.NDArray[np.uint8], place: slice) -> None:
        for target in self.replicates.values():
            target[place] = 0.0
        for run, moments in zip(self.runs, self.moments, strict=True):
            for name, values in self._statistics(run, weights).items():
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
        self.shift: Floats | None = None  # near the mean, so that squares do not cancel

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


def _nanmean(values: Floats) -> Floats:
    """Over the last axis; NaN where nothing is left."""
    count = np.isfinite(values).sum(axis=-1)
    return np.where(count > 0, np.nansum(values, axis=-1) / np.maximum(count, 1), np.nan)


def nanvar(replicates: Floats) -> Floats:
    """Over replicates, those left out in which a class was not drawn."""
    return np.nanvar(replicates, axis=0, ddof=1, dtype=np.float64)


class RankedRun:
    """One run's scores, ranked once, so that a replicate only has to count.

    In each class the clips stand in descending order of score, down to the last tie that holds a positive. They are cut
    into segments, each ending with a tie that holds positives: precision is read there, for all of the tie's
    positives alike, as scikit-learn does. Within a segment the order is free, so negatives stand first.
    """

    def __init__(self, scores: Floats, targets: Bools) -> None:
        """scores (n, k), targets (n, k)."""
        n, self.classes = targets.shape
        index = np.uint16 if n <= 1 << 16 else np.int32
        order = np.argsort(-scores.T, axis=1, kind="stable")  # (k, n)
        parts = [_segments(order[c], scores[order[c], c], targets[order[c], c]) for c in range(self.classes)]
        self.rows = np.concatenate([rows for rows, _, _ in parts]).astype(index)
        self.first_row = _offsets([len(rows) for rows, _, _ in parts])
        self.first_positive = np.concatenate([positives for _, positives, _ in parts])
        self.end = np.concatenate([ends for _, _, ends in parts])
        self.first_segment = _offsets([len(ends) for _, _, ends in parts])
        self.precision_sums = _label_precision_sums(scores, targets)
        self.labels = targets.sum(axis=1).astype(np.float64)

    def average_precision(self, weights: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """AP of every class in every replicate, NaN where none of its positives was drawn: (n, b) -> (b, k)."""
        ap = np.empty((self.classes, weights.shape[1]))
        _weighted_ap(
            self.rows, self.first_row, self.first_positive, self.end, self.first_segment, weights,
            max(1, 255 // max(1, int(weights.max()))), ap,
        )  # fmt: skip
        return ap.T

    def lwlrap(self, weights: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Label-weighted label-ranking average precision in every replicate: (n, b) -> (b,)."""
        w = weights.T.astype(np.float64)
        return (w @ self.precision_sums) / (w @ self.labels)


def _label_precision_sums(scores: Floats, targets: Bools) -> npt.NDArray[np.float64]:
    """Of each clip, the sum over its labels of the share of true ones among those ranked at least as high: (n,)."""
    clip, label = np.nonzero(targets)
    as_high = scores[clip] >= scores[clip, label][:, np.newaxis]  # (labels, k)
    precisions = (as_high & targets[clip]).sum(axis=1) / as_high.sum(axis=1)
    return np.bincount(clip, weights=precisions, minlength=len(targets)).astype(np.float64)


def _offsets(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@numba.njit(cache=True)
def _segments(order, scores, positive):  # type: ignore[no-untyped-def]
    """Rows, and for each segment where its positives begin and where it ends."""
    n = len(order)
    rows = np.empty(n, np.int64)
    firsts, ends = np.empty(n, np.int64), np.empty(n, np.int64)
    segments = start = end = 0
    while end < n:
        tie = end
        found = False
        while end < n and scores[end] == scores[tie]:
            found |= positive[end]
            end += 1
        if not found:
            continue
        place = start
        for i in range(start, end):
            if not positive[i]:
                rows[place] = order[i]
                place += 1
        firsts[segments], ends[segments] = place, end
        for i in range(start, end):
            if positive[i]:
                rows[place] = order[i]
                place += 1
        segments += 1
        start = end
    return rows[:start], firsts[:segments], ends[:segments]


@numba.njit(cache=True, inline="always")
def _add_rows(rows, first, last, weights, step, total):  # type: ignore[no-untyped-def]
    """Add the weights of some clips to `total`; in bytes as long as they cannot overflow, 32 or 64 at a time."""
    size = weights.shape[1]
    part = np.empty(size, np.uint8)
    for begin in range(first, last, step):
        part[:] = 0
        for i in range(begin, min(begin + step, last)):
            row = rows[i]
            for b in range(size):
                part[b] += weights[row, b]
        for b in range(size):
            total[b] += part[b]


@numba.njit(cache=True, parallel=True)
def _weighted_ap(rows, first_row, first_positive, end, first_segment, weights, step, ap):  # type: ignore[no-untyped-def]
    size = weights.shape[1]
    for c in numba.prange(len(ap)):
        total = np.zeros(size, np.int32)  # drawn so far
        true = np.zeros(size, np.int32)  # and positive
        new = np.empty(size, np.int32)
        area = np.zeros(size, np.float64)
        own = rows[first_row[c] : first_row[c + 1]]
        begin = 0
        for s in range(first_segment[c], first_segment[c + 1]):
            _add_rows(own, begin, first_positive[s], weights, step, total)
            new[:] = 0
            _add_rows(own, first_positive[s], end[s], weights, step, new)
            for b in range(size):
                true[b] += new[b]
                total[b] += new[b]
                area[b] += np.float64(new[b]) * np.float64(true[b]) / np.float64(max(total[b], 1))
            begin = end[s]
        for b in range(size):
            ap[c, b] = area[b] / true[b] if true[b] else np.nan
