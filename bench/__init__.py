"""Convolutions and transformers on the same terms: one data path, one protocol, one set of statistics.

    import bench

    outcome = bench.run("demo", only=["vgg_like"], seeds=2)
    outcome.report.scores

Everything is imported when it is first used: `import bench` takes no time.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# A thread of PyTorch's that waits for another one spins, for seconds if need be: with a second busy process that is
# time taken from the thread that is waited for, and a step takes several times as long. This many turns, then sleep;
# OpenMP reads it when torch is loaded, so it stands here. Whoever sets one of the two knows better.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# for type checkers and editors, which do not see what is imported at its first use
if TYPE_CHECKING:
    from bench.api.datasets import duplicates, gallery, pack
    from bench.api.generation import generate
    from bench.api.growing import growth
    from bench.api.merging import merge
    from bench.api.models import (
        attention,
        compare_filters,
        create,
        filters,
        hardest,
        list_architectures,
        load,
        predict,
    )
    from bench.api.planning import plan
    from bench.api.reproduction import reproduce
    from bench.api.results import compare, report
    from bench.api.runs import cost, missing, run, search
    from bench.api.sounds import synth
    from bench.errors import UserError
    from bench.runner.display import Display

__all__ = [
    "Display", "UserError", "attention", "compare", "compare_filters", "cost", "create", "duplicates", "filters",
    "gallery", "generate", "growth", "hardest", "list_architectures", "load", "merge", "missing", "pack", "plan",
    "predict", "report", "reproduce", "run", "search", "synth",
]  # fmt: skip

_PLACES = {
    "bench.api.datasets": ("duplicates", "gallery", "pack"),
    "bench.api.generation": ("generate",),
    "bench.api.growing": ("growth",),
    "bench.api.merging": ("merge",),
    "bench.api.models": (
        "attention",
        "compare_filters",
        "create",
        "filters",
        "hardest",
        "list_architectures",
        "load",
        "predict",
    ),
    "bench.api.planning": ("plan",),
    "bench.api.reproduction": ("reproduce",),
    "bench.api.results": ("compare", "report"),
    "bench.api.runs": ("cost", "missing", "run", "search"),
    "bench.api.sounds": ("synth",),
    "bench.errors": ("UserError",),
    "bench.runner.display": ("Display",),
}


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("audio-cnn-transformer-bench")
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
