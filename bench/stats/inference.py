"""Which differences are real: intervals and tests from a paired bootstrap, with seeds and clips as crossed."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase
from typing import Literal, get_args

import networkx
import numpy as np
from scipy import special
from scipy import stats as distributions

from bench.stats.bootstrap import Estimate, contrast, nanvar, of_nothing
from bench.stats.ranking import Floats

__all__ = [
    "CHECKPOINTS_ONLY", "GENERALISES", "LEVEL", "SEEDS_NEEDED", "SHARED_SEEDS_NEEDED", "Equivalence", "Inference",
    "Verdict", "absolute", "alike", "benjamini_hochberg", "critical", "difference", "equivalence", "group_letters",
    "holm", "infer", "of_contrast", "variances_of_mean", "verdicts",
]  # fmt: skip

# for a claim that generalises to architectures: a side, or where both sides have the same ones
SEEDS_NEEDED, SHARED_SEEDS_NEEDED = 5, 3
LEVEL = 0.05
# what a claim generalises to
GENERALISES, CHECKPOINTS_ONLY = "architectures (seeds resampled)", "these checkpoints only"
# undecided: as far apart as these resamples can tell, which is not enough for so many comparisons; more would decide.
# The last two are of claims on these checkpoints only: two seeds of one system differ so in a third of all cases, which
# is no claim on systems
Verdict = Literal["significant", "undecided", "not significant", "checkpoints differ", "not shown"]
Equivalence = Literal["equivalent", "not equivalent", "inconclusive"]


@dataclass(frozen=True)
class Inference:
    """An estimate or a difference with its 95% interval, and for a difference the p of 'there is none'."""

    value: Floats
    low: Floats
    high: Floats
    p: Floats
    # the least p that this many resamples can show
    floor: float
    # to architectures, since seeds were resampled; else it is about these checkpoints only
    generalises: bool
    # how many seeds of both sides were paired; 0: they were taken as independent, or for granted
    paired: int = 0
    # the 90% interval of the same test, by which two systems may be equivalent; None where no claim generalises
    narrower: tuple[Floats, Floats] | None = None

    @property
    def turned(self) -> "Inference":
        """The difference the other way round."""
        narrower = self.narrower and (-self.narrower[1], -self.narrower[0])
        return replace(self, value=-self.value, low=-self.high, high=-self.low, narrower=narrower)

    @property
    def scope(self) -> str:
        return GENERALISES if self.generalises else CHECKPOINTS_ONLY


def difference(a: Estimate, b: Estimate, paired: Estimate | None = None) -> Inference:
    """Return a - b, for a metric or class by class.

    Which seeds are compared is decided by their numbers alone. With SHARED_SEEDS_NEEDED in common these are paired, as
    in `of_contrast`: seed s gives every system the same order of the data. With fewer in common, but SEEDS_NEEDED a
    side, seeds are independent, and t has Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946). With fewer
    still it is about these checkpoints: only clips vary, and interval and p are read off the replicates. `paired` is
    the difference seed by seed, where `bootstrap` had to estimate it: by class.
    """
    together = paired or contrast([(1.0, a), (-1.0, b)])
    if together and len(together.seeds) >= SHARED_SEEDS_NEEDED:
        return of_contrast(together)
    if min(len(a.seeds), len(b.seeds)) < SEEDS_NEEDED:
        return _from_replicates(a.value - b.value, a.replicates - b.replicates)
    clips = nanvar(a.replicates - b.replicates) - a.interaction() - b.interaction()
    parts = [(clips, np.inf), (a.seed_variance(), len(a.seeds) - 1), (b.seed_variance(), len(b.seeds) - 1)]
    return _from_t(a.value - b.value, parts)


def of_contrast(found: Estimate, level: float = LEVEL) -> Inference:
    """Return a contrast with its interval at 1 - `level`, clips and seeds both varying; it has two seeds at least.

    The variance is V, that of the mean over seeds on these clips, and C, that of clips on these seeds, less what V has
    already of their interaction. The critical value is the mean of t's (seeds - 1 degrees of freedom) and the normal's,
    weighted by V and C (Cochran & Cox, Experimental Designs, 1957, 4.14): t alone would reject next to never where
    clips decide, and Satterthwaite's degrees of freedom too often where there are few seeds.
    """
    seeds, clips = variances_of_mean(found)
    freedom, error = len(found.seeds) - 1, np.sqrt(seeds + clips)
    share = seeds / np.maximum(seeds + clips, np.finfo(float).tiny)
    half, less = (critical(each, share, freedom) * error for each in (level, 2 * level))
    p, narrower = _p(found.value, error, share, freedom), (found.value - less, found.value + less)
    return Inference(found.value, found.value - half, found.value + half, p, 0.0, True, len(found.seeds), narrower)


def infer(found: Estimate) -> Inference:
    """Return a contrast with what its seeds allow, whose number alone decides.

    From SHARED_SEEDS_NEEDED on it generalises, as in `of_contrast`; with fewer it is about these checkpoints only, and
    interval and p are read off the replicates.
    """
    if len(found.seeds) >= SHARED_SEEDS_NEEDED:
        return of_contrast(found)
    return _from_replicates(found.value, found.replicates)


def variances_of_mean(found: Estimate) -> tuple[Floats, Floats]:
    """Return the variance of the mean over seeds on these clips, and that of clips without their interaction."""
    return found.seed_variance(), np.maximum(nanvar(found.replicates) - found.interaction(), 0.0)


def critical(level: Floats | float, share: Floats, freedom: Floats | int) -> Floats:
    """Return Cochran and Cox's critical value, two-sided, where `share` of the variance is that of seeds."""
    tail = np.asarray(level) / 2
    return -(share * special.stdtrit(freedom, tail) + (1 - share) * special.ndtri(tail))


def _p(value: Floats, error: Floats, share: Floats, freedom: int) -> Floats:
    """Return the level at which the interval would touch zero, by bisection of its logarithm."""
    size = np.abs(value) / np.maximum(error, np.finfo(float).tiny)
    low, high = np.full(np.shape(size), np.log(1e-300)), np.zeros(np.shape(size))
    for _ in range(60):
        middle = (low + high) / 2
        beyond = critical(np.exp(middle), share, freedom) > size
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return np.where(np.isfinite(size), np.exp(high), np.nan)


def absolute(a: Estimate) -> Inference:
    """Return the interval of a single system.

    AP on few clips is too high, and on a resample once more by as much: the basic interval (Davison & Hinkley 1997,
    5.2.1) takes it off again, and with seeds, so does the centre of the t interval.
    """
    if len(a.seeds) < SEEDS_NEEDED:
        with of_nothing():
            low, high = np.nanquantile(a.replicates, [0.025, 0.975], axis=0)
        none = np.full_like(a.value, np.nan)
        return Inference(a.value, 2 * a.value - high, 2 * a.value - low, none, 0.0, False)
    found = _from_t(
        a.corrected, [(nanvar(a.replicates) - a.interaction(), np.inf), (a.seed_variance(), len(a.seeds) - 1)]
    )
    return Inference(a.value, found.low, found.high, np.full_like(a.value, np.nan), 0.0, True)


def _from_replicates(value: Floats, replicates: Floats) -> Inference:
    """Return the symmetric interval (Hall, Annals of Statistics 16, 1988): truer than percentiles for rare classes."""
    # p: how often a replicate is as far from the value as the value is from zero
    away = np.abs(replicates - value)
    with of_nothing():
        half = np.nanquantile(away, 0.95, axis=0)
    p = (1 + (away >= np.abs(value)).sum(axis=0)) / (np.isfinite(replicates).sum(axis=0) + 1)
    return Inference(value, value - half, value + half, p, 1 / (len(replicates) + 1), False)


def _from_t(value: Floats, parts: Sequence[tuple[Floats, float]]) -> Inference:
    """Return a t interval and p from independent parts of the variance, each with its degrees of freedom."""
    tiny = np.finfo(float).tiny
    variances = [np.maximum(variance, 0.0) for variance, _ in parts]
    variance = np.maximum(np.sum(variances, axis=0), tiny)
    shares = [part**2 / df for part, (_, df) in zip(variances, parts, strict=True)]
    freedom = np.maximum(variance**2 / np.maximum(np.sum(shares, axis=0), tiny), 1.0)
    error = np.sqrt(variance)
    half, less = (distributions.t.isf(tail, freedom) * error for tail in (LEVEL / 2, LEVEL))
    p = 2 * distributions.t.sf(np.abs(value) / error, freedom)
    return Inference(value, value - half, value + half, p, 0.0, True, narrower=(value - less, value + less))


def equivalence(found: Inference, margin: float) -> Equivalence | None:
    """Return whether a single difference lies within `margin`, in the metric's unit, by two one-sided tests at LEVEL.

    That is whether the 90% interval lies within it, or beyond it (Schuirmann, Journal of Pharmacokinetics and
    Biopharmaceutics 15, 1987). None for claims on checkpoints: of two seeds of one system they would be as sure.
    """
    if found.narrower is None:
        return None
    low, high = found.narrower
    if -margin <= low and high <= margin:
        return "equivalent"
    return "not equivalent" if low > margin or high < -margin else "inconclusive"


def holm(p: Floats) -> Floats:
    """Return adjusted p that keep the chance of any false claim among all (Holm 1979); NaN takes no part."""
    return _where_known(p, _step_down)


def benjamini_hochberg(p: Floats) -> Floats:
    """Return adjusted p that keep the expected share of false claims among those made (1995); NaN takes no part."""
    return _where_known(p, distributions.false_discovery_control)


def _step_down(p: Floats) -> Floats:
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def _where_known(p: Floats, adjust: Callable[[Floats], Floats]) -> Floats:
    adjusted = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = adjust(p[known])
    return adjusted


def verdicts(p: Floats, adjusted: Floats, floor: float, *, generalises: bool = True) -> list[Verdict]:
    """Return the verdict on each p, given it with and without the correction for many comparisons.

    Of claims that do not generalise it is in words of its own; where they were not corrected, `adjusted` is p itself.
    """
    significant, undecided, not_significant, differ, not_shown = get_args(Verdict)
    if not generalises:
        return list(np.where(adjusted <= LEVEL, differ, not_shown).tolist())
    return list(np.where(adjusted <= LEVEL, significant, np.where(p <= floor, undecided, not_significant)).tolist())


def group_letters(names: Sequence[str], differ: Callable[[str, str], bool]) -> dict[str, str]:
    """Return letters that two systems share where their difference is not significant (compact letter display).

    One letter for each set of `alike`; `names` are in order of rank. More sets than letters are no display, so that
    all have '' then.
    """
    groups = alike(names, differ)
    sets = dict(zip(ascii_lowercase, groups, strict=False)) if len(groups) <= len(ascii_lowercase) else {}
    return {name: "".join(letter for letter, group in sets.items() if name in group) for name in names}


def alike(names: Sequence[str], differ: Callable[[str, str], bool]) -> list[list[str]]:
    """Return the largest sets of systems without a difference between any two, in the order of `names`."""
    graph = networkx.Graph()
    graph.add_nodes_from(names)
    graph.add_edges_from((a, b) for a, b in itertools.combinations(names, 2) if not differ(a, b))
    place = {name: i for i, name in enumerate(names)}
    groups = sorted(sorted(place[name] for name in clique) for clique in networkx.find_cliques(graph))
    return [[names[i] for i in group] for group in groups]
