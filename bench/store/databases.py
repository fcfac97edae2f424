"""Databases in files: the URLs by which libraries open them."""

from pathlib import Path

from sqlalchemy.engine import URL

from bench.errors import UserError

__all__ = ["sqlite_url"]


def sqlite_url(path: Path) -> URL:
    """Return the URL of a database in a file, whatever its path holds. Raises UserError if it is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: a path that is not UTF-8 can't hold a database; choose another folder") from None
    # absolute, since a relative one might begin as SQLite's own URIs do
    return URL.create("sqlite", database=str(path.absolute()))
