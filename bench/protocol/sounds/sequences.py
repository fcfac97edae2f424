"""What comes next in a sequence of codes: windows of clips, and how predictions are judged."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.protocol.sounds.levels import ChosenClips
from bench.protocol.sounds.windows import ClipWindows, WindowTask
from bench.protocol.task import Bools, Floats, Metric

# a report asks for metrics on machines that have no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from architectures import NextSampleConfig
    from bench.protocol.batches import Batches
    from bench.protocol.recipe import Recipe

__all__ = ["NextCodeTask", "NextInSequence", "PlaceSettings", "Places", "WindowSettings", "clip_means", "of_windows"]

# name, label, whether higher is better, the highest
_METRICS = (("bits", "bits", False, math.inf), ("top5", "top-5", True, 1.0), ("top1", "top-1", True, 1.0))
_TOP = 5
# fixed for each kind of device, as evaluation's batch sizes are; of outputs, there are hundreds a code
_CPU_BATCH_SIZE, _ACCELERATOR_BATCH_SIZE = 16, 64


class PlaceSettings(ChosenClips):
    """At how many places of a clip what comes next is judged."""

    # of each clip of val and eval: evenly spaced
    windows: Annotated[int, Field(gt=0, le=1000)] = 8


class WindowSettings(PlaceSettings):
    """How long windows of codes are, too."""

    # codes that a model sees before the one that it predicts, of those whose outputs are trained
    context: Annotated[int, Field(ge=2, le=960_000)]


class NextCodeTask(WindowTask):
    """Classification of the code that comes next, judged by the bits that it takes at fixed places of clips."""

    metrics = tuple(Metric(name, label, higher, 0.0, highest) for name, label, higher, highest in _METRICS)
    # of a clip's scores
    columns: tuple[str, ...] = ("bits", "top1", "top5")
    losses = ("cross_entropy",)
    most_timed = 16
    # what models are given as a condition, before a window
    before: int = 0

    settings: PlaceSettings

    @property
    def context(self) -> int:
        """How long a window is."""
        raise NotImplementedError(f"{type(self).__name__} does not say its context")

    def activation(self, logits: "Tensor") -> "Tensor":
        return logits.softmax(dim=-1)

    def score(self, model: "nn.Module", data: "Batches") -> npt.NDArray[np.float32]:
        """Return of every clip the means over its windows: (clips, columns)."""
        import torch

        was_training = model.training
        model.eval()
        with torch.inference_mode():
            means = clip_means(cast("Places", data), lambda x, y: self.judged(model(x).float(), y), len(self.columns))
        model.train(was_training)
        return means

    def judged(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        """Return what `columns` say of each window: (b, n, k), (b, n) -> (b, columns)."""
        return of_windows(logits[:, -1:], targets[:, -1:])[:, : len(self.columns)]

    # --- metrics

    def score_shape(self, targets: Bools) -> tuple[int, ...]:
        return len(targets), len(self.columns)

    def clip_metrics(self, targets: Bools, scores: Floats) -> dict[str, Floats]:  # noqa: ARG002
        return {metric.name: scores[:, self.columns.index(metric.name)] for metric in self.metrics}


class NextInSequence(NextCodeTask):
    """The same, where what windows are of are codes as well, so that each of a window's is one to predict.

    Models take (b, before + n) codes and return logits (b, n, k) of what follows each of the last n.
    """

    metrics = (
        *NextCodeTask.metrics,
        *(
            Metric(f"mean_{name}", f"{label}, all positions", higher, 0.0, highest)
            for name, label, higher, highest in _METRICS
        ),
    )
    # of a window at the code that it ends before, then the mean over all of its codes
    columns = (*NextCodeTask.columns, "mean_bits", "mean_top1", "mean_top5")

    settings: WindowSettings

    @property
    def context(self) -> int:
        return self.settings.context

    @cached_property
    def before(self) -> int:  # type: ignore[override]
        """How many codes the run's architecture is given before a window, as a condition."""
        return self.architecture.condition_samples if self._run else 0

    @property
    def architecture(self) -> "NextSampleConfig":
        from architectures import configure

        assert self._run is not None
        return cast("NextSampleConfig", configure(self._run.architecture, **self._run.config))

    # --- batches

    def size(self, recipe: "Recipe", sample_rate: int) -> int:  # noqa: ARG002
        return self.before + self.settings.context

    def cost(self) -> dict[str, int]:
        """Return how many codes an output sees at most, in windows of this context."""
        return {"receptive_field": min(self.architecture.receptive_field, self.before + self.settings.context)}

    def example(self, rows: int, size: int, classes: int) -> tuple["Tensor", "Tensor"]:
        import torch

        x = torch.randint(classes, (rows, size), generator=torch.Generator().manual_seed(0))
        x[0] = classes // 2
        return x, torch.zeros(rows, size - self.before, dtype=torch.int64)

    def output_shape(self, rows: int, size: int, classes: int) -> tuple[int, ...]:
        return rows, size - self.before, classes

    def loss(self, recipe: "Recipe", logits: "Tensor", targets: "Tensor") -> "Tensor":  # noqa: ARG002
        """Return the cross-entropy at all positions, in nats: (b, n, k) and codes (b, n) -> ()."""
        from torch.nn import functional as F

        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def judged(self, logits: "Tensor", targets: "Tensor") -> "Tensor":
        return of_windows(logits, targets)


def clip_means(windows: "Places", judge: "Callable[[Tensor, Tensor], Tensor]", columns: int) -> npt.NDArray[np.float32]:
    """Return of every clip the means over its windows of what is found of each: (clips, columns).

    `judge` takes a batch's inputs and targets, and returns (b, columns).
    """
    import torch

    batch_size = _CPU_BATCH_SIZE if windows.device.type == "cpu" else _ACCELERATOR_BATCH_SIZE
    sums = torch.zeros(len(windows.targets), columns, dtype=torch.float64)
    counts = torch.zeros(len(windows.targets), 1, dtype=torch.float64)
    for ids in windows.in_order(batch_size):
        of_clip = windows.clip(ids)
        sums.index_add_(0, of_clip, judge(*windows.batch(ids)).double().cpu())
        counts.index_add_(0, of_clip, torch.ones(len(ids), 1, dtype=torch.float64))
    return (sums / counts).float().numpy()


def of_windows(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Return bits, top-1 and top-5 of each window, at its last position and as means over all: (b, 6).

    Logits are (b, n, k), targets (b, n). Of codes that are as likely, the lower one comes first.
    """
    import torch

    of_target = logits.gather(2, targets.unsqueeze(2))  # (b, n, 1)
    bits = (logits.logsumexp(dim=2) - of_target.squeeze(2)) / math.log(2)
    lower = torch.arange(logits.shape[2], device=logits.device) < targets.unsqueeze(2)
    rank = ((logits > of_target) | (logits == of_target) & lower).sum(dim=2)
    each = torch.stack([bits, (rank == 0).float(), (rank < _TOP).float()], dim=2)  # (b, n, 3)
    return torch.cat([each[:, -1], each.mean(dim=1)], dim=1)


class Places(ClipWindows):
    """Where the windows of a split's clips end, whatever they are cut from.

    Train's end before any code that may be predicted, so that there are as many windows as such codes; other splits'
    at places that are the same whatever is trained. `first` and `room`, (clips,), are each clip's first code that may
    be predicted, and how many such codes there are.
    """

    def __init__(
        self,
        task: NextCodeTask,
        split: str,
        first: npt.NDArray[np.int64],
        room: npt.NDArray[np.int64],
        targets: Bools,
        device: "torch.device | str",
    ) -> None:
        import torch

        self.task, self.is_train = task, split == "train"
        self.size = task.before + task.context
        self.first, self.room = torch.from_numpy(first), torch.from_numpy(room)
        super().__init__(self.room if self.is_train else torch.full_like(self.room, task.settings.windows), device)
        self.targets = torch.from_numpy(task.targets(targets)).float()

    @property
    def epoch_size(self) -> int:
        """How many windows have as many codes as there are to predict."""
        return max(1, self.length // self.task.context)

    def places(self, ids: "Tensor") -> "Tensor":
        """Return the codes that windows end before, by their place in the split's array: (b,)."""
        clip, number = self.clip(ids), self.number(ids)
        if not self.is_train:
            # in the middle of as many equal parts
            number = (2 * number + 1) * self.room[clip] // (2 * self.task.settings.windows)
        return self.first[clip] + number

    def batch(self, ids: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return windows and what follows each of their codes: (b,) -> (b, before + n), (b, n)."""
        raise NotImplementedError(f"{type(self).__name__} has no batch")
