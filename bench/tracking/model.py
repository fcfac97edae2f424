"""A run's model as MLflow keeps models: with signature and example, as a graph that loads without this project."""

import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pytorch
import numpy as np
import torch
from mlflow.models import Model, infer_signature
from torch import nn

import architectures
from bench.errors import one_line
from bench.protocol.batches import chunk_size
from bench.runner.weights import load_model
from bench.tracking.records import Record

__all__ = ["save_model"]

# what an architecture is made of
_PACKAGES = ("torch", "torchaudio", "timm", "numpy", "pydantic")


def save_model(record: Record, folder: Path) -> tuple[Path, str | None]:
    """Save a run's model, from chunks (b, n) to logits (b, k); return where, and why it was pickled, if it was.

    UserError without weights, or with those of another architecture; OSError, ValueError or RuntimeError if it does not
    take two chunks, or cannot be written.
    """
    # trials keep no weights
    assert record.folder
    run = record.folder.record()
    model = load_model(record.folder, run, torch.device("cpu")).eval()
    # two chunks: an exported graph would take a batch of one for a constant
    example = np.zeros((2, chunk_size(run.spec.recipe, run.spec.config["sample_rate"])), dtype=np.float32)
    # before the export, whose symbolic tensors an architecture may cache
    with torch.no_grad():
        logits = model(torch.from_numpy(example)).numpy()
    options = {
        "signature": infer_signature(example, logits),
        "input_example": example,
        "pip_requirements": [f"{name}=={version(name)}" for name in _PACKAGES],
    }
    try:
        return _save(model, folder / "pt2", serialization_format="pt2", **options), None
    except Exception as error:  # torch.export raises nearly anything
        reason = f"{type(error).__name__}: {one_line(error)[:200]}"
    code = [*architectures.__path__, *_plugin(model, folder)]
    return _save(model, folder / "pickle", serialization_format="pickle", code_paths=code, **options), reason


def _plugin(model: nn.Module, folder: Path) -> list[str]:
    """Return the package or file of a plugin, which a pickle needs to be read; nothing for the project's models."""
    module = type(model).__module__
    root = architectures.plugin_root(module)
    # a file's module is not called as it is
    if root and not root.is_dir():
        root = Path(shutil.copyfile(root, folder / f"{module}.py"))
    return [str(root)] if root else []


def _save(model: nn.Module, path: Path, **options: Any) -> Path:
    saved = Model()
    # export warns of a GRU's weights, to which nothing is assigned
    with warnings.catch_warnings(action="ignore"):
        mlflow.pytorch.save_model(model, path, mlflow_model=saved, **options)
    # an exported graph stays on the device that it was made on; MLflow would look for it on a GPU where there is one
    saved.flavors["python_function"]["config"]["device"] = "cpu"
    saved.save(str(path / "MLmodel"))
    return path
