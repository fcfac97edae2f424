"""Ranking metrics of one run on resampled clips: its scores are ranked once, and a replicate only counts."""

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

from bench.jit import compiled

__all__ = ["Bools", "Floats", "RankedRun"]

# threads of its own: through OpenMP it would set how many PyTorch uses, and with that the last digits of what it trains
numba.config.THREADING_LAYER = "workqueue"  # type: ignore[attr-defined]

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


class RankedRun:
    """One run's scores, ranked once.

    In each class the clips stand in descending order of score, down to the last tie that holds a positive. They are cut
    into segments, each ending with a tie that holds positives: precision is read there, for all of the tie's
    positives alike, as scikit-learn does. Within a segment the order is free, so negatives stand first.
    """

    def __init__(self, scores: Floats, targets: Bools) -> None:
        """Rank scores (n, k) against targets (n, k). Raises ValueError if one is not finite: it has no rank."""
        if not np.isfinite(scores).all():
            raise ValueError("scores that are not finite")
        n, self.classes = targets.shape
        index = np.uint16 if n <= 1 << 16 else np.int32
        # not stable, which takes five times as long: within a tie the order is free
        order = np.argsort(-scores.T, axis=1)  # (k, n)
        parts = [_segments(order[c], scores[order[c], c], targets[order[c], c]) for c in range(self.classes)]
        self.clips = np.concatenate([clips for clips, _, _ in parts]).astype(index)
        self.first_clip = _offsets([len(clips) for clips, _, _ in parts])
        self.first_positive = np.concatenate([positives for _, positives, _ in parts])
        self.end = np.concatenate([ends for _, _, ends in parts])
        self.first_segment = _offsets([len(ends) for _, _, ends in parts])
        self.precision_sums = _label_precision_sums(scores, targets)
        self.labels = targets.sum(axis=1).astype(np.float64)

    def average_precision(self, weights: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return AP of every class in every replicate, NaN where none of its positives was drawn: (n, b) -> (b, k)."""
        ap = np.empty((self.classes, weights.shape[1]))
        _weighted_ap(
            self.clips, self.first_clip, self.first_positive, self.end, self.first_segment, weights,
            max(1, 255 // max(1, int(weights.max()))), ap,
        )  # fmt: skip
        return ap.T

    def lwlrap(self, weights: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return label-weighted label-ranking average precision in every replicate: (n, b) -> (b,)."""
        w = weights.T.astype(np.float64)
        return (w @ self.precision_sums) / (w @ self.labels)

    def metrics(self, weights: npt.NDArray[np.uint8], leaf: Bools) -> dict[str, Floats]:
        """Return all metrics in every replicate, by name: (n, b) -> (b,), and AP by class (b, k)."""
        ap = self.average_precision(weights)
        return {"map": _nanmean(ap), "leaf_map": _nanmean(ap[:, leaf]), "lwlrap": self.lwlrap(weights), "class_ap": ap}


def _nanmean(values: Floats) -> Floats:
    """Return the mean over the last axis; NaN where nothing is left."""
    count = np.isfinite(values).sum(axis=-1)
    return np.where(count > 0, np.nansum(values, axis=-1) / np.maximum(count, 1), np.nan)


def _label_precision_sums(scores: Floats, targets: Bools) -> npt.NDArray[np.float64]:
    """Return for each clip the sum over its labels of the share of true ones among those as high: (n,)."""
    clip, label = np.nonzero(targets)
    as_high = scores[clip] >= scores[clip, label][:, np.newaxis]  # (labels, k)
    precisions = (as_high & targets[clip]).sum(axis=1) / as_high.sum(axis=1)
    return np.bincount(clip, weights=precisions, minlength=len(targets)).astype(np.float64)


def _offsets(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@compiled()
def _segments(order, scores, positive):  # type: ignore[no-untyped-def]
    """Return clips in order, and for each segment where its positives begin and where it ends."""
    n = len(order)
    clips = np.empty(n, np.int64)
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
                clips[place] = order[i]
                place += 1
        firsts[segments], ends[segments] = place, end
        for i in range(start, end):
            if positive[i]:
                clips[place] = order[i]
                place += 1
        segments += 1
        start = end
    return clips[:start], firsts[:segments], ends[:segments]


@compiled(inline="always")
def _add_clips(clips, first, last, weights, step, total):  # type: ignore[no-untyped-def]
    """Add the weights of some clips to `total`; in bytes as long as they cannot overflow, 32 or 64 at a time."""
    size = weights.shape[1]
    part = np.empty(size, np.uint8)
    for begin in range(first, last, step):
        part[:] = 0
        for i in range(begin, min(begin + step, last)):
            clip = clips[i]
            for b in range(size):
                part[b] += weights[clip, b]
        for b in range(size):
            total[b] += part[b]


@compiled(parallel=True)
def _weighted_ap(clips, first_clip, first_positive, end, first_segment, weights, step, ap):  # type: ignore[no-untyped-def]
    size = weights.shape[1]
    for c in numba.prange(len(ap)):
        total = np.zeros(size, np.int32)  # drawn so far
        true = np.zeros(size, np.int32)  # and positive
        new = np.empty(size, np.int32)
        area = np.zeros(size, np.float64)
        of_class = clips[first_clip[c] : first_clip[c + 1]]
        begin = 0
        for s in range(first_segment[c], first_segment[c + 1]):
            _add_clips(of_class, begin, first_positive[s], weights, step, total)
            new[:] = 0
            _add_clips(of_class, first_positive[s], end[s], weights, step, new)
            for b in range(size):
                true[b] += new[b]
                total[b] += new[b]
                area[b] += np.float64(new[b]) * np.float64(true[b]) / np.float64(max(total[b], 1))
            begin = end[s]
        for b in range(size):
            ap[c, b] = area[b] / true[b] if true[b] else np.nan
