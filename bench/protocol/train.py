"""The one training loop, for every contestant."""

import io
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import NotTogether, TrainingDiverged
from bench.protocol.augment import augment
from bench.protocol.batches import Chunks
from bench.protocol.cuda_graphs import CudaGraphs, Losses, Replayed, Update
from bench.protocol.evaluate import score_clips
from bench.protocol.metrics import macro_map
from bench.protocol.recipe import Recipe
from bench.protocol.stack import Stack

REPORT_EVERY = 10  # updates: how often the loss is read, which on an accelerator means waiting for it
CHECKPOINT_SECONDS = 30.0

# Numbers below 1e-38 are zeros: a processor takes some hundred cycles for each, so that a contestant with nothing left
# to learn from its batch (silence, or learned by heart) had updates of thirty times the time. For this thread and those
# that PyTorch starts from it, so before its first product.
torch.set_flush_denormal(True)


@dataclass
class State:
    """All that a run needs to go on, beside weights and optimiser."""

    update: int = 0  # updates done
    best_map: float = -1.0
    best_update: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stale: int = 0  # evaluations since the best one
    halvings: int = 0
    loss_sum: float = 0.0  # since the last evaluation
    loss_count: int = 0
    seconds: float = 0.0  # of training, without evaluation
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """What a display may show."""

    update: int
    loss: float
    val_map: float | None
    samples_per_second: float
    seconds_left: float  # of training, at this speed


def train(
    model: nn.Module,
    data: Chunks,
    val: Chunks,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Path | None = None,
    code: str = "",
    report: Callable[[Status], None] = lambda status: None,
) -> State:
    """Train in place; at the end the model holds the weights of the best evaluation on val.

    `code` identifies the source: a checkpoint that another version left is not gone on with, nor a damaged one.
    Interrupted, and called again with the same arguments, it goes on from `checkpoint`, and ends in the same numbers
    as if it had not been (bitwise on a CPU with the same number of threads).

    Raises:
        TrainingDiverged: the loss or val's scores are not finite.
    """
    (state,) = train_together(
        [model], data, val, recipe, seeds=[seed], checkpoints=[checkpoint], code=code, report=report
    )
    return state


def train_together(
    models: Sequence[nn.Module],
    data: Chunks,
    val: Chunks,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    checkpoints: Sequence[Path | None],
    code: str = "",
    report: Callable[[Status], None] = lambda status: None,
) -> list[State]:
    """Train one model, or several seeds of one at once (see stack.py), each as `train` would.

    Raises:
        TrainingDiverged: a loss or val's scores are not finite; what the others have done is in their checkpoints.
        NotTogether: the checkpoints are of different updates.
    """
    update, optimizer, stack = updates_of(models, recipe, data.device)
    states = _load(checkpoints, code, models, optimizer, stack)
    evaluations = recipe.evaluation_updates()
    for model in models:
        model.train()
    losses = Losses(data.device)
    saved = clock = time.perf_counter()

    first = states[0]  # all do the same number of updates
    while first.update < recipe.updates and not _stops_early(first, recipe):
        set_rate(optimizer, learning_rate(recipe, first.update, first.halvings))
        losses.add(update(*batches(data, recipe, seeds, first.update)))
        for state in states:
            state.update += 1

        evaluate = first.update in evaluations
        if not evaluate and first.update % REPORT_EVERY:
            continue
        _note_losses(losses.read(wait=evaluate), states)
        now = time.perf_counter()
        for state in states:
            state.seconds += (now - clock) / len(states)
        clock = now
        if evaluate:
            for model, state in zip(models, states, strict=True):
                _evaluate(model, val, recipe, state)
            clock = time.perf_counter()
        report(_status(states, recipe))
        if evaluate or clock - saved > CHECKPOINT_SECONDS:
            _save(checkpoints, code, models, optimizer, stack, states)
            saved = clock = time.perf_counter()

    for model, state in zip(models, states, strict=True):
        model.load_state_dict(state.best_weights)
    return states


def updates_of(
    models: Sequence[nn.Module], recipe: Recipe, device: torch.device
) -> tuple[Update, torch.optim.Optimizer, Stack | None]:
    """What does an update of one model, or of several stacked ones; recorded and replayed on an accelerator."""
    if len(models) == 1:
        stack, optimizer = None, optimizer_of(models[0], recipe)
    else:
        stack = Stack(models)
        optimizer = adamw(stack.learned(), recipe)

    def update(x: Tensor, y: Tensor) -> Tensor:
        if stack is None:
            return step(models[0], optimizer, x[0], y[0], recipe)[None]
        return stacked_step(stack, optimizer, x, y, recipe)

    return Replayed(update, CudaGraphs()) if device.type == "cuda" else update, optimizer, stack


def batches(data: Chunks, recipe: Recipe, seeds: Sequence[int], update: int) -> tuple[Tensor, Tensor]:
    """What update number `update` (from 0) trains on, for each seed: (s, b, n), (s, b, k)."""
    drawn = [augment(*data.batch(data.draw(update, recipe.batch_size, seed)), recipe, seed, update) for seed in seeds]
    if len(drawn) == 1:
        return drawn[0][0][None], drawn[0][1][None]
    return torch.stack([x for x, _ in drawn]), torch.stack([y for _, y in drawn])


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW (without weight decay: Adam), and the model's memory laid out as the recipe wants it."""
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    return adamw([(p, p.ndim) for p in model.parameters() if p.requires_grad], recipe)


def adamw(parameters: Sequence[tuple[Tensor, int]], recipe: Recipe) -> torch.optim.Optimizer:
    """Over parameters, each given with the number of its dimensions."""
    # biases and the gains of norms have no direction to lose, and are left as they are
    weights = [p for p, ndim in parameters if ndim > 1]
    others = [p for p, ndim in parameters if ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    device = parameters[0][0].device
    recorded = device.type == "cuda"  # a replayed update reads its rate from the device
    rate = torch.tensor(recipe.learning_rate, device=device) if recorded else recipe.learning_rate
    return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=recorded)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    """One update on chunks (b, n) and labels (b, k): returns the loss, not yet read from the device."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = model(x)
    loss = loss_of(recipe, logits.float(), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def stacked_step(stack: Stack, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    """The same for several models at once, (s, b, n) and (s, b, k) -> (s,): a sum's gradients are each one's own."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = stack.logits(x)
    losses = torch.stack([loss_of(recipe, own.float(), labels) for own, labels in zip(logits, y, strict=True)])
    optimizer.zero_grad(set_to_none=True)
    losses.sum().backward()
    optimizer.step()
    return losses.detach()


def learning_rate(recipe: Recipe, update: int, halvings: int = 0) -> float:
    """Linear warm-up, then a half cosine to 0, or (plateau) a constant halved `halvings` times."""
    warmup = round(recipe.warmup * recipe.updates)
    if update < warmup:
        return recipe.learning_rate * (update + 1) / warmup
    if recipe.schedule == "plateau":
        return recipe.learning_rate * 0.5**halvings
    progress = (update - warmup) / max(1, recipe.updates - warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def loss_of(recipe: Recipe, logits: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy, or Huber loss between probabilities and labels (arXiv:2105.00335): (b, k) -> ()."""
    if recipe.loss == "huber":
        return F.huber_loss(torch.sigmoid(logits), y)
    return F.binary_cross_entropy_with_logits(logits, y)


def _note_losses(losses: Sequence[Sequence[float]], states: Sequence[State]) -> None:
    for of_update in losses:
        for loss, state in zip(of_update, states, strict=True):
            if not math.isfinite(loss):
                raise TrainingDiverged(f"the loss is {loss} by update {state.update}; try a lower learning rate")
            state.loss_sum += loss
            state.loss_count += 1


def _evaluate(model: nn.Module, val: Chunks, recipe: Recipe, state: State) -> None:
    """Score val, note the result, keep the weights if they are the best so far."""
    scores = score_clips(model, val)
    if not math.isfinite(scores.sum()):
        raise TrainingDiverged(f"val scores are not finite after update {state.update}; try a lower learning rate")
    val_map = macro_map(val.targets.cpu().numpy() > 0, scores)
    state.history.append(
        {
            "update": state.update,
            "learning_rate": learning_rate(recipe, state.update - 1, state.halvings),
            "loss": state.loss_sum / state.loss_count,
            "val_map": val_map,
            "seconds": round(state.seconds, 3),
        }
    )
    state.loss_sum, state.loss_count = 0.0, 0
    if val_map > state.best_map:
        state.best_map, state.best_update, state.stale = val_map, state.update, 0
        state.best_weights = {name: w.detach().cpu().clone() for name, w in model.state_dict().items()}
        return
    state.stale += 1
    if recipe.schedule == "plateau" and state.stale % recipe.patience == 0:
        state.halvings += 1


def _stops_early(state: State, recipe: Recipe) -> bool:
    return 0 < recipe.early_stop <= state.stale


def _status(states: Sequence[State], recipe: Recipe) -> Status:
    """Of one run, or of several that go together: their means, and what they do in all."""
    first = states[0]
    val_map = fmean(state.history[-1]["val_map"] for state in states) if first.history else None
    speed = first.update * recipe.batch_size / max(first.seconds, 1e-9)
    left = len(states) * (recipe.updates - first.update) * recipe.batch_size / speed
    return Status(first.update, fmean(map(_loss, states)), val_map, speed, left)


def _loss(state: State) -> float:
    if state.loss_count:
        return state.loss_sum / state.loss_count
    return state.history[-1]["loss"] if state.history else math.nan


def _save(
    paths: Sequence[Path | None],
    code: str,
    models: Sequence[nn.Module],
    optimizer: torch.optim.Optimizer,
    stack: Stack | None,
    states: Sequence[State],
) -> None:
    """A file a run, so that runs that went together may go on alone. Atomically: a killed process leaves the last
    checkpoint or this one, never half of one."""
    together = optimizer.state_dict()
    optimizers = stack.split(together) if stack else [together]
    for path, model, own, state in zip(paths, models, optimizers, states, strict=True):
        if path is None:
            continue
        values: dict[str, Any] = {
            "code": code,
            "model": model.state_dict(),
            "optimizer": own,
            "state": vars(state),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        buffer = io.BytesIO()  # torch.save would report a full disk as a failure of its own
        torch.save(values, buffer)
        temporary = path.with_suffix(".partial")
        temporary.write_bytes(buffer.getbuffer())
        os.replace(temporary, path)


def _load(
    paths: Sequence[Path | None],
    code: str,
    models: Sequence[nn.Module],
    optimizer: torch.optim.Optimizer,
    stack: Stack | None,
) -> list[State]:
    """The states to go on from; new ones where there are no checkpoints."""
    found = [_read(path, code) for path in paths]
    if len({values["state"]["update"] if values else 0 for values in found}) > 1:
        raise NotTogether("they have done different numbers of updates")
    known = [values for values in found if values]
    if not known:
        return [State() for _ in models]
    for model, values in zip(models, known, strict=True):
        model.load_state_dict(values["model"])
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(stack.join([v["optimizer"] for v in known]) if stack else known[0]["optimizer"])
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # its own: set before every update, and perhaps on the device
    torch.set_rng_state(known[0]["rng"])
    if known[0]["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(known[0]["cuda_rng"])
    return [State(**values["state"]) for values in known]


def _read(path: Path | None, code: str) -> dict[str, Any] | None:
    """A checkpoint; None where there is none, or none that this code can go on with."""
    if path is None or not path.is_file():
        return None
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises nearly anything for a damaged file
        return None
    return values if values.get("code") == code else None
