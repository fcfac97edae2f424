"""Text from outside (files, servers, names, messages) as it may be shown: nothing drives a terminal, no secret shows.

What is shown stays readable and can't act: it is the same text, with visible escapes in place of what acts.
"""

import re
from typing import TypeVar

__all__ = ["csv_cell", "csv_value", "hide_secrets", "printable"]

Value = TypeVar("Value")

# What a terminal, a pager or an editor obeys instead of showing it: control characters (C0, DEL, C1), marks that
# reorder or hide what follows (bidirectional, zero width, annotation, tags), Unicode's two line ends; and halves of
# surrogate pairs, which no encoding can write: Python makes them of the bytes of names that are not UTF-8.
_ACTS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_STARTS_URL = re.compile(r"(?<=\n)|(?<=\s)(?=[a-z][a-z0-9+.\-]{0,40}://)", re.IGNORECASE)
# In http a user name without a password is a token, as those of GitHub are used.
_TOKEN = re.compile(r"(https?://)[^\s/@:?#]+@", re.IGNORECASE)
# A value may be options by itself, with their signs escaped: ?odbc_connect=UID%3Dme%3BPWD%3Dpw
_SECRET = re.compile(
    r"((?:[?&;#+]|%3B|%20)[^=&;\s/@%]{0,60}?(?:pass|pwd|token|secret|key|sig|auth|cred)[^=&;\s/@%]{0,60}(?:=|%3D))([^&\s]*)",
    re.IGNORECASE,
)
# how a cell begins that spreadsheets compute, full-width signs included
_FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
_PUNCTUATION = "'\":;,.)"


def printable(text: str, *, lines: bool = False) -> str:
    r"""Show control characters, bidirectional marks, line ends and lone surrogates as escapes, such as \x1b.

    With `lines`, line feeds and tabs stay: for text of several lines that is ours, with names in it that are not.
    """
    return _ACTS.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    # what stands for a byte of a file's name, as os.fsdecode has it
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    # \n, \t, \r as everybody knows them; \u2028 and \U000e0001 by Python's rules
    return character.encode("unicode_escape").decode("ascii")


def hide_secrets(text: str) -> str:
    """Replace the passwords of all URLs in a text by ***: in the part before @, and in queries (password=, token=).

    A URL that is badly quoted (U:p/w@HOST, U:p w@HOST, U:p@w@HOST) has no certain end: then more is hidden rather than
    less, from the user's name to the last @ of the line or before the next URL.
    """
    return "".join(_hide(part) for part in _STARTS_URL.split(text)) if "://" in text else text


def _hide(part: str) -> str:
    before, scheme, rest = part.partition("://")
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    if at and colon:
        part = f"{before}{scheme}{user}:***@{host}"
    return _SECRET.sub(_starred, _TOKEN.sub(r"\1***@", part))


def _starred(found: re.Match[str]) -> str:
    name, value = found.groups()
    # punctuation at its end is that of the sentence around it
    return f"{name}***{value[len(value.rstrip(_PUNCTUATION)) :]}"


def csv_cell(value: Value) -> Value | str:
    """Return a value as a cell of a CSV file: text that a spreadsheet would compute gets a ' in front.

    So does text that begins as such a cell does, so that each comes back. Numbers stay as they are, those in text as
    well: -0.5.
    """
    if not isinstance(value, str) or not value.lstrip("'").startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def csv_value(cell: Value) -> Value | str:
    """Return what `csv_cell` made a cell of."""
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and cell.lstrip("'").startswith(_FORMULA) else cell
