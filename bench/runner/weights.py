"""A finished run as the model that it trained."""

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from architectures import ConfigError
from bench.errors import UserError, one_line
from bench.protocol.build import build
from bench.store import RunFolder, RunRecord

__all__ = ["load_model"]


def load_model(folder: RunFolder, record: RunRecord, device: torch.device) -> nn.Module:
    """Return the architecture with the weights of its run; raise UserError if either is gone, damaged or another."""
    path = folder.weights_file
    # away with it, since a run with a run.json would be skipped
    again = f"move the folder away and make it again with `{record.provenance.command}`"
    if not path.is_file():
        raise UserError(f"{path}: no weights (they stay on the machine that trained, git does not keep them); {again}")
    try:
        model = build(record.spec, device)
    except ConfigError as error:
        hint = f"name its file as it was (--plugin FILE.py), or {again}" if record.spec.source else again
        raise UserError(f"{folder.record_file}: made by another version ({error}); {hint}") from None
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: damaged, or of another version ({one_line(error)[:200]}); {again}") from None
    return model
