"""Architectures from outside this package: a Python file from anywhere, or an installed package."""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from architectures._registry import ConfigError, forget, get_architecture, list_architectures
from architectures._source import text_digest

_GROUP = "bench.architectures"


@dataclass(frozen=True)
class _File:
    """The text of a file that was run, and the names of the architectures that it registered."""

    text: bytes
    names: list[str]


# by the digest of their text
_loaded: dict[str, _File] = {}


def load_file(path: Path) -> list[str]:
    """Run a Python file, the same text only once, and return the names of the architectures that it registers.

    The module is named after the file and its text, so that a pickle finds its classes wherever that text was loaded.
    A file that does not run is a ConfigError with the line, and nothing of it is registered.
    """
    try:
        # a pipe or a device may never end
        if not (path.is_file() or path.is_dir()) and path.exists():
            raise ConfigError(f"{path}: is no plain file")
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    digest = text_digest(text)
    if digest not in _loaded:
        stem = re.sub(r"\W", "_", path.stem)
        _loaded[digest] = _File(text, _run(text, path, f"{stem}_{digest[:8]}"))
    return _loaded[digest].names


def source_text(digest: str) -> bytes | None:
    """Return the text that was loaded with this digest, whatever its file is by now; None if it came by no file."""
    file = _loaded.get(digest)
    return file.text if file else None


def _run(text: bytes, path: Path, name: str) -> list[str]:
    """Run a file's text as a module of this name; return the names of the architectures that it registers."""
    module = ModuleType(name)
    module.__file__ = str(path.resolve())
    # dataclasses and pickle look a class up by its module's name, the former while the file still runs
    sys.modules[name] = module
    before = set(list_architectures())
    try:
        # Not by importlib: it leaves a __pycache__ beside the user's file, and that cache goes by size and whole
        # seconds, so that a quick edit may be missed.
        with _no_silent_end():
            exec(compile(text, module.__file__, "exec"), module.__dict__)
    # whatever a file raises, such as SystemExit
    except BaseException as error:
        # all or nothing: what was registered before the error would come without the rest of its file
        del sys.modules[name]
        forget(set(list_architectures()) - before)
        if isinstance(error, KeyboardInterrupt):
            raise
        line = _line_in(module.__file__, error)
        raise ConfigError(f"{path}{f':{line}' if line else ''}: {format_error(error)}") from error
    return [entry for entry in list_architectures() if entry not in before]


@contextmanager
def _no_silent_end() -> Iterator[None]:
    """Raise SystemExit where a file would end the process at once, by os._exit or by becoming another program.

    The command would end with nothing said, and perhaps with exit code 0, as if all were done.
    """
    process, calls = os.getpid(), ("_exit", "execv", "execve")
    modules = [os, sys.modules[os.name]] if os.name in sys.modules else [os]
    found = {name: getattr(os, name) for name in calls}

    def refuse(name: str) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            # what a file starts, such as multiprocessing's workers, does end like this
            if os.getpid() != process:
                found[name](*arguments)
            # not the third, which is an environment
            raise SystemExit(f"os.{name}({', '.join(map(repr, arguments[:2]))})")

        return call

    try:
        for module, name in product(modules, calls):
            setattr(module, name, refuse(name))
        yield
    finally:
        for module, name in product(modules, calls):
            setattr(module, name, found[name])


@contextmanager
def contained() -> Iterator[None]:
    """Raise ConfigError where an architecture would end the process, by sys.exit, os._exit or otherwise."""
    with _no_silent_end():
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            # with its place in the file
            raise ConfigError(format_error(error)).with_traceback(error.__traceback__) from None


def load_installed() -> None:
    """Import the modules that installed packages name under the entry point group `bench.architectures`."""
    for point in entry_points(group=_GROUP):
        try:
            with _no_silent_end():
                importlib.import_module(point.module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # named, since it may have been installed for another purpose and breaks every command until it is gone
            package = point.dist.name if point.dist else point.name
            where = f"package {package}, entry point {point.name} = {point.value}"
            raise ConfigError(f"{where}: {format_error(error)}; fix or uninstall it") from error


def package_of(name: str) -> str:
    """Return the installed package that an architecture is from, with its version: 'sounds 1.0'; '' for others."""
    entry = get_architecture(name)
    # a class of ours may come with a config from outside
    tops = {of.__module__.partition(".")[0] for of in (entry.model, type(entry.config))}
    found = [point.dist for point in entry_points(group=_GROUP) if point.module.partition(".")[0] in tops]
    return f"{found[0].name} {found[0].version}" if found and found[0] else ""


def failure(name: str, error: BaseException) -> str:
    """Return an error that an architecture raised as one line, begun by the place in its file if it has one."""
    # authors look for the fault in their file: the traceback's last frame is mostly in torch
    file = sys.modules[get_architecture(name).model.__module__].__file__ or ""
    line = _line_in(file, error)
    return f"{Path(file).name}:{line}: {format_error(error)}" if line else format_error(error)


def format_error(error: BaseException) -> str:
    """Return an error as one line, without the place where it was raised."""
    try:
        text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    except Exception:
        # an error of a user's own class may not even say what it is
        text = ""
    # of torch, with the stack of its C++
    text = text.partition(" Exception raised from ")[0]
    return text if isinstance(error, ConfigError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def _line_in(file: str, error: BaseException) -> int | None:
    """Return the last line of a file that an error passed through, None if it passed through none."""
    # a file that does not parse has no frame; the error itself says where
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None
