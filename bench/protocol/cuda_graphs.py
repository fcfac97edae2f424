"""What an accelerator should not have to wait for: the host launching kernels one by one, and reading every loss."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["CudaGraphs", "Losses", "RecordedStep", "Step", "Timer"]

# chunks (b, n) and targets (b, k) -> the loss ()
Step = Callable[[Tensor, Tensor], Tensor]


class CudaGraphs:
    """What records work, as PyTorch's notes ask for it: https://docs.pytorch.org/docs/stable/notes/cuda.html."""

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work on another stream, where libraries set up what may not be set up while recording."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(side):
                return work()
        # also where it fails, for what is done instead
        finally:
            torch.cuda.current_stream().wait_stream(side)

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], Any], Tensor]:
        """Return how to do the work again, and where its result will lie; the work itself is not done."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()
        return graph.replay, result


class RecordedStep:
    """A training step whose some hundred kernels are recorded once and then started by one call."""

    # The first steps are taken one by one, as warm-up; they count. What can't be recorded (an architecture that reads a
    # number from the device, say) is done one by one for good.

    EAGER = 3

    def __init__(self, step: Step, graphs: CudaGraphs, notice: Callable[[str], None]) -> None:
        self.step, self.graphs, self.notice = step, graphs, notice
        self.left = self.EAGER
        self.replay: Callable[[], Any] | None = None
        self.refused = False

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if self.left:
            self.left -= 1
            return self.graphs.warm_up(lambda: self.step(x, y))
        if self.replay is None and not self.refused:
            self._record(x, y)
        if self.replay is None:
            return self.step(x, y)
        self.x.copy_(x)
        self.y.copy_(y)
        self.replay()
        return self.result.clone()

    def _record(self, x: Tensor, y: Tensor) -> None:
        # the kernels know these places, so that every batch is copied to them
        self.x, self.y = x.clone(), y.clone()
        try:
            self.replay, self.result = self.graphs.record(lambda: self.step(self.x, self.y))
        except RuntimeError as error:
            self.refused = True
            self.notice(f"steps are not recorded, and slower for it: {str(error).splitlines()[0]}")


class Losses:
    """Losses of steps, read without waiting for the device: those asked for once come the next time (CPU: at once)."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.new: list[Tensor] = []
        self.travelling: tuple[Tensor, torch.cuda.Event] | None = None

    def add(self, loss: Tensor) -> None:
        """Take in the loss () of one step."""
        self.new.append(loss)

    def read(self, *, wait: bool) -> list[float]:
        """Return losses not read before, step by step; with `wait` all of them."""
        if self.device.type != "cuda":
            values, self.new = [float(loss) for loss in self.new], []
            return values
        arrived = self._arrived()
        if self.new:
            there = torch.stack(self.new)
            here = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
            here.copy_(there, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self.new, self.travelling = [], (here, event)
        return arrived + self._arrived() if wait else arrived

    def _arrived(self) -> list[float]:
        if self.travelling is None:
            return []
        here, event = self.travelling
        # asked for many steps ago, so in fact long past
        event.synchronize()
        self.travelling = None
        return here.tolist()


class Timer:
    """Times of work on a GPU, by its own clock: what the host does meanwhile is not in them."""

    def __init__(self) -> None:
        self.pairs: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def time(self, work: Callable[[], Tensor]) -> Tensor:
        """Do some work and return its result, which the GPU may not have yet."""
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        result = work()
        ended.record()
        self.pairs.append((began, ended))
        return result

    def median(self) -> float:
        """Return the median of the times since it was last asked for, in seconds; wait for the GPU."""
        torch.cuda.synchronize()
        seconds = [began.elapsed_time(ended) / 1e3 for began, ended in self.pairs]
        self.pairs = []
        return statistics.median(seconds)
