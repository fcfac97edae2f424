"""A run's model as MLflow keeps models: with signature and example, as a graph that loads without this project."""

import shutil
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pytorch
import numpy.typing as npt
import torch
from mlflow.models import Model, infer_signature
from torch import nn

import architectures
from bench.errors import one_line
from bench.protocol.spec import RunSpec
from bench.protocol.task import task_of
from bench.runner.weights import load_model
from bench.tracking.records import Record

__all__ = ["save_model"]

# what an architecture is made of
_PACKAGES = ("torch", "torchaudio", "timm", "numpy", "pydantic")


def save_model(record: Record, folder: Path) -> tuple[Path, str | None]:
    """Save a run's model, from inputs to logits; return where, and why it was pickled, if it was.

    Inputs are chunks (b, n), or what else its task has. UserError without weights, or with those of another
    architecture; OSError, ValueError or RuntimeError if it does not take two inputs, or cannot be written.
    """
    # trials keep no weights
    assert record.folder
    run = record.folder.record()
    model = load_model(record.folder, run, torch.device("cpu")).eval()
    # two: an exported graph would take a batch of one for a constant
    example = _example(run.spec)
    # before the export, whose symbolic tensors an architecture may cache
    with torch.no_grad():
        logits = task_of(run.spec).logits_of(model(torch.from_numpy(example))).numpy()
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


def _example(spec: RunSpec) -> npt.NDArray[Any]:
    """Return two inputs as the run's model takes them: chunks of sound (2, n), or codes (2, n)."""
    task, config = task_of(spec), spec.config
    x, _ = task.example(2, task.size(spec.recipe, config["sample_rate"]), config["num_classes"])
    return x.numpy()


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
