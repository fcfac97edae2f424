"""What of a model is trained where the rest is frozen: its head, which depends on the number of classes."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from architectures import create
from bench.errors import UserError
from bench.protocol.recipe import Recipe

__all__ = ["freeze", "head_names", "set_training"]


def head_names(architecture: str, config: Mapping[str, Any]) -> set[str]:
    """Return the names of an architecture's weights whose shape depends on the number of classes.

    Numbers that torch has drawn are drawn again afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        more = dict(config) | {"num_classes": config["num_classes"] + 1}
        one, other = (create(architecture, **values).state_dict() for values in (config, more))
    return {name for name, weight in one.items() if name not in other or other[name].shape != weight.shape}


def freeze(model: nn.Module, head: Collection[str]) -> None:
    """Leave gradients to the head alone. Raises UserError for a model without any parameter in it."""
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad and name in head}
    if not learned:
        raise UserError("freeze = true leaves nothing to train: no parameter depends on the number of classes")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learned)


def set_training(model: nn.Module, recipe: Recipe) -> None:
    """Set a model to train; with `freeze`, what has nothing to learn is as it is in evaluation.

    Its running means stay as they are then, and nothing is dropped.
    """
    model.train()
    if recipe.freeze:
        for module in model.modules():
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.eval()
