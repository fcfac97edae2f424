"""search.json: what the searches of a results folder came to, as far as reports read it."""

from typing import Any, NotRequired

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from bench.store.record import Amount, Count, MetricValue

__all__ = ["FOR_IMPORTANCE", "SEARCH"]

# Complete trials without which importance is noise: it is what separates the best tenth, of which there should be at
# least five, as Optuna's own notes on it say.
FOR_IMPORTANCE = 50


class _Result(TypedDict):
    """A recipe, and what it scored."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    name: str
    val_score: MetricValue
    # over fresh seeds, of what was chosen among finalists
    mean_val_score: NotRequired[MetricValue]
    params: dict[str, Any]
    recipe: dict[str, Any]


class _Finalist(TypedDict):
    """One of the best trials, trained anew on fresh seeds; no mean where one of these trainings failed."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    study: str
    trial: Count
    val_scores: list[MetricValue]
    mean_val_score: MetricValue
    seconds: Amount
    steps: Count


class _Entry(TypedDict):
    """The search of one entry; no recipe where none was tried to the end."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    entry: str
    finished: Count
    pruned: Count
    failed: Count
    seconds: Amount
    default: _Result | None
    best: _Result | None
    importance: dict[str, Amount]
    # which older records lack
    steps: NotRequired[Count]
    without_effect: NotRequired[list[str]]
    chosen_by: NotRequired[str]
    finalists: NotRequired[list[_Finalist]]


class _Search(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    title: str
    task: str
    budget: str
    space: dict[str, dict[str, Any]]
    entries: list[_Entry]


SEARCH: TypeAdapter[Any] = TypeAdapter(_Search)
