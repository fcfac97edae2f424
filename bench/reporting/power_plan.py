"""What `bench plan` says: seeds, clips and hours for differences that vary like those of a pilot."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bench.reporting.planning import SEEDS, Pilot, Question, Record, Spread, answers
from bench.stats.inference import LEVEL, SHARED_SEEDS_NEEDED

__all__ = ["PowerPlan"]


@dataclass(frozen=True, repr=False)
class PowerPlan:
    """What a suite needs to find a difference; it shows itself in a notebook."""

    title: str
    # of the metric
    label: str
    question: Question
    # how differences vary in a pilot, or the stated one by itself
    pilot: Pilot
    # what is tested at once to how many that is: 'pairs' to 28
    families: Mapping[str, int]
    # of training, of one seed of every entry; None where they are not known
    hours: float | None = None
    # on what all that rests, line by line
    notes: tuple[str, ...] = ()

    @cached_property
    def records(self) -> list[Record]:
        """A record a line of `table`; numbers are whole where they count, None is 'not known' or 'nothing suffices'."""
        found = self._lines(1, self.pilot.pairs) + self._lines(1, self.pilot.contrasts, each=True)
        for name, m in self.families.items():
            # contrasts that the pilot does not have vary as other differences do
            own = self.pilot.contrasts if name == "contrasts" else ()
            if m > 1:
                found += self._lines(m, own or self.pilot.pairs, each=bool(own), name=name)
        return found

    def _lines(self, m: int, spreads: Sequence[Spread], *, each: bool = False, name: str = "") -> list[Record]:
        """Return the answers on differences, each or summed up, where one of `m` is tested."""
        found = [answers(spread, self.question, LEVEL / m) for spread in spreads]
        lines = dict(zip((spread.name for spread in spreads), found, strict=True))
        if len(found) > 1 and not each:
            ways: dict[str, Callable[[Sequence[float]], float]] = {"median": np.median, "largest": np.max}
            lines = {f"{way} of {len(found)}": _over(found, how) for way, how in ways.items()}
        tested = {"tested_as": f"one of {m} {name}" if name else "a single comparison", "level": LEVEL / m}
        return [{"difference": name, **tested, **line, "hours": self._hours(line)} for name, line in lines.items()]

    def _hours(self, line: Record) -> float | None:
        return None if self.hours is None or line["seeds_needed"] is None else self.hours * line["seeds_needed"]

    @property
    def table(self) -> pd.DataFrame:
        """A row a kind of difference and of test: level, standard deviations, power, seeds, smallest, clips, hours."""
        return pd.DataFrame(self.records)

    def __repr__(self) -> str:
        question = self.question
        heading = (
            f"{self.title}: to find a difference of {question.difference:g} in {self.label} with a chance of "
            f"{question.power:.0%}, at {question.clips:,} eval clips"
        )
        columns = [[header, *map(text, self.records)] for header, text in self._columns.items()]
        lines = map("  ".join, zip(*map(_aligned, columns), strict=True))
        return "\n".join([heading, "", *(line.rstrip() for line in lines), "", *self._legend, *self.notes])

    def _repr_html_(self) -> str:
        return str(self.table.to_html(index=False, border=0, float_format="{:.4g}".format))

    @property
    def _is_shown(self) -> bool:
        """Whether the variance of seeds is one that a pilot showed, and not a stated one."""
        return any(spread.upper is not None for spread in self.pilot.pairs)

    @property
    def _columns(self) -> dict[str, Callable[[Record], str]]:
        columns = {
            "difference": _text("difference", "{}"),
            "tested as": _text("tested_as", "{}"),
            "seed sd": _text("seed_sd", "{:.4f}"),
            "clip sd": _text("clip_sd", "{:.4f}"),
            f"power with {self.question.seeds}": _text("power", "{:.0%}"),
            "seeds": _text("seeds_needed", "{:,}"),
            "cautious": _text("seeds_needed_cautious", "{:,}"),
            **{f"at {n} seeds": _text(f"smallest_{n}", "{:.4f}") for n in SEEDS},
            "clips": _text("clips_needed", "{:,}"),
            "hours": _text("hours", "{:.3g}"),
        }
        unknown = {"cautious": not self._is_shown, "hours": self.hours is None}
        return {header: text for header, text in columns.items() if not unknown.get(header)}

    @property
    def _legend(self) -> list[str]:
        seeds = self.question.seeds
        lines = [
            f"seeds: needed, {SHARED_SEEDS_NEEDED} at least; -: more seeds alone do not suffice, as where clips vary "
            "by too much.",
            f"at {', '.join(map(str, SEEDS))} seeds: the smallest difference that so many find with that chance.",
        ]
        if self._is_shown:
            lines.append(
                "cautious: seeds needed where their variance is as high as it may be, with a confidence of 80%; few "
                "seeds say little of it."
            )
        if seeds < SHARED_SEEDS_NEEDED:
            lines.append(
                f"clips: not told for {seeds} seed{'s' * (seeds > 1)}, of which no claim generalises; use --seeds 3 or "
                "more."
            )
        else:
            lines.append(f"clips: needed with {seeds} seeds; -: more clips alone do not suffice.")
        for name, m in self.families.items():
            if m > 1:
                lines.append(f"one of {m} {name}: at p of {LEVEL}/{m} = {LEVEL / m:.2g}, the most that Holm asks.")
        return lines


def _over(found: Sequence[Record], how: Callable[[Sequence[float]], float]) -> Record:
    """Return one number for each field of several answers; what nothing suffices for counts as infinite."""
    return {name: _one(name, [each[name] for each in found], how) for name in found[0]}


def _one(name: str, values: Sequence[float | None], how: Callable[[Sequence[float]], float]) -> float | int | None:
    # the hardest to find is the one that has the least power
    sign = -1 if name == "power" else 1
    value = sign * float(how([math.inf if value is None else sign * value for value in values]))
    if not math.isfinite(value):
        return None
    return math.ceil(value) if "needed" in name else value


def _aligned(column: Sequence[str]) -> list[str]:
    """Return cells of one width: numbers to the right."""
    width, is_text = max(map(len, column)), column[0] in ("difference", "tested as")
    return [cell.ljust(width) if is_text else cell.rjust(width) for cell in column]


def _text(field: str, pattern: str) -> Callable[[Record], str]:
    return lambda record: "-" if record[field] is None else pattern.format(record[field])
