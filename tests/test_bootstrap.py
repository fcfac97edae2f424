"""Weighted counting against scikit-learn on the clips written out as often as they were taken."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from bench.protocol.metrics import average_precision, lwlrap
from bench.protocol.task import get_task
from bench.stats.bootstrap import Resampler, bootstrap
from bench.stats.ranking import RankedRun

MANY = 600  # resamples: more than two blocks


def some_run(n=60, k=7, *, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    targets = rng.random((n, k)) < 0.15
    targets[0], targets[:, 0] = True, False  # a clip with every label; a class that has none
    targets[1, :] = [False] + [True] * (k - 1)
    scores = (rng.normal(size=(n, k)) + targets).astype(np.float32)
    return targets, np.round(scores) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_a_replicate_is_the_metric_of_the_clips_taken(ties):
    targets, scores = some_run(ties=ties)
    run = RankedRun(scores, targets)
    weights = next(Resampler(len(targets), 20).blocks())
    ap, ranking = run.average_precision(weights), run.lwlrap(weights)
    assert ap.shape == (20, 7)
    for b in range(20):
        taken = np.repeat(np.arange(len(targets)), weights[:, b])
        for c in range(7):
            if targets[taken, c].any():
                assert ap[b, c] == pytest.approx(
                    average_precision_score(targets[taken, c], scores[taken, c]), abs=1e-12
                )
            else:
                assert np.isnan(ap[b, c])
        assert ranking[b] == pytest.approx(lwlrap(targets[taken], scores[taken]), abs=1e-12)


def test_taking_every_clip_once_is_the_split_itself():
    targets, scores = some_run(500, 20)
    ap = RankedRun(scores, targets).average_precision(np.ones((500, 1), np.uint8))[0]
    np.testing.assert_allclose(ap, average_precision(targets, scores), atol=1e-12)


def test_weights_up_to_255_do_not_overflow():
    targets, scores = some_run(300, 3)
    weights = np.full((300, 2), 255, np.uint8)
    np.testing.assert_allclose(
        RankedRun(scores, targets).average_precision(weights)[0], average_precision(targets, scores), atol=1e-12
    )


def test_more_clips_than_two_bytes_can_count():
    rng = np.random.default_rng(0)
    targets = rng.random((70_000, 2)) < 0.01
    scores = (rng.normal(size=targets.shape) + 2 * targets).astype(np.float32)
    ap = RankedRun(scores, targets).average_precision(np.ones((70_000, 1), np.uint8))[0]
    np.testing.assert_allclose(ap, average_precision(targets, scores), atol=1e-12)


def test_resamples_are_the_same_for_whoever_asks():
    first, again = (np.concatenate(list(Resampler(50, MANY, seed=3).blocks()), axis=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (50, MANY)
    assert (first.sum(axis=0) == 50).all()
    assert not np.array_equal(first, np.concatenate(list(Resampler(50, MANY, seed=4).blocks()), axis=1))


def test_groups_are_taken_whole():
    groups = ["anna"] * 5 + ["ben"] * 3 + ["", ""]
    weights = np.concatenate(list(Resampler(10, 500, groups=groups).blocks()), axis=1)
    assert (weights[:5] == weights[0]).all()
    assert (weights[5:8] == weights[5]).all()
    assert (weights[8] != weights[9]).any(), "a clip without a group stands for itself"
    assert (weights[[0, 5, 8, 9]].sum(axis=0) == 4).all()


def statistics(targets, leaf, *runs):
    return [get_task("tagging").statistic(targets, scores, leaf) for scores in runs]


def test_means_over_seeds_and_the_spread_of_single_runs():
    targets, first = some_run(200, 6, seed=1)
    second = first + np.random.default_rng(2).normal(size=first.shape).astype(np.float32)
    leaf = np.array([True, True, True, False, False, False])
    resampler, seen = Resampler(200, 300), []
    of_first, of_second = statistics(targets, leaf, first, second)
    both = bootstrap({"both": {0: of_first, 1: of_second}}, resampler, lambda done, total: seen.append(done / total))
    alone = bootstrap({"first": {0: of_first}, "second": {0: of_second}}, resampler)
    assert seen[-1] == 1.0
    has = targets.any(axis=0)
    for name in ("map", "leaf_map", "lwlrap", "class_ap"):
        one, other, mean = alone["first"][name], alone["second"][name], both["both"][name]
        if name == "class_ap":
            one, other, mean = one.of(has), other.of(has), mean.of(has)
        np.testing.assert_allclose(mean.replicates, (one.replicates + other.replicates) / 2, atol=1e-6)
        np.testing.assert_allclose(mean.value, (one.value + other.value) / 2, atol=1e-12)
        expected = (np.nanvar(one.replicates, axis=0, ddof=1) + np.nanvar(other.replicates, axis=0, ddof=1)) / 2
        np.testing.assert_allclose(mean.run_variance, expected, rtol=1e-3, atol=1e-12)
    ap = average_precision(targets, first)
    assert alone["first"]["map"].value == pytest.approx(np.nanmean(ap))
    assert alone["first"]["leaf_map"].value == pytest.approx(np.nanmean(ap[leaf]))
    assert alone["first"]["lwlrap"].value == pytest.approx(lwlrap(targets, first))


def test_it_leaves_pytorchs_threads_alone():
    """Their number decides the last digits of a training, and a process may train after it has reported."""
    code = (
        "import torch, numpy as np; torch.set_num_threads(1); from bench.stats.bootstrap import Resampler, bootstrap;"
        "from bench.protocol.task import get_task; t = np.eye(20, dtype=bool).repeat(9, axis=0);"
        "of = get_task('tagging').statistic(t, np.random.rand(180, 20), np.ones(20, bool));"
        "bootstrap({'a': {0: of}}, Resampler(180, resamples=100)); print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
