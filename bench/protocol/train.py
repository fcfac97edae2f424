"""The one training loop, for every architecture and task."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from architectures import is_finite
from bench.errors import TrainingDiverged
from bench.protocol.augment import augment
from bench.protocol.batches import Batches
from bench.protocol.checkpoint import Checkpoint, CheckpointDamaged
from bench.protocol.compiled import CompiledStep, Loss, MeasuredStep
from bench.protocol.cuda_graphs import CudaGraphs, Losses, RecordedStep, Step, Timer
from bench.protocol.optim import learning_rate, optimizer_of, set_rate
from bench.protocol.precision import products_in
from bench.protocol.recipe import Recipe
from bench.protocol.state import State, restore, snapshot
from bench.protocol.task import Metric, Task

__all__ = ["REPORT_EVERY", "State", "Status", "batch_of", "step_of", "train", "train_step"]

# steps: how often the loss is read, which on an accelerator means waiting for it
REPORT_EVERY = 10
CHECKPOINT_SECONDS = 30.0

# Numbers below 1e-38 are zeros: a processor takes some hundred cycles for each, so that an architecture with nothing
# left to learn from its batch (silence, or learned by heart) had steps of thirty times the time. For this thread and
# those that PyTorch starts from it, so before its first product.
torch.set_flush_denormal(True)


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
    """Train in place; at the end the model holds the weights of the best evaluation on val, or of the last one.

    Interrupted, and called again with the same arguments, it resumes from `checkpoint`, and ends in the same numbers
    as if it had not been (bitwise on a CPU with the same number of threads). A checkpoint that can't be read, or that
    training can't have left, is set aside, and training begins anew; one of other code raises CheckpointOfOtherCode.
    Raises TrainingDiverged if the loss, val's scores or the weights are not finite.
    """
    optimizer = optimizer_of(model, recipe)
    finite = [name for name, w in model.state_dict().items() if is_finite(w)]
    state = _resume(checkpoint, model, optimizer, task.selects_by, recipe, notice)
    step = step_of(model, optimizer, task, recipe, data.device, recipe.max_steps - state.step, notice)
    evaluations = recipe.evaluation_steps()
    model.train()
    losses, compilation = Losses(data.device), _Compilation(step, state)
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
        state.seconds += max(0.0, now - clock - compilation.note())
        clock = now
        if evaluate:
            _evaluate(model, val, task, recipe, state, finite)
            clock = time.perf_counter()
        report(_status(state, recipe))
        if checkpoint and (evaluate or clock - saved > CHECKPOINT_SECONDS):
            checkpoint.save(snapshot(model, optimizer, state))
            saved = clock = time.perf_counter()

    model.load_state_dict(state.best_weights)
    return state


def step_of(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    recipe: Recipe,
    device: torch.device,
    steps: int,
    notice: Callable[[str], None] = lambda line: None,
) -> Step:
    """Return what takes one of so many steps of training: recorded and replayed on a GPU, compiled as the recipe says.

    What can't be recorded or compiled is done as it stands, and `notice` is told so.
    """
    loss = _loss_of(model, task, recipe)

    def step_with(loss: Loss) -> Step:
        def step(x: Tensor, y: Tensor) -> Tensor:
            return _take(loss, optimizer, x, y, recipe)

        return RecordedStep(step, CudaGraphs(), notice) if device.type == "cuda" else step

    def compiled() -> CompiledStep:
        return CompiledStep(model, loss, step_with, notice)

    if recipe.compile == "on":
        return compiled()
    # on processors, compiled transformers took 6 to 16% longer
    if recipe.compile == "auto" and device.type == "cuda":
        shapes = (repr(model), *((name, tensor.shape) for name, tensor in model.state_dict().items()))
        fields = (recipe.loss, recipe.batch_size, recipe.chunk_seconds, recipe.precision, recipe.channels_last)
        kind = (type(model), shapes, fields, repr(task.settings), device)
        return MeasuredStep(lambda: step_with(loss), compiled, steps, kind, Timer())
    return step_with(loss)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, task: Task, recipe: Recipe
) -> Tensor:
    """Take one step on chunks (b, n) and targets (b, k); return the loss (), not yet read from the device."""
    return _take(_loss_of(model, task, recipe), optimizer, x, y, recipe)


def _loss_of(model: nn.Module, task: Task, recipe: Recipe) -> Loss:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            outputs = model(x)
        return task.loss(recipe, _in_fp32(outputs), y)

    return loss


def _in_fp32(outputs: Any) -> Any:
    """Return what a model makes, a tensor or a tuple of some, in fp32."""
    return tuple(output.float() for output in outputs) if isinstance(outputs, tuple) else outputs.float()


def _take(loss: Loss, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    with products_in(recipe.precision):
        value = loss(x, y)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
    return value.detach()


def batch_of(data: Batches, recipe: Recipe, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Return what step number `step` (from 0) trains on: (b, n), (b, k)."""
    return augment(*data.batch(data.draw(step, recipe.batch_size, seed)), recipe, seed, step)


class _Compilation:
    """Notes on a state what compiling steps came to, also over several processes."""

    def __init__(self, step: Step, state: State) -> None:
        self.step, self.state, self.noted = step, state, 0.0

    def note(self) -> float:
        """Return the seconds that it took since the last note; they are not those of training."""
        if not isinstance(self.step, CompiledStep | MeasuredStep):
            return 0.0
        new = self.step.seconds - self.noted
        self.noted += new
        self.state.compile_seconds += new
        self.state.is_compiled |= self.step.is_compiled
        return new


def _note_losses(losses: list[float], state: State) -> None:
    for loss in losses:
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the loss is {loss} by step {state.step}; try a lower learning rate")
        state.loss_sum += loss
        state.loss_count += 1


def _evaluate(model: nn.Module, val: Batches, task: Task, recipe: Recipe, state: State, finite: Sequence[str]) -> None:
    """Score val, note the result, keep the weights if they are the best so far: those named have to be finite."""
    scores = task.score(model, val)
    if not math.isfinite(scores.sum()):
        raise TrainingDiverged(f"val scores are not finite after step {state.step}; try a lower learning rate")
    # a checkpoint takes no number of numpy's
    score = float(task.selection_score(val.targets.cpu().numpy() > 0, scores))
    line = {"step": state.step, "learning_rate": learning_rate(recipe, state.step - 1, state.halvings)}
    line |= {"loss": state.loss, "val_score": score, "seconds": round(state.seconds, 3)}
    if not math.isfinite(score):
        raise TrainingDiverged(f"val's {task.primary.label} is {score} after step {state.step}")
    state.history.append(line)
    state.loss_sum, state.loss_count = 0.0, 0
    if not state.note_score(score, task.selects_by, recipe):
        return
    state.best_weights = {name: w.detach().cpu().clone() for name, w in model.state_dict().items()}
    # scores may hide it, until the run's weights are to be loaded
    if bad := [name for name in finite if not is_finite(state.best_weights[name])]:
        raise TrainingDiverged(f"{bad[0]} is not finite after step {state.step}; try a lower learning rate")


def _status(state: State, recipe: Recipe) -> Status:
    score = state.history[-1]["val_score"] if state.history else None
    speed = state.step * recipe.batch_size / max(state.seconds, 1e-9)
    return Status(state.step, state.loss, score, speed, (recipe.max_steps - state.step) * recipe.batch_size / speed)


def _resume(
    checkpoint: Checkpoint | None,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    metric: Metric,
    recipe: Recipe,
    notice: Callable[[str], None],
) -> State:
    """Return the state that a checkpoint left, with model and optimiser as they were then; a new one without."""
    if checkpoint is None:
        return State()
    try:
        values = checkpoint.load()
        return restore(values, model, optimizer, metric, recipe) if values else State()
    except CheckpointDamaged as error:
        notice(f"{checkpoint.path} is damaged ({error}): kept as {checkpoint.set_aside().name}, training begins anew")
        return State()
