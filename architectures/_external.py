"""Architectures from outside this package: a Python file from anywhere, or an installed package."""

import hashlib
import importlib
import re
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from architectures._registry import ConfigError, forget, get_architecture, list_architectures

ENTRY_POINTS = "bench.architectures"
_loaded: dict[str, list[str]] = {}  # a file's module: the architectures that it registered


def load_file(path: Path) -> list[str]:
    """Run a Python file, and the same text only once; returns the architectures that it registers.

    Its module is called after file and text, so that a pickle finds its classes wherever that text was loaded.

    Raises:
        ConfigError: no such file, it does not run (with the line), a name in it is taken, or it registers nothing.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    stem = re.sub(r"\W", "_", path.stem)
    name = f"{stem}_{hashlib.sha256(text).hexdigest()[:8]}"
    if name not in _loaded:
        _loaded[name] = _run(name, path, text)
    if not _loaded[name]:
        raise ConfigError(f"{path}: registers no architecture; put @register(...) before a class")
    return _loaded[name]


def _run(name: str, path: Path, text: bytes) -> list[str]:
    module = ModuleType(name)
    module.__file__ = str(path.resolve())
    sys.modules[name] = module  # where dataclasses and pickle look for it
    before = set(list_architectures())
    try:
        # no importer's cache beside the file, which goes by size and seconds, so that a quick edit may be missed
        exec(compile(text, module.__file__, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        forget(set(list_architectures()) - before)
        line = line_in(module.__file__, error)
        raise ConfigError(f"{path}{f':{line}' if line else ''}: {told(error)}") from error
    return [name for name in list_architectures() if name not in before]


def load_installed() -> None:
    """Import what installed packages name under the entry point group `bench.architectures`.

    Raises:
        ConfigError: one does not import, or a name in it is taken.
    """
    for point in entry_points(group=ENTRY_POINTS):
        try:
            importlib.import_module(point.module)
        except (Exception, SystemExit) as error:
            package = point.dist.name if point.dist else point.name
            raise ConfigError(
                f"package {package}, entry point {point.name} = {point.value}: {told(error)}; mend or uninstall it"
            ) from error


def failure(name: str, error: BaseException) -> str:
    """What an architecture raised, in one line that begins with the place in its file, if that was passed."""
    file = sys.modules[get_architecture(name).model.__module__].__file__ or ""
    line = line_in(file, error)
    return f"{Path(file).name}:{line}: {told(error)}" if line else told(error)


def line_in(file: str, error: BaseException) -> int | None:
    """The last line of a file that an error passed on its way; None if it did not come from there."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None


def told(error: BaseException) -> str:
    """An error in one line, without the place."""
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return text if isinstance(error, ConfigError) else f"{type(error).__name__}: {text}"
