"""What fields and options were called before: old files are read for good, old names are typed for one release more."""

import warnings
from collections.abc import Mapping
from typing import Any

from bench.errors import UserError

__all__ = ["OPTIONS", "current_name", "current_recipe", "warn_of_old_names"]

# of the command line
OPTIONS = {"--with": "--plugin"}
# of a recipe, and of its values
_FIELDS = {"updates": "max_steps", "test_hop_seconds": "eval_hop_seconds", "chunks": "crops"}
_VALUES = {("crops", "one"): "one_per_clip", ("aggregate", "scores"): "mean"}


def current_name(key: str) -> str:
    """Return what a recipe's field is called today; a `train.` before it stays."""
    field = key.removeprefix("train.")
    return key.removesuffix(field) + _FIELDS.get(field, field)


def current_recipe(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's fields under the names and with the values of today; others are left as they are."""
    current = {_FIELDS.get(name, name): value for name, value in fields.items()}
    return {
        name: _VALUES.get((name, value), value) if isinstance(value, str) else value for name, value in current.items()
    }


def warn_of_old_names(fields: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return `current_recipe`, with a FutureWarning for each old name or value; raise UserError for both names."""
    if twice := [f"{old} and {_FIELDS[old]}" for old in fields if _FIELDS.get(old) in fields]:
        raise UserError(f"{where}: {twice[0]} are the same field: leave out the first, which is its old name")
    current = current_recipe(fields)
    for (old, before), (new, now) in zip(fields.items(), current.items(), strict=True):
        # not by ==, which NaN is not to itself
        if old != new or before is not now:
            was, is_ = (f"{old} = {before!r}", f"{new} = {now!r}") if before is not now else (old, new)
            # addressed to who runs the command, not to who wrote the calling code
            warnings.warn(f"{where}: {was} is now {is_}; the old name goes with the next release", FutureWarning, 2)
    return current
