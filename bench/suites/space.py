"""What a search may change, and what it may spend."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, model_validator

from bench.errors import UserError
from bench.protocol.recipe import SCORING, Recipe
from bench.schema import Strict, validated

__all__ = ["Budget", "Dimension", "check_space"]

# what a trial costs, and what its learning curve is read at, must be the same for all trials of a search
_NOT_SEARCHED = (
    "max_steps", "evaluations", "precision", "channels_last", "compile",
    "chunk_seconds", "short_clips", "hop_seconds", "crops", *SCORING,
)  # fmt: skip


_MOST_CHOICES = 100
# a list in TOML; each of them is tried before anything trains
Choices = Annotated[tuple[bool | int | float | str, ...], Field(min_length=2, max_length=_MOST_CHOICES, strict=False)]


class Dimension(Strict):
    """What a search may choose one field from: a range, even or even in the logarithm, or a list of values."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: Choices | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("either low and high, or choices")
            if twice := [choice for place, choice in enumerate(self.choices) if choice in self.choices[:place]]:
                raise ValueError(f"{twice[0]!r} is among the choices twice: leave one out")
        elif self.low is None or self.high is None or not 0 < self.high - self.low < math.inf:
            raise ValueError("write {low = .., high = ..}, low below high, or {choices = [..]}")
        elif self.log and self.low <= 0:
            raise ValueError("with log, low must be above 0")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that are allowed if all of the dimension is."""
        return self.choices or (self.low, self.high)

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that show what a search may choose: all choices, or the ends and a value between them."""
        if self.choices is not None:
            return self.choices
        low, high = self.ends
        # no whole number but by chance, so that a field of whole numbers does not pass by its ends
        between = low * (high / low) ** 0.381966 if self.log else low + 0.381966 * (high - low)
        return low, between, high

    def holds(self, value: Any) -> bool:
        """Return whether a value is one that the search may choose."""
        if self.choices is not None:
            return any(
                value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices
            )
        low, high = self.ends
        return isinstance(value, int | float) and not isinstance(value, bool) and bool(low <= value <= high)


class Budget(Strict):
    """What each search may spend, by one measure, and how its winner is chosen.

    `trials` that ended; `steps` of training over all trials, each counted as one of the default recipe's batch, so that
    a trial that is not pruned takes `max_steps` of them whatever batch it drew; or `hours` of compute over all workers.
    The best `finalists` of the trials are trained anew, on `finalist_seeds` seeds each, beside the budget.
    """

    trials: Annotated[int, Field(gt=0, le=100_000)] | None = None
    steps: Annotated[int, Field(gt=0, le=1_000_000_000)] | None = None
    hours: PositiveFloat | None = None
    finalists: Annotated[int, Field(gt=0, le=100)] = 3
    finalist_seeds: Annotated[int, Field(gt=0, le=100)] = 3

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if sum(measure is not None for measure in (self.trials, self.steps, self.hours)) != 1:
            raise ValueError("give one of trials, steps and hours")
        if self.retrainings > _MOST_CHOICES:
            fix = f"at most {_MOST_CHOICES} can: fewer finalists or finalist_seeds"
            raise ValueError(f"{self.retrainings} trainings would choose the winner, {fix}")
        return self

    @property
    def retrainings(self) -> int:
        """How many trainings choose the winner, at most."""
        finalists = min(self.finalists, self.trials or self.finalists)
        return finalists * self.finalist_seeds if finalists > 1 else 0

    def full_trials(self, max_steps: int) -> float:
        """Return how many trials of so many steps it pays for; 0 where hours are the measure."""
        return self.trials or (self.steps or 0) / max_steps

    @property
    def name(self) -> str:
        """What names of entries say of it."""
        if self.hours:
            return f"in_{self.hours:g}h"
        return f"of_{self.trials}" if self.trials else f"at_{self.steps}"

    def __str__(self) -> str:
        if self.hours:
            return f"{self.hours:g} hours of compute"
        return f"{self.trials} trials" if self.trials else f"{self.steps} steps"


def check_space(space: Mapping[str, Dimension], where: str) -> None:
    """Raise UserError if a recipe field is not searched or out of range; architectures' are checked where known."""
    for name, dimension in space.items():
        if name in _NOT_SEARCHED:
            raise UserError(f"{where}: {name} is the same for all trials; set it in [train]")
        for value in dimension.samples if name in Recipe.model_fields else ():
            validated(Recipe, {name: value}, where)
