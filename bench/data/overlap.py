"""Recordings and uploaders that are in several splits: a model would be tested on what it was trained on, or nearly."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TypeVar

from bench.data.dataset import SPLITS, Clip

__all__ = ["across_splits", "same_recordings", "shared_groups"]

T = TypeVar("T")
# Enough to tell most recordings of one size apart.
_HEAD = 1 << 16


def across_splits(items: Iterable[tuple[Hashable, str, T]]) -> list[list[T]]:
    """Return the groups of items with one content that are in more than one split, of (content, split, item)."""
    found: dict[Hashable, list[tuple[str, T]]] = defaultdict(list)
    for content, split, item in items:
        found[content].append((split, item))
    return [[item for _, item in group] for group in found.values() if len({split for split, _ in group}) > 1]


def shared_groups(items: Iterable[tuple[str | None, str]]) -> dict[str, int]:
    """Return, of (group, split), how many groups there are ("all") and are in both of two splits ("train and eval").

    Empty where no group is known.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for group, split in items:
        if group is not None:
            splits[group].add(split)
    if not splits:
        return {}
    pairs = itertools.combinations(SPLITS, 2)
    return {"all": len(splits)} | {f"{a} and {b}": sum({a, b} <= of for of in splits.values()) for a, b in pairs}


def same_recordings(clips: Iterable[Clip]) -> list[list[Clip]]:
    """Return the groups of clips whose recordings are the same, byte for byte, in more than one split.

    Only recordings of one size are read, and of those only the ones that begin alike to their end.
    """
    groups = across_splits((clip.recording.stat().st_size, clip.split, clip) for clip in clips)
    alike = across_splits((_hash(clip, only_head=True), clip.split, clip) for clip in itertools.chain(*groups))
    return across_splits((_hash(clip), clip.split, clip) for clip in itertools.chain(*alike))


def _hash(clip: Clip, *, only_head: bool = False) -> bytes:
    found = hashlib.blake2b()
    with clip.recording.open("rb") as file:
        for part in iter(lambda: file.read(_HEAD), b""):
            found.update(part)
            if only_head:
                break
    return found.digest()
