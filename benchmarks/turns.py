"""Two ways to do the same work, timed in turns: A B A B ..., so that what else the machine does meets both alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Turns", "Work", "clock", "in_turns", "median_seconds", "medians_in_turns"]

# ends when its result is there: on an accelerator, it waits
Work = Callable[[], object]


@dataclass(frozen=True)
class Turns:
    """Seconds of each turn of the other way and of ours."""

    other: list[float]
    ours: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours was, turn by turn, in ascending order."""
        return sorted(a / b for a, b in zip(self.other, self.ours, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Of the ratios; with fewer than four turns, their ends."""
        if len(self.ratios) < 4:
            return self.ratios[0], self.ratios[-1]
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, high

    def per_unit(self, other: int, ours: int) -> "Turns":
        """Return the seconds for one of the units that a turn of each does several of."""
        return Turns([s / other for s in self.other], [s / ours for s in self.ours])


def in_turns(other: Work, ours: Work, *, seconds: float, least: int = 3, most: int = 50, pause: float = 0.0) -> Turns:
    """Do each once untimed, then time them by turns for about `seconds` in all.

    Args:
        least, most: how many turns there are of each.
        pause: seconds before each of our turns, for what the other leaves running.
    """
    other()
    ours()
    turns = Turns([], [])
    end = time.perf_counter() + seconds
    while len(turns.ours) < most and (len(turns.ours) < least or time.perf_counter() < end):
        turns.other.append(clock(other))
        time.sleep(pause)
        turns.ours.append(clock(ours))
    return turns


def medians_in_turns(works: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """Do each of several once untimed, then all of them in turns; return the median seconds of each."""
    for work in works.values():
        work()
    taken = [{name: clock(work) for name, work in works.items()} for _ in range(rounds)]
    return {name: statistics.median(turn[name] for turn in taken) for name in works}


def clock(work: Work) -> float:
    """Return the seconds that some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median_seconds(work: Work, repeats: int = 5) -> float:
    """Return the median of several times, after the work was done once untimed."""
    work()
    return statistics.median(clock(work) for _ in range(repeats))
