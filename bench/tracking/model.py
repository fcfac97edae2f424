"""A run's model as MLflow keeps models: with signature and example, as a graph that loads without this project."""

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pytorch
import numpy as np
import torch
from mlflow.models import Model, infer_signature
from safetensors.torch import load_file
from torch import nn

import architectures
from bench.config import RunSpec
from bench.errors import one_line
from bench.tracking.records import Record

PACKAGES = ("torch", "torchaudio", "timm", "numpy", "pydantic")  # what a contestant is made of


def save_model(record: Record, folder: Path) -> tuple[Path, str | None]:
    """Save a run's model below `folder`; returns where, and why it had to be pickled, if it had.

    It takes chunks (b, n) of a second as float32 and returns logits (b, k).

    Raises:
        OSError, ValueError, RuntimeError, SafetensorError: no weights, or not those of this architecture.
    """
    model = _trained(record)
    # two chunks: an exported graph would take a batch of one for a constant
    example = np.zeros((2, record.spec["config"]["sample_rate"]), dtype=np.float32)
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
    code = [str(Path(path)) for path in architectures.__path__]
    return _save(model, folder / "pickle", serialization_format="pickle", code_paths=code, **options), reason


def _trained(record: Record) -> nn.Module:
    """The contestant with the weights of its run."""
    spec = RunSpec.model_validate(record.spec)
    model = architectures.create(spec.architecture, **spec.config)
    assert record.folder  # trials keep no weights
    model.load_state_dict(load_file(record.folder / "model.safetensors"))
    return model.eval()


def _save(model: nn.Module, path: Path, **options: Any) -> Path:
    saved = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # export warns of a GRU's weights, to which nothing is assigned
        mlflow.pytorch.save_model(model, path, mlflow_model=saved, **options)
    # an exported graph stays on the device that it was made on; MLflow would look for it on a GPU where there is one
    saved.flavors["python_function"]["config"]["device"] = "cpu"
    saved.save(str(path / "MLmodel"))
    return path
