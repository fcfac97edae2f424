"""Digests of source code that change when a number may change, and not when a comment or a docstring does."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["architecture_files", "protocol_files", "source_digest"]

_ROOT = Path(__file__).parents[2]


def source_digest(paths: Iterable[Path]) -> str:
    """Return a digest of what Python files do, however written: 16 hex digits, the same on every supported Python."""
    total = hashlib.sha256()
    for path in paths:
        tree = ast.parse(path.read_bytes(), str(path))
        total.update(json.dumps(_shape(tree), separators=(",", ":")).encode())
    return total.hexdigest()[:16]


def protocol_files(task_files: Iterable[Path]) -> list[Path]:
    """Return the files that decide the numbers of every architecture: the protocol's, and the task's."""
    return [*sorted((_ROOT / "bench" / "protocol").glob("*.py")), *task_files]


def architecture_files(module: Path) -> list[Path]:
    """Return an architecture's file and all layers that it imports; `_registry` and its like decide no number."""
    found = [module]
    # it grows while it is read
    for path in found:
        found += sorted(set(_imported_layers(path)) - set(found))
    return [module, *sorted(found[1:])]


def _imported_layers(path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            package, _, layer = name.partition(".")
            file = _ROOT / package / f"{layer}.py"
            if package == "architectures" and not layer.startswith("_") and file.is_file():
                yield file


def _shape(value: Any) -> Any:
    # not ast.dump: what that writes of the same code differs from Python to Python, as nodes gain fields
    if isinstance(value, ast.Constant):
        return [type(value.value).__name__, repr(value.value)]
    if isinstance(value, ast.JoinedStr):
        return ["JoinedStr", _merged(value.values)]
    if isinstance(value, ast.AST):
        fields = {name: _shape(field) for name, field in ast.iter_fields(value) if field not in (None, [])}
        if isinstance(value, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = 0 if ast.get_docstring(value, clean=False) is None else 1
            fields["body"] = [_shape(node) for node in value.body[first:]]
        return [type(value).__name__, fields]
    return [_shape(item) for item in value] if isinstance(value, list) else value


def _merged(values: list[ast.expr]) -> list[Any]:
    """Return the parts of an f-string; Pythons cut the text between its braces differently."""
    parts: list[Any] = []
    for value in values:
        shape = _shape(value)
        if not isinstance(value, ast.Constant):
            parts.append(shape)
        elif parts and isinstance(parts[-1], str):
            parts[-1] += str(value.value)
        elif value.value:
            parts.append(str(value.value))
    return parts
