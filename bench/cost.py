"""What a contestant costs, beside what it scores."""

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters; running means and filter banks are none."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
