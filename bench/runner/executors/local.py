"""Work in this process, one piece after the other."""

from typing import TypeVar

import torch

from bench.runner.display import Display
from bench.runner.executors.base import Executor, Work

__all__ = ["LocalExecutor"]

R = TypeVar("R")


class LocalExecutor(Executor):
    """Does work in this process."""

    slots = 1

    def __init__(self, device: torch.device) -> None:
        self.device, self.where = device, str(device)

    def do(self, work: Work[R], display: Display) -> R:
        return work(self.device, display)
