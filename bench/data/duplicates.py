"""Find copies of recordings in a pack, though they were made louder, cut, or compressed.

Clips that share words of their fingerprints are candidates, and the sounds of these are compared. Time grows with the
clips, not with their pairs: words that many clips share are no evidence, and each clip has few candidates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bench.data.dataset import Progress
from bench.data.fingerprint import FLIPS, HASHED, MATCHED, SHARED, Match, Sound, Words, match, sound, words
from bench.data.pack import Pack
from bench.data.threads import in_threads

__all__ = ["Duplicate", "find_duplicates"]

T = TypeVar("T")
R = TypeVar("R")
# Correlation of two copies, at least.
_ALIKE = 0.8
# Words that a candidate shares with a clip, at least, if that has as many; candidates of a clip, those that share most.
_VOTES, _CANDIDATES = 4, 3
# Seconds within which words say the same offset; a clip that has fewer words than this, such as a tone, tells none.
_BIN, _FEW = 0.032, 16
# Clips that may share a word before it counts as common.
_COMMON = 64
# Clips and pairs that a thread takes at a time, and clips that are looked up: frames of more of them leave the cache.
_TAKEN, _COMPARED, _LOOKED_UP = 8, 16, 4096


@dataclass(frozen=True)
class Duplicate:
    """Two clips that are, or seem to be, of one recording.

    Attributes:
        first, second: their keys, SPLIT/NAME.
        correlation: of what they have in common, 0 to 1.
        offset: seconds of the first before the second begins; negative where the second begins earlier.
        exact: whether they are the same to the sample.
    """

    first: str
    second: str
    correlation: float
    offset: float
    exact: bool

    @property
    def across(self) -> bool:
        """Whether they are in two splits."""
        return self.first.partition("/")[0] != self.second.partition("/")[0]


def find_duplicates(pack: Pack, progress: Progress = lambda *_: None) -> list[Duplicate]:
    """Return pairs of clips that are, or seem to be, of one recording, in the order of the pack.

    Of clips that are the same to the sample, the first is in a pair with each of the others, and each of them with what
    is like the first. `progress` takes work: half of it is fingerprints, half comparing.
    """
    sounds, copies = _Sounds(pack), _copies(pack)
    first = list(copies)
    half = len(first)
    found = _each(
        lambda part: words([sounds.at(clip, HASHED) for clip in part]),
        first,
        _TAKEN,
        lambda done: progress(done, 2 * half),
    )
    pairs = _candidates(found)

    def compare(pair: tuple[int, int, float]) -> Match | None:
        a, b, offset = pair
        of_a, of_b = (sounds.at(first[clip], MATCHED) for clip in (a, b))
        if len(of_b) <= len(of_a):
            return match(of_a, of_b, found[b].loudest, offset)
        value = match(of_b, of_a, found[a].loudest, -offset)
        return value and Match(value.correlation, -value.offset)

    matches = _each(
        lambda part: [*map(compare, part)],
        pairs,
        _COMPARED,
        lambda done: progress(half + half * done / len(pairs), 2 * half),
    )
    near = {
        (first[a], first[b]): value
        for (a, b, _), value in zip(pairs, matches, strict=True)
        if value is not None and value.correlation >= _ALIKE
    }
    return _listed(sounds.keys, copies, near)


class _Sounds:
    """The clips of a pack as they are compared: without what was repeated of those below a second."""

    def __init__(self, pack: Pack) -> None:
        index, self._rate = pack.index, pack.sample_rate
        self.keys: list[str] = (index["split"] + "/" + index["clip"]).tolist()
        lengths = np.minimum(index["length"], np.rint(index["seconds"] * self._rate).astype(np.int64))
        self._places = [*zip(index["split"], index["start"], index["start"] + lengths, strict=True)]
        self._arrays = {split: pack.samples(split) for split in set(index["split"])}

    def at(self, clip: int, sample_rate: int) -> Sound:
        """Return a clip at this rate."""
        split, start, end = self._places[clip]
        return sound(self._arrays[split][start:end], self._rate, sample_rate)


def _copies(pack: Pack) -> dict[int, list[int]]:
    """Return the first of all clips that are the same to the sample, and of each the others; of older packs, none."""
    hashes = pack.index.get("hash", pack.index.index)
    first: dict[object, int] = {}
    found: dict[int, list[int]] = {}
    for clip, value in enumerate(hashes):
        if (original := first.setdefault(value, clip)) == clip:
            found[clip] = []
        else:
            found[original].append(clip)
    return found


def _each(
    work: Callable[[Sequence[T]], list[R]], items: Sequence[T], size: int, report: Callable[[int], None]
) -> list[R]:
    """Do the work of `size` items at a time on all cores; `report` takes how many are done."""
    results: dict[int, list[R]] = {}
    parts = range(0, len(items), size)
    with in_threads(lambda start: (start, work(items[start : start + size])), parts) as done:
        for start, values in done:
            results[start] = values
            report(min(size * len(results), len(items)))
    return [value for start in parts for value in results[start]]


def _candidates(found: Sequence[Words]) -> list[tuple[int, int, float]]:
    """Return (a, b, seconds of a before b begins), a < b, of clips that may be alike; NaN where too few words tell."""
    sizes = np.array([len(of.codes) for of in found])
    if not sizes.sum():
        return []
    clips, values = np.repeat(np.arange(len(found)), sizes), np.concatenate([of.codes for of in found])
    starts, seconds = np.concatenate([of.starts for of in found]), np.array([of.seconds for of in found])
    order = np.argsort(values, kind="stable")
    table = values[order]
    ends = np.cumsum(sizes)
    pairs: dict[tuple[int, int], float] = {}
    for begin in range(0, len(found), _LOOKED_UP):
        part = slice(ends[begin] - sizes[begin], ends[min(begin + _LOOKED_UP, len(found)) - 1])
        asked = _variants(values[part], np.concatenate([of.weak for of in found[begin : begin + _LOOKED_UP]]))
        mine, theirs = _hits(asked, table)
        mine, theirs = mine + part.start, order[theirs]
        a, b, offsets = clips[mine], clips[theirs], starts[mine] - starts[theirs]
        short, long = np.minimum(seconds[a], seconds[b]), np.maximum(seconds[a], seconds[b])
        fits = (a != b) & (short >= SHARED * long)
        pairs |= _most_shared(a[fits], b[fits], offsets[fits], sizes)
    return [(a, b, offset) for (a, b), offset in sorted(pairs.items())]


def _variants(values: npt.NDArray[np.uint32], weak: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return each word with each choice of its weak bits turned: (w, 2 ** FLIPS)."""
    turned = np.arange(1 << FLIPS, dtype=np.uint32)[:, None] >> np.arange(FLIPS, dtype=np.uint32) & 1
    masks = (turned[None] << weak[:, None].astype(np.uint32)).sum(axis=2, dtype=np.uint32)
    return values[:, None] ^ masks


def _hits(
    asked: npt.NDArray[np.uint32], table: npt.NDArray[np.uint32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which row of `asked` has a word that is where in the ascending table, but for words that are common."""
    # in order, so that what is looked up next is near
    order = np.argsort(asked, axis=None)
    ordered = asked.ravel()[order]
    low, high = np.searchsorted(table, ordered, "left"), np.searchsorted(table, ordered, "right")
    count = np.where(high - low > _COMMON, 0, high - low)
    at = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    return np.repeat(order // asked.shape[1], count), at


def _most_shared(
    a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], offsets: npt.NDArray[np.float32], sizes: npt.NDArray[np.int64]
) -> dict[tuple[int, int], float]:
    """Return of each clip a the clips b that share most words with it, as pairs in order, and the offset most say."""
    keys, votes, offset = _counted(a * len(sizes) + b, offsets)
    a, b = np.divmod(keys, len(sizes))
    enough = votes >= np.minimum(_VOTES, sizes[a])
    a, b, votes, offset = a[enough], b[enough], votes[enough], offset[enough]
    offset[np.minimum(sizes[a], sizes[b]) < _FEW] = np.nan
    order = np.lexsort((b, -votes, a))
    a, b, offset = a[order], b[order], offset[order]
    # the place of each among those of its clip
    chosen = np.arange(len(a)) - np.searchsorted(a, a, "left") < _CANDIDATES
    rows = zip(a[chosen].tolist(), b[chosen].tolist(), offset[chosen].tolist(), strict=True)
    return {(x, y) if x < y else (y, x): t if x < y else -t for x, y, t in rows}


def _counted(
    keys: npt.NDArray[np.int64], offsets: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return each key once, how often it is there, and the mean of the offsets that most of it agree on."""
    bins = np.floor(offsets / _BIN).astype(np.int64)
    order = np.lexsort((bins, keys))
    keys, bins, offsets = keys[order], bins[order], offsets[order]
    begins = np.flatnonzero((np.diff(keys, prepend=-1) != 0) | (np.diff(bins, prepend=0) != 0))
    count = np.diff(begins, append=len(keys))
    mean = np.add.reduceat(offsets.astype(np.float64), begins) / count if len(begins) else np.zeros(0)
    # of each key, the bin that has most; the first one of several
    best = np.lexsort((-count, keys[begins]))
    found, votes = np.unique(keys, return_counts=True)
    first = best[np.searchsorted(keys[begins][best], found, "left")]
    return found, votes, mean[first]


def _listed(
    keys: Sequence[str], copies: Mapping[int, list[int]], near: Mapping[tuple[int, int], Match]
) -> list[Duplicate]:
    def rows() -> Iterator[tuple[int, int, Match, bool]]:
        for first, others in copies.items():
            yield from ((first, other, Match(1.0, 0.0), True) for other in others)
        for (a, b), value in near.items():
            for c, d in ((a, b), *((a, other) for other in copies[b]), *((other, b) for other in copies[a])):
                yield (c, d, value, False) if c < d else (d, c, Match(value.correlation, -value.offset), False)

    found = sorted(rows(), key=lambda row: row[:2])
    return [Duplicate(keys[a], keys[b], m.correlation, m.offset, exact) for a, b, m, exact in found]
