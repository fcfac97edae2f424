"""Convolutions and transformers on the same terms: one data path, one protocol, one set of statistics.

    import bench

    bench.run("demo", only=["vgg_like"], seeds=2)

Everything is imported when it is first used: `import bench` takes no time.
"""

import importlib
import os
from typing import Any

# A thread of PyTorch's that waits for another one spins, for seconds if need be: with a second busy process that is
# time taken from the thread that is waited for, and a step takes several times as long. This many turns, then sleep;
# OpenMP reads it when torch is loaded, so it stands here. Whoever sets one of the two knows better.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_PLACES = {
    "UserError": "bench.errors",
    "compare": "bench.api.results",
    "cost": "bench.api.runs",
    "create": "architectures",
    "filters": "bench.api.models",
    "list_architectures": "architectures",
    "pack": "bench.api.datasets",
    "predict": "bench.api.models",
    "report": "bench.api.results",
    "run": "bench.api.runs",
    "search": "bench.api.runs",
}

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
