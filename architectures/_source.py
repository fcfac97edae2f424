"""The text that an architecture from outside this package is made of: another text is another contestant."""

import hashlib
import sys
from pathlib import Path

INSIDE = __name__.partition(".")[0]


def root_of(module: str) -> Path | None:
    """The file of a module from outside or, where it is part of a package, that package's folder; else None."""
    top = module.partition(".")[0]
    for name in (top, module):  # a namespace package has no file
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and top != INSIDE:
            path = Path(file)
            return path.parent if path.name == "__init__.py" else path
    return None


def source_of(module: str) -> str:
    """A digest of the module's file, or of all Python files of its package; '' for a module of this package."""
    root = root_of(module)
    if root is None:
        return ""
    paths = [root] if root.is_file() else sorted(root.rglob("*.py"))
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()[:16]
