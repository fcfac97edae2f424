"""Ranks with their uncertainty: clips and seeds both drawn."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.stats.bootstrap import Estimate
from bench.stats.inference import LEVEL

__all__ = ["rank_intervals"]


def rank_intervals(
    estimates: Sequence[Estimate], *, higher_is_better: bool = True, seed: int = 0
) -> list[tuple[int, int]]:
    """Return of each system the lowest and the highest rank that 95% of draws give it; 1 is the best.

    A draw is a replicate of one metric: its clips, and of each system as many seeds as it has, with replacement.
    Systems with equally many seeds take the same of them, in the order of their numbers. n seeds vary less than those
    that they stand for, by (n - 1) / n of the variance, which is made up; a single one does not vary, and its system's
    rank is that of a checkpoint.
    """
    drawn = np.stack([_draws(estimate, seed) for estimate in estimates], axis=1)
    best_first = np.argsort(-drawn if higher_is_better else drawn, axis=1, kind="stable")
    ranks = np.argsort(best_first, axis=1) + 1
    low, high = np.quantile(ranks, [LEVEL / 2, 1 - LEVEL / 2], axis=0, method="inverted_cdf")
    return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]


def _draws(estimate: Estimate, seed: int) -> npt.NDArray[np.float64]:
    """Return the metric of a system in every draw, centred on its value: (resamples,)."""
    assert estimate.by_seed is not None
    seeds, resamples = estimate.by_seed.shape
    of_clips = estimate.replicates
    # the same for all that have as many seeds, so that what a seed gives to all of them cancels
    chosen = np.random.default_rng((seed, seeds)).integers(seeds, size=(seeds, resamples))
    of_seeds = np.take_along_axis(estimate.by_seed, chosen, axis=0).mean(axis=0) - of_clips
    drawn = of_clips + of_seeds * (seeds / max(seeds - 1, 1)) ** 0.5
    return np.asarray(estimate.value + drawn - np.nanmean(of_clips), np.float64)
