"""Several seeds of one contestant as one model: one small transformer does not fill an accelerator."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from bench.protocol.recipe import Recipe


class Stack:
    """Models of one kind whose weights lie side by side, and are updated at once, each on chunks of its own.

    The models stay usable: their weights are views of the stacked ones, (s, ...), and so always up to date. Between
    models nothing is shared, so each gets the numbers that it would have got alone, but for rounding.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = models
        parameters, buffers = stack_module_state(list(models))
        self.parameters: dict[str, Tensor] = parameters
        self.buffers: dict[str, Tensor] = buffers
        for place, model in enumerate(models):
            for name, own in (*model.named_parameters(), *model.named_buffers()):
                own.data = (parameters.get(name, buffers.get(name)))[place].detach()  # type: ignore[index]
        self.kind = copy.deepcopy(models[0]).to("meta")  # operations without weights

    def learned(self) -> list[tuple[Tensor, int]]:
        """Stacked parameters, and how many dimensions each has in one model."""
        return [(p, p.ndim - 1) for p in self.parameters.values() if p.requires_grad]

    def logits(self, x: Tensor) -> Tensor:
        """(s, b, n) -> (s, b, k).

        Raises:
            RuntimeError: what the model does can't be done for several at once, or is random (dropout), so that it
                would not be what each does alone.
        """
        with warnings.catch_warnings():  # on a CPU vmap takes attention and spectra one by one, and says so
            warnings.filterwarnings("ignore", message="There is a performance drop")
            return vmap(self._one, randomness="error")(self.parameters, self.buffers, x)

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.kind, (parameters, buffers), (x,))
        return logits

    def split(self, optimizer: dict[str, Any]) -> list[dict[str, Any]]:
        """An optimiser's state_dict over all as one for each model."""
        return [
            optimizer
            | {
                "state": {
                    number: {name: value if name == "step" else value[place] for name, value in own.items()}
                    for number, own in optimizer["state"].items()
                }
            }
            for place in range(len(self.models))
        ]

    @staticmethod
    def join(optimizers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The way back, for models that have done as many updates."""
        first = optimizers[0]
        return first | {
            "state": {
                number: {
                    name: value if name == "step" else torch.stack([o["state"][number][name] for o in optimizers])
                    for name, value in own.items()
                }
                for number, own in first["state"].items()
            }
        }


def may_stack(recipe: Recipe) -> bool:
    """Whether seeds under this recipe go the same way: one that slows down or stops by what it sees on val does not."""
    return recipe.schedule == "cosine" and not recipe.early_stop
