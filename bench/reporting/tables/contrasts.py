"""The table of declared contrasts."""

from collections.abc import Mapping
from typing import Any

from bench.reporting.analysis import Contrast
from bench.reporting.contrasts import WeighedContrast
from bench.reporting.tables.table import Column, Record, Table, claimed, difference, words

__all__ = ["contrast_table"]

_FIELD = "weighted_difference"


def contrast_table(contrasts: tuple[Contrast, ...], margin: float) -> Table:
    """Return a line a contrast, in the order in which they were declared, with equivalence within `margin`."""
    columns = (
        Column("contrast", "contrast", _named, numeric=False),
        words("question"),
        *difference("weighted difference", _FIELD, margin=margin),
    )
    return Table("contrasts", "Declared contrasts", columns, tuple(map(_record, contrasts)))


def _named(record: Record) -> str:
    """Return a contrast's name, and behind it the systems that were chosen for it."""
    return f"{record['contrast']} ({record['weights']})" if record["chosen"] else str(record["contrast"])


def _record(contrast: Contrast) -> dict[str, Any]:
    weighed, claim = contrast.weighed, contrast.claim
    record = {
        "contrast": weighed.planned.name,
        "question": weighed.planned.question or None,
        "weights": _sum(weighed.weights or _declared(weighed)),
        "chosen": ", ".join(f"{group}: {entry}" for group, entry in weighed.chosen.items()) or None,
        **claimed(claim, _FIELD),
        "generalises_to": claim.difference.scope if claim else None,
        "seeds_paired": f"{weighed.shared_seeds} of {weighed.most_seeds}" if claim else None,
    }
    return record | ({} if claim else {"verdict": f"not computed: {weighed.lacks}"})


def _declared(weighed: WeighedContrast) -> Mapping[str, float]:
    """Return the weights of one that was not computed, best ones by what they are the best of."""
    best = {f"best of {group}": choice.weight for group, choice in weighed.planned.best_of.items()}
    return weighed.planned.weights or best


def _sum(weights: Mapping[str, float]) -> str:
    """Return weights as they are written in a sum: 0.5 a + 0.5 b - c."""
    text = ""
    for name, weight in weights.items():
        sign = " - " if weight < 0 else " + "
        size = "" if abs(weight) == 1 else f"{abs(weight):.3g} "
        text += f"{sign}{size}{name}"
    return text.removeprefix(" + ").lstrip()
