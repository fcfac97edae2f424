"""The one training loop, for every contestant."""

import io
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.augment import augment
from bench.config import Recipe
from bench.data.chunks import Chunks
from bench.errors import TrainingDiverged
from bench.evaluate import score_clips
from bench.metrics import macro_map

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
    optimizer = optimizer_of(model, recipe)
    state = _load(checkpoint, code, model, optimizer)
    evaluations = recipe.evaluation_updates()
    model.train()
    losses: list[Tensor] = []  # not read yet
    saved = clock = time.perf_counter()

    while state.update < recipe.updates and not _stops_early(state, recipe):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, state.update, state.halvings)
        x, y = data.batch(data.draw(state.update, recipe.batch_size, seed))
        x, y = augment(x, y, recipe, seed, state.update)
        losses.append(step(model, optimizer, x, y, recipe))
        state.update += 1

        evaluate = state.update in evaluations
        if not evaluate and state.update % REPORT_EVERY:
            continue
        _read_losses(losses, state)
        now = time.perf_counter()
        state.seconds, clock = state.seconds + now - clock, now
        if evaluate:
            _evaluate(model, val, recipe, state)
            clock = time.perf_counter()
        report(_status(state, recipe))
        if checkpoint and (evaluate or clock - saved > CHECKPOINT_SECONDS):
            _save(checkpoint, code, model, optimizer, state)
            saved = clock = time.perf_counter()

    model.load_state_dict(state.best_weights)
    return state


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW (without weight decay: Adam), and the model's memory laid out as the recipe wants it."""
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)
    # biases and the gains of norms have no direction to lose, and are left as they are
    learned = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in learned if p.ndim > 1]
    others = [p for p in learned if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    """One update on chunks (b, n) and labels (b, k): returns the loss, not yet read from the device."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = model(x)
    loss = loss_of(recipe, logits.float(), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


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


def _read_losses(losses: list[Tensor], state: State) -> None:
    for loss in torch.stack(losses).tolist():
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the loss is {loss} by update {state.update}; try a lower learning rate")
        state.loss_sum += loss
        state.loss_count += 1
    losses.clear()


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


def _status(state: State, recipe: Recipe) -> Status:
    last = state.history[-1] if state.history else None
    loss = state.loss_sum / state.loss_count if state.loss_count else (last["loss"] if last else math.nan)
    speed = state.update * recipe.batch_size / max(state.seconds, 1e-9)
    left = (recipe.updates - state.update) * recipe.batch_size / speed
    return Status(state.update, loss, last["val_map"] if last else None, speed, left)


def _save(path: Path, code: str, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Atomically: a killed process leaves the last checkpoint or this one, never half of one."""
    values: dict[str, Any] = {
        "code": code,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "state": vars(state),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    buffer = io.BytesIO()  # torch.save would report a full disk as a failure of its own
    torch.save(values, buffer)
    temporary = path.with_suffix(".partial")
    temporary.write_bytes(buffer.getbuffer())
    os.replace(temporary, path)


def _load(path: Path | None, code: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """The state to go on from; a new one where there is no checkpoint, or none that this code can go on with."""
    if path is None or not path.is_file():
        return State()
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises nearly anything for a damaged file
        return State()
    if values.get("code") != code:
        return State()
    model.load_state_dict(values["model"])
    optimizer.load_state_dict(values["optimizer"])
    torch.set_rng_state(values["rng"])
    if values["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(values["cuda_rng"])
    return State(**values["state"])
