"""Which train clips keep their labels, where a recipe uses a share of them."""

import math
from collections import deque
from collections.abc import Container
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["labelled_clips"]

# clips of a class of which the next one is chosen
_TRIED = 32


def labelled_clips(targets: npt.NDArray[np.bool_], share: float, seed: int) -> npt.NDArray[np.int64]:
    """Return the clips whose labels are used, of targets (clips, k): their numbers, ascending, at least one.

    Smaller shares of a seed lie within its larger ones. Of every class about this share is among them, to a few clips,
    and of rare ones at least one, if there is room (cf. iterative stratification, Sechidis et al. 2011).
    """
    count = max(1, math.ceil(round(share * len(targets), 6)))
    return np.sort(_order(targets.shape, np.packbits(targets).tobytes(), seed)[:count])


# all runs of a seed ask for the same ones
@lru_cache(maxsize=4)
def _order(shape: tuple[int, int], packed: bytes, seed: int) -> npt.NDArray[np.int64]:
    """Return all clips in the order in which they are taken: the next one has the class that lacks most of its due."""
    clips, k = shape
    targets = np.unpackbits(np.frombuffer(packed, np.uint8), count=clips * k).reshape(shape).astype(bool)
    drawn = np.random.default_rng((seed, 2)).permutation(clips)
    waiting = [deque(drawn[targets[drawn, label]].tolist()) for label in range(k)]
    counts, taken = targets.sum(axis=0), np.zeros(k)
    # what is due to a class is 1 at least; of classes that lack as much, the rarest is next
    rarity, left = 1e-6 / (1 + counts), counts > 0
    # more than any class lacks: those without a clip go before all that have one
    first = 2.0 * clips
    order = dict[int, None]()
    while left.any():
        lacking = np.maximum(1, counts * (len(order) + 1) / clips) - taken
        label = int(np.where(left, lacking + rarity + first * (taken == 0), -np.inf).argmax())
        some = _first(waiting[label], order)
        left[label] = bool(some)
        if some:
            # that of which the other classes have the least too much
            clip = some[int((targets[some] @ np.maximum(0, 1 - lacking)).argmin())]
            order[clip] = None
            taken += targets[clip]
    # those without a label come last
    return np.array([*order, *(clip for clip in drawn.tolist() if clip not in order)], dtype=np.int64)


def _first(waiting: deque[int], order: Container[int]) -> list[int]:
    """Return the first few clips that wait and are not taken; those taken wait no more."""
    some: list[int] = []
    while waiting and len(some) < _TRIED:
        if (clip := waiting.popleft()) not in order:
            some.append(clip)
    waiting.extendleft(reversed(some))
    return some
