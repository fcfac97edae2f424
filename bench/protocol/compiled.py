"""Forward and loss by torch.compile, which fuses small kernels: faster steps, after a minute of compilation."""

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import one_line
from bench.protocol.cuda_graphs import RecordedStep, Step, Timer

__all__ = ["CompiledStep", "Loss", "MeasuredStep"]

# chunks (b, n) and targets (b, k) -> the loss (), with its gradient
Loss = Callable[[Tensor, Tensor], Tensor]

# seconds: with less than this left to train, nothing is compiled to find out whether it pays
_WORTH = 60.0


def compiled(loss: Loss) -> Loss:
    """Return a loss that compiles itself when it is called first, for the shapes that it is called with.

    Dropout draws what it draws without, so that numbers are equal but for rounding.
    """
    # what was compiled for models of before is of no use any more, and PyTorch keeps only so many
    torch.compiler.reset()
    # that a build for GPUs finds none
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    return torch.compile(loss, dynamic=False, options={"fallback_random": True})


class CompiledStep:
    """A training step whose loss is compiled; what can't be compiled is done as it stands, and `notice` is told why.

    Args:
        model: what the loss trains.
        step_of: makes a step of a loss.

    Attributes:
        is_compiled: whether compiled steps were taken.
        seconds: what compilation took, or the attempt.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, step_of: Callable[[Loss], Step], notice: Callable[[str], None]
    ) -> None:
        self.model, self.loss, self.step_of, self.notice = model, loss, step_of, notice
        self.is_compiled, self.seconds, self.has_begun = False, 0.0, False
        self.step = step_of(compiled(loss))

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return self.step(x, y) if self.has_begun else self._first(x, y)

    def _first(self, x: Tensor, y: Tensor) -> Tensor:
        """Take the first step, which compiles."""
        self.has_begun, started = True, time.perf_counter()
        # what a forward pass changes, should it fail half-way: running means, and what dropout draws from
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        random = torch.get_rng_state(), torch.cuda.get_rng_state(x.device) if x.is_cuda else None
        loss = self._tried(x, y)
        self.seconds = time.perf_counter() - started
        if loss is not None:
            self.is_compiled = True
            return loss
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
        torch.set_rng_state(random[0])
        if random[1] is not None:
            torch.cuda.set_rng_state(random[1], x.device)
        # what a recording of the other one holds
        del self.step
        self.step = self.step_of(self.loss)
        return self.step(x, y)

    def _tried(self, x: Tensor, y: Tensor) -> Tensor | None:
        """Return the loss of a compiled step, None if there is no such step."""
        try:
            with warnings.catch_warnings(action="ignore"):
                return self.step(x, y)
        # a compiler raises whatever it likes; what is the architecture's own error is raised again without it
        except Exception as error:
            # more than the first paragraph is advice to those who debug compilers
            why = one_line(Exception(str(error).partition("\n\n")[0]))[:200]
            self.notice(f"steps are not compiled, and slower for it: {why}")
            return None


@dataclass(frozen=True)
class _Found:
    """What compilation came to: the seconds that it took, and those that each step is faster by."""

    seconds: float
    gain: float


# by what is compiled, in this process: the seeds of an entry need not find out again
_found: dict[object, _Found] = {}


class MeasuredStep:
    """A training step on a GPU that is compiled if that pays: the first steps are timed as they stand, then compiled.

    All of them are steps of training. What was found holds for all models of the kind in this process.

    Args:
        plain, compiled: make the two steps that there are to choose from.
        steps: how many are left to train.
        kind: says which models are of one kind.
        timer: takes the time of work on the device.
    """

    # steps before those that are timed: as many as a recorded step takes one by one, and the one that records it
    WARM_UP = RecordedStep.EAGER + 1
    TIMED = 20

    def __init__(
        self,
        plain: Callable[[], Step],
        compiled: Callable[[], CompiledStep],
        steps: int,
        kind: object,
        timer: Timer,
    ) -> None:
        self.plain, self.make, self.steps, self.kind, self.timer = plain, compiled, steps, kind, timer
        self.compiled: CompiledStep | None = None
        # of a step as it stands, as soon as it is known
        self.plain_seconds: float | None = None
        # steps since the last look; seconds of a compilation that did not pay
        self.done, self.spent = 0, 0.0
        found = _found.get(kind)
        self.is_settled = found is not None
        if found and found.gain * steps > found.seconds:
            self.compiled = compiled()
        self.step: Step = self.compiled or plain()

    @property
    def is_compiled(self) -> bool:
        """Whether the steps that were chosen are compiled."""
        return self.is_settled and self.compiled is not None and self.compiled.is_compiled

    @property
    def seconds(self) -> float:
        """What compilation took, whether it was found to pay or not."""
        return self.compiled.seconds if self.compiled else self.spent

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.is_settled and self.done == self.WARM_UP + self.TIMED:
            self._look(self.timer.median())
        self.done += 1
        if self.is_settled or self.done <= self.WARM_UP:
            return self.step(x, y)
        return self.timer.time(lambda: self.step(x, y))

    def _look(self, seconds: float) -> None:
        """Go on to the compiled step, or choose, by the seconds that one of the last steps took."""
        if self.plain_seconds is None:
            self.plain_seconds = seconds
            left = self.steps - self.done
            self.done = 0
            if seconds * left > _WORTH:
                # a recording holds memory as long as it lives
                del self.step
                self.step = self.compiled = self.make()
            else:
                self.is_settled = True
            return
        assert self.compiled is not None
        gain = self.plain_seconds - seconds if self.compiled.is_compiled else 0.0
        _found[self.kind] = _Found(self.compiled.seconds, gain)
        self.is_settled = True
        # what compilation took is spent in any case
        if gain < 0:
            self.spent = self.compiled.seconds
            del self.step
            self.compiled = None
            self.step = self.plain()
