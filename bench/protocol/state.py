"""What training has to remember, and how it is taken from a checkpoint: all of it checked before any of it is used."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from architectures import misfit, unlike
from bench.errors import one_line
from bench.protocol.checkpoint import CheckpointDamaged
from bench.protocol.optim import learning_rate
from bench.protocol.recipe import Recipe
from bench.protocol.task import Metric, Task

__all__ = ["State", "restore", "snapshot"]

# of a line of the history, beside the step
_NUMBERS = ("learning_rate", "loss", "val_score", "seconds")
_MOMENTS = ("exp_avg", "exp_avg_sq")
# seconds; a century
_LONGEST = 3e9


@dataclass
class State:
    """All that training needs to resume, beside weights and optimiser."""

    # steps done
    step: int = 0
    # of the primary metric on val, at the evaluation that is kept; None before the first
    best_score: float | None = None
    best_step: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    # evaluations since the best one
    stale: int = 0
    halvings: int = 0
    # since the last evaluation
    loss_sum: float = 0.0
    loss_count: int = 0
    # of training, without evaluation and compilation
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    # whether steps were compiled, and the seconds that this took, or the attempt
    is_compiled: bool = False
    compile_seconds: float = 0.0

    @property
    def loss(self) -> float:
        """Mean since the last evaluation, or that of the last one."""
        if self.loss_count:
            return self.loss_sum / self.loss_count
        return self.history[-1]["loss"] if self.history else math.nan

    def note_score(self, score: float, task: Task, recipe: Recipe) -> bool:
        """Note an evaluation after the step that the state is at; return whether its weights are kept so far."""
        if self.best_score is None or task.keeps_last or task.primary.better(score, self.best_score):
            self.best_score, self.best_step, self.stale = score, self.step, 0
            return True
        self.stale += 1
        if recipe.schedule == "plateau" and self.stale % recipe.patience == 0:
            self.halvings += 1
        return False


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> dict[str, Any]:
    """Return what a checkpoint keeps of training."""
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "state": vars(state),
        # dropout draws from torch's generators
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(
    values: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, task: Task, recipe: Recipe
) -> State:
    """Return the state that a checkpoint holds, with model, optimiser and generators as they were then.

    `model` is as training begins with it. Raises CheckpointDamaged for whatever training can't have left: PyTorch would
    take most of it, to crash or to end in other numbers. Nothing is changed then.
    """
    try:
        state = State(**values["state"])
        reason = _wrong(values, state, model, optimizer, task, recipe)
    # values of any type, in any place
    except Exception as error:
        raise CheckpointDamaged(one_line(error)[:200] or type(error).__name__) from None
    if reason:
        raise CheckpointDamaged(reason[:200])
    model.load_state_dict(values["model"])
    # the groups are the recipe's, and not the file's: a rate perhaps lies on the device, where a recorded step reads it
    optimizer.load_state_dict({**optimizer.state_dict(), "state": values["optimizer"]["state"]})
    torch.set_rng_state(values["rng"])
    for device, rng in enumerate(values["cuda_rng"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(rng, device)
    return state


def _wrong(
    values: Mapping[str, Any],
    state: State,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    task: Task,
    recipe: Recipe,
) -> str:
    """Return what training can't have left, '' if there is nothing."""
    weights = model.state_dict()
    if reason := misfit(values["model"], weights):
        return f"model: {reason}"
    if reason := misfit(state.best_weights, weights if state.history else {}):
        return f"best weights: {reason}"
    if reason := _wrong_history(state, task, recipe):
        return reason
    if reason := _wrong_moments(values, state, model, optimizer):
        return f"optimizer: {reason}"
    if reason := unlike(values["rng"], torch.get_rng_state()):
        return f"rng {reason}"
    # on generators of their own: torch itself knows which states it takes
    torch.Generator().set_state(values["rng"])
    for rng in values["cuda_rng"][: torch.cuda.device_count()]:
        torch.Generator("cuda").set_state(rng)
    return ""


def _wrong_history(state: State, task: Task, recipe: Recipe) -> str:
    """Return where counts, losses and scores of a state contradict each other, or the recipe; '' if nowhere."""
    counts = (state.step, state.best_step, state.stale, state.halvings, state.loss_count)
    if not all(type(count) is int and count >= 0 for count in counts) or state.step > recipe.max_steps:
        return f"counts of {counts}, of {recipe.max_steps} steps"
    steps = sorted(step for step in recipe.evaluation_steps() if step <= state.step)
    if [line["step"] for line in state.history] != steps:
        return f"the history is not of {len(steps)} evaluations by step {state.step}"
    # what was selected follows from the scores
    again = State()
    for line in state.history:
        if reason := _wrong_line(line, again.halvings, task.primary, recipe):
            return reason
        again.step = int(line["step"])
        again.note_score(line["val_score"], task, recipe)
    for name in ("best_score", "best_step", "stale", "halvings"):
        if getattr(state, name) != getattr(again, name):
            return f"{name} is {getattr(state, name)}, by the history {getattr(again, name)}"
    seconds = (state.seconds, state.compile_seconds)
    are_numbers = isinstance(state.is_compiled, bool) and _is_number(state.loss_sum)
    are_numbers = are_numbers and all(_is_number(s) and 0 <= s <= _LONGEST for s in seconds)
    if not (are_numbers and state.loss_count <= state.step - again.step):
        return f"{state.loss_count} losses of {state.loss_sum} in all, in {state.seconds} s"
    return ""


def _wrong_line(line: Mapping[str, Any], halvings: int, metric: Metric, recipe: Recipe) -> str:
    """Return what is wrong with a line of the history, by the halvings of the rate before it; '' if nothing is."""
    if line.keys() != {"step", *_NUMBERS} or not all(_is_number(line[name]) for name in _NUMBERS):
        return f"a line of the history is {line}"
    if not metric.lowest <= line["val_score"] <= metric.highest:
        return f"a val score of {line['val_score']}"
    rate = learning_rate(recipe, line["step"] - 1, halvings)
    # another machine's cosine may differ in its last digit, which is much of a rate near zero
    if not math.isclose(line["learning_rate"], rate, rel_tol=1e-6, abs_tol=1e-9 * recipe.learning_rate):
        return f"a learning rate of {line['learning_rate']}, not {rate}, at step {line['step']}"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong_moments(values: Mapping[str, Any], state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Return which of an optimiser's tensors does not fit its parameter, '' if all do."""
    found, names = values["optimizer"]["state"], {id(p): name for name, p in model.named_parameters()}
    learned = [p for group in optimizer.param_groups for p in group["params"]]
    if more := found.keys() - set(range(len(learned))):
        return f"moments of no parameter: {min(map(repr, more))}"
    for number, p in enumerate(learned):
        name = names[id(p)]
        if number in found:
            if reason := _wrong_moment(found[number], p, state.step):
                return f"{name}: {reason}"
        # one that the loss does not reach has none, and has never moved
        elif not torch.equal(values["model"][name], p.cpu()):
            return f"{name}: no moments"
    return ""


def _wrong_moment(moments: Mapping[str, Any], p: Tensor, steps: int) -> str:
    """Return what is wrong with the moments of one parameter after so many steps; '' if nothing is."""
    if moments.keys() != {"step", *_MOMENTS}:
        return f"moments are {', '.join(map(str, moments))}"
    for name, like in {"step": torch.zeros(()), **dict.fromkeys(_MOMENTS, p)}.items():
        if reason := unlike(moments[name], like):
            return f"{name} {reason}"
    taken = float(moments["step"])
    if not (taken.is_integer() and 1 <= taken <= steps):
        return f"{taken:g} of {steps} steps"
    return "exp_avg_sq has squares below 0" if bool((moments["exp_avg_sq"] < 0).any()) else ""
