"""Imports point one way, the rooms keep their rules, and a command imports only what it needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# from the ground up: a room may import from those before it, and from itself
ORDER = [
    "text", "errors", "jit", "schema", "renamed", "locks", "disk", "architectures", "stats", "data", "protocol",
    "store", "suites", "runner", "reporting", "searching", "inspect", "tracking", "api", "cli", "__main__",
]  # fmt: skip


def modules():
    for path in sorted([*ROOT.glob("bench/**/*.py"), *ROOT.glob("architectures/*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "bench":
            yield name, path


def room(module):
    return module.split(".")[1] if module.startswith("bench.") else module.split(".")[0]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


# a task hands its ranking to numba, which lives with the statistics; nothing else is behind a function for its place
@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value))
def test_imports_point_one_way(module, path):
    place = ORDER.index(room(module))
    for name in imported(path):
        if name.split(".")[0] in ("bench", "architectures") and name != "bench":
            assert ORDER.index(room(name)) <= place, f"{module} imports {name}"
            assert room(module) != "architectures" or room(name) == "architectures", f"{module} imports {name}"


@pytest.mark.parametrize("package", ["store", "stats", "reporting"])
def test_rooms_without_torch_have_none(package):
    names = [name for name, _ in modules() if room(name) == package]
    assert "torch" not in loaded("import " + ", ".join(names))


def loaded(code):
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["bench.protocol.metrics", "bench.suites.suite", "bench.data.download.fetch", "bench.api.results"]
)
def test_torch_is_not_needed_for(module):
    assert "torch" not in loaded(f"import {module}")


def test_help_imports_nothing_heavy():
    code = "import bench.cli\ntry:\n    sys.argv = ['bench', '--help']; bench.cli.main()\nexcept SystemExit: pass"
    heavy = {"torch", "pandas", "numpy", "pydantic", "matplotlib", "mlflow", "optuna", "sklearn", "numba"}
    assert not loaded(code) & heavy


def test_the_python_door_opens_to_each_of_its_names_and_no_room_takes_one():
    code = f"""
import importlib, bench
before = {{name: getattr(bench, name) for name in bench.__all__}}
for module in {[name for name, _ in modules() if room(name) != "__main__"]}:
    importlib.import_module(module)
assert all(getattr(bench, name) is value for name, value in before.items())
"""
    loaded(code)
    assert "torch" not in loaded("import bench")
