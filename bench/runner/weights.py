"""A finished run as the model that it trained."""

import glob
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from architectures import ConfigError
from bench.errors import UserError, one_line
from bench.protocol.build import build
from bench.protocol.spec import RunSpec
from bench.schema import validated


def find_run(path: Path) -> Path:
    """A run's folder, given as it is or by how its name begins: results/demo/crnn-s0, or results/demo/crnn.

    Raises:
        UserError: no finished run begins like this, or several do.
    """
    if path.is_dir():
        return path
    found = sorted(run.parent for run in path.parent.glob(f"{glob.escape(path.name)}-*/run.json"))
    if not found:
        raise UserError(f"{path}: no finished run; give a run folder, such as results/NAME/RUN")
    if len(found) > 1:
        known = ", ".join(folder.name for folder in found[:5]) + (", ..." if len(found) > 5 else "")
        raise UserError(f"{path}: {len(found)} runs begin like this; name one of {known}")
    return found[0]


def read_run(folder: Path) -> tuple[dict[str, Any], RunSpec]:
    """A finished run's record and spec. Raises UserError."""
    path = folder / "run.json"
    if not path.is_file():
        raise UserError(f"{folder}: no finished run (no run.json); give a run folder, such as results/NAME/RUN")
    try:
        run = json.loads(path.read_text("utf-8"))
        str(run["provenance"]["command"])
        return run, validated(RunSpec, run["spec"], f"{path}, spec")
    except (ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{path}: damaged ({what}); remove the folder and run the suite again") from None


def load_model(folder: Path, run: Mapping[str, Any], spec: RunSpec, device: torch.device) -> nn.Module:
    """The contestant with the weights of its run.

    Args:
        run: the record in `folder`, and `spec` what it holds, as `read_run` gives them.

    Raises:
        UserError: no or damaged weights, or an architecture that is not registered or has other fields now.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        # the run is finished by its run.json, and would be skipped
        raise UserError(
            f"{path}: no weights (they stay on the machine that trained, git does not keep them); "
            f"move the folder away and {_make_again(run)}"
        )
    try:
        model = build(spec, device)
    except ConfigError as error:
        hint = f"name its file as it was (--with FILE.py), or {_make_again(run)}" if spec.source else _make_again(run)
        raise UserError(f"{folder / 'run.json'}: made by another version ({error}); {hint}") from None
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = one_line(error)[:200]
        raise UserError(
            f"{path}: damaged, or of another version ({reason}); move the folder away and {_make_again(run)}"
        ) from None
    return model


def _make_again(run: Mapping[str, Any]) -> str:
    return f"make it again with `{run['provenance']['command']}`"
