"""Inference against textbook cases."""

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind, ttest_rel

from bench.protocol.task import get_task
from bench.stats.bootstrap import Estimate, Resampler, bootstrap, contrast
from bench.stats.inference import (
    CHECKPOINTS_ONLY,
    GENERALISES,
    absolute,
    benjamini_hochberg,
    difference,
    group_letters,
    holm,
    of_contrast,
    verdicts,
)


def estimate(runs, replicates=None, first_seed=0):
    """A system that varies over clips alike for all its seeds."""
    runs = np.asarray(runs, float)
    replicates = np.full(1000, runs.mean()) if replicates is None else np.asarray(replicates)
    by_seed = replicates + (runs - runs.mean())[:, None]
    seeds = tuple(range(first_seed, first_seed + len(runs)))
    return Estimate(seeds, runs, replicates, np.array(replicates.var(ddof=1)), by_seed)


def test_where_clips_do_not_matter_it_is_welchs_t_test():
    a, b = [0.41, 0.43, 0.40, 0.45, 0.42], [0.40, 0.38, 0.41, 0.36, 0.39, 0.37]
    found, welch = difference(estimate(a), estimate(b, first_seed=9)), ttest_ind(a, b, equal_var=False)
    assert found.generalises
    assert found.scope == GENERALISES
    assert found.p == pytest.approx(welch.pvalue)
    interval = welch.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_clips_widen_what_seeds_alone_would_say():
    rng = np.random.default_rng(0)
    a, b = [0.41, 0.43, 0.40, 0.45, 0.42], [0.40, 0.38, 0.41, 0.36, 0.39]
    narrow = difference(estimate(a), estimate(b, first_seed=9))
    noisy = estimate(a, rng.normal(0.42, 0.02, 1000)), estimate(b, rng.normal(0.39, 0.02, 1000), first_seed=9)
    wide = difference(*noisy)
    assert wide.high - wide.low > narrow.high - narrow.low
    assert wide.p > narrow.p


def test_where_clips_do_not_matter_shared_seeds_are_paired_in_a_t_test():
    a, b = [0.41, 0.43, 0.40, 0.45, 0.42], [0.40, 0.425, 0.385, 0.44, 0.42]
    found, paired = difference(estimate(a), estimate(b)), ttest_rel(a, b)
    assert found.generalises
    assert found.p == pytest.approx(paired.pvalue)
    interval = paired.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p < difference(estimate(a), estimate(b, first_seed=9)).p


def test_where_seeds_do_not_matter_it_is_a_z_test():
    rng = np.random.default_rng(0)
    a, b = estimate([0.4] * 3, rng.normal(0.4, 0.01, 1000)), estimate([0.38] * 3, rng.normal(0.38, 0.01, 1000))
    found, spread = difference(a, b), (a.replicates - b.replicates).std(ddof=1)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * spread)
    assert found.p == pytest.approx(2 * norm.sf(0.02 / spread))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_p_is_the_level_whose_interval_touches_zero(seeds):
    rng = np.random.default_rng(seeds)
    for _ in range(20):
        a = estimate(rng.normal(0.42, 0.01, seeds), rng.normal(0.42, 0.01, 1000))
        b = estimate(rng.normal(0.40, 0.01, seeds), rng.normal(0.40, 0.01, 1000))
        of_pair = contrast([(1.0, a), (-1.0, b)])
        p = float(of_contrast(of_pair).p)
        ends = of_contrast(of_pair, level=p)
        assert min(abs(ends.low), abs(ends.high)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "used"), [(range(5), range(2, 7), (2, 3, 4)), (range(5), range(5), (0, 1, 2, 3, 4))]
)
def test_only_seeds_that_both_have_are_paired(first, second, used):
    rng = np.random.default_rng(0)
    a = estimate(rng.normal(0.4, 0.01, 5), rng.normal(0.4, 0.01, 1000), first[0])
    b = estimate(rng.normal(0.4, 0.01, 5), rng.normal(0.4, 0.01, 1000), second[0])
    found = contrast([(1.0, a), (-1.0, b)])
    assert found.seeds == used
    expected = [a.runs[a.seeds.index(seed)] - b.runs[b.seeds.index(seed)] for seed in used]
    np.testing.assert_allclose(found.runs, expected)
    assert difference(a, b).value == pytest.approx(np.mean(expected))


def test_with_two_shared_seeds_of_five_they_are_independent():
    rng = np.random.default_rng(0)
    a, b = (estimate(rng.normal(0.4, 0.01, 5), rng.normal(0.4, 0.01, 1000), first) for first in (0, 3))
    found = difference(a, b)
    assert found.generalises
    assert found.value == pytest.approx(a.value - b.value)


def test_under_five_seeds_it_is_about_checkpoints():
    rng = np.random.default_rng(0)
    few = estimate([0.4, 0.5], rng.normal(0.45, 0.01, 1000))
    found = difference(few, estimate([0.4] * 5, rng.normal(0.40, 0.01, 1000)))
    assert not found.generalises
    assert found.scope == CHECKPOINTS_ONLY
    assert found.low < 0.05 < found.high
    assert found.floor == pytest.approx(1 / 1001)
    assert found.floor <= found.p < 0.01


def test_a_run_does_not_differ_from_itself():
    run = estimate([0.4], np.random.default_rng(0).normal(0.4, 0.01, 1000))
    found = difference(run, run)
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_basic_interval_takes_the_bias_off():
    found = absolute(estimate([0.40], np.random.default_rng(0).normal(0.42, 0.01, 10_000)))
    assert found.low == pytest.approx(0.38 - 0.0196, abs=1e-3)
    assert found.high == pytest.approx(0.38 + 0.0196, abs=1e-3)


def test_corrections():
    p = np.array([0.01, 0.04, 0.03, np.nan, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, np.nan, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, 0.04, 0.04, np.nan, 0.02])
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_too_few_resamples_for_so_many_pairs_leave_them_undecided():
    p = np.array([1 / 501] * 27 + [0.5])  # Holm over 28 asks the least p for .0018
    assert verdicts(p, holm(p), floor=1 / 501) == ["undecided"] * 27 + ["not significant"]
    p[:27] = 1 / 10_001
    assert verdicts(p, holm(p), floor=1 / 10_001) == ["significant"] * 27 + ["not significant"]


def test_systems_share_a_letter_if_no_two_of_them_differ():
    apart = {("a", "c"), ("a", "d"), ("b", "d")}
    assert group_letters("abcd", lambda x, y: (x, y) in apart) == {"a": "a", "b": "ab", "c": "bc", "d": "c"}
    assert group_letters("abc", lambda x, y: True) == {"a": "a", "b": "b", "c": "c"}
    assert set(group_letters("abc", lambda x, y: False).values()) == {"a"}
    # 27 sets: letters would come twice, and one could not tell which share which
    assert set(group_letters([str(i) for i in range(27)], lambda x, y: True).values()) == {""}


def test_whole_uploaders_leave_more_doubt_than_clips():
    """Each recording twice, as if uploaded twice: taking them one by one pretends to twice the evidence."""
    rng = np.random.default_rng(0)
    targets = np.repeat(rng.random((200, 5)) < 0.2, 2, axis=0)
    scores = np.repeat((rng.normal(size=(200, 5)) + np.repeat(targets[::2], 1, axis=0)).astype(np.float32), 2, axis=0)
    statistic, spread = get_task("tagging").statistic(targets, scores, np.ones(5, bool)), {}
    for groups in (None, [f"uploader {i // 2}" for i in range(400)]):
        found = bootstrap({"a": {0: statistic}}, Resampler(400, 1000, groups=groups))
        spread[groups is None] = found["a"]["map"].replicates.std()
    assert spread[False] == pytest.approx(2**0.5 * spread[True], rel=0.1)
