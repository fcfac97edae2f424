"""Files of users, and the device they want."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError
from bench.protocol.task import tasks_of

if TYPE_CHECKING:
    import torch

__all__ = ["Paths", "device_of", "listed", "load_plugins", "paths_of"]

# of a user: one, or several
Paths = str | Path | Sequence[str | Path]


def listed(given: Paths) -> Sequence[str | Path]:
    """Return several paths as they are, and a single one as a list."""
    return [given] if isinstance(given, str | Path) else given


def paths_of(given: Paths) -> list[Path]:
    """Return one or several paths as a list of Path."""
    return [Path(path) for path in listed(given)]


def load_plugins(plugins: Sequence[Path] = ()) -> list[str]:
    """Run files, and return the architectures that they register; raise UserError if one fails or registers nothing."""
    found = []
    for path in plugins:
        # here, since a slip in a file of the project's own architectures is met by this import
        try:
            from architectures import load_file

            names = load_file(path)
        except ValueError as error:
            raise UserError(str(error)) from error
        if not names and not tasks_of(path):
            raise UserError(f"{path}: registers no architecture and no task; put @register(...) before a class")
        found += names
    return found


def device_of(name: str) -> "torch.device":
    """Return a device by its name; auto is a GPU where there is one. Raises UserError if it can't be used."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # read, since meta holds no numbers
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0][:200]}") from None
    return torch.device(name)
