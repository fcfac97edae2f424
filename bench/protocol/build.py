"""A model as its spec and seed draw it."""

import torch
from torch import nn

from architectures import create, get_architecture, require_weights
from bench.protocol.frozen import freeze, head_names
from bench.protocol.spec import RunSpec

__all__ = ["build"]


def build(spec: RunSpec, device: torch.device) -> nn.Module:
    """Return the architecture with the weights that the seed draws, in memory as the recipe wants it.

    With `freeze`, gradients are those of the head alone. Raises ConfigError if it is of another source, and
    WeightsError for weights that can't be kept.
    """
    get_architecture(spec.architecture, spec.source)
    # other models are made for these, which draw numbers, too
    head = head_names(spec.architecture, spec.config) if spec.recipe.freeze else None
    torch.manual_seed(spec.seed)
    layout = torch.channels_last if spec.recipe.channels_last else torch.contiguous_format
    model = create(spec.architecture, **spec.config)
    require_weights(model.state_dict())
    model = model.to(device).to(memory_format=layout)
    if head is not None:
        freeze(model, head)
    return model
