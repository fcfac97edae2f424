"""The one training loop, for every architecture and task."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import TrainingDiverged
from bench.protocol.augment import augment
from bench.protocol.batches import Batches
from bench.protocol.checkpoint import Checkpoint, CheckpointDamaged
from bench.protocol.cuda_graphs import CudaGraphs, Losses, RecordedStep, Step
from bench.protocol.optim import learning_rate, optimizer_of, set_rate
from bench.protocol.recipe import Recipe
from bench.protocol.task import Task

__all__ = ["REPORT_EVERY", "State", "Status", "batch_of", "step_of", "train", "train_step"]

# steps: how often the loss is read, which on an accelerator means waiting for it
REPORT_EVERY = 10
CHECKPOINT_SECONDS = 30.0

# Numbers below 1e-38 are zeros: a processor takes some hundred cycles for each, so that an architecture with nothing
# left to learn from its batch (silence, or learned by heart) had steps of thirty times the time. For this thread and
# those that PyTorch starts from it, so before its first product.
torch.set_flush_denormal(True)


@dataclass
class State:
    """All that training needs to resume, beside weights and optimiser."""

    # steps done
    step: int = 0
    # of the primary metric on val; None before the first evaluation
    best_score: float | None = None
    best_step: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    # evaluations since the best one
    stale: int = 0
    halvings: int = 0
    # since the last evaluation
    loss_sum: float = 0.0
    loss_count: int = 0
    # of training, without evaluation
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean since the last evaluation, or that of the last one."""
        if self.loss_count:
            return self.loss_sum / self.loss_count
        return self.history[-1]["loss"] if self.history else math.nan


@dataclass(frozen=True)
class Status:
    """What a display may show."""

    step: int
    loss: float
    val_score: float | None
    samples_per_second: float
    # of training, at this speed
    seconds_left: float


def train(
    model: nn.Module,
    data: Batches,
    val: Batches,
    task: Task,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Checkpoint | None = None,
    report: Callable[[Status], None] = lambda status: None,
    notice: Callable[[str], None] = lambda line: None,
) -> State:
    """Train in place; at the end the model holds the weights of the best evaluation on val.

    Interrupted, and called again with the same arguments, it resumes from `checkpoint`, and ends in the same numbers
    as if it had not been (bitwise on a CPU with the same number of threads). A checkpoint that can't be read is set
    aside, and training begins anew; one of other code raises CheckpointOfOtherCode. Raises TrainingDiverged if the loss
    or val's scores are not finite.
    """
    step, optimizer = step_of(model, task, recipe, data.device)
    state = _resume(checkpoint, model, optimizer, notice)
    evaluations = recipe.evaluation_steps()
    model.train()
    losses = Losses(data.device)
    saved = clock = time.perf_counter()

    while state.step < recipe.max_steps and not 0 < recipe.early_stop <= state.stale:
        set_rate(optimizer, learning_rate(recipe, state.step, state.halvings))
        losses.add(step(*batch_of(data, recipe, seed, state.step)))
        state.step += 1

        evaluate = state.step in evaluations
        if not evaluate and state.step % REPORT_EVERY:
            continue
        _note_losses(losses.read(wait=evaluate), state)
        now = time.perf_counter()
        state.seconds += now - clock
        clock = now
        if evaluate:
            _evaluate(model, val, task, recipe, state)
            clock = time.perf_counter()
        report(_status(state, recipe))
        if checkpoint and (evaluate or clock - saved > CHECKPOINT_SECONDS):
            checkpoint.save(_snapshot(model, optimizer, state))
            saved = clock = time.perf_counter()

    model.load_state_dict(state.best_weights)
    return state


def step_of(model: nn.Module, task: Task, recipe: Recipe, device: torch.device) -> tuple[Step, torch.optim.Optimizer]:
    """Return what takes one step of training, recorded and replayed on an accelerator, and its optimiser."""
    optimizer = optimizer_of(model, recipe)

    def step(x: Tensor, y: Tensor) -> Tensor:
        return train_step(model, optimizer, x, y, task, recipe)

    return RecordedStep(step, CudaGraphs()) if device.type == "cuda" else step, optimizer


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, task: Task, recipe: Recipe
) -> Tensor:
    """Take one step on chunks (b, n) and targets (b, k); return the loss (), not yet read from the device."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = model(x)
    loss = task.loss(recipe, logits.float(), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def batch_of(data: Batches, recipe: Recipe, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Return what step number `step` (from 0) trains on: (b, n), (b, k)."""
    return augment(*data.batch(data.draw(step, recipe.batch_size, seed)), recipe, seed, step)


def _note_losses(losses: list[float], state: State) -> None:
    for loss in losses:
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the loss is {loss} by step {state.step}; try a lower learning rate")
        state.loss_sum += loss
        state.loss_count += 1


def _evaluate(model: nn.Module, val: Batches, task: Task, recipe: Recipe, state: State) -> None:
    """Score val, note the result, keep the weights if they are the best so far."""
    scores = task.score(model, val)
    if not math.isfinite(scores.sum()):
        raise TrainingDiverged(f"val scores are not finite after step {state.step}; try a lower learning rate")
    score = task.selection_score(val.targets.cpu().numpy() > 0, scores)
    line = {"step": state.step, "learning_rate": learning_rate(recipe, state.step - 1, state.halvings)}
    line |= {"loss": state.loss, "val_score": score, "seconds": round(state.seconds, 3)}
    state.history.append(line)
    state.loss_sum, state.loss_count = 0.0, 0
    if state.best_score is None or task.primary.better(score, state.best_score):
        state.best_score, state.best_step, state.stale = score, state.step, 0
        state.best_weights = {name: w.detach().cpu().clone() for name, w in model.state_dict().items()}
        return
    state.stale += 1
    if recipe.schedule == "plateau" and state.stale % recipe.patience == 0:
        state.halvings += 1


def _status(state: State, recipe: Recipe) -> Status:
    score = state.history[-1]["val_score"] if state.history else None
    speed = state.step * recipe.batch_size / max(state.seconds, 1e-9)
    return Status(state.step, state.loss, score, speed, (recipe.max_steps - state.step) * recipe.batch_size / speed)


def _snapshot(model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "state": vars(state),
        # dropout draws from torch's generators
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _resume(
    checkpoint: Checkpoint | None, model: nn.Module, optimizer: torch.optim.Optimizer, notice: Callable[[str], None]
) -> State:
    """Return the state that a checkpoint left, with model and optimiser as they were then; a new one without."""
    if checkpoint is None:
        return State()
    try:
        values = checkpoint.load()
    except CheckpointDamaged as error:
        notice(f"{checkpoint.path} is damaged ({error}): kept as {checkpoint.set_aside().name}, training begins anew")
        values = None
    if values is None:
        return State()
    model.load_state_dict(values["model"])
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(values["optimizer"])
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        # the group's, not the file's: it is set before every step, and perhaps lies on the device
        group["lr"] = rate
    torch.set_rng_state(values["rng"])
    if values["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(values["cuda_rng"])
    return State(**values["state"])
