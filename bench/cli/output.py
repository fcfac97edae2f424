"""What commands print: text for people, or with --json one document for programs."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

__all__ = ["print_json"]


def print_json(document: object) -> None:
    """Print one JSON document to stdout: paths as text, numpy's numbers as numbers, what is not finite as null."""
    typer.echo(json.dumps(_plain(document), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    # of numpy, arrays and their numbers
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
