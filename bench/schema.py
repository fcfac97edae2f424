"""Typed values that are checked where they are made: a bad field is one line that names it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_jsonable_python

from bench.errors import UserError

__all__ = ["LATER", "Strict", "digest", "validated"]

Model = TypeVar("Model", bound=BaseModel)


# Annotated[..., LATER] marks a field that was added after runs had been kept; its default means 'as before'
LATER = object()


class Strict(BaseModel):
    """A frozen model that refuses unknown fields and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def identity(self) -> dict[str, Any]:
        """Return what a hash should cover, as JSON values.

        A field marked LATER is left out while it has its default, so that the hashes of runs that were made before
        the field existed stay what they are.
        """
        values = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if LATER in field.metadata and value == field.get_default(call_default_factory=True):
                continue
            values[name] = value.identity() if isinstance(value, Strict) else to_jsonable_python(value)
        return values


def validated(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Build a model from values; raise UserError with a line that names `where` and the field if one is wrong."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(_explain(e, model) for e in error.errors()[:3])}") from None


def _explain(error: Any, model: type[BaseModel]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) if len(error["loc"]) == 1 else "see bench/suites for examples"
        return f"unknown field {field!r} (known: {known})"
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{field}={error['input']!r}: {text}" if field else text


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
