"""Train on a few clips only: what can't learn these by heart can't learn at all."""

from contextlib import suppress

import torch

from architectures import create, get_architecture
from bench.data.pack import Pack
from bench.protocol.precision import computes_bf16
from bench.protocol.recipe import Recipe
from bench.protocol.task import get_task
from bench.protocol.train import Status, train

__all__ = ["overfit"]


class _Learned(Exception):
    """Raised by the report of an overfitting run when there is nothing more to show."""


def overfit(name: str, pack: Pack, clips: int, *, max_steps: int = 1000, seed: int = 0) -> float:
    """Return the mAP on the few clips trained on, until it is over .95: over .9 if an architecture can learn at all."""
    task = get_task("tagging")
    torch.manual_seed(seed)
    model = create(name, sample_rate=pack.sample_rate, num_classes=len(pack.labels))
    cnn = get_architecture(name).family == "cnn"
    recipe = Recipe(
        batch_size=32, max_steps=max_steps, evaluations=max_steps // 25,
        channels_last=cnn, precision="auto" if cnn else "fp32",
    ).settled(bf16=computes_bf16(torch.device("cpu")), loss=task.losses[0])  # fmt: skip
    data = task.data(pack, "train", recipe, clips=clips)
    best = 0.0

    def stop_when_learned(status: Status) -> None:
        nonlocal best
        best = max(best, status.val_score or 0.0)
        if best > 0.95:
            raise _Learned

    with suppress(_Learned):
        train(model, data, data, task, recipe, seed=seed, report=stop_when_learned)
    return best
