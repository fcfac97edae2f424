"""A contrast as the plan of a results folder keeps it, so that a report needs no suite."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from bench.schema import Strict, in_one_line
from bench.store.files import checked

__all__ = ["Choice", "ContrastName", "PlannedContrast", "check_weights", "read_contrasts"]

# in one line: it stands in tables, and in comments of suites
ContrastName = Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=80), AfterValidator(in_one_line)]


class Choice(Strict):
    """Entries of which the best on val is weighed."""

    weight: float
    # a list in TOML and JSON
    entries: Annotated[tuple[str, ...], Field(strict=False)] = ()


class PlannedContrast(Strict):
    """A weighted sum of systems, declared before any result was read; its weights sum to 0.

    The systems are given by their entries, with `weights`, or each as the best on val of several entries (`best_of`, by
    a name for these, such as their family).
    """

    name: ContrastName
    question: str = ""
    weights: dict[str, float] = {}
    best_of: dict[str, Choice] = {}

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.weights) == bool(self.best_of):
            raise ValueError("give either weights or best_of")
        if none := [group for group, choice in self.best_of.items() if not choice.entries]:
            raise ValueError(f"best_of {none[0]} has no entries")
        check_weights(self.weights or {group: choice.weight for group, choice in self.best_of.items()})
        return self

    @property
    def entries(self) -> tuple[str, ...]:
        """All entries that are needed, those among which the best is chosen included."""
        of_choices = [entry for choice in self.best_of.values() for entry in choice.entries]
        return tuple(self.weights) or tuple(of_choices)

    def renamed(self, names: Mapping[str, str]) -> "PlannedContrast":
        """Return the same of other entries, old name to new. Raises KeyError for an entry without a new name."""
        weights = {names[entry]: weight for entry, weight in self.weights.items()}
        best_of = {
            group: choice.model_copy(update={"entries": tuple(names[entry] for entry in choice.entries)})
            for group, choice in self.best_of.items()
        }
        return self.model_copy(update={"weights": weights, "best_of": best_of})

    def record(self) -> dict[str, Any]:
        """Return what suite.json has of it."""
        return self.model_dump(mode="json", exclude={"best_of" if self.weights else "weights"})


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise ValueError unless the weights are those of a contrast: none is 0, and they sum to 0."""
    if nothing := [name for name, weight in weights.items() if weight == 0]:
        raise ValueError(f"the weight of {nothing[0]} is 0: leave it out")
    total = math.fsum(weights.values())
    # a mean's 1 / n is rounded
    if abs(total) > 1e-9 * sum(map(abs, weights.values())):
        example = "one side against the other, as in { a = 1, b = -1 }"
        raise ValueError(f"the weights sum to {total:g}, and should to 0: {example}")


_CONTRASTS = TypeAdapter(tuple[PlannedContrast, ...])


def read_contrasts(values: Any, path: Path) -> tuple[PlannedContrast, ...]:
    """Return the contrasts that a file has under "contrasts". Raises UserError if they are damaged."""
    return checked(_CONTRASTS, values, path, within="contrasts")
