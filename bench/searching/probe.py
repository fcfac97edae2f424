"""Which settings change nothing in an architecture: a few steps of training with one value and with another tell."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from architectures import contained
from bench.data.pack import Pack
from bench.protocol.augment import augment
from bench.protocol.build import build
from bench.protocol.frozen import set_training
from bench.protocol.optim import learning_rate, optimizer_of, set_rate
from bench.protocol.spec import RunSpec
from bench.protocol.task import task_of
from bench.protocol.train import train_step

__all__ = ["ACT_ON_ALL", "without_effect"]

# fields of the recipe that act on whatever learns, some of them over more steps than are tried
ACT_ON_ALL = ("learning_rate", "weight_decay", "warmup", "schedule", "patience", "early_stop", "batch_size")

_CPU = torch.device("cpu")
_STEPS, _CHUNKS = 2, 4
# of the sounds: by 12 dB louder they are not yet cut off at full scale
_PEAK = 0.24
# A share of the way that weights go, summed over them: of squares, Adam would make much of the few whose gradient is
# nearly zero, and may turn by rounding. Where chunks are at unit level, a gain still changes 1e-6 to 1e-3 of it; what
# changes something 1e-2 and more.
_NOTHING = 2e-3


def without_effect(default: RunSpec, variants: Mapping[str, Sequence[RunSpec]], pack: Pack) -> list[str]:
    """Return those of the settings whose variants all learn the same as the default, from the same seed.

    What does not train here is taken for a change: it is the search that tells what fails.

    Args:
        variants: By setting, the default with other values of it.
    """
    with torch.random.fork_rng([]):
        try:
            start, end = _trained(default, pack)
        except Exception:
            return []
        way = float((end - start).abs().sum())
        return [name for name, specs in variants.items() if way and not any(_differs(s, pack, end, way) for s in specs)]


def _differs(spec: RunSpec, pack: Pack, end: Tensor, way: float) -> bool:
    """Return whether a run learns other weights than the default, `end`, which went so far in all."""
    try:
        _, other = _trained(spec, pack)
    except Exception:
        return True
    # also where it is no number
    return other.shape != end.shape or not float((other - end).abs().sum()) <= _NOTHING * way


def _trained(spec: RunSpec, pack: Pack) -> tuple[Tensor, Tensor]:
    """Return all parameters (p,) before and after a few steps on noise."""
    recipe = spec.recipe.model_copy(update={"precision": "fp32", "compile": "off", "channels_last": False})
    spec, task = spec.model_copy(update={"recipe": recipe}), task_of(spec)
    with contained():
        model = build(spec, _CPU)
        start, optimizer = _parameters(model), optimizer_of(model, recipe)
        data, random = task.data(pack, "train", recipe, _CPU), torch.Generator().manual_seed(spec.seed)
        size = task.size(recipe, pack.sample_rate)
        set_training(model, recipe)
        # for dropout: what was drawn for the weights may be more or less
        torch.manual_seed(spec.seed)
        for step in range(_STEPS):
            noise = _PEAK * (2 * torch.rand(_CHUNKS, size, generator=random) - 1)
            x, targets = data.batch(data.draw(step, _CHUNKS, spec.seed))
            # codes are what they are; sounds may be silence, of which nothing is learned
            noise = noise if x.is_floating_point() else x
            set_rate(optimizer, learning_rate(recipe, step))
            train_step(model, optimizer, *augment(noise, targets, recipe, spec.seed, step), task, recipe)
    return start, _parameters(model)


def _parameters(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).clone()
