"""Models that predict at each of their tokens: at how many, and that no token has heard what it is to predict."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from architectures import create
from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.schema import digest

__all__ = ["tokens_of"]

# root mean squares of a sound, and of what follows it instead: unlike, so that a level of the whole window shows
_LEVELS = (0.1, 0.5)
_TOLERANCE = 1e-4
# as much as a few hundred steps may change a parameter that was drawn as zero
_NOISE = 0.02


def tokens_of(spec: RunSpec, size: int) -> int | None:
    """Return at how many tokens of a window a run's model has logits, (b, t, k); None where it has (b, k).

    Token i, from 0, ends at (i + 1) size / t samples. Raises UserError if its logits change with samples behind that.
    """
    key = digest({"architecture": spec.architecture, "source": spec.source, "config": spec.config, "size": size})
    if key not in _tokens:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            model = create(spec.architecture, **spec.config).eval()
            found = _checked(model, spec.name, size)
            if found is not None:
                _set_as_training_leaves_it(model)
                _checked(model, spec.name, size)
        _tokens[key] = found
    return _tokens[key]


_tokens: dict[str, int | None] = {}


def _checked(model: nn.Module, entry: str, size: int) -> int | None:
    generator = torch.Generator().manual_seed(0)
    sound, other = (level * torch.randn(2, size, generator=generator) for level in _LEVELS)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    logits = _logits_of(model, sound, state)
    # what is none, or of another shape, the checks before a run say
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        return None
    t = logits.shape[1]
    # of what differs from call to call by itself, or is no number, nothing can be told
    if not _are_close(logits, _logits_of(model, sound, state)):
        return t
    for token in sorted({0, (t - 1) // 2, t - 2} - {-1}):
        end = math.ceil((token + 1) * size / t)
        changed = _logits_of(model, torch.cat([sound[:, :end], other[:, end:]], dim=1), state)
        if not _are_close(logits[:, : token + 1], changed[:, : token + 1]):
            raise UserError(
                f"{entry}: its logits at token {token + 1} of {t} change with samples behind that token: it has heard "
                "what it is to predict. Give it attention that looks back alone, no level of the whole window "
                "(input_level='raw'), and no frames that reach beyond their token"
            )
    return t


def _are_close(heard: Tensor, seen: Tensor) -> bool:
    most = float(heard.abs().max())
    return math.isfinite(most) and torch.allclose(heard, seen, rtol=_TOLERANCE, atol=_TOLERANCE * most)


def _logits_of(model: nn.Module, x: Tensor, state: Mapping[str, Tensor]) -> Any:
    """Return what a model makes of an input, every time in the same state, and with the same weights dropped."""
    model.load_state_dict(state)
    torch.manual_seed(1)
    return model(x)


def _set_as_training_leaves_it(model: nn.Module) -> None:
    """Set a model as it may be in training: what is drawn as zero would hide what comes by it once it has learned."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.add_(_NOISE * torch.randn_like(parameter))
    # norms may hear more of a window while they learn; those of a batch hear other windows, too, which drowns it
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
