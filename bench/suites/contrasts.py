"""Contrasts: what a suite asks of several entries together, declared before any result is read."""

import difflib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from bench.errors import UserError
from bench.schema import Line, Strict
from bench.store.contrasts import Choice, ContrastName, PlannedContrast, check_weights

__all__ = ["Contrast", "check_contrasts", "resolve"]


def _of_weight(value: Any) -> Any:
    return value if isinstance(value, dict | Choice) else {"weight": value}


class Contrast(Strict):
    """Systems weighed against each other; the weights sum to 0.

    Weighed are `entries`; or the mean of all entries of `families`; or `best_of` each family, or of entries that are
    named, the one that is best on val.
    """

    name: ContrastName
    question: Line = ""
    entries: dict[str, float] = {}
    families: dict[str, float] = {}
    best_of: dict[str, Annotated[Choice, BeforeValidator(_of_weight)]] = {}

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [self.entries, self.families, {group: choice.weight for group, choice in self.best_of.items()}]
        given = [weights for weights in kinds if weights]
        if len(given) != 1:
            raise ValueError(f"{self.name}: give either entries, or families, or best_of")
        try:
            check_weights(given[0])
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        for (one, first), (other, second) in combinations(self.best_of.items(), 2):
            if both := {*first.entries} & {*second.entries}:
                raise ValueError(f"{self.name}: {min(both)} is in best_of twice, as {one} and as {other}")
        return self

    @property
    def of_families(self) -> tuple[str, ...]:
        """The families whose entries are weighed."""
        return (*self.families, *(group for group, choice in self.best_of.items() if not choice.entries))


def check_contrasts(contrasts: Sequence[Contrast], families: Collection[str], where: str) -> None:
    """Raise UserError for two of one name, and for families that don't exist; entries are checked by `resolve`."""
    names = [contrast.name for contrast in contrasts]
    if twice := sorted(name for name, times in Counter(names).items() if times > 1):
        raise UserError(f"{where}: two are called {twice[0]!r}: each needs a name of its own")
    for contrast in contrasts:
        for family in contrast.of_families:
            if family not in families:
                raise UserError(f"{where} {contrast.name}: {_unknown('family', family, families)}")


def resolve(
    contrast: Contrast, entries: Mapping[str, Sequence[str]], families: Mapping[str, Sequence[str]], where: str
) -> PlannedContrast:
    """Return a contrast over the entries of a suite. Raises UserError for unknown ones, and for families without any.

    Args:
        entries: declared name to the names that it has in the plan, which are several where a grid crosses it.
        families: family to the names of its entries, those that are ablations left out.
    """
    where = f"{where} {contrast.name}"
    planned = [name for crossed in entries.values() for name in crossed]
    named = (*contrast.entries, *(entry for choice in contrast.best_of.values() for entry in choice.entries))
    for name in named:
        _check_entry(name, planned, entries, where)
    for family in contrast.of_families:
        if not families.get(family):
            raise UserError(f"{where}: the suite has no entry of family {family!r} that is no ablation")
    weights = dict(contrast.entries)
    for family, weight in contrast.families.items():
        weights |= dict.fromkeys(families[family], weight / len(families[family]))
    best_of = {
        group: choice if choice.entries else Choice(weight=choice.weight, entries=tuple(families[group]))
        for group, choice in contrast.best_of.items()
    }
    return PlannedContrast(name=contrast.name, question=contrast.question, weights=weights, best_of=best_of)


def _check_entry(name: str, planned: Collection[str], entries: Mapping[str, Sequence[str]], where: str) -> None:
    if name in planned:
        return
    if name in entries:
        raise UserError(f"{where}: [grid] makes several entries of {name!r}: name these, such as {entries[name][0]!r}")
    raise UserError(f"{where}: {_unknown('entry of this suite', name, planned)}")


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name!r} is no {what}" + (f" (did you mean {near[0]!r}?)" if near else f": use {', '.join(known)}")
