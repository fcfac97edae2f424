"""Where an architecture from outside this package lives, and a digest of its text: another text is another one."""

import hashlib
import sys
from pathlib import Path


def plugin_root(module: str) -> Path | None:
    """Return the file of a module from outside or, if it is part of a package, the package's folder; else None."""
    top = module.partition(".")[0]
    # the package before the module; a namespace package has no file, so that its module stands for itself
    for name in (top, module):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and top != __package__:
            path = Path(file)
            return path.parent if path.name == "__init__.py" else path
    return None


def text_digest(text: bytes) -> str:
    """Return what a text is known by: 16 hex digits."""
    return hashlib.sha256(text).hexdigest()[:16]


def source_of(module: str) -> str:
    """Return a digest of the module's file, or of all Python files of its package; '' for a module of this package."""
    # a model may be made of anything that its package holds, so all of it counts; ours have the digest of a run instead
    root = plugin_root(module)
    if root is None:
        return ""
    paths = [root] if root.is_file() else sorted(root.rglob("*.py"))
    return text_digest(b"".join(path.read_bytes() for path in paths))
