"""A figure's SVG as a part of a page: without what is a file's alone, and with ids that no other figure has."""

import base64
import re
from html import escape
from pathlib import Path

__all__ = ["data_uri", "inline_svg"]

# a declaration, a comment, what describes the file, and a style that would be the whole page's
_OF_A_FILE = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_ID = re.compile(r"""(\bid="|href="#|url\(#)([^")]+)""")
_ROOT = re.compile(r"<svg\b[^>]*>")
# of paths, in points: hundredths are more than a screen shows
_PATH = re.compile(r'(?<=\bd=")[^"]+')
_LONG = re.compile(r"(\.\d\d)\d+")


def data_uri(path: Path) -> str:
    """Return an SVG file as a URI that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def inline_svg(path: Path, prefix: str, label: str, description: str = "") -> str:
    """Return an SVG file as an element of a page.

    Args:
        path: one of this project's figures.
        prefix: what makes its ids unique.
        label: what a reader who can't see it is told.
        description: the id of what describes it, if there is any.
    """
    text = _OF_A_FILE.sub("", path.read_text("utf-8"))
    root = _ROOT.search(text)
    box = re.search(r'viewBox="[^"]*"', root[0]) if root else None
    if root is None or box is None:
        raise ValueError(f"{path}: no SVG with a viewBox")
    described = f' aria-describedby="{escape(description)}"' if description else ""
    body = _ID.sub(lambda found: f"{found[1]}{prefix}-{found[2]}", text[root.end() :])
    body = _PATH.sub(lambda found: _LONG.sub(r"\1", found[0]), body)
    # line ends are no more than spaces, but that there are many
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {namespaces} {box[0]} role="img" tabindex="0" aria-label="{escape(label)}"{described}>{body}'
