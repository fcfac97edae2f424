"""Predictors of the next code that learn nothing, or only count: the floors under next-sample and next-code prediction.

A trained system that is no better than these has learned nothing that its last samples do not say by themselves. Each
predictor returns (w, 3) for w targets: bits (minus log2 of the probability that it gave the target; NaN of one that
gives none), whether the target is its first choice, and whether it is among its first five.

Windows are (w, context) codes, targets (w,) the code after each; `levels` (k,) are the amplitudes, ascending, that
codes 0 to k - 1 stand for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

__all__ = ["NGrams", "floors", "histogram", "last_value", "linear_prediction", "straight_line"]

Codes = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]

_TOP = 5
_TAPS = 32
# windows at a time: their products stay in the cache
_BLOCK = 16
# Of full scale: far less than a step of 8 bits, far more than the error of arithmetic.
_LEAST_SCALE = 1e-6
# below this share of the largest, an eigenvalue is the error of arithmetic
_RANK_TOLERANCE = 1e-12
# what NGrams try, in codes
_ALPHAS = tuple(2.0**i for i in range(-3, 13))


def floors(windows: Codes, targets: Codes, levels: Floats, counts: Codes) -> dict[str, Floats]:
    """Return all floors of next-sample prediction by name, (w, 3) each; `counts` (k,) are those of training codes."""
    return {
        "last_value": last_value(windows, targets, len(levels)),
        "straight_line": straight_line(windows, targets, levels),
        "linear_prediction": linear_prediction(windows, targets, levels),
        "histogram": histogram(counts, targets),
    }


def last_value(windows: Codes, targets: Codes, classes: int) -> Floats:
    """Predict that nothing changes: the last code, and the five codes nearest to it; no probabilities."""
    return _near(windows[:, -1].astype(np.int64), targets, classes)


def straight_line(windows: Codes, targets: Codes, levels: Floats) -> Floats:
    """Predict that the last step comes again: the code nearest to 2 x[-1] - x[-2], and the five codes nearest to it."""
    x = levels[windows[:, -2:]]
    return _near(np.searchsorted(_edges(levels), 2 * x[:, 1] - x[:, 0]), targets, len(levels))


def _near(centre: Codes, targets: Codes, classes: int) -> Floats:
    """Score a code and its neighbours, two to either side; at either end of the codes, the last five."""
    among = np.abs(np.clip(centre, _TOP // 2, classes - 1 - _TOP // 2) - targets) <= _TOP // 2
    return np.column_stack([np.full(len(targets), np.nan), centre == targets, among])


def linear_prediction(windows: Codes, targets: Codes, levels: Floats, taps: int = _TAPS) -> Floats:
    """Predict a weighted sum of the last `taps` samples, the weights being those that fit the window best.

    They minimise the squared error within the window (the covariance method; of several such weights, the smallest, as
    in silence). Around the prediction stands a Laplace distribution whose scale is the mean error within the window; a
    code has the probability of the amplitudes that are nearest to it. One sample in as many as the window has errors is
    taken to be anything at all: else one surprise after perfect silence would cost infinitely many bits. Raises
    ValueError for windows of two samples a tap or fewer, which as many weights fit without error whatever is in them.
    """
    if windows.shape[1] <= 2 * taps:
        raise ValueError(f"windows of {windows.shape[1]} samples are too short for {taps} taps")
    rows = windows.shape[1] - taps
    out = np.empty((len(windows), 3))
    for start in range(0, len(windows), _BLOCK):
        block = slice(start, start + _BLOCK)
        predicted, scale = _extrapolate(levels[windows[block]], taps)
        # so much is left to chance
        chance = 1 / (rows + 1)
        p = (1 - chance) * _laplace(predicted, scale, _edges(levels)) + chance / len(levels)
        # far away all codes have the same probability, and the nearer one is the better guess
        out[block] = _score(p, targets[block], np.abs(levels - predicted[:, None]))
    return out


def _extrapolate(x: Floats, taps: int) -> tuple[Floats, Floats]:
    """Return the next sample of each signal (w, n) as its own past predicts it, and its mean absolute error: (w,)."""
    # each sample behind those before it
    frames = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(x, taps + 1, axis=1))
    products = frames.transpose(0, 2, 1) @ frames
    inverse = np.linalg.pinv(products[:, :-1, :-1], _RANK_TOLERANCE, hermitian=True)
    weights = inverse @ products[:, :-1, -1:]
    error = np.abs(frames[:, :, -1] - (frames[:, :, :-1] @ weights)[:, :, 0]).mean(axis=1)
    return (x[:, None, -taps:] @ weights)[:, 0, 0], np.maximum(error, _LEAST_SCALE)


def _edges(levels: Floats) -> Floats:
    """Return the amplitudes halfway between codes: (k - 1,)."""
    return (levels[1:] + levels[:-1]) / 2


def _laplace(centre: Floats, scale: Floats, edges: Floats) -> Floats:
    """Return the probability of each code, from edge to edge, the first and the last without end: (w,) -> (w, k)."""
    z = (edges - centre[:, None]) / scale[:, None]
    tail = np.exp(-np.abs(z)) / 2
    below = np.where(z < 0, tail, 1 - tail)
    return np.diff(below, prepend=0, append=1)


def histogram(counts: Codes, targets: Codes) -> Floats:
    """Predict each code as often as it occurs in training: of its `counts` (k,), each taken to be one more."""
    p = (counts + 1) / (counts.sum() + len(counts))
    return _score(np.broadcast_to(p, (len(targets), len(p))), targets)


def _score(p: Floats, targets: Codes, tie: Floats | None = None) -> Floats:
    """Score the probabilities (w, k) of codes; of equal ones that of the lower `tie` is first, then the lower code."""
    row = np.arange(len(p))
    given = p[row, targets][:, None]
    before = np.arange(p.shape[1]) < targets[:, None]
    if tie is not None:
        of_target = tie[row, targets][:, None]
        before = (tie < of_target) | (tie == of_target) & before
    rank = ((p > given) | (p == given) & before).sum(axis=1)
    return np.column_stack([-np.log2(given), rank == 0, rank < _TOP])


class NGrams:
    """Counts of codes after none, one or two codes before them: unigrams, bigrams and trigrams.

    Where training has a context h n(h) times, and n(hc) times code c after it,

        P(c | h) = (n(hc) + a P(c | h')) / (n(h) + a),

    as if `a` more codes had followed, spread as the context h', shorter by its first code, predicts; before all, every
    code is as likely. The `a` of each order is that of the powers of two which predicts the training codes best, each
    left out in turn.
    """

    def __init__(self, clips: Sequence[Codes], classes: int, longest: int = 3) -> None:
        """Count codes of training clips, 0 to classes - 1, up to so many in a row."""
        self.classes = classes
        self.alphas: list[float] = []
        self._counts: list[csr_array] = []
        # the probability of each training code, were it not counted
        left_out = np.full(sum(map(len, clips)), 1 / classes)
        for order in range(1, longest + 1):
            context = np.concatenate([_contexts(clip, order, classes) for clip in clips])
            code = np.concatenate([clip[order - 1 :] for clip in clips])
            shape = (classes ** (order - 1), classes)
            self._counts.append(csr_array((np.ones(len(code)), (context, code)), shape))
            seen, of = _occurrences(context * classes + code), _occurrences(context)
            # the first codes of a clip have no such context
            place = np.concatenate([np.arange(len(clip)) >= order - 1 for clip in clips])
            choices = [_smoothed(seen - 1, of - 1, alpha, left_out[place]) for alpha in _ALPHAS]
            best = int(np.argmax([np.log(p).sum() for p in choices]))
            self.alphas.append(_ALPHAS[best])
            left_out[place] = choices[best]

    def score(self, clip: Codes, order: int) -> Floats:
        """Score each code of a clip (t,) by n-grams of an order, from 1: (t, 3). Its first codes have shorter ones."""
        p = np.full((len(clip), self.classes), 1 / self.classes)
        for number in range(order):
            begin = slice(number, None)
            counts = self._counts[number][_contexts(clip, number + 1, self.classes)].toarray()
            p[begin] = _smoothed(counts, counts.sum(axis=1, keepdims=True), self.alphas[number], p[begin])
        return _score(p, clip)


def _contexts(clip: Codes, order: int, classes: int) -> npt.NDArray[np.int64]:
    """Return the number of the order - 1 codes before each code of a clip that has them: (t,) -> (t - order + 1,)."""
    number = np.zeros(max(len(clip) - order + 1, 0), np.int64)
    for i in range(order - 1):
        number = number * classes + clip[i : i + len(number)]
    return number


def _occurrences(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how often each number occurs among all: (m,) -> (m,)."""
    _, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return counts[place]


def _smoothed(seen: npt.NDArray[Any], of: npt.NDArray[Any], alpha: float, shorter: Floats) -> Floats:
    return (seen + alpha * shorter) / (of + alpha)
