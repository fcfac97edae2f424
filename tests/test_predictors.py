"""Floors of next-sample and next-code prediction, against libraries, plain recomputation and known entropies."""

import numpy as np
import pytest
import scipy.linalg

from bench.protocol.sounds.coding import CODINGS
from bench.stats.predictors import NGrams, floors, histogram, last_value, linear_prediction, straight_line

MU_LAW, LINEAR = CODINGS["mu_law"], CODINGS["linear"]


def cut(samples, count, context=400, coding=LINEAR):
    """Return `count` windows of codes and the code after each, at even places of a sound in [-1, 1]."""
    codes = coding.encode(np.rint(32767 * samples).astype(np.int16))
    starts = np.linspace(0, len(codes) - context - 1, count).astype(int)
    frames = codes[starts[:, None] + np.arange(context + 1)]
    return frames[:, :-1], frames[:, -1]


def notes(seconds=1.0, seed=0):
    """Return three decaying sines and a little noise."""
    rng, time = np.random.default_rng(seed), np.arange(int(16_000 * seconds)) / 16_000
    tones = sum(np.sin(2 * np.pi * f * time + f) for f in (220.0, 277.2, 1318.5))
    return 0.2 * np.exp(-time) * tones + 0.004 * rng.standard_normal(len(time))


@pytest.mark.parametrize("coding", [MU_LAW, LINEAR], ids=lambda coding: coding.name)
def test_linear_prediction_is_that_of_scipy(coding):
    """Weights by scipy, probabilities by quadrature of the density, ranks by sorting: all of it once more."""
    windows, targets = cut(notes(), 12, coding=coding)
    found = linear_prediction(windows, targets, coding.levels)
    edges = np.concatenate([[-np.inf], (coding.levels[1:] + coding.levels[:-1]) / 2, [np.inf]])
    for window, target, (bits, top1, top5) in zip(windows, targets, found, strict=True):
        x = coding.levels[window]
        past = np.array([x[t - 32 : t] for t in range(32, len(x))])
        weights, *_ = scipy.linalg.lstsq(past, x[32:])
        scale = np.abs(x[32:] - past @ weights).mean()
        cells = np.diff(scipy.stats.laplace.cdf(edges, x[-32:] @ weights, scale))
        p = (1 - 1 / 369) * cells + 1 / 369 / 256
        assert bits == pytest.approx(-np.log2(p[target]), abs=1e-6)
        best = np.argsort(-p, kind="stable")
        assert (top1, top5) == (target == best[0], target in best[:5])


def test_bits_of_what_repeats_go_to_zero():
    period = np.random.default_rng(0).uniform(-0.9, 0.9, 25)
    windows, targets = cut(np.tile(period, 100), 20, context=1600)
    bits, top1, _ = linear_prediction(windows, targets, LINEAR.levels).T
    assert bits.max() < 0.01
    assert top1.all()


def test_no_predictor_beats_the_entropy_of_independent_codes():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 256, (3000, 201))
    counts = np.bincount(rng.integers(0, 256, 100_000), minlength=256)
    for name, found in floors(codes[:, :-1], codes[:, -1], LINEAR.levels, counts).items():
        bits, top1, top5 = found.mean(axis=0)
        assert np.isnan(bits) or bits > 7.99, name
        assert top5 == pytest.approx(5 / 256, abs=0.01), name
        assert top1 < 0.01, name


def test_noise_of_known_coefficients_costs_its_innovations():
    """An autoregressive process can't be predicted better than to its white noise, and is predicted nearly as well."""
    rng = np.random.default_rng(2)
    noise = 0.05 * rng.laplace(size=40_000)
    sound = scipy.signal.lfilter([1], [1, -1.6, 0.81], noise)
    sound *= 0.9 / np.abs(sound).max()
    windows, targets = cut(sound, 800, context=1600)
    scale = np.abs(scipy.signal.lfilter([1, -1.6, 0.81], [1], sound)).mean()
    # of a Laplace distribution, less the width of a code
    entropy = np.log2(2 * np.e * scale) - np.log2(1 / 128)
    assert linear_prediction(windows, targets, LINEAR.levels)[:, 0].mean() == pytest.approx(entropy, abs=0.12)


def test_the_last_value_and_the_straight_line():
    windows = np.array([[10, 20], [10, 20], [10, 20], [255, 255], [0, 1]])
    found = last_value(windows, np.array([20, 22, 23, 251, 4]), 256)
    assert np.isnan(found[:, 0]).all()
    assert found[:, 1].tolist() == [1, 0, 0, 0, 0]
    # at the ends there are five codes, too
    assert found[:, 2].tolist() == [1, 1, 0, 1, 1]
    found = straight_line(windows, np.array([30, 28, 33, 255, 2]), LINEAR.levels)
    assert found[:, 1].tolist() == [1, 0, 0, 1, 1]
    assert found[:, 2].tolist() == [1, 1, 0, 1, 1]


def test_the_straight_line_is_one_of_amplitudes():
    # of mu-law codes, equal steps are no equal amplitudes
    codes = MU_LAW.encode(np.array([[1000, 4000, 7000]], np.int16))
    assert straight_line(codes[:, :2], codes[:, 2], MU_LAW.levels)[0, 1] == 1
    assert 2 * int(codes[0, 1]) - int(codes[0, 0]) != codes[0, 2]


@pytest.mark.parametrize("coding", [MU_LAW, LINEAR], ids=lambda coding: coding.name)
@pytest.mark.parametrize("code", [0, 128, 255])
def test_silence_costs_nothing_and_a_surprise_after_it_is_finite(coding, code):
    windows = np.full((2, 1600), code, np.uint8)
    bits, top1, top5 = linear_prediction(windows, np.array([code, 100], np.uint8), coding.levels).T
    assert bits[0] < 0.001
    assert (top1[0], top5[0]) == (1, 1)
    assert 18 < bits[1] < 19


def test_clipped_and_nearly_periodic_windows_have_finite_bits():
    time = np.arange(6000)
    clipped = np.clip(3 * np.sin(2 * np.pi * time / 40), -1, 1)
    mixed = np.where(time % 800 < 700, 0, 0.5)
    for sound in clipped, mixed:
        found = linear_prediction(*cut(sound, 100, context=1600), LINEAR.levels)
        assert np.isfinite(found).all()
        assert found[:, 0].mean() < 1


def test_what_is_far_from_the_prediction_is_ranked_by_distance():
    windows, targets = np.full((3, 100), 128), np.array([129, 130, 131])
    assert linear_prediction(windows, targets, LINEAR.levels)[:, 2].tolist() == [1, 1, 0]


def test_windows_too_short_are_refused():
    with pytest.raises(ValueError, match="windows of 64 samples are too short for 32 taps"):
        linear_prediction(np.zeros((1, 64), np.uint8), np.zeros(1, np.uint8), LINEAR.levels)


def test_histogram():
    bits, top1, top5 = histogram(np.array([5, 2, 2, 0, 0, 0, 1]), np.array([0, 2, 4, 3, 6])).T
    assert bits == pytest.approx(-np.log2(np.array([6, 3, 1, 1, 2]) / 17))
    assert top1.tolist() == [1, 0, 0, 0, 0]
    # of equal counts the lower code is first
    assert top5.tolist() == [1, 1, 0, 1, 1]


def test_800_windows_take_two_seconds_at_most():
    import time

    windows, targets = cut(notes(2.0), 800, context=1600, coding=MU_LAW)
    start = time.process_time()
    floors(windows, targets, MU_LAW.levels, np.ones(256, int))
    assert time.process_time() - start < 8  # measured: a second; machines are slower


# --- counts of codes


def test_n_grams_are_their_formula():
    clips, clip = [np.array([0, 1, 0, 1, 2]), np.array([1, 0, 1])], np.array([0, 1, 2, 0])
    grams = NGrams(clips, 3)
    a, b, c = grams.alphas
    one = (np.array([3, 4, 1]) + a / 3) / (8 + a)
    after = {0: np.array([0, 3, 0]), 1: np.array([2, 0, 1]), 2: np.zeros(3)}
    two = {h: (n + b * one) / (n.sum() + b) for h, n in after.items()}
    # 0 1 was followed by 0 and by 2; 1 2 never
    three = [one[0], two[0][1], (np.array([1, 0, 1]) + c * two[1])[2] / (2 + c), two[2][0]]
    assert grams.score(clip, 1)[:, 0] == pytest.approx(-np.log2(one[clip]))
    assert grams.score(clip, 2)[:, 0] == pytest.approx(-np.log2([one[0], two[0][1], two[1][2], two[2][0]]))
    assert grams.score(clip, 3)[:, 0] == pytest.approx(-np.log2(three))
    assert grams.score(clip, 1)[:, 1].tolist() == [0, 1, 0, 0]


def test_each_order_knows_what_the_shorter_one_cannot():
    rng = np.random.default_rng(0)
    # c[t] = c[t - 1] + c[t - 2] mod 16, with a tenth of noise
    clips = []
    for _ in range(40):
        codes = rng.integers(0, 16, 300)
        for t in range(2, 300):
            if rng.uniform() < 0.9:
                codes[t] = (codes[t - 1] + codes[t - 2]) % 16
        clips.append(codes)
    grams = NGrams(clips[:30], 16)
    uni, bi, tri = (
        np.concatenate([grams.score(clip, order) for clip in clips[30:]]).mean(axis=0) for order in (1, 2, 3)
    )
    assert uni[0] == pytest.approx(4, abs=0.1)
    # pairs say nothing here, and cost next to nothing
    assert bi[0] == pytest.approx(4, abs=0.1)
    assert tri[0] < 1.5
    assert tri[1] > 0.85


def test_n_grams_of_independent_codes_cost_no_less_than_their_entropy_and_hardly_more():
    rng = np.random.default_rng(0)
    grams = NGrams([rng.integers(0, 64, 500) for _ in range(20)], 64)
    clip = rng.integers(0, 64, 5000)
    for order in 1, 2, 3:
        assert 5.99 < grams.score(clip, order)[:, 0].mean() < 6.1


def test_clips_of_one_code_have_no_context():
    grams = NGrams([np.array([1]), np.array([1, 0])], 2)
    assert grams.score(np.array([1]), 3)[0, 1] == 1
    assert np.isfinite(grams.score(np.array([0]), 3)).all()
