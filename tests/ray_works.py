"""Pieces of work for tests of the Ray executor: where nodes find them."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Eats", "Raises", "Sleeps", "Steps"]


@dataclass(frozen=True)
class Steps:
    """Tells of so many steps, a tenth of a second each, and leaves in a file how many it did.

    Returns the process, its threads, and whether numbers below 1e-38 are zeros to it, as they are in training.
    """

    count: int
    file: Path

    def __call__(self, device, display):  # noqa: ARG002
        for step in range(1, self.count + 1):
            display.notice(f"step {step}")
            self.file.write_text(f"{os.getpid()} {step}")
            time.sleep(0.1)
        return os.getpid(), torch.get_num_threads(), not (torch.full((1,), 1e-39) * 1.0).item()


@dataclass(frozen=True)
class Sleeps:
    """Says that it has begun, and nothing any more."""

    def __call__(self, device, display):  # noqa: ARG002
        display.notice("asleep")
        time.sleep(60)


@dataclass(frozen=True)
class Raises:
    def __call__(self, device, display):
        display.notice(f"on {device}")
        raise ZeroDivisionError("by nothing")


@dataclass(frozen=True)
class Eats:
    """Takes memory in steps, until somebody minds."""

    def __call__(self, device, display):  # noqa: ARG002
        eaten = []
        for _ in range(100):
            eaten.append(bytearray(os.urandom(1 << 20)) * 100)
            time.sleep(0.05)
