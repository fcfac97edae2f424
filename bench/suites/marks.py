"""Where a suite's settings come from: documented by a paper, second-hand, or inferred."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.renamed import current_name
from bench.schema import Line, Strict

__all__ = ["CHOICES", "Marks", "check_marks", "declared_keys"]

# what training and evaluation do without a field of [train] that says so: the optimiser's kind; which weights are kept;
# that a clip's last chunk ends with the clip
CHOICES = ("optimizer", "selection", "last_chunk")


def _with_current_names(table: Any) -> Any:
    return {current_name(key): value for key, value in table.items()} if isinstance(table, dict) else table


_Reasons = Annotated[dict[str, Line], BeforeValidator(_with_current_names)]


class Marks(Strict):
    """Sources of settings, by kind and setting: 'train.FIELD', 'sample_rate', or one of CHOICES.

    `documented` says where a paper gives a value. What rests on somebody else's account of it is `second_hand` (‡ in
    tables), what no source documents `inferred` (†). A setting is of one kind.
    """

    documented: _Reasons = {}
    second_hand: _Reasons = {}
    inferred: _Reasons = {}

    def marked_over(self, below: "Marks", declared: Collection[str] = ()) -> dict[str, dict[str, str]]:
        """Return these marks over those of `below`, by kind.

        What is `declared` here has another value than below, and what is marked here perhaps another kind: neither
        keeps the mark that it had.
        """
        own = {kind: getattr(self, kind) for kind in Marks.model_fields}
        gone = {*declared, *(key for marked in own.values() for key in marked)}
        return {
            kind: {key: reason for key, reason in getattr(below, kind).items() if key not in gone} | marked
            for kind, marked in own.items()
        }


def declared_keys(train: Collection[str], sample_rate: int | None = None) -> set[str]:
    """Return the settings, as marks name them, that recipe fields and a sample rate declare."""
    return {f"train.{field}" for field in train} | ({"sample_rate"} if sample_rate else set())


def check_marks(marks: Marks, where: str) -> None:
    """Raise UserError for marks of what is no setting, and for two kinds of one."""
    kinds: dict[str, str] = {}
    for kind in Marks.model_fields:
        marked: Mapping[str, str] = getattr(marks, kind)
        for key in marked:
            if not (key in CHOICES or key == "sample_rate" or _is_field(key)):
                raise UserError(
                    f"{where}: {kind} names {key!r}, which is no field of [train] (write train.FIELD), nor one of "
                    f"sample_rate, {', '.join(CHOICES)}"
                )
            if key in kinds:
                raise UserError(f"{where}: {key} is both {kinds[key]} and {kind}: leave one of the two out")
            kinds[key] = kind


def _is_field(key: str) -> bool:
    table, _, field = key.partition(".")
    return table == "train" and field in Recipe.model_fields
