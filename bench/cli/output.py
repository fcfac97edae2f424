"""What commands print: text for people, or with --json one document for programs. Nothing else prints."""

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from bench.disk import machine_fault
from bench.text import hide_secrets, printable

__all__ = ["echo", "flush", "print_json"]


def echo(text: object, *, err: bool = False, lines: bool = False, nl: bool = True) -> None:
    """Print a line to stdout or stderr, whatever is in it: nothing of it drives the terminal, and no password shows.

    A name with a line's end in it would look like two; `lines` is for text that has several of its own.
    """
    _write(printable(hide_secrets(str(text)), lines=lines), err=err, nl=nl)


def print_json(document: object) -> None:
    """Print one JSON document to stdout: paths as text, numpy's numbers as numbers, what is not finite as null."""
    # in ASCII, so that nothing in it drives a terminal
    _write(json.dumps(_plain(document), indent=2, allow_nan=False))


def flush() -> None:
    """Write what is still in the buffers. Raises MachineFault if it does not fit onto the disk."""
    _write("", nl=False)


def _write(text: str, *, err: bool = False, nl: bool = True) -> None:
    # typer flushes after each text
    try:
        typer.echo(text, err=err, nl=nl)
    except OSError as error:
        _drop_output()
        # what reads has seen enough, as `head` does, or a log is full: the work counts more than its echo, and goes on
        if not (err or isinstance(error, BrokenPipeError)):
            raise machine_fault(error, Path("standard output")) or error from None


def _drop_output() -> None:
    """Send to nowhere what cannot be written, else it fails anew at every line, and once more as Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, str | Path):
        return hide_secrets(str(value))
    # of numpy, arrays and their numbers
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
