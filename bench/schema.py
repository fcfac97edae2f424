"""Typed values that are checked where they are made: a bad field is one line that names it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)

from bench.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def validated(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Build a model; what is wrong with the values becomes one line that names the field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(_explain(e, model) for e in error.errors()[:3])}") from None


def _explain(error: Any, model: type[BaseModel]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) if len(error["loc"]) == 1 else "see bench/suites for examples"
        return f"unknown field {field!r} (known: {known})"
    return f"{field}={error['input']!r}: {error['msg']}" if field else str(error["msg"])


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
