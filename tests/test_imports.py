"""Imports point one way, and a command imports only what it needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# a module may import from lower layers only, and within its own folder
LAYERS = [
    ["architectures", "bench.errors"],
    ["bench.suites.suite", "bench.disk"],
    ["bench.searching.study"],
    [
        "bench.data",
        "bench.protocol.metrics",
        "bench.stats.bootstrap",
        "bench.runner.cost",
        "bench.runner.provenance",
        "bench.protocol.precision",
    ],
    ["bench.stats"],
    [
        "bench.protocol.evaluate",
        "bench.protocol.augment",
        "bench.protocol.cuda_graphs",
        "bench.protocol.stack",
        "bench.reporting",
    ],
    ["bench.protocol.train"],
    ["bench.runner.run", "bench.runner.overfit", "bench.cli.progress"],
    ["bench.runner.weights"],
    [
        "bench.runner.executor",
        "bench.inspect.filters",
        "bench.inspect.predict",
        "benchmarks.simulation",
        "bench.searching.search",
        "bench.tracking",
    ],
    ["bench.runner.estimate"],
    ["bench.searching.record"],
    ["benchmarks"],
    ["bench.api"],
    ["bench.cli"],
]


def layer(module):
    places = [i for i, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}.")]
    return places[0] if places else None


def modules():
    for path in sorted([*ROOT.glob("bench/**/*.py"), *ROOT.glob("architectures/*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("bench", "bench.__main__"):
            yield name, path


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value))
def test_imports_point_one_way(module, path):
    own = layer(module)
    assert own is not None, f"{module} stands in no layer: add it to LAYERS"
    folder = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in names:
            target = layer(name)
            if target is None or (folder != "bench" and name.startswith(folder)) or name.startswith(module):
                continue
            if module.startswith("architectures"):
                assert name.startswith("architectures"), f"{module} imports {name}: it must know nothing of bench"
            assert target < own, f"{module} imports {name}"


def loaded(code):
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "bench.protocol.metrics",
        "bench.reporting",
        "bench.reporting.figures.tags",
        "bench.suites.suite",
        "bench.data.audio",
        "bench.data.download.fetch",
    ],
)
def test_tables_are_made_without_torch(module):
    assert "torch" not in loaded(f"import {module}")


def test_help_imports_nothing_heavy():
    code = "import bench.cli\ntry:\n    sys.argv = ['bench', '--help']; bench.cli.main()\nexcept SystemExit: pass"
    heavy = {"torch", "pandas", "numpy", "pydantic", "matplotlib", "mlflow", "optuna", "sklearn", "numba"}
    assert not loaded(code) & heavy
