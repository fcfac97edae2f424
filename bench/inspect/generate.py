"""Sounds from a model that predicts the next sample: one code after the other."""

import math
import sys
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from architectures import NextSampleConfig, Stepping
from bench.data.dataset import Progress

__all__ = ["Sampling", "generate"]


@dataclass(frozen=True)
class Sampling:
    """How a code is chosen: at temperature 0 the likeliest, else by chance, from the `top_k` likeliest if given."""

    temperature: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature} must be 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} must be at least 1")


_BY_CHANCE = Sampling()
# samples from one report of how far it is to the next
_REPORTED = 100


@torch.inference_mode()
def generate(
    model: nn.Module,
    prompt: Tensor,
    steps: int,
    *,
    sampling: Sampling = _BY_CHANCE,
    context: int | None = None,
    generator: torch.Generator | None = None,
    num_codes: int | None = None,
    progress: Progress = lambda *_: None,
) -> Tensor:
    """Return the samples that a model in eval mode adds to a prompt: (b, p) codes -> (b, steps), on the same device.

    When a window is full, it is begun anew with the last half of it, so that what is older is forgotten. A model that
    has no `begin` and `step` is given the window anew for each sample, which comes to the same and takes far longer. A
    prompt that is shorter than the condition and one sample has silence before it. Raises ValueError for codes that the
    model does not have, and a context without samples.

    Args:
        context: the samples of a window, as in training; a model does not take more than its max_context. One that saw
            all of its receptive field in training has windows without end.
        generator: what codes are drawn with, on the prompt's device; None is torch's global one.
        num_codes: of the model's classes, the first so many are drawn from; None: all.
        progress: takes how many samples there are, of how many.
    """
    config = _config_of(model, prompt, context)
    before, most = config.condition_samples, _most(config, context)
    half, start = max(most // 2, 1), max(prompt.shape[1], before + 1)
    codes = F.pad(prompt, (start - prompt.shape[1], 0), value=config.num_classes // 2)
    codes = F.pad(codes, (0, steps))
    stepping = model if isinstance(model, Stepping) else None
    first, state = before, None  # of the window, behind its condition
    for end in range(start, start + steps):
        if end - first > most:
            first, state = end - half, None
        window = codes[:, first - before : end]
        if stepping is None:
            logits = model(window)[:, -1]
        elif state is None:
            logits, state = stepping.begin(window)
        else:
            logits, state = stepping.step(window[:, -1], state)
        codes[:, end] = _choose(logits[:, :num_codes], sampling, generator)
        if (done := end + 1 - start) % _REPORTED == 0:
            progress(done, steps)
    return codes[:, start:]


def _config_of(model: nn.Module, prompt: Tensor, context: int | None) -> NextSampleConfig:
    """Return a model's config, if it can go on with a prompt."""
    config = model.config
    assert isinstance(config, NextSampleConfig)
    if context is not None and context < 1:
        raise ValueError(f"context={context} must be at least 1")
    if prompt.numel() and not 0 <= int(prompt.min()) <= int(prompt.max()) < config.num_classes:
        raise ValueError(f"the prompt has codes outside 0 to {config.num_classes - 1}")
    return config


def _most(config: NextSampleConfig, context: int | None) -> int:
    """Return how many samples a window has at most."""
    # what has seen its whole field in training meets nothing new in a longer window
    if config.max_context is None and (context is None or context >= config.receptive_field):
        return sys.maxsize
    return min(n for n in (config.max_context, context) if n is not None)


def _choose(logits: Tensor, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    """Return one code for each of the logits: (b, k) -> (b,)."""
    if not sampling.temperature:
        return logits.argmax(dim=-1)
    if sampling.top_k is not None:
        least = logits.topk(min(sampling.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    # from 0 down, so that next to no temperature is the likeliest alone, and no infinity
    logits = logits - logits.amax(dim=-1, keepdim=True)
    chances = (logits / max(sampling.temperature, torch.finfo(logits.dtype).tiny)).softmax(dim=-1)
    return torch.multinomial(chances, 1, generator=generator).squeeze(1)
