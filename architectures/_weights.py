"""Weights as a file keeps them: every name with a tensor of its own, read only into a model that they fit."""

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

__all__ = [
    "WeightsError", "is_finite", "misfit", "pass_on", "require_dense", "require_weights", "unlike", "weights_bytes",
]  # fmt: skip


class WeightsError(ValueError):
    """Weights that no file can keep; one line, for the author of an architecture."""


def require_weights(state: Mapping[str, Any]) -> None:
    """Raise WeightsError if a state dict has what no file keeps, or is not there before the first forward."""
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{name} is a {type(value).__name__}, not a tensor, and can't be saved")
        if is_lazy(value):
            raise WeightsError(f"{name} has no size before the first forward: give it one, instead of nn.Lazy...")
        if value.layout != torch.strided or value.is_quantized:
            raise WeightsError(f"{name} is sparse or quantized, and can't be saved")


def require_dense(model: nn.Module) -> None:
    """Raise WeightsError if a parameter that is learned has gaps in memory, or elements that share a place.

    A fused optimiser steps through memory from a tensor's first element on: it would change what lies in the gaps
    instead of the parameter, or write behind its end.
    """
    for name, p in model.named_parameters():
        if p.requires_grad and not is_lazy(p) and p.layout == torch.strided and not _is_dense(p):
            raise WeightsError(f"{name} is part of another tensor, or expanded: give it memory of its own, by .clone()")


def _is_dense(value: Tensor) -> bool:
    """Return whether a tensor's elements lie side by side, in whatever order."""
    place = 1
    for stride, size in sorted(zip(value.stride(), value.shape, strict=True)):
        if size > 1 and stride != place:
            return not value.numel()
        place *= size
    return True


def weights_bytes(state: Mapping[str, Any]) -> bytes:
    """Return a state dict in the format of safetensors. Raises WeightsError for what that can't hold.

    Names that share a tensor (tied weights), and views of one, are written as so many tensors: safetensors refuses
    memory that is shared, and whoever loads the file need not know what was.
    """
    require_weights(state)
    contiguous = torch.contiguous_format
    try:
        return save({name: value.detach().cpu().clone(memory_format=contiguous) for name, value in state.items()})
    except KeyError as error:
        raise WeightsError(f"weights of type {error.args[0]} can't be saved") from None


def pass_on(model: nn.Module, other: nn.Module) -> None:
    """Write a model's weights and read them into another of the same config, as is done at the end of a run.

    Raises WeightsError if that is refused.
    """
    weights = load(weights_bytes(model.state_dict()))
    reason = misfit(weights, other.state_dict())
    if not reason:
        try:
            other.load_state_dict(weights)
            return
        # what is expanded, say, can be read and not written
        except RuntimeError as error:
            reason = " ".join(str(error).split())
    raise WeightsError(f"saved, its weights can't be loaded into a new model: {reason}")


def misfit(state: object, template: Mapping[str, Any]) -> str:
    """Return why a model whose state dict is `template` can't take the weights of another one; '' if it can.

    Names, shapes and types have to be the same, values finite where the template's are, and names that share a tensor
    have to agree: PyTorch would convert integers to floats, and let the last of two names win.
    """
    if not isinstance(state, Mapping):
        return f"a {type(state).__name__}, not weights by name"
    for these, of, what in ((template, state, "are missing"), (state, template, "are of no layer")):
        if wrong := [name for name in these if name not in of]:
            return f"weights {what}: {wrong[0]!r}{f' and {len(wrong) - 1} more' if wrong[1:] else ''}"
    first: dict[tuple[Any, ...], str] = {}
    for name, like in template.items():
        if reason := unlike(state[name], like):
            return f"{name} {reason}"
        if like.numel():
            twin = first.setdefault((like.data_ptr(), like.shape, like.stride(), like.dtype), name)
            if twin != name and not torch.equal(state[name], state[twin]):
                return f"{name} and {twin} are one tensor, but have two values"
    return ""


def unlike(value: object, like: Tensor) -> str:
    """Return why a value can't take a tensor's place: its shape, its type, or that it is not finite; '' if it can."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return f"is a {type(value).__name__}, should be a tensor"
    if (value.dtype, value.shape) != (like.dtype, like.shape):
        return f"is {_described(value)}, should be {_described(like)}"
    return "is not finite" if not is_finite(value) and is_finite(like) else ""


def _described(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def is_finite(value: Tensor) -> bool:
    """Return whether there is neither NaN nor infinity in a tensor of any type."""
    if not (value.is_floating_point() or value.is_complex()):
        return True
    # torch tells it of no type of a single byte
    return bool((value.float() if value.itemsize == 1 else value).isfinite().all())
