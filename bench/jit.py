"""Functions that numba compiles."""

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["compiled"]


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function, and keep the machine code for the next process where there is a place to write it."""

    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        # neither beside its file nor in the user's home: a read-only installation, run by a service
        except RuntimeError:
            return numba.njit(**options)(function)

    return compile_
