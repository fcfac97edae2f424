"""What is learned and how it is judged. A new task is one file in tasks/, or a plugin, that registers one object."""

import copy
import importlib
import math
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bench.errors import UserError
from bench.schema import Strict, validated

# a report asks a task for its metrics on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from bench.data.pack import Pack
    from bench.protocol.batches import Batches
    from bench.protocol.recipe import Recipe
    from bench.protocol.spec import RunSpec

__all__ = [
    "Metric", "Statistic", "Task", "TrainedRun", "get_task", "list_tasks", "register_task", "task_of", "tasks_of",
]  # fmt: skip

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


@dataclass(frozen=True)
class TrainedRun:
    """A finished run whose model makes another task's data."""

    folder: Path
    spec: "RunSpec"
    # a digest of them
    weights: str


class Task(ABC):
    """What a batch is, what is minimised, what a clip's score is, and which metrics judge a system.

    As written here, models return logits (b, k) for waveforms (b, n), k being the number of the pack's classes; a task
    with other inputs overrides what is under "batches". A system's metrics are means over clips of `clip_metrics`; a
    task whose metrics are not (mAP ranks clips) overrides `evaluate` and `statistic`. A report calls what is under
    "metrics" on machines without torch.
    """

    # in suites and in run.json
    name: ClassVar[str]
    # those that statistics compare; the first is the primary one, which selects checkpoints and recipes, and ranks
    metrics: ClassVar[tuple[Metric, ...]]
    # the names that `Recipe.loss` may have; the first is taken where none is named
    losses: ClassVar[tuple[str, ...]]
    # the one with a value for each class, if there is one
    class_metric: ClassVar[Metric | None] = None
    # whether the mean of several models' scores of a clip is a score of it
    has_ensembles: ClassVar[bool] = True
    # whether a run keeps its last weights, whatever val says, instead of those that are best on val
    keeps_last: ClassVar[bool] = False
    # what a suite may set in [task_settings]; and of these fields those that change what is asked: runs can be compared
    # if they have them in common
    settings_type: ClassVar[type[Strict]] = Strict
    judged_by: ClassVar[tuple[str, ...]] = ()
    # the setting that names a finished run whose model makes this task's data, and that run's task; most have none
    built_on: ClassVar[tuple[str, str] | None] = None
    # fields of a recipe that mean nothing to it, so that a suite may not set them
    without: ClassVar[tuple[str, ...]] = ()
    # what a model is given at once, and what such an input is counted in, in the plural
    inputs: ClassVar[str] = "chunks"
    unit: ClassVar[str] = "samples"
    # inputs of which the latency is timed: if a clip has more, its own is taken to be in proportion
    most_timed: ClassVar[int] = 64
    # modules beside protocol/ and its own file that decide its numbers
    modules: ClassVar[tuple[str, ...]] = ()

    # of a run: `of_run` fills them in
    settings: Strict = Strict()
    _run: "RunSpec | None" = None

    @property
    def primary(self) -> Metric:
        return self.metrics[0]

    def of_run(self, spec: "RunSpec") -> Self:
        """Return the task as a run has it: with the run's settings. Raises UserError if they are impossible."""
        task = self.with_settings(spec.task_settings, f"{spec.name}, task_settings")
        task._run = spec
        return task

    def with_settings(self, values: Mapping[str, Any], where: str) -> Self:
        """Return the task with settings, before there is a run. Raises UserError if they are impossible."""
        task = copy.copy(self)
        task.settings = validated(self.settings_type, values, where)
        return task

    def checked_settings(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return settings as a run records them: without those that were added later and are as before.

        Raises UserError for unknown fields and impossible values.
        """
        return validated(self.settings_type, values, where).identity()

    def judged_on(self) -> dict[str, Any]:
        """Return what a run's task asks, by field: runs can be compared if they have it in common."""
        return {name: getattr(self.settings, name) for name in self.judged_by}

    def settled(
        self, values: Mapping[str, Any], pack: "Pack", trained: TrainedRun | None, where: str
    ) -> dict[str, Any]:
        """Return settings with all that follows from the pack, and from the run that `built_on` names, if it is found.

        Raises UserError for values that contradict these.
        """
        return dict(values)

    def prepare(  # noqa: B027
        self,
        pack: "Pack",
        trained: TrainedRun | None,
        load: Callable[[TrainedRun], "nn.Module"],
        progress: Callable[[int, int], None] = lambda *_: None,
        *,
        device: "torch.device | str" = "cpu",
    ) -> None:
        """Make what the task's data are made of, where it is not there: once, before the first run.

        It is called for one of the runs of the same settings and pack, so it depends on nothing else of a run.

        Args:
            trained: the run that `built_on` names, if the task is built on one.
            load: returns its model, on the device to compute on.
            progress: takes clips or steps done, and of how many.
            device: where to compute.
        """

    def codes_digest(self, pack: "Pack") -> str:
        """Return a digest of what gives sounds the codes that are predicted, where `prepare` has made it; else ''.

        It stands in a run's record: bits of codes that were made elsewhere are not compared.
        """
        return ""

    def require(self, spec: "RunSpec", pack: "Pack") -> None:  # noqa: B027
        """Raise UserError unless a run's settings, architecture and data go together. For a run as it is planned."""

    # --- batches

    def config(self, pack: "Pack") -> dict[str, Any]:
        """Return the fields of an architecture's config that follow from the pack, so that no suite may set them."""
        return {"sample_rate": pack.sample_rate, "num_classes": len(pack.labels)}

    def size(self, recipe: "Recipe", sample_rate: int) -> int:
        """Return the samples of an input."""
        from bench.protocol.batches import chunk_size

        return chunk_size(recipe, sample_rate)

    def passes(self, recipe: "Recipe", seconds: float, sample_rate: int) -> float:
        """Return how many inputs a clip of that length is to be cut into, to be scored as a whole."""
        return recipe.eval_chunks(seconds)

    def cost(self) -> dict[str, int]:
        """Return what else of a run's model its record should hold, beside what it costs."""
        return {}

    def example(self, rows: int, size: int, classes: int) -> tuple["Tensor", "Tensor"]:
        """Return inputs to try a model on, with targets: silence, which any data set has, then noise."""
        import torch

        x = 0.1 * torch.randn(rows, size, generator=torch.Generator().manual_seed(0))
        x[0] = 0
        return x, torch.zeros(rows, classes)

    def output_shape(self, rows: int, size: int, classes: int) -> tuple[int, ...]:
        """Return the shape that a model's outputs should have."""
        return rows, classes

    def logits_of(self, outputs: Any) -> Any:
        """Return which of a model's outputs has that shape: mostly there is one."""
        return outputs

    # Any: what models of the task return is its own affair
    @abstractmethod
    def loss(self, recipe: "Recipe", logits: Any, targets: "Tensor") -> "Tensor":
        """Return what is minimised: what a model returns, in fp32, such as logits (b, k), and targets (b, k) -> ()."""

    @abstractmethod
    def activation(self, logits: "Tensor") -> "Tensor":
        """Return scores: logits (b, k) -> (b, k)."""

    def data(
        self, pack: "Pack", split: str, recipe: "Recipe", device: "torch.device | str" = "cpu", clips: int | None = None
    ) -> "Batches":
        """Return a split as batches: train to train on, the others to be scored; the first `clips` clips if given."""
        from bench.protocol.batches import Batches

        targets, chosen = self.targets(pack.targets(split))[:clips], None
        if split == "train" and recipe.label_share < 1:
            from bench.protocol.subsets import labelled_clips

            # another draw for each seed, so that what seeds differ by includes it
            chosen = labelled_clips(targets, recipe.label_share, self._run.seed if self._run else 0)
            targets = targets[chosen]
        return Batches(pack, split, targets, recipe, device, chosen=chosen)

    def score(self, model: "nn.Module", data: "Batches") -> npt.NDArray[np.float32]:
        """Return every clip's scores: (clips, k)."""
        from bench.protocol.evaluate import score_clips

        return score_clips(model, data, self.activation)

    def finish(self, model: "nn.Module", data: "Batches", recipe: "Recipe", seed: int) -> bool:
        """Fit on train what training leaves open; return whether that changed the model, which then is scored anew.

        It is called once, on the weights that are kept.
        """
        return False

    # --- clips, and what nothing learned makes of them

    def targets(self, labels: Bools) -> Bools:
        """Return what clips are trained and judged on, of the labels that the data set gives them: (clips, k)."""
        return labels

    def clips(self, pack: "Pack", split: str) -> npt.NDArray[np.int64]:
        """Return the clips of a split that it takes: their numbers, ascending. If not all, `data` has to know, too."""
        return np.arange(len(pack.clips(split)))

    def split_targets(self, pack: "Pack", split: str) -> Bools:
        """Return the targets of the clips that it takes of a split: (clips, k)."""
        return self.targets(pack.targets(split)[self.clips(pack, split)])

    def floor_scores(self, pack: "Pack") -> dict[str, npt.NDArray[np.float32]]:
        """Return scores of eval's clips that need no training, by name, each as a run's: (clips, k)."""
        return {}

    # --- metrics

    def score_shape(self, targets: Bools) -> tuple[int, ...]:
        """Return the shape of a run's scores."""
        return targets.shape

    def floor_shape(self, targets: Bools) -> tuple[int, ...]:
        """Return the shape of a floor's scores: a run's, unless what these hold beside the metrics differs by run."""
        return self.score_shape(targets)

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
        return {name: _mean(values) for name, values in self.clip_metrics(targets, scores).items()}

    def selection_score(self, targets: Bools, scores: Floats) -> float:
        """Return the primary metric alone, which is asked for after every evaluation."""
        return float(self.evaluate(targets, scores, np.ones(targets.shape[1], bool))[self.primary.name])

    def class_scores(self, targets: Bools, scores: Floats) -> Floats:
        """Return `class_metric` of each class, NaN where it does not exist: (k,)."""
        raise NotImplementedError(f"{type(self).__name__} has a class_metric, but no class_scores")

    def floors(self, targets: Bools) -> dict[str, float]:
        """Return what the primary metric is without any learning, by name: 'chance', 'prior', ...

        Those that `floor_scores` has are added to them.
        """
        return {}

    def all_floors(self, targets: Bools, scores: Mapping[str, Floats]) -> dict[str, float]:
        """Return all floors, those of `floor_scores` behind: of these, all that have the primary metric."""
        values = {floor: self.clip_metrics(targets, of_it)[self.primary.name] for floor, of_it in scores.items()}
        found = self.floors(targets) | {floor: _mean(of_clips) for floor, of_clips in values.items()}
        return {floor: value for floor, value in found.items() if math.isfinite(value)}

    def statistic(self, targets: Bools, scores: Floats, leaf: Bools) -> Statistic:
        """Return what computes the metrics of one run on resampled clips."""
        values = self.clip_metrics(targets, scores)
        # a sum of many clips' has more digits than scores have; (metrics, clips)
        table = np.stack([*values.values()]).astype(np.float64)

        def of(weights: npt.NDArray[np.uint8]) -> dict[str, Floats]:
            return dict(zip(values, table @ weights / weights.sum(axis=0), strict=True))

        return of

    def definition(self, metrics: Mapping[str, float | int | None], clips: int) -> str:
        """Return what the primary metric is, in a sentence for readers of a table."""
        return f"{self.primary.label} is a mean over eval's {clips} clips."


def _mean(values: Floats) -> float:
    return float(values.mean(dtype=np.float64))


_tasks: dict[str, Task] = {}


def register_task(task: Task) -> None:
    """Make a task known by its name. Raises ValueError if another module has registered one of that name."""
    known = _tasks.get(task.name)
    if known and type(known).__module__ != type(task).__module__:
        raise ValueError(f"task {task.name!r} is registered twice: {type(known).__module__}, {type(task).__module__}")
    _tasks[task.name] = task


def task_of(spec: "RunSpec") -> Task:
    """Return the task of a run, with the run's settings. Raises UserError if there is none of that name."""
    return get_task(spec.task).of_run(spec)


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
