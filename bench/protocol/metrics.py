"""Multi-label ranking metrics of whole splits, in numpy; ties are treated as scikit-learn treats them.

`targets` is (clips, k) bool, `scores` (clips, k) float. A class without positives, or with nothing else, in the split
has no AP, or no AUC: it is nan, left out of means, and counted.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = [
    "average_precision", "chance_map", "class_dprime", "dprime", "evaluate", "lwlrap", "macro_map", "roc_auc",
]  # fmt: skip

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]
_Counts = npt.NDArray[np.int64]


def evaluate(targets: Bools, scores: Floats, leaf: Bools) -> dict[str, float | int]:
    """Return all metrics of a split, by name. Raises ValueError if a score is not finite or no class has positives."""
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not finite")
    if not targets.any():
        raise ValueError("no positives in any class")
    ap, auc = np.full((2, targets.shape[1]), np.nan)
    for k, true, taken in _curves(targets, scores):
        ap[k], auc[k] = _precision(true, taken), _area(true, taken)
    scored = int(targets.any(axis=0).sum())
    return {
        "map": float(np.nanmean(ap)),
        "leaf_map": _nanmean(ap[leaf]),
        "auc": _nanmean(auc),
        "dprime_of_mean_auc": dprime(_nanmean(auc)),
        "mean_dprime": _nanmean(class_dprime(targets, auc)),
        "lwlrap": lwlrap(targets, scores),
        "classes_scored": scored,
        "classes_left_out": targets.shape[1] - scored,
    }


def macro_map(targets: Bools, scores: Floats) -> float:
    """Return the mean AP over the classes that have positives."""
    return float(np.nanmean(average_precision(targets, scores)))


def _nanmean(values: Floats) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def average_precision(targets: Bools, scores: Floats) -> Floats:
    """Return, per class, the sum over thresholds of precision times the gain in recall: (clips, k) -> (k,)."""
    ap = np.full(targets.shape[1], np.nan)
    for k, true, taken in _curves(targets, scores):
        ap[k] = _precision(true, taken)
    return ap


def roc_auc(targets: Bools, scores: Floats) -> Floats:
    """Return, per class, how likely a positive outranks a negative, ties counting half: (clips, k) -> (k,)."""
    auc = np.full(targets.shape[1], np.nan)
    for k, true, taken in _curves(targets, scores):
        auc[k] = _area(true, taken)
    return auc


def _curves(targets: Bools, scores: Floats) -> Iterator[tuple[int, _Counts, _Counts]]:
    """Yield each class that has positives, with how many of them, and of clips, lie at each score or above.

    Counts are at each distinct score from the highest down.
    """
    for k in np.flatnonzero(targets.any(axis=0)):
        order = np.argsort(-scores[:, k], kind="stable")
        score = scores[order, k]
        last_of_tie = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
        yield int(k), np.cumsum(targets[order, k])[last_of_tie], last_of_tie + 1


def _precision(true: _Counts, taken: _Counts) -> float:
    return float(np.sum(np.diff(true, prepend=0) * true / taken) / true[-1])


def _area(true: _Counts, taken: _Counts) -> float:
    negatives = taken[-1] - true[-1]
    if not negatives:
        return math.nan
    return float(np.trapezoid(np.append(0, true), np.append(0, taken - true)) / (true[-1] * negatives))


def dprime(auc: float) -> float:
    """Return the separation of two unit normals with this AUC: sqrt(2) times the normal quantile of the AUC."""
    if not 0 < auc < 1:
        return float("nan") if not 0 <= auc <= 1 else float("inf") * (1 if auc else -1)
    return float(np.sqrt(2) * NormalDist().inv_cdf(auc))


def class_dprime(targets: Bools, auc: Floats) -> Floats:
    """Return d' per class; a perfect AUC, which has no finite d', is taken half a pair below 1 (0: above)."""
    positives = targets.sum(axis=0)
    half_pair = 0.5 / np.maximum(positives * (len(targets) - positives), 1)
    return np.array([dprime(a) for a in np.clip(auc, half_pair, 1 - half_pair)])


def lwlrap(targets: Bools, scores: Floats) -> float:
    """Return label-weighted label-ranking average precision: over every label of every clip, the mean of the share of
    true labels among those ranked at least as high."""
    clip, label = np.nonzero(targets)
    as_high = scores[clip] >= scores[clip, label][:, np.newaxis]  # (labels, k)
    return float(np.mean((as_high & targets[clip]).sum(axis=1) / as_high.sum(axis=1)))


def chance_map(targets: Bools) -> float:
    """Return the exact expected macro mAP of random scores, which is more than the mean class prior.

    With P positives among N clips, the positives' places are a random subset. The one at place i has i - 1 places
    before it, of which (P - 1) / (N - 1) each hold another positive; averaging (1 + (i - 1) (P - 1) / (N - 1)) / i
    over i gives ((P - 1) / (N - 1) (N - H) + H) / N, where H is the harmonic number of N.
    """
    n = len(targets)
    positives = targets.sum(axis=0)
    positives = positives[positives > 0]
    harmonic = float(np.sum(1 / np.arange(1, n + 1)))
    expected = ((positives - 1) / max(n - 1, 1) * (n - harmonic) + harmonic) / n
    return float(expected.mean())
