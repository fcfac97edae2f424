"""Models that predict at each of their tokens: at how many, and that no token has heard what it is to predict."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from architectures import create
from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.schema import digest

__all__ = ["tokens_of"]

# root mean squares of a sound, and of what follows it instead: unlike, so that a level of the whole window shows
_LEVELS = (0.1, 0.5)
_TOLERANCE = 1e-4
# added to all parameters
_NOISE = 0.02


def tokens_of(spec: RunSpec, size: int) -> int | None:
    """Return at how many tokens of a window a run's model has logits, (b, t, k); None where it has (b, k).

    Token i, from 0, ends at (i + 1) size / t samples. Raises UserError if its logits change with samples behind that.
    """
    key = digest({"architecture": spec.architecture, "source": spec.source, "config": spec.config, "size": size})
    if key not in _tokens:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            model = create(spec.architecture, **spec.config)
            # what is drawn as zeros would hide what comes by it, once it has learned
            for parameter in model.parameters():
                parameter.add_(_NOISE * torch.randn_like(parameter))
            # norms may hear more of a window while they learn
            _checked(model.train(), spec.name, size)
            _tokens[key] = _checked(model.eval(), spec.name, size)
    return _tokens[key]


_tokens: dict[str, int | None] = {}


def _checked(model: nn.Module, entry: str, size: int) -> int | None:
    generator = torch.Generator().manual_seed(0)
    sound, other = (level * torch.randn(1, size, generator=generator) for level in _LEVELS)
    logits = _of(model, sound)
    # what is none, or of another shape, the checks before a run say
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        return None
    t = logits.shape[1]
    for token in sorted({0, (t - 1) // 2, t - 2} - {-1}):
        end = math.ceil((token + 1) * size / t)
        changed = _of(model, torch.cat([sound[:, :end], other[:, end:]], dim=1))
        heard, seen = logits[:, : token + 1], changed[:, : token + 1]
        if not torch.allclose(heard, seen, rtol=_TOLERANCE, atol=_TOLERANCE * float(heard.abs().max())):
            raise UserError(
                f"{entry}: its logits at token {token + 1} of {t} change with samples behind that token: it has heard "
                "what it is to predict. Give it attention that looks back alone, no level of the whole window "
                "(input_level='raw'), and no frames that reach beyond their token"
            )
    return t


def _of(model: nn.Module, x: Tensor) -> Any:
    """Return what a model makes of an input, with the same weights dropped at every call."""
    torch.manual_seed(1)
    return model(x)
