"""What a search may change, and what it may spend."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, model_validator

from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.schema import Strict, validated

__all__ = ["Budget", "Dimension", "check_space"]

# what a trial costs, and what its learning curve is read at, must be the same for all trials of a search
_NOT_SEARCHED = (
    "max_steps", "evaluations", "precision", "channels_last", "compile",
    "chunk_seconds", "hop_seconds", "eval_hop_seconds", "crops", "aggregate",
)  # fmt: skip


# a list in TOML; each of them is tried before anything trains
Choices = Annotated[tuple[bool | int | float | str, ...], Field(min_length=2, max_length=100, strict=False)]


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
    """What each search may spend: finished trials, or hours of compute measured over all workers."""

    trials: Annotated[int, Field(gt=0, le=100_000)] | None = None
    hours: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.trials is None) == (self.hours is None):
            raise ValueError("give either trials or hours")
        return self

    def __str__(self) -> str:
        return f"{self.trials} trials" if self.trials else f"{self.hours:g} hours of compute"


def check_space(space: Mapping[str, Dimension], where: str) -> None:
    """Raise UserError if a recipe field is not searched or out of range; architectures' are checked where known."""
    for name, dimension in space.items():
        if name in _NOT_SEARCHED:
            raise UserError(f"{where}: {name} is the same for all trials; set it in [train]")
        for value in dimension.samples if name in Recipe.model_fields else ():
            validated(Recipe, {name: value}, where)
