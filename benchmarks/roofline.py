"""How many bytes a piece of work reads and writes, as far as its operations tell."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["count_bytes"]


class _Traffic(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return result


def count_bytes(work: Callable[[], object]) -> int:
    """Return the bytes of what every operation takes and gives, views left out.

    That is what would travel if no cache held any of it.
    """
    with _Traffic() as traffic:
        work()
    return traffic.bytes
