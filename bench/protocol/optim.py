"""The optimiser and its learning rate."""

import math

import torch
from torch import Tensor, nn

from architectures import require_dense
from bench.protocol.recipe import Recipe

__all__ = ["learning_rate", "optimizer_of", "set_rate"]


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW (without weight decay: Adam).

    Raises ValueError if there is nothing to learn, WeightsError for what it can't change in its place.
    """
    require_dense(model)
    learned = [p for p in model.parameters() if p.requires_grad]
    if not learned:
        raise ValueError("no parameter to learn: all are frozen, or no parameters of an nn.Module")
    # biases and the gains of norms have no direction to lose, and are left as they are
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    device = learned[0].device
    # a recorded step reads its rate from the device
    recorded = device.type == "cuda"
    rate = torch.tensor(recipe.learning_rate, device=device) if recorded else recipe.learning_rate
    return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=recorded)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rate(recipe: Recipe, step: int, halvings: int = 0) -> float:
    """Return the rate of step number `step` (from 0): linear warm-up, then a half cosine to 0, or (plateau) a constant
    halved `halvings` times."""
    warmup = round(recipe.warmup * recipe.max_steps)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "plateau":
        return recipe.learning_rate * 0.5**halvings
    progress = (step - warmup) / max(1, recipe.max_steps - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
