"""How many seeds and clips a comparison needs: the power of the test that `inference.of_contrast` makes."""

import bisect
import math

import numpy as np
from scipy import optimize, special

from bench.stats.bootstrap import Estimate
from bench.stats.inference import LEVEL, SHARED_SEEDS_NEEDED, critical, variances_of_mean
from bench.stats.ranking import Floats

__all__ = [
    "POWER", "clips_needed", "power", "seeds_needed", "smallest_difference", "upper_seed_variance", "variances",
]  # fmt: skip

# the usual demand (Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988)
POWER = 0.8
# Gauss-Legendre, over the distribution of the variance that seeds show: six digits of the power
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)


def power(
    difference: Floats | float,
    seed_variance: Floats | float,
    clip_variance: Floats | float,
    seeds: Floats | int,
    level: float = LEVEL,
) -> Floats:
    """Return the chance that a true difference is called significant, at two seeds or more; arguments broadcast.

    `seed_variance` is that of one seed's difference on given clips, `clip_variance` that of the mean difference over
    draws of as many clips as there are, both in the square of the metric's unit. The mean over seeds is normal; the
    variance that seeds show, and with it the critical value, is independent of it and as chi-squared with seeds - 1
    degrees of freedom, over which this integrates. That of clips is taken as known: it rests on thousands of clips.
    """
    difference, shown, clips, seeds = (
        np.asarray(x, float)[..., None] for x in (difference, seed_variance, clip_variance, seeds)
    )
    error = np.sqrt(np.maximum(clips + shown / seeds, np.finfo(float).tiny))
    limit = _limit(shown, clips, seeds, level)
    rejects = special.ndtr((difference - limit) / error) + special.ndtr((-difference - limit) / error)
    found: Floats = rejects @ _WEIGHTS / 2
    return found


def _limit(seed_variance: Floats, clip_variance: Floats, seeds: Floats, level: float) -> Floats:
    """Return the difference from which on the test rejects, (..., nodes), at each quantile of the variance seen."""
    freedom = seeds - 1
    # the quantile of chi-squared, over its degrees of freedom
    shown = seed_variance / seeds * special.gammaincinv(freedom / 2, (_NODES + 1) / 2) * 2 / freedom
    total = np.maximum(shown + clip_variance, np.finfo(float).tiny)
    limit: Floats = critical(level, shown / total, freedom) * np.sqrt(total)
    return limit


def smallest_difference(
    seed_variance: float, clip_variance: float, seeds: int, power: float = POWER, level: float = LEVEL
) -> float:
    """Return the true difference that is called significant with a chance of `power`; variances as in `power`."""
    error = math.sqrt(clip_variance + seed_variance / seeds)
    if not error:
        return 0.0
    # in units of the error, so that the solver's tolerance is relative
    of_seed, of_clips = seed_variance / error**2, clip_variance / error**2
    most = float(_limit(np.array([of_seed]), np.array([of_clips]), np.array([seeds]), level).max()) + 10
    found: float = optimize.brentq(
        lambda x: float(_power(x, of_seed, of_clips, seeds, level)) - power, 0.0, most, xtol=1e-10
    )
    return found * error


def seeds_needed(
    difference: float,
    seed_variance: float,
    clip_variance: float,
    power: float = POWER,
    level: float = LEVEL,
    most: int = 1000,
) -> int | None:
    """Return the least number of shared seeds at which a true difference is called significant with a chance of
    `power`; None where `most` do not suffice, as where clips alone vary by too much. The test needs three.
    """
    seeds = range(SHARED_SEEDS_NEEDED, most + 1)
    # power grows with seeds
    place = bisect.bisect_left(
        seeds, power, key=lambda n: float(_power(difference, seed_variance, clip_variance, n, level))
    )
    return seeds[place] if place < len(seeds) else None


def clips_needed(
    difference: float,
    seed_variance: float,
    clip_variance: float,
    clips: int,
    seeds: int,
    power: float = POWER,
    level: float = LEVEL,
    interaction: float = 0.0,
    most: int = 10_000_000,
) -> int | None:
    """Return the least number of eval clips at which a true difference is called significant with a chance of `power`,
    where variances are those at `clips`; None where `most` do not suffice, as where seeds alone vary by too much.

    The variance of clips falls as one over their number, and so does `interaction`: the part of a seed's variance that
    is what it gets right on one clip and wrong on another. Taken as 0, this says too many clips rather than too few.
    """
    falls = min(interaction, seed_variance)

    def reached(n: Floats | int) -> Floats:
        share = clips / n
        return _power(difference, seed_variance - falls * (1 - share), clip_variance * share, seeds, level)

    # not by bisection of the whole range: with few seeds, the power may fall again once seeds decide alone, because the
    # critical value then grows to that of t
    grid = np.unique(np.geomspace(1, most, 500).astype(int))
    enough = np.flatnonzero(reached(grid) >= power)
    if not len(enough):
        return None
    first = int(enough[0])
    between = range(int(grid[max(first - 1, 0)]), int(grid[first]) + 1)
    return between[bisect.bisect_left(between, power, key=lambda n: float(reached(n)))]


def upper_seed_variance(seed_variance: float, seeds: int, confidence: float = POWER) -> float:
    """Return what the variance of seeds is below with `confidence`, where `seeds` showed `seed_variance` (chi-squared).

    With five seeds it is 2.4 times as much as they showed, with three 4.5 times.
    """
    return seed_variance * (seeds - 1) / (2 * float(special.gammaincinv((seeds - 1) / 2, 1 - confidence)))


def variances(found: Estimate) -> tuple[float, float]:
    """Return the variance of a single seed's difference, and that of clips, of a contrast as `of_contrast` tests it."""
    seeds, clips = variances_of_mean(found)
    return float(seeds) * len(found.seeds), float(clips)


# where a parameter has the name
_power = power
