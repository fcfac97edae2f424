"""Find copies of recordings in a pack, though they were made louder, cut, or compressed.

Clips that share words of their fingerprints are candidates, and the sounds of these are compared. Time grows with the
clips, not with their pairs: words that many clips share are no evidence, and each clip has few candidates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from bench.data.dataset import Progress
from bench.data.fingerprint import FLIPS, HASHED, MATCHED, SHARED, Match, Sound, Words, match, sound, words
from bench.data.pack import Pack
from bench.data.threads import in_threads
from bench.jit import compiled

__all__ = ["Duplicate", "find_duplicates"]

T = TypeVar("T")
R = TypeVar("R")
# Correlation of two copies, at least; and if one has fewer seconds, of which chance makes more alike.
_ALIKE, _SHORT, _ALIKE_SHORT = 0.8, 0.4, 0.87
# Words that say the same offset of a candidate, at least, or, where none is told, those that it shares with a clip, if
# that has as many; candidates of a clip, those for which most words speak.
_AGREEING, _SHARING, _CANDIDATES = 3, 4, 3
# Seconds within which offsets are the same; a clip that has fewer words than this, such as a tone, tells none.
_WITHIN, _FEW = 0.032, 16
# Clips that may share a word before it counts as common; bits by which words are found.
_COMMON, _PREFIX = 64, 16
# Clips and pairs that a thread takes at a time, and clips that are looked up.
_TAKEN, _COMPARED, _LOOKED_UP = 16, 32, 512


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
        lambda part: [words(sounds.at(clip, HASHED)) for clip in part],
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
        if value is not None and value.correlation >= _least(found[a], found[b])
    }
    return _listed(sounds.keys, copies, near)


class _Sounds:
    """The clips of a pack as they are compared: without what was repeated of those below a second."""

    def __init__(self, pack: Pack) -> None:
        index, self._rate = pack.index, pack.sample_rate
        self.keys: list[str] = (index["split"] + "/" + index["clip"]).tolist()
        lengths = np.minimum(index["length"], np.rint(index["seconds"] * self._rate).astype(np.int64))
        self._places = [*zip(index["split"], index["start"], index["start"] + lengths, strict=True)]
        # plain arrays of what is mapped, a part of which takes a tenth of the time
        self._arrays = {split: np.asarray(pack.samples(split)) for split in set(index["split"])}

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


class _Vocabulary(NamedTuple):
    """All words of all clips, in the order of clips, and the same in the order of words, without those that are common.

    Attributes:
        codes, weak, starts: (w,), (w, FLIPS), (w,), as those of Words.
        clips: (w,): whose they are.
        begins: (clips + 1,): where the words of each clip begin.
        seconds: (clips,).
        ordered: (v,): codes, ascending.
        places: (v,): where they are in `codes`.
        prefixes: where in `ordered` the codes begin that begin with each _PREFIX bits.
    """

    codes: npt.NDArray[np.uint32]
    weak: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.float32]
    clips: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    ordered: npt.NDArray[np.uint32]
    places: npt.NDArray[np.int64]
    prefixes: npt.NDArray[np.int64]


def _vocabulary(found: Sequence[Words]) -> _Vocabulary:
    sizes = np.array([len(of.codes) for of in found])
    codes = np.concatenate([of.codes for of in found])
    places = np.argsort(codes, kind="stable")
    ordered = codes[places]
    begins = np.flatnonzero(np.diff(ordered.astype(np.int64), prepend=-1))
    count = np.diff(begins, append=len(ordered))
    rare = np.repeat(count <= _COMMON, count)
    ordered, places = ordered[rare], places[rare]
    return _Vocabulary(
        codes=codes,
        weak=np.concatenate([of.weak for of in found]),
        starts=np.concatenate([of.starts for of in found]),
        clips=np.repeat(np.arange(len(found)), sizes),
        begins=np.concatenate([[0], np.cumsum(sizes)]),
        seconds=np.array([of.seconds for of in found]),
        ordered=ordered,
        places=places,
        prefixes=np.searchsorted(ordered >> 32 - _PREFIX, np.arange((1 << _PREFIX) + 1)),
    )


def _candidates(found: Sequence[Words]) -> list[tuple[int, int, float]]:
    """Return (a, b, seconds of a before b begins), a < b, of clips that may be alike; NaN where too few words tell."""
    if not found:
        return []
    vocabulary = _vocabulary(found)

    def look_up(part: Sequence[int]) -> list[tuple[int, int, float]]:
        a, b, offsets = _most_shared(vocabulary, part[0], part[-1] + 1)
        return [*zip(a.tolist(), b.tolist(), offsets.tolist(), strict=True)]

    rows = _each(look_up, range(len(found)), _LOOKED_UP, lambda _: None)
    # of the offsets that the two say of each other, the last one: the same every time
    pairs = {(a, b) if a < b else (b, a): offset if a < b else -offset for a, b, offset in rows}
    return [(a, b, offset) for (a, b), offset in sorted(pairs.items())]


@compiled(nogil=True)
def _most_shared(vocabulary, first, last):  # type: ignore[no-untyped-def]
    """Return (a, b, seconds of a before b begins): of each clip a from `first` to `last`, the clips most like it."""
    size = (vocabulary.begins[first + 1 : last + 1] - vocabulary.begins[first:last]).max() * (1 << FLIPS) * _COMMON
    clips, offsets = np.empty(size, np.int64), np.empty(size, np.float32)
    others, votes, means = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    rows, count = _CANDIDATES * (last - first), 0
    of_a, of_b, seconds = np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty(rows)
    for a in range(first, last):
        hits = _look_up(vocabulary, a, clips, offsets)
        order = np.argsort(clips[:hits])
        kept, begin = 0, 0
        while begin < hits:
            end = begin + 1
            while end < hits and clips[order[end]] == clips[order[begin]]:
                end += 1
            others[kept] = clips[order[begin]]
            votes[kept], means[kept] = _votes(vocabulary, a, others[kept], offsets[order[begin:end]])
            kept += votes[kept] > 0
            begin = end
        for _ in range(min(kept, _CANDIDATES)):
            i = votes[:kept].argmax()
            of_a[count], of_b[count], seconds[count], votes[i] = a, others[i], means[i], 0
            count += 1
    return of_a[:count], of_b[:count], seconds[:count]


@compiled(nogil=True)
def _look_up(vocabulary, a, clips, offsets):  # type: ignore[no-untyped-def]
    """Write which clips have a word of clip a, whichever way its weak bits are, and their offsets; return how many."""
    hits = 0
    for word in range(vocabulary.begins[a], vocabulary.begins[a + 1]):
        for turned in range(1 << FLIPS):
            code = vocabulary.codes[word]
            for flip in range(FLIPS):
                code ^= np.uint32((turned >> flip & 1) << vocabulary.weak[word, flip])
            prefix = code >> np.uint32(32 - _PREFIX)
            at, end = vocabulary.prefixes[prefix], vocabulary.prefixes[prefix + 1]
            beyond = end
            while at < beyond:
                middle = (at + beyond) // 2
                if vocabulary.ordered[middle] < code:
                    at = middle + 1
                else:
                    beyond = middle
            while at < end and vocabulary.ordered[at] == code:
                other = vocabulary.places[at]
                b = vocabulary.clips[other]
                short = min(vocabulary.seconds[a], vocabulary.seconds[b])
                if a != b and short >= SHARED * max(vocabulary.seconds[a], vocabulary.seconds[b]):
                    clips[hits], offsets[hits] = b, vocabulary.starts[word] - vocabulary.starts[other]
                    hits += 1
                at += 1
    return hits


@compiled(nogil=True)
def _votes(vocabulary, a, b, offsets):  # type: ignore[no-untyped-def]
    """Return how many of the offsets that words say speak for them, or 0 if too few do, and the mean of these."""
    of_a = vocabulary.begins[a + 1] - vocabulary.begins[a]
    if min(of_a, vocabulary.begins[b + 1] - vocabulary.begins[b]) < _FEW:
        return len(offsets) if len(offsets) >= min(of_a, _SHARING) else 0, np.nan
    most, mean = 0, 0.0
    for least in offsets:
        count, total = 0, 0.0
        for offset in offsets:
            if least <= offset <= least + _WITHIN:
                count += 1
                total += offset
        if count > most:
            most, mean = count, total / count
    return most if most >= _AGREEING else 0, mean


def _least(first: Words, second: Words) -> float:
    """Return the correlation of two copies, at least."""
    return _ALIKE if min(first.seconds, second.seconds) >= _SHORT else _ALIKE_SHORT


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
