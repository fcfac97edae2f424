"""The share of train clips whose labels are used: nested, of every class the same, a function of the seed."""

from itertools import pairwise

import numpy as np
import pytest

from bench.protocol.subsets import labelled_clips

SHARES = [0.01, 0.03, 0.1, 0.3, 0.9, 1.0]


@pytest.fixture(scope="module")
def targets():
    # 40 classes from common to rare; a clip has one or more of them
    rng = np.random.default_rng(0)
    found = rng.random((4000, 40)) < np.geomspace(0.2, 0.004, 40)
    without = np.flatnonzero(~found.any(axis=1))
    found[without, rng.integers(40, size=len(without))] = True
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_smaller_shares_lie_within_larger_ones(targets, seed):
    taken = [set(labelled_clips(targets, share, seed)) for share in SHARES]
    assert [len(clips) for clips in taken] == [40, 120, 400, 1200, 3600, 4000]
    assert all(less <= more for less, more in pairwise(taken))


def test_every_class_keeps_its_share_to_a_few_clips(targets):
    counts = targets.sum(axis=0)
    for share in SHARES[:-1]:
        kept = targets[labelled_clips(targets, share, 0)].sum(axis=0)
        assert kept.min() >= 1
        assert np.abs(kept - share * counts).max() < 3, share


def test_the_seed_decides(targets):
    one, again, other = (labelled_clips(targets, 0.1, seed) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert (np.diff(one) > 0).all()


def test_clips_without_labels_come_last_and_there_is_always_one():
    targets = np.zeros((10, 3), bool)
    targets[7, 1] = True
    assert labelled_clips(targets, 1e-6, 3).tolist() == [7]
    assert len(labelled_clips(targets, 0.5, 3)) == 5
    assert labelled_clips(np.zeros((4, 2), bool), 1.0, 0).tolist() == [0, 1, 2, 3]
