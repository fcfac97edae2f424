"""What an accelerator should not have to wait for: the host launching kernels one by one, and reading every loss."""

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

Update = Callable[[Tensor, Tensor], Tensor]  # chunks (s, b, n) and labels (s, b, k) -> losses (s,)


class Graphs(Protocol):
    """What records work on a device; CUDA's, or a stand-in for tests."""

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor: ...

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], Any], Tensor]: ...


class CudaGraphs:
    """As PyTorch's notes on CUDA graphs ask for it: https://docs.pytorch.org/docs/stable/notes/cuda.html."""

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        """Do the work on a stream of its own, where libraries set up what may not be set up while recording."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            result = work()
        torch.cuda.current_stream().wait_stream(side)
        return result

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], Any], Tensor]:
        """How to do the work again, and where its result will lie; the work itself is not done."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()
        return graph.replay, result


class Replayed:
    """An update whose some hundred kernels are recorded once and then started by one call.

    The first updates are done one by one, as warm-up; they count. What can't be recorded (a contestant that reads a
    number from the device, say) is done one by one for good.
    """

    EAGER = 3

    def __init__(self, update: Update, graphs: Graphs) -> None:
        self.update, self.graphs = update, graphs
        self.left = self.EAGER
        self.replay: Callable[[], Any] | None = None
        self.refused = False

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if self.refused:
            return self.update(x, y)
        if self.left:
            self.left -= 1
            return self.graphs.warm_up(lambda: self.update(x, y))
        if self.replay is None and not self._record(x, y):
            return self.update(x, y)
        assert self.replay is not None
        self.x.copy_(x)
        self.y.copy_(y)
        self.replay()
        return self.result.clone()

    def _record(self, x: Tensor, y: Tensor) -> bool:
        self.x, self.y = x.clone(), y.clone()  # the kernels know these places
        try:
            self.replay, self.result = self.graphs.record(lambda: self.update(self.x, self.y))
        except RuntimeError as error:
            self.refused = True
            warnings.warn(f"updates are not recorded, and slower for it: {str(error).splitlines()[0]}", stacklevel=2)
        return not self.refused


class Losses:
    """Losses of updates, (s,) each, read without waiting for the device: those asked for at one time come at the next.

    On a CPU they are there at once.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.new: list[Tensor] = []
        self.travelling: tuple[Tensor, torch.cuda.Event] | None = None

    def add(self, losses: Tensor) -> None:
        self.new.append(losses)

    def read(self, *, wait: bool) -> list[list[float]]:
        """Losses not read before, update by update; with `wait` all of them."""
        if self.device.type != "cuda":
            values = torch.stack(self.new).tolist() if self.new else []
            self.new = []
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

    def _arrived(self) -> list[list[float]]:
        if self.travelling is None:
            return []
        here, event = self.travelling
        event.synchronize()  # asked for many updates ago, so in fact long past
        self.travelling = None
        values: list[list[float]] = here.tolist()
        return values
