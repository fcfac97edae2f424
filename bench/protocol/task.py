"""What is learned and how it is judged. A new task is one file in tasks/, or a plugin, that registers one object."""

import importlib
import math
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from bench.errors import UserError

# a report asks a task for its metrics on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.data.pack import Pack
    from bench.protocol.batches import Batches
    from bench.protocol.recipe import Recipe

__all__ = ["Metric", "Statistic", "Task", "get_task", "list_tasks", "register_task", "tasks_of"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]
# how often each of n clips was taken in b replicates (n, b) -> by name, a metric (b,) or its values by class (b, k)
Statistic = Callable[[npt.NDArray[np.uint8]], Mapping[str, Floats]]


@dataclass(frozen=True)
class Metric:
    """A number that judges a system: its name in run.json, and how it is printed."""

    name: str
    label: str
    higher_is_better: bool = True
    # a value beyond these is none of the metric's
    lowest: float = -math.inf
    highest: float = math.inf

    def key(self, value: float) -> float:
        """Return what to sort by so that better values come first."""
        return -value if self.higher_is_better else value

    def better(self, value: float, than: float) -> bool:
        return self.key(value) < self.key(than)


class Task(ABC):
    """What a batch is, what is minimised, what a clip's score is, and which metrics judge a system.

    Models return logits (b, k) for waveforms (b, n), k being the number of the pack's classes. As written here, a
    system's metrics are means over clips of `clip_metrics`; a task whose metrics are not (mAP ranks clips) overrides
    `evaluate` and `statistic`. Everything but `loss`, `activation`, `data` and `score` is numpy alone.
    """

    # in suites and in run.json
    name: ClassVar[str]
    # those that statistics compare; the first is the primary one, which selects checkpoints and recipes, and ranks
    metrics: ClassVar[tuple[Metric, ...]]
    # the names that `Recipe.loss` may have; the first is taken where none is named
    losses: ClassVar[tuple[str, ...]]
    # the one with a value for each class, if there is one
    class_metric: ClassVar[Metric | None] = None

    @property
    def primary(self) -> Metric:
        return self.metrics[0]

    def targets(self, labels: Bools) -> Bools:
        """Return what clips are trained and judged on, of the labels that the data set gives them: (clips, k)."""
        return labels

    @abstractmethod
    def loss(self, recipe: "Recipe", logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Return what is minimised: fp32 logits (b, k) and targets (b, k) -> ()."""

    @abstractmethod
    def activation(self, logits: "Tensor") -> "Tensor":
        """Return scores: logits (b, k) -> (b, k)."""

    def data(
        self, pack: "Pack", split: str, recipe: "Recipe", device: "torch.device | str" = "cpu", clips: int | None = None
    ) -> "Batches":
        """Return a split as batches: train to train on, the others to be scored; the first `clips` clips if given."""
        from bench.protocol.batches import Batches

        return Batches(pack, split, self.targets(pack.targets(split))[:clips], recipe, device)

    def score(self, model: "nn.Module", data: "Batches") -> npt.NDArray[np.float32]:
        """Return every clip's scores: (clips, k)."""
        from bench.protocol.evaluate import score_clips

        return score_clips(model, data, self.activation)

    def clip_metrics(self, targets: Bools, scores: Floats) -> dict[str, Floats]:
        """Return each metric of each clip, by name: (clips,)."""
        raise NotImplementedError(f"{type(self).__name__} has neither clip_metrics, nor evaluate and statistic")

    def evaluate(self, targets: Bools, scores: Floats, leaf: Bools) -> dict[str, float | int]:
        """Return the metrics of a split by name, and what else run.json should hold of it.

        `targets` and `scores` are (clips, k), `leaf` (k,): which classes are leaves of the hierarchy. Raises ValueError
        if a score is not finite.
        """
        if not np.isfinite(scores).all():
            raise ValueError("scores that are not finite")
        return {name: float(values.mean()) for name, values in self.clip_metrics(targets, scores).items()}

    def selection_score(self, targets: Bools, scores: Floats) -> float:
        """Return the primary metric alone, which is asked for after every evaluation."""
        return float(self.evaluate(targets, scores, np.ones(targets.shape[1], bool))[self.primary.name])

    def class_scores(self, targets: Bools, scores: Floats) -> Floats:
        """Return `class_metric` of each class, NaN where it does not exist: (k,)."""
        raise NotImplementedError(f"{type(self).__name__} has a class_metric, but no class_scores")

    def floors(self, targets: Bools) -> dict[str, float]:
        """Return what the primary metric is without any learning, by name: 'chance', 'prior', ..."""
        return {}

    def statistic(self, targets: Bools, scores: Floats, leaf: Bools) -> Statistic:
        """Return what computes the metrics of one run on resampled clips."""
        values = self.clip_metrics(targets, scores)

        def of(weights: npt.NDArray[np.uint8]) -> dict[str, Floats]:
            return {name: of_clips @ weights / weights.sum(axis=0) for name, of_clips in values.items()}

        return of

    def definition(self, metrics: Mapping[str, float | int | None], clips: int) -> str:
        """Return what the primary metric is, in a sentence for readers of a table."""
        return f"{self.primary.label} is a mean over eval's {clips} clips."


_tasks: dict[str, Task] = {}


def register_task(task: Task) -> None:
    """Make a task known by its name. Raises ValueError if another module has registered one of that name."""
    known = _tasks.get(task.name)
    if known and type(known).__module__ != type(task).__module__:
        raise ValueError(f"task {task.name!r} is registered twice: {type(known).__module__}, {type(task).__module__}")
    _tasks[task.name] = task


def list_tasks() -> list[str]:
    from bench.protocol import tasks

    for module in pkgutil.iter_modules(tasks.__path__):
        importlib.import_module(f"{tasks.__name__}.{module.name}")
    return sorted(_tasks)


def tasks_of(file: Path) -> list[str]:
    """Return the names of the tasks that a file has registered."""
    modules = {name: sys.modules.get(type(task).__module__) for name, task in _tasks.items()}
    return [name for name, module in modules.items() if getattr(module, "__file__", None) == str(file.resolve())]


def get_task(name: str) -> Task:
    """Return a task by its name. Raises UserError if there is none."""
    if name not in _tasks and name not in list_tasks():
        raise UserError(f"no task {name!r} (known: {', '.join(_tasks)}); a task of a plugin needs --plugin FILE.py")
    return _tasks[name]
