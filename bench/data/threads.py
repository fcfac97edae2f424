"""Work on many items at a time. Threads are enough: libsndfile, soxr, zlib and numpy release the lock."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["in_threads"]

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[Iterator[R]]:
    """Do the work on all cores; gives its results as they come."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield (future.result() for future in as_completed([pool.submit(work, item) for item in items]))
    # what is queued is dropped, so that an interrupt waits for a few items, not for thousands
    finally:
        pool.shutdown(cancel_futures=True)
