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
from architectures._source import root_of
from bench.errors import one_line
from bench.protocol.batches import chunk_size
from bench.protocol.spec import RunSpec
from bench.runner.weights import load_model
from bench.tracking.records import Record

PACKAGES = ("torch", "torchaudio", "timm", "numpy", "pydantic")  # what a contestant is made of


def save_model(record: Record, folder: Path) -> tuple[Path, str | None]:
    """Save a run's model below `folder`; returns where, and why it had to be pickled, if it had.

    It takes chunks (b, n), as long as its recipe has them, as float32 and returns logits (b, k).

    Raises:
        UserError: no weights, or not those of this architecture.
        OSError, ValueError, RuntimeError: it does not take two chunks, or cannot be written.
    """
    assert record.folder  # trials keep no weights
    spec = RunSpec.model_validate(record.spec)
    model = load_model(record.folder, record.content, spec, torch.device("cpu")).eval()
    # two chunks: an exported graph would take a batch of one for a constant
    example = np.zeros((2, chunk_size(spec.recipe, spec.config["sample_rate"])), dtype=np.float32)
    with torch.no_grad():  # before the export, whose symbolic tensors a contestant may cache
        logits = model(torch.from_numpy(example)).numpy()
    options = {
        "signature": infer_signature(example, logits),
        "input_example": example,
        "pip_requirements": [f"{name}=={version(name)}" for name in PACKAGES],
    }
    try:
        return _save(model, folder / "pt2", serialization_format="pt2", **options), None
    except Exception as error:  # torch.export raises nearly anything
        reason = f"{type(error).__name__}: {one_line(error)[:200]}"
    code = [str(path) for path in _code(model, folder)]
    return _save(model, folder / "pickle", serialization_format="pickle", code_paths=code, **options), reason


def _code(model: nn.Module, folder: Path) -> list[Path]:
    """What a pickle needs to be read: the contestants, and where the model is from outside, its package or file."""
    inside, module = [Path(path) for path in architectures.__path__], type(model).__module__
    root = root_of(module)
    if root is None or root.is_dir():
        return [*inside, *([root] if root else [])]
    return [*inside, Path(shutil.copyfile(root, folder / f"{module}.py"))]  # a file's module is not called as it is


def _save(model: nn.Module, path: Path, **options: Any) -> Path:
    saved = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # export warns of a GRU's weights, to which nothing is assigned
        mlflow.pytorch.save_model(model, path, mlflow_model=saved, **options)
    # an exported graph stays on the device that it was made on; MLflow would look for it on a GPU where there is one
    saved.flavors["python_function"]["config"]["device"] = "cpu"
    saved.save(str(path / "MLmodel"))
    return path
