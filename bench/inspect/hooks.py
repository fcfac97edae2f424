"""See what goes in and out of a model's parts."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["hooked"]


@contextmanager
def hooked(model: nn.Module, modules: Iterable[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    """Call `hook(module, inputs, output)` whenever one of these modules ran: in eval mode, and without gradients."""
    was_training = model.training
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        with torch.inference_mode():
            model.eval()
            yield
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
