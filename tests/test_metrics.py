"""Metrics against scikit-learn, ties included, and chance against every order there is."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    roc_auc_score,
)

from bench.protocol import metrics

RNG = np.random.default_rng(0)


def draw(clips, classes, decimals):
    targets = RNG.random((clips, classes)) < RNG.uniform(0.02, 0.5, classes)
    targets[0], targets[1] = True, False  # positives and negatives in every class
    scores = np.round(RNG.random((clips, classes)) + 0.3 * targets, decimals)
    return targets, scores


@pytest.mark.parametrize("decimals", [16, 2, 1, 0])  # from no ties to hardly anything else
@pytest.mark.parametrize("clips", [2, 50, 400])
def test_equal_to_scikit_learn(clips, decimals):
    targets, scores = draw(clips, 20, decimals)
    per_class = [(targets[:, k], scores[:, k]) for k in range(20)]
    ap = [average_precision_score(t, s) for t, s in per_class]
    np.testing.assert_allclose(metrics.average_precision(targets, scores), ap, rtol=1e-12)
    np.testing.assert_allclose(metrics.roc_auc(targets, scores), [roc_auc_score(t, s) for t, s in per_class])
    expected = label_ranking_average_precision_score(targets, scores, sample_weight=targets.sum(axis=1))
    assert metrics.lwlrap(targets, scores) == pytest.approx(expected, rel=1e-12)
    assert metrics.macro_map(targets, scores) == pytest.approx(np.mean(ap))


def test_classes_without_positives_are_left_out_and_counted():
    targets, scores = draw(60, 5, 16)
    targets[:, 3] = False
    values = metrics.evaluate(targets, scores, leaf=np.array([True, True, False, True, False]))
    ap = metrics.average_precision(targets, scores)
    assert np.isnan(ap[3])
    assert values["map"] == pytest.approx(ap[[0, 1, 2, 4]].mean())
    assert values["leaf_map"] == pytest.approx(ap[[0, 1]].mean())
    assert (values["classes_scored"], values["classes_left_out"]) == (4, 1)


def test_both_conventions_of_dprime():
    targets, scores = draw(300, 8, 16)
    auc = np.array([roc_auc_score(targets[:, k], scores[:, k]) for k in range(8)])
    values = metrics.evaluate(targets, scores, np.ones(8, bool))
    # d' of the FSD50K paper's figures: 2.167 at an AUC of .9372 (both from the normal distribution's tables)
    assert metrics.dprime(0.9372) == pytest.approx(2.167, abs=0.003)
    assert values["dprime_of_mean_auc"] == pytest.approx(metrics.dprime(auc.mean()))
    assert values["mean_dprime"] == pytest.approx(np.mean([metrics.dprime(a) for a in auc]))
    assert values["mean_dprime"] != pytest.approx(values["dprime_of_mean_auc"], abs=1e-6)


def test_a_perfect_class_has_a_finite_dprime():
    targets = np.array([[True], [False], [False]])
    assert metrics.class_dprime(targets, np.array([1.0]))[0] == pytest.approx(metrics.dprime(0.75))


@pytest.mark.parametrize("positives", [1, 2, 3, 6])
def test_chance_is_the_mean_over_all_orders(positives):
    targets = np.arange(6)[:, np.newaxis] < positives
    orders = np.array(list(permutations(range(6))), dtype=float)
    over_all = [metrics.average_precision(targets, order[:, np.newaxis])[0] for order in orders]
    assert metrics.chance_map(targets) == pytest.approx(np.mean(over_all), rel=1e-12)


def test_chance_is_not_the_prior():
    targets = RNG.random((164, 100)) < 0.03
    assert metrics.chance_map(targets) > 1.5 * targets.mean(axis=0)[targets.any(axis=0)].mean()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_must_be_finite(bad):
    targets, scores = draw(10, 3, 16)
    scores[3, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        metrics.evaluate(targets, scores, np.ones(3, bool))
