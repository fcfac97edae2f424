"""Where work is done: in this process, in processes of this machine, on a cluster. Nothing above knows which."""

from bench.runner.executors.base import Executor, Work, WorkerDied
from bench.runner.executors.local import LocalExecutor

__all__ = ["Executor", "LocalExecutor", "Work", "WorkerDied"]
