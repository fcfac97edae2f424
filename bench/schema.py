"""Typed values that are checked where they are made: a bad field is one line that names it."""

import hashlib
import json
from collections.abc import Mapping
from reprlib import Repr
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

from bench.errors import UserError
from bench.text import printable

__all__ = ["LATER", "Line", "Strict", "digest", "in_one_line", "validated"]

Model = TypeVar("Model", bound=BaseModel)

# of a value that is at fault, as much as a line has room for
_SHOWN = Repr()
_SHOWN.maxlevel, _SHOWN.maxlist, _SHOWN.maxtuple, _SHOWN.maxdict = 3, 8, 8, 4
_SHOWN.maxstring = _SHOWN.maxlong = _SHOWN.maxother = 100


def in_one_line(text: str) -> str:
    """Return a text, or raise ValueError if it is none that stands in tables, figures and lines of output."""
    if text != printable(text):
        raise ValueError("should be one line, of characters that can be shown")
    return text


Line = Annotated[str, Field(max_length=1000), AfterValidator(in_one_line)]

# Annotated[..., LATER] marks a field that was added after runs had been kept; its default means 'as before'
LATER = object()


class Strict(BaseModel):
    """A frozen model that refuses unknown fields, numbers that are not finite, and values of other types.

    A whole number is also a float; but neither is `true` a number, nor a text that looks like one, nor 3.0 whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

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
    # from Python, numbers may be numpy's
    plain = {name: value.item() if _is_numpys(value) else value for name, value in values.items()}
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(_explain(e, model) for e in error.errors()[:3])}") from None


def _explain(error: Any, model: type[BaseModel]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = (", ".join(model.model_fields) or "none") if len(error["loc"]) == 1 else "see bench/suites for examples"
        return f"unknown field {field!r} (known: {known})"
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{field}={_SHOWN.repr(error['input'])}: {text}" if field else text


def _is_numpys(value: Any) -> bool:
    return type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
